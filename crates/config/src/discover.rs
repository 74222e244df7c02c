//! Finding and reading `sigil.yaml`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use sigil_types::Code;

use crate::mistake::Mistake;
use crate::resolved::Inputs;

/// The name of the file.
pub const FILE_NAME: &str = "sigil.yaml";

/// The largest file, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// Something that an operator should see in the log: a file that was taken from the working directory, or left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Stable code.
    pub code: Code,
    /// One sentence.
    pub text: String,
}

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) path: PathBuf,
    pub(crate) value: Value,
    /// The line of each key, counted from 1.
    pub(crate) lines: BTreeMap<String, u64>,
}

/// The first file that applies, read; none is fine unless one was named.
pub(crate) fn read(inputs: &Inputs, notes: &mut Vec<Note>) -> Result<Option<Document>, Vec<Mistake>> {
    if let Some(path) = &inputs.config {
        let file = open(path)?.ok_or_else(|| {
            vec![mistake(path, "config.file.missing", "there is no such file", "name an existing file after --config")]
        })?;
        return parse(path, file).map(Some);
    }
    let here = inputs.working_dir.join(FILE_NAME);
    if let Some(file) = open(&here)? {
        match exposed(&file, &inputs.working_dir, inputs.uid, false)? {
            None => {
                notes.push(note(
                    "config.file.discovered",
                    format!("reading {} from the working directory", here.display()),
                ));
                return parse(&here, file).map(Some);
            }
            Some(why) => notes.push(note("config.file.ignored", format!("{} is not read: {why}", here.display()))),
        }
    }
    for folder in [inputs.config_dir(), Some(inputs.system_dir.clone())].into_iter().flatten() {
        let path = folder.join(FILE_NAME);
        let Some(file) = open(&path)? else { continue };
        if let Some(why) = exposed(&file, &folder, inputs.uid, true)? {
            let remedy = "make both yours (or root's) alone: chmod go-w on the file and its folder";
            return Err(vec![mistake(&path, "config.file.exposed", &why, remedy)]);
        }
        return parse(&path, file).map(Some);
    }
    Ok(None)
}

fn note(code: &'static str, text: String) -> Note {
    Note { code: Code::new(code), text }
}

fn mistake(path: &Path, code: &'static str, reason: &str, remedy: &str) -> Mistake {
    Mistake {
        code: Code::new(code),
        source: path.display().to_string(),
        key: String::new(),
        reason: reason.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Vec<Mistake> {
    let reason = format!("it cannot be read: {error}");
    vec![mistake(path, "config.file.unreadable", &reason, "make it readable, or name another with --config")]
}

fn open(path: &Path) -> Result<Option<File>, Vec<Mistake>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Who else could have written the open file or its folder; `None` when only this user could (or root, where that is fine).
fn exposed(file: &File, folder: &Path, uid: u32, root_may: bool) -> Result<Option<String>, Vec<Mistake>> {
    let of_file = file.metadata().map_err(|error| unreadable(folder, &error))?;
    let of_folder = folder.metadata().map_err(|error| unreadable(folder, &error))?;
    for (what, metadata) in [("the file", of_file), ("its folder", of_folder)] {
        if metadata.uid() != uid && !(root_may && metadata.uid() == 0) {
            return Ok(Some(format!("{what} belongs to user {}", metadata.uid())));
        }
        if metadata.mode() & 0o022 != 0 {
            return Ok(Some(format!("others may write {what} (mode {:03o})", metadata.mode() & 0o777)));
        }
    }
    Ok(None)
}

fn parse(path: &Path, file: File) -> Result<Document, Vec<Mistake>> {
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
    if text.len() as u64 > MAX_BYTES {
        let reason = format!("it is larger than {MAX_BYTES} bytes");
        return Err(vec![mistake(path, "config.file.size", &reason, "remove what does not belong there")]);
    }
    let (value, lines) = parse_text(&text).map_err(|reason| {
        vec![mistake(path, "config.file.syntax", &reason, "correct the YAML; quote texts that have `:` or `#` in them")]
    })?;
    Ok(Document { path: path.to_owned(), value, lines })
}

/// Parses one YAML document into a value and the line of each of its keys.
pub(crate) fn parse_text(text: &str) -> Result<(Value, BTreeMap<String, u64>), String> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok((Value::Object(Map::new()), BTreeMap::new()));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 50_000,
            max_aliases: 64,
            max_anchors: 64,
            max_depth: 32,
            flow_nesting_limit: 32,
            max_inclusion_depth: 0,
            max_documents: 1,
            max_nodes: 20_000,
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
    let tree: Tree =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| printable(&error.to_string()))?;
    let mut lines = BTreeMap::new();
    let value = tree.into_value("", &mut lines);
    Ok((value, lines))
}

/// A text from outside, cut and without control characters, for a message.
fn printable(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A YAML node and the place where it stands.
struct Tree(serde_saphyr::Spanned<Node>);

enum Node {
    Leaf(Value),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    fn into_value(self, path: &str, lines: &mut BTreeMap<String, u64>) -> Value {
        lines.insert(path.to_owned(), self.0.referenced.line());
        match self.0.value {
            Node::Leaf(value) => value,
            Node::List(items) => {
                let item = |(at, item): (usize, Self)| item.into_value(&format!("{path}[{at}]"), lines);
                Value::Array(items.into_iter().enumerate().map(item).collect())
            }
            Node::Map(entries) => {
                let entry = |(key, item): (String, Self)| {
                    let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    let value = item.into_value(&inner, lines);
                    (key, value)
                };
                Value::Object(entries.into_iter().map(entry).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_saphyr::Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Node::Leaf(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(Value::String(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_and_their_lines() {
        let text = "# comment\ngateway:\n  listen: null\n  hosts: [a, b]\nlog:\n  level: debug\n";
        let (value, lines) = parse_text(text).expect("YAML");
        assert_eq!(
            value,
            serde_json::json!({"gateway": {"listen": null, "hosts": ["a", "b"]}, "log": {"level": "debug"}})
        );
        assert_eq!(lines.get("log.level"), Some(&6));
        assert_eq!(lines.get("gateway.hosts[1]"), Some(&4));
    }

    #[test]
    fn an_empty_file_is_an_empty_configuration() {
        for empty in ["", "\n\n", "# nothing\n  # here\n"] {
            assert_eq!(parse_text(empty).expect("fine").0, serde_json::json!({}));
        }
    }

    #[test]
    fn ambiguous_yaml_is_refused() {
        for bad in ["a: 1\na: 2\n", "a: [\n", "---\na: 1\n---\nb: 2\n", "a: &x {b: 1}\nc:\n  <<: *x\n"] {
            assert!(parse_text(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            drop(parse_text(&text));
        }
    }
}
