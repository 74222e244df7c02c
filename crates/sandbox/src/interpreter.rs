//! The interpreter of a script plugin: which program really runs, and the digest by which signed policy names it.
//!
//! A script's digest says nothing of what reads it. So the program behind `#!` is part of the plugin's tree, or signed policy
//! names its path and the SHA-256 of its content (what `sha256sum` prints), and the very file that was hashed is mounted for it.
//! What that program loads by itself, its libraries, is the system's.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;
use sigil_policy::{GrantPath, Interpreter as Endorsed};
use sigil_types::{Code, Digest, PluginName};

use crate::profile::TREE;

/// Bytes of a program that the kernel looks at (`BINPRM_BUF_SIZE` of `linux/binfmts.h`).
const LOOKED_AT: usize = 256;
/// Scripts that may be each other's interpreters, as many as the kernel follows.
const MAX_SCRIPTS: usize = 4;
/// Largest interpreter, in bytes.
const MAX_BYTES: i64 = 1 << 29;

/// The program outside the plugin's tree that reads a plugin's script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its name behind `#!`.
    pub named: GrantPath,
    /// The file behind that name: no part of this path is a link.
    pub source: PathBuf,
    /// The SHA-256 of its content.
    pub digest: Digest,
    /// What it was when it was hashed.
    state: State,
}

/// What changes when a file is replaced or written. The last change of an inode cannot be set back without being root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    dev: u64,
    ino: u64,
    size: i64,
    written: (i64, u64),
    changed: (i64, u64),
}

impl From<&Stat> for State {
    fn from(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size,
            written: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Why it is not known, or not allowed, what reads a plugin's script.
#[derive(Debug, thiserror::Error)]
pub enum InterpreterRefused {
    /// Something cannot be read.
    #[error("{path}: {source}; the program that a script names behind `#!` must be there")]
    Unreadable {
        /// What.
        path: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// The first line of a script.
    #[error(
        "the script {path} begins with a line that is not understood: {why}; write `#!`, one absolute path, arguments"
    )]
    Line {
        /// Which script.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// It looks for another program.
    #[error(
        "the script {0} names `env`, which looks for another program by its name: nobody could say which. Name the \
         interpreter itself, such as /usr/bin/python3"
    )]
    Env(PathBuf),
    /// What is there is no program.
    #[error("the interpreter {path} {why}; name another one behind `#!`")]
    Kind {
        /// Which.
        path: PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// Signed policy does not name it.
    #[error(
        "the signed policy does not endorse the interpreter of plugin {plugin}, {path} ({digest}); review it, add \
         {{ path = \"{path}\", digest = \"{digest}\" }} to plugins.{plugin}.interpreters and sign"
    )]
    NotEndorsed {
        /// Which plugin.
        plugin: PluginName,
        /// Its name behind `#!`.
        path: String,
        /// What it is now.
        digest: Digest,
    },
}

impl InterpreterRefused {
    /// The stable code of this error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unreadable { .. } => const { Code::new("sandbox.interpreter.file.unreadable") },
            Self::Line { .. } => const { Code::new("sandbox.interpreter.line.malformed") },
            Self::Env(_) => const { Code::new("sandbox.interpreter.env.refused") },
            Self::Kind { .. } => const { Code::new("sandbox.interpreter.file.wrong") },
            Self::NotEndorsed { .. } => const { Code::new("sandbox.interpreter.digest.not-endorsed") },
        }
    }
}

impl Interpreter {
    /// What reads `program`, a path below the tree whose root is the folder `tree`. `None`: it is no script, or the interpreter
    /// is in the tree itself.
    ///
    /// # Errors
    /// [`InterpreterRefused`], but for the endorsement, which is for [`Interpreter::endorsed`].
    pub fn of(tree: &Path, program: &Path) -> Result<Option<Self>, InterpreterRefused> {
        let unreadable = |path: &Path| {
            let path = path.to_path_buf();
            move |source| InterpreterRefused::Unreadable { path, source }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = openat(CWD, tree, flags, Mode::empty()).map_err(unreadable(tree))?;
        let mut program = program.to_path_buf();
        for _ in 0..=MAX_SCRIPTS {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            let file = openat2(&root, &program, flags, Mode::empty(), resolve).map_err(unreadable(&program))?;
            let mut buffer = [0; LOOKED_AT];
            let start = beginning(&file, &mut buffer).map_err(unreadable(&program))?;
            let line = |why| InterpreterRefused::Line { path: program.clone(), why };
            let Some(named) = named(start).map_err(line)? else { return Ok(None) };
            if let Ok(below) = named.as_path().strip_prefix(TREE) {
                program = below.to_path_buf();
                continue;
            }
            if named.as_path().file_name().is_some_and(|name| name == "env") {
                return Err(InterpreterRefused::Env(program));
            }
            return Self::read(named).map(Some);
        }
        Err(InterpreterRefused::Line { path: program, why: "more scripts read each other than the kernel follows" })
    }

    /// Opens and hashes the program behind `named`.
    fn read(named: GrantPath) -> Result<Self, InterpreterRefused> {
        let path = || named.as_path().to_path_buf();
        let unreadable = |source| InterpreterRefused::Unreadable { path: path(), source };
        let wrong = |why| InterpreterRefused::Kind { path: path(), why };
        let source = std::fs::canonicalize(named.as_path())
            .map_err(|error| unreadable(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        let file = open(&source).map_err(unreadable)?;
        let stat = fstat(&file).map_err(unreadable)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(wrong("is no file"));
        }
        if stat.st_size > MAX_BYTES {
            return Err(wrong("has more than 512 MiB"));
        }
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; 64 * 1024];
        let mut first = true;
        loop {
            let read = match rustix::io::read(&file, &mut buffer) {
                Ok(0) => break,
                Err(Errno::INTR) => continue,
                other => other.map_err(unreadable)?,
            };
            let read = buffer.get(..read).unwrap_or_default();
            if std::mem::take(&mut first) && read.starts_with(b"#!") {
                return Err(wrong("is itself a script"));
            }
            context.update(read);
        }
        let state = State::from(&stat);
        if state != State::from(&fstat(&file).map_err(unreadable)?) {
            return Err(wrong("changes while it is read"));
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Ok(Self { named, source, digest: Digest::from_bytes(digest), state })
    }

    /// Checks that `endorsed`, of the grant of `plugin`, has it.
    ///
    /// # Errors
    /// [`InterpreterRefused::NotEndorsed`], with what would have to be signed.
    pub fn endorsed(&self, plugin: &PluginName, endorsed: &[Endorsed]) -> Result<(), InterpreterRefused> {
        if endorsed.iter().any(|known| known.path == self.named && known.digest == self.digest) {
            return Ok(());
        }
        let path = self.named.as_str().to_owned();
        Err(InterpreterRefused::NotEndorsed { plugin: plugin.clone(), path, digest: self.digest })
    }

    /// Whether the file behind its name is still the one that was hashed, untouched.
    #[must_use]
    pub fn holds(&self) -> bool {
        let now = open(&self.source).and_then(fstat);
        std::fs::canonicalize(self.named.as_path()).is_ok_and(|source| source == self.source)
            && now.is_ok_and(|stat| State::from(&stat) == self.state)
    }

    /// Its device and inode.
    pub(crate) const fn file(&self) -> (u64, u64) {
        (self.state.dev, self.state.ino)
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS)
}

/// As many bytes of the beginning of `file` as the kernel looks at.
fn beginning<'a>(file: &OwnedFd, buffer: &'a mut [u8; LOOKED_AT]) -> Result<&'a [u8], Errno> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::read(file.as_fd(), rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(buffer.get(..filled).unwrap_or_default())
}

/// The program that `start`, the beginning of a file, names behind `#!`; `None` when the file is no script.
///
/// The kernel (`fs/binfmt_script.c`) passes over spaces and tabs, and reads the name up to the next one, to a NUL or to the end of
/// the line. What it reads in more than one way is refused.
fn named(start: &[u8]) -> Result<Option<GrantPath>, &'static str> {
    let Some(rest) = start.strip_prefix(b"#!") else { return Ok(None) };
    let line = match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => rest.get(..end).unwrap_or_default(),
        None if start.len() == LOOKED_AT => return Err("it is longer than 255 bytes"),
        None => rest,
    };
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let name = line.trim_start_matches([' ', '\t']);
    let name = name.split([' ', '\t']).next().unwrap_or_default();
    name.parse().map(Some).map_err(|_| "it names no absolute path in its one form")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Result<Option<String>, &'static str> {
        named(text.as_bytes()).map(|named| named.map(|path| path.as_str().to_owned()))
    }

    #[test]
    fn the_line_is_read_as_the_kernel_reads_it() {
        for (text, name) in [
            ("#!/bin/sh", "/bin/sh"),
            ("#!/bin/sh\n/bin/other", "/bin/sh"),
            ("#! \t/bin/sh -e x\n", "/bin/sh"),
            ("#!/usr/bin/python3.11\t-I\n", "/usr/bin/python3.11"),
        ] {
            assert_eq!(line(text), Ok(Some(name.to_owned())), "{text:?}");
        }
        assert_eq!(line("\u{7f}ELF"), Ok(None));
        assert_eq!(line(""), Ok(None));
        for text in ["#!", "#!\n/bin/sh", "#!sh", "#!/bin/../sh", "#!/bin/sh\0x", "#!/bin/sh\r\n", "#!/", "#!//bin/sh"]
        {
            assert!(line(text).is_err(), "{text:?}");
        }
        assert!(line(&format!("#!/{}", "x".repeat(300))).is_ok(), "not cut yet");
        assert!(line(&format!("#!/{}", "x".repeat(LOOKED_AT - 3))).is_err(), "the kernel would see a part of it");
        assert!(named(b"#!/bin/\xff\n").is_err());
    }

    fn tree(program: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tool"), program).unwrap();
        folder
    }

    fn of(folder: &tempfile::TempDir) -> Result<Option<Interpreter>, InterpreterRefused> {
        Interpreter::of(folder.path(), Path::new("tool"))
    }

    #[test]
    fn an_interpreter_is_known_by_path_and_content() {
        let place = tempfile::tempdir().unwrap();
        let (real, link) = (place.path().join("real"), place.path().join("link"));
        fs::write(&real, "a program").unwrap();
        symlink(&real, &link).unwrap();
        let folder = tree(&format!("#!{} -x\n", link.display()));
        let found = of(&folder).unwrap().unwrap();
        assert_eq!((found.named.as_path(), &found.source), (link.as_path(), &fs::canonicalize(&real).unwrap()));
        assert_eq!(found.digest, Digest::of(b"a program"));
        assert!(found.holds());

        let plugin: PluginName = "probe".parse().unwrap();
        let entry = |path: &Path, text: &[u8]| Endorsed {
            path: path.to_str().unwrap().parse().unwrap(),
            digest: Digest::of(text),
        };
        assert!(found.endorsed(&plugin, &[entry(&real, b"x"), entry(&link, b"a program")]).is_ok());
        for wrong in [vec![], vec![entry(&link, b"another")], vec![entry(&real, b"a program")]] {
            let refused = found.endorsed(&plugin, &wrong).unwrap_err();
            assert!(refused.to_string().contains(&found.digest.to_string()), "what is to be signed is said: {refused}");
        }
        fs::write(&real, "b program").unwrap();
        assert!(!found.holds(), "written");
        let again = of(&folder).unwrap().unwrap();
        fs::remove_file(&link).unwrap();
        fs::write(&link, "b program").unwrap();
        assert!(!again.holds(), "another file of the same content behind the name");
    }

    #[test]
    fn what_cannot_be_said_for_sure_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let script = place.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let folder = tree(&format!("#!{}\n", script.display()));
        assert!(of(&folder).unwrap_err().to_string().contains("itself a script"));
        assert!(matches!(of(&tree("#!/usr/bin/env python3\n")), Err(InterpreterRefused::Env(_))));
        assert!(matches!(of(&tree("#!/nowhere/at-all\n")), Err(InterpreterRefused::Unreadable { .. })));
        assert!(of(&tree("#!/usr\n")).unwrap_err().to_string().contains("no file"));
        assert!(of(&tree("a program")).unwrap().is_none());

        let folder = tree("#!/plugin/bin/own x\n");
        fs::create_dir(folder.path().join("bin")).unwrap();
        assert!(matches!(of(&folder), Err(InterpreterRefused::Unreadable { .. })));
        fs::write(folder.path().join("bin/own"), "a program").unwrap();
        assert!(of(&folder).unwrap().is_none(), "it is part of the tree");
        fs::write(folder.path().join("bin/own"), "#!/bin/sh\n").unwrap();
        assert!(of(&folder).unwrap().is_some(), "what reads it is not");
        fs::write(folder.path().join("bin/own"), "#!/plugin/tool\n").unwrap();
        assert!(of(&folder).unwrap_err().to_string().contains("kernel follows"));
        fs::remove_file(folder.path().join("bin/own")).unwrap();
        symlink("/bin/true", folder.path().join("bin/own")).unwrap();
        assert!(
            matches!(of(&folder), Err(InterpreterRefused::Unreadable { .. })),
            "no link out of the tree is followed"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_named_is_one_absolute_path(bytes in prop::collection::vec(any::<u8>(), 0..LOOKED_AT), script: bool) {
            let mut start = if script { b"#!".to_vec() } else { Vec::new() };
            start.extend(bytes);
            start.truncate(LOOKED_AT);
            if let Ok(Some(path)) = named(&start) {
                prop_assert!(start.starts_with(b"#!"));
                prop_assert!(path.as_str().starts_with('/') && !path.as_str().contains(['\0', '\n', ' ', '\t']));
            }
        }
    }
}
