//! [`Door`]: the only holder of a port, and the only way through to it.

use std::fmt;
use std::sync::Arc;

use sigil_types::{
    Author, Authors, CapabilitySet, ChannelRef, Code, Effect, InstanceId, Label, Reader, Readers, ToolName, Untrusted,
    WorkspaceId,
};

use crate::core::Core;
use crate::hop::{Destination, Hop, ToChannel, ToMemory, ToPlugin, ToProvider, ToTool};
use crate::port::{Channel, Memory, ModelEvents, Pass, Plugin, PortFailed, Provider, Tool, ToolAnswer};
use crate::{Cleared, Session, ToolDefinition};

/// What the gate knows of a destination.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    pub(crate) destination: Destination,
    pub(crate) effect: Effect,
    /// Who can observe a delivery. For a channel, the session says.
    pub(crate) audience: Option<Readers>,
    /// Whose words come back.
    pub(crate) sources: Authors,
    /// Who may read what comes back.
    pub(crate) reads: Readers,
    /// What the other side itself asks for.
    pub(crate) grants: Option<CapabilitySet>,
}

impl Sink {
    pub(crate) fn audience(&self, session: &Session) -> Readers {
        self.audience.clone().unwrap_or_else(|| session.context().audience.clone())
    }
}

/// The way through to one destination. Made by [`Gate`](crate::Gate), which takes the port into it.
pub struct Door<H: Hop> {
    pub(crate) sink: Sink,
    core: Arc<Core>,
    port: Arc<H::Port>,
}

impl<H: Hop> Clone for Door<H> {
    fn clone(&self) -> Self {
        Self { sink: self.sink.clone(), core: Arc::clone(&self.core), port: Arc::clone(&self.port) }
    }
}

impl<H: Hop> fmt::Debug for Door<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Door<{}>({})", H::WORD, self.sink.destination)
    }
}

/// A clearance that a door does not accept.
const STALE: Code = Code::new("gate.door.permit.stale");
const FOREIGN: Code = Code::new("gate.door.permit.foreign");

impl<H: Hop> Door<H> {
    /// Where it leads.
    pub const fn destination(&self) -> &Destination {
        &self.sink.destination
    }

    /// Compares every field of the permit with what is true now.
    fn admit(&self, session: &Session, cleared: &Cleared<H>) -> Result<Pass, PortFailed> {
        let permit = cleared.permit();
        let refuse = |code: Code, message: &str| {
            Err(PortFailed { code, message: message.to_owned(), retryable: false, detail: None })
        };
        if permit.destination != self.sink.destination
            || permit.session != session.id()
            || permit.principal != session.context().principal
        {
            return refuse(FOREIGN, "This clearance is for another destination or session.");
        }
        if permit.generation != self.core.generation() {
            return refuse(STALE, "The policy changed after this was cleared. Send the message again.");
        }
        if permit.epoch != self.core.epoch() {
            return refuse(STALE, "Everything was stopped after this was cleared. Send the message again.");
        }
        if permit.deadline < self.core.now() {
            return refuse(STALE, "This clearance was not used in time. Send the message again.");
        }
        Ok(Pass { _made_by_a_door: () })
    }
}

/// A model's answer, and the label that everything in it has.
pub struct ModelAnswer {
    /// The events, in order.
    pub events: ModelEvents,
    /// Label of the model's output: text, choice of tools, arguments, silence.
    pub label: Label,
}

impl fmt::Debug for ModelAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelAnswer").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Door<ToProvider> {
    pub(crate) fn provider(core: Arc<Core>, port: Arc<dyn Provider>) -> Self {
        let name = port.name().clone();
        let sink = Sink {
            audience: Some(Readers::from_iter([Reader::Provider(name.clone())])),
            sources: Authors::one(Author::Provider(name.clone())),
            destination: Destination::Provider(name),
            effect: Effect::None,
            reads: Readers::Everyone,
            grants: None,
        };
        Self { sink, core, port }
    }

    /// Sends a cleared prompt and streams the answer. The session's label rises by the provider, unless signed policy
    /// trusts it.
    ///
    /// # Errors
    /// A permit that no longer holds, or a failure before the first event.
    pub async fn chat(&self, session: &Session, prompt: Cleared<ToProvider>) -> Result<ModelAnswer, PortFailed> {
        let pass = self.admit(session, &prompt)?;
        let trusted = self.core.trusts_provider(self.port.name());
        let label = if trusted {
            session.label()
        } else {
            session.raise(&Label { authors: self.sink.sources.clone(), readers: Readers::Everyone })
        };
        let events = self.port.chat(prompt, pass).await?;
        Ok(ModelAnswer { events, label })
    }
}

/// What a tool call came to, and its label. Errors and time-outs have a label too: they tell something.
#[derive(Debug)]
pub struct ToolOutcome {
    /// The answer, or why there is none.
    pub answer: Result<Untrusted<ToolAnswer>, PortFailed>,
    /// Label of the answer.
    pub label: Label,
}

impl Door<ToTool> {
    pub(crate) fn tool(core: Arc<Core>, port: Arc<dyn Tool>) -> Self {
        let facts = port.facts().clone();
        let sink = Sink {
            destination: Destination::Tool(port.name().clone()),
            effect: facts.effect,
            audience: Some(facts.audience),
            sources: facts.sources,
            reads: facts.reads,
            grants: Some(port.capabilities().clone()),
        };
        Self { sink, core, port }
    }

    /// The tool's name.
    pub fn name(&self) -> &ToolName {
        self.port.name()
    }

    /// What a model is told about it.
    pub fn definition(&self) -> &ToolDefinition {
        self.port.definition()
    }

    /// What a call can change.
    pub const fn effect(&self) -> Effect {
        self.sink.effect
    }

    /// Makes a cleared call. The session's label rises by what the tool can have read, whatever it answers.
    pub async fn call(&self, session: &Session, call: Cleared<ToTool>) -> ToolOutcome {
        let pass = match self.admit(session, &call) {
            Ok(pass) => pass,
            Err(refused) => return ToolOutcome { answer: Err(refused), label: session.label() },
        };
        let authors = self.sink.sources.union(&Authors::one(Author::Tool(self.port.name().clone())));
        let label = session.raise(&Label { authors, readers: self.sink.reads.clone() });
        ToolOutcome { answer: self.port.call(call, pass).await, label }
    }
}

impl Door<ToChannel> {
    pub(crate) fn channel(core: Arc<Core>, name: ChannelRef, port: Arc<dyn Channel>) -> Self {
        let sink = Sink {
            destination: Destination::Channel(name),
            effect: Effect::None,
            audience: None,
            sources: Authors::NONE,
            reads: Readers::Everyone,
            grants: None,
        };
        Self { sink, core, port }
    }

    /// Sends a cleared message, or the next piece of one.
    ///
    /// # Errors
    /// A permit that no longer holds, or the channel's failure.
    pub async fn send(&self, session: &Session, message: Cleared<ToChannel>) -> Result<(), PortFailed> {
        let pass = self.admit(session, &message)?;
        self.port.send(message, pass).await
    }
}

impl Door<ToMemory> {
    pub(crate) fn memory(core: Arc<Core>, workspace: WorkspaceId, readers: Readers, port: Arc<dyn Memory>) -> Self {
        let sink = Sink {
            destination: Destination::Memory(workspace),
            effect: Effect::Local,
            audience: Some(readers),
            sources: Authors::NONE,
            reads: Readers::Everyone,
            grants: None,
        };
        Self { sink, core, port }
    }

    /// Stores a cleared row.
    ///
    /// # Errors
    /// A permit that no longer holds, or the store's failure.
    pub async fn put(&self, session: &Session, row: Cleared<ToMemory>) -> Result<(), PortFailed> {
        let pass = self.admit(session, &row)?;
        self.port.put(row, pass).await
    }
}

impl Door<ToPlugin> {
    pub(crate) fn plugin(core: Arc<Core>, instance: InstanceId, audience: Readers, port: Arc<dyn Plugin>) -> Self {
        let sink = Sink {
            destination: Destination::Plugin(instance),
            effect: Effect::None,
            audience: Some(audience),
            sources: Authors::world(),
            reads: Readers::Everyone,
            grants: None,
        };
        Self { sink, core, port }
    }

    /// Hands over a cleared message.
    ///
    /// # Errors
    /// A permit that no longer holds, or the plugin's failure.
    pub async fn hand(&self, session: &Session, message: Cleared<ToPlugin>) -> Result<(), PortFailed> {
        let pass = self.admit(session, &message)?;
        self.port.hand(message, pass).await
    }
}
