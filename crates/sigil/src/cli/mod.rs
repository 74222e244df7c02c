//! The command line: what is typed, who does it, how it ends.

mod approvals;
pub(crate) mod args;
mod audit;
mod chat;
mod client;
mod codes;
pub(crate) mod complaint;
mod config;
pub(crate) mod context;
mod denials;
pub(crate) mod doctor;
pub(crate) mod exit;
mod explain;
mod init;
pub(crate) mod input;
mod learn;
pub(crate) mod output;
mod plugin;
mod policy;
mod rules;
pub(crate) mod safe;
mod sandbox;
mod scan;
mod secret;
mod start;
mod status;
mod transcript;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use sigil_types::Code;

use args::{Cli, Command, Global};
use complaint::{Complaint, Outcome};
use context::Context;
use exit::Exit;
use output::Output;

/// Parses the command line, does what it says, and shows how it ended.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let json = arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json");
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, json).into(),
    };
    let context = Context::new(cli.global);
    match dispatch(&context, cli.command) {
        Ok(exit) => exit.into(),
        Err(complaint) => {
            complaint.show(&context.output);
            complaint.exit.into()
        }
    }
}

/// The profile of an installed plugin under the signed policy, for `sigil sandbox run --like`. An error is one line.
pub(crate) fn plugin_profile(plugin: &str) -> Result<sigil_sandbox::profile::Compiled, String> {
    sandbox::profile_of(&Context::new(Global::default()), plugin).map_err(|complaint| complaint.line())
}

/// Help and version are answers; everything else that the parser says is a mistake.
fn usage(error: &clap::Error, json: bool) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Help that was not asked for in words goes where help goes, too.
            let help = error.render().ansi().to_string();
            let plain = error.render().to_string();
            let output = Output::new(&Global::default());
            let colour = std::io::IsTerminal::is_terminal(&std::io::stdout()) && std::env::var_os("NO_COLOR").is_none();
            output.piece(if colour { &help } else { &plain });
            Exit::Ok
        }
        _ if json => {
            let text = error.render().to_string();
            let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let complaint = Complaint::new(Code::new("cli.usage.invalid"), what).exit(Exit::Usage);
            complaint.show(&Output::new(&Global { json, ..Global::default() }));
            Exit::Usage
        }
        _ => {
            _ = error.print();
            Exit::Usage
        }
    }
}

fn dispatch(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Demo => start::demo(context),
        Command::Init(args) => init::run(context, args),
        Command::Start(args) => start::run(context, &args),
        Command::Status => status::run(context),
        Command::Version => version::run(context),
        Command::Chat(args) => chat::run(context, args),
        Command::Scan(args) => scan::run(context, &args),
        Command::Policy(command) => policy::run(context, command),
        Command::Audit(command) => audit::run(context, command),
        Command::Plugin(command) => plugin::run(context, command),
        Command::Secret(command) => secret::run(context, command),
        Command::Sandbox(command) => sandbox::run(context, command),
        Command::Config(command) => config::run(context, command),
        Command::Doctor(args) => doctor::run(context, &args),
        Command::Approvals(args) => approvals::run(context, args.command),
        Command::Explain(args) => explain::run(context, &args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sigil", &mut script);
            context.output.piece(&String::from_utf8_lossy(&script));
            Ok(Exit::Ok)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_words() {
        Cli::command().debug_assert();
        fn walk(command: &clap::Command) {
            for inner in command.get_subcommands() {
                assert!(inner.get_about().is_some(), "{} says nothing of itself", inner.get_name());
                for argument in inner.get_arguments() {
                    assert!(
                        argument.get_help().is_some() || argument.get_id() == "help",
                        "{} {}",
                        inner.get_name(),
                        argument.get_id()
                    );
                }
                walk(inner);
            }
        }
        walk(&Cli::command());
    }

    #[test]
    fn all_promised_commands_are_there() {
        let command = Cli::command();
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        for promised in "demo init start status version chat scan policy audit plugin secret sandbox config doctor approvals explain completions".split(' ') {
            assert!(names.contains(&promised), "{promised}");
        }
    }
}
