//! Opening files below a granted folder, step by step, without following a symbolic link anywhere.
//!
//! `openat2(2)` would do it in one call; the sandbox's system call filter does not have it, because the filter cannot see
//! its flags. So each component is opened with `O_NOFOLLOW`, relative to the one before.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use sigil_sdk::{Context, Folder, ToolFailed};

/// The parameter of the manifest under which folders are granted.
pub(crate) const PARAM: &str = "folders";

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A place below a granted folder.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// The path for people: the whole of it.
    pub(crate) shown: String,
    /// The granted folder.
    pub(crate) folder: &'a Folder,
    /// The components below it: names only. Empty for the folder itself.
    names: Vec<String>,
}

impl<'a> Place<'a> {
    /// Finds the granted folder of a path that a model wrote.
    pub(crate) fn find(context: &'a Context, path: &'a str) -> Result<Self, ToolFailed> {
        let folders = context.folders(PARAM);
        if path.contains('\0') || path.len() > 4096 {
            return Err("a path has at most 4096 characters and no NUL".into());
        }
        let path = Path::new(path);
        let (folder, rest) = match (path.is_absolute(), folders) {
            (_, []) => return Err("no folder is granted to this plugin".into()),
            (true, _) => context.folder_of(PARAM, path).ok_or_else(|| outside(folders))?,
            (false, [only]) => (only, path),
            (false, _) => return Err(outside(folders)),
        };
        let mut names = Vec::new();
        for part in rest.components() {
            match part {
                Component::Normal(name) => {
                    names.push(name.to_str().ok_or("the path is not UTF-8")?.to_owned());
                }
                Component::CurDir => {}
                _ => return Err("`..` is not understood here: name the path from the granted folder down".into()),
            }
        }
        let mut shown = folder.path.display().to_string();
        for name in &names {
            shown.push('/');
            shown.push_str(name);
        }
        Ok(Self { shown, folder, names })
    }

    /// Opens the place as a folder.
    pub(crate) fn open_folder(&self) -> Result<OwnedFd, ToolFailed> {
        self.walk(&self.names)
    }

    /// Opens the place's parent, and returns its last name.
    pub(crate) fn open_parent(&self) -> Result<(OwnedFd, &str), ToolFailed> {
        let (name, parents) = self.names.split_last().ok_or("this is the granted folder itself, not a file in it")?;
        Ok((self.walk(parents)?, name))
    }

    fn walk(&self, names: &[String]) -> Result<OwnedFd, ToolFailed> {
        let mut at = rustix::fs::open(&self.folder.path, FOLDER, Mode::empty()).map_err(|errno| self.failed(errno))?;
        for name in names {
            at = openat(&at, name.as_str(), FOLDER, Mode::empty()).map_err(|errno| self.failed(errno))?;
        }
        Ok(at)
    }

    /// The error of a system call, in words that help.
    pub(crate) fn failed(&self, errno: Errno) -> ToolFailed {
        let why = match errno {
            Errno::NOENT => "does not exist",
            Errno::LOOP => "is, or leads through, a symbolic link; links are not followed",
            Errno::NOTDIR => "is, or leads through, something that is not a folder (links are not followed)",
            Errno::ISDIR => "is a folder",
            Errno::EXIST => "exists already; use the mode `replace` or `append`",
            Errno::ACCESS | Errno::PERM => "may not be accessed",
            Errno::ROFS => "is in a folder that is granted for reading only",
            Errno::NOSPC | Errno::DQUOT => "cannot be written: no space is left",
            _ => return ToolFailed(format!("{}: {errno}", self.shown)),
        };
        ToolFailed(format!("{} {why}", self.shown))
    }
}

fn outside(folders: &[Folder]) -> ToolFailed {
    let granted: Vec<String> = folders.iter().map(|folder| folder.path.display().to_string()).collect();
    ToolFailed(format!("the path is in no granted folder; the granted folders are: {}", granted.join(", ")))
}

/// Opens a regular file for reading. A pipe or device that somebody put there is refused, without waiting for it.
pub(crate) fn open_file(parent: &OwnedFd, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = openat(parent, name, flags, Mode::empty())?;
    match rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        rustix::fs::FileType::RegularFile => Ok(File::from(file)),
        rustix::fs::FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::ACCESS),
    }
}

/// Opens a folder below another.
pub(crate) fn open_subfolder(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    openat(parent, name, FOLDER, Mode::empty())
}
