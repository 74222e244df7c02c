//! `sigil explain CODE`

use serde_json::json;
use sigil_types::Code;

use super::args::ExplainArgs;
use super::complaint::{Complaint, Outcome};
use super::context::Context;
use super::exit::Exit;
use super::output::Paint;
use super::{codes, rules};

pub(super) fn run(context: &Context, args: &ExplainArgs) -> Outcome {
    let output = &context.output;
    if args.list {
        if output.json {
            let all: Vec<_> = codes::all().map(|(code, entry)| json!({"code": code, "what": entry.what})).collect();
            output.document(&all);
        } else {
            let rows: Vec<Vec<String>> =
                codes::all().map(|(code, entry)| vec![code.to_owned(), entry.what.clone()]).collect();
            output.table(&["CODE", "WHAT"], &rows);
        }
        return Ok(Exit::Ok);
    }
    let Some(code) = &args.code else { return Ok(Exit::Usage) };
    if let Some(rule) = rules::find(code) {
        if output.json {
            output.document(&rule);
        } else {
            output.line(output.paint(Paint::Bold, code.as_str()));
            output.line(rule.what);
            rule.more.iter().for_each(|line| output.line(format!("  {line}")));
        }
        return Ok(Exit::Ok);
    }
    let Some((key, entry)) = codes::entry(code) else {
        return Err(Complaint::new(Code::new("cli.explain.code.unknown"), format!("there is no code `{code}`"))
            .exit(Exit::NotFound)
            .fix("list those that there are", Some("sigil explain --list")));
    };
    if output.json {
        output.document(&json!({"code": code, "entry": key, "what": entry.what, "why": entry.why, "fix": entry.fix}));
    } else {
        output.line(output.paint(Paint::Bold, code.as_str()));
        output.line(&entry.what);
        output.line(format!("  why: {}", entry.why));
        output.line(format!("  fix: {}", entry.fix));
        if key != code.as_str() {
            output.line(output.paint(Paint::Dim, &format!("  (what is true for all `{key}` codes)")));
        }
    }
    Ok(Exit::Ok)
}
