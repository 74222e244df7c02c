//! [`Rehearsal`]: a provider that reads a script instead of thinking. For the demo and for tests of everything around it.
//!
//! It is a real provider behind the real port: what it says is as untrusted as any model's words. `rehearsal` follows the
//! last message of a person; `rehearsal:obedient` follows every segment that it is shown, tool results included, which is the
//! worst that an injection can make of a model. Neither ever sees a verdict of the gate.

mod script;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use sigil_gate::port::{BoxFuture, ModelEvent, Pass, PortFailed, Provider, StopReason};
use sigil_gate::{Cleared, Message, ProviderBody, ToProvider};
use sigil_types::{Code, Origin, ProviderName, Untrusted, Usage};

use crate::failed::{Cause, ChatFailed};
use crate::http::Events;
use crate::wire::Ask;
use script::Step;

/// The model name with which every segment is obeyed.
const OBEDIENT: &str = "rehearsal:obedient";

/// Why there is no rehearsal provider here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the rehearsal provider runs only in a data folder that `sigil demo` made: it obeys whoever writes to it. Set up a real \
     provider with `sigil init`"
)]
pub struct RehearsalRefused;

impl RehearsalRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::new("provider.rehearsal.refused")
    }
}

/// A provider that follows a script.
#[derive(Debug)]
pub struct Rehearsal {
    name: ProviderName,
    patience: Duration,
}

impl Rehearsal {
    /// A rehearsal provider called `name` that gives a `stall` up after `patience`. `demo` says whether this is a data folder
    /// of the demo.
    ///
    /// # Errors
    /// [`RehearsalRefused`] when it is not.
    pub fn new(name: ProviderName, patience: Duration, demo: bool) -> Result<Self, RehearsalRefused> {
        if demo { Ok(Self { name, patience }) } else { Err(RehearsalRefused) }
    }

    async fn ask(&self, ask: &Ask<'_>) -> Result<Events, ChatFailed> {
        let obedient = ask.model == OBEDIENT;
        let (events, end) = perform(script::steps(ask.messages, obedient), tokens(ask.messages));
        if events.is_empty() {
            match end {
                End::Stop => {}
                End::Fail(status) => return Err(failed(status)),
                End::Stall => {
                    tokio::time::sleep(self.patience).await;
                    return Err(ChatFailed::Slow { within: self.patience });
                }
            }
        }
        let (name, patience) = (self.name.clone(), self.patience);
        let last = async move {
            match end {
                End::Stop => None,
                End::Fail(status) => Some(Err(failed(status).into_port(&name, false))),
                End::Stall => {
                    tokio::time::sleep(patience).await;
                    Some(Err(ChatFailed::Slow { within: patience }.into_port(&name, false)))
                }
            }
        };
        let events = stream::iter(events).map(|event| Ok(Untrusted::new(Origin::Model, event)));
        Ok(events.chain(stream::once(last).filter_map(std::future::ready)).boxed())
    }
}

impl Provider for Rehearsal {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn chat(&self, prompt: Cleared<ToProvider>, _pass: Pass) -> BoxFuture<'_, Result<Events, PortFailed>> {
        Box::pin(async move {
            let failed = |failed: ChatFailed| failed.into_port(&self.name, true);
            match prompt.into_body() {
                ProviderBody::Prompt(prompt) if prompt.provider == self.name => {
                    self.ask(&Ask::from(&prompt)).await.map_err(failed)
                }
                _ => Err(failed(ChatFailed::Prompt)),
            }
        })
    }
}

/// What follows the events.
enum End {
    Stop,
    Fail(u16),
    Stall,
}

fn failed(status: u16) -> ChatFailed {
    ChatFailed::Reported { cause: Cause::of_status(status), status: Some(status), said: String::new() }
}

/// Turns steps into events, up to the first that ends them.
fn perform(steps: Vec<Step>, input_tokens: u64) -> (Vec<ModelEvent>, End) {
    let mut events = Vec::new();
    let (mut said, mut calls, mut output) = (false, 0, 0);
    for step in steps {
        match step {
            Step::Say(text) => {
                let text = if said { format!("\n{text}") } else { text };
                said = true;
                output += text.len();
                events.push(ModelEvent::Text(text));
            }
            Step::Chunk(text) => {
                said = true;
                output += text.len();
                events.push(ModelEvent::Text(text));
            }
            Step::Call { tool, arguments } => {
                calls += 1;
                output += arguments.len();
                let id = format!("rehearsal_{}_{calls}", input_tokens);
                events.push(ModelEvent::ToolCall { id, tool: tool.parse().map_err(|_| tool), arguments });
            }
            Step::Fail(status) => return (events, End::Fail(status)),
            Step::Stall => return (events, End::Stall),
        }
    }
    let output_tokens = u64::try_from(output / 4).unwrap_or(u64::MAX);
    events.push(ModelEvent::Usage(Usage { input_tokens, output_tokens }));
    events.push(ModelEvent::Stop(if calls > 0 { StopReason::ToolCalls } else { StopReason::End }));
    (events, End::Stop)
}

/// About four bytes are a token. It is a rehearsal.
fn tokens(messages: &[Message]) -> u64 {
    let bytes: usize = messages
        .iter()
        .map(|message| match message {
            Message::System(text) | Message::User(text) => text.len(),
            Message::Assistant { text, .. } | Message::ToolResult { text, .. } => text.len(),
        })
        .sum();
    u64::try_from(bytes / 4).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rehearsal() -> Rehearsal {
        Rehearsal::new("rehearsal".parse().expect("a name"), Duration::from_millis(20), true).expect("the demo")
    }

    async fn ask(text: &str) -> Result<Vec<Result<ModelEvent, String>>, ChatFailed> {
        let messages = [Message::User(text.to_owned())];
        let ask = Ask { model: "rehearsal", messages: &messages, tools: &[], temperature: None, max_tokens: None };
        let events = rehearsal().ask(&ask).await?;
        Ok(events.map(|event| event.map(Untrusted::into_inner).map_err(|e| e.code.to_string())).collect().await)
    }

    #[tokio::test]
    async fn it_speaks_calls_and_fails_as_told() {
        let events = ask("say one\nchunk  two\ncall files.read {\"path\":\"a\"}\ncall Nonsense").await.expect("events");
        let text = |text: &str| Ok(ModelEvent::Text(text.to_owned()));
        assert_eq!(events[..2], [text("one"), text(" two")]);
        assert!(matches!(&events[2], Ok(ModelEvent::ToolCall { tool: Ok(tool), arguments, .. })
            if tool.as_str() == "files.read" && arguments == "{\"path\":\"a\"}"));
        assert!(matches!(&events[3], Ok(ModelEvent::ToolCall { tool: Err(tool), arguments, .. })
            if tool == "Nonsense" && arguments == "{}"));
        assert_eq!(events.last(), Some(&Ok(ModelEvent::Stop(StopReason::ToolCalls))));

        assert!(matches!(ask("fail 429").await, Err(ChatFailed::Reported { cause: Cause::Rate, .. })));
        let late = ask("chunk a\nfail 500").await.expect("events");
        assert_eq!(late, [text("a"), Err("provider.service.failed".to_owned())]);
        assert!(matches!(ask("stall").await, Err(ChatFailed::Slow { .. })));
        assert_eq!(ask("say a\nstall").await.expect("events"), [text("a"), Err("provider.answer.slow".to_owned())]);
    }

    #[tokio::test]
    async fn anything_else_makes_it_explain_itself() {
        let events = ask("What can you do?").await.expect("events");
        assert!(matches!(&events[0], Ok(ModelEvent::Text(text)) if text.contains("call files.read")));
        assert_eq!(events.last(), Some(&Ok(ModelEvent::Stop(StopReason::End))));
    }

    #[test]
    fn it_is_for_the_demo_only() {
        let name = "rehearsal".parse().expect("a name");
        assert_eq!(Rehearsal::new(name, Duration::ZERO, false).err(), Some(RehearsalRefused));
    }
}
