//! More attempts on files: names that others trust, nodes that are no files, roads that are no paths, and room.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chownat, mknodat, openat, symlinkat, unlinkat};

use super::errors::{ACCES, BUSY, NOENT, NOSPC, PERM, ROFS};
use super::fs::{below, read, secret};
use super::{Attempt, Scene, Stop, Tried};
use crate::profile::Layer::{Landlock, MountNs, Seccomp};
use crate::sys::probe as sys;

/// More files than the probe's private folders may hold.
pub(super) const MANY: u64 = 400;

const HIDDEN: &[i32] = &[NOENT, ACCES];

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new(
        "fs.31",
        "move a guarded folder away and make another in its place",
        &[BUSY, ROFS],
        &[MountNs],
        replace_guarded,
    ),
    Attempt::new("fs.32", "make a name that others run where there was none", &[], &[], make_guarded),
    Attempt::new("fs.33", "read through the parent's root", HIDDEN, &[MountNs, Landlock], through_parent),
    Attempt::new("fs.34", "climb out of the root folder (fchdir and ..)", HIDDEN, &[MountNs, Landlock], climb),
    Attempt::new("fs.35", "open a file by its handle", &[PERM], &[Seccomp], by_handle),
    Attempt::new("fs.36", "make a device node", &[PERM, ACCES], &[Seccomp, Landlock], make_device),
    Attempt::new("fs.37", "leave a socket for others to call", &[PERM, ACCES], &[Seccomp, Landlock], make_socket),
    Attempt::new("fs.38", "make files without end", &[NOSPC], &[MountNs, Landlock], many),
    Attempt::new("fs.39", "watch files by fanotify", &[PERM], &[Seccomp], fanotify),
    Attempt::new(
        "fs.40",
        "change the group of one's own file outside",
        &[PERM, NOENT],
        &[Seccomp, MountNs],
        change_group,
    ),
];

fn cannot(error: std::io::Error) -> Stop {
    Stop::Cannot(error.to_string())
}

/// `mv .git x; mkdir -p .git/hooks; write; mv back`: what is guarded is a name, and its parent must not move.
fn replace_guarded(scene: &Scene) -> Tried {
    let (guarded, aside) = (scene.writable().join(".git"), scene.writable().join("aside"));
    fs::rename(&guarded, aside)?;
    fs::create_dir_all(guarded.join("hooks"))?;
    File::create_new(guarded.join("hooks/post-checkout"))?;
    Ok("replaced".into())
}

fn make_guarded(scene: &Scene) -> Tried {
    let folder = scene.writable().join(".vscode");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("tasks.json"), "{}")?;
    fs::remove_dir_all(folder)?;
    Ok("made".into())
}

fn through_parent(scene: &Scene) -> Tried {
    // Its number is what /proc says: getppid(2) counts in this process's own namespace.
    let status = fs::read_to_string("/proc/self/status")?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim).unwrap_or_default();
    read(below(&format!("/proc/{parent}/root"), &secret(scene)))
}

fn climb(scene: &Scene) -> Tried {
    let root = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    rustix::process::fchdir(&root)?;
    let up = PathBuf::from("../".repeat(16));
    read(up.join(secret(scene).strip_prefix("/").unwrap_or(Path::new(""))))
}

fn by_handle(_: &Scene) -> Tried {
    match sys::open_by_handle() {
        // There is no such mount, but the kernel was asked.
        Err(rustix::io::Errno::BADF) => Ok("asked".into()),
        other => Ok(format!("descriptor {}", other?)),
    }
}

fn node(scene: &Scene, name: &str, kind: FileType) -> Tried {
    let path = scene.writable().join(name);
    let _ = fs::remove_file(&path);
    // Number 0 is no device: the one that the kernel lets everybody make.
    mknodat(CWD, &path, kind, Mode::RUSR | Mode::WUSR, 0)?;
    Ok("made".into())
}

fn make_device(scene: &Scene) -> Tried {
    node(scene, "device", FileType::CharacterDevice)
}

fn make_socket(scene: &Scene) -> Tried {
    node(scene, "socket", FileType::Socket)
}

/// Makes links, each of which is a file of its own, and takes them away again.
fn many(scene: &Scene) -> Tried {
    let folder = Path::new("/tmp").join(format!("{}-many", scene.name));
    fs::create_dir(&folder)?;
    let dir = File::open(&folder).map_err(cannot)?;
    let mut stopped = None;
    let mut count = 0;
    while count < MANY && stopped.is_none() {
        match symlinkat("x", dir.as_fd(), count.to_string()) {
            Ok(()) => count += 1,
            Err(errno) => stopped = Some(errno),
        }
    }
    for number in 0..count {
        let _ = unlinkat(dir.as_fd(), number.to_string(), AtFlags::empty());
    }
    let _ = fs::remove_dir(&folder);
    stopped.map_or_else(|| Ok(format!("{count} files")), |errno| Err(errno.into()))
}

fn fanotify(_: &Scene) -> Tried {
    Ok(format!("descriptor {}", sys::fanotify()?))
}

fn change_group(scene: &Scene) -> Tried {
    chownat(CWD, scene.outside().join("own"), None, Some(rustix::process::getgid()), AtFlags::empty())?;
    Ok("changed".into())
}
