//! A whole road for tests: the real gate under a policy signed by a throw-away key, the real log and store, the rehearsal
//! model that obeys everything, and destinations that record what reaches them.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod fakes;
pub(crate) mod scripts;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fakes::{FakeTool, Recorded, RecordedChannel, Seen};
use sigil_agent::{
    Agent, AgentParts, AgentSettings, Approvals, Hub, Message, ModelRoute, TokenBudget, Watcher, Workspace,
};
use sigil_audit::{AuditLog, LocalSigner, SigningKey as AuditKey, VerifyKey};
use sigil_gate::port::{PortFailed, Provider, Tool};
use sigil_gate::{Destination, Door, Gate, GateParts, ToChannel, ToProvider, ToTool};
use sigil_policy::sign::{SigningKey, Validity, sign};
use sigil_policy::{Bundle, Ceilings, Policy, Preset, ProviderGrant, Source, TrustStore};
use sigil_provider::Rehearsal;
use sigil_scan::Scanner;
use sigil_store::sqlite::SqliteSessions;
use sigil_store::{SessionRecord, SessionStore};
use sigil_types::{
    CapabilitySet, ChannelRef, Clock, Code, Effect, Origin, Outcome, Principal, Reader, Readers, Role, SystemClock,
    Timestamp, ToolFacts, TurnEvent, TurnId, Untrusted, WorkspaceId,
};

/// The key under which the log refers to texts.
pub(crate) const TEXT_KEY: [u8; 32] = [7; 32];
pub(crate) const WORKSPACE: &str = "home";

pub(crate) fn all() -> CapabilitySet {
    CapabilitySet { allow: ["*".parse().unwrap()].into(), deny: Default::default() }
}

pub(crate) fn channel(name: &str) -> ChannelRef {
    ChannelRef(name.parse().unwrap())
}

pub(crate) fn person(name: &str) -> Principal {
    let role = if name == "ann" { Role::Owner } else { Role::Member };
    Principal { user: name.parse().unwrap(), role }
}

pub(crate) fn readers(people: &[&str]) -> Readers {
    people.iter().map(|name| Reader::User(name.parse().unwrap())).collect()
}

/// The embedded policy, edited and signed by a throw-away key.
pub(crate) fn policy(preset: Preset, version: u64, edit: impl FnOnce(&mut Ceilings)) -> Arc<Policy> {
    let mut source = Source::embedded(preset).unwrap();
    source
        .edit_ceilings(|ceilings| {
            ceilings.owners = ["ann".parse().unwrap()].into();
            ceilings.providers = ["near", "far"]
                .map(|name| ProviderGrant { name: name.parse().unwrap(), endpoint: None, reader: None })
                .into();
            ceilings.trusted_providers = ["near".parse().unwrap()].into();
            ceilings.labels.platforms = vec![channel("cli"), channel("group")].into_iter().collect();
            edit(ceilings);
        })
        .unwrap();
    let key = SigningKey::generate().unwrap();
    let now = Timestamp::from_millis(1_700_000_000_000);
    let validity = Validity { not_before: now, expires: now.plus_millis(u64::MAX / 4) };
    let envelope = sign(&source, version, validity, &key).unwrap();
    let trust = TrustStore::of_one("test".parse().unwrap(), key.public());
    let bundle = Bundle::parse(&envelope).unwrap().verify(&trust, now.plus_millis(1), 0).unwrap();
    Arc::new(bundle.compile().unwrap())
}

/// A folder in memory, where there is one: the properties are about labels, not about the disk.
pub(crate) fn folder_in_memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// The facts of the tools that every road has.
///
/// | tool | reads | its results hold | changes | who observes a call |
/// |---|---|---|---|---|
/// | `calc.add` | nothing | its own words | nothing | nobody |
/// | `files.read` | what is Ann's | its own words | nothing | nobody |
/// | `notes.write` | nothing | its own words | a file | nobody |
/// | `mail.send` | nothing | its own words | the world | everyone |
/// | `fetch.get` | the internet | anybody's words | the world | everyone |
pub(crate) fn facts(tool: &str) -> ToolFacts {
    let everyone = Readers::Everyone;
    match tool {
        "files.read" => {
            let mut reads = readers(&["ann"]);
            if let Readers::Only(set) = &mut reads {
                set.insert(Reader::Provider("near".parse().unwrap()));
                set.insert(Reader::Platform(channel("cli")));
            }
            ToolFacts { reads, ..ToolFacts::pure() }
        }
        "notes.write" => ToolFacts { effect: Effect::Local, ..ToolFacts::pure() },
        "mail.send" => ToolFacts { effect: Effect::External, audience: everyone, ..ToolFacts::pure() },
        "fetch.get" => ToolFacts {
            sources: sigil_types::Authors::world(),
            effect: Effect::External,
            audience: everyone,
            ..ToolFacts::pure()
        },
        _ => ToolFacts::pure(),
    }
}

pub(crate) const TOOLS: [&str; 5] = ["calc.add", "files.read", "notes.write", "mail.send", "fetch.get"];

/// What is used in place of a road's usual parts.
pub(crate) struct Plan {
    pub(crate) policy: Arc<Policy>,
    pub(crate) audit: sigil_audit::Options,
    pub(crate) settings: AgentSettings,
    /// Facts of a tool, where they are not [`facts`].
    pub(crate) facts: fn(&str) -> ToolFacts,
    /// The providers, in order; `near` and `far`, which obey, unless it says otherwise.
    pub(crate) providers: Option<Vec<Arc<dyn Provider>>>,
    /// The model: one that obeys every text that it is shown, unless it says otherwise.
    pub(crate) model: &'static str,
    /// More tools.
    pub(crate) tools: Vec<Arc<dyn Tool>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where data lie; a folder of its own in memory unless it says otherwise.
    pub(crate) folder: Option<PathBuf>,
    /// A wrapper around the store.
    pub(crate) store: fn(Arc<dyn SessionStore>) -> Arc<dyn SessionStore>,
}

impl Plan {
    pub(crate) fn of(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            audit: sigil_audit::Options::default(),
            settings: AgentSettings::default(),
            facts,
            providers: None,
            model: "rehearsal:obedient",
            tools: Vec::new(),
            clock: Arc::new(SystemClock),
            folder: None,
            store: |store| store,
        }
    }

    pub(crate) fn balanced() -> Self {
        Self::of(policy(Preset::Balanced, 1, |_| {}))
    }
}

/// The road.
pub(crate) struct Road {
    pub(crate) gate: Gate,
    pub(crate) audit: AuditLog,
    pub(crate) audit_key: VerifyKey,
    pub(crate) agent: Agent,
    pub(crate) hub: Hub,
    pub(crate) approvals: Approvals,
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) place: Arc<Place>,
    pub(crate) folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

/// How a turn ended, and all that its watcher was told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) turn: TurnId,
    pub(crate) outcome: Outcome,
    pub(crate) code: Option<Code>,
    pub(crate) message: Option<String>,
    pub(crate) events: Vec<TurnEvent>,
}

impl Told {
    pub(crate) fn text(&self) -> String {
        self.events
            .iter()
            .map(|event| if let TurnEvent::Text { delta } = event { delta.as_str() } else { "" })
            .collect()
    }

    pub(crate) fn code(&self) -> &str {
        self.code.as_ref().map_or("", Code::as_str)
    }
}

/// The built-in scanner, loaded once.
fn scanner() -> Scanner {
    static SCANNER: std::sync::OnceLock<Scanner> = std::sync::OnceLock::new();
    SCANNER.get_or_init(|| Scanner::builtin().unwrap()).clone()
}

pub(crate) fn audit_key() -> AuditKey {
    let pkcs8 = AuditKey::generate().unwrap();
    AuditKey::from_pkcs8("test", &pkcs8).unwrap()
}

impl Road {
    pub(crate) fn new(plan: Plan) -> Self {
        Self::with_key(plan, LocalSigner::new(audit_key(), None))
    }

    pub(crate) fn with_key(plan: Plan, signer: LocalSigner) -> Self {
        let temporary = plan.folder.is_none().then(folder_in_memory);
        let folder = plan.folder.unwrap_or_else(|| temporary.as_ref().unwrap().path().to_owned());
        let audit_key = sigil_audit::HeadSigner::key(&signer);
        let audit =
            AuditLog::open_with(&folder.join("audit.db"), Arc::new(signer), plan.clock.clone(), plan.audit).unwrap();
        let budget = Arc::new(TokenBudget::new(plan.policy.ceilings().budgets, plan.clock.clone()));
        let gate = Gate::new(GateParts {
            scanner: scanner(),
            policy: plan.policy,
            audit: audit.clone(),
            budget,
            clock: plan.clock.clone(),
            text_key: TEXT_KEY,
        });
        let workspace: WorkspaceId = WORKSPACE.parse().unwrap();
        let store = (plan.store)(Arc::new(SqliteSessions::open(&folder, &workspace).unwrap()));
        let (hub, approvals) = (Hub::default(), Approvals::default());
        let seen = Arc::new(Seen::new(audit.clone()));
        let mut tools: Vec<Arc<dyn Tool>> = Vec::new();
        for name in TOOLS {
            tools.push(Arc::new(FakeTool::new(name, (plan.facts)(name), seen.clone())));
        }
        tools.extend(plan.tools);
        let providers = plan.providers.unwrap_or_else(|| vec![rehearsal("near"), rehearsal("far")]);
        let place = Arc::new(Place {
            id: workspace,
            providers: Mutex::new(providers.into_iter().map(|p| recorded(&gate, &seen, p)).collect()),
            tools: tools.into_iter().map(|tool| gate.tool_door(tool)).collect(),
            channels: ["cli", "group"]
                .map(|name| {
                    let port = RecordedChannel { name: channel(name), hub: hub.clone(), seen: seen.clone() };
                    (channel(name), gate.channel_door(channel(name), Arc::new(port)))
                })
                .into(),
            failed: Mutex::default(),
            model: plan.model,
        });
        let agent = Agent::new(AgentParts {
            gate: gate.clone(),
            store: store.clone(),
            workspace: place.clone(),
            hub: hub.clone(),
            approvals: approvals.clone(),
            settings: plan.settings,
            clock: plan.clock,
        });
        Self { gate, audit, audit_key, agent, hub, approvals, store, seen, place, folder, _temporary: temporary }
    }

    pub(crate) async fn open(&self, who: &str, where_: &str) -> SessionRecord {
        self.agent.open_session(person(who), channel(where_)).await.unwrap()
    }

    /// Submits a message and gives its turn.
    pub(crate) async fn submit(&self, session: &SessionRecord, text: &str, typed: bool) -> TurnId {
        let message = self.message(session, text, typed);
        self.agent.submit(message).await.unwrap().turn
    }

    pub(crate) fn message(&self, session: &SessionRecord, text: &str, typed: bool) -> Message {
        let origin = match (typed, session.principal.role) {
            (false, _) => Origin::World,
            (true, Role::Owner) => Origin::Owner,
            (true, Role::Member) => Origin::Member,
        };
        let key = sigil_types::EventId::generate(SystemClock.now()).to_string();
        let text = Untrusted::new(origin, text.to_owned());
        Message { session: session.id, principal: session.principal.clone(), key, text, typed }
    }

    /// Says something and waits for the end of the turn. Questions are answered with `approve`.
    pub(crate) async fn say(&self, session: &SessionRecord, text: &str, typed: bool, approve: bool) -> Told {
        let turn = self.submit(session, text, typed).await;
        self.watch(turn, approve).await
    }

    /// As [`Road::say`], for what Ann types; nothing is approved.
    pub(crate) async fn ann(&self, session: &SessionRecord, text: &str) -> Told {
        self.say(session, text, true, false).await
    }

    pub(crate) async fn watch(&self, turn: TurnId, approve: bool) -> Told {
        let mut watcher = self.hub.watch(turn, 0).unwrap();
        let mut events = Vec::new();
        while let Some(event) = next(&mut watcher).await {
            if let TurnEvent::ApprovalRequested { approval, .. } = &event {
                let waiting = self.approvals.waiting().into_iter().find(|waiting| waiting.plan.approval == *approval);
                self.approvals.answer(*approval, waiting.unwrap().digest, approve, person("ann")).unwrap();
            }
            events.push(event);
        }
        let Some(TurnEvent::Finished { outcome, code, message }) = events.last().cloned() else {
            panic!("a turn without end: {events:?}")
        };
        Told { turn, outcome, code, message, events }
    }

    /// The kinds of all entries of the log, oldest first.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.entries().into_iter().map(|entry| entry.kind.to_string()).collect()
    }

    pub(crate) fn entries(&self) -> Vec<sigil_audit::Stored> {
        let filter = sigil_audit::Filter { limit: 10_000, oldest_first: true, ..sigil_audit::Filter::default() };
        self.audit.query(&filter).unwrap()
    }
}

pub(crate) async fn next(watcher: &mut Watcher) -> Option<TurnEvent> {
    watcher.next().await.map(|(_, _, event)| event)
}

pub(crate) fn rehearsal(name: &str) -> Arc<dyn Provider> {
    Arc::new(Rehearsal::new(name.parse().unwrap(), Duration::ZERO, true).unwrap())
}

fn recorded(gate: &Gate, seen: &Arc<Seen>, inner: Arc<dyn Provider>) -> Door<ToProvider> {
    gate.provider_door(Arc::new(Recorded { inner, seen: seen.clone() }))
}

/// The workspace of the road.
pub(crate) struct Place {
    id: WorkspaceId,
    pub(crate) providers: Mutex<Vec<Door<ToProvider>>>,
    pub(crate) tools: Vec<Door<ToTool>>,
    pub(crate) channels: Vec<(ChannelRef, Door<ToChannel>)>,
    model: &'static str,
    /// Providers that failed before their first event.
    pub(crate) failed: Mutex<Vec<String>>,
}

impl Workspace for Place {
    fn id(&self) -> &WorkspaceId {
        &self.id
    }

    fn providers(&self) -> Vec<ModelRoute> {
        let doors = self.providers.lock().unwrap().clone();
        let route = |door| ModelRoute { door, model: self.model.to_owned(), temperature: None, max_tokens: None };
        doors.into_iter().map(route).collect()
    }

    fn provider_failed(&self, provider: &Destination, _: &PortFailed) {
        self.failed.lock().unwrap().push(provider.id());
    }

    fn provider_answered(&self, _: &Destination) {}

    fn tools(&self) -> Vec<Door<ToTool>> {
        self.tools.clone()
    }

    fn channel(&self, channel: &ChannelRef) -> Option<Door<ToChannel>> {
        self.channels.iter().find(|(name, _)| name == channel).map(|(_, door)| door.clone())
    }

    fn audience(&self, channel: &ChannelRef, principal: &Principal) -> Readers {
        let platform = [Reader::Platform(channel.clone())].into_iter().collect();
        let people = if channel.0.as_str() == "group" { vec!["ann", "bob"] } else { vec![principal.user.as_str()] };
        readers(&people).union(&platform)
    }

    fn grants(&self) -> CapabilitySet {
        all()
    }

    fn user_grants(&self, _: &Principal) -> CapabilitySet {
        all()
    }
}

/// A clock that stands still until it is moved.
pub(crate) struct HandClock {
    pub(crate) now: Mutex<Timestamp>,
    pub(crate) stopped: AtomicBool,
}

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { now: Mutex::new(SystemClock.now()), stopped: AtomicBool::new(true) })
    }

    pub(crate) fn forward(&self, millis: u64) {
        let mut now = self.now.lock().unwrap();
        *now = now.plus_millis(millis);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        if self.stopped.load(Ordering::Relaxed) { *self.now.lock().unwrap() } else { SystemClock.now() }
    }
}
