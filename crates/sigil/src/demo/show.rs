//! How the demo is told: to a person at a glance, or as one JSON object a scene.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

use super::stage::Stage;

/// Where the demo is told.
pub(super) struct Show {
    json: bool,
    number: usize,
    timings: Vec<(String, Duration)>,
}

/// One scene as it is played.
pub(super) struct Scene {
    pub(super) name: &'static str,
    title: &'static str,
    lines: Vec<(Mark, String)>,
    receipts: Vec<String>,
    problems: Vec<String>,
}

/// What a line is.
#[derive(Clone, Copy)]
enum Mark {
    Said,
    Did,
    Stopped,
}

impl Scene {
    pub(super) fn new(name: &'static str, title: &'static str) -> Self {
        Self { name, title, lines: Vec::new(), receipts: Vec::new(), problems: Vec::new() }
    }

    /// Somebody says something.
    pub(super) fn says(&mut self, who: &str, what: &str) {
        self.lines.push((Mark::Said, format!("{who:<7} {}", one_line(what))));
    }

    /// Sigil lets something through.
    pub(super) fn does(&mut self, what: impl AsRef<str>) {
        self.lines.push((Mark::Did, one_line(what.as_ref())));
    }

    /// Sigil stops something.
    pub(super) fn stops(&mut self, what: impl AsRef<str>) {
        self.lines.push((Mark::Stopped, one_line(what.as_ref())));
    }

    pub(super) fn receipt(&mut self, id: impl ToString) {
        let id = id.to_string();
        if !self.receipts.contains(&id) {
            self.receipts.push(id);
        }
    }

    /// What the scene stands for. Where it does not hold, the demo fails and says so.
    pub(super) fn expect(&mut self, holds: bool, what: &str) {
        if !holds {
            self.problems.push(what.to_owned());
        }
    }

    pub(super) fn holds(&self) -> bool {
        self.problems.is_empty()
    }
}

/// A terminal is not told what to do by what is shown on it: control and invisible characters are written out.
fn one_line(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' => out.push_str(" ⏎ "),
            c if c.is_control()
                || matches!(u32::from(c), 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x2069 | 0xfeff) =>
            {
                out.push_str(&format!("⟨U+{:04X}⟩", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    let mut short: String = out.chars().take(150).collect();
    if short.len() < out.len() {
        short.push('…');
    }
    short
}

impl Show {
    pub(super) const fn new(json: bool) -> Self {
        Self { json, number: 0, timings: Vec::new() }
    }

    fn print(&self, text: &str) {
        if !self.json {
            // A reader that went away is no reason to stop: the exit status still tells.
            let _written = writeln!(std::io::stdout(), "{text}");
        }
    }

    pub(super) fn opening(&self, stage: &Stage) {
        self.print(&format!(
            "Sigil demo: a real gateway, launcher and plugins in {}.\nThe model is a rehearsal: it follows a script, so you \
             see what Sigil does, not what a model might.\n  ✓ let through   ✗ stopped   each act has a receipt in the audit log",
            stage.root().display()
        ));
    }

    pub(super) fn scene(&mut self, scene: &Scene, took: Duration) {
        self.number += 1;
        self.timings.push((scene.title.to_owned(), took));
        if self.json {
            let lines: Vec<&str> = scene.lines.iter().map(|(_, text)| text.as_str()).collect();
            let object = json!({
                "scene": scene.name, "ok": scene.holds(), "receipts": scene.receipts, "title": scene.title,
                "lines": lines, "problems": scene.problems, "ms": took.as_secs_f64() * 1000.0,
            });
            let _written = writeln!(std::io::stdout(), "{object}");
            return;
        }
        self.print(&format!("\n{}  {}", self.number, scene.title));
        for (mark, text) in &scene.lines {
            let mark = match mark {
                Mark::Said => " ",
                Mark::Did => "✓",
                Mark::Stopped => "✗",
            };
            self.print(&format!("   {mark} {text}"));
        }
        if !scene.receipts.is_empty() {
            let shown: Vec<&str> = scene.receipts.iter().take(4).map(String::as_str).collect();
            let more = scene.receipts.len() - shown.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.print(&format!("     receipts {}{more}", shown.join(" ")));
        }
        for problem in &scene.problems {
            self.print(&format!("   ! this did not hold: {problem}"));
        }
    }

    /// A fact about this host or this run.
    pub(super) fn fact(&self, name: &str, value: &str) {
        self.print(&format!("  {name:<28} {value}"));
    }

    pub(super) fn timing(&self, what: &str, took: Duration) {
        self.print(&format!("  {:>6.0} ms  {what}", took.as_secs_f64() * 1000.0));
    }

    pub(super) fn heading(&self, text: &str) {
        self.print(&format!("\n{text}"));
    }

    pub(super) fn closing(&self, _: &Stage, took: Duration) {
        for (title, took) in &self.timings {
            self.timing(title, *took);
        }
        self.timing("the whole demo", took);
        self.print(
            "\nYour own Sigil, with a real model:\n  sigil init      asks three questions; writes configuration, owner key and \
             signed policy\n  sigil start     runs the gateway\n  sigil chat      talks to it\n\nThe binary is \
             ./target/stage/demo/bin/sigil; `./task build` makes a release.",
        );
    }
}
