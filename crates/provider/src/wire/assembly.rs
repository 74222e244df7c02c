//! [`Assembly`]: joins what a stream brings in pieces, and holds it back until the end marker.

use std::collections::BTreeMap;

use sigil_gate::port::{ModelEvent, StopReason};
use sigil_types::Usage;

use crate::failed::ChatFailed;
use crate::tool_name::from_wire;

const MAX_CALLS: usize = 128;
const MAX_ARGUMENTS: usize = 1 << 20;
const MAX_NAME: usize = 256;

/// A tool call that is being put together.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    calls: BTreeMap<u64, Call>,
    pub(super) usage: Option<Usage>,
    pub(super) stop: Option<StopReason>,
    has_text: bool,
    ended: bool,
}

impl Assembly {
    pub(super) const fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn text(&mut self, text: &str, events: &mut Vec<ModelEvent>) {
        if !text.is_empty() {
            self.has_text = true;
            events.push(ModelEvent::Text(text.to_owned()));
        }
    }

    /// The call in slot `index`, made if it is not there.
    pub(super) fn call(&mut self, index: u64) -> Result<&mut Call, ChatFailed> {
        if self.calls.len() >= MAX_CALLS && !self.calls.contains_key(&index) {
            return Err(ChatFailed::Malformed { what: "more than 128 tool calls" });
        }
        Ok(self.calls.entry(index).or_default())
    }

    /// The call in slot `index`, if one was begun there.
    pub(super) fn begun(&mut self, index: u64) -> Option<&mut Call> {
        self.calls.get_mut(&index)
    }

    /// The first slot after all calls.
    pub(super) fn next_slot(&self) -> u64 {
        self.calls.last_key_value().map_or(0, |(last, _)| last.saturating_add(1))
    }

    pub(super) fn usage(&mut self) -> &mut Usage {
        self.usage.get_or_insert_default()
    }

    /// The end marker was read: hands out all that was held back.
    pub(super) fn end(&mut self, events: &mut Vec<ModelEvent>) -> Result<(), ChatFailed> {
        self.ended = true;
        let stop = match (self.stop, self.has_text || !self.calls.is_empty()) {
            (None, false) => return Err(ChatFailed::Empty),
            // Some servers say `stop` beside tool calls, or give no reason at all.
            (None | Some(StopReason::End), true) if !self.calls.is_empty() => StopReason::ToolCalls,
            (stop, _) => stop.unwrap_or(StopReason::End),
        };
        let calls = std::mem::take(&mut self.calls);
        let mut ids: Vec<&str> = calls.values().map(|call| call.id.as_str()).filter(|id| !id.is_empty()).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(ChatFailed::Malformed { what: "two tool calls have the same id" });
        }
        // A call whose arguments were cut off by a limit is no call.
        if matches!(stop, StopReason::End | StopReason::ToolCalls) {
            events.extend(calls.into_values().enumerate().map(|(at, call)| call.event(at)));
        }
        events.extend(self.usage.map(ModelEvent::Usage));
        events.push(ModelEvent::Stop(stop));
        Ok(())
    }
}

impl Call {
    pub(super) fn add_name(&mut self, text: &str) -> Result<(), ChatFailed> {
        self.name.push_str(text);
        if self.name.len() > MAX_NAME {
            return Err(ChatFailed::Malformed { what: "a tool's name is too long" });
        }
        Ok(())
    }

    pub(super) fn set_id(&mut self, text: &str) -> Result<(), ChatFailed> {
        if text.len() > MAX_NAME {
            return Err(ChatFailed::Malformed { what: "the id of a tool call is too long" });
        }
        text.clone_into(&mut self.id);
        Ok(())
    }

    pub(super) fn add_arguments(&mut self, text: &str) -> Result<(), ChatFailed> {
        self.arguments.push_str(text);
        if self.arguments.len() > MAX_ARGUMENTS {
            return Err(ChatFailed::Malformed { what: "the arguments of a tool call are larger than 1 MiB" });
        }
        Ok(())
    }

    fn event(self, at: usize) -> ModelEvent {
        let id = if self.id.is_empty() { format!("call_{at}") } else { self.id };
        let tool = from_wire(&self.name).map_err(|_| self.name);
        let arguments = if self.arguments.trim().is_empty() { "{}".to_owned() } else { self.arguments };
        ModelEvent::ToolCall { id, tool, arguments }
    }
}
