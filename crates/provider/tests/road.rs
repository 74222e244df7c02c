//! The whole road to a model: a real gate, a policy signed by a throw-away key, its doors, egress, and local servers.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use sigil_audit::{AuditLog, LocalSigner};
use sigil_egress::{ClientLimits, HostRights, HttpClient, Roots, Surroundings, SystemResolver};
use sigil_gate::port::{Budget, ModelEvent, OverBudget, PortFailed, StopReason};
use sigil_gate::{
    Cleared, Door, Gate, GateParts, PromptDraft, Purpose, SegmentDraft, Session, SessionContext, ToProvider, Verdict,
};
use sigil_policy::sign::{SigningKey, Validity, sign};
use sigil_policy::{Bundle, EgressIdentity, LocalAddress, Policy, Preset, ProviderGrant, Source, TrustStore};
use sigil_provider::wire::Wire;
use sigil_provider::{BaseUrl, Health, HttpProvider, HttpProviderSettings, Rehearsal};
use sigil_scan::Scanner;
use sigil_types::{
    CapabilitySet, ChannelRef, Label, Origin, Principal, ProviderName, Reader, Readers, Role, SessionId, SystemClock,
    Timestamp, Untrusted, Usage,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const WIRE: Wire = Wire::OpenAi { completion_tokens: false };
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n\
    data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const DOWN: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

struct NoLimit;

impl Budget for NoLimit {
    fn admit(&self, _: &Session, _: u64) -> Result<(), OverBudget> {
        Ok(())
    }

    fn spent(&self, _: &Session, _: Usage) {}
}

fn name(text: &str) -> ProviderName {
    text.parse().expect("a name")
}

/// The embedded policy with these providers, signed.
fn policy(providers: &[(&str, Option<SocketAddr>)]) -> Arc<Policy> {
    let mut source = Source::embedded(Preset::Balanced).expect("embedded");
    source
        .edit_ceilings(|ceilings| {
            ceilings.owners = ["ann".parse().expect("a name")].into();
            ceilings.providers = providers
                .iter()
                .map(|(provider, at)| ProviderGrant {
                    name: name(provider),
                    endpoint: at.map(|at| format!("http://{at}").parse().expect("an endpoint")),
                    reader: None,
                })
                .collect();
            ceilings.trusted_providers = providers.iter().map(|(provider, _)| name(provider)).collect();
            ceilings.egress.local = providers
                .iter()
                .filter_map(|(_, at)| at.map(|address| LocalAddress { plugin: EgressIdentity::Host, address }))
                .collect();
        })
        .expect("edited");
    let key = SigningKey::generate().expect("a key");
    let now = Timestamp::from_millis(1_700_000_000_000);
    let validity = Validity { not_before: now, expires: now.plus_millis(u64::MAX / 4) };
    let envelope = sign(&source, 1, validity, &key).expect("signs");
    let trust = TrustStore::of_one("test".parse().expect("a name"), key.public());
    let bundle = Bundle::parse(&envelope).expect("parses").verify(&trust, now.plus_millis(1), 0).expect("verifies");
    Arc::new(bundle.compile().expect("compiles"))
}

struct Road {
    gate: Gate,
    session: Session,
    client: HttpClient,
    audit: AuditLog,
    _folder: tempfile::TempDir,
}

impl Road {
    fn new(policy: Arc<Policy>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(SystemClock);
        let pkcs8 = sigil_audit::SigningKey::generate().expect("a key");
        let key = sigil_audit::SigningKey::from_pkcs8("test", &pkcs8).expect("its form");
        let signer = Arc::new(LocalSigner::new(key, None));
        let audit = AuditLog::open(&folder.path().join("audit.db"), signer, clock.clone()).expect("a log");
        let client = HttpClient::new(
            Arc::new(SystemResolver),
            Surroundings::default(),
            Roots::Only(vec![]),
            ClientLimits::default(),
            HostRights::of(policy.ceilings()),
        );
        let gate = Gate::new(GateParts {
            scanner: Scanner::builtin().expect("rules"),
            policy,
            audit: audit.clone(),
            budget: Arc::new(NoLimit),
            clock,
            text_key: [7; 32],
        });
        let all = CapabilitySet { allow: ["*".parse().expect("a pattern")].into(), deny: Default::default() };
        let session = gate.session(SessionContext {
            id: SessionId::generate(Timestamp::from_millis(1_700_000_000_000)),
            workspace: "home".parse().expect("a name"),
            principal: Principal { user: "ann".parse().expect("a name"), role: Role::Owner },
            channel: ChannelRef("cli".parse().expect("a name")),
            audience: Readers::from_iter([Reader::User("ann".parse().expect("a name"))]),
            label: Label::bottom(),
            workspace_grants: all.clone(),
            user_grants: all,
        });
        Self { gate, session, client, audit, _folder: folder }
    }

    fn http(&self, provider: &str, at: SocketAddr) -> Door<ToProvider> {
        let settings = HttpProviderSettings {
            name: name(provider),
            wire: WIRE,
            base_url: format!("http://{at}/v1").parse::<BaseUrl>().expect("a base URL"),
            key: None,
            first_event: Duration::from_secs(20),
            idle: Duration::from_secs(20),
        };
        self.gate.provider_door(Arc::new(HttpProvider::new(self.client.clone(), settings)))
    }

    async fn cleared(&self, door: &Door<ToProvider>, model: &str, text: &str) -> Cleared<ToProvider> {
        let text = Untrusted::new(Origin::Owner, text.to_owned());
        let label = self.gate.inbound_label(&self.session, true);
        let draft = PromptDraft {
            model: model.to_owned(),
            segments: vec![SegmentDraft::System, SegmentDraft::User { text, label, current: true }],
            tools: vec![],
            temperature: Some(0.0),
            max_tokens: None,
            purpose: Purpose::Chat,
        };
        match self.gate.clear(&self.session, door, draft).await {
            Verdict::Cleared(cleared) => cleared,
            other => panic!("not cleared: {other:?}"),
        }
    }

    async fn ask(&self, door: &Door<ToProvider>, model: &str, text: &str) -> Result<Vec<ModelEvent>, PortFailed> {
        let cleared = self.cleared(door, model, text).await;
        let answer = door.chat(&self.session, cleared).await?;
        Ok(answer.events.map(|event| event.map(Untrusted::into_inner).expect("an event")).collect().await)
    }
}

/// A server that gives every connection the same answer, and keeps what it was asked.
async fn server(answer: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut request = vec![0; 1 << 16];
            let mut length = 0;
            // The body of a prompt ends with its object.
            while !request[..length].ends_with(b"}") {
                length += stream.read(&mut request[length..]).await.expect("a request");
            }
            log.lock().expect("not poisoned").push(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (at, asked)
}

#[tokio::test]
async fn a_prompt_goes_out_only_after_its_receipt_and_comes_back_untrusted() {
    let (at, asked) = server(ANSWER).await;
    let road = Road::new(policy(&[("near", Some(at))]));
    let door = road.http("near", at);
    let cleared = road.cleared(&door, "m", "hello").await;
    let receipt = cleared.receipt().id();
    assert!(road.audit.find(receipt).expect("readable").is_some(), "durable before the first byte");
    assert!(asked.lock().expect("not poisoned").is_empty());
    let answer = door.chat(&road.session, cleared).await.expect("an answer");
    let events: Vec<ModelEvent> =
        answer.events.map(|event| event.map(Untrusted::into_inner).expect("an event")).collect().await;
    assert_eq!(events, [ModelEvent::Text("hi".to_owned()), ModelEvent::Stop(StopReason::End)]);
    let asked = asked.lock().expect("not poisoned");
    assert!(asked[0].starts_with("POST /v1/chat/completions HTTP/1.1\r\n") && asked[0].contains("\"hello\""));
}

#[tokio::test]
async fn another_provider_is_tried_with_a_clearance_of_its_own() {
    let (down, _) = server(DOWN).await;
    let (up, heard) = server(ANSWER).await;
    let road = Road::new(policy(&[("first", Some(down)), ("second", Some(up))]));
    let health = Health::new(Arc::new(SystemClock));
    let doors = [(name("first"), road.http("first", down)), (name("second"), road.http("second", up))];
    let available = || health.available(doors.iter().collect(), |(name, _)| name);
    let mut tried = Vec::new();
    for (provider, door) in available() {
        tried.push(provider.to_string());
        match road.ask(door, "m", "hello").await {
            Ok(events) => {
                assert_eq!(events.last(), Some(&ModelEvent::Stop(StopReason::End)));
                health.answered(provider);
                break;
            }
            Err(failed) => {
                assert_eq!((failed.code.as_str(), failed.retryable), ("provider.service.overloaded", true));
                health.failed(provider);
            }
        }
    }
    assert_eq!(tried, ["first", "second"]);
    assert_eq!(available().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["second"]);

    // What was cleared for one provider is not delivered to another.
    let for_first = road.cleared(&doors[0].1, "m", "hello").await;
    let failed = doors[1].1.chat(&road.session, for_first).await.expect_err("foreign");
    assert_eq!(failed.code.as_str(), "gate.door.permit.foreign");
    assert_eq!(heard.lock().expect("not poisoned").len(), 1);
}

#[tokio::test]
async fn rehearsal_stands_behind_the_same_door() {
    let road = Road::new(policy(&[("rehearsal", None)]));
    let port = Rehearsal::new(name("rehearsal"), Duration::from_secs(1), true).expect("the demo");
    let door = road.gate.provider_door(Arc::new(port));
    let events = road.ask(&door, "rehearsal", "say good morning").await.expect("an answer");
    assert_eq!(events[0], ModelEvent::Text("good morning".to_owned()));
    let failed = road.ask(&door, "rehearsal:obedient", "fail 529").await.expect_err("told to");
    assert_eq!(failed.code.as_str(), "provider.service.overloaded");
}
