//! The OpenAI chat completions API: <https://platform.openai.com/docs/api-reference/chat>, and what others make of it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sigil_gate::Message;
use sigil_gate::port::{ModelEvent, StopReason};

use super::Ask;
use super::assembly::Assembly;
use crate::failed::{Cause, ChatFailed, said};
use crate::tool_name::{to_wire, wire_id};

/// The end marker.
const DONE: &str = "[DONE]";

#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    stream: bool,
    stream_options: StreamOptions,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Debug, Serialize)]
struct Turn<'a> {
    role: &'static str,
    /// `null` beside calls without text.
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<PastCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

#[derive(Debug, Serialize)]
struct PastCall<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: PastFunction<'a>,
}

#[derive(Debug, Serialize)]
struct PastFunction<'a> {
    name: String,
    arguments: &'a str,
}

#[derive(Debug, Serialize)]
struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: String,
    description: &'a str,
    parameters: &'a Value,
}

impl<'a> Request<'a> {
    pub(super) fn of(ask: &Ask<'a>, completion_tokens: bool) -> Self {
        let tools = ask.tools.iter().map(|tool| Tool {
            kind: "function",
            function: Function { name: to_wire(&tool.name), description: &tool.description, parameters: &tool.schema },
        });
        Self {
            model: ask.model,
            stream: true,
            stream_options: StreamOptions { include_usage: true },
            messages: ask.messages.iter().map(turn).collect(),
            tools: tools.collect(),
            temperature: ask.temperature.filter(|t| t.is_finite()),
            max_tokens: ask.max_tokens.filter(|_| !completion_tokens),
            max_completion_tokens: ask.max_tokens.filter(|_| completion_tokens),
        }
    }
}

fn turn(message: &Message) -> Turn<'_> {
    let plain = |role, text| Turn { role, content: Some(text), tool_calls: Vec::new(), tool_call_id: None };
    match message {
        Message::System(text) => plain("system", text),
        Message::User(text) => plain("user", text),
        Message::Assistant { text, calls } => Turn {
            role: "assistant",
            content: (!text.is_empty() || calls.is_empty()).then_some(text),
            tool_calls: calls
                .iter()
                .map(|call| PastCall {
                    id: wire_id(&call.id),
                    kind: "function",
                    function: PastFunction { name: to_wire(&call.tool), arguments: &call.arguments },
                })
                .collect(),
            tool_call_id: None,
        },
        Message::ToolResult { call, text, .. } => Turn { tool_call_id: Some(wire_id(call)), ..plain("tool", text) },
    }
}

/// Servers write `null` where they mean nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default, deserialize_with = "or_default")]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Counts>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default, deserialize_with = "or_default")]
    delta: Delta,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    #[serde(default, deserialize_with = "or_default")]
    content: String,
    #[serde(default, deserialize_with = "or_default")]
    refusal: String,
    #[serde(default, deserialize_with = "or_default")]
    tool_calls: Vec<CallDelta>,
}

#[derive(Debug, Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default, deserialize_with = "or_default")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    function: FunctionDelta,
}

#[derive(Debug, Default, Deserialize)]
struct FunctionDelta {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    arguments: String,
}

#[derive(Debug, Deserialize)]
struct Counts {
    #[serde(default, deserialize_with = "or_default")]
    prompt_tokens: u64,
    #[serde(default, deserialize_with = "or_default")]
    completion_tokens: u64,
}

/// Takes in the data of one event.
pub(super) fn event(data: &str, assembly: &mut Assembly, events: &mut Vec<ModelEvent>) -> Result<(), ChatFailed> {
    if data.trim() == DONE {
        return assembly.end(events);
    }
    let chunk: Chunk =
        serde_json::from_str(data).map_err(|_| ChatFailed::Malformed { what: "an event is not of this API" })?;
    if let Some(error) = chunk.error {
        let word = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
        let cause = Cause::of_word(word("code"), Cause::of_word(word("type"), Cause::Other));
        return Err(ChatFailed::Reported { cause, status: None, said: said(data.as_bytes()) });
    }
    if let Some(counts) = chunk.usage {
        let usage = assembly.usage();
        usage.input_tokens = counts.prompt_tokens;
        usage.output_tokens = counts.completion_tokens;
    }
    // One answer was asked for.
    for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
        assembly.text(&choice.delta.content, events);
        assembly.text(&choice.delta.refusal, events);
        for delta in choice.delta.tool_calls {
            call(delta, assembly)?;
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            assembly.stop = Some(stop(&reason));
        }
    }
    Ok(())
}

fn call(delta: CallDelta, assembly: &mut Assembly) -> Result<(), ChatFailed> {
    let slot = match delta.index {
        // Some servers number every call of an answer 0, each with an id of its own.
        Some(index) if !delta.id.is_empty() => match assembly.begun(index) {
            Some(begun) if !begun.id.is_empty() && begun.id != delta.id => assembly.next_slot(),
            _ => index,
        },
        Some(index) => index,
        // Without a number it is whole, or goes on with the last one.
        None if delta.id.is_empty() && delta.function.name.is_empty() => assembly.next_slot().saturating_sub(1),
        None => assembly.next_slot(),
    };
    let call = assembly.call(slot)?;
    if !delta.id.is_empty() {
        call.set_id(&delta.id)?;
    }
    call.add_name(&delta.function.name)?;
    call.add_arguments(&delta.function.arguments)
}

fn stop(reason: &str) -> StopReason {
    match reason {
        "tool_calls" | "function_call" => StopReason::ToolCalls,
        "length" => StopReason::Length,
        "content_filter" => StopReason::Filtered,
        _ => StopReason::End,
    }
}
