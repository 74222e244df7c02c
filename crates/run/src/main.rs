//! `sigil-run`: the same as `sigil sandbox run`, in a program of a size that starts quickly.
//!
//! What needs the egress proxy or the configuration it hands to the `sigil` beside it, arguments and all.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use sigil_sandbox::run::{self, Options};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match Options::parse(arguments.iter().cloned()) {
        Ok(Some(options)) if needs_more(&options) => hand_over(&arguments),
        _ => run::main(arguments.into_iter(), None, None).take(),
    }
}

/// Files may name hosts.
const fn needs_more(options: &Options) -> bool {
    !options.gets.hosts.is_empty() || !options.files.is_empty() || options.like.is_some()
}

#[expect(clippy::disallowed_methods, reason = "this program becomes `sigil`, which is what starts commands")]
fn hand_over(arguments: &[OsString]) -> ExitCode {
    let sigil = std::env::current_exe().map(|own| own.with_file_name("sigil"));
    let why = match &sigil {
        Ok(sigil) => std::process::Command::new(sigil).args(["sandbox", "run"]).args(arguments).exec(),
        Err(error) => error.kind().into(),
    };
    let place = sigil.unwrap_or_else(|_| "sigil".into());
    run::complain(&format!(
        "this needs {}, which cannot be started: {why}; install it beside this program",
        place.display()
    ));
    ExitCode::from(run::FAILED)
}
