//! `sigil sandbox run`: any command, without a launcher.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Output, Stdio};

use rustix::process::{Pid, Signal};
use sigil_sandbox::run;

use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("run::the_status_is_the_command_s", status),
    ("run::only_what_is_named_is_there", files),
    ("run::sandbox_failures_have_their_own_status_and_say_what_to_do", failures),
    ("run::what_may_be_executed_cannot_be_changed", executables),
    ("run::signals_are_passed_on", signals),
    ("run::streams_are_the_callers", streams),
    ("run::hosts_need_a_proxy_and_the_proxy_gets_the_listener", hosts),
];

/// Set in the process that stands for `sigil sandbox run`.
const AS_COMMAND: &str = "TEST_AS_SANDBOX_RUN";

/// Becomes `sigil sandbox run` when this process was started as it.
pub(crate) fn become_command() -> Option<ExitCode> {
    let how = std::env::var(AS_COMMAND).ok()?;
    let arguments = std::env::args_os().skip(1);
    let mut serve = |listener: std::os::fd::OwnedFd, rules: &sigil_sandbox::profile::Egress| {
        assert_eq!(rules.hosts.len(), 1);
        let listener = std::net::TcpListener::from(listener);
        listener.set_nonblocking(false).map_err(|error| error.to_string())?;
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.write_all(b"hello from the proxy\n").expect("sent");
        });
        Ok(())
    };
    let egress: Option<run::ServeEgress<'_>> = if how == "proxy" { Some(&mut serve) } else { None };
    Some(run::main(arguments, egress, None).take())
}

fn sandbox_run(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(arguments).env(AS_COMMAND, "1");
    command
}

fn output(arguments: &[&str]) -> Output {
    sandbox_run(arguments).stdin(Stdio::null()).output().expect("its end")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn status() {
    assert_eq!(output(&["true"]).status.code(), Some(0));
    assert_eq!(output(&["--", "sh", "-c", "exit 42"]).status.code(), Some(42));
    // A signal that ended it ends whoever waited for it, so that a shell sees the same.
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV] {
        let script = format!("kill -{signal} $$");
        assert_eq!(output(&["sh", "-c", &script]).status.signal(), Some(signal));
    }
    assert_eq!(output(&["--profile", "shell", "/bin/sh", "-c", "exit 3"]).status.code(), Some(3));
}

fn files() {
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    for name in ["read", "write", "secret"] {
        std::fs::create_dir(at(name)).expect("a folder");
    }
    std::fs::write(at("read/a"), "a\n").expect("a file");
    std::fs::write(at("secret/b"), "b\n").expect("a file");
    let script = format!(
        "cat {0}/read/a; cat {0}/secret/b; echo x > {0}/read/new; echo x > {0}/write/new; test -e /root; echo $?; pwd",
        folder.path().display()
    );
    let ran = output(&["--read", &at("read"), "--write", &at("write"), "--", "sh", "-c", &script]);
    assert_eq!(text(&ran.stdout), "a\n1\n/tmp\n", "{}", text(&ran.stderr));
    let complaints = text(&ran.stderr);
    assert!(complaints.contains("secret/b: No such file") && complaints.contains("read/new"), "{complaints}");
    assert_eq!(std::fs::read_to_string(at("write/new")).expect("written"), "x\n");
    assert!(!folder.path().join("read/new").exists());
    // The working directory is kept where it is granted.
    let ran = sandbox_run(&["--read", &at("read"), "cat", "a"]).current_dir(at("read")).output().expect("its end");
    assert_eq!(text(&ran.stdout), "a\n", "{}", text(&ran.stderr));
}

fn executables() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let script = at("tools/hello");
    std::fs::create_dir(at("tools")).expect("a folder");
    std::fs::write(&script, "#!/bin/sh\necho hello\necho x > \"$0\" || echo kept\n").expect("a file");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o777)).expect("executable");
    let ran = output(&["--exec", &at("tools"), "--", "sh", "-c", &script]);
    assert_eq!(text(&ran.stdout), "hello\nkept\n", "{}", text(&ran.stderr));
    let ran = output(&["--exec", &at("tools"), "--", &script]);
    assert_eq!(text(&ran.stdout), "hello\nkept\n", "a command in it: {}", text(&ran.stderr));
    for option in ["--read", "--write"] {
        let ran = output(&[option, &at("tools"), "--", "sh", "-c", &script]);
        assert_eq!(ran.status.code(), Some(126), "{option} does not let it be executed: {}", text(&ran.stderr));
    }
}

fn failures() {
    for (arguments, status, says) in [
        (&["no-such-command"][..], 127, "was not found"),
        (&["/no/such/command"], 127, "was not found"),
        (&["--read", "/no/such/path", "true"], 126, "/no/such/path"),
        (&["--write", "/", "true"], 126, "never granted"),
        (&["--read", "/proc/1", "true"], 126, "never granted"),
        (&["--profile", "no-such-profile", "true"], 126, "no-such-profile"),
        (&["--bogus", "true"], 126, "--bogus"),
        (&["--allow-host", "example.org:443", "true"], 126, "egress proxy"),
        (&[], 126, "no command"),
    ] {
        let ran = output(arguments);
        let complaint = text(&ran.stderr);
        assert_eq!(ran.status.code(), Some(status), "{arguments:?}: {complaint}");
        assert!(complaint.starts_with("sigil sandbox run: ") && complaint.contains(says), "{arguments:?}: {complaint}");
    }
}

fn signals() {
    let script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do read line; done";
    let mut child =
        sandbox_run(&["sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a command");
    let mut out = child.stdout.take().expect("its output");
    let mut ready = [0; 6];
    out.read_exact(&mut ready).expect("ready");
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).expect("sent");
    let mut rest = String::new();
    // The shell sees the signal between two commands; a line lets it get there.
    let _ = child.stdin.take().expect("its input").write_all(b"\n");
    out.read_to_string(&mut rest).expect("the end");
    assert_eq!((rest.as_str(), child.wait().expect("its end").code()), ("caught\n", Some(5)));
}

fn streams() {
    let mut child = sandbox_run(&["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a command");
    child.stdin.take().expect("its input").write_all(b"through\n").expect("sent");
    assert_eq!(text(&child.wait_with_output().expect("its end").stdout), "through\n");
}

fn hosts() {
    // bash speaks to a port by itself: there is no other client on every machine.
    let script = "exec 3<>/dev/tcp/127.0.0.1/3128 && cat <&3";
    let arguments = ["--allow-host", "example.org:443", "--", "bash", "-c", script];
    let ran = sandbox_run(&arguments).env(AS_COMMAND, "proxy").stdin(Stdio::null()).output().expect("its end");
    assert_eq!(text(&ran.stdout), "hello from the proxy\n", "{}", text(&ran.stderr));
    let ran = output(&["--", "bash", "-c", script]);
    assert_ne!(ran.status.code(), Some(0), "without hosts there is no proxy");
}
