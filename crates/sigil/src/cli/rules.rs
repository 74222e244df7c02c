//! What the rules of scanner, policy and escape battery say about themselves.

use serde::Serialize;
use sigil_policy::{Preset, Source};
use sigil_types::Code;

use super::output::word;

/// A rule.
#[derive(Debug, Serialize)]
pub(super) struct Rule {
    /// Its id.
    code: Code,
    /// What it looks for, guards against or tries.
    pub(super) what: String,
    /// More about it, line by line.
    pub(super) more: Vec<String>,
}

/// The rule `code`, if it is one that is built in.
pub(super) fn find(code: &Code) -> Option<Rule> {
    attempt(code).or_else(|| {
        let source = Source::embedded(Preset::Balanced).ok()?;
        source.files().find_map(|(path, text)| {
            let found = match path.rsplit_once('.') {
                Some((name, "toml")) if name.starts_with("scanner/") => pattern(code, text),
                Some((_, "cedar")) => cedar(code, path, text),
                _ => None,
            };
            found.map(|(what, more)| Rule { code: code.clone(), what, more })
        })
    })
}

fn attempt(code: &Code) -> Option<Rule> {
    let attempt = sigil_sandbox::battery::attempts().find(|attempt| attempt.id == code.as_str())?;
    let layers: Vec<String> = attempt.layers.iter().map(word).collect();
    let mut more = vec![
        "an attempt of the escape battery (sigil doctor)".to_owned(),
        format!("stopped by: {}", if layers.is_empty() { "nothing".to_owned() } else { layers.join(", ") }),
    ];
    let accepted = sigil_sandbox::battery::ACCEPTED.iter().filter(|known| known.id == attempt.id);
    more.extend(accepted.map(|known| format!("accepted under {}: {}", known.under.join(", "), known.why)));
    more.extend(attempt.no_control.map(|why| format!("does not work unconfined, either: {why}")));
    Some(Rule { code: code.clone(), what: attempt.what.to_owned(), more })
}

/// A rule of a scanner pack.
fn pattern(code: &Code, text: &str) -> Option<(String, Vec<String>)> {
    let pack: toml::Table = toml::from_str(text).ok()?;
    let rules = pack.get("rule")?.as_array()?;
    let rule = rules.iter().find(|rule| rule.get("id").and_then(toml::Value::as_str) == Some(code.as_str()))?;
    let field = |name| rule.get(name).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    let more = vec![
        format!("a rule of the scanner: class {}, severity {}", field("class"), field("severity")),
        "what a finding leads to stands in scan.toml of the signed policy; try a text with sigil scan".to_owned(),
    ];
    Some((field("description"), more))
}

/// A rule of the policy: its `@why`, which stands beside its `@id`.
fn cedar(code: &Code, path: &str, text: &str) -> Option<(String, Vec<String>)> {
    let own = text
        .split("@id(\"")
        .skip(1)
        .find(|rest| rest.strip_prefix(code.as_str()).is_some_and(|rest| rest.starts_with("\")")))?;
    let why = own.split_once("@why(\"").and_then(|(_, rest)| rest.split_once("\")")).map_or("", |(why, _)| why);
    let asks = own.contains("\n@ask");
    let more = vec![
        format!("a rule of the built-in policy, in {path}: sigil policy export FOLDER writes it out"),
        if asks { "where it decides, a human is asked" } else { "where it decides, nobody is asked" }.to_owned(),
    ];
    Some((why.to_owned(), more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_all_kinds_are_found() {
        for known in ["injection.override.en", "policy.integrity.ask", "fs.01", "secret.github.token"] {
            let rule = find(&known.parse().expect("a code")).unwrap_or_else(|| panic!("{known}"));
            assert!(rule.what.len() > 8 && !rule.more.is_empty(), "{rule:?}");
        }
        assert!(find(&"injection.override.xx".parse().expect("a code")).is_none());
    }
}
