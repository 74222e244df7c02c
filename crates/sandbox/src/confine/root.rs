//! The new root: an empty file system in memory into which only the profile's sources are moved.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
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
    /// The folder in which something was made last: what comes next is mostly beside it.
    last: Option<Folder>,
}

/// A folder in the new root.
struct Folder {
    path: PathBuf,
    fd: OwnedFd,
    /// Whether it is on a file system of ours.
    ours: bool,
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
    let mut root = Root { fd: root, own, last: None };

    for tmpfs in &profile.tmpfs {
        let mount =
            memory(tmpfs.bytes, tmpfs.inodes, "0700", owner).at_what(stage, || tmpfs.path.display().to_string())?;
        root.place(&tmpfs.path, &mount, true).at_what(stage, || tmpfs.path.display().to_string())?;
        root.own.insert(fstat(&mount).at(stage)?.st_dev);
    }
    let mut masks = Masks::new(owner);
    let mut hidden = profile.hidden.iter().peekable();
    for source in &sources.sources {
        // What hides comes after what it hides, and before what appears in it.
        while let Some(path) = hidden.next_if(|path| path.as_path() <= source.target()) {
            masks.cover(&mut root, path).at_what(stage, || format!("hiding {}", path.display()))?;
        }
        match source {
            Source::Tree { fd, target, folder, .. } => root.place(target, fd, *folder),
            Source::Link { target, to } => root.link(target, to),
        }
        .at_what(stage, || source.target().display().to_string())?;
    }
    for path in hidden {
        masks.cover(&mut root, path).at_what(stage, || format!("hiding {}", path.display()))?;
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
    masks.seal(&root).at_what(stage, || "making what hides read-only".to_owned())?;
    root.seal().at_what(stage, || "making the new root read-only".to_owned())?;
    pivot(root.fd.as_fd()).at_what(stage, || "pivot_root".to_owned())
}

/// What covers hidden files and folders.
struct Masks {
    owner: (u32, u32),
    /// The empty folders. What is bound below them appears in them, so they are made read-only at the end.
    folders: Vec<OwnedFd>,
    /// Folders that were hidden in the place of something in them.
    whole: Vec<PathBuf>,
    /// The file that nobody may read, as a detached mount of which copies are made.
    file: Option<OwnedFd>,
}

/// Where the unreadable file is made. It is gone before anything runs here; its mounts stay.
const BLANK: &str = ".hidden";

impl Masks {
    const fn new(owner: (u32, u32)) -> Self {
        Self { owner, folders: Vec::new(), whole: Vec::new(), file: None }
    }

    /// Covers what is at `path` inside. No symbolic link is followed: the path was canonical when it was named, so a link is
    /// something that was put there since.
    fn cover(&mut self, root: &mut Root, path: &Path) -> Result<(), Errno> {
        let relative = path.strip_prefix("/").map_err(|_| Errno::INVAL)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let onto = match openat2(&root.fd, relative, flags, Mode::empty(), INSIDE) {
            // In a folder that this user cannot search: that one is hidden as a whole.
            Err(Errno::ACCESS) if relative.components().count() > 1 => {
                let whole = path.parent().ok_or(Errno::INVAL)?;
                self.whole.push(whole.to_path_buf());
                return self.cover(root, whole);
            }
            Err(Errno::NOENT) if self.whole.iter().any(|whole| path.starts_with(whole)) => return Ok(()),
            other => other?,
        };
        match FileType::from_raw_mode(fstat(&onto)?.st_mode) {
            FileType::Symlink => Err(Errno::LOOP),
            FileType::Directory => {
                let mount = memory(4096, 4096, "0555", self.owner)?;
                put(&mount, &onto)?;
                root.own.insert(fstat(&mount)?.st_dev);
                // What was opened below it before is covered now.
                root.last = None;
                self.folders.push(mount);
                Ok(())
            }
            _ => put(&self.unreadable(root)?, &onto),
        }
    }

    /// A detached mount of a file without rights, on which none can be put.
    fn unreadable(&mut self, root: &Root) -> Result<OwnedFd, Errno> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(openat(&root.fd, BLANK, CREATE | OFlags::RDONLY, Mode::empty())?),
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = open_tree(&*file, "", flags)?;
        sys::set_mount_flags(mount.as_fd(), SEALED)?;
        Ok(mount)
    }

    fn seal(self, root: &Root) -> Result<(), Errno> {
        if self.file.is_some() {
            unlinkat(&root.fd, BLANK, AtFlags::empty())?;
        }
        self.folders.iter().try_for_each(|folder| sys::set_mount_flags(folder.as_fd(), SEALED))
    }
}

/// Mounts the detached `mount` on `onto`.
fn put(mount: &OwnedFd, onto: &OwnedFd) -> Result<(), Errno> {
    move_mount(mount, "", onto, "", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
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
    fn above<'a>(&mut self, path: &'a Path) -> Result<(&Folder, &'a OsStr), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let above = path.parent().unwrap_or(Path::new("/"));
        let folder = match self.last.take().filter(|last| last.path == above) {
            Some(last) => last,
            None => self.open(above)?,
        };
        Ok((self.last.insert(folder), name))
    }

    /// Opens the folder `path`, and makes what of it is missing.
    fn open(&self, path: &Path) -> Result<Folder, Errno> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let fd = match openat2(&self.fd, relative, FOLDER, Mode::empty(), INSIDE) {
            Err(Errno::NOENT) => {
                let above = self.open(path.parent().ok_or(Errno::INVAL)?)?;
                above.folder(path.file_name().ok_or(Errno::INVAL)?)?
            }
            other => other?,
        };
        let ours = self.own.contains(&fstat(&fd)?.st_dev);
        Ok(Folder { path: path.to_path_buf(), fd, ours })
    }

    /// Mounts `mount` at `path`, on a folder or an empty file that is made where it is missing.
    fn place(&mut self, path: &Path, mount: &OwnedFd, folder: bool) -> Result<(), Errno> {
        let (above, name) = self.above(path)?;
        let onto = if folder { above.folder(name)? } else { above.file(name)? };
        put(mount, &onto)?;
        if folder {
            // What was opened below it before is covered now.
            self.last = None;
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, to: &Path) -> Result<(), Errno> {
        let (above, name) = self.above(path)?;
        above.must_be_ours()?;
        symlinkat(to, &above.fd, name)
    }

    fn write(&mut self, path: &Path, content: &[u8]) -> Result<(), Errno> {
        let (above, name) = self.above(path)?;
        above.must_be_ours()?;
        // 0444, as the umask is 022 here: the program's own user may be another.
        let file = openat(&above.fd, name, CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o444))?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    fn seal(&self) -> Result<(), Errno> {
        sys::set_mount_flags(self.fd.as_fd(), SEALED)
    }
}

const SEALED: MountFlags = MountFlags { read_only: true, no_exec: true, no_dev: true, shallow: true };

/// Not out of the new root, and by no link.
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

const CREATE: OFlags = OFlags::CREATE.union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Folder {
    /// Nothing is ever made on a file system of the host.
    const fn must_be_ours(&self) -> Result<(), Errno> {
        if self.ours { Ok(()) } else { Err(Errno::ROFS) }
    }

    /// The folder `name` in it, made where it is missing.
    fn folder(&self, name: &OsStr) -> Result<OwnedFd, Errno> {
        if self.ours {
            match mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        openat(&self.fd, name, FOLDER, Mode::empty()).map_err(|errno| self.absent(errno))
    }

    /// The file `name` in it, made empty where it is missing, to mount on.
    fn file(&self, name: &OsStr) -> Result<OwnedFd, Errno> {
        if self.ours {
            match openat(&self.fd, name, CREATE | OFlags::RDONLY, Mode::from_raw_mode(0o444)) {
                Err(Errno::EXIST) => {}
                other => return other,
            }
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.fd, name, flags, Mode::empty()).map_err(|errno| self.absent(errno))
    }

    /// What is missing on a file system of the host cannot be made there.
    fn absent(&self, errno: Errno) -> Errno {
        if errno == Errno::NOENT && !self.ours { Errno::ROFS } else { errno }
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
