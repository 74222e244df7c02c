//! What the scanner finds in public corpora, when `SIGIL_CORPUS_DIR` names the folder that has them.
//!
//! The corpora hold texts that try to instruct their reader. They are data, are only measured here, and are not part of
//! the repository.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it is wrong"
)]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use sigil_scan::{Class, Scanner, Severity};
use sigil_types::Stage;

mod common;

#[derive(Deserialize)]
struct Row {
    text: String,
    label: String,
    lang: String,
    source: String,
    kind: String,
}

fn rows(path: &Path) -> Vec<Row> {
    let bytes = std::fs::read(path).expect("a corpus");
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect("gzip of UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

#[derive(Default, Clone, Copy)]
struct Tally {
    all: usize,
    flagged: usize,
    high: usize,
}

impl Tally {
    fn add(&mut self, worst: Option<Severity>) {
        self.all += 1;
        self.flagged += usize::from(worst >= Some(Severity::Medium));
        self.high += usize::from(worst >= Some(Severity::High));
    }
}

fn percent(part: usize, all: usize) -> f64 {
    100.0 * f64::from(u32::try_from(part).expect("small")) / f64::from(u32::try_from(all.max(1)).expect("small"))
}

fn print(title: &str, tallies: &BTreeMap<String, Tally>) {
    println!("{title:<58} {:>7} {:>10} {:>8}", "rows", ">= medium", ">= high");
    for (name, tally) in tallies {
        let (flagged, high) = (percent(tally.flagged, tally.all), percent(tally.high, tally.all));
        println!("  {name:<56} {:>7} {flagged:>9.2}% {high:>7.2}%", tally.all);
    }
}

#[test]
fn corpora_are_measured() {
    let Some(folder) = std::env::var_os("SIGIL_CORPUS_DIR") else {
        println!("skipped: SIGIL_CORPUS_DIR does not name a folder with corpora");
        return;
    };
    let folder = Path::new(&folder).join("scanner");
    let scanner = common::scanner();
    injection(&scanner, &folder.join("injection.jsonl.gz"));
    secrets(&scanner, &folder.join("secrets.jsonl.gz"));
}

fn injection(scanner: &Scanner, path: &Path) {
    let mut recall: BTreeMap<String, Tally> = BTreeMap::new();
    let mut alarms: BTreeMap<String, Tally> = BTreeMap::new();
    let mut secrets = 0;
    let mut fired: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut dump = std::env::var_os("SIGIL_CORPUS_DUMP").map(|path| std::fs::File::create(path).expect("a file"));
    for row in rows(path) {
        let report = scanner.scan(Stage::Input, &row.text);
        let attack = row.label == "injection";
        let relevant = report.findings.iter().filter(|finding| finding.class != Class::Secret);
        let worst = relevant.clone().map(|finding| finding.severity).max();
        let mut rules: Vec<String> =
            relevant.filter(|f| f.severity >= Severity::Medium).map(|f| format!("{} {}", f.rule, f.severity)).collect();
        rules.sort();
        rules.dedup();
        for rule in &rules {
            let count = fired.entry(rule.clone()).or_default();
            if attack { count.0 += 1 } else { count.1 += 1 }
        }
        if let Some(file) = &mut dump {
            use std::io::Write;
            let line = serde_json::json!({"attack": attack, "lang": row.lang, "source": row.source, "kind": row.kind, "rules": rules, "text": row.text});
            writeln!(file, "{line}").expect("written");
        }
        if attack {
            if ["en", "de", "es", "zh"].contains(&row.lang.as_str()) {
                recall.entry(format!("language {}", row.lang)).or_default().add(worst);
                let kind = row.kind.split(':').next().unwrap_or_default();
                recall.entry(format!("{} / {kind}", row.source)).or_default().add(worst);
                if kind == "obf" {
                    recall.entry(row.kind.clone()).or_default().add(worst);
                }
            }
        } else {
            let output = scanner.scan(Stage::Output, &row.text);
            let secret =
                |finding: &sigil_scan::Finding| finding.class == Class::Secret && finding.severity >= Severity::Medium;
            if let Some(finding) = output.findings.iter().find(|finding| secret(finding)) {
                secrets += 1;
                *fired.entry(finding.rule.to_string()).or_default() =
                    (0, fired.get(finding.rule.as_str()).map_or(0, |f| f.1) + 1);
            }
            alarms.entry("all".to_owned()).or_default().add(worst);
            if ["en", "de", "es", "zh"].contains(&row.lang.as_str()) {
                alarms.entry(format!("language {}", row.lang)).or_default().add(worst);
            }
            alarms
                .entry(format!("{} / {}", row.source, row.kind.split(':').next().unwrap_or_default()))
                .or_default()
                .add(worst);
        }
    }
    println!("benign texts with a secret of medium severity or more: {} of {}", secrets, alarms["all"].all);
    print("recall (attacks in en, de, es, zh)", &recall);
    print("false alarms (all languages)", &alarms);
    println!("rules: attacks, benign");
    for (rule, (attacks, benign)) in fired {
        println!("  {rule:<56} {attacks:>7} {benign:>7}");
    }
}

fn secrets(scanner: &Scanner, path: &Path) {
    let mut recall: BTreeMap<String, Tally> = BTreeMap::new();
    let mut alarms: BTreeMap<String, Tally> = BTreeMap::new();
    for row in rows(path) {
        let report = scanner.scan(Stage::Output, &row.text);
        let secrets = report.findings.iter().filter(|finding| finding.class == Class::Secret);
        let worst = secrets.map(|finding| finding.severity).max();
        let tallies = if row.label == "secret" { &mut recall } else { &mut alarms };
        for name in ["all".to_owned(), row.source] {
            tallies.entry(name).or_default().add(worst);
        }
    }
    print("secrets found", &recall);
    print("secrets where there are none", &alarms);
}
