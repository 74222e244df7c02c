//! Attempts on the kernel: namespaces, mounts, and the calls whose size is their danger.

use rustix::fs::CWD;
use rustix::mount::{MountFlags, OpenTreeFlags};

use super::errors::{NOENT, NOSYS, NOTHING, PERM, SIGSYS};
use super::{Attempt, Scene, Stop, Tried};
use crate::profile::Layer::{Capabilities, IpcNs, Landlock, Rlimits, Seccomp};
use crate::sys::probe as sys;

const COMPILES: &str = "interpreters compile while they run; code that already runs here gains nothing by it";

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("kernel.01", "make a user namespace", &[PERM], &[Seccomp], unshare_user),
    Attempt::new("kernel.02", "make a user namespace by clone", &[PERM], &[Seccomp], clone_user),
    Attempt::new("kernel.03", "use clone3, whose flags no filter sees", &[NOSYS], &[Seccomp], clone3),
    Attempt::new("kernel.04", "mount in a namespace of one's own", &[PERM], &[Seccomp, Landlock], mount),
    Attempt::new("kernel.05", "use the newer calls for mounts", &[PERM], &[Seccomp], open_tree),
    Attempt::new("kernel.06", "change the root folder in a namespace of one's own", &[PERM], &[Seccomp], chroot),
    Attempt::new(
        "kernel.07",
        "set up io_uring, whose operations no filter sees",
        &[NOSYS],
        &[Seccomp, Rlimits],
        io_uring,
    ),
    Attempt::new("kernel.08", "handle page faults (userfaultfd)", &[PERM], &[Seccomp], userfaultfd),
    Attempt::new("kernel.09", "look up the session's keyring", &[PERM], &[Seccomp], keyring),
    Attempt::new("kernel.10", "add a key", &[PERM], &[Seccomp], add_key),
    Attempt::new("kernel.11", "open a performance counter", &[PERM], &[Seccomp], perf),
    Attempt::new("kernel.12", "switch off address randomisation", &[PERM], &[Seccomp], personality),
    Attempt::new("kernel.13", "map memory that is writable and executable", &[PERM], &[Seccomp], writable_code)
        .accepted(&[("shell", COMPILES)]),
    Attempt::new("kernel.14", "make written memory executable", &[PERM], &[Seccomp], executable_data)
        .accepted(&[("shell", COMPILES)]),
    Attempt::new("kernel.15", "call by the 32-bit door (int 0x80)", &[SIGSYS], &[Seccomp], int80),
    Attempt::new("kernel.16", "call by the x32 table", &[SIGSYS], &[Seccomp], x32),
    Attempt::new("kernel.17", "reach a System V segment of the host", &[PERM, NOENT], &[Seccomp, IpcNs], segment),
    Attempt::new("kernel.18", "ask about and install filters (seccomp)", &[PERM], &[Seccomp], seccomp),
    Attempt::new("kernel.19", "read the processor's descriptor table (modify_ldt)", &[PERM], &[Seccomp], ldt),
    Attempt::new(
        "kernel.20",
        "keep a capability that a file could bring back",
        &[NOTHING],
        &[Capabilities],
        bounding_set,
    ),
];

fn unshare_user(_: &Scene) -> Tried {
    crate::sys::unshare(libc::CLONE_NEWUSER)?;
    Ok("made".into())
}

fn clone_user(_: &Scene) -> Tried {
    sys::clone_into(libc::CLONE_NEWUSER)?;
    Ok("made".into())
}

fn clone3(_: &Scene) -> Tried {
    sys::clone3()?;
    Ok("made".into())
}

fn mount(_: &Scene) -> Tried {
    crate::sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
    rustix::mount::mount("none", "/tmp", "tmpfs", MountFlags::empty(), None)?;
    Ok("mounted".into())
}

fn open_tree(scene: &Scene) -> Tried {
    rustix::mount::open_tree(CWD, scene.writable(), OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    Ok("opened".into())
}

fn chroot(scene: &Scene) -> Tried {
    crate::sys::unshare(libc::CLONE_NEWUSER)?;
    rustix::process::chroot(scene.writable())?;
    Ok("changed".into())
}

fn io_uring(_: &Scene) -> Tried {
    Ok(format!("ring {}", sys::io_uring()?))
}

fn userfaultfd(_: &Scene) -> Tried {
    Ok(format!("descriptor {}", sys::userfaultfd()?))
}

fn keyring(_: &Scene) -> Tried {
    match sys::keyring_id() {
        // There is none, but the question was answered.
        Err(rustix::io::Errno::NOKEY) => Ok("answered".into()),
        other => Ok(format!("keyring {}", other?)),
    }
}

fn add_key(_: &Scene) -> Tried {
    Ok(format!("key {}", sys::add_key()?))
}

fn perf(_: &Scene) -> Tried {
    Ok(format!("descriptor {}", sys::perf_event()?))
}

fn personality(_: &Scene) -> Tried {
    /// `ADDR_NO_RANDOMIZE`.
    const NO_RANDOMIZE: u64 = 0x004_0000;
    sys::personality(NO_RANDOMIZE)?;
    Ok("switched off".into())
}

fn writable_code(_: &Scene) -> Tried {
    sys::map_writable_code()?;
    Ok("mapped".into())
}

fn executable_data(_: &Scene) -> Tried {
    sys::make_data_executable()?;
    Ok("made executable".into())
}

#[cfg(target_arch = "x86_64")]
fn int80(_: &Scene) -> Tried {
    Ok(format!("process {}", sys::int80_getpid()))
}

#[cfg(not(target_arch = "x86_64"))]
fn int80(_: &Scene) -> Tried {
    Err(Stop::Cannot("this architecture has no such door".into()))
}

fn x32(_: &Scene) -> Tried {
    match sys::x32_getpid() {
        // The kernel was not built with that table, but was asked.
        Err(rustix::io::Errno::NOSYS) => Ok("asked".into()),
        other => Ok(format!("process {}", other?)),
    }
}

fn segment(scene: &Scene) -> Tried {
    Ok(format!("segment {}", sys::shared_memory(scene.keys.0, 1, 0)?))
}

fn seccomp(_: &Scene) -> Tried {
    sys::seccomp_action()?;
    Ok("answered".into())
}

#[cfg(target_arch = "x86_64")]
fn ldt(_: &Scene) -> Tried {
    sys::read_ldt()?;
    Ok("read".into())
}

#[cfg(not(target_arch = "x86_64"))]
fn ldt(_: &Scene) -> Tried {
    Err(Stop::Cannot("this architecture has no such table".into()))
}

fn bounding_set(_: &Scene) -> Tried {
    let kept = (0..=40).filter(|capability| sys::prctl(libc::PR_CAPBSET_READ, *capability) == Ok(1)).count();
    if kept == 0 { Err(Stop::Nothing) } else { Ok(format!("{kept} capabilities")) }
}
