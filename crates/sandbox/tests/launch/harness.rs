//! A test runner of one thread: what is tested here forks, and a fork of a process with threads may stop for ever.
//!
//! It speaks as much of the usual runner's command line as `cargo test` and `cargo nextest` need. Under root every test
//! runs twice: as root, and as `user::NAME` in a process of an ordinary user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};

/// A named test.
pub(crate) type Test = (&'static str, fn());

/// The id of nobody, whom every system has.
const NOBODY: u32 = 65534;

/// Runs the tests that the command line names.
pub(crate) fn main(tests: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let wanted: Vec<&String> = arguments.iter().filter(|text| !text.starts_with('-') && *text != "terse").collect();
    let root = rustix::process::geteuid().is_root();
    let mut all: Vec<(String, fn(), bool)> =
        tests.iter().map(|(name, test)| ((*name).to_owned(), *test, false)).collect();
    if root {
        all.extend(tests.iter().map(|(name, test)| (format!("user::{name}"), *test, true)));
    }
    if has("--list") {
        if !has("--ignored") {
            all.iter().for_each(|(name, ..)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let exact = has("--exact");
    let chosen = |name: &str| {
        wanted.is_empty()
            || wanted.iter().any(|text| if exact { name == text.as_str() } else { name.contains(text.as_str()) })
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, test, as_user) in all.iter().filter(|(name, ..)| chosen(name)) {
        let held = if *as_user { run_as_user(name) } else { catch_unwind(AssertUnwindSafe(test)).is_ok() };
        println!("test {name} ... {}", if held { "ok" } else { "FAILED" });
        if held { passed += 1 } else { failed += 1 }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::from(u8::from(failed > 0))
}

/// Runs this program again, as an ordinary user, from a place that such a one can read.
fn run_as_user(name: &str) -> bool {
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let program = folder.path().join("launch");
    std::fs::copy(std::env::current_exe().expect("this program"), &program).expect("a copy of it");
    let test = name.trim_start_matches("user::");
    let mut command = Command::new(program);
    command.args(["--exact", test]).uid(NOBODY).gid(NOBODY).env_clear().current_dir("/tmp").stdin(Stdio::null());
    if let Some(level) = std::env::var_os("RUST_BACKTRACE") {
        command.env("RUST_BACKTRACE", level);
    }
    command.status().expect("its end").success()
}
