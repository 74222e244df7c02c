//! The layers of a configuration as figment providers, and which of them set a key.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use figment::value::{Dict, Map as ProfileMap};
use figment::{Error, Metadata, Profile, Provider};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use sigil_types::Code;

use crate::discover::Note;
use sigil_types::nearest;

use crate::mistake::Mistake;
use crate::schema::{self, Step};

/// Names that start with `SIGIL_`, have no `__`, and are read by something other than the configuration.
pub const RESERVED_NAMES: &[(&str, &str)] = &[
    ("SIGIL_CORPUS_DIR", "folder of test corpora, absolute (tests only)"),
    ("SIGIL_PASSPHRASE_FILE", "file with the passphrase of the vault or of a signing key"),
];

/// What set a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Sigil's own default.
    Default,
    /// A file, and the line in it.
    File(PathBuf, Option<u64>),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One layer: a tree of values that all come from one source.
pub(crate) struct Layer {
    pub(crate) name: String,
    pub(crate) value: Map<String, Value>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<ProfileMap<Profile, Dict>, Error> {
        figment::providers::Serialized::defaults(&self.value).data()
    }
}

/// What the environment sets, and where each key came from.
#[derive(Default)]
pub(crate) struct Environment {
    pub(crate) value: Map<String, Value>,
    pub(crate) names: BTreeMap<String, String>,
}

/// Reads `SIGIL_<SECTION>__<KEY>` variables. Values have the type that the schema gives their key.
pub(crate) fn environment(
    variables: &BTreeMap<String, String>,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<Note>,
) -> Environment {
    let mut found = Environment::default();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix("SIGIL_") else { continue };
        if RESERVED_NAMES.iter().any(|(reserved, _)| reserved == name) {
            continue;
        }
        if !rest.contains("__") {
            notes.push(Note { code: Code::new("config.environment.ignored"), text: unread(name) });
            continue;
        }
        let lower = rest.to_ascii_lowercase();
        let path: Vec<&str> = lower.split("__").collect();
        if path.iter().any(|part| part.is_empty()) {
            mistakes.push(named(name, &path.join("."), "has an empty part", "write SIGIL_<SECTION>__<KEY>"));
            continue;
        }
        let through_list = (1..path.len()).any(|length| {
            schema::at(&schema::compiled().schema, path.iter().take(length).map(|part| Step::Key(part)))
                .is_some_and(|node| schema::allows(node, "array"))
        });
        if through_list {
            let reason = "a member of a list cannot be set by a variable";
            mistakes.push(named(name, &path.join("."), reason, "set the list in sigil.yaml"));
            continue;
        }
        let place = schema::at(&schema::compiled().schema, path.iter().map(|part| Step::Key(part)));
        if insert(&mut found.value, &path, typed(text, place)) {
            found.names.insert(path.join("."), name.clone());
        } else {
            let reason = "another variable sets a part of the same key";
            mistakes.push(named(name, &path.join("."), reason, "remove one of the two"));
        }
    }
    found
}

fn named(name: &str, key: &str, reason: &str, remedy: &str) -> Mistake {
    Mistake {
        code: Code::new("config.environment.invalid"),
        source: name.to_owned(),
        key: key.to_owned(),
        reason: reason.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn unread(name: &str) -> String {
    let known = RESERVED_NAMES.iter().map(|(reserved, _)| *reserved);
    match nearest(name, known) {
        Some(near) => format!("{name} is not read; {near} is"),
        None => format!("{name} is not read: settings are named SIGIL_<SECTION>__<KEY>, with two underscores"),
    }
}

/// The text as the type that its place wants; as it stands where nothing fits, so that validation names the mistake.
fn typed(text: &str, place: Option<&Value>) -> Value {
    let as_it_stands = || Value::String(text.to_owned());
    let Some(place) = place else { return as_it_stands() };
    if text == "null" && schema::allows(place, "null") {
        return Value::Null;
    }
    if schema::allows(place, "string") {
        return as_it_stands();
    }
    match crate::discover::parse_text(text) {
        Ok((value, _)) if !text.trim().is_empty() => value,
        _ => as_it_stands(),
    }
}

/// Puts `value` at `path`; `false` when something else already stands there.
pub(crate) fn insert(map: &mut Map<String, Value>, path: &[&str], value: Value) -> bool {
    let Some((last, way)) = path.split_last() else { return false };
    let mut here = map;
    for part in way {
        match here.entry(*part).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(inner) => here = inner,
            _ => return false,
        }
    }
    here.insert((*last).to_owned(), value).is_none()
}

/// All leaves of a tree: dotted key and value. Lists and empty maps are leaves.
pub(crate) fn leaves(value: &Value) -> Vec<(String, &Value)> {
    fn walk<'v>(path: &str, value: &'v Value, found: &mut Vec<(String, &'v Value)>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, inner) in map {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, inner, found);
                }
            }
            _ => found.push((path.to_owned(), value)),
        }
    }
    let mut found = Vec::new();
    walk("", value, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Environment, Vec<Mistake>, Vec<Note>) {
        let variables = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (mut mistakes, mut notes) = (Vec::new(), Vec::new());
        (environment(&variables, &mut mistakes, &mut notes), mistakes, notes)
    }

    #[test]
    fn values_have_the_type_of_their_key() {
        let (found, mistakes, _) = read(&[
            ("SIGIL_LOG__LEVEL", "debug"),
            ("SIGIL_AGENT__WINDOW", "7"),
            ("SIGIL_GATEWAY__LISTEN", "null"),
            ("SIGIL_GATEWAY__HOSTS", "[sigil.home]"),
            ("SIGIL_WORKSPACES__HOME__MODEL", "4711"),
            ("HOME", "/root"),
        ]);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let expected = serde_json::json!({
            "agent": {"window": 7}, "gateway": {"hosts": ["sigil.home"], "listen": null}, "log": {"level": "debug"},
            "workspaces": {"home": {"model": "4711"}}
        });
        assert_eq!(Value::Object(found.value), expected);
    }

    #[test]
    fn names_without_two_underscores_are_not_configuration() {
        let (found, mistakes, notes) =
            read(&[("SIGIL_LEVEL", "x"), ("SIGIL_CORPUS_DIR", "/data"), ("SIGIL_CORPUS_DR", "/x")]);
        assert!(found.value.is_empty() && mistakes.is_empty());
        assert_eq!(notes.len(), 2);
        assert!(notes.iter().any(|note| note.text.contains("SIGIL_CORPUS_DIR is")), "{notes:?}");
    }

    #[test]
    fn a_member_of_a_list_is_refused_with_the_way_out() {
        let (_, mistakes, _) = read(&[("SIGIL_PROVIDERS__0__NAME", "a")]);
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].remedy.contains("sigil.yaml"));
    }
}
