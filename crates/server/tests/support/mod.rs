//! A real server on real sockets with a real token store, before operations that answer from memory.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use sigil_server::{
    Answer, Caller, Failure, Limits, Listeners, Numbered, Operations, Page, PageRequest, Scope, Server, Settings, api,
};
use sigil_store::sqlite::SqliteGateway;
use sigil_store::{GatewayStore, NewToken, UserRecord};
use sigil_types::{
    Action, ApprovalId, Clock, Code, Digest, EventId, Label, Outcome, PluginName, Principal, Role, SessionId,
    Timestamp, TurnEvent, TurnId,
};
use tokio::sync::watch;

/// A clock that tests set.
#[derive(Debug)]
pub struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

pub const START: u64 = 1_793_404_800_000;

/// Operations in memory: one session, one turn whose events the test tells.
pub struct Memory {
    pub session: SessionId,
    pub turn: TurnId,
    pub told: watch::Sender<Vec<TurnEvent>>,
    pub refusals: Mutex<Vec<(String, Code)>>,
    pub started: Mutex<Vec<(String, String)>>,
}

fn at() -> Timestamp {
    Timestamp::from_millis(START)
}

impl Memory {
    fn session_view(&self, caller: &Caller) -> api::Session {
        api::Session {
            id: self.session,
            workspace: "home".parse().expect("a name"),
            channel: sigil_types::ChannelRef("api".parse().expect("a name")),
            user: caller.principal.user.clone(),
            created: at(),
            archived: None,
            messages: 0,
            label: Label::bottom(),
        }
    }

    pub fn tell(&self, event: TurnEvent) {
        self.told.send_modify(|events| events.push(event));
    }

    pub fn finish(&self) {
        self.tell(TurnEvent::Finished { outcome: Outcome::Completed, code: None, message: None });
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

fn failed<'a, T: Send + 'a>(failure: Failure) -> Answer<'a, T> {
    Box::pin(std::future::ready(Err(failure)))
}

impl Operations for Memory {
    fn ready(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }

    fn status<'a>(&'a self, _: &'a Caller) -> Answer<'a, api::Status> {
        ready(api::Status {
            version: "0".to_owned(),
            pid: 1,
            started: at(),
            uptime_ms: 0,
            ready: true,
            health: api::Health::Ok,
            posture: "none".to_owned(),
            policy_version: None,
            turns_running: 0,
            approvals_pending: 0,
            audit_size: 0,
            components: Vec::new(),
        })
    }

    fn metrics<'a>(&'a self, _: &'a Caller) -> Answer<'a, String> {
        ready(String::new())
    }

    fn sessions<'a>(&'a self, caller: &'a Caller, page: PageRequest) -> Answer<'a, Page<api::Session>> {
        let next = page.cursor.is_none().then(|| "second".to_owned());
        ready(Page { items: vec![self.session_view(caller)], next })
    }

    fn create_session<'a>(&'a self, caller: &'a Caller, _: api::NewSession) -> Answer<'a, api::Session> {
        ready(self.session_view(caller))
    }

    fn session<'a>(&'a self, caller: &'a Caller, id: SessionId) -> Answer<'a, api::Session> {
        if id == self.session { ready(self.session_view(caller)) } else { failed(Failure::not_found("session")) }
    }

    fn messages<'a>(&'a self, _: &'a Caller, _: SessionId, _: PageRequest) -> Answer<'a, Page<api::Message>> {
        ready(Page { items: Vec::new(), next: None })
    }

    fn start_turn<'a>(
        &'a self,
        _: &'a Caller,
        session: SessionId,
        turn: api::NewTurn,
        key: String,
    ) -> Answer<'a, api::TurnAccepted> {
        let mut started = self.started.lock().expect("lock");
        let fresh = match started.iter().find(|(known, _)| *known == key) {
            Some((_, text)) if *text != turn.text => return failed(Failure::idempotency_reused()),
            Some(_) => false,
            None => true,
        };
        if fresh {
            started.push((key, turn.text));
        }
        ready(api::TurnAccepted { turn: self.turn, session, fresh })
    }

    fn turn<'a>(&'a self, _: &'a Caller, _: TurnId) -> Answer<'a, api::Turn> {
        failed(Failure::not_found("turn"))
    }

    fn events<'a>(&'a self, _: &'a Caller, id: TurnId, after: u64) -> Answer<'a, BoxStream<'static, Numbered>> {
        if id != self.turn {
            return failed(Failure::not_found("turn"));
        }
        let state = (self.told.subscribe(), usize::try_from(after).expect("small"), false);
        let events = stream::unfold(state, |(mut told, next, over)| async move {
            if over {
                return None;
            }
            let event = told.wait_for(|events| events.len() > next).await.ok()?.get(next)?.clone();
            let over = matches!(event, TurnEvent::Finished { .. });
            Some((Numbered { seq: next as u64 + 1, at: at(), event }, (told, next + 1, over)))
        });
        ready(events.boxed())
    }

    fn approvals<'a>(&'a self, _: &'a Caller, _: bool) -> Answer<'a, Vec<api::Approval>> {
        ready(Vec::new())
    }

    fn decide<'a>(&'a self, _: &'a Caller, _: ApprovalId, _: api::Decision) -> Answer<'a, api::Approval> {
        failed(Failure::not_found("approval"))
    }

    fn audit_events<'a>(&'a self, _: &'a Caller, _: api::AuditQuery) -> Answer<'a, Page<api::AuditEvent>> {
        ready(Page { items: Vec::new(), next: None })
    }

    fn audit_checkpoint<'a>(&'a self, _: &'a Caller) -> Answer<'a, String> {
        ready(String::new())
    }

    fn plugins<'a>(&'a self, _: &'a Caller) -> Answer<'a, Vec<api::Plugin>> {
        ready(Vec::new())
    }

    fn denials<'a>(&'a self, _: &'a Caller, _: PluginName) -> Answer<'a, api::Denials> {
        failed(Failure::not_found("plugin"))
    }

    fn plugin<'a>(&'a self, _: &'a Caller, _: PluginName) -> Answer<'a, api::PluginDetail> {
        failed(Failure::not_found("plugin"))
    }

    fn policy<'a>(&'a self, _: &'a Caller) -> Answer<'a, api::Policy> {
        failed(Failure::not_found("policy"))
    }

    fn sandbox<'a>(&'a self, _: &'a Caller) -> Answer<'a, api::Sandbox> {
        ready(api::Sandbox { posture: "none".to_owned(), layers: Vec::new(), battery: None })
    }

    fn scan<'a>(&'a self, _: &'a Caller, _: api::ScanRequest) -> Answer<'a, api::ScanReport> {
        ready(api::ScanReport { action: Action::Allow, findings: Vec::new(), rules: Digest::of(b"") })
    }

    fn refused(&self, source: String, code: Code, _: Option<&Principal>) -> Option<EventId> {
        self.refusals.lock().expect("lock").push((source, code));
        Some(EventId::generate(at()))
    }
}

/// A running server. It stops when dropped.
pub struct Running {
    pub address: SocketAddr,
    pub socket: PathBuf,
    pub memory: Arc<Memory>,
    pub store: Arc<SqliteGateway>,
    pub clock: Arc<HandClock>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    runtime: Option<tokio::runtime::Runtime>,
    served: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
    _root: tempfile::TempDir,
}

impl Running {
    pub fn start(limits: Limits) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let store = Arc::new(SqliteGateway::open(root.path()).expect("a store"));
        let clock = Arc::new(HandClock(AtomicU64::new(START)));
        let memory = Arc::new(Memory {
            session: SessionId::generate(at()),
            turn: TurnId::generate(at()),
            told: watch::Sender::new(Vec::new()),
            refusals: Mutex::default(),
            started: Mutex::default(),
        });
        let socket = root.path().join("run").join("s");
        let listeners = Listeners::bind(Some("127.0.0.1:0".parse().expect("an address")), Some(&socket)).expect("open");
        let address = listeners.address().expect("listening");
        let hosts = vec!["sigil.home".parse().expect("a host")];
        let settings = Settings { owner: "anna".parse().expect("a name"), hosts, limits };
        let server = Server::new(settings, Arc::clone(&memory) as _, Arc::clone(&store) as _, Arc::clone(&clock) as _)
            .expect("made");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let served = runtime.spawn(server.run(listeners, async { drop(stopped.await) }));
        let running = Self {
            address,
            socket,
            memory,
            store,
            clock,
            stop: Some(stop),
            runtime: Some(runtime),
            served: Some(served),
            _root: root,
        };
        running.user("anna", Role::Owner);
        running.user("ben", Role::Member);
        running
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("running").block_on(future)
    }

    fn user(&self, name: &str, role: Role) {
        let id = name.parse().expect("a name");
        let user = UserRecord { id, display_name: name.to_owned(), role, created: at(), disabled: None };
        self.wait(self.store.put_user(user)).expect("kept");
    }

    /// A token of `user` with `scopes`, which ends after an hour.
    pub fn token(&self, user: &str, scopes: &[Scope]) -> String {
        let minted = sigil_server::mint(sigil_server::TokenKind::Personal, at()).expect("random");
        let token = NewToken {
            id: minted.id,
            user: user.parse().expect("a name"),
            title: "test".to_owned(),
            digest: minted.digest,
            scopes: scopes.iter().map(ToString::to_string).collect::<BTreeSet<_>>(),
            created: at(),
            expires: Some(Timestamp::from_millis(START + 3_600_000)),
        };
        self.wait(self.store.create_token(token)).expect("kept");
        minted.text.expose().clone()
    }

    pub fn set_clock(&self, millis: u64) {
        self.clock.0.store(millis, Ordering::SeqCst);
    }

    /// Sends `request` as it stands over TCP and reads until the server closes.
    pub fn raw(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        drop(stream.write_all(request));
        Reply::read(stream)
    }

    /// A request over TCP with `headers`.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.raw(self.request(method, path, headers, body).as_bytes())
    }

    /// The same over the Unix socket.
    pub fn ask_locally(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut stream = UnixStream::connect(&self.socket).expect("connected");
        // A server that refuses early need not have read everything.
        drop(stream.write_all(self.request(method, path, headers, body).as_bytes()));
        Reply::read(stream)
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str(&format!("Host: {}\r\n", self.address));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(body);
        text
    }

    /// Stops the server and waits until it has.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            self.wait(served).expect("no panic").expect("served");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    fn read(mut stream: impl Read) -> Self {
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { dechunk(body) } else { body.to_owned() };
        Self { status, head: head.to_ascii_lowercase(), body }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        let Some(chunk) = rest.get(..size) else { break };
        if size == 0 {
            break;
        }
        whole.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}
