//! Opening what the profile binds, once, as the launching identity. From here on only descriptors are used: no path of
//! the host is resolved twice, so nothing can be swapped in between.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, readlinkat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string};
use rustix::mount::{fsmount, fsopen, open_tree};

use super::failure::{At, Failure, Stage};
use super::ids::OwnerMaps;
use super::landlock::is_of_files;
use super::prepared::Prepared;
use super::standby::Seen;
use crate::profile::{Access, Bind, Device, LinkRule, Right};
use crate::sys::{self, MountFlags};

/// Something of the host, opened.
#[derive(Debug)]
pub(super) enum Source {
    /// A file or folder, as a detached mount (or, without a mount namespace, as an `O_PATH` descriptor).
    Tree {
        /// The descriptor.
        fd: OwnedFd,
        /// Where it goes.
        target: PathBuf,
        /// Whether it is a folder.
        folder: bool,
        /// The Landlock rights on it.
        rights: Vec<Right>,
    },
    /// A symbolic link, to be made again.
    Link {
        /// Where it goes.
        target: PathBuf,
        /// What it says.
        to: PathBuf,
    },
}

/// All sources of a profile.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) sources: Vec<Source>,
    pub(super) proc: Option<OwnedFd>,
}

/// Opens everything that `prepared` binds, and its device nodes.
///
/// With `maps` (under root), what is granted appears as owned by the program's own user. With `seen`, each must be what was
/// seen there before.
pub(super) fn open_all(
    prepared: &Prepared,
    seen: Option<&Seen>,
    maps: Option<&mut OwnerMaps>,
) -> Result<Vec<Source>, Failure> {
    let mut maps = maps;
    let mut sources = Vec::new();
    for (number, bind) in prepared.profile().binds.iter().enumerate() {
        let with_owner = maps.is_some();
        let expected = |stat: Option<&Stat>| seen.is_none_or(|seen| seen.holds(number, stat, with_owner));
        if let Some(source) = open_bind(prepared, bind, expected, maps.as_deref_mut())
            .map_err(|errno| Failure::new(Stage::Sources, errno, bind.source.display().to_string()))?
        {
            if let Some(around) = widened(prepared, bind) {
                let what = format!(
                    "{}, which must stay read-only inside of {}: that takes a mount namespace, and this is posture reduced",
                    bind.source.display(),
                    around.display()
                );
                return Err(Failure::new(Stage::Sources, Errno::PERM, what));
            }
            sources.push(source);
        }
    }
    for device in &prepared.profile().devices {
        let path = Path::new("/dev").join(device.name());
        let source = open_device(prepared, *device, &path).at_what(Stage::Sources, || path.display().to_string())?;
        sources.push(source);
    }
    Ok(sources)
}

/// The folder around `bind` in which it would have more rights than its own, as Landlock's rules reach down and nothing is
/// mounted over them. A launch that would have it so is refused.
fn widened<'a>(prepared: &'a Prepared, bind: &Bind) -> Option<&'a Path> {
    let around = |other: &&Bind| {
        bind.source != other.source && bind.source.starts_with(&other.source) && !covers(bind.access, other.access)
    };
    let binds = &prepared.profile().binds;
    binds.iter().find(around).filter(|_| prepared.is_reduced()).map(|other| other.source.as_path())
}

/// Whether `access` has every right of `other`.
fn covers(access: Access, other: Access) -> bool {
    other.rights().iter().all(|right| access.rights().contains(right))
}

pub(super) fn open_path(path: &Path) -> Result<(OwnedFd, Stat), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let fd = openat2(CWD, path, flags, Mode::empty(), resolve)?;
    let stat = fstat(&fd)?;
    Ok((fd, stat))
}

fn open_bind(
    prepared: &Prepared,
    bind: &Bind,
    expected: impl Fn(Option<&Stat>) -> bool,
    maps: Option<&mut OwnerMaps>,
) -> Result<Option<Source>, Errno> {
    let opened = match open_path(&bind.source) {
        // In place of a folder on the way there is a file, so what is looked for is not there: `.git` of a second working
        // tree is one.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) if bind.optional => None,
        other => Some(other?),
    };
    if !expected(opened.as_ref().map(|(_, stat)| stat)) {
        return Err(Errno::STALE);
    }
    let Some((fd, stat)) = opened else { return Ok(None) };
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Symlink {
        if bind.link == LinkRule::Refuse {
            return Err(Errno::LOOP);
        }
        let to = readlinkat(&fd, "", Vec::new())?;
        let to = PathBuf::from(std::ffi::OsString::from(String::from_utf8(to.into_bytes()).map_err(|_| Errno::ILSEQ)?));
        return Ok(Some(Source::Link { target: bind.target.clone(), to }));
    }
    if !prepared.pin_holds(&bind.source, stat.st_dev, stat.st_ino) {
        return Err(Errno::STALE);
    }
    // A device, socket or pipe is never a grant: it would be a way out that no other layer sees.
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        return Err(Errno::NOTSUP);
    }
    let folder = kind == FileType::Directory;
    let mut rights = bind.access.rights().to_vec();
    if !folder {
        rights.retain(|right| is_of_files(*right));
    }
    let flags = MountFlags {
        read_only: !matches!(bind.access, Access::Write | Access::Scratch),
        no_exec: bind.access != Access::Exec,
        no_dev: true,
        shallow: false,
    };
    let fd = detach(prepared, fd, folder, flags, |tree| match maps {
        Some(maps) if prepared.is_granted(bind) => match maps.apply(tree, stat.st_uid, stat.st_gid) {
            // A file system that cannot map ids: reading goes by the files' own modes then, which is less, not more.
            Err(Errno::INVAL | Errno::OPNOTSUPP) if bind.access == Access::Read => Ok(()),
            other => other,
        },
        _ => Ok(()),
    })?;
    Ok(Some(Source::Tree { fd, target: bind.target.clone(), folder, rights }))
}

fn open_device(prepared: &Prepared, device: Device, path: &Path) -> Result<Source, Errno> {
    let (fd, stat) = open_path(path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
        return Err(Errno::NODEV);
    }
    let flags = MountFlags { read_only: false, no_exec: true, no_dev: false, shallow: false };
    let fd = detach(prepared, fd, false, flags, |_| Ok(()))?;
    let mut rights = vec![Right::ReadFile, Right::WriteFile];
    if device == Device::Tty {
        // What may be done with a terminal is decided by the filter.
        rights.push(Right::IoctlDev);
    }
    Ok(Source::Tree { fd, target: path.to_path_buf(), folder: false, rights })
}

/// A detached copy of the mount at `fd`, with `flags`.
fn detach(
    prepared: &Prepared,
    fd: OwnedFd,
    folder: bool,
    flags: MountFlags,
    then: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>,
) -> Result<OwnedFd, Errno> {
    if !prepared.makes_root() {
        return Ok(fd);
    }
    let mut open = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if folder {
        // Mounts below must come along: an unprivileged user may not uncover what they hide.
        open |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(&fd, "", open)?;
    then(tree.as_fd())?;
    sys::set_mount_flags(tree.as_fd(), flags)?;
    Ok(tree)
}

/// A detached fresh `/proc` of the calling process's pid namespace, that shows processes only, and only its own.
pub(super) fn fresh_proc() -> Result<OwnedFd, Errno> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "hidepid", "invisible")?;
    fsconfig_set_string(&context, "subset", "pid")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_RDONLY;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
