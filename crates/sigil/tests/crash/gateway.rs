//! A Sigil that is set up as a person does it, and what must be true of it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Pid;
use serde_json::{Value, json};

use crate::message::{Events, Message, read};
use crate::model::model;
use crate::process::{PATIENCE, Process, family, is_gone, until};

/// A Sigil of its own.
pub struct Sigil {
    root: tempfile::TempDir,
    pub gateway: Option<Child>,
    family: Vec<(String, Process)>,
}

/// How a turn ended, and how its tool call did as far as it was seen.
#[derive(Debug)]
pub struct Ended {
    pub outcome: String,
    pub message: Option<String>,
    pub said: String,
    pub tool_ok: Option<bool>,
}

impl Sigil {
    pub fn set_up() -> Self {
        // Other users must be able to reach the granted folder: the plugin is one.
        let root = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().expect("a folder");
        fs::DirBuilder::new().mode(0o755).create(root.path().join("notes")).expect("made");
        fs::write(root.path().join("notes/log"), "").expect("written");
        let sigil = Self { root, gateway: None, family: Vec::new() };
        let base_url = format!("http://{}/v1", model());
        let notes = sigil.at("notes").display().to_string();
        let mut init = vec!["init", "--yes", "--no-passphrase", "--provider", "openai", "--model", "peer"];
        init.extend(["--base-url", &base_url, "--api-key-env", "KEY", "--write", &notes]);
        let output = sigil.run(&init);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !text.contains("not found"),
            "{text}\n`./task test` builds the plugins first"
        );
        sigil
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sigil"));
        command.arg("--config").arg(self.at("config/sigil.yaml")).arg("--data-dir").arg(self.at("data"));
        command.args(arguments).env_clear().env("HOME", self.root.path()).env("KEY", "sk-of-the-test");
        command.current_dir(self.root.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("started")
    }

    /// Starts the gateway and waits until it says that it is ready.
    pub fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.at("start.log")).expect("a log");
        let mut start = self.command(&["--json", "start", "--no-listen"]);
        let mut child = start.stdout(Stdio::piped()).stderr(log).spawn().expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let pid = i32::try_from(child.id()).expect("an id");
        self.gateway = Some(child);
        assert!(line.contains("\"ready\":true"), "{line}{}", self.log());
        self.family = family(pid);
        for name in ["sigil-launcher", "sigil-plugin-fi"] {
            assert!(
                self.family.iter().any(|(found, _)| found == name),
                "no {name} in {:?}\n{}",
                self.family,
                self.log()
            );
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.at("start.log")).unwrap_or_default()
    }

    pub fn plugin(&self) -> Pid {
        let plugin = self.family.iter().find(|(name, _)| name == "sigil-plugin-fi").expect("the plugin");
        Pid::from_raw(plugin.1.0).expect("an id")
    }

    /// SIGKILL, at once. What the gateway could not do before, it does not do any more.
    pub fn kill(&mut self) {
        let mut child = self.gateway.take().expect("running");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    /// Everything that the gateway started has died with it.
    pub fn nothing_is_left(&self, round: usize) {
        for (name, process) in &self.family {
            until(&format!("round {round}: {name} outlives the gateway"), || is_gone(*process).then_some(()));
        }
    }

    /// Sends a request to the gateway's socket. HTTP/1.0: the answer ends where the connection does.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.at("data/run/sigil.sock")).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}");
        stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).expect("sent");
        stream
    }

    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = read(self.send(method, path, "", &body)).expect("an answer");
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub fn post_turn(&self, message: &Message) -> UnixStream {
        let path = format!("/api/v1/sessions/{}/turns", message.session);
        let body = json!({"text": message.text()}).to_string();
        self.send("POST", &path, &format!("idempotency-key: {}\r\n", message.name), &body)
    }

    pub fn message(&self, name: &str) -> Message {
        let session = self.ask("POST", "/api/v1/sessions", &json!({}))["id"].as_str().expect("an id").to_owned();
        Message { name: name.to_owned(), session, turn: None, seen: 0 }
    }

    /// The events of a turn after number `after`.
    pub fn events(&self, turn: &str, after: u64) -> Events {
        let path = format!("/api/v1/turns/{turn}/events?since={after}");
        Events(BufReader::new(self.send("GET", &path, "", "")).lines())
    }

    /// Watches a turn to its end.
    pub fn end_of(&self, turn: &str) -> Ended {
        let mut ended = Ended { outcome: String::new(), message: None, said: String::new(), tool_ok: None };
        for event in self.events(turn, 0) {
            let data = &event["data"];
            match event["type"].as_str().expect("a type") {
                "text" => ended.said.push_str(data["delta"].as_str().expect("text")),
                "tool_result" => ended.tool_ok = data["ok"].as_bool(),
                "finished" => {
                    ended.outcome = data["outcome"].as_str().expect("an outcome").to_owned();
                    ended.message = data["message"].as_str().map(str::to_owned);
                }
                _ => {}
            }
        }
        ended
    }

    /// How often a line stands in the file that the plugin appends to.
    pub fn effects(&self, name: &str) -> usize {
        let text = fs::read_to_string(self.at("notes/log")).expect("read");
        text.lines().filter(|line| *line == name).count()
    }

    /// Whether a call was started and has no result, as the store has it.
    pub fn call_in_doubt(&self) -> bool {
        let path = self.at("data/workspaces/home/sessions.db");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = rusqlite::Connection::open_with_flags(path, flags).expect("opened");
        let started = "SELECT count(*) FROM call JOIN turn ON turn.id = call.turn
             WHERE call.ended IS NULL AND turn.state = 'running'";
        database.query_row(started, [], |row| row.get::<_, i64>(0)).expect("counted") > 0
    }

    /// The log is sound and SQLite finds nothing wrong, in what the kill left.
    pub fn is_sound(&self, round: usize) {
        let output = self.run(&["audit", "verify"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "round {round}: {text}{}", String::from_utf8_lossy(&output.stderr));
        for name in ["gateway.db", "audit.db", "workspaces/home/sessions.db"] {
            assert_eq!(integrity(&self.at("data").join(name)), ["ok"], "round {round}: {name}");
        }
    }

    /// What must be true of a message that was accepted, however often the gateway was killed since.
    pub fn is_kept(&self, message: &Message, round: usize) -> Ended {
        let Message { name, session, turn, .. } = message;
        let turn = turn.as_deref().expect("accepted");
        let ended = self.end_of(turn);
        // Whoever watched before the kill goes on watching from there.
        let last = self.events(turn, message.seen).last();
        assert_eq!(last.expect("the end")["type"], "finished", "round {round}: after event {}", message.seen);
        let state = self.ask("GET", &format!("/api/v1/turns/{turn}"), &Value::Null);
        let wanted = if ended.outcome == "interrupted" { "interrupted" } else { "finished" };
        assert_eq!(state["state"], wanted, "round {round}: {ended:?} {state}");

        let page = self.ask("GET", &format!("/api/v1/sessions/{session}/messages"), &Value::Null);
        let of = |role: &str, kind: &str| {
            let messages = page["items"].as_array().expect("messages").iter();
            messages.filter(|message| message["role"] == role && message["kind"] == kind).cloned().collect::<Vec<_>>()
        };
        let people = of("user", "text");
        assert_eq!(people.len(), 1, "round {round}: the message stands once in {page}");
        assert_eq!((people[0]["turn"].as_str(), people[0]["text"].as_str()), (Some(turn), Some(&*message.text())));

        let effects = self.effects(name);
        assert!(effects <= 1, "round {round}: {name} was appended {effects} times");
        let done = format!("Appended {name}: true.");
        let answers = of("assistant", "text").iter().filter(|said| said["text"] == done.as_str()).count();
        match ended.outcome.as_str() {
            "completed" => {
                assert_eq!((effects, answers), (1, 1), "round {round}: {ended:?} {page}");
                assert!(ended.said.ends_with(&done), "round {round}: {ended:?}");
                assert_eq!(of("tool", "tool_result").len(), 1, "round {round}: {page}");
            }
            "interrupted" => {
                let told = ended.message.as_deref().unwrap_or_default();
                assert!(told.contains("not repeated"), "round {round}: the interruption is not told: {ended:?}");
                assert_eq!(state["code"], "agent.turn.call.interrupted", "round {round}");
                assert_eq!(answers, 0, "round {round}: {page}");
            }
            _ => panic!("round {round}: {ended:?} {state}\n{}", self.log()),
        }
        if ended.tool_ok == Some(true) {
            assert_eq!(effects, 1, "round {round}: the tool says that it did it: {ended:?}");
        }
        ended
    }
}

impl Drop for Sigil {
    fn drop(&mut self) {
        if let Some(mut child) = self.gateway.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// What SQLite says of a copy of the database at `path` and of its log: looking changes nothing for the next start.
fn integrity(path: &Path) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy.db");
    fs::copy(path, &copy).expect("copied");
    let log = PathBuf::from(format!("{}-wal", path.display()));
    if log.exists() {
        fs::copy(log, folder.path().join("copy.db-wal")).expect("copied");
    }
    let database = rusqlite::Connection::open(copy).expect("opened");
    let mut check = database.prepare("PRAGMA integrity_check").expect("prepared");
    let rows = check.query_map([], |row| row.get(0)).expect("checked");
    rows.collect::<Result<_, _>>().expect("read")
}
