//! Reading a tree of values while collecting every mistake: mechanism only, it knows no field.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};
use sigil_types::Code;

use super::{MAX_BYTES, ParseManifest, Problem};

pub(super) const MISSING: Code = Code::new("plugin.manifest.field.missing");
pub(super) const UNKNOWN: Code = Code::new("plugin.manifest.field.unknown");
pub(super) const TYPE: Code = Code::new("plugin.manifest.field.type");
pub(super) const VALUE: Code = Code::new("plugin.manifest.field.value");
pub(super) const UNSUPPORTED: Code = Code::new("plugin.manifest.feature.unsupported");

/// More mistakes than this help nobody.
const MAX_PROBLEMS: usize = 100;

/// The most that is read of one list.
const MAX_ITEMS: usize = 256;

/// Parses one YAML document within the budget.
pub(super) fn yaml(text: &str) -> Result<Value, ParseManifest> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(MAX_BYTES),
            max_events: 20_000,
            max_aliases: 64,
            max_anchors: 64,
            max_depth: 32,
            flow_nesting_limit: 32,
            max_inclusion_depth: 0,
            max_documents: 1,
            max_nodes: 10_000,
            max_total_scalar_bytes: MAX_BYTES,
            max_merge_keys: 0,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 4_096,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 16,
        },
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| ParseManifest::Yaml(printable(&error.to_string())))
}

/// A text from outside, cut and without control characters, for a message.
fn printable(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Where mistakes are collected.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(&self, path: &str, code: Code, message: impl Into<String>) {
        let mut all = self.0.borrow_mut();
        if all.len() < MAX_PROBLEMS {
            all.push(Problem { path: path.to_owned(), code, message: message.into() });
        }
    }

    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A value, and where it stands.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub(super) path: String,
    pub(super) value: &'a Value,
    pub(super) problems: &'a Problems,
}

/// A mapping of which every key has to be asked for: [`Object::finish`] reports the others.
pub(super) struct Object<'a> {
    path: String,
    map: &'a Map<String, Value>,
    known: RefCell<BTreeSet<&'static str>>,
    problems: &'a Problems,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value, problems: &'a Problems) -> Self {
        Self { path: String::new(), value, problems }
    }

    pub(super) fn fail(&self, code: Code, message: impl Into<String>) {
        self.problems.add(if self.path.is_empty() { "(whole file)" } else { &self.path }, code, message);
    }

    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        self.fail(TYPE, format!("expected {expected}, found {}", kind(self.value)));
        None
    }

    pub(super) fn object(&self) -> Option<Object<'a>> {
        let Some(map) = self.value.as_object() else { return self.wrong_type("a mapping") };
        Some(Object { path: self.path.clone(), map, known: RefCell::default(), problems: self.problems })
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        self.value.as_str().or_else(|| self.wrong_type("a text"))
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.wrong_type("true or false"))
    }

    /// A whole number from `low` to `high`.
    pub(super) fn number(&self, low: u32, high: u32) -> Option<u32> {
        let Some(number) = self.value.as_u64() else { return self.wrong_type("a whole number") };
        let inside = u32::try_from(number).ok().filter(|number| (low..=high).contains(number));
        if inside.is_none() {
            self.fail(VALUE, format!("expected a whole number from {low} to {high}"));
        }
        inside
    }

    /// A text that `T` reads.
    pub(super) fn parse<T: FromStr<Err: Display>>(&self) -> Option<T> {
        self.read(|text| text.parse::<T>().map_err(|error| error.to_string()))
    }

    /// A text that `read` reads.
    pub(super) fn read<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text()?;
        read(text).map_err(|why| self.fail(VALUE, format!("{:?}: {why}", printable(text)))).ok()
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        self.read(|text| {
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            let expected = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            found.ok_or_else(|| format!("expected one of: {expected}"))
        })
    }

    /// The items of a list.
    pub(super) fn list(&self) -> Vec<Self> {
        let Some(items) = self.value.as_array() else {
            self.wrong_type::<()>("a list");
            return Vec::new();
        };
        if items.len() > MAX_ITEMS {
            self.fail(VALUE, format!("at most {MAX_ITEMS} items"));
            return Vec::new();
        }
        let node = |(at, value)| Self { path: format!("{}[{at}]", self.path), value, problems: self.problems };
        items.iter().enumerate().map(node).collect()
    }

    /// The items of a list, each through `read`; those that fail have reported why.
    pub(super) fn list_of<T, C: FromIterator<T>>(&self, read: impl Fn(&Self) -> Option<T>) -> C {
        self.list().iter().filter_map(read).collect()
    }
}

impl<'a> Object<'a> {
    /// A field that may be absent.
    pub(super) fn optional(&self, name: &'static str) -> Option<Node<'a>> {
        self.known.borrow_mut().insert(name);
        let value = self.map.get(name)?;
        Some(Node { path: self.path_of(name), value, problems: self.problems })
    }

    /// A field that must be there.
    pub(super) fn required(&self, name: &'static str) -> Option<Node<'a>> {
        let node = self.optional(name);
        if node.is_none() {
            self.problems.add(&self.path_of(name), MISSING, "this field is required");
        }
        node
    }

    /// Reports every key that nobody has asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        let listed = known.iter().copied().collect::<Vec<_>>().join(", ");
        for name in self.map.keys().filter(|name| !known.contains(name.as_str())) {
            let message = format!("no such field; the fields here are: {listed}");
            self.problems.add(&self.path_of(&printable(name)), UNKNOWN, message);
        }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
