//! The Anthropic Messages API: <https://docs.anthropic.com/en/api/messages>, version 2023-06-01.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sigil_gate::Message;
use sigil_gate::port::{ModelEvent, StopReason};

use super::Ask;
use super::assembly::Assembly;
use crate::failed::{Cause, ChatFailed, said};
use crate::tool_name::{to_wire, wire_id};

/// The API wants a limit. Every model of it can answer as much as this.
const DEFAULT_MAX_TOKENS: u32 = 4096;

#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    system: String,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
}

#[derive(Debug, Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text { text: &'a str },
    ToolUse { id: String, name: String, input: Value },
    ToolResult { tool_use_id: String, content: &'a str },
}

#[derive(Debug, Serialize)]
struct Tool<'a> {
    name: String,
    description: &'a str,
    input_schema: &'a Value,
}

impl<'a> Request<'a> {
    pub(super) fn of(ask: &Ask<'a>) -> Self {
        let mut system = String::new();
        let mut messages: Vec<Turn<'a>> = Vec::new();
        for message in ask.messages {
            let (role, blocks) = match message {
                Message::System(text) => {
                    if !system.is_empty() {
                        system.push_str("\n\n");
                    }
                    system.push_str(text);
                    continue;
                }
                Message::User(text) => ("user", text_block(text).into_iter().collect()),
                Message::Assistant { text, calls } => {
                    let mut blocks: Vec<Block<'a>> = text_block(text).into_iter().collect();
                    blocks.extend(calls.iter().map(|call| Block::ToolUse {
                        id: wire_id(&call.id),
                        name: to_wire(&call.tool),
                        input: object(&call.arguments),
                    }));
                    ("assistant", blocks)
                }
                Message::ToolResult { call, text, .. } => {
                    ("user", vec![Block::ToolResult { tool_use_id: wire_id(call), content: text }])
                }
            };
            // Roles alternate: results and what a person wrote after them are one turn.
            match messages.last_mut() {
                Some(last) if last.role == role => last.content.extend(blocks),
                _ if blocks.is_empty() => {}
                _ => messages.push(Turn { role, content: blocks }),
            }
        }
        let tools = ask.tools.iter().map(|tool| Tool {
            name: to_wire(&tool.name),
            description: &tool.description,
            input_schema: &tool.schema,
        });
        Self {
            model: ask.model,
            max_tokens: ask.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
            stream: true,
            system,
            messages,
            tools: tools.collect(),
            temperature: ask.temperature.filter(|t| t.is_finite()),
        }
    }
}

/// The API refuses blocks of blank text.
fn text_block(text: &str) -> Option<Block<'_>> {
    (!text.trim().is_empty()).then_some(Block::Text { text })
}

/// The API wants an object; a model that wrote none has called without arguments.
fn object(arguments: &str) -> Value {
    serde_json::from_str(arguments).ok().filter(Value::is_object).unwrap_or_else(|| Value::Object(Default::default()))
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Start,
    },
    ContentBlockStart {
        index: u64,
        content_block: BlockStart,
    },
    ContentBlockDelta {
        index: u64,
        delta: BlockDelta,
    },
    MessageDelta {
        delta: Delta,
        #[serde(default)]
        usage: Counts,
    },
    MessageStop,
    Error {
        error: Complaint,
    },
    /// `ping`, `content_block_stop`, and what later versions add.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
struct Start {
    #[serde(default)]
    usage: Counts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockStart {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Value,
    },
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockDelta {
    TextDelta {
        text: String,
    },
    InputJsonDelta {
        partial_json: String,
    },
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
struct Delta {
    #[serde(default)]
    stop_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Complaint {
    #[serde(rename = "type")]
    kind: String,
}

/// Takes in the data of one event.
pub(super) fn event(data: &str, assembly: &mut Assembly, events: &mut Vec<ModelEvent>) -> Result<(), ChatFailed> {
    let event: Event =
        serde_json::from_str(data).map_err(|_| ChatFailed::Malformed { what: "an event is not of this API" })?;
    match event {
        Event::MessageStart { message } => count(assembly, &message.usage),
        Event::ContentBlockStart { index, content_block } => match content_block {
            BlockStart::Text { text } => assembly.text(&text, events),
            BlockStart::ToolUse { id, name, input } => {
                let call = assembly.call(index)?;
                call.set_id(&id)?;
                call.add_name(&name)?;
                // Whole input at once, where a server does not stream it.
                if input.as_object().is_some_and(|input| !input.is_empty()) {
                    call.add_arguments(&input.to_string())?;
                }
            }
            BlockStart::Unknown => {}
        },
        Event::ContentBlockDelta { index, delta } => match delta {
            BlockDelta::TextDelta { text } => assembly.text(&text, events),
            // Input of a block that is not a call of ours, such as a vendor's own tool, is passed over.
            BlockDelta::InputJsonDelta { partial_json } => {
                if let Some(call) = assembly.begun(index) {
                    call.add_arguments(&partial_json)?;
                }
            }
            BlockDelta::Unknown => {}
        },
        Event::MessageDelta { delta, usage } => {
            count(assembly, &usage);
            if let Some(reason) = delta.stop_reason {
                assembly.stop = Some(stop(&reason));
            }
        }
        Event::MessageStop => return assembly.end(events),
        Event::Error { error } => {
            let cause = Cause::of_word(&error.kind, Cause::Other);
            return Err(ChatFailed::Reported { cause, status: None, said: said(data.as_bytes()) });
        }
        Event::Unknown => {}
    }
    Ok(())
}

fn count(assembly: &mut Assembly, counts: &Counts) {
    let input = [counts.input_tokens, counts.cache_creation_input_tokens, counts.cache_read_input_tokens];
    if input.iter().any(Option::is_some) {
        let total = input.iter().flatten().fold(0_u64, |sum, n| sum.saturating_add(*n));
        let usage = assembly.usage();
        usage.input_tokens = usage.input_tokens.max(total);
    }
    if let Some(output) = counts.output_tokens {
        assembly.usage().output_tokens = output;
    }
}

fn stop(reason: &str) -> StopReason {
    match reason {
        "tool_use" => StopReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "refusal" => StopReason::Filtered,
        _ => StopReason::End,
    }
}
