//! A test runner that gives each test a process of its own, which has one thread when the test begins: the launcher is
//! forked from it.
//!
//! It speaks as much of the usual runner's command line as `cargo test` and `cargo nextest` need.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};

/// A named test.
pub(crate) type Test = (&'static str, fn());

/// Runs the tests that the command line names.
pub(crate) fn main(tests: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let wanted: Vec<&String> = arguments.iter().filter(|text| !text.starts_with('-') && *text != "terse").collect();
    if has("--list") {
        if !has("--ignored") {
            tests.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let exact = has("--exact");
    let fits =
        |name: &str| wanted.iter().any(|text| if exact { name == text.as_str() } else { name.contains(text.as_str()) });
    let chosen: Vec<&Test> = tests.iter().filter(|(name, _)| wanted.is_empty() || fits(name)).collect();
    let alone = exact && chosen.len() == 1;
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in chosen {
        let held = if alone { catch_unwind(AssertUnwindSafe(test)).is_ok() } else { in_own_process(name) };
        println!("test {name} ... {}", if held { "ok" } else { "FAILED" });
        if held { passed += 1 } else { failed += 1 }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::from(u8::from(failed > 0))
}

fn in_own_process(name: &str) -> bool {
    let program = std::env::current_exe().expect("this program");
    Command::new(program).args(["--exact", name]).status().expect("its end").success()
}
