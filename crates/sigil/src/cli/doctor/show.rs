//! What doctor found, for people. Colour says nothing that the words do not say.

use std::collections::BTreeMap;

use sigil_sandbox::battery::{BatteryReport, Row, Status as Held};
use sigil_sandbox::doctor::{LayerStatus, State};
use sigil_sandbox::remedy::Remedy;

use super::super::output::{Output, Paint, word};
use super::super::safe;
use super::{Check, Report, Status};

/// How wide the marks and names before a text are.
const INDENT: usize = 20;

pub(super) fn show(output: &Output, report: &Report) {
    let (abi, posture) = (report.landlock_abi, word(report.posture));
    let version = env!("CARGO_PKG_VERSION");
    let kernel = safe::line(&report.kernel);
    output.line(
        output.paint(Paint::Bold, &format!("Sigil {version} · Linux {kernel} · Landlock {abi} · posture {posture}")),
    );

    heading(output, "Layers");
    for (at, one) in report.layers.iter().enumerate() {
        // Namespaces are refused together, for one reason.
        let said = report.layers.iter().take(at).any(|before| before.fix == one.fix);
        layer(output, one, !said);
    }
    if !report.landlock_missing.is_empty() && (abi < 6 || output.verbose > 0) {
        heading(output, "Landlock, what a newer kernel adds");
        for version in &report.landlock_missing {
            let text = format!("{}; without it: {}", version.adds, version.without);
            row(output, (Paint::Dim, " "), &format!("{} · {}", version.abi, version.kernel), &text);
        }
    }

    heading(output, "Escape attempts");
    battery(output, &report.battery);

    heading(output, "Checks");
    report.checks.iter().for_each(|one| check(output, one));

    if !report.remedies.is_empty() {
        heading(output, "What to do");
        report.remedies.iter().for_each(|one| remedy(output, one));
    }
    output.line("");
    output.line(verdict(output, report));
}

fn heading(output: &Output, text: &str) {
    output.line("");
    output.line(output.paint(Paint::Bold, text));
}

/// A mark, a name, and a text that goes on below itself.
fn row(output: &Output, (paint, mark): (Paint, &str), name: &str, text: &str) {
    let mut lines = wrap(text, output.width().saturating_sub(INDENT)).into_iter();
    let name = safe::line(name);
    // A long name has a line of its own.
    if name.chars().count() + 5 > INDENT {
        output.line(format!("  {} {name}", output.paint(paint, mark)));
    } else {
        let width = INDENT - 4;
        let first = lines.next().unwrap_or_default();
        output.line(format!("  {} {name:<width$}{first}", output.paint(paint, mark)).trim_end());
    }
    lines.for_each(|line| output.line(format!("{:INDENT$}{line}", "")));
}

fn layer(output: &Output, layer: &LayerStatus, with_fix: bool) {
    let mark = match layer.status {
        State::Applied => (Paint::Green, "✓"),
        State::Missing => (Paint::Yellow, "–"),
        State::Refused => (Paint::Red, "✗"),
    };
    let status = word(layer.status);
    let says_so = layer.status == State::Applied || layer.detail.starts_with(&status);
    let status = if says_so { String::new() } else { format!("{status}: ") };
    row(output, mark, &word(layer.name), &format!("{status}{}", safe::line(&layer.detail)));
    if with_fix {
        fix(output, &layer.fix);
    }
}

fn fix(output: &Output, fix: &str) {
    if fix.is_empty() {
        return;
    }
    let lines = wrap(&format!("fix: {}", safe::line(fix)), output.width().saturating_sub(INDENT));
    lines.iter().for_each(|line| output.line(format!("{:INDENT$}{}", "", output.paint(Paint::Cyan, line))));
}

fn battery(output: &Output, battery: &BatteryReport) {
    let mut profiles: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &battery.rows {
        profiles.entry(&row.profile).or_default().push(row);
    }
    if profiles.is_empty() {
        row(output, (Paint::Red, "✗"), "none", "no attempt could be made; see the checks");
    }
    for (profile, rows) in profiles {
        let count = |status| rows.iter().filter(|row| row.status == status).count();
        let (held, accepted, open) =
            (count(Held::Held), count(Held::Accepted), count(Held::Open) + count(Held::Unclear));
        let mark = if open == 0 { (Paint::Green, "✓") } else { (Paint::Red, "✗") };
        row(output, mark, profile, &format!("{held} held, {accepted} accepted, {open} open"));
        for bad in rows.iter().filter(|row| matches!(row.status, Held::Open | Held::Unclear)) {
            let text = format!("{} {}: {}", bad.id, bad.what, safe::line(&bad.outcome));
            row(output, (Paint::Red, " "), &word(bad.status), &text);
        }
    }
    for accepted in &battery.accepted {
        let under = if accepted.profile == "*" { "every profile" } else { accepted.profile.as_str() };
        let text = format!("accepted under {under}: {}", accepted.why);
        row(output, (Paint::Dim, "·"), &accepted.id, &text);
    }
    if output.verbose > 0 {
        let cells = |row: &Row| {
            let status = word(row.status);
            vec![row.id.clone(), row.profile.clone(), status, safe::line(&row.outcome), row.what.clone()]
        };
        let rows: Vec<Vec<String>> = battery.rows.iter().map(cells).collect();
        output.table(&["ATTEMPT", "PROFILE", "STATUS", "STOPPED BY", "WHAT"], &rows);
    }
}

fn check(output: &Output, check: &Check) {
    let (paint, mark, status) = match check.status {
        Status::Pass => (Paint::Green, "✓", ""),
        Status::Warn => (Paint::Yellow, "!", "look: "),
        Status::Fail => (Paint::Red, "✗", "FAILED: "),
        Status::Skip => (Paint::Dim, "–", "skipped: "),
    };
    row(output, (paint, mark), check.id, &format!("{status}{}", safe::line(&check.detail)));
    fix(output, &check.fix);
}

/// A file is written by a command that can be pasted whole: its lines begin where lines begin.
fn remedy(output: &Output, remedy: &Remedy) {
    row(output, (Paint::Yellow, "→"), &remedy.id, &safe::line(&remedy.why));
    output.line("");
    if let Some((path, text)) = &remedy.file {
        if let Some(folder) = path.parent() {
            output.line(format!("sudo mkdir -p {}", folder.display()));
        }
        output.line(format!("sudo tee {} > /dev/null <<'END'", path.display()));
        text.lines().for_each(|line| output.line(safe::line(line)));
        output.line("END");
        remedy.commands.iter().for_each(|command| output.line(format!("sudo {command}")));
    } else {
        let lines = remedy.commands.iter().flat_map(|text| wrap(text, output.width().saturating_sub(4)));
        lines.for_each(|line| output.line(format!("    {line}")));
    }
}

fn verdict(output: &Output, report: &Report) -> String {
    let count = |status| report.checks.iter().filter(|check| check.status == status).count();
    let (failed, warned) = (count(Status::Fail), count(Status::Warn));
    let verdict = match (failed, warned) {
        (0, 0) => output.paint(Paint::Green, "nothing to do"),
        (0, _) => output.paint(Paint::Yellow, &format!("{warned} to look at")),
        _ => output.paint(Paint::Red, &format!("{failed} failed, {warned} to look at")),
    };
    let BatteryReport { attempts, held, open, .. } = &report.battery;
    format!("{attempts} attempts: {held} held under every profile, {} open · {verdict}", open.len())
}

/// `text` in lines of at most `width` characters, broken at spaces; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = lines.last().is_some_and(|line| line.chars().count() + 1 + word.chars().count() <= width);
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if fits => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn text_is_broken_at_spaces_and_never_lost() {
        let text = "one two three a-word-that-is-longer-than-the-line four";
        let lines = wrap(text, 10);
        assert_eq!(lines, ["one two", "three", "a-word-that-is-longer-than-the-line", "four"]);
        assert_eq!(lines.join(" "), text);
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("über ländern", 12), ["über ländern"], "characters are counted, not bytes");
    }
}
