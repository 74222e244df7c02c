//! The two wire forms: prompts to bytes, bytes to events. Pure: nothing here waits or sends.

mod anthropic;
mod assembly;
mod openai;

use sigil_gate::port::ModelEvent;
use sigil_gate::{Message, Prompt, ToolDefinition};

use crate::failed::ChatFailed;
use crate::sse::SseReader;
use crate::tool_name::to_wire;
use assembly::Assembly;

/// The longest tool name that both vendors take.
const MAX_TOOL_NAME: usize = 64;

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// The Anthropic Messages API.
    Anthropic,
    /// The OpenAI chat completions API.
    OpenAi {
        /// Sends `max_completion_tokens`, as OpenAI itself wants it, instead of `max_tokens`, as everybody else does.
        completion_tokens: bool,
    },
}

/// The parts of a prompt that go over the wire.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The model's name at the provider.
    pub model: &'a str,
    /// The messages, oldest first.
    pub messages: &'a [Message],
    /// The tools that the model may call.
    pub tools: &'a [ToolDefinition],
    /// Sampling temperature; zero is sent as zero.
    pub temperature: Option<f32>,
    /// The most tokens that the answer may have.
    pub max_tokens: Option<u32>,
}

impl<'a> From<&'a Prompt> for Ask<'a> {
    fn from(prompt: &'a Prompt) -> Self {
        Self {
            model: &prompt.model,
            messages: &prompt.messages,
            tools: &prompt.tools,
            temperature: prompt.temperature,
            max_tokens: prompt.max_tokens,
        }
    }
}

impl Wire {
    /// The last part of the path.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Anthropic => "messages",
            Self::OpenAi { .. } => "chat/completions",
        }
    }

    /// Writes a request that asks for a stream.
    ///
    /// # Errors
    /// [`ChatFailed::ToolName`] when a tool's name is too long for models.
    pub fn encode(self, ask: &Ask<'_>) -> Result<Vec<u8>, ChatFailed> {
        if let Some(tool) = ask.tools.iter().find(|tool| to_wire(&tool.name).len() > MAX_TOOL_NAME) {
            return Err(ChatFailed::ToolName { tool: tool.name.to_string() });
        }
        let written = match self {
            Self::Anthropic => serde_json::to_vec(&anthropic::Request::of(ask)),
            Self::OpenAi { completion_tokens } => serde_json::to_vec(&openai::Request::of(ask, completion_tokens)),
        };
        written.map_err(|_| ChatFailed::Malformed { what: "the prompt cannot be written as JSON" })
    }
}

/// Reads one streamed answer from any cut of its bytes.
#[derive(Debug)]
pub struct AnswerReader {
    wire: Wire,
    sse: SseReader,
    assembly: Assembly,
}

impl AnswerReader {
    /// A reader of an answer in `wire`.
    #[must_use]
    pub fn new(wire: Wire) -> Self {
        Self { wire, sse: SseReader::default(), assembly: Assembly::default() }
    }

    /// Takes the next bytes and adds the events that they complete to `events`.
    ///
    /// Text comes as it arrives. Tool calls, usage and the stop reason come together, with the end marker: a stream that is
    /// cut off has called no tool.
    ///
    /// # Errors
    /// [`ChatFailed`] when the stream is malformed, or the provider reports a failure in it.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<ModelEvent>) -> Result<(), ChatFailed> {
        let mut outcome = Ok(());
        let (wire, assembly) = (self.wire, &mut self.assembly);
        let read = self.sse.push(bytes, |event| {
            // After the end marker nothing counts.
            if outcome.is_ok() && !assembly.is_ended() {
                outcome = match wire {
                    Wire::Anthropic => anthropic::event(&event.data, assembly, events),
                    Wire::OpenAi { .. } => openai::event(&event.data, assembly, events),
                };
            }
        });
        outcome?;
        read.map_err(|_| ChatFailed::Malformed { what: "it is not a stream of server-sent events" })
    }

    /// Whether the end marker was read; nothing that follows it matters.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.assembly.is_ended()
    }

    /// The stream is over.
    ///
    /// # Errors
    /// [`ChatFailed::NoEnd`] when it had no end marker.
    pub const fn finish(&self) -> Result<(), ChatFailed> {
        if self.assembly.is_ended() { Ok(()) } else { Err(ChatFailed::NoEnd) }
    }
}
