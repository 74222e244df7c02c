//! Postures: on this kernel as it is, and with features taken away from it by a filter round the test's own process, which
//! makes it one that is old, or restricted, or a container. As root (when the tests run as root) and as an ordinary user.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    reason = "tests, with a runner of their own, which clippy does not know as tests; parts are shared with others"
)]

mod excess;
#[path = "../launch/harness.rs"]
mod harness;
mod reached;
mod restricted;
mod survivors;
#[path = "../launch/world.rs"]
mod world;

fn main() -> std::process::ExitCode {
    harness::main(&[reached::TESTS, survivors::TESTS, excess::TESTS].concat())
}
