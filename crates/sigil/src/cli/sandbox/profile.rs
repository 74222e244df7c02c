//! `sigil sandbox profile`: a plugin's compiled profile, as the launcher applies it or for another system.

use serde_json::json;
use sigil_sandbox::profile::Profile;
use sigil_sandbox::seatbelt::{self, Place};

use super::super::args::{ProfileArgs, ProfileFormat};
use super::super::complaint::Outcome;
use super::super::context::Context;
use super::super::exit::Exit;
use super::super::safe;
use super::compiled;

pub(super) fn run(context: &Context, args: &ProfileArgs) -> Outcome {
    let profile = compiled(context, &args.plugin)?.compiled.profile;
    match args.format {
        ProfileFormat::Json => {
            context.output.document(&profile);
            Ok(Exit::Ok)
        }
        ProfileFormat::Seatbelt => seatbelt(context, args, &profile),
    }
}

fn seatbelt(context: &Context, args: &ProfileArgs, profile: &Profile) -> Outcome {
    let files = profile.binds.iter().map(|bind| &bind.source).filter(|path| path.is_file()).cloned();
    let place = Place {
        scratch: args.scratch.clone(),
        proxy_port: args.proxy_port,
        terminal: args.terminal.clone(),
        files: files.collect(),
    };
    let made = seatbelt::generate(profile, &place)?;
    let output = &context.output;
    if output.json {
        output.document(&json!({
            "text": made.text, "parameters": made.parameters, "exec": made.exec, "limits": made.limits,
            "argv": made.argv(), "not_there": made.gaps,
        }));
        return Ok(Exit::Ok);
    }
    output.piece(&made.text);
    for (name, value) in &made.parameters {
        output.note(safe::line(&format!("-D {name}={value}")));
    }
    for gap in &made.gaps {
        output.note(format!("note: {gap}"));
    }
    Ok(Exit::Ok)
}
