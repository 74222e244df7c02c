//! The new root: an empty file system in memory into which only the profile's sources are moved.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, fchmod, fstat, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::failure::{At, Failure, Stage};
use super::prepared::Prepared;
use super::sources::{Source, Sources};
use crate::profile::{Layer, ProcMode};
use crate::sys::{self, MountFlags};

/// The new root while it is built.
struct Root {
    fd: OwnedFd,
    /// The devices of the file systems that are ours: only there may anything be made.
    own: BTreeSet<u64>,
}

/// Builds the new root, makes it the root, and lets go of the old one.
pub(super) fn enter(prepared: &Prepared, sources: &mut Sources) -> Result<(), Failure> {
    let stage = Stage::Root;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).at(stage)?;
    let profile = prepared.profile();
    let owner = if prepared.wants(Layer::UserNs) { prepared.ids().inside } else { prepared.ids().outside };
    let root = memory(profile.root_bytes, 4096, "0755", owner).at_what(stage, || "the new root".to_owned())?;
    // It must be mounted somewhere to become the root; what it covers there is not needed any more.
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at(stage)?;
    let own = BTreeSet::from([fstat(&root).at(stage)?.st_dev]);
    let mut root = Root { fd: root, own };

    for tmpfs in &profile.tmpfs {
        let mount =
            memory(tmpfs.bytes, tmpfs.inodes, "0700", owner).at_what(stage, || tmpfs.path.display().to_string())?;
        root.place(&tmpfs.path, &mount, true).at_what(stage, || tmpfs.path.display().to_string())?;
        root.own.insert(fstat(&mount).at(stage)?.st_dev);
    }
    for source in &sources.sources {
        match source {
            Source::Tree { fd, target, folder, .. } => root.place(target, fd, *folder),
            Source::Link { target, to } => root.link(target, to),
        }
        .at_what(stage, || source.target().display().to_string())?;
    }
    for file in &profile.files {
        root.write(&file.path, file.content.as_bytes()).at_what(stage, || file.path.display().to_string())?;
    }
    if profile.proc == ProcMode::Pids {
        let proc = sources.proc.take().ok_or_else(|| Failure::new(Stage::Proc, Errno::NOENT, ""))?;
        root.place(Path::new("/proc"), &proc, true).at(Stage::Proc)?;
        for (name, to) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
            let target = Path::new("/dev").join(name);
            root.link(&target, Path::new(&format!("/proc/self/fd{to}"))).at(stage)?;
        }
    }
    root.seal().at_what(stage, || "making the new root read-only".to_owned())?;
    pivot(root.fd.as_fd()).at_what(stage, || "pivot_root".to_owned())
}

impl Source {
    fn target(&self) -> &Path {
        match self {
            Self::Tree { target, .. } | Self::Link { target, .. } => target,
        }
    }
}

/// A detached file system in memory.
fn memory(bytes: u64, inodes: u64, mode: &str, owner: (u32, u32)) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", bytes.to_string())?;
    fsconfig_set_string(&context, "nr_inodes", inodes.to_string())?;
    fsconfig_set_string(&context, "mode", mode)?;
    fsconfig_set_string(&context, "uid", owner.0.to_string())?;
    fsconfig_set_string(&context, "gid", owner.1.to_string())?;
    fsconfig_create(&context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Root {
    /// The folder above `path`, made where it is missing, and the last name of `path`. No symbolic link is followed.
    fn parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a str), Errno> {
        let names: Vec<&str> = path
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name.to_str()),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or(Errno::ILSEQ)?;
        let (last, folders) = names.split_last().ok_or(Errno::INVAL)?;
        let mut folder = openat(&self.fd, ".", FOLDER, Mode::empty())?;
        for name in folders {
            folder = self.step(&folder, name)?;
        }
        Ok((folder, last))
    }

    fn step(&self, folder: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
        match openat(folder, name, FOLDER, Mode::empty()) {
            Err(Errno::NOENT) => {
                self.must_own(folder)?;
                mkdirat(folder, name, Mode::from_raw_mode(0o755))?;
                let made = openat(folder, name, FOLDER, Mode::empty())?;
                Ok(made)
            }
            other => other,
        }
    }

    /// Nothing is ever made on a file system of the host.
    fn must_own(&self, folder: &OwnedFd) -> Result<(), Errno> {
        if self.own.contains(&fstat(folder)?.st_dev) { Ok(()) } else { Err(Errno::ROFS) }
    }

    /// Mounts `mount` at `path`, on a folder or an empty file that is made where it is missing.
    fn place(&self, path: &Path, mount: &OwnedFd, folder: bool) -> Result<(), Errno> {
        let (parent, name) = self.parent(path)?;
        let onto = if folder {
            self.step(&parent, name)?
        } else {
            match openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Err(Errno::NOENT) => {
                    self.must_own(&parent)?;
                    let create = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
                    openat(&parent, name, create, Mode::from_raw_mode(0o444))?
                }
                other => other?,
            }
        };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(mount, "", &onto, "", flags)
    }

    fn link(&self, path: &Path, to: &Path) -> Result<(), Errno> {
        let (parent, name) = self.parent(path)?;
        self.must_own(&parent)?;
        symlinkat(to, &parent, name)
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), Errno> {
        let (parent, name) = self.parent(path)?;
        self.must_own(&parent)?;
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        let file = openat(&parent, name, create, Mode::from_raw_mode(0o444))?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        // The umask of the launch would hide it from the program's own user only if it had another; be explicit.
        fchmod(&file, Mode::from_raw_mode(0o444))
    }

    fn seal(&self) -> Result<(), Errno> {
        let flags = MountFlags { read_only: true, no_exec: true, no_dev: true, shallow: true };
        sys::set_mount_flags(self.fd.as_fd(), flags)
    }
}

/// Makes the mount at `root` the root and detaches the old one.
fn pivot(root: BorrowedFd<'_>) -> Result<(), Errno> {
    fchdir(root)?;
    pivot_root(".", ".")?;
    // The old root now lies on top of the new one; this takes it away with everything in it.
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")
}
