//! Arguments of a tool call against the tool's JSON Schema, before anything else looks at them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::Value;
use sigil_gate::ToolDefinition;
use sigil_types::Digest;

/// Largest arguments in bytes.
const MAX_ARGUMENTS: usize = 256 * 1024;

/// Compiled schemas, kept by digest.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    compiled: Mutex<HashMap<Digest, Arc<Validator>>>,
}

impl Schemas {
    /// Whether `arguments` (JSON text) are what the tool takes.
    ///
    /// # Errors
    /// What is wrong with them, in words for the model: the model made them, so nothing is told that it did not know.
    pub(crate) fn check(&self, tool: &ToolDefinition, arguments: &str) -> Result<(), String> {
        if arguments.len() > MAX_ARGUMENTS {
            return Err(format!("The arguments have {} bytes; at most {MAX_ARGUMENTS} are taken.", arguments.len()));
        }
        let value: Value =
            serde_json::from_str(arguments).map_err(|error| format!("The arguments are not JSON: {error}."))?;
        if !value.is_object() {
            return Err("The arguments must be a JSON object.".to_owned());
        }
        let validator = self.compiled(tool)?;
        match validator.iter_errors(&value).next() {
            None => Ok(()),
            Some(error) => {
                Err(format!("The arguments do not fit the tool's schema: {error} (at {}).", error.instance_path()))
            }
        }
    }

    fn compiled(&self, tool: &ToolDefinition) -> Result<Arc<Validator>, String> {
        let text = tool.schema.to_string();
        let key = Digest::of(text.as_bytes());
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled.get(&key) {
            return Ok(Arc::clone(known));
        }
        let validator = jsonschema::draft202012::new(&tool.schema).map_err(|_| {
            format!("The schema of the tool {} is not a JSON Schema; the tool cannot be called.", tool.name)
        })?;
        let validator = Arc::new(validator);
        compiled.insert(key, Arc::clone(&validator));
        Ok(validator)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool() -> ToolDefinition {
        ToolDefinition {
            name: "files.read".parse().expect("a name"),
            description: String::new(),
            schema: json!({"type": "object", "required": ["path"], "additionalProperties": false,
                           "properties": {"path": {"type": "string"}}}),
        }
    }

    #[test]
    fn only_what_fits_passes() {
        let schemas = Schemas::default();
        assert_eq!(schemas.check(&tool(), r#"{"path":"a"}"#), Ok(()));
        for bad in ["", "[]", "{}", r#"{"path":1}"#, r#"{"path":"a","x":1}"#, "{"] {
            assert!(schemas.check(&tool(), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tool_with_a_broken_schema_cannot_be_called() {
        let broken = ToolDefinition { schema: json!({"type": 7}), ..tool() };
        assert!(Schemas::default().check(&broken, "{}").expect_err("broken").contains("JSON Schema"));
    }
}
