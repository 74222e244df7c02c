//! Attempts to stay: changing what is executed or read later, and leaving something running.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::errors::{ACCES, NOENT, PERM, ROFS};
use super::{Attempt, Mark, Scene, Tried};
use crate::profile::Layer::{IpcNs, Landlock, MountNs, PidNs, Seccomp};
use crate::sys::probe as sys;
use crate::sys::{Forked, exit_now, fork_process};

const HIDDEN: &[i32] = &[NOENT, ACCES];

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new(
        "persist.01",
        "change a file of the program's own tree",
        &[ROFS, ACCES],
        &[MountNs, Landlock],
        own_tree,
    ),
    Attempt::new(
        "persist.02",
        "add a file to the program's own tree",
        &[ROFS, ACCES],
        &[MountNs, Landlock],
        add_to_tree,
    ),
    Attempt::new("persist.03", "plant a hook of version control in a granted folder", &[ROFS], &[MountNs], hook),
    Attempt::new("persist.04", "append to a shell's start file", HIDDEN, &[MountNs, Landlock], start_file),
    Attempt::new("persist.05", "write Sigil's own policy", HIDDEN, &[MountNs, Landlock], policy),
    Attempt::new("persist.06", "leave a file in the host's /tmp", HIDDEN, &[MountNs, Landlock], in_tmp)
        .leaves(Mark::Tmp),
    Attempt::new("persist.07", "leave a file in the host's /dev/shm", HIDDEN, &[MountNs, Landlock], in_shm)
        .leaves(Mark::Shm),
    Attempt::new("persist.08", "leave a System V segment", &[PERM], &[Seccomp, IpcNs], segment).leaves(Mark::Segment),
    Attempt::new("persist.09", "leave a process that goes on", &[], &[PidNs], survivor).leaves(Mark::Survivor),
];

fn append(path: impl AsRef<Path>) -> Tried {
    OpenOptions::new().append(true).open(path)?.write_all(b"x")?;
    Ok("written".into())
}

fn create(path: impl AsRef<Path>) -> Tried {
    File::create_new(path)?;
    Ok("made".into())
}

fn own_tree(scene: &Scene) -> Tried {
    append(scene.tree().join("program"))
}

fn add_to_tree(scene: &Scene) -> Tried {
    create(scene.tree().join("added"))
}

fn hook(scene: &Scene) -> Tried {
    create(scene.writable().join(".git/hooks/post-checkout"))
}

fn start_file(scene: &Scene) -> Tried {
    append(scene.outside().join("home/.bashrc"))
}

fn policy(scene: &Scene) -> Tried {
    append(scene.outside().join("sigil/policy.dsse"))
}

fn in_tmp(scene: &Scene) -> Tried {
    create(Path::new("/tmp").join(&scene.name))
}

fn in_shm(scene: &Scene) -> Tried {
    create(Path::new("/dev/shm").join(&scene.name))
}

fn segment(scene: &Scene) -> Tried {
    Ok(format!("segment {}", sys::shared_memory(scene.keys.1, 1, libc::IPC_CREAT | 0o600)?))
}

/// Leaves a process in a session of its own that holds the program's output until nobody reads it any more.
fn survivor(_: &Scene) -> Tried {
    match fork_process()? {
        Forked::Parent(_) => Ok("left behind".into()),
        Forked::Child => {
            let _ = rustix::process::setsid();
            let output = std::io::stdout();
            let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(&output, PollFlags::empty())], Some(&patience));
            exit_now(0)
        }
    }
}
