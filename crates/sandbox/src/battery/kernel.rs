//! Attempts on the kernel: namespaces, mounts, and the calls whose size is their danger.

use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, OpenTreeFlags};

use super::errors::{ACCES, NOENT, NOSYS, NOTHING, PERM, SIGSYS};
use super::{Attempt, Scene, Stop, Tried};
use crate::profile::Layer::{Capabilities, IpcNs, Landlock, MountNs, Rlimits, Seccomp};
use crate::sys::probe as sys;

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
    Attempt::new("kernel.13", "map memory that is writable and executable", &[PERM], &[Seccomp], writable_code),
    Attempt::new("kernel.14", "make written memory executable", &[PERM], &[Seccomp], executable_data),
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
    Attempt::new("kernel.21", "make a file system by the newer calls", &[PERM], &[Seccomp], new_file_system),
    Attempt::new("kernel.22", "change what a mount allows", &[PERM], &[Seccomp], change_mount),
    Attempt::new("kernel.23", "join another namespace", &[PERM], &[Seccomp], join),
    Attempt::new("kernel.24", "make a namespace of time", &[PERM], &[Seccomp], time_namespace),
    Attempt::new("kernel.25", "load a program into the kernel (bpf)", &[PERM], &[Seccomp], bpf),
    Attempt::new("kernel.26", "reach the ports of devices (ioperm)", &[PERM], &[Seccomp], ports),
    Attempt::new("kernel.27", "set the clock", &[PERM], &[Seccomp], clock),
    Attempt::new("kernel.28", "ask for and set disk quotas", &[PERM], &[Seccomp], quotas),
    Attempt::new("kernel.29", "choose where memory lies", &[PERM], &[Seccomp], memory_policy),
    Attempt::new("kernel.30", "install a filter by prctl", &[PERM], &[Seccomp], filter_by_prctl),
    Attempt::new("kernel.31", "use up Landlock's domains", &[PERM], &[Seccomp], landlock),
    Attempt::new("kernel.32", "call a number that no call has", &[PERM], &[Seccomp], no_call),
    Attempt::new("kernel.33", "make System V semaphores", &[PERM], &[Seccomp], semaphores),
    Attempt::new(
        "kernel.34",
        "call what only administrators may (reboot, modules, swap)",
        &[PERM],
        &[Seccomp, Capabilities],
        administrators,
    )
    .without_control("the kernel refuses these calls to everybody but root, before it looks at anything else"),
    Attempt::new(
        "kernel.35",
        "write the kernel's settings (core_pattern, sysrq)",
        &[NOENT, ACCES],
        &[MountNs, Landlock],
        kernel_settings,
    )
    .without_control("only root may write them, with or without a sandbox"),
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
        Err(Errno::NOKEY) => Ok("answered".into()),
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
        Err(Errno::NOSYS) => Ok("asked".into()),
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

/// As the kernel answers it: some mistake in the arguments says that it looked at them.
fn asked(result: Result<libc::c_long, Errno>) -> Tried {
    match result {
        Err(errno @ (Errno::PERM | Errno::ACCESS)) => Err(errno.into()),
        Err(errno) => Ok(format!("asked: {errno}")),
        Ok(answer) => Ok(format!("answered {answer}")),
    }
}

fn new_file_system(_: &Scene) -> Tried {
    crate::sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
    rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC)?;
    Ok("opened".into())
}

fn change_mount(_: &Scene) -> Tried {
    crate::sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
    let root = rustix::fs::openat(CWD, "/", OFlags::PATH, Mode::empty())?;
    let flags = crate::sys::MountFlags { read_only: true, no_exec: false, no_dev: false, shallow: true };
    crate::sys::set_mount_flags(root.as_fd(), flags)?;
    Ok("changed".into())
}

fn join(_: &Scene) -> Tried {
    asked(sys::join_nothing())
}

fn time_namespace(_: &Scene) -> Tried {
    /// `CLONE_NEWTIME`.
    const NEW_TIME: i32 = 0x80;
    crate::sys::unshare(libc::CLONE_NEWUSER | NEW_TIME)?;
    Ok("made".into())
}

fn bpf(_: &Scene) -> Tried {
    asked(sys::bpf())
}

#[cfg(target_arch = "x86_64")]
fn ports(_: &Scene) -> Tried {
    asked(sys::too_many_ports())
}

#[cfg(not(target_arch = "x86_64"))]
fn ports(_: &Scene) -> Tried {
    Err(Stop::Cannot("this architecture has no such ports".into()))
}

fn clock(_: &Scene) -> Tried {
    asked(sys::set_clock_to_nowhere())
}

fn quotas(_: &Scene) -> Tried {
    asked(sys::quota_of_no_kind())
}

fn memory_policy(_: &Scene) -> Tried {
    asked(sys::usual_memory_policy())
}

fn filter_by_prctl(_: &Scene) -> Tried {
    asked(sys::prctl(libc::PR_SET_SECCOMP, 2))
}

fn landlock(_: &Scene) -> Tried {
    asked(sys::landlock_version())
}

fn no_call(_: &Scene) -> Tried {
    asked(sys::no_call())
}

fn semaphores(_: &Scene) -> Tried {
    let set = sys::semaphores()?;
    let _ = sys::remove_semaphores(i32::try_from(set).unwrap_or(-1));
    Ok(format!("set {set}"))
}

fn administrators(_: &Scene) -> Tried {
    for call in sys::ADMINISTRATORS {
        match sys::administrators_call(call) {
            Err(Errno::PERM) => {}
            other => return asked(other),
        }
    }
    Err(Errno::PERM.into())
}

fn kernel_settings(_: &Scene) -> Tried {
    let mut stopped = Err(Stop::Nothing);
    for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"] {
        // Not created, not truncated, nothing written: opening is all that is tried.
        match std::fs::OpenOptions::new().append(true).open(path) {
            Ok(_) => return Ok(format!("opened {path}")),
            Err(error) => stopped = Err(error.into()),
        }
    }
    stopped
}
