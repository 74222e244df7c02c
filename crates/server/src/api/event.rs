//! Events on the wire: the envelope, and the union of what is in it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sigil_types::{Timestamp, TurnEvent, TurnId};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{RefOr, schema};
use utoipa::{PartialSchema, ToSchema};

use crate::operations::Numbered;

/// One event of a stream. Its `id:` line is `seq`; `type` says what `data` is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Envelope {
    /// Version of this form: 1.
    pub v: u32,
    /// Number of the event in its stream, counted from 1 without gaps. A turn that is taken up after a crash goes on
    /// with higher numbers; the ones between were lost with the process.
    pub seq: u64,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    pub ts: Timestamp,
    /// The stream's topic: `turn`.
    pub topic: String,
    /// What happened, such as `text` or `finished`. More kinds may come.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it happened to, such as `turns/tn_…`.
    pub resource: String,
    /// Its particulars, by `type`.
    #[schema(value_type = TurnEventData)]
    pub data: Map<String, Value>,
}

impl Envelope {
    /// The envelope of a turn's event.
    pub(crate) fn of(turn: TurnId, numbered: &Numbered) -> Self {
        let mut data = match serde_json::to_value(&numbered.event) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let kind = match data.remove("type") {
            Some(Value::String(kind)) => kind,
            _ => String::new(),
        };
        let resource = format!("turns/{turn}");
        Self { v: 1, seq: numbered.seq, ts: numbered.at, topic: "turn".to_owned(), kind, resource, data }
    }

    /// The turn's event in it; `None` for a kind that this version does not know.
    #[must_use]
    pub fn event(&self) -> Option<TurnEvent> {
        let mut whole = self.data.clone();
        whole.insert("type".to_owned(), Value::String(self.kind.clone()));
        serde_json::from_value(Value::Object(whole)).ok()
    }
}

/// A field of an event: name, form, whether it may be `null`.
struct Field(&'static str, Form, bool);

#[derive(Clone, Copy)]
enum Form {
    Text,
    Number,
    Flag,
    Texts,
}

/// The kinds of event and their fields. A test holds this table against the type.
const VARIANTS: &[(&str, &[Field])] = &[
    ("accepted", &[Field("turn", Form::Text, false), Field("session", Form::Text, false)]),
    (
        "verdict",
        &[
            Field("hop", Form::Text, false),
            Field("verdict", Form::Text, false),
            Field("receipt", Form::Text, false),
            Field("rules", Form::Texts, false),
        ],
    ),
    ("text", &[Field("delta", Form::Text, false)]),
    (
        "tool_call",
        &[
            Field("call", Form::Text, false),
            Field("tool", Form::Text, false),
            Field("arguments", Form::Text, true),
            Field("receipt", Form::Text, false),
        ],
    ),
    (
        "tool_result",
        &[
            Field("call", Form::Text, false),
            Field("tool", Form::Text, false),
            Field("ok", Form::Flag, false),
            Field("bytes", Form::Number, false),
            Field("rules", Form::Texts, false),
        ],
    ),
    (
        "approval_requested",
        &[
            Field("approval", Form::Text, false),
            Field("summary", Form::Text, false),
            Field("authors", Form::Texts, false),
            Field("expires", Form::Text, false),
        ],
    ),
    ("approval_resolved", &[Field("approval", Form::Text, false), Field("approved", Form::Flag, false)]),
    ("usage", &[Field("input_tokens", Form::Number, false), Field("output_tokens", Form::Number, false)]),
    (
        "finished",
        &[Field("outcome", Form::Text, false), Field("code", Form::Text, true), Field("message", Form::Text, true)],
    ),
];

/// The particulars of a turn's event, by the envelope's `type`.
#[derive(Debug)]
pub(crate) struct TurnEventData;

impl PartialSchema for TurnEventData {
    fn schema() -> RefOr<Schema> {
        let one = |(kind, fields): &(&str, &[Field])| {
            let mut object = ObjectBuilder::new().schema_type(Type::Object).title(Some(*kind));
            for Field(name, form, nullable) in *fields {
                object = object.property(*name, form.schema(*nullable)).required(*name);
            }
            object.build()
        };
        let union = VARIANTS.iter().map(one).fold(OneOfBuilder::new(), |union, object| union.item(object));
        RefOr::T(Schema::OneOf(union.build()))
    }
}

impl ToSchema for TurnEventData {}

impl Form {
    fn schema(self, nullable: bool) -> RefOr<Schema> {
        let kind = match self {
            Self::Texts => return ArrayBuilder::new().items(schema::Object::with_type(Type::String)).build().into(),
            Self::Text => Type::String,
            Self::Number => Type::Integer,
            Self::Flag => Type::Boolean,
        };
        let kind = if nullable { SchemaType::from_iter([kind, Type::Null]) } else { SchemaType::new(kind) };
        ObjectBuilder::new().schema_type(kind).build().into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sigil_types::{ApprovalId, Code, EventId, Hop, Outcome, SessionId, Usage, VerdictKind};

    use super::*;

    fn one_of_each() -> Vec<TurnEvent> {
        let at = Timestamp::from_millis(1_793_404_800_123);
        let (turn, receipt, approval) = (TurnId::generate(at), EventId::generate(at), ApprovalId::generate(at));
        let (call, tool) = ("c1".to_owned(), "files.read".parse().expect("a tool"));
        let rules = vec![Code::new("scan.injection.override")];
        vec![
            TurnEvent::Accepted { turn, session: SessionId::generate(at) },
            TurnEvent::Verdict { hop: Hop::ToTool, verdict: VerdictKind::Held, receipt, rules: rules.clone() },
            TurnEvent::Text { delta: "a\nb".to_owned() },
            TurnEvent::ToolCall { call: call.clone(), tool, arguments: None, receipt },
            TurnEvent::ToolResult { call, tool: "files.read".parse().expect("a tool"), ok: true, bytes: 7, rules },
            TurnEvent::ApprovalRequested { approval, summary: String::new(), authors: Vec::new(), expires: at },
            TurnEvent::ApprovalResolved { approval, approved: false },
            TurnEvent::Usage(Usage { input_tokens: 1, output_tokens: 2 }),
            TurnEvent::Finished { outcome: Outcome::Completed, code: None, message: None },
        ]
    }

    #[test]
    fn the_table_says_what_the_type_says() {
        let at = Timestamp::from_millis(1);
        let turn = TurnId::generate(at);
        let mut kinds = BTreeSet::new();
        for (at_seq, event) in one_of_each().into_iter().enumerate() {
            let numbered = Numbered { seq: at_seq as u64 + 1, at, event };
            let envelope = Envelope::of(turn, &numbered);
            let (_, fields) = VARIANTS.iter().find(|(kind, _)| *kind == envelope.kind).expect("a row");
            let named: BTreeSet<&str> = fields.iter().map(|field| field.0).collect();
            assert_eq!(named, envelope.data.keys().map(String::as_str).collect(), "{}", envelope.kind);
            let wire = serde_json::to_string(&envelope).expect("JSON");
            let back: Envelope = serde_json::from_str(&wire).expect("the same");
            assert_eq!(back.event(), Some(numbered.event));
            kinds.insert(envelope.kind);
        }
        assert_eq!(kinds.len(), VARIANTS.len());
    }

    #[test]
    fn a_kind_of_a_later_version_is_no_error() {
        let text =
            r#"{"v":1,"seq":1,"ts":"2026-10-31T00:00:00.123Z","topic":"turn","type":"new","resource":"x","data":{}}"#;
        assert_eq!(serde_json::from_str::<Envelope>(text).expect("an envelope").event(), None);
    }
}
