//! A tool: its name, its description, the schema of its arguments, and the function behind it.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use sigil_proto::v1;

use crate::Context;

/// What a tool answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub(crate) content: Vec<u8>,
    pub(crate) media_type: &'static str,
}

impl Reply {
    /// Plain text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: text.into().into_bytes(), media_type: "text/plain" }
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// When the value cannot be JSON, such as a map whose keys are not texts.
    pub fn json<T: serde::Serialize>(value: &T) -> Result<Self, ToolFailed> {
        let content = serde_json::to_vec(value).map_err(|error| ToolFailed(error.to_string()))?;
        Ok(Self { content, media_type: "application/json" })
    }
}

/// Why a tool did not do what it was asked, in words for the model: what, why, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ToolFailed(pub String);

impl From<String> for ToolFailed {
    fn from(why: String) -> Self {
        Self(why)
    }
}

impl From<&str> for ToolFailed {
    fn from(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl From<std::io::Error> for ToolFailed {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

type Run = dyn Fn(&Context, &str) -> Result<Reply, ToolFailed> + Send + Sync;

/// A tool of a plugin.
#[derive(Clone)]
pub struct Tool {
    pub(crate) description: v1::ToolDescription,
    pub(crate) run: Arc<Run>,
}

impl Tool {
    /// The tool `name`, described to models by `description`, with arguments of the form `A`.
    ///
    /// `schema` is the JSON Schema that the host checks the arguments against before the call; `run` may block, and runs
    /// beside other calls.
    pub fn new<A: DeserializeOwned>(
        name: &str,
        description: &str,
        schema: serde_json::Value,
        run: impl Fn(&Context, A) -> Result<Reply, ToolFailed> + Send + Sync + 'static,
    ) -> Self {
        let description = v1::ToolDescription {
            name: name.to_owned(),
            description: description.to_owned(),
            arguments_schema_json: schema.to_string(),
        };
        let parse_and_run = move |context: &Context, arguments: &str| {
            let arguments = serde_json::from_str(arguments).map_err(|error| {
                ToolFailed(format!("the arguments do not have the form of the tool's schema: {error}"))
            })?;
            run(context, arguments)
        };
        Self { description, run: Arc::new(parse_and_run) }
    }
}

impl std::fmt::Debug for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tool").field("description", &self.description).finish_non_exhaustive()
    }
}
