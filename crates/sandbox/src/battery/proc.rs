//! Attempts on other processes, and on the machine's share of processes, files and memory.

use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::net::{SocketFlags, SocketType, sendmsg, socketpair};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};

use super::errors::{ACCES, AGAIN, MFILE, NOENT, NOMEM, PERM, SRCH, TOOMANYREFS};
use super::{Attempt, Scene, Stop, Tried};
use crate::profile::Layer::{self, Landlock, MountNs, PidNs, Rlimits, Seccomp, UserNs};
use crate::sys::probe as sys;
use crate::sys::{Forked, exit_now, fork_process, kill_process, wait_for};

const GONE: &[i32] = &[PERM, SRCH];
const TRACE: &[Layer] = &[Seccomp, PidNs, Landlock, UserNs];

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("proc.01", "signal another process of the same user", GONE, &[PidNs, Landlock], signal),
    Attempt::new("proc.02", "trace another process", GONE, TRACE, trace),
    Attempt::new("proc.03", "read another process's memory", GONE, TRACE, read_memory),
    Attempt::new("proc.04", "take a descriptor out of another process", GONE, TRACE, take_descriptor),
    Attempt::new(
        "proc.05",
        "read another process's environment",
        &[NOENT, ACCES, PERM],
        &[MountNs, Landlock, UserNs],
        environment,
    ),
    Attempt::new("proc.06", "read another process's command line", &[NOENT, ACCES], &[MountNs, Landlock], command_line),
    Attempt::new("proc.07", "slow another process down", GONE, &[Seccomp, PidNs], priority),
    Attempt::new("proc.08", "move another process to one processor", GONE, &[Seccomp, PidNs], affinity),
    Attempt::new("proc.09", "change another process's limits", GONE, &[Seccomp, PidNs], limits),
    Attempt::new("proc.10", "compare descriptors with another process (kcmp)", GONE, TRACE, compare),
    Attempt::new("proc.11", "start processes without end", &[AGAIN], &[Rlimits], fork_bomb),
    Attempt::new("proc.12", "open files without end", &[MFILE], &[Rlimits], files),
    Attempt::new("proc.13", "lock memory", &[PERM, libc::ENOMEM, AGAIN], &[Seccomp, Rlimits], lock),
    Attempt::new(
        "proc.14",
        "type into a terminal, with high bits in the command",
        &[PERM],
        &[Seccomp],
        type_into_terminal,
    ),
    Attempt::new("proc.15", "survive the launcher: take the death signal away", &[PERM], &[Seccomp], keep_living),
    Attempt::new("proc.16", "let the kernel signal others in one's name (F_SETOWN)", &[PERM], &[Seccomp], set_owner),
    Attempt::new(
        "proc.17",
        "open another process's memory as a file",
        &[NOENT, ACCES, PERM],
        &[MountNs, Landlock, UserNs],
        memory_file,
    ),
    Attempt::new(
        "proc.18",
        "read through another process's descriptors",
        &[NOENT, ACCES, PERM],
        &[MountNs, Landlock, UserNs],
        their_descriptors,
    ),
    Attempt::new("proc.19", "read another process's state", &[NOENT, ACCES], &[MountNs, Landlock], state),
    Attempt::new("proc.20", "signal another process by descriptor", GONE, &[PidNs, Landlock], signal_by_descriptor),
    Attempt::new("proc.21", "signal one thread of another process", GONE, &[PidNs, Landlock], signal_thread),
    Attempt::new("proc.22", "write another process's memory", GONE, TRACE, write_memory),
    Attempt::new("proc.23", "take another process's share of the disk", GONE, &[Seccomp, PidNs], disk_priority),
    Attempt::new("proc.24", "be scheduled otherwise", &[PERM], &[Seccomp], schedule),
    Attempt::new("proc.25", "take memory without end", &[NOMEM], &[Rlimits], memory),
    Attempt::new("proc.26", "keep descriptors in flight without end", &[TOOMANYREFS], &[Rlimits], in_flight),
    Attempt::new("proc.27", "take a terminal over (TIOCLINUX, TIOCSETD)", &[PERM], &[Seccomp], take_terminal),
    Attempt::new("proc.28", "make itself open to others (PR_SET_DUMPABLE)", &[PERM], &[Seccomp], open_itself),
    Attempt::new("proc.29", "bring core dumps back", &[PERM], &[Rlimits], core_dumps),
];

fn victim(scene: &Scene) -> Result<Pid, Stop> {
    Pid::from_raw(scene.victim).ok_or_else(|| Stop::Cannot("no victim".into()))
}

fn signal(scene: &Scene) -> Tried {
    kill_process(victim(scene)?, Signal::TERM)?;
    Ok("signalled".into())
}

fn trace(scene: &Scene) -> Tried {
    sys::ptrace_seize(scene.victim)?;
    Ok("attached".into())
}

fn read_memory(scene: &Scene) -> Tried {
    match sys::read_memory(scene.victim) {
        Ok(_) => Ok("read".into()),
        // Only the address was wrong.
        Err(rustix::io::Errno::FAULT) => Ok("let in".into()),
        Err(errno) => Err(errno.into()),
    }
}

fn take_descriptor(scene: &Scene) -> Tried {
    let process = rustix::process::pidfd_open(victim(scene)?, PidfdFlags::empty())?;
    sys::take_descriptor(process.as_raw_fd(), 0)?;
    Ok("taken".into())
}

fn environment(scene: &Scene) -> Tried {
    let found = fs::read(format!("/proc/{}/environ", scene.victim))?;
    if found.is_empty() { Err(Stop::Nothing) } else { Ok(format!("{} bytes", found.len())) }
}

fn command_line(scene: &Scene) -> Tried {
    let found = fs::read(format!("/proc/{}/cmdline", scene.victim))?;
    Ok(format!("{} bytes", found.len()))
}

fn priority(scene: &Scene) -> Tried {
    rustix::process::setpriority_process(Some(victim(scene)?), 15)?;
    Ok("slowed down".into())
}

fn affinity(scene: &Scene) -> Tried {
    let mut one = rustix::thread::CpuSet::new();
    one.set(0);
    rustix::thread::sched_setaffinity(Some(victim(scene)?), &one)?;
    Ok("moved".into())
}

fn limits(scene: &Scene) -> Tried {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::prlimit(Some(victim(scene)?), Resource::Core, none)?;
    Ok("changed".into())
}

fn compare(scene: &Scene) -> Tried {
    sys::compare_files(scene.victim)?;
    Ok("compared".into())
}

fn fork_bomb(_: &Scene) -> Tried {
    /// More than any profile allows.
    const MANY: usize = 600;
    let mut children = Vec::with_capacity(MANY);
    let mut stopped = None;
    while children.len() < MANY && stopped.is_none() {
        match fork_process() {
            Ok(Forked::Child) => {
                sys::pause();
                exit_now(0)
            }
            Ok(Forked::Parent(pid)) => children.push(pid),
            Err(errno) => stopped = Some(errno),
        }
    }
    for pid in &children {
        let _ = kill_process(*pid, Signal::KILL);
    }
    for pid in &children {
        let _ = wait_for(*pid);
    }
    stopped.map_or_else(|| Ok(format!("{MANY} processes")), |errno| Err(errno.into()))
}

fn files(_: &Scene) -> Tried {
    /// More than any profile allows, and less than what this process may have by itself.
    const MANY: usize = 2000;
    let own = rustix::process::getrlimit(Resource::Nofile);
    if own.maximum.is_none_or(|most| most > 4096) {
        let more = Rlimit { current: Some(4096), maximum: own.maximum };
        let _ = rustix::process::setrlimit(Resource::Nofile, more);
    }
    let file = std::io::stdin();
    let mut open = Vec::with_capacity(MANY);
    while open.len() < MANY {
        open.push(rustix::io::dup(&file)?);
    }
    Ok(format!("{MANY} descriptors"))
}

fn lock(_: &Scene) -> Tried {
    sys::lock_memory()?;
    Ok("locked".into())
}

fn type_into_terminal(_: &Scene) -> Tried {
    /// `TIOCSTI` with a bit above those that the kernel looks at.
    const TYPE: u64 = 0x1_0000_5412;
    match sys::ioctl(std::os::fd::AsFd::as_fd(&std::io::stdin()), TYPE) {
        // There was no terminal, but the command reached the kernel.
        Ok(_) | Err(rustix::io::Errno::NOTTY | rustix::io::Errno::IO) => Ok("reached".into()),
        Err(errno) => Err(errno.into()),
    }
}

fn keep_living(_: &Scene) -> Tried {
    sys::prctl(libc::PR_SET_PDEATHSIG, 0)?;
    Ok("taken away".into())
}

fn set_owner(_: &Scene) -> Tried {
    sys::set_owner(std::os::fd::AsFd::as_fd(&std::io::stdout()))?;
    Ok("set".into())
}

fn memory_file(scene: &Scene) -> Tried {
    fs::OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", scene.victim))?;
    Ok("opened".into())
}

fn their_descriptors(scene: &Scene) -> Tried {
    for entry in fs::read_dir(format!("/proc/{}/fd", scene.victim))? {
        let path = entry?.path();
        if fs::read_link(&path)?.starts_with(&scene.root) {
            return Ok(format!("{} bytes", fs::read(path)?.len()));
        }
    }
    Err(Stop::Nothing)
}

fn state(scene: &Scene) -> Tried {
    Ok(format!("{} bytes", fs::read(format!("/proc/{}/status", scene.victim))?.len()))
}

fn signal_by_descriptor(scene: &Scene) -> Tried {
    let process = rustix::process::pidfd_open(victim(scene)?, PidfdFlags::empty())?;
    // It does nothing to whoever has not asked for it.
    rustix::process::pidfd_send_signal(process, Signal::URG)?;
    Ok("signalled".into())
}

fn signal_thread(scene: &Scene) -> Tried {
    sys::signal_thread(scene.victim, libc::SIGURG)?;
    Ok("signalled".into())
}

fn write_memory(scene: &Scene) -> Tried {
    match sys::write_memory(scene.victim) {
        Ok(_) => Ok("written".into()),
        // Only the address was wrong.
        Err(rustix::io::Errno::FAULT) => Ok("let in".into()),
        Err(errno) => Err(errno.into()),
    }
}

fn disk_priority(scene: &Scene) -> Tried {
    sys::set_io_priority(scene.victim)?;
    Ok("changed".into())
}

fn schedule(_: &Scene) -> Tried {
    sys::schedule_as_batch()?;
    Ok("changed".into())
}

fn memory(_: &Scene) -> Tried {
    /// More than any profile allows. It is never touched.
    const BYTES: usize = 64 << 30;
    sys::reserve_memory(BYTES)?;
    Ok("64 GiB".into())
}

fn in_flight(_: &Scene) -> Tried {
    let own = rustix::process::getrlimit(Resource::Nofile);
    if own.maximum.is_none_or(|most| most > 4096) {
        let more = Rlimit { current: Some(4096), maximum: own.maximum };
        let _ = rustix::process::setrlimit(Resource::Nofile, more);
    }
    let cannot = |errno: rustix::io::Errno| Stop::Cannot(errno.to_string());
    let (end, _other) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(cannot)?;
    let file = std::io::stdout();
    let many = [std::os::fd::AsFd::as_fd(&file); 250];
    // Eight times 250: more than any profile allows to have open.
    for _ in 0..8 {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !beside.push(SendAncillaryMessage::ScmRights(&many)) {
            return Err(Stop::Cannot("no room for the descriptors".into()));
        }
        sendmsg(&end, &[IoSlice::new(b"x")], &mut beside, SendFlags::empty())?;
    }
    Ok("2000 descriptors".into())
}

fn take_terminal(_: &Scene) -> Tried {
    /// `TIOCLINUX` and `TIOCSETD`, with a bit above those that the kernel looks at.
    const COMMANDS: [u64; 2] = [0x1_0000_541c, 0x1_0000_5423];
    let mut last = Err(Stop::Nothing);
    for command in COMMANDS {
        last = match sys::ioctl(std::os::fd::AsFd::as_fd(&std::io::stdin()), command) {
            // There was no terminal, but the command reached the kernel.
            Ok(_) | Err(rustix::io::Errno::NOTTY) => return Ok("reached".into()),
            Err(errno) => Err(errno.into()),
        };
    }
    last
}

fn open_itself(_: &Scene) -> Tried {
    sys::prctl(libc::PR_SET_DUMPABLE, 1)?;
    Ok("open".into())
}

fn core_dumps(_: &Scene) -> Tried {
    let some = Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
    rustix::process::setrlimit(Resource::Core, some)?;
    Ok("brought back".into())
}
