//! Destinations that record what reaches them, each with the receipt that it came with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sigil_agent::Hub;
use sigil_audit::AuditLog;
use sigil_gate::port::{BoxFuture, Channel, ModelEvents, Pass, PortFailed, Provider, Tool, ToolAnswer};
use sigil_gate::{ChannelBody, Cleared, Hop, Message, ProviderBody, ToChannel, ToProvider, ToTool, ToolDefinition};
use sigil_types::{
    CapabilitySet, ChannelRef, EventId, Origin, ProviderName, SessionId, ToolFacts, ToolName, TurnId, Untrusted,
};

/// Something that reached a destination.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Such as `tool:mail.send`.
    pub(crate) destination: String,
    pub(crate) session: SessionId,
    pub(crate) turn: Option<TurnId>,
    pub(crate) receipt: EventId,
    /// Every byte of it.
    pub(crate) text: String,
    /// Whether it is a piece of a stream.
    pub(crate) piece: bool,
    /// The log's entry of the receipt, read back from the disk when it arrived; only where that was asked for.
    pub(crate) entry: Option<sigil_audit::Stored>,
}

/// Everything that reached anybody, and what tools answer.
pub(crate) struct Seen {
    audit: AuditLog,
    /// Whether to read each receipt back when its delivery arrives.
    pub(crate) read_back: AtomicBool,
    pub(crate) deliveries: Mutex<Vec<Delivery>>,
    /// Answers of tools by session and tool; what is not named is answered with `done`.
    pub(crate) answers: Mutex<HashMap<(SessionId, String), Vec<String>>>,
}

impl Seen {
    pub(crate) fn new(audit: AuditLog) -> Self {
        let (deliveries, answers) = (Mutex::default(), Mutex::default());
        Self { audit, read_back: AtomicBool::new(false), deliveries, answers }
    }

    fn note<H: Hop>(&self, cleared: &Cleared<H>, turn: Option<TurnId>, text: String, piece: bool) {
        let receipt = cleared.receipt().id();
        let read = self.read_back.load(Ordering::Relaxed);
        let entry = read.then(|| self.audit.find(receipt).unwrap()).flatten();
        let (destination, session) = (cleared.destination().to_string(), cleared.session());
        let delivery = Delivery { destination, session, turn, receipt, text, piece, entry };
        self.deliveries.lock().unwrap().push(delivery);
    }

    pub(crate) fn all(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap().clone()
    }

    /// What reached `destination`, in order.
    pub(crate) fn at(&self, destination: &str) -> Vec<String> {
        let all = self.all().into_iter();
        all.filter(|delivery| delivery.destination == destination).map(|delivery| delivery.text).collect()
    }

    /// What reached anybody in `session`, in order; it is forgotten here.
    pub(crate) fn take(&self, session: SessionId) -> Vec<Delivery> {
        let mut deliveries = self.deliveries.lock().unwrap();
        let (own, others) = deliveries.drain(..).partition(|delivery| delivery.session == session);
        *deliveries = others;
        own
    }

    /// Whether `receipt` says that a human approved it.
    pub(crate) fn approved(&self, receipt: EventId) -> bool {
        let entry = self.audit.find(receipt).unwrap().unwrap();
        entry.data.get("approval").is_some_and(|approval| !approval.is_null())
    }

    /// Lets `tool` answer with `texts` in `session`; a call's argument `n` chooses which.
    pub(crate) fn answer(&self, session: SessionId, tool: &str, texts: &[String]) {
        self.answers.lock().unwrap().insert((session, tool.to_owned()), texts.to_vec());
    }

    fn answer_of(&self, session: SessionId, tool: &str, arguments: &str) -> String {
        let answers = self.answers.lock().unwrap();
        let Some(texts) = answers.get(&(session, tool.to_owned())) else { return "done".to_owned() };
        let arguments: serde_json::Value = serde_json::from_str(arguments).unwrap();
        let n = usize::try_from(arguments.get("n").and_then(serde_json::Value::as_u64).unwrap_or(0)).unwrap();
        texts.get(n % texts.len().max(1)).cloned().unwrap_or_default()
    }
}

/// A tool that does nothing but record and answer.
pub(crate) struct FakeTool {
    definition: ToolDefinition,
    facts: ToolFacts,
    capabilities: CapabilitySet,
    seen: Arc<Seen>,
}

impl FakeTool {
    pub(crate) fn new(name: &str, facts: ToolFacts, seen: Arc<Seen>) -> Self {
        let definition = ToolDefinition {
            name: name.parse().unwrap(),
            description: String::new(),
            schema: serde_json::json!({"type": "object", "properties": {"n": {"type": "integer"}}}),
        };
        Self { definition, facts, capabilities: super::all(), seen }
    }
}

impl Tool for FakeTool {
    fn name(&self) -> &ToolName {
        &self.definition.name
    }

    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn facts(&self) -> &ToolFacts {
        &self.facts
    }

    fn capabilities(&self) -> &CapabilitySet {
        &self.capabilities
    }

    fn call(&self, call: Cleared<ToTool>, _: Pass) -> BoxFuture<'_, Result<Untrusted<ToolAnswer>, PortFailed>> {
        self.seen.note(&call, Some(call.body().turn), call.body().arguments.clone(), false);
        let content = self.seen.answer_of(call.session(), self.name().as_str(), &call.body().arguments);
        let bytes = content.len() as u64;
        let answer = Untrusted::new(Origin::Tool, ToolAnswer { ok: true, content, bytes });
        Box::pin(std::future::ready(Ok(answer)))
    }
}

/// A provider, with a record of what it is sent.
pub(crate) struct Recorded {
    pub(crate) inner: Arc<dyn Provider>,
    pub(crate) seen: Arc<Seen>,
}

impl Provider for Recorded {
    fn name(&self) -> &ProviderName {
        self.inner.name()
    }

    fn chat(&self, prompt: Cleared<ToProvider>, pass: Pass) -> BoxFuture<'_, Result<ModelEvents, PortFailed>> {
        self.seen.note(&prompt, None, prompt_text(prompt.body()), false);
        self.inner.chat(prompt, pass)
    }
}

/// All that a prompt says, in the form that the log refers to.
pub(crate) fn prompt_text(body: &ProviderBody) -> String {
    let ProviderBody::Prompt(prompt) = body else { panic!("a prompt") };
    let mut out = String::new();
    for message in &prompt.messages {
        let (role, text, calls) = match message {
            Message::System(text) => ("system", text, &[][..]),
            Message::User(text) => ("user", text, &[][..]),
            Message::Assistant { text, calls } => ("assistant", text, calls.as_slice()),
            Message::ToolResult { text, .. } => ("tool", text, &[][..]),
        };
        out.push_str(&format!("{role}\n{text}\n"));
        calls.iter().for_each(|call| out.push_str(&format!("{}{}", call.tool, call.arguments)));
    }
    out
}

/// A channel whose people watch the hub, with a record of what it is sent.
pub(crate) struct RecordedChannel {
    pub(crate) name: ChannelRef,
    pub(crate) hub: Hub,
    pub(crate) seen: Arc<Seen>,
}

impl Channel for RecordedChannel {
    fn send(&self, message: Cleared<ToChannel>, pass: Pass) -> BoxFuture<'_, Result<(), PortFailed>> {
        let (turn, text, piece) = match message.body() {
            ChannelBody::Message { turn, text } => (*turn, text.clone(), false),
            ChannelBody::Delta { turn, text } => (*turn, text.clone(), true),
            other => panic!("{other:?}"),
        };
        self.seen.note(&message, Some(turn), text, piece);
        self.hub.send(message, pass)
    }
}
