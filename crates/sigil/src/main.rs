//! `sigil`: the binary. Command line, doctor, and `wire`, the only place where the parts are put together.

mod cli;
mod demo;
mod early;
mod refusals;
mod setup;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    early::take_over(&arguments).unwrap_or_else(|| cli::run(arguments))
}
