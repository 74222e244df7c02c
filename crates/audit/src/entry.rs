//! Entries: what is recorded, and the canonical bytes that are stored and hashed.

use serde_json::Value;
use sigil_types::{Code, Digest, EventId, SessionId, Timestamp, TurnId, WorkspaceId};

/// Largest entry in bytes of canonical JSON: the log holds metadata and digests, not content.
pub const MAX_ENTRY_BYTES: usize = 64 * 1024;

/// Something to record: who did what, where, and the metadata that explains it.
///
/// `data` holds metadata and digests only: never message bodies, never secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What happened, such as `gate.clear.refused`.
    pub kind: Code,
    /// Who acted: a principal, a plugin instance, or `sigil` itself.
    pub actor: String,
    /// In which turn.
    pub turn: Option<TurnId>,
    /// In which session.
    pub session: Option<SessionId>,
    /// In which workspace.
    pub workspace: Option<WorkspaceId>,
    /// Metadata.
    pub data: Value,
}

impl Entry {
    /// An entry of `kind` by `actor`, without context or metadata.
    #[must_use]
    pub fn new(kind: Code, actor: impl Into<String>) -> Self {
        Self { kind, actor: actor.into(), turn: None, session: None, workspace: None, data: Value::Null }
    }

    /// The same entry, in `turn`.
    #[must_use]
    pub fn turn(self, turn: TurnId) -> Self {
        Self { turn: Some(turn), ..self }
    }

    /// The same entry, in `session`.
    #[must_use]
    pub fn session(self, session: SessionId) -> Self {
        Self { session: Some(session), ..self }
    }

    /// The same entry, in `workspace`.
    #[must_use]
    pub fn workspace(self, workspace: WorkspaceId) -> Self {
        Self { workspace: Some(workspace), ..self }
    }

    /// The same entry with `data`.
    #[must_use]
    pub fn data(self, data: Value) -> Self {
        Self { data, ..self }
    }
}

/// An entry as the log holds it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Its place, counted from zero.
    pub seq: u64,
    /// Its name, which is also the receipt's and the `audit_ref` of problem documents.
    pub id: EventId,
    /// When it was appended.
    pub at: Timestamp,
    /// What happened.
    pub kind: Code,
    /// Who acted.
    pub actor: String,
    /// In which turn.
    #[serde(default)]
    pub turn: Option<TurnId>,
    /// In which session.
    #[serde(default)]
    pub session: Option<SessionId>,
    /// In which workspace.
    #[serde(default)]
    pub workspace: Option<WorkspaceId>,
    /// Metadata.
    #[serde(default)]
    pub data: Value,
    /// Its leaf hash, computed from the stored bytes.
    #[serde(skip_deserializing, default = "crate::merkle::empty_root")]
    pub leaf: Digest,
}

impl Stored {
    /// Reads an entry from its canonical bytes.
    ///
    /// # Errors
    /// When the bytes are not an entry.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut stored: Self = serde_json::from_slice(bytes)?;
        stored.leaf = crate::merkle::leaf_hash(bytes);
        Ok(stored)
    }
}

/// An entry whose place is not known yet: canonical JSON, split where the sequence number goes.
///
/// The caller's thread does this work, so that the writer's only concatenates.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: EventId,
    pub(crate) kind: Code,
    pub(crate) turn: Option<TurnId>,
    pub(crate) session: Option<SessionId>,
    before: String,
    after: String,
}

impl Draft {
    pub(crate) fn new(id: EventId, at: Timestamp, entry: Entry) -> Self {
        // Keys in their sorted order: actor, at, data, id, kind, seq, session, turn, workspace. Absent ones are left out.
        let mut before = String::with_capacity(256);
        before.push_str("{\"actor\":");
        write_string(&entry.actor, &mut before);
        before.push_str(&format!(",\"at\":\"{at}\""));
        if !entry.data.is_null() {
            before.push_str(",\"data\":");
            write_canonical(&entry.data, &mut before);
        }
        before.push_str(&format!(",\"id\":\"{id}\",\"kind\":\"{}\",\"seq\":", entry.kind));
        let mut after = String::new();
        if let Some(session) = &entry.session {
            after.push_str(&format!(",\"session\":\"{session}\""));
        }
        if let Some(turn) = &entry.turn {
            after.push_str(&format!(",\"turn\":\"{turn}\""));
        }
        if let Some(workspace) = &entry.workspace {
            after.push_str(&format!(",\"workspace\":\"{workspace}\""));
        }
        after.push('}');
        Self { id, kind: entry.kind, turn: entry.turn, session: entry.session, before, after }
    }

    /// Bytes of the entry, but for its sequence number.
    pub(crate) fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }

    pub(crate) fn bytes(&self, seq: u64) -> String {
        format!("{}{seq}{}", self.before, self.after)
    }
}

/// Appends `value` to `out` as canonical JSON: no blanks, members sorted by UTF-16 code units as in RFC 8785. Unlike
/// there, integers of 64 bits stay exact.
pub fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (at, (name, item)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write_canonical(item, out);
            }
            out.push('}');
        }
    }
}

/// Appends `text` as a JSON string; `"`, `\` and control characters are escaped, nothing else.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_is_canonical_json_and_reads_back() {
        let now = Timestamp::from_millis(1_700_000_000_123);
        let (id, turn, session) = (EventId::generate(now), TurnId::generate(now), SessionId::generate(now));
        let entry = Entry::new(Code::new("gate.clear.refused"), "owner:\"ann\"\u{1}")
            .turn(turn)
            .session(session)
            .workspace("home".parse().unwrap())
            .data(json!({"z": [1, 2.5, null], "a": {"y": "ü\n", "b": true}}));
        let bytes = Draft::new(id, now, entry.clone()).bytes(42);
        assert_eq!(
            bytes,
            format!(
                r#"{{"actor":"owner:\"ann\"\u0001","at":"2023-11-14T22:13:20.123Z","data":{{"a":{{"b":true,"y":"ü\n"}},"z":[1,2.5,null]}},"id":"{id}","kind":"gate.clear.refused","seq":42,"session":"{session}","turn":"{turn}","workspace":"home"}}"#
            )
        );
        let stored = Stored::parse(bytes.as_bytes()).unwrap();
        assert_eq!((stored.seq, stored.id, stored.at), (42, id, now));
        assert_eq!((stored.actor, stored.data, stored.turn), (entry.actor, entry.data, entry.turn));
        assert_eq!(stored.leaf, crate::merkle::leaf_hash(bytes.as_bytes()));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(".{0,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_json_means_the_same_and_is_stable(value in any_json()) {
            let mut text = String::new();
            write_canonical(&value, &mut text);
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &value);
            let mut again = String::new();
            write_canonical(&read, &mut again);
            prop_assert_eq!(again, text);
        }
    }
}
