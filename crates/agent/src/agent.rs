//! [`Agent`]: takes messages in, runs their turns, and picks up after a crash.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

use sigil_gate::{Gate, Session, SessionContext};
use sigil_store::{
    Inbound, MessageRole, NewMessage, NewReply, NewSession, Part, SessionRecord, SessionStore, StoreFailed, TurnEnd,
    TurnRecord, TurnState,
};
use sigil_types::{
    ChannelRef, Clock, Code, Label, Origin, Outcome, Principal, Role, SessionId, TurnEvent, TurnId, Untrusted,
};
use tokio::sync::watch;

use crate::approvals::Approvals;
use crate::hub::Hub;
use crate::journal::Journal;
use crate::lanes::Lanes;
use crate::schema::Schemas;
use crate::turn::{Ended, Turn};
use crate::work_time::WorkTime;
use crate::workspace::Workspace;

/// Settings of the agent.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// Messages of the transcript that a prompt holds at most.
    pub window: usize,
    /// Rounds of tool calls in one turn; one more is an error.
    pub tool_rounds: usize,
    /// Largest message in bytes.
    pub max_message: usize,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self { window: 20, tool_rounds: 5, max_message: 256 * 1024 }
    }
}

/// What an agent is made of.
pub struct AgentParts {
    /// The border.
    pub gate: Gate,
    /// The conversations of its workspace.
    pub store: Arc<dyn SessionStore>,
    /// What the workspace has.
    pub workspace: Arc<dyn Workspace>,
    /// Where turns are watched.
    pub hub: Hub,
    /// Where questions wait.
    pub approvals: Approvals,
    /// Settings.
    pub settings: AgentSettings,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for AgentParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AgentParts({})", self.workspace.id())
    }
}

/// A message for the agent.
#[derive(Debug)]
pub struct Message {
    /// The conversation.
    pub session: SessionId,
    /// Who wrote it.
    pub principal: Principal,
    /// What makes a repeated delivery the same message.
    pub key: String,
    /// The words.
    pub text: Untrusted<String>,
    /// Whether the person typed it; false for what was quoted, forwarded or attached.
    pub typed: bool,
}

/// Why a message is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitFailed {
    /// No such conversation, or it is somebody else's.
    #[error("there is no session {0} of yours; `sigil chat` opens one")]
    NoSession(SessionId),
    /// Too large.
    #[error("a message has at most {most} bytes; this one has {bytes}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// The gateway is stopping.
    #[error("Sigil is stopping and takes no more messages")]
    Stopping,
    /// The store failed: the message is not accepted.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl SubmitFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NoSession(_) => Code::new("agent.message.session.unknown"),
            Self::TooLarge { .. } => Code::new("agent.message.size.exceeded"),
            Self::Stopping => Code::new("agent.message.gateway.stopping"),
            Self::Store(failed) => failed.code(),
        }
    }
}

/// The agent of one workspace.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    gate: Gate,
    journal: Journal,
    workspace: Arc<dyn Workspace>,
    hub: Hub,
    approvals: Approvals,
    settings: AgentSettings,
    schemas: Schemas,
    lanes: Lanes,
    stops: Mutex<BTreeMap<TurnId, watch::Sender<bool>>>,
    stopping: watch::Sender<bool>,
    running: watch::Sender<usize>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Agent({})", self.inner.workspace.id())
    }
}

impl Agent {
    /// An agent. Call [`Agent::recover`] before the first message.
    #[must_use]
    pub fn new(parts: AgentParts) -> Self {
        let AgentParts { gate, store, workspace, hub, approvals, settings, clock } = parts;
        Self {
            inner: Arc::new(Inner {
                gate,
                journal: Journal { store, clock },
                workspace,
                hub,
                approvals,
                settings,
                schemas: Schemas::default(),
                lanes: Lanes::default(),
                stops: Mutex::default(),
                stopping: watch::Sender::new(false),
                running: watch::Sender::new(0),
            }),
        }
    }

    /// Begins a conversation of `principal` in `channel`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open_session(&self, principal: Principal, channel: ChannelRef) -> Result<SessionRecord, StoreFailed> {
        let now = self.inner.journal.now();
        let id = SessionId::generate(now);
        let new = NewSession { id, channel, conversation: id.to_string(), principal, label: Label::bottom(), at: now };
        self.inner.journal.store.create_session(new).await
    }

    /// Takes a message in. When this returns, the message is durable and will be answered, once, also after a crash.
    ///
    /// # Errors
    /// When the message is not accepted.
    pub async fn submit(&self, message: Message) -> Result<Submitted, SubmitFailed> {
        let inner = &self.inner;
        if *inner.stopping.borrow() {
            return Err(SubmitFailed::Stopping);
        }
        let bytes = message.text.inspect().len();
        if bytes > inner.settings.max_message {
            return Err(SubmitFailed::TooLarge { bytes, most: inner.settings.max_message });
        }
        let session = inner.journal.store.session(message.session).await?;
        let session = session
            .filter(|session| session.principal.user == message.principal.user && session.archived.is_none())
            .ok_or(SubmitFailed::NoSession(message.session))?;
        let now = inner.journal.now();
        let label = inner.gate.inbound_label(&inner.open(&session), message.typed);
        let inbound = Inbound {
            turn: TurnId::generate(now),
            session: session.id,
            key: message.key,
            channel: session.channel,
            principal: message.principal,
            content: message.text,
            label,
            at: now,
        };
        let accepted = inner.journal.store.accept(inbound).await?;
        let turn = accepted.turn.inbound.turn;
        if accepted.fresh {
            inner.hub.tell(turn, TurnEvent::Accepted { turn, session: session.id });
            self.enqueue(session.id, turn);
        }
        Ok(Submitted { turn, fresh: accepted.fresh })
    }

    /// Stops a turn of `user`, at its next step. Says whether it was running.
    pub fn stop(&self, turn: TurnId) -> bool {
        let stops = self.inner.stops.lock().unwrap_or_else(PoisonError::into_inner);
        stops.get(&turn).is_some_and(|stop| !stop.send_replace(true))
    }

    /// Deals with what a crash left: turns in the inbox run; running ones run again from their transcript, unless a call
    /// with an effect is in doubt: those end *interrupted*. Answers how many of each.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recover(&self) -> Result<Recovered, StoreFailed> {
        let inner = &self.inner;
        let now = inner.journal.now();
        inner.journal.store.expire_approvals(now).await?;
        let mut recovered = Recovered::default();
        for unfinished in inner.journal.store.unfinished().await? {
            let inbound = &unfinished.turn.inbound;
            let (turn, session) = (inbound.turn, inbound.session);
            inner.hub.take_up(turn, now.millis_since(inbound.at));
            inner.hub.tell(turn, TurnEvent::Accepted { turn, session });
            if !unfinished.may_go_on() {
                let ended = Ended {
                    outcome: Outcome::Interrupted,
                    code: INTERRUPTED,
                    message:
                        "Sigil stopped while a tool was changing something. It is not repeated: look whether it was \
                              done, then ask again."
                            .to_owned(),
                };
                inner.end(&unfinished.turn, Err(ended)).await?;
                recovered.interrupted += 1;
                continue;
            }
            if unfinished.turn.state == TurnState::Running {
                inner.journal.store.requeue_turn(turn, now).await?;
            }
            self.enqueue(session, turn);
            recovered.resumed += 1;
        }
        Ok(recovered)
    }

    /// Takes no more messages and waits for the turns that run. What is in the inbox stays there for the next start.
    pub async fn drain(&self) {
        self.inner.stopping.send_replace(true);
        let mut running = self.inner.running.subscribe();
        // The sender lives in `inner`, so this ends only when nothing runs.
        let _ended = running.wait_for(|running| *running == 0).await;
    }

    /// Sessions that have something to do.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.inner.lanes.busy()
    }

    /// The conversations of this workspace.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn SessionStore> {
        &self.inner.journal.store
    }

    fn enqueue(&self, session: SessionId, turn: TurnId) {
        if !self.inner.lanes.push(session, turn) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        inner.running.send_modify(|running| *running += 1);
        tokio::spawn(async move {
            while let Some(turn) = inner.lanes.next(session) {
                if *inner.stopping.borrow() {
                    continue;
                }
                inner.run(turn).await;
            }
            inner.running.send_modify(|running| *running -= 1);
        });
    }
}

/// A message that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The turn that answers it.
    pub turn: TurnId,
    /// Whether it is new; a repeated delivery finds the turn of the first one.
    pub fresh: bool,
}

/// What a recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Turns that go on.
    pub resumed: usize,
    /// Turns that ended because a call is in doubt.
    pub interrupted: usize,
}

const INTERRUPTED: Code = Code::new("agent.turn.call.interrupted");
const STOPPED: Code = Code::new("agent.turn.stopped");
const TIMED_OUT: Code = Code::new("agent.turn.time.exceeded");

impl Inner {
    fn open(&self, session: &SessionRecord) -> Session {
        let principal = session.principal.clone();
        self.gate.session(SessionContext {
            id: session.id,
            workspace: self.workspace.id().clone(),
            audience: self.workspace.audience(&session.channel, &principal),
            channel: session.channel.clone(),
            label: session.label.clone(),
            workspace_grants: self.workspace.grants(),
            user_grants: self.workspace.user_grants(&principal),
            principal,
        })
    }

    /// Runs one turn. Whatever happens, it ends in the store and for those who watch, or, where the store fails, it stays
    /// in the inbox for the next start.
    async fn run(&self, id: TurnId) {
        let failed = match self.try_run(id).await {
            Ok(()) => return,
            Err(failed) => failed,
        };
        tracing::error!(turn = %id, code = %failed.code(), "a turn could not be recorded: {failed}");
        self.hub.tell(
            id,
            TurnEvent::Finished {
                outcome: Outcome::Failed,
                code: Some(failed.code()),
                message: Some(failed.to_string()),
            },
        );
    }

    async fn try_run(&self, id: TurnId) -> Result<(), StoreFailed> {
        let store = &self.journal.store;
        let Some(record) = store.turn(id).await? else { return Ok(()) };
        let inbound = &record.inbound;
        let Some(session) = store.session(inbound.session).await? else { return Ok(()) };
        let already_there = store.window(session.id, 1024).await?.iter().any(|message| message.turn == Some(id));
        let user_message = NewMessage {
            turn: Some(id),
            role: MessageRole::User,
            part: Part::Text,
            content: inbound.content.clone(),
            label: inbound.label.clone(),
            at: inbound.at,
        };
        let messages = if already_there { Vec::new() } else { vec![user_message] };
        store.start_turn(id, messages, self.journal.now()).await?;

        let session = self.open(&session);
        let turn = Turn {
            id,
            gate: &self.gate,
            session: &session,
            workspace: &self.workspace,
            journal: &self.journal,
            hub: &self.hub,
            approvals: &self.approvals,
            schemas: &self.schemas,
            settings: &self.settings,
            calls: AtomicU32::new(0),
            asks: AtomicU32::new(0),
            time: WorkTime::new(),
        };
        let seconds = self.gate.policy().ceilings().budgets.turn_seconds;
        let mut stop = self.register(id);
        let ended = tokio::select! {
            ended = turn.run() => ended,
            _ = stop.wait_for(|stop| *stop) => Err(Ended {
                outcome: Outcome::Stopped, code: STOPPED, message: "You stopped it.".to_owned(),
            }),
            () = turn.time.over(std::time::Duration::from_secs(seconds)) => Err(Ended::failed(
                TIMED_OUT, format!("The turn took longer than the {seconds} s that the signed policy allows."),
            )),
        };
        self.stops.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        // The label is stored whatever became of the turn: what was read was read.
        store.raise_label(session.id(), session.label()).await?;
        self.end(&record, ended).await
    }

    fn register(&self, turn: TurnId) -> watch::Receiver<bool> {
        let sender = watch::Sender::new(false);
        let receiver = sender.subscribe();
        self.stops.lock().unwrap_or_else(PoisonError::into_inner).insert(turn, sender);
        receiver
    }

    async fn end(&self, record: &TurnRecord, ended: Result<Vec<NewMessage>, Ended>) -> Result<(), StoreFailed> {
        let inbound = &record.inbound;
        let (outcome, code, message, messages) = match ended {
            Ok(words) => (Outcome::Completed, None, None, words),
            Err(ended) => (ended.outcome, Some(ended.code), Some(ended.message), Vec::new()),
        };
        // Where a turn does not complete, Sigil's own words are the reply: nobody is left without an answer.
        let reply = message.as_ref().map(|message| NewReply {
            channel: inbound.channel.clone(),
            content: Untrusted::new(Origin::System, message.clone()),
            label: Label::bottom(),
        });
        let end = TurnEnd { outcome, code: code.clone(), messages, reply, at: self.journal.now() };
        self.journal.store.end_turn(inbound.turn, end).await?;
        self.hub.tell(inbound.turn, TurnEvent::Finished { outcome, code, message });
        Ok(())
    }
}

/// Whether `principal` may see everything of a session: it is theirs, or they own this Sigil.
#[must_use]
pub fn may_see(principal: &Principal, session: &SessionRecord) -> bool {
    principal.role == Role::Owner || session.principal.user == principal.user
}
