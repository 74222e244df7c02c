//! The tables of `docs/security/sandbox.md`, written from the battery's own data.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use sigil_sandbox::battery::{self, ACCEPTED, Attempt, attempts};
use sigil_sandbox::profile::Layer;
use sigil_sandbox::remedy::LANDLOCK;

use super::hundred::ways;

/// The page, as it was when this was built.
pub(crate) const TEXT: &str = include_str!("../../../../docs/security/sandbox.md");

/// Where the page is.
pub(crate) fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/security/sandbox.md")
}

/// `text` with each table in the place where its name stands.
pub(crate) fn fill(text: &str) -> String {
    let tables = [("landlock", landlock()), ("accepted", accepted()), ("matrix", matrix()), ("hundred", hundred())];
    let mut filled = text.to_owned();
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- {name}: ./task sandbox-matrix -->\n"), format!("<!-- end of {name} -->\n"));
        let (before, rest) = filled.split_once(&begin).unwrap_or_else(|| panic!("the page has no place for {name}"));
        let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("the place of {name} has no end"));
        filled = format!("{before}{begin}\n{table}\n{end}{after}");
    }
    filled
}

fn landlock() -> String {
    let mut table = "| Landlock | kernel | adds | without it |\n|---|---|---|---|\n".to_owned();
    for known in LANDLOCK {
        writeln!(table, "| {} | {} | {} | {} |", known.abi, known.kernel, known.adds, known.without).expect("a String");
    }
    table
}

fn accepted() -> String {
    let mut table = "| attempt | what | under | why |\n|---|---|---|---|\n".to_owned();
    for known in ACCEPTED {
        let what = attempts().find(|attempt| attempt.id == known.id).map_or("", |attempt| attempt.what);
        let under = if known.under == ["*"] { "every profile".to_owned() } else { known.under.join(", ") };
        writeln!(table, "| {} | {what} | {under} | {} |", known.id, known.why).expect("a String");
    }
    table
}

/// The layers that stop something, in the order in which they are applied.
fn columns() -> Vec<Layer> {
    let named: BTreeSet<Layer> = attempts().flat_map(|attempt| attempt.layers).copied().collect();
    named.into_iter().collect()
}

fn cell(attempt: &Attempt, layer: Layer) -> &'static str {
    if !attempt.layers.contains(&layer) {
        ""
    } else if attempt.no_control.is_some() || battery::inherent(attempt) {
        "○"
    } else if attempt.not_with_proxy.contains(&layer) {
        "◐"
    } else {
        "●"
    }
}

fn matrix() -> String {
    let columns = columns();
    let heads: Vec<String> = columns.iter().map(ToString::to_string).collect();
    let mut table = format!("| attempt | what | {} |\n|---|---|{}\n", heads.join(" | "), ":-:|".repeat(columns.len()));
    for attempt in attempts() {
        let cells: Vec<&str> = columns.iter().map(|layer| cell(attempt, *layer)).collect();
        writeln!(table, "| {} | {} | {} |", attempt.id, attempt.what, cells.join(" | ")).expect("a String");
    }
    table
}

fn hundred() -> String {
    let mut table = "| | way | attempts | tests of other parts | note |\n|---|---|---|---|---|\n".to_owned();
    for (number, way) in ways() {
        let tests: Vec<String> = way.tests.iter().map(|test| format!("`{test}`")).collect();
        let (attempts, tests) = (way.attempts.join(", "), tests.join(", "));
        writeln!(table, "| {number} | {} | {attempts} | {tests} | {} |", way.what, way.note).expect("a String");
    }
    table
}

/// Nothing is missing from the hundred, and every attempt that they name is one.
pub(crate) fn nothing_is_missing() {
    let ways = ways();
    assert!(ways.keys().copied().eq(1..=100), "{:?}", ways.keys());
    let known: BTreeSet<&str> = attempts().map(|attempt| attempt.id).collect();
    let mut named = BTreeSet::new();
    for (number, way) in &ways {
        assert!(!way.attempts.is_empty() || !way.tests.is_empty(), "{number}: nothing tries it");
        for id in &way.attempts {
            assert!(known.contains(id.as_str()), "{number}: {id} is no attempt");
            named.insert(id.as_str());
        }
    }
    let nameless: Vec<&&str> = known.difference(&named).collect();
    assert!(nameless.is_empty(), "attempts that belong to none of the hundred: {nameless:?}");
}
