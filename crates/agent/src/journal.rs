//! [`Journal`]: what a turn writes down, and reads back, through the session store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sigil_gate::{Answer, PastCall, Plan, Session};
use sigil_store::{
    CallEnd, CallStart, Decision, Message, MessageRole, NewApproval, NewMessage, Part, SessionStore, StoreFailed,
};
use sigil_types::{Clock, Digest, Effect, EventId, Label, Origin, SessionId, Timestamp, ToolName, TurnId, Untrusted};

use crate::transcript::Entry;
use crate::turn::{Ended, Said};

/// The session store, in the words of a turn.
pub(crate) struct Journal {
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl From<StoreFailed> for Ended {
    fn from(failed: StoreFailed) -> Self {
        Self::failed(failed.code(), failed.to_string())
    }
}

impl Journal {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Stores the session's label. It is durable before what it allows happens.
    pub(crate) async fn label(&self, session: &Session) -> Result<(), Ended> {
        self.store.raise_label(session.id(), session.label()).await?;
        Ok(())
    }

    /// What the model said, kept now: its words as they were cleared, and the calls that it wants.
    pub(crate) async fn said(&self, session: SessionId, messages: Vec<NewMessage>) -> Result<(), Ended> {
        self.store.append_messages(session, messages).await?;
        Ok(())
    }

    /// What the model said, as messages.
    pub(crate) fn words(&self, turn: TurnId, said: &Said, label: &Label) -> Vec<NewMessage> {
        let message = |part: Part, content: String| NewMessage {
            turn: Some(turn),
            role: MessageRole::Assistant,
            part,
            content: Untrusted::new(Origin::Model, content),
            label: label.clone(),
            at: self.now(),
        };
        let mut messages = Vec::with_capacity(said.calls.len() + 1);
        if !said.text.is_empty() || said.calls.is_empty() {
            messages.push(message(Part::Text, said.text.clone()));
        }
        for call in &said.calls {
            let tool = call.tool.as_ref().map_or_else(Clone::clone, ToString::to_string);
            messages.push(message(Part::ToolCall { call: call.id.clone(), tool }, call.arguments.inspect().clone()));
        }
        messages
    }

    /// A call is about to be made.
    pub(crate) async fn call_started(
        &self,
        turn: TurnId,
        call: &str,
        tool: &ToolName,
        effect: Effect,
        receipt: EventId,
    ) -> Result<(), Ended> {
        let start = CallStart { call: call.to_owned(), tool: tool.clone(), effect, receipt, at: self.now() };
        self.store.start_call(turn, start, Vec::new()).await?;
        Ok(())
    }

    /// A call came back: its end and its result in one step, and the label that the session has risen to.
    pub(crate) async fn call_finished(
        &self,
        session: &Session,
        turn: TurnId,
        result: ToolResult<'_>,
    ) -> Result<(), Ended> {
        self.label(session).await?;
        let end = CallEnd { call: result.call.to_owned(), ok: result.ok, at: self.now() };
        self.store.finish_call(turn, end, vec![self.result_message(turn, result)]).await?;
        Ok(())
    }

    /// Sigil's own answer to a call that was not made.
    pub(crate) async fn call_refused(
        &self,
        session: &Session,
        turn: TurnId,
        result: ToolResult<'_>,
    ) -> Result<(), Ended> {
        self.store.append_messages(session.id(), vec![self.result_message(turn, result)]).await?;
        Ok(())
    }

    fn result_message(&self, turn: TurnId, result: ToolResult<'_>) -> NewMessage {
        NewMessage {
            turn: Some(turn),
            role: MessageRole::Tool,
            part: Part::ToolResult { call: result.call.to_owned(), tool: result.tool.to_string(), ok: result.ok },
            content: result.text.clone(),
            label: result.label.clone(),
            at: self.now(),
        }
    }

    pub(crate) async fn asked(&self, turn: TurnId, plan: &Plan, digest: Digest) -> Result<(), Ended> {
        let question = NewApproval {
            id: plan.approval,
            turn,
            plan: plan.to_json(),
            digest,
            label: plan.label.clone(),
            at: self.now(),
            expires: plan.expires,
        };
        Ok(self.store.ask(question).await?)
    }

    pub(crate) async fn answered(&self, plan: &Plan, answer: &Answer) -> Result<(), Ended> {
        let decision =
            Decision { digest: answer.plan, approved: answer.approved, by: answer.by.clone(), at: self.now() };
        match self.store.decide(plan.approval, decision).await {
            // Out of time: the store has marked it so, and the answer is no either way.
            Ok(_) | Err(StoreFailed::State { .. }) => Ok(()),
            Err(failed) => Err(failed.into()),
        }
    }

    /// The last `count` messages as entries of a prompt, oldest first.
    pub(crate) async fn window(&self, session: SessionId, turn: TurnId, count: usize) -> Result<Vec<Entry>, Ended> {
        Ok(entries(self.store.window(session, count).await?, turn))
    }
}

/// A tool's result on its way into the transcript.
#[derive(Clone, Copy)]
pub(crate) struct ToolResult<'a> {
    pub(crate) call: &'a str,
    pub(crate) tool: &'a ToolName,
    pub(crate) ok: bool,
    pub(crate) text: &'a Untrusted<String>,
    pub(crate) label: &'a Label,
}

/// Stands for a tool whose name could not be read; transcript and prompt need one.
pub(crate) fn unknown_tool() -> ToolName {
    #[expect(clippy::expect_used, reason = "a constant of the tool name's own grammar")]
    "sigil.unknown".parse().expect("a tool name")
}

/// Joins the parts of each answer, and leaves out calls without a result (a crash, or the window's edge, came between) and
/// results without a call: providers refuse both.
fn entries(messages: Vec<Message>, current: TurnId) -> Vec<Entry> {
    let ids = |want: fn(&Part) -> Option<&str>| -> BTreeSet<String> {
        messages.iter().filter_map(|message| want(&message.part)).map(str::to_owned).collect()
    };
    let called = ids(|part| if let Part::ToolCall { call, .. } = part { Some(call) } else { None });
    let answered = ids(|part| if let Part::ToolResult { call, .. } = part { Some(call) } else { None });
    let mut entries: Vec<Entry> = Vec::new();
    let mut tools: BTreeMap<String, ToolName> = BTreeMap::new();
    for message in messages {
        let Message { role, part, content, label, turn, .. } = message;
        let origin = *content.origin();
        let text = content.into_inner();
        match (role, part) {
            (MessageRole::User, _) => {
                entries.push(Entry::User { origin, text, label, turn: turn.unwrap_or(current) });
            }
            (MessageRole::Assistant, Part::Text) => {
                entries.push(Entry::Assistant { text, calls: Vec::new(), label });
            }
            (MessageRole::Assistant, Part::ToolCall { call, tool }) => {
                if !answered.contains(&call) {
                    continue;
                }
                let tool = tool.parse::<ToolName>().unwrap_or_else(|_| unknown_tool());
                tools.insert(call.clone(), tool.clone());
                let past = PastCall { id: call, tool, arguments: text };
                match entries.last_mut() {
                    Some(Entry::Assistant { calls, label: all, .. }) => {
                        calls.push(past);
                        *all = all.join(&label);
                    }
                    _ => entries.push(Entry::Assistant { text: String::new(), calls: vec![past], label }),
                }
            }
            (MessageRole::Tool, Part::ToolResult { call, .. }) if called.contains(&call) => {
                let Some(tool) = tools.get(&call).cloned() else { continue };
                entries.push(Entry::ToolResult { call, tool, origin, text, label });
            }
            _ => {}
        }
    }
    entries
}
