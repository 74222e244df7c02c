//! `sigil sandbox learn` as people and scripts meet it, as root (when the tests run as root) and as an ordinary user.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs, unreachable_pub, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the binary under test is started as a process")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

const NOBODY: u32 = 65534;

/// A folder outside of `/tmp`, where the sandbox has a folder of its own, with a copy of the program that everybody may run.
struct World {
    folder: tempfile::TempDir,
    uid: Option<u32>,
}

/// A world for each user that the tests can be.
fn worlds() -> Vec<World> {
    let root = rustix::process::geteuid().is_root();
    let users = if root { vec![None, Some(NOBODY)] } else { vec![None] };
    users.into_iter().map(World::new).collect()
}

impl World {
    fn new(uid: Option<u32>) -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let world = Self { folder, uid };
        world.open_to_all(world.folder.path(), 0o755);
        fs::copy(env!("CARGO_BIN_EXE_sigil"), world.path("sigil")).expect("a copy");
        for name in ["in", "out"] {
            fs::create_dir(world.path(name)).expect("a folder");
            world.open_to_all(&world.path(name), 0o777);
        }
        fs::write(world.path("in/a"), "what was asked for\n").expect("a file");
        world
    }

    fn open_to_all(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    fn learn(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("sigil"));
        command.args(["sandbox", "learn"]).args(arguments).env_clear().current_dir("/");
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn json(&self, status: i32, arguments: &[&str]) -> Value {
        let ran = self.learn(&[&["--json"], arguments].concat()).output().expect("its end");
        let text = String::from_utf8_lossy(&ran.stdout);
        assert_eq!(ran.status.code(), Some(status), "{text}\n{}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

fn denial<'a>(document: &'a Value, what: &str) -> &'a Value {
    let all = document["denials"].as_array().expect("denials");
    let found = all.iter().find(|denial| denial["what"].as_str().expect("text").contains(what));
    found.unwrap_or_else(|| panic!("no denial of {what}: {all:#?}"))
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Without a word nothing is granted, and everything that is denied is there with its reason and what would change it.
#[test]
fn without_a_word_nothing_is_granted() {
    for world in worlds() {
        let script = format!(
            "cat {0}/in/a; echo x > {0}/out/new; cat /etc/shadow; cat /root/.ssh/id; unshare -U true; curl -sS -m 5 \
             http://tracker.example/",
            world.folder.path().display()
        );
        let document = world.json(8, &["--", "sh", "-c", &script]);
        assert_eq!((&document["runs"], &document["granted"]), (&1.into(), &serde_json::json!([])));
        let read = denial(&document, "in/a");
        assert_eq!((&read["evidence"], &read["layer"]), (&"hint".into(), &"mount_ns".into()));
        assert_eq!(read["proposal"]["read"], world.at("in/a"));
        assert_eq!(denial(&document, "out/new")["proposal"]["write"], world.at("out"));
        let shadow = denial(&document, "/etc/shadow");
        assert!(shadow["proposal"].is_null() && shadow["never"].as_str().expect("why").contains("passwords"));
        let unshare = denial(&document, "unshare(");
        assert_eq!((&unshare["evidence"], &unshare["layer"]), (&"exact".into(), &"seccomp".into()));
        assert!(unshare["proposal"].is_null(), "no profile allows it");
        let host = denial(&document, "tracker.example");
        assert_eq!((&host["evidence"], &host["layer"]), (&"exact".into(), &"proxy".into()));
        assert_eq!(host["proposal"]["host"], "tracker.example:80");
        assert!(!world.path("out/new").exists(), "denied and recorded, never allowed and recorded");
        let open = document["open"].as_array().expect("proposals");
        assert!(open.iter().any(|open| open["options"] == serde_json::json!(["--read", world.at("in/a")])), "{open:?}");
    }
}

/// What was agreed to is given in the next run, and what comes out is a command line that does.
#[test]
fn what_is_agreed_to_is_enough() {
    for world in worlds() {
        let script = format!("cat {0}/in/a > {0}/out/b && cat {0}/out/b", world.folder.path().display());
        let ran = world
            .learn(&["--yes-to", "read", "--yes-to", "write", "--", "sh", "-c", &script])
            .output()
            .expect("its end");
        let (out, err) = text(&ran);
        assert_eq!(ran.status.code(), Some(0), "{out}\n{err}");
        assert!(out.starts_with("what was asked for\n") && err.contains(": ended with status 0"), "{out}\n{err}");
        let line = out.lines().last().expect("the profile");
        let command = line.strip_prefix("sigil ").unwrap_or_else(|| panic!("{out}"));
        fs::remove_file(world.path("out/b")).expect("it was made");
        // As a shell reads it.
        let mut again = Command::new("sh");
        again.args(["-c", &format!("{} {command}", world.at("sigil"))]).env_clear().stdin(Stdio::null());
        if let Some(uid) = world.uid {
            again.uid(uid).gid(uid);
        }
        let again = again.output().expect("its end");
        let (out, err) = text(&again);
        assert_eq!((again.status.code(), out.as_str()), (Some(0), "what was asked for\n"), "{command}: {err}");
        assert!(world.path("out/b").exists());
    }
}

/// Each step is asked for; what is declined stays denied, and is not asked for again.
#[test]
fn a_person_decides_on_each_step() {
    for world in worlds() {
        let script = format!("cat {0}/in/a; echo x > {0}/out/new", world.folder.path().display());
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other end");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let slave = fs::OpenOptions::new().read(true).write(true).open(name.to_str().expect("text")).expect("open");
        let mut child = world.learn(&["--", "sh", "-c", &script]).stdin(slave).spawn().expect("started");
        let mut terminal = fs::File::from(master);
        let mut err = child.stderr.take().expect("its words");
        let (mut said, mut answered) = (String::new(), 0);
        let mut byte = [0];
        while err.read(&mut byte).expect("readable") == 1 {
            said.push(char::from(byte[0]));
            if said.matches("[y/N] ").count() > answered {
                answered += 1;
                let (_, question) = said.rsplit_once("let it ").expect("a question");
                let answer: &[u8] = if question.contains("in/a") { b"y\n" } else { b"n\n" };
                terminal.write_all(answer).expect("typed");
            }
        }
        let mut out = String::new();
        child.stdout.take().expect("its output").read_to_string(&mut out).expect("readable");
        assert_eq!(child.wait().expect("its end").code(), Some(0), "{said}");
        assert_eq!(said.matches(&format!("read and change {}?", world.at("out"))).count(), 1, "{said}");
        assert!(said.contains("run 2: "), "{said}");
        assert!(out.contains("what was asked for"), "{out}\n{said}");
        assert!(out.contains(&format!("--read {}", world.at("in/a"))) && !out.contains("--write"), "{out}");
        assert!(!world.path("out/new").exists());
    }
}

/// A command that needs nothing, one that is not there, and one that is typed wrongly.
#[test]
fn the_ends_have_their_words() {
    for world in worlds() {
        let ran = world.learn(&["--", "true"]).output().expect("its end");
        let (out, err) = text(&ran);
        assert_eq!(ran.status.code(), Some(0));
        assert!(err.contains("Nothing was denied") && out.trim() == "sigil sandbox run -- true", "{out}\n{err}");
        for (arguments, code, status) in [
            (&["--", "no-such-command"][..], "sandbox.learn.command.not-run", 1),
            (&["--read", "/no/such/path", "--", "true"], "sandbox.learn.command.not-run", 1),
            (&["--bogus", "--", "true"], "cli.usage.invalid", 2),
        ] {
            let ran = world.learn(arguments).output().expect("its end");
            let (_, err) = text(&ran);
            assert_eq!(ran.status.code(), Some(status), "{arguments:?}: {err}");
            assert!(err.contains(code), "{arguments:?}: {err}");
        }
    }
}
