//! Real plugins in the real sandbox, called through the real gate.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests"
)]

mod ended;
mod files;
mod go_plugin;
mod harness;
mod hostile;
mod lifecycle;
mod network;
mod real_go_plugin;
mod world;

fn main() -> std::process::ExitCode {
    if std::env::args().nth(1).as_deref() == Some(go_plugin::AS_PLUGIN) {
        return go_plugin::be_one();
    }
    let own = [ended::TESTS, files::TESTS, network::TESTS, lifecycle::TESTS, hostile::TESTS];
    let go = [go_plugin::TESTS, real_go_plugin::TESTS];
    harness::main(&[own.concat(), go.concat()].concat())
}
