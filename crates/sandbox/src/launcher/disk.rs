//! [`Disk`]: how much there is in folders that a program writes, found out a little at a time.
//!
//! A look visits a bounded number of entries and the next one goes on from there, so that no folder, however large, keeps the
//! launcher from its other work. Nothing in the folders is opened but folders, no link is followed and no other file system
//! entered.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};
use rustix::io::Errno;

use crate::confine::Mounts;
use crate::profile::{Access, Profile, Scratch};

/// Entries in one look: a few milliseconds.
const ENTRIES: usize = 1000;
/// What the entry of a file costs beside its content, in bytes.
const ENTRY: u64 = 512;
/// The most folders that wait to be looked into.
const WAITING: usize = 100_000;
/// The longest path below a folder: what lies deeper cannot be opened, and is not looked at.
const DEEPEST: usize = 3500;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Folders whose content is added up.
pub(super) struct Disk {
    folders: Vec<OwnedFd>,
    /// What was there at first; nothing until that is known.
    first: Option<u64>,
    allowed: u64,
    entries: u64,
    last: u64,
    pass: Pass,
}

/// One adding up, as far as it has come.
#[derive(Default)]
struct Pass {
    bytes: u64,
    entries: u64,
    /// Folders, by number and path below it.
    waiting: Vec<(usize, PathBuf)>,
    open: Option<(usize, PathBuf, Dir)>,
    begun: bool,
}

impl Disk {
    /// The folders of the host that `profile` lets a program write; they may grow by `allowed` bytes. None, if there are none, or
    /// when one lies on another machine, where looking could take for ever.
    pub(super) fn of_folders(profile: &Profile, allowed: u64) -> Option<Self> {
        let sources =
            profile.binds.iter().filter(|bind| bind.access == Access::Write).map(|bind| bind.source.as_path());
        let sources: Vec<&Path> = sources.collect();
        if sources.is_empty() {
            return None;
        }
        let mounts = Mounts::read().ok()?;
        let folders = sources.iter().filter(|path| mounts.is_local(path)).filter_map(|path| open(path).ok()).collect();
        Self::of(folders, None, allowed, u64::MAX)
    }

    /// A folder that was empty, with what it may hold.
    pub(super) fn of_scratch(scratch: &Scratch) -> Option<Self> {
        Self::of(vec![open(&scratch.path).ok()?], Some(0), scratch.bytes, scratch.inodes)
    }

    fn of(folders: Vec<OwnedFd>, first: Option<u64>, allowed: u64, entries: u64) -> Option<Self> {
        let disk = Self { folders, first, allowed, entries, last: first.unwrap_or(0), pass: Pass::default() };
        (!disk.folders.is_empty()).then_some(disk)
    }

    /// By how much they have grown, as of the last time that all was added up; nothing before the first time.
    pub(super) fn grown(&self) -> Option<u64> {
        self.first.map(|first| self.last.saturating_sub(first))
    }

    /// Looks on, and says whether there is too much.
    pub(super) fn is_over(&mut self) -> bool {
        let most = self.first.map_or(u64::MAX, |first| first.saturating_add(self.allowed));
        for _ in 0..ENTRIES {
            match self.step() {
                Ok(true) => {}
                Ok(false) => {
                    self.last = self.pass.bytes;
                    self.first = self.first.or(Some(self.pass.bytes));
                    self.pass = Pass::default();
                    return false;
                }
                // Nested so deep, or so wide, that it cannot be looked at: what was so before is not the program's doing.
                Err(Errno::NAMETOOLONG) => {
                    self.pass = Pass::default();
                    return self.first.is_some();
                }
                Err(_) => {}
            }
            if self.pass.bytes > most || self.pass.entries > self.entries {
                self.last = self.pass.bytes;
                return true;
            }
        }
        false
    }

    /// One entry. Says whether there is more.
    fn step(&mut self) -> Result<bool, Errno> {
        let pass = &mut self.pass;
        if !pass.begun {
            pass.begun = true;
            pass.waiting = (0..self.folders.len()).map(|number| (number, PathBuf::from("."))).collect();
        }
        let Some((number, path, folder)) = &mut pass.open else {
            let Some((number, path)) = pass.waiting.pop() else { return Ok(false) };
            let root = self.folders.get(number).ok_or(Errno::BADF)?;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            // A folder that is gone meanwhile, or that it may not read, is left out.
            let fd = openat2(root, &path, FOLDER, Mode::empty(), resolve)?;
            pass.open = Some((number, path, Dir::new(fd)?));
            return Ok(true);
        };
        let Some(Ok(entry)) = folder.next() else {
            // Its end, or what of it cannot be read.
            pass.open = None;
            return Ok(true);
        };
        let name = entry.file_name();
        if [&b"."[..], b".."].contains(&name.to_bytes()) {
            return Ok(true);
        }
        let stat = statat(folder.fd()?.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
        // What is on the disk, not the size that a sparse file pretends to have.
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        pass.bytes = pass.bytes.saturating_add(blocks).saturating_add(ENTRY);
        pass.entries += 1;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let below = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            if below.as_os_str().len() > DEEPEST || pass.waiting.len() > WAITING {
                return Err(Errno::NAMETOOLONG);
            }
            pass.waiting.push((*number, below));
        }
        Ok(true)
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    openat2(CWD, path, FOLDER, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &Path, first: Option<u64>, allowed: u64, entries: u64) -> Disk {
        Disk::of(vec![open(path).expect("a folder")], first, allowed, entries).expect("a disk")
    }

    /// Looks until all was added up once.
    fn whole(disk: &mut Disk) -> bool {
        loop {
            if disk.is_over() {
                return true;
            }
            if !disk.pass.begun {
                return false;
            }
        }
    }

    #[test]
    fn what_grows_beyond_the_limit_is_seen_wherever_it_lies() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("a/b/c");
        std::fs::create_dir_all(&deep).expect("folders");
        std::fs::write(deep.join("before"), vec![1; 200_000]).expect("a file");
        let mut disk = disk(folder.path(), None, 100_000, u64::MAX);
        assert!(!whole(&mut disk) && disk.grown() == Some(0), "what was there before is not counted");
        std::fs::write(deep.join("new"), vec![1; 50_000]).expect("a file");
        std::os::unix::fs::symlink("/usr", folder.path().join("link")).expect("a link");
        std::fs::File::create(deep.join("sparse")).and_then(|file| file.set_len(1 << 40)).expect("a file");
        assert!(
            !whole(&mut disk) && disk.grown().is_some_and(|bytes| (50_000..90_000).contains(&bytes)),
            "{:?}",
            disk.grown()
        );
        std::fs::write(deep.join("more"), vec![1; 80_000]).expect("a file");
        assert!(whole(&mut disk));
    }

    #[test]
    fn many_small_files_and_names_that_are_no_text_are_too_much() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = disk(folder.path(), Some(0), 1 << 30, 100);
        let strange = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
        std::fs::create_dir(&strange).expect("a folder");
        for number in 0..98 {
            std::fs::write(strange.join(number.to_string()), "").expect("a file");
        }
        assert!(!whole(&mut disk));
        for number in 0..3000 {
            std::fs::write(strange.join(format!("more-{number}")), "").expect("a file");
        }
        assert!(whole(&mut disk));
    }

    #[test]
    fn what_is_nested_too_deep_to_be_looked_at_is_too_much() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = disk(folder.path(), Some(0), 1 << 30, 1000);
        let mut at = open(folder.path()).expect("a folder");
        let name = "n".repeat(250);
        for _ in 0..20 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).expect("a folder");
            at = rustix::fs::openat(&at, &name, FOLDER, Mode::empty()).expect("it");
        }
        assert!(whole(&mut disk));
    }
}
