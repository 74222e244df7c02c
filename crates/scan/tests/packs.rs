//! The packs that are part of Sigil: they load, and every example holds.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it is wrong"
)]

use serde::Deserialize as _;
use sigil_scan::Scanner;
use sigil_types::Stage;

mod common;

/// Every rule of every pack finds its positive examples, and none of its negative ones.
#[test]
fn every_example_holds() {
    let scanner = common::scanner();
    let mut wrong = Vec::new();
    let mut rules = 0;
    for path in common::packs() {
        let text = std::fs::read_to_string(&path).expect("a pack");
        let pack = toml::Table::deserialize(toml::Deserializer::parse(&text).expect("TOML")).expect("a table");
        for rule in pack.get("rule").and_then(|rules| rules.as_array()).into_iter().flatten() {
            rules += 1;
            let id = rule["id"].as_str().expect("an id");
            let stages = rule.get("stages").and_then(|stages| stages.as_array());
            let stage = stages
                .and_then(|stages| stages[0].as_str())
                .map_or(Stage::Tool, |stage| stage.parse().expect("a stage"));
            for (kind, expected) in [("positive", true), ("negative", false)] {
                for example in rule["examples"][kind].as_array().expect("examples") {
                    let example = common::expand(example.as_str().expect("text"));
                    let found =
                        scanner.scan(stage, &example).findings.iter().any(|finding| finding.rule.as_str() == id);
                    if found != expected {
                        wrong.push(format!("{id}: {kind}: {example}"));
                    }
                }
            }
        }
    }
    assert_eq!(rules, scanner.rules().count());
    assert!(wrong.is_empty(), "{} of the examples do not hold:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is built in is what lies in the folder of packs.
#[test]
fn no_pack_is_left_out() {
    assert_eq!(Scanner::builtin().expect("the packs load").version(), common::scanner().version());
}

#[test]
fn what_a_pack_gets_wrong_is_said() {
    let rule = |body: &str| {
        format!(
            "pack = 'p'\n[list]\nverb = ['ignore']\n[[rule]]\nid = 'a.b'\nclass = 'injection'\nseverity = 'low'\ndescription = 'd'\n{body}\n[rule.examples]\npositive = ['x']\nnegative = ['y']\n"
        )
    };
    for (pack, wanted) in [
        ("pack = 1".to_owned(), "not read"),
        (rule("phrases = ['verb nothing']"), "no list `nothing`"),
        (rule("phrases = ['verb ~999 verb']"), "wider"),
        (rule("phrases = ['verb ~x verb']"), "not a gap"),
        (rule(""), "either"),
        (rule("[rule.pattern]\nliterals = ['tok_']\nvalue = 'tok_.*'"), "may match more"),
        (rule("[rule.pattern]\nliterals = []\nvalue = 'tok_'"), "needs literals"),
        (rule("phrases = ['verb']\nunknown = 1"), "unknown"),
        (rule("phrases = ['verb']").replace("'ignore'", "'a'"), "too short"),
    ] {
        let error = Scanner::from_packs(&[&pack]).expect_err("refused").to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    let twice = rule("phrases = ['verb']");
    assert!(Scanner::from_packs(&[&twice, &twice]).is_err());
    assert_ne!(Scanner::from_packs(&[&twice]).expect("loads").version(), Scanner::builtin().expect("loads").version());
}
