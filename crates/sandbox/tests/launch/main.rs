//! Real launches: programs of this machine in real sandboxes, as root (when the tests run as root) and as an ordinary
//! user.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests, with a runner of their own, which clippy does not know as tests"
)]

mod command;
mod confined;
mod harness;
mod launched;
mod measured;
mod recorded;
mod refused;
mod witness;
mod world;

fn main() -> std::process::ExitCode {
    if let Some(status) = command::become_command().or_else(measured::measure) {
        return status;
    }
    harness::main(
        &[confined::TESTS, launched::TESTS, refused::TESTS, witness::TESTS, command::TESTS, recorded::TESTS].concat(),
    )
}
