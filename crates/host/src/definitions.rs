//! What a plugin says about its tools, checked for form. Its words stay its own: a model reads them as such.

use std::collections::BTreeSet;

use serde_json::Value;
use sigil_gate::ToolDefinition;
use sigil_proto::v1::ToolDescription;
use sigil_types::{Code, Digest, Origin, PluginName, ToolName, Untrusted};

use crate::logs::clean;

const MAX_TOOLS: usize = 64;
const MAX_DESCRIPTION: usize = 4 * 1024;
const MAX_SCHEMA: usize = 64 * 1024;

/// Why what a plugin says about its tools is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionsRefused {
    /// None, or too many.
    #[error("a tool plugin describes 1 to {MAX_TOOLS} tools, this one {0}")]
    Count(usize),
    /// A name that is none.
    #[error("tool {0} has a name that is none: it needs 1 to 64 characters of a-z, 0-9, `_`, `-`, and no `__`")]
    Name(usize),
    /// The same name twice.
    #[error("the tool {0} is described twice")]
    Twice(ToolName),
    /// Too long.
    #[error("the description of {0} has more than {MAX_DESCRIPTION} bytes, or its schema more than {MAX_SCHEMA}")]
    Long(ToolName),
    /// Not a schema of an object.
    #[error("the schema of {0} is not the JSON Schema of an object (`\"type\": \"object\"`)")]
    Schema(ToolName),
    /// The manifest speaks of a tool that there is not.
    #[error("the manifest speaks of the tool {0}, which the plugin does not describe")]
    Absent(ToolName),
    /// Not what they were.
    #[error(
        "the plugin describes its tools otherwise than before ({now}, expected {pinned}); review them and accept the new digest"
    )]
    Changed {
        /// What was agreed to.
        pinned: Digest,
        /// What it says now.
        now: Digest,
    },
}

impl DefinitionsRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Changed { .. } => const { Code::new("host.plugin.definitions.changed") },
            _ => const { Code::new("host.plugin.definitions.bad") },
        }
    }
}

/// The tools of a plugin, in the order of their names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Definitions {
    /// Digest of everything that it says about them.
    pub(crate) digest: Digest,
    pub(crate) tools: Vec<ToolDefinition>,
}

impl Definitions {
    /// Checks the form of what a plugin said.
    pub(crate) fn check(
        plugin: &PluginName,
        said: Untrusted<Vec<ToolDescription>>,
    ) -> Result<Self, DefinitionsRefused> {
        let said = said.into_inner();
        if said.is_empty() || said.len() > MAX_TOOLS {
            return Err(DefinitionsRefused::Count(said.len()));
        }
        let mut names = BTreeSet::new();
        let mut tools = Vec::new();
        for (at, tool) in said.into_iter().enumerate() {
            let name = ToolName::new(plugin, &tool.name).map_err(|_| DefinitionsRefused::Name(at))?;
            if tool.description.len() > MAX_DESCRIPTION || tool.arguments_schema_json.len() > MAX_SCHEMA {
                return Err(DefinitionsRefused::Long(name));
            }
            let schema: Option<Value> = serde_json::from_str(&tool.arguments_schema_json).ok();
            let schema = schema.filter(|schema| schema.get("type").and_then(Value::as_str) == Some("object"));
            let Some(schema) = schema else { return Err(DefinitionsRefused::Schema(name)) };
            if !names.insert(name.clone()) {
                return Err(DefinitionsRefused::Twice(name));
            }
            tools.push(ToolDefinition { name, description: clean(&tool.description, true), schema });
        }
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { digest: digest(&tools), tools })
    }
}

/// Lengths stand before texts, so that no two sets of definitions have the same bytes; schemas are canonical JSON.
fn digest(tools: &[ToolDefinition]) -> Digest {
    let mut bytes = b"sigil tool definitions, version 1\n".to_vec();
    for tool in tools {
        let mut schema = String::new();
        sigil_audit::write_canonical(&tool.schema, &mut schema);
        for part in [tool.name.as_str(), &tool.description, &schema] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    Digest::of(&bytes)
}

/// Marks what a plugin said as the plugin's.
pub(crate) fn said(tools: Vec<ToolDescription>) -> Untrusted<Vec<ToolDescription>> {
    Untrusted::new(Origin::Plugin, tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, description: &str, schema: &str) -> ToolDescription {
        ToolDescription { name: name.into(), description: description.into(), arguments_schema_json: schema.into() }
    }

    fn check(tools: &[ToolDescription]) -> Result<Definitions, DefinitionsRefused> {
        Definitions::check(&"files".parse().expect("a name"), said(tools.to_vec()))
    }

    const OBJECT: &str = r#"{"type":"object"}"#;

    #[test]
    fn the_digest_is_of_every_word_and_not_of_the_order() {
        let (a, b) = (tool("a", "x", OBJECT), tool("b", "y", OBJECT));
        let base = check(&[a.clone(), b.clone()]).expect("good");
        let one = check(&[tool("a", "x", r#"{"type":"object","a":1}"#)]).expect("good").digest;
        assert_eq!(one, check(&[tool("a", "x", r#"{"a":1,"type":"object"}"#)]).expect("good").digest);
        assert_eq!(base, check(&[b.clone(), a.clone()]).expect("good"));
        for other in [tool("a", "x ", OBJECT), tool("c", "x", OBJECT), tool("a", "x", r#"{"type":"object","a":1}"#)] {
            assert_ne!(base.digest, check(&[other, b.clone()]).expect("good").digest);
        }
    }

    #[test]
    fn malformed_definitions_are_refused() {
        let long = "x".repeat(MAX_DESCRIPTION + 1);
        for bad in [
            vec![],
            vec![tool("a", "", OBJECT); 2],
            vec![tool("a", "", OBJECT); MAX_TOOLS + 1],
            vec![tool("A", "", OBJECT)],
            vec![tool("a__b", "", OBJECT)],
            vec![tool("a.b", "", OBJECT)],
            vec![tool("a", &long, OBJECT)],
            vec![tool("a", "", "")],
            vec![tool("a", "", "[]")],
            vec![tool("a", "", r#"{"type":"string"}"#)],
        ] {
            assert!(check(&bad).is_err(), "{:?}", bad.first());
        }
        let hidden = check(&[tool("a", "reads\u{1b}[8m and sends\u{202e}", OBJECT)]).expect("good");
        assert_eq!(hidden.tools[0].description, "reads\u{fffd}[8m and sends\u{fffd}");
    }
}
