//! `sigil scan`: the scanner and the policy's table, without a gateway.

use std::io::{BufRead, BufReader, Read, Write};

use serde::{Deserialize, Serialize};
use sigil_policy::sign::{SigningKey, Validity, sign};
use sigil_policy::{Bundle, Policy, Source, TrustStore, Unverified};
use sigil_scan::{Finding, Report, Scanner, scan_line};
use sigil_types::{Action, Code, Hop, Origin, Stage};

use super::args::ScanArgs;
use super::complaint::{Complaint, Outcome, file};
use super::context::Context;
use super::exit::Exit;
use super::output::Paint;
use super::{input, safe};

/// What matters of an answer for the exit code.
#[derive(Deserialize)]
struct Answer {
    action: Action,
}

/// The answer to a text.
#[derive(Serialize)]
struct Scanned<'a> {
    action: Action,
    findings: Vec<Found<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    rule: &'a Code,
    class: &'a str,
    severity: &'a str,
    start: usize,
    end: usize,
}

struct Judge {
    scanner: Scanner,
    policy: Policy,
    stage: Stage,
    origin: Origin,
    hop: Hop,
}

pub(super) fn run(context: &Context, args: &ScanArgs) -> Outcome {
    let (origin, hop) = usual(args.stage);
    let judge = Judge {
        scanner: Scanner::builtin()?,
        policy: policy(context, &args.preset)?,
        stage: args.stage,
        origin: args.origin.unwrap_or(origin),
        hop,
    };
    let worst = if args.jsonl { lines(context, args, &judge)? } else { whole(context, args, &judge)? };
    Ok(if args.fail && worst > Action::Allow { Exit::Findings } else { Exit::Ok })
}

/// Where text of a stage usually comes from, and where it goes.
const fn usual(stage: Stage) -> (Origin, Hop) {
    match stage {
        Stage::Input => (Origin::Member, Hop::ToProvider),
        Stage::Tool => (Origin::Tool, Hop::ToProvider),
        Stage::Arguments => (Origin::Model, Hop::ToTool),
        Stage::Output => (Origin::Model, Hop::ToChannel),
        Stage::Memory => (Origin::Model, Hop::ToMemory),
    }
}

/// The built-in policy of `preset`. What nobody signed decides nothing, so a key signs it that is thrown away at once.
fn policy(context: &Context, preset: &str) -> Result<Policy, Complaint> {
    let preset = preset.parse().map_err(|error: String| {
        Complaint::new(Code::new("policy.source.preset.unknown"), format!("`{preset}` is not a preset"))
            .exit(Exit::Usage)
            .fix(error, None)
    })?;
    let key = SigningKey::generate()?;
    let now = context.now();
    let envelope = sign(&Source::embedded(preset)?, 1, Validity::days(now, 1), &key)?;
    let name = "scan".parse().map_err(|error| Complaint::new(Code::new("cli.usage.invalid"), error))?;
    let trust = TrustStore::of_one(name, key.public());
    Ok(Bundle::<Unverified>::parse(&envelope)?.verify(&trust, now, 0)?.compile()?)
}

impl Judge {
    fn judge(&self, text: &str) -> (Report, Action) {
        let report = self.scanner.scan(self.stage, text);
        // A text that was not looked at to its end is not let through, as in the gate.
        let start = if report.truncated { Action::Block } else { Action::Allow };
        let action = report.findings.iter().fold(start, |worst, finding| worst.max(self.action(finding)));
        (report, action)
    }

    fn action(&self, finding: &Finding) -> Action {
        let (class, severity) = (finding.class.as_str(), finding.severity.as_str());
        self.policy.action(self.stage, self.origin, self.hop, class, severity)
    }
}

fn scanned(report: &Report, action: Action) -> Scanned<'_> {
    Scanned { action, findings: report.findings.iter().map(Found::new).collect() }
}

impl<'a> Found<'a> {
    fn new(finding: &'a Finding) -> Self {
        let Finding { rule, class, severity, span, .. } = finding;
        Self { rule, class: class.as_str(), severity: severity.as_str(), start: span.start, end: span.end }
    }
}

fn lines(_: &Context, args: &ScanArgs, judge: &Judge) -> Result<Action, Complaint> {
    let source: Box<dyn Read> = match &args.file {
        Some(path) => Box::new(std::fs::File::open(path).map_err(|error| file(path, &error))?),
        None => Box::new(std::io::stdin().lock()),
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut worst = Action::Allow;
    for (number, line) in (1_u64..).zip(BufReader::new(source).lines()) {
        let bad = |why: &dyn std::fmt::Display| {
            Complaint::new(Code::new("cli.scan.line.invalid"), format!("line {number} is not a sample"))
                .why(why)
                .exit(Exit::Usage)
        };
        let line = line.map_err(|error| bad(&error))?;
        if line.trim().is_empty() {
            continue;
        }
        let answer = scan_line(&judge.scanner, judge.stage, &line, |finding| judge.action(finding))
            .map_err(|error| bad(&error))?;
        if args.fail {
            let answer: Answer = serde_json::from_str(&answer).map_err(|error| bad(&error))?;
            worst = worst.max(answer.action);
        }
        if writeln!(out, "{answer}").is_err() {
            break;
        }
    }
    _ = out.flush();
    Ok(worst)
}

fn whole(context: &Context, args: &ScanArgs, judge: &Judge) -> Result<Action, Complaint> {
    let text = input::text(args.file.as_deref())?;
    let (report, action) = judge.judge(&text);
    let output = &context.output;
    if output.json {
        output.document(&scanned(&report, action));
        return Ok(action);
    }
    let paint = match action {
        Action::Allow => Paint::Green,
        Action::Flag | Action::Redact => Paint::Yellow,
        Action::Block => Paint::Red,
    };
    output.line(format!(
        "{}  ({} finding{})",
        output.paint(paint, action.as_str()),
        report.findings.len(),
        if report.findings.len() == 1 { "" } else { "s" }
    ));
    for finding in &report.findings {
        let quoted = text.get(finding.span.clone()).unwrap_or_default();
        // A credential is not repeated on the screen.
        let shown = if finding.class == sigil_scan::Class::Secret {
            "…".to_owned()
        } else {
            safe::cut(&safe::line(quoted), 60)
        };
        output.line(format!("  {finding}  {}", output.paint(Paint::Dim, &shown)));
    }
    if report.truncated {
        output.note("the text is longer than one scan looks at; its rest was not scanned, so it is blocked");
    }
    Ok(action)
}
