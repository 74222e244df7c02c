//! `sigil config …`

use serde_json::json;

use super::args::ConfigCommand;
use super::complaint::{Complaint, Outcome};
use super::context::Context;
use super::exit::Exit;
use super::output::Paint;
use super::safe;

pub(super) fn run(context: &Context, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Show { sources } => show(context, sources),
        ConfigCommand::Validate { file } => validate(context, file),
        ConfigCommand::Schema => {
            context.output.document(&sigil_config::json_schema());
            Ok(Exit::Ok)
        }
    }
}

fn show(context: &Context, sources: bool) -> Outcome {
    let resolved = context.resolved()?;
    let output = &context.output;
    if output.json {
        let all = json!({"settings": resolved.settings, "folders": resolved.folders, "file": resolved.file,
            "sources": resolved.sources, "notes": resolved.notes});
        output.document(&all);
        return Ok(Exit::Ok);
    }
    match &resolved.file {
        Some(file) => output.note(format!("# file: {}", file.display())),
        None => output.note("# no configuration file; these are the defaults"),
    }
    let value = serde_json::to_value(&resolved.settings).unwrap_or_default();
    for (key, source) in &resolved.sources {
        let found = value.pointer(&format!("/{}", key.replace('.', "/"))).cloned().unwrap_or_default();
        let line = format!("{key} = {}", safe::line(&found.to_string()));
        let suffix = if sources { output.paint(Paint::Dim, &format!("  # {source}")) } else { String::new() };
        output.line(line + &suffix);
    }
    resolved.notes.iter().for_each(|note| output.note(format!("note: {}", safe::line(&note.text))));
    Ok(Exit::Ok)
}

fn validate(context: &Context, file: Option<std::path::PathBuf>) -> Outcome {
    let mut inputs = context.inputs(Vec::new());
    inputs.config = file.or(inputs.config);
    let output = &context.output;
    match sigil_config::load(&inputs) {
        Ok(resolved) => {
            if output.json {
                output.document(&json!({"valid": true, "file": resolved.file, "mistakes": []}));
            } else {
                let file = resolved.file.map_or_else(|| "the defaults".to_owned(), |file| file.display().to_string());
                output.line(format!("{file}: valid"));
                resolved.notes.iter().for_each(|note| output.note(format!("note: {}", safe::line(&note.text))));
            }
            Ok(Exit::Ok)
        }
        Err(refused) if output.json => {
            output.document(&json!({"valid": false, "file": inputs.config, "mistakes": refused.mistakes}));
            Ok(Exit::Usage)
        }
        Err(refused) => Err(Complaint::from(refused)),
    }
}
