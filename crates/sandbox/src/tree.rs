//! The digest of a plugin's file tree: one hash that says what every file in it contains.
//!
//! The form, version 1. Each digest is SHA-256 over a label, a zero byte, and:
//!
//! * a file (`sigil-tree/1 file`): its content;
//! * a symbolic link (`sigil-tree/1 link`): its target;
//! * a folder (`sigil-tree/1 folder`): for each entry, in the order of the names' bytes: one byte for its kind (`f` file,
//!   `x` executable file, `l` link, `d` folder), the length of its name as four bytes little-endian, its name, and the 32
//!   bytes of its digest.
//!
//! The tree's digest is that of its root folder. Owners, times and other mode bits are not part of it: what is executed
//! does not depend on them. A tree holds nothing else: a device, a socket, a set-user-id file, a link that leads out, or a
//! name that is not UTF-8 is refused, by the installer as by the launcher.
//!
//! A tree that is to be launched must also be its owner's alone ([`hash_installed`]): what others could write, by its mode or
//! by another name of the same file, could be changed after it was hashed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use ring::digest::{Context, SHA256};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use sigil_types::{Code, Digest};

/// Most entries of a tree, folders included.
pub const MAX_ENTRIES: u64 = 200_000;
/// Most bytes of all files of a tree: 4 GiB.
pub const MAX_BYTES: u64 = 4 << 30;
/// Most folders in each other.
pub const MAX_DEPTH: usize = 64;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A tree that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Its digest.
    pub digest: Digest,
    /// Its entries, folders included, without the root.
    pub entries: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// The device of its root folder.
    pub dev: u64,
    /// The inode of its root folder.
    pub ino: u64,
}

/// Why a tree has no digest.
#[derive(Debug, thiserror::Error)]
pub enum HashTree {
    /// Something could not be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// What, below the root.
        path: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// Something that a tree never holds.
    #[error("{path}: {what}; take it out of the plugin's tree")]
    Forbidden {
        /// What, below the root.
        path: PathBuf,
        /// Why not.
        what: &'static str,
    },
    /// Too much of everything.
    #[error("the tree has more than {0}; a plugin's tree is smaller")]
    TooLarge(&'static str),
}

impl HashTree {
    /// The stable code of this error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unreadable { .. } => const { Code::new("sandbox.tree.entry.unreadable") },
            Self::Forbidden { .. } => const { Code::new("sandbox.tree.entry.forbidden") },
            Self::TooLarge(_) => const { Code::new("sandbox.tree.size.exceeded") },
        }
    }
}

/// The name of the folder of a tree in the plugin store: `sha256-` and 64 hexadecimal digits.
#[must_use]
pub fn folder_name(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}

/// Hashes the tree whose root is the folder `root`. No symbolic link is followed, `root` itself included.
///
/// # Errors
/// [`HashTree`], naming the first entry that is wrong.
pub fn hash(root: &Path) -> Result<Tree, HashTree> {
    Walk::new(None).tree(root)
}

/// Hashes a tree that is to be launched, and gives the bytes of the file `keep` of its root folder as they were hashed: at
/// most `most` of them.
///
/// # Errors
/// [`HashTree`]; also when there is no such file, when it is a link or longer, and when something in the tree belongs to others
/// than root and this user, can be written by others, or is a file with another name elsewhere (a hard link).
pub fn hash_installed(root: &Path, keep: &str, most: usize) -> Result<(Tree, Vec<u8>), HashTree> {
    let mut walk = Walk::new(Some(Kept { name: keep, most, bytes: None }));
    let tree = walk.tree(root)?;
    let kept = walk.kept.and_then(|kept| kept.bytes);
    let missing = || HashTree::Unreadable { path: root.join(keep), source: Errno::NOENT };
    Ok((tree, kept.ok_or_else(missing)?))
}

struct Walk<'a> {
    entries: u64,
    bytes: u64,
    buffer: Vec<u8>,
    /// Set for a tree that is to be launched.
    kept: Option<Kept<'a>>,
}

/// A file whose bytes are kept.
struct Kept<'a> {
    name: &'a str,
    most: usize,
    bytes: Option<Vec<u8>>,
}

impl<'a> Walk<'a> {
    fn new(kept: Option<Kept<'a>>) -> Self {
        Self { entries: 0, bytes: 0, buffer: vec![0; 32 * 1024], kept }
    }

    fn tree(&mut self, root: &Path) -> Result<Tree, HashTree> {
        let unreadable = |source| HashTree::Unreadable { path: root.to_path_buf(), source };
        let folder = openat(CWD, root, FOLDER, Mode::empty()).map_err(unreadable)?;
        let stat = fstat(&folder).map_err(unreadable)?;
        let digest = self.folder(folder, &mut PathBuf::new())?;
        Ok(Tree { digest, entries: self.entries, bytes: self.bytes, dev: stat.st_dev, ino: stat.st_ino })
    }

    /// Checks that nobody else can write what is to be launched.
    fn own(&self, stat: &Stat, path: &Path) -> Result<(), HashTree> {
        if self.kept.is_none() {
            return Ok(());
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(forbidden(path, "others may write it (chmod go-w)"));
        }
        if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(forbidden(path, "it belongs to another user"));
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink != 1 {
            return Err(forbidden(path, "a file that has another name, through which it could be changed"));
        }
        Ok(())
    }
}

fn labelled(label: &str) -> Context {
    let mut context = Context::new(&SHA256);
    context.update(label.as_bytes());
    context.update(&[0]);
    context
}

fn finish(context: Context) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Digest::from_bytes(bytes)
}

impl Walk<'_> {
    fn folder(&mut self, folder: OwnedFd, path: &mut PathBuf) -> Result<Digest, HashTree> {
        if path.components().count() > MAX_DEPTH {
            return Err(HashTree::TooLarge("64 folders in each other"));
        }
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |source| HashTree::Unreadable { path, source }
        };
        self.own(&fstat(&folder).map_err(at(path))?, path)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder).map_err(at(path))? {
            let entry = entry.map_err(at(path))?;
            let name = entry.file_name();
            if name.to_bytes() == b"." || name.to_bytes() == b".." {
                continue;
            }
            let name = name.to_str().map_err(|_| forbidden(path, "a name that is not UTF-8"))?.to_owned();
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(HashTree::TooLarge("200000 entries"));
            }
            names.push(name);
        }
        names.sort_unstable();
        let mut context = labelled("sigil-tree/1 folder");
        for name in names {
            path.push(&name);
            let (kind, digest) = self.entry(&folder, &name, path)?;
            path.pop();
            let length = u32::try_from(name.len()).map_err(|_| HashTree::TooLarge("4 GiB in a name"))?;
            context.update(&[kind]);
            context.update(&length.to_le_bytes());
            context.update(name.as_bytes());
            context.update(digest.as_bytes());
        }
        Ok(finish(context))
    }

    fn entry(&mut self, folder: &OwnedFd, name: &str, path: &mut PathBuf) -> Result<(u8, Digest), HashTree> {
        let unreadable = |path: &Path, source| HashTree::Unreadable { path: path.to_path_buf(), source };
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|source| unreadable(path, source))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let inner = openat(folder, name, FOLDER, Mode::empty()).map_err(|source| unreadable(path, source))?;
                Ok((b'd', self.folder(inner, path)?))
            }
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new()).map_err(|source| unreadable(path, source))?;
                let text = target.to_str().map_err(|_| forbidden(path, "a link whose target is not UTF-8"))?;
                if !stays_inside(path, Path::new(text)) {
                    return Err(forbidden(path, "a symbolic link that leads out of the tree"));
                }
                let mut context = labelled("sigil-tree/1 link");
                context.update(text.as_bytes());
                Ok((b'l', finish(context)))
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let file = openat(folder, name, flags, Mode::empty()).map_err(|source| unreadable(path, source))?;
                // Of the opened file: the entry may have been replaced since it was looked at.
                let stat = fstat(&file).map_err(|source| unreadable(path, source))?;
                let changed = || forbidden(path, "something that changes while it is read");
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(changed());
                }
                if stat.st_mode & 0o6000 != 0 {
                    return Err(forbidden(path, "a set-user-id or set-group-id file"));
                }
                self.own(&stat, path)?;
                let digest =
                    self.file(&file, path).map_err(|error| error.unwrap_or_else(|source| unreadable(path, source)))?;
                let after = fstat(&file).map_err(|source| unreadable(path, source))?;
                let state =
                    |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
                if state(&stat) != state(&after) {
                    return Err(changed());
                }
                Ok((if stat.st_mode & 0o111 == 0 { b'f' } else { b'x' }, digest))
            }
            _ => Err(forbidden(path, "neither file, folder nor symbolic link")),
        }
    }

    fn file(&mut self, file: &OwnedFd, path: &Path) -> Result<Digest, Result<HashTree, Errno>> {
        let mut context = labelled("sigil-tree/1 file");
        let mut keep = self.kept.as_mut().filter(|kept| path == Path::new(kept.name));
        if let Some(kept) = &mut keep {
            kept.bytes = Some(Vec::new());
        }
        loop {
            let read = match rustix::io::read(file.as_fd(), &mut self.buffer) {
                Ok(0) => return Ok(finish(context)),
                Err(Errno::INTR) => continue,
                other => other.map_err(Err)?,
            };
            self.bytes = self.bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            if self.bytes > MAX_BYTES {
                return Err(Ok(HashTree::TooLarge("4 GiB")));
            }
            let read = self.buffer.get(..read).unwrap_or_default();
            context.update(read);
            if let Some((bytes, most)) = keep.as_mut().and_then(|kept| Some((kept.bytes.as_mut()?, kept.most))) {
                if bytes.len() + read.len() > most {
                    return Err(Ok(forbidden(path, "longer than such a file may be")));
                }
                bytes.extend_from_slice(read);
            }
        }
    }
}

fn forbidden(path: &Path, what: &'static str) -> HashTree {
    HashTree::Forbidden { path: path.to_path_buf(), what }
}

/// Whether the link at `path` (below the root) to `target` stays in the tree, wherever the other links of the tree lead:
/// `..` stands only at its beginning, where it climbs from the folder of the link itself. Behind a name it would climb from
/// where that name leads, which may be a link.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let folders = path.components().count().saturating_sub(1);
    let steps: Vec<Component<'_>> = target.components().filter(|part| *part != Component::CurDir).collect();
    let up = steps.iter().take_while(|part| **part == Component::ParentDir).count();
    up <= folders && steps.iter().skip(up).all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::write(folder.path().join("bin/tool"), b"#!/bin/sh\n").unwrap();
        fs::write(folder.path().join("plugin.yaml"), b"name: tool\n").unwrap();
        symlink("tool", folder.path().join("bin/alias")).unwrap();
        folder
    }

    #[test]
    fn the_digest_is_the_documented_one() {
        let folder = tree();
        fs::set_permissions(folder.path().join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        let part = |label: &str, body: &[u8]| Digest::of_parts([label.as_bytes(), &[0][..], body]);
        let entry = |kind: u8, name: &str, digest: Digest| {
            [&[kind][..], &u32::try_from(name.len()).unwrap().to_le_bytes(), name.as_bytes(), digest.as_bytes()]
                .concat()
        };
        let bin = [
            entry(b'l', "alias", part("sigil-tree/1 link", b"tool")),
            entry(b'x', "tool", part("sigil-tree/1 file", b"#!/bin/sh\n")),
        ];
        let root = [
            entry(b'd', "bin", part("sigil-tree/1 folder", &bin.concat())),
            entry(b'f', "plugin.yaml", part("sigil-tree/1 file", b"name: tool\n")),
        ];
        let hashed = hash(folder.path()).unwrap();
        assert_eq!(hashed.digest, part("sigil-tree/1 folder", &root.concat()));
        assert_eq!((hashed.entries, hashed.bytes), (4, 21));
        assert!(folder_name(&hashed.digest).starts_with("sha256-"));
    }

    #[test]
    fn every_change_changes_it() {
        let folder = tree();
        let before = hash(folder.path()).unwrap().digest;
        let changes: [&dyn Fn(&Path); 6] = [
            &|at| fs::write(at.join("bin/tool"), b"#!/bin/sh\n#").unwrap(),
            &|at| fs::write(at.join("bin/new"), b"").unwrap(),
            &|at| fs::rename(at.join("bin/tool"), at.join("bin/tools")).unwrap(),
            &|at| fs::set_permissions(at.join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap(),
            &|at| fs::create_dir(at.join("empty")).unwrap(),
            &|at| {
                fs::remove_file(at.join("bin/alias")).unwrap();
                symlink("./tool", at.join("bin/alias")).unwrap();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            let folder = tree();
            assert_eq!(hash(folder.path()).unwrap().digest, before);
            change(folder.path());
            assert_ne!(hash(folder.path()).unwrap().digest, before, "change {number}");
        }
    }

    #[test]
    fn what_leads_out_or_is_no_file_is_refused() {
        for target in
            ["/etc/passwd", "../../x", "../..", "tool/..", "x/../y", "../bin/../x", "s/s/../../../x", "./../../x"]
        {
            let folder = tree();
            symlink(target, folder.path().join("bin/out")).unwrap();
            assert!(matches!(hash(folder.path()), Err(HashTree::Forbidden { .. })), "{target}");
        }
        let folder = tree();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert!(matches!(hash(folder.path()), Err(HashTree::Forbidden { .. })));
        let folder = tree();
        fs::set_permissions(folder.path().join("bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        assert!(matches!(hash(folder.path()), Err(HashTree::Forbidden { .. })));
        let link = tree();
        symlink(folder.path(), link.path().join("root")).unwrap();
        assert!(matches!(hash(&link.path().join("root")), Err(HashTree::Unreadable { .. })));
    }

    #[test]
    fn a_link_through_a_link_does_not_climb_out() {
        // By its text `up/up/../../secret` stays; by way of `up`, which leads to its own folder, it would not.
        let folder = tree();
        symlink(".", folder.path().join("up")).unwrap();
        hash(folder.path()).expect("a link to its own folder");
        symlink("up/up/../../secret", folder.path().join("out")).unwrap();
        assert!(matches!(hash(folder.path()), Err(HashTree::Forbidden { .. })));
        for target in ["../plugin.yaml", "../bin", "..", "./tool", "up/bin/tool"] {
            let folder = tree();
            symlink(target, folder.path().join("bin/fine")).unwrap();
            hash(folder.path()).expect(target);
        }
    }

    fn installed(folder: &Path) -> Result<Vec<u8>, HashTree> {
        hash_installed(folder, "plugin.yaml", 64).map(|(_, kept)| kept)
    }

    #[test]
    fn a_tree_to_launch_is_its_owner_s_alone() {
        let folder = tree();
        assert_eq!(installed(folder.path()).unwrap(), b"name: tool\n");
        let same = hash_installed(folder.path(), "plugin.yaml", 64).unwrap().0;
        assert_eq!(same, hash(folder.path()).unwrap());

        let outside = tempfile::tempdir().unwrap();
        type Change<'a> = (&'a str, &'a dyn Fn(&Path));
        let others: [Change<'_>; 6] = [
            ("another name", &|at| fs::hard_link(at.join("bin/tool"), outside.path().join("also")).unwrap()),
            ("others may write", &|at| mode(&at.join("bin/tool"), 0o664)),
            ("others may write", &|at| mode(&at.join("bin"), 0o757)),
            ("others may write", &|at| mode(at, 0o775)),
            ("longer", &|at| fs::write(at.join("plugin.yaml"), [b' '; 65]).unwrap()),
            ("No such file", &|at| {
                fs::rename(at.join("plugin.yaml"), at.join("bin/plugin.yaml")).unwrap();
                symlink("bin/plugin.yaml", at.join("plugin.yaml")).unwrap();
            }),
        ];
        for (why, change) in others {
            let folder = tree();
            change(folder.path());
            let refused = installed(folder.path()).expect_err(why).to_string();
            assert!(refused.contains(why), "{why}: {refused}");
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path().join("bin/tool"), Some(4711), None).unwrap();
            assert!(installed(folder.path()).unwrap_err().to_string().contains("another user"));
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        use std::os::unix::fs::FileExt;
        use std::sync::atomic::{AtomicBool, Ordering};
        let folder = tree();
        let file = fs::File::create(folder.path().join("large")).unwrap();
        file.set_len(64 << 20).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (writes, writer) = std::sync::mpsc::channel();
            scope.spawn(|| {
                let writes = writes;
                while !ended.load(Ordering::Relaxed) {
                    file.write_all_at(b"x", 1 << 20).unwrap();
                    let _ = writes.send(());
                }
            });
            writer.recv().unwrap();
            let refused = hash(folder.path());
            ended.store(true, Ordering::Relaxed);
            assert!(matches!(refused, Err(HashTree::Forbidden { .. })), "{refused:?}");
        });
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}
