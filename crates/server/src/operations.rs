//! [`Operations`]: the one trait through which the API reaches the rest of Sigil.

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sigil_types::{
    ApprovalId, Code, EventId, PluginName, Principal, Role, SessionId, Timestamp, TokenId, TurnEvent, TurnId,
};

use crate::api;
use crate::problem::Fix;
use crate::scope::Scope;

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Over the Unix socket, by a process of the user who runs the gateway.
    LocalSocket,
    /// With a bearer token.
    Token(TokenId),
}

/// Who asks, from the stored credential alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The person.
    pub principal: Principal,
    /// How they showed it.
    pub via: Via,
    /// What this credential may be used for.
    pub scopes: std::collections::BTreeSet<Scope>,
    /// When the credential ends.
    pub expires: Option<Timestamp>,
}

impl Caller {
    /// Whether the credential and the person's role both allow `scope`.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) && (self.principal.role == Role::Owner || !scope.is_owner_only())
    }
}

/// What kind of failure it was; decides the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The request makes no sense: 422.
    Invalid,
    /// Policy, or the person's rights in this workspace, say no: 403.
    Denied,
    /// No such thing, or none that this caller may know of: 404. Never stands for an internal failure.
    NotFound,
    /// It is in another state than the request needs: 409.
    Conflict,
    /// A budget or rate is used up: 429.
    Exhausted,
    /// Cannot be done now: 503.
    Unavailable,
    /// Sigil's own fault: 500.
    Internal,
}

/// Why an operation was not done. Sigil's own words: nothing from outside stands in it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Decides the status.
    pub kind: FailureKind,
    /// What, stable.
    pub code: Code,
    /// What failed, in one sentence of at most 100 characters.
    pub what: String,
    /// Why, naming the deciding rule and its source.
    pub why: String,
    /// What to do.
    pub fix: Vec<Fix>,
    /// The audit entry about it.
    pub audit_ref: Option<EventId>,
}

impl Failure {
    /// A failure without remedy or audit entry yet.
    #[must_use]
    pub fn new(kind: FailureKind, code: Code, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { kind, code, what: what.into(), why: why.into(), fix: Vec::new(), audit_ref: None }
    }

    /// There is no `what`, or none that this caller may know of: the two cannot be told apart.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        let why = "It does not exist, or this credential may not see it.";
        Self::new(
            FailureKind::NotFound,
            Code::new("server.resource.find.absent"),
            format!("There is no such {what}."),
            why,
        )
    }

    /// The idempotency key was used before with another body.
    #[must_use]
    pub fn idempotency_reused() -> Self {
        let why = "The same Idempotency-Key came before with another body.";
        let code = Code::new("server.idempotency.key.reused");
        Self::new(FailureKind::Invalid, code, "This Idempotency-Key belongs to another request.", why)
            .fix("Use a new key for a new request.", None)
    }

    /// The same failure with a remedy.
    #[must_use]
    pub fn fix(mut self, label: impl Into<String>, cli: Option<&str>) -> Self {
        self.fix.push(Fix { label: label.into(), cli: cli.map(str::to_owned) });
        self
    }

    /// The same failure with its audit entry.
    #[must_use]
    pub fn audited(mut self, event: EventId) -> Self {
        self.audit_ref = Some(event);
        self
    }
}

/// One page of a list, newest or first things first.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The things.
    pub items: Vec<T>,
    /// What to send as `cursor` for the next page; none after the last.
    pub next: Option<String>,
}

/// Where a page starts and how long it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// The `next` of the page before.
    pub cursor: Option<String>,
    /// At most this many, 1 to 500.
    pub limit: usize,
}

/// One event of a turn and its number, counted from 1 without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its number.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event: TurnEvent,
}

/// What an operation answers.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Failure>>;

/// Everything that the API can be asked. Filled by the binary's wiring; the server has checked credential, scope, size and
/// form, and nothing else: membership, policy and state are for the implementer to check.
///
/// Every text in an answer was cleared for the caller, or is Sigil's own.
pub trait Operations: Send + Sync + 'static {
    /// Whether guarded work can be done: policy, audit log and store are usable.
    fn ready(&self) -> BoxFuture<'_, bool>;

    /// State and health of the gateway.
    fn status<'a>(&'a self, caller: &'a Caller) -> Answer<'a, api::Status>;

    /// Metrics in the Prometheus text format (version 0.0.4); the server adds its own.
    fn metrics<'a>(&'a self, caller: &'a Caller) -> Answer<'a, String>;

    /// The caller's sessions, newest first.
    fn sessions<'a>(&'a self, caller: &'a Caller, page: PageRequest) -> Answer<'a, Page<api::Session>>;

    /// Begins a session.
    fn create_session<'a>(&'a self, caller: &'a Caller, new: api::NewSession) -> Answer<'a, api::Session>;

    /// One session.
    fn session<'a>(&'a self, caller: &'a Caller, id: SessionId) -> Answer<'a, api::Session>;

    /// The transcript of a session, oldest first.
    fn messages<'a>(&'a self, caller: &'a Caller, id: SessionId, page: PageRequest) -> Answer<'a, Page<api::Message>>;

    /// Takes a message, durably, and starts the turn that answers it. `key` is the client's idempotency key, unique for this
    /// principal: the same key and text answer the first turn; the same key with another text is
    /// [`Failure::idempotency_reused`].
    fn start_turn<'a>(
        &'a self,
        caller: &'a Caller,
        session: SessionId,
        turn: api::NewTurn,
        key: String,
    ) -> Answer<'a, api::TurnAccepted>;

    /// One turn.
    fn turn<'a>(&'a self, caller: &'a Caller, id: TurnId) -> Answer<'a, api::Turn>;

    /// The events of a turn after number `after` (0: all), and those to come. The stream ends after `finished`. An event keeps
    /// its number, so that a client that lost its connection goes on without loss or repetition.
    fn events<'a>(&'a self, caller: &'a Caller, id: TurnId, after: u64) -> Answer<'a, BoxStream<'static, Numbered>>;

    /// Questions that wait for a human, oldest first; with `resolved`, answered ones too.
    fn approvals<'a>(&'a self, caller: &'a Caller, resolved: bool) -> Answer<'a, Vec<api::Approval>>;

    /// Answers a question. The decision names the digest of the plan that was looked at.
    fn decide<'a>(&'a self, caller: &'a Caller, id: ApprovalId, decision: api::Decision) -> Answer<'a, api::Approval>;

    /// Entries of the audit log.
    fn audit_events<'a>(&'a self, caller: &'a Caller, query: api::AuditQuery) -> Answer<'a, Page<api::AuditEvent>>;

    /// The newest signed head of the audit log, in the C2SP tlog-checkpoint form.
    fn audit_checkpoint<'a>(&'a self, caller: &'a Caller) -> Answer<'a, String>;

    /// All plugins that are known.
    fn plugins<'a>(&'a self, caller: &'a Caller) -> Answer<'a, Vec<api::Plugin>>;

    /// One plugin, with tools and effective sandbox.
    fn plugin<'a>(&'a self, caller: &'a Caller, name: PluginName) -> Answer<'a, api::PluginDetail>;

    /// What a plugin was refused, and what would change that.
    fn denials<'a>(&'a self, caller: &'a Caller, name: PluginName) -> Answer<'a, api::Denials>;

    /// The signed policy in force.
    fn policy<'a>(&'a self, caller: &'a Caller) -> Answer<'a, api::Policy>;

    /// The sandbox of this host: posture, layers, last battery.
    fn sandbox<'a>(&'a self, caller: &'a Caller) -> Answer<'a, api::Sandbox>;

    /// Scans a text as the gate would at a stage.
    fn scan<'a>(&'a self, caller: &'a Caller, request: api::ScanRequest) -> Answer<'a, api::ScanReport>;

    /// Records that the server itself refused a request, aggregated per `source`. `None` when it could not be recorded.
    fn refused(&self, source: String, code: Code, who: Option<&Principal>) -> Option<EventId>;
}
