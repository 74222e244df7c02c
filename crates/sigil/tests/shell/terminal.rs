//! At a terminal: an interactive shell of this machine, in which `sigil sandbox run` is a job like any other.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::tcgetpgrp;

use crate::world::binary;

/// An interactive bash on a pseudo-terminal, whose prompt is `OUT> `.
struct Person {
    master: std::fs::File,
    shell: Child,
    said: String,
    /// Where the binary is.
    folder: tempfile::TempDir,
}

impl Person {
    fn sit_down() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let theirs = ioctl_tiocgptpeer(&master, flags).expect("its other end");
        let end = |fd: &OwnedFd| fd.try_clone().expect("a copy");
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "--noediting", "-i"]);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("PS1", "OUT> ")
            .env("TERM", "dumb")
            .env("HOME", "/nonexistent");
        command.stdin(end(&theirs)).stdout(end(&theirs)).stderr(end(&theirs));
        let shell = command.spawn().expect("a shell");
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        binary(folder.path());
        let mut person = Self { master: master.into(), shell, said: String::new(), folder };
        person.sees("OUT> ");
        person
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("typed");
    }

    /// Waits for `text`, and returns what came before it.
    fn sees(&mut self, text: &str) -> String {
        use std::io::Read;
        loop {
            if let Some(at) = self.said.find(text) {
                let rest = self.said.split_off(at + text.len());
                return std::mem::replace(&mut self.said, rest);
            }
            let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&patience));
            assert_eq!(ready, Ok(1), "waited for {text:?}, saw {:?}", self.said);
            let mut buffer = [0; 4096];
            let count = self.master.read(&mut buffer).expect("more");
            self.said.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// Waits until the shell has given the terminal to a job.
    fn waits_for_foreground(&self) {
        let shell = rustix::process::Pid::from_child(&self.shell);
        while tcgetpgrp(&self.master).is_ok_and(|group| group == shell) {
            std::thread::yield_now();
        }
    }

    /// The command line of `sigil sandbox run`.
    fn sigil(&self, rest: &str) -> String {
        format!("{}/sigil sandbox run {rest}", self.folder.path().display())
    }

    fn does(&mut self, line: &str, then: &str) -> String {
        self.types(line);
        self.types("\r");
        self.sees(then)
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn a_command_is_a_job_like_any_other() {
    let mut person = Person::sit_down();
    let line = person.sigil("-- sh -c 'echo begun; exec sleep 1000'");
    person.does(&line, "begun\r\n");
    person.types("\x1a");
    person.sees("Stopped");
    person.sees("OUT> ");
    let modes = person.does("stty -a; echo", "OUT> ");
    assert!(modes.contains(" icanon") && modes.contains(" echo "), "the terminal is what it was: {modes}");
    person.does("bg; jobs", "Running");
    person.sees("OUT> ");
    person.does("fg", "sleep 1000'");
    person.waits_for_foreground();
    person.types("\x03");
    person.sees("OUT> ");
    // What ended the command is what the shell sees.
    person.does("echo status=$?", "status=130");
}

#[test]
fn a_terminal_is_restored_when_what_waits_is_ended() {
    let mut person = Person::sit_down();
    let line = person.sigil("-- sh -c 'echo begun; exec sleep 1000'");
    person.does(&line, "begun\r\n");
    let shell = person.shell.id();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("its children");
    let waits: i32 = children.split_whitespace().next().and_then(|id| id.parse().ok()).expect("a child");
    let waits = rustix::process::Pid::from_raw(waits).expect("a process");
    rustix::process::kill_process(waits, rustix::process::Signal::TERM).expect("sent");
    person.sees("OUT> ");
    person.does("echo status=$?", "status=143");
    person.sees("OUT> ");
    let modes = person.does("stty -a; echo", "OUT> ");
    assert!(modes.contains(" icanon") && modes.contains(" echo "), "{modes}");
}
