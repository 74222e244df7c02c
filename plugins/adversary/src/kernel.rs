//! Attempts on other processes and on the kernel.

use std::process::Command;

use nix::sys::ptrace;
use rustix::fs::MemfdFlags;
use rustix::process::{self, Pid, PidfdFlags, PidfdGetfdFlags};

use crate::attempt::{Attempt, Try};

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt { id: "kernel.shell", act: "start /bin/sh", layers: &["landlock", "mount_ns"], run: shell },
    Attempt {
        id: "kernel.memory_exec",
        act: "start a program from memory",
        layers: &["landlock", "seccomp"],
        run: memory_exec,
    },
    Attempt {
        id: "kernel.signal",
        act: "reach other processes with a signal",
        layers: &["pid_ns", "landlock"],
        run: signal,
    },
    Attempt {
        id: "kernel.ptrace",
        act: "trace its parent or the first process",
        layers: &["seccomp", "pid_ns"],
        run: trace,
    },
    Attempt {
        id: "kernel.steal_fd",
        act: "take a file descriptor of the first process",
        layers: &["seccomp", "pid_ns"],
        run: steal_fd,
    },
    Attempt {
        id: "kernel.mount",
        act: "mount a file system over its own folder",
        layers: &["seccomp", "capabilities", "landlock"],
        run: mount,
    },
    Attempt {
        id: "kernel.mount_api",
        act: "mount with the new interface (fsopen)",
        layers: &["seccomp", "capabilities"],
        run: fsopen,
    },
    Attempt {
        id: "kernel.chroot",
        act: "change its root folder",
        layers: &["seccomp", "capabilities"],
        run: || process::chroot("/tmp").into(),
    },
    Attempt {
        id: "kernel.unshare",
        act: "make a mount namespace of its own",
        layers: &["seccomp", "capabilities"],
        run: unshare,
    },
    Attempt {
        id: "kernel.hostname",
        act: "rename the machine",
        layers: &["seccomp", "capabilities", "uts_ns"],
        run: hostname,
    },
    Attempt {
        id: "kernel.module",
        act: "unload a kernel module",
        layers: &["seccomp", "capabilities"],
        run: || rustix::system::delete_module(c"sigil_adversary_no_such_module", 0).into(),
    },
    Attempt {
        id: "kernel.environment",
        act: "find secrets in its own environment",
        layers: &["environment"],
        run: environment,
    },
    Attempt {
        id: "kernel.descriptors",
        act: "use a file descriptor that it inherited by mistake",
        layers: &["descriptors"],
        run: descriptors,
    },
];

fn shell() -> Try {
    #[expect(clippy::disallowed_methods, reason = "starting a program is what is tried here")]
    Command::new("/bin/sh").args(["-c", "exit 0"]).status().into()
}

/// The program is the plugin's own: it is known to be able to run, and starts without a socket and so ends at once.
fn memory_exec() -> Try {
    let file = match rustix::fs::memfd_create("adversary", MemfdFlags::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(errno) => return Try::Refused(errno),
    };
    let copied = std::fs::File::open("/proc/self/exe").and_then(|mut program| std::io::copy(&mut program, &mut &file));
    if let Err(error) = copied {
        return Err::<(), _>(error).into();
    }
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    #[expect(clippy::disallowed_methods, reason = "starting a program is what is tried here")]
    Command::new(path).env_clear().status().into()
}

/// The empty signal reaches whom any other signal would. Its own threads answer too, and the first process when that is
/// its parent.
fn signal() -> Try {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let own: Vec<i32> = threads.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let parent = process::getppid();
    let family = |pid: Pid| {
        own.contains(&pid.as_raw_nonzero().get()) || pid == Pid::INIT && parent.is_none_or(|parent| parent == Pid::INIT)
    };
    let reached =
        (1..=4096).filter_map(Pid::from_raw).filter(|pid| !family(*pid) && process::test_kill_process(*pid).is_ok());
    match reached.count() {
        0 => Try::Refused(rustix::io::Errno::SRCH),
        count => Try::Worked(format!("{count} processes can be reached")),
    }
}

fn trace() -> Try {
    let parent = nix::unistd::getppid();
    let target = if parent.as_raw() > 0 { parent } else { nix::unistd::Pid::from_raw(1) };
    match ptrace::attach(target) {
        Ok(()) => {
            // Let go at once; that it worked is the finding.
            let _ = ptrace::detach(target, None);
            Try::Worked(format!("traces process {target}"))
        }
        Err(errno) => Try::Refused(rustix::io::Errno::from_raw_os_error(errno as i32)),
    }
}

fn steal_fd() -> Try {
    match process::pidfd_open(Pid::INIT, PidfdFlags::empty()) {
        Ok(pidfd) => process::pidfd_getfd(pidfd, 0, PidfdGetfdFlags::empty()).into(),
        Err(errno) => Try::Refused(errno),
    }
}

fn mount() -> Try {
    let outcome =
        rustix::mount::mount("none", "/tmp", "tmpfs", rustix::mount::MountFlags::empty(), None::<&std::ffi::CStr>)
            .into();
    if matches!(outcome, Try::Worked(_)) {
        let _ = rustix::mount::unmount("/tmp", rustix::mount::UnmountFlags::DETACH);
    }
    outcome
}

fn fsopen() -> Try {
    rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).into()
}

fn unshare() -> Try {
    #[expect(deprecated, reason = "what it warns of, threads that differ in their namespaces, is wanted here")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).into()
}

/// To the name that the machine has already: harmless where it succeeds.
fn hostname() -> Try {
    rustix::system::sethostname(rustix::system::uname().nodename().to_bytes()).into()
}

fn environment() -> Try {
    let known = ["SIGIL_RPC_FD", "PATH", "HOME", "TMPDIR", "LANG", "TZ"];
    let told = |name: &str| known.contains(&name) || name.to_ascii_uppercase().ends_with("_PROXY");
    let names: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| !told(name)).collect();
    if names.is_empty() { Try::Nothing("only what a plugin is told") } else { Try::Worked(names.join(", ")) }
}

/// 0 to 2 are given; what the runtime opened since is its own kind: event queues and the socket to the host.
fn descriptors() -> Try {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return Try::Nothing("its descriptors cannot be listed");
    };
    let foreign: Vec<String> = entries
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|target| target.to_str().map(ToOwned::to_owned))
        .filter(|target| target.starts_with('/') && !target.starts_with("/proc/") && target != "/dev/null")
        .collect();
    if foreign.is_empty() { Try::Nothing("there is none") } else { Try::Worked(foreign.join(", ")) }
}
