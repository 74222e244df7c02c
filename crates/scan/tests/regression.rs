//! Our own regression set: attacks in four languages and many forms, hard look-alikes, credentials made up on the spot.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test stops where it is wrong")]

use serde::Deserialize;
use sigil_scan::{Class, Finding, Severity};
use sigil_types::Stage;

mod common;

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Row {
    lang: String,
    form: String,
    text: String,
    secret: bool,
}

fn rows(text: &str) -> Vec<Row> {
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

fn is_alarm(finding: &Finding) -> bool {
    finding.class != Class::Secret && finding.severity >= Severity::Medium
}

#[test]
fn attacks_are_found() {
    let scanner = common::scanner();
    let rows = rows(include_str!("data/attacks.jsonl"));
    assert!(rows.len() >= 120);
    let by_rule = |finding: &Finding| is_alarm(finding) && finding.class != Class::Hidden;
    let missed: Vec<String> = rows
        .iter()
        .filter(|row| !scanner.scan(Stage::Input, &row.text).findings.iter().any(by_rule))
        .map(|row| format!("{} {}: {}", row.lang, row.form, row.text))
        .collect();
    assert!(missed.len() * 100 <= rows.len() * 2, "{} of {} missed:\n{}", missed.len(), rows.len(), missed.join("\n"));
}

#[test]
fn look_alikes_raise_no_alarm() {
    let scanner = common::scanner();
    let rows = rows(include_str!("data/benign.jsonl"));
    assert!(rows.len() >= 120);
    let mut alarms = Vec::new();
    for row in &rows {
        for stage in [Stage::Input, Stage::Tool] {
            let report = scanner.scan(stage, &row.text);
            alarms.extend(
                report.findings.iter().filter(|f| f.severity >= Severity::Medium).map(|f| format!("{f}: {}", row.text)),
            );
        }
    }
    alarms.dedup();
    assert!(alarms.len() * 100 <= rows.len() * 2, "{} alarms:\n{}", alarms.len(), alarms.join("\n"));
}

#[test]
fn credentials_are_found_and_taken_out() {
    let scanner = common::scanner();
    let rows = rows(include_str!("data/secrets.jsonl"));
    assert!(rows.iter().filter(|row| row.secret).count() >= 60);
    let mut wrong = Vec::new();
    for row in &rows {
        let text = common::expand(&row.text);
        let report = scanner.scan(Stage::Output, &text);
        let secrets: Vec<&Finding> =
            report.findings.iter().filter(|f| f.class == Class::Secret && f.severity >= Severity::Medium).collect();
        if secrets.is_empty() == row.secret {
            wrong.push(format!("{}: {text}", if row.secret { "missed" } else { "false" }));
        }
        for finding in &secrets {
            let found = text.get(finding.span.clone()).expect("within the text");
            assert!(!sigil_scan::redact(&text, secrets.iter().copied()).contains(found), "{finding} stays in {text}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
