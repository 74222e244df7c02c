//! What a case finds: folders to read and to write, a secret beside them, and the binary.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cases::End;

/// Who starts the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the tests.
    Self_,
    /// Nobody in particular.
    Nobody,
}

const NOBODY: u32 = 65534;

pub fn users() -> &'static [User] {
    if rustix::process::geteuid().is_root() { &[User::Self_, User::Nobody] } else { &[User::Self_] }
}

/// How a command ended.
pub struct Ran {
    pub end: End,
    pub out: String,
    pub err: String,
}

pub struct World {
    folder: tempfile::TempDir,
    user: User,
}

impl World {
    pub fn new(user: User) -> Self {
        let folder = tempfile::Builder::new().prefix("shell-").tempdir_in("/var/tmp").expect("a folder");
        let world = Self { folder, user };
        for (path, text) in [
            ("r/a", "a\n"),
            ("r/sub/b", "b\n"),
            ("r/hide/h", "SECRET\n"),
            ("r/hide/shown/s", "shown\n"),
            ("r/.env", "SECRET\n"),
            ("w/old", "old\n"),
            ("w/.env", "SECRET\n"),
            ("w/deep/er/keep", "keep\n"),
            ("w/hide/h", "SECRET\n"),
            ("w/.git/config", "config\n"),
            ("w/.git/hooks/kept", "kept\n"),
            ("w/src/.mcp.json", "{}\n"),
            ("tree/.git", "gitdir: /elsewhere\n"),
            ("x/tool", "#!/bin/sh\necho tool \"$@\"\n"),
            ("secret/key", "SECRET\n"),
            ("bad.toml", "read = ['r']\nraed = ['secret']\n"),
            ("good.toml", "read = ['r']\ndeny = ['r/hide', 'r/.env']\nenv = ['FROM=file']\n[limit]\nfiles = 32\n"),
            (
                "srt.json",
                r#"{"network": {"allowedDomains": [], "deniedDomains": []}, "filesystem": {
                    "denyRead": ["secret", "r/hide"], "allowRead": ["r/hide/shown"], "allowWrite": ["w"],
                    "denyWrite": ["w/deep"]}}"#,
            ),
            ("srt-denied.json", r#"{"filesystem": {"denyRead": ["/"], "allowRead": ["r/sub"]}}"#),
            ("srt-new.json", r#"{"filesystem": {"allowWrite": ["w"], "denyWrite": ["w/not-there"]}}"#),
            ("srt-off.json", r#"{"filesystem": {"disabled": true}}"#),
        ] {
            let path = world.path(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(&path, text).expect("a file");
        }
        symlink("../secret/key", world.path("r/link")).expect("a link");
        symlink("deep", world.path("w/link")).expect("a link");
        fs::set_permissions(world.path("x/tool"), fs::Permissions::from_mode(0o755)).expect("its mode");
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).expect("its mode");
        if user == User::Nobody {
            give(&world.path(""));
        }
        // Afterwards: it is another name of the file that was built.
        binary(&world.path(""));
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `text` with `@` for this world's folder.
    pub fn fill(&self, text: &str) -> String {
        text.replace('@', self.folder.path().to_str().expect("text"))
    }

    /// `sigil sandbox run` with `arguments`, from this world's folder.
    pub fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(self.path("sigil"));
        command.args(["sandbox", "run"]).args(arguments).current_dir(self.folder.path());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").env("OUTSIDE", "SECRET");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.user == User::Nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    pub fn run(&self, arguments: &[String], input: &str) -> Ran {
        let mut child = self.command(arguments).spawn().expect("started");
        // A command that does not read makes no difference.
        let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("its end");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { end: End::of(output.status), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

fn give(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).or_else(|_| fs::symlink_metadata(path).map(drop)).expect("given");
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        for entry in fs::read_dir(path).expect("a folder").flatten().filter(|entry| !entry.path().is_symlink()) {
            give(&entry.path());
        }
    }
}

/// The binary under test, in `folder`, where every user can execute it.
pub fn binary(folder: &Path) -> PathBuf {
    let (built, here) = (Path::new(env!("CARGO_BIN_EXE_sigil")), folder.join("sigil"));
    fs::hard_link(built, &here).or_else(|_| fs::copy(built, &here).map(drop)).expect("the binary");
    here
}
