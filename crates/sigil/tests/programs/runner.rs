//! Starting `sigil sandbox run`, plainly or with its system calls recorded, and what is needed for it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::trace::{self, Call};

/// How programs are started.
pub struct Runner {
    /// What the programs called, when that is recorded.
    recorded: Option<RefCell<BTreeSet<Call>>>,
}

/// A program's end.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Runner {
    pub const fn plain() -> Self {
        Self { recorded: None }
    }

    pub const fn recording() -> Self {
        Self { recorded: Some(RefCell::new(BTreeSet::new())) }
    }

    /// What was recorded so far.
    pub fn calls(&self) -> BTreeSet<Call> {
        self.recorded.as_ref().map(|calls| calls.borrow().clone()).unwrap_or_default()
    }

    /// A command under the base profile `profile`.
    pub fn sandbox(&self, profile: &str) -> Sandbox<'_> {
        let options = vec!["--profile".to_owned(), profile.to_owned()];
        Sandbox { runner: self, options, input: String::new(), until: None, folder: None }
    }
}

/// One command in the sandbox, while its options are put together.
pub struct Sandbox<'a> {
    runner: &'a Runner,
    options: Vec<String>,
    input: String,
    until: Option<String>,
    folder: Option<PathBuf>,
}

impl Sandbox<'_> {
    fn option(mut self, name: &str, value: &str) -> Self {
        self.options.extend([name.to_owned(), value.to_owned()]);
        self
    }

    pub fn read(self, path: &Path) -> Self {
        self.option("--read", text(path))
    }

    pub fn exec(self, path: &Path) -> Self {
        self.option("--exec", text(path))
    }

    pub fn write(self, path: &Path) -> Self {
        self.option("--write", text(path))
    }

    /// Lets it reach `address`, and nothing else, through the proxy.
    pub fn reach(self, address: SocketAddr) -> Self {
        self.option("--allow-host", &address.to_string())
    }

    /// What it reads from its standard input.
    pub fn input(mut self, input: &str) -> Self {
        self.input = input.to_owned();
        self
    }

    /// As [`Self::input`], which ends only when a line of its output has `words` in it.
    pub fn input_until(mut self, input: &str, words: &str) -> Self {
        self.until = Some(words.to_owned());
        self.input(input)
    }

    /// The working directory, which must be granted.
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    pub fn run<S: AsRef<str>>(self, command: &[S]) -> Ran {
        let recorded = self.runner.recorded.as_ref().map(|_| tempfile::NamedTempFile::new().expect("a file"));
        let mut process = match &recorded {
            None => Command::new(env!("CARGO_BIN_EXE_sigil")),
            Some(file) => trace::command(file.path(), env!("CARGO_BIN_EXE_sigil")),
        };
        process.args(["sandbox", "run"]).args(&self.options).arg("--").args(command.iter().map(AsRef::as_ref));
        if let Some(folder) = &self.folder {
            process.current_dir(folder);
        }
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process.spawn().expect("sigil starts");
        let mut stdin = child.stdin.take();
        // A program that ends before it has read everything is no failure of this side.
        let _ = stdin.as_mut().expect("its input").write_all(self.input.as_bytes());
        let mut errors = child.stderr.take().expect("its errors");
        let errors = std::thread::spawn(move || {
            let mut said = Vec::new();
            errors.read_to_end(&mut said).map(|_| said)
        });
        let mut out = Vec::new();
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        loop {
            let from = out.len();
            let waits = self.until.as_deref().filter(|words| !String::from_utf8_lossy(&out).contains(words));
            stdin = stdin.filter(|_| waits.is_some());
            output.read_until(b'\n', &mut out).expect("its output");
            if out.len() == from {
                break;
            }
        }
        drop(stdin);
        let (status, err) = (child.wait().expect("its end"), errors.join().expect("read").expect("its errors"));
        if let (Some(file), Some(calls)) = (recorded, &self.runner.recorded) {
            calls.borrow_mut().extend(trace::read(file.path()));
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: status.code().unwrap_or(-1), out: text(out), err: text(err) }
    }
}

impl Ran {
    /// What it wrote, when it ended well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }

    /// That it ended badly, and said `why`.
    #[track_caller]
    pub fn refused(&self, why: &str) {
        let said = format!("{}\n{}", self.out, self.err);
        assert!(self.code != 0 && said.contains(why), "status {}, without `{why}`: {said}", self.code);
    }
}

/// Whether all of `names` are installed; otherwise says which is missing, and that the test is skipped.
#[must_use]
pub fn installed(names: &[&str]) -> bool {
    let missing: Vec<&str> = names.iter().copied().filter(|name| find(name).is_none()).collect();
    missing.is_empty() || skip(&format!("{} is not installed", missing.join(", ")))
}

/// Says why a test is skipped, or fails where nothing may be skipped. Always `false`.
#[must_use]
pub fn skip(why: &str) -> bool {
    assert!(std::env::var_os("SIGIL_PROGRAMS_REQUIRED").is_none_or(|value| value != "1"), "{why}");
    println!("skipped: {why}");
    false
}

/// Where a program of the system is.
pub fn find(name: &str) -> Option<PathBuf> {
    let executable = |path: &PathBuf| path.metadata().is_ok_and(|at| at.is_file() && at.permissions().mode() & 1 != 0);
    let folders = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/lib/chromium"];
    folders.iter().map(|folder| Path::new(folder).join(name)).find(executable)
}

/// Where an installed program is, as an argument.
pub fn path(name: &str) -> String {
    find(name).map(|path| text(&path).to_owned()).unwrap_or_else(|| panic!("{name} is not installed"))
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A folder that others may use, too: under root, programs in the sandbox are somebody else.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    open(folder.path());
    folder
}

/// An executable file with these words, which nobody holds open to write.
pub fn script(words: &str) -> tempfile::TempPath {
    let mut file = tempfile::NamedTempFile::new_in("/tmp").expect("a file");
    file.write_all(words.as_bytes()).expect("written");
    open(file.path());
    file.into_temp_path()
}

/// Lets everybody use `path`.
pub fn open(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("permissions");
}
