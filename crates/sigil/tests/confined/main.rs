//! The gateway confines itself: from every thread of the running binary, an attacker's calls are refused.
//!
//! The calls are injected into its threads with ptrace(2), which root may do from outside: what decides about them is what
//! the kernel holds against that very thread.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::expect_used, clippy::indexing_slicing, missing_docs, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the binary under test is started as a process")]

mod inject;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use inject::{Arg, Held};

/// A gateway that runs, in a folder of its own.
struct Running {
    root: tempfile::TempDir,
    child: Child,
}

impl Running {
    fn start() -> Self {
        let root = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().expect("a folder");
        fs::create_dir(root.path().join("notes")).expect("made");
        fs::write(root.path().join("outside"), "not the gateway's").expect("written");
        let notes = root.path().join("notes").display().to_string();
        let mut init = command(root.path());
        init.args(["init", "--yes", "--no-passphrase", "--provider", "openai", "--model", "m"]);
        // Nobody is asked there: the port is that of discard(9).
        init.args(["--base-url", "http://127.0.0.1:9/v1", "--api-key-env", "KEY", "--read", &notes]);
        let made = init.output().expect("started");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut start = command(root.path());
        let mut child = start.args(["--json", "start", "--no-listen"]).stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        assert!(line.contains("\"ready\":true"), "{line}");
        Self { root, child }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("an id")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn threads(&self) -> BTreeMap<i32, String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("its threads");
        let name = |task: &Path| fs::read_to_string(task.join("comm")).unwrap_or_default().trim().to_owned();
        let tasks = tasks.filter_map(|task| Some(task.ok()?.path()));
        let id = |task: &Path| task.file_name()?.to_str()?.parse().ok();
        tasks.map(|task| (id(&task).expect("an id"), name(&task))).collect()
    }

    /// The launcher: the gateway's child of that name.
    fn launcher(&self) -> i32 {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).expect("its children");
        let named = |pid: &&str| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("sigil-launcher"))
        };
        children.split_whitespace().find(named).expect("the launcher").parse().expect("an id")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sigil"));
    command.arg("--config").arg(root.join("config/sigil.yaml")).arg("--data-dir").arg(root.join("data"));
    command.env_clear().env("HOME", root).env("KEY", "sk-of-the-test").current_dir(root).stdin(Stdio::null());
    command
}

/// One call of an attacker.
struct Attempt {
    what: &'static str,
    number: i64,
    arguments: Vec<Arg>,
    /// The errors that count as refused.
    refused: &'static [i32],
}

fn attempt<const N: usize>(what: &'static str, number: i64, arguments: [Arg; N], refused: &'static [i32]) -> Attempt {
    Attempt { what, number, arguments: arguments.into(), refused }
}

fn n(number: impl Into<i64>) -> Arg {
    Arg::Number(number.into())
}

fn text(text: impl AsRef<Path>) -> Arg {
    Arg::Text(CString::new(text.as_ref().to_str().expect("UTF-8")).expect("no NUL"))
}

const FILTER: &[i32] = &[libc::EPERM];
const LANDLOCK: &[i32] = &[libc::EACCES];

fn open(what: &'static str, path: impl AsRef<Path>, flags: i32) -> Attempt {
    attempt(what, libc::SYS_openat, [n(libc::AT_FDCWD), text(path), n(flags), n(0)], LANDLOCK)
}

fn attempts(gateway: &Running) -> Vec<Attempt> {
    let launcher = gateway.launcher();
    let executable = libc::PROT_READ | libc::PROT_EXEC;
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let tree = fs::read_dir(gateway.at("data.launcher/plugins")).expect("the store").next().expect("a plugin");
    let manifest = tree.expect("a folder").path().join("plugin.yaml");
    assert!(manifest.exists(), "{}", manifest.display());
    vec![
        attempt("execute", libc::SYS_execve, [text("/bin/true"), n(0), n(0)], FILTER),
        attempt("execute by descriptor", libc::SYS_execveat, [n(-100), text("/bin/true"), n(0), n(0), n(0)], FILTER),
        attempt("fork", libc::SYS_fork, [], FILTER),
        attempt("vfork", libc::SYS_vfork, [], FILTER),
        attempt("make a process", libc::SYS_clone, [n(libc::SIGCHLD), n(0), n(0), n(0), n(0)], FILTER),
        attempt("make a process, newly", libc::SYS_clone3, [Arg::Page, n(88)], &[libc::ENOSYS]),
        attempt("attach to the launcher", libc::SYS_ptrace, [n(0x4206), n(launcher), n(0), n(0)], FILTER),
        attempt(
            "read the launcher's memory",
            libc::SYS_process_vm_readv,
            [n(launcher), Arg::Page, n(1), Arg::Page, n(1), n(0)],
            FILTER,
        ),
        attempt("kill the launcher", libc::SYS_kill, [n(launcher), n(0)], FILTER),
        attempt("signal the launcher's thread", libc::SYS_tgkill, [n(launcher), n(launcher), n(0)], FILTER),
        attempt("mount", libc::SYS_mount, [text("none"), text("/tmp"), text("tmpfs"), n(0), n(0)], FILTER),
        attempt("a new mount", libc::SYS_fsopen, [text("tmpfs"), n(0)], FILTER),
        attempt("new namespaces", libc::SYS_unshare, [n(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)], FILTER),
        attempt(
            "change the mode of the launcher's folder",
            libc::SYS_chmod,
            [text(gateway.at("data.launcher")), n(0o777)],
            FILTER,
        ),
        attempt("become root", libc::SYS_setuid, [n(0)], FILTER),
        attempt(
            "map executable memory",
            libc::SYS_mmap,
            [n(0), n(4096), n(executable), n(private), n(-1), n(0)],
            FILTER,
        ),
        attempt("make memory executable", libc::SYS_mprotect, [Arg::Page, n(4096), n(executable)], FILTER),
        attempt("a file in memory", libc::SYS_memfd_create, [text("x"), n(0)], FILTER),
        attempt("a Unix socket", libc::SYS_socket, [n(libc::AF_UNIX), n(libc::SOCK_STREAM), n(0)], FILTER),
        attempt("a netlink socket", libc::SYS_socket, [n(libc::AF_NETLINK), n(libc::SOCK_RAW), n(0)], FILTER),
        attempt("a raw socket", libc::SYS_socket, [n(libc::AF_INET), n(libc::SOCK_RAW), n(libc::IPPROTO_ICMP)], FILTER),
        attempt("listen", libc::SYS_listen, [n(0), n(1)], FILTER),
        attempt("load a filter of its own", libc::SYS_seccomp, [n(1), n(0), n(0)], FILTER),
        attempt("io_uring", libc::SYS_io_uring_setup, [n(1), Arg::Page], &[libc::ENOSYS]),
        open("list the root", "/", libc::O_RDONLY | libc::O_DIRECTORY),
        open("read the machine's passwords", "/etc/shadow", libc::O_RDONLY),
        open("read the machine's users", "/etc/passwd", libc::O_RDONLY),
        open("read a file outside", gateway.at("outside"), libc::O_RDONLY),
        open("write a file outside", gateway.at("outside"), libc::O_WRONLY),
        open("make a file outside", gateway.at("new"), libc::O_WRONLY | libc::O_CREAT),
        open("read the owner's key", gateway.at("config/keys/owner.json"), libc::O_RDONLY),
        open("read its own configuration", gateway.at("config/sigil.yaml"), libc::O_RDONLY),
        open("replace the policy", gateway.at("config/policy.dsse"), libc::O_WRONLY),
        open("read the trusted keys", gateway.at("data.launcher/trust.json"), libc::O_RDONLY),
        open("write the trusted keys", gateway.at("data.launcher/trust.json"), libc::O_WRONLY),
        open("put a file beside them", gateway.at("data.launcher/more.json"), libc::O_WRONLY | libc::O_CREAT),
        open("change a plugin", manifest, libc::O_WRONLY),
        open("read the launcher's memory by /proc", format!("/proc/{launcher}/mem"), libc::O_RDONLY),
        open("read the launcher's environment", format!("/proc/{launcher}/environ"), libc::O_RDONLY),
    ]
}

#[test]
fn nothing_is_gained_in_any_thread_of_the_gateway() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may inject calls into a process that is not dumpable");
        return;
    }
    let gateway = Running::start();
    let attempts = attempts(&gateway);
    let threads = gateway.threads();
    // The main thread, the runtime's workers, those of the databases and the log, and those that block for the launcher, which
    // stay for ten seconds after their work.
    let workers = std::thread::available_parallelism().expect("a number").get();
    let of_runtime = threads.values().filter(|name| name.starts_with("tokio")).count();
    assert!(of_runtime > workers && threads.len() > of_runtime, "{threads:?}");
    let instruction = threads.keys().find_map(|thread| Held::stop(*thread)?.instruction()).expect("one that waits");
    let mut tried = 0;
    for (thread, name) in &threads {
        let Some(held) = Held::stop(*thread) else { continue };
        tried += 1;
        // That calls get through at all, and that its own data can be opened.
        assert_eq!(held.call(instruction, libc::SYS_getpid, &[]), i64::from(gateway.pid()), "{name}");
        let own = [n(libc::AT_FDCWD), text(gateway.at("data/gateway.db")), n(libc::O_RDWR | libc::O_CLOEXEC)];
        let opened = held.call(instruction, libc::SYS_openat, &own);
        assert!(opened >= 0, "{name} cannot open its own data: {opened}");
        assert_eq!(held.call(instruction, libc::SYS_close, &[n(opened)]), 0, "{name}");
        for attempt in &attempts {
            let got = held.call(instruction, attempt.number, &attempt.arguments);
            let refused = attempt.refused.iter().any(|errno| got == -i64::from(*errno));
            assert!(refused, "thread {name} ({thread}) could `{}`: {got}", attempt.what);
        }
    }
    println!("{} attempts refused in each of {tried} threads", attempts.len());
    assert!(tried > workers + 1, "{tried} of {threads:?}");
    // It is none the worse for it.
    let status = command(gateway.root.path()).arg("status").output().expect("started");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    assert_eq!(fs::read_to_string(gateway.at("outside")).expect("read"), "not the gateway's");
    assert!(!gateway.at("new").exists());
}

#[test]
fn the_attempts_work_where_nothing_is_confined() {
    let mut child = Command::new("/bin/sleep").arg("600").spawn().expect("started");
    let pid = i32::try_from(child.id()).expect("an id");
    let outside = tempfile::NamedTempFile::new().expect("a file");
    {
        let mut held = Held::stop(pid).expect("held");
        let instruction = loop {
            // It may not have come to its sleep yet.
            match held.instruction() {
                Some(instruction) => break instruction,
                None => drop(held),
            }
            std::thread::yield_now();
            held = Held::stop(pid).expect("held");
        };
        let executable = [n(0), n(4096), n(5), n(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), n(-1), n(0)];
        for (what, number, arguments) in [
            ("map executable memory", libc::SYS_mmap, &executable[..]),
            ("a Unix socket", libc::SYS_socket, &[n(libc::AF_UNIX), n(libc::SOCK_STREAM), n(0)]),
            ("list the root", libc::SYS_openat, &[n(-100), text("/"), n(libc::O_DIRECTORY), n(0)]),
            ("write outside", libc::SYS_openat, &[n(-100), text(outside.path()), n(libc::O_WRONLY), n(0)]),
            ("a file in memory", libc::SYS_memfd_create, &[text("x"), n(0)]),
            ("signal another", libc::SYS_tgkill, &[n(pid), n(pid), n(0)]),
        ] {
            let got = held.call(instruction, number, arguments);
            assert!(got >= 0, "`{what}` does not work here: {got}");
        }
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
}
