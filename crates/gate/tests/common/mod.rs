//! A real gate for tests: the embedded policy signed by a throw-away key, a real log, and ports that record what
//! reaches them.

use std::sync::{Arc, Mutex};

use sigil_audit::{AuditLog, LocalSigner};
use sigil_gate::port::{
    BoxFuture, Budget, Channel, ModelEvent, OverBudget, Pass, PortFailed, Provider, StopReason, Tool, ToolAnswer,
};
use sigil_gate::{Cleared, Gate, GateParts, Session, SessionContext, ToChannel, ToProvider, ToTool, ToolDefinition};
use sigil_policy::sign::{SigningKey, Validity, sign};
use sigil_policy::{Bundle, Policy, Preset, Source, TrustStore};
use sigil_policy::{Ceilings, ProviderGrant};
use sigil_scan::Scanner;
use sigil_types::{
    CapabilitySet, Label, Origin, Principal, Reader, Readers, Role, SessionId, SystemClock, Timestamp, ToolFacts,
    TurnId, Untrusted, Usage,
};

pub(crate) fn all() -> CapabilitySet {
    CapabilitySet { allow: ["*".parse().expect("a pattern")].into(), deny: Default::default() }
}

/// The embedded policy, edited and signed by a throw-away key.
pub(crate) fn policy(preset: Preset, version: u64, edit: impl FnOnce(&mut Ceilings)) -> Arc<Policy> {
    policy_for(preset, version, u64::MAX / 4, edit)
}

/// The same, valid for `valid` milliseconds from a moment in 2023 on.
pub(crate) fn policy_for(preset: Preset, version: u64, valid: u64, edit: impl FnOnce(&mut Ceilings)) -> Arc<Policy> {
    let mut source = Source::embedded(preset).expect("embedded");
    source
        .edit_ceilings(|ceilings| {
            ceilings.owners = ["ann".parse().expect("a name")].into();
            ceilings.providers = ["near", "far"]
                .map(|name| ProviderGrant { name: name.parse().expect("a name"), endpoint: None, reader: None })
                .into();
            ceilings.trusted_providers = ["near".parse().expect("a name")].into();
            edit(ceilings);
        })
        .expect("edited");
    let key = SigningKey::generate().expect("a key");
    let now = Timestamp::from_millis(1_700_000_000_000);
    let validity = Validity { not_before: now, expires: now.plus_millis(valid) };
    let envelope = sign(&source, version, validity, &key).expect("signs");
    let trust = TrustStore::of_one("test".parse().expect("a name"), key.public());
    let bundle = Bundle::parse(&envelope).expect("parses").verify(&trust, now.plus_millis(1), 0).expect("verifies");
    Arc::new(bundle.compile().expect("compiles"))
}

pub(crate) struct TestGate {
    pub(crate) gate: Gate,
    pub(crate) audit: AuditLog,
    /// Removed with everything in it when the gate is dropped.
    _folder: tempfile::TempDir,
    pub(crate) budget: Arc<TestBudget>,
}

#[derive(Default)]
pub(crate) struct TestBudget {
    pub(crate) empty: std::sync::atomic::AtomicBool,
}

impl Budget for TestBudget {
    fn admit(&self, _: &Session, _: u64) -> Result<(), OverBudget> {
        if self.empty.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(OverBudget { limit: "Nothing is left.".to_owned() });
        }
        Ok(())
    }

    fn spent(&self, _: &Session, _: Usage) {}
}

impl TestGate {
    pub(crate) fn new(preset: Preset) -> Self {
        Self::with(policy(preset, 1, |_| {}))
    }

    pub(crate) fn with(policy: Arc<Policy>) -> Self {
        Self::with_options(policy, sigil_audit::Options::default())
    }

    /// A gate whose log soon has no room left.
    pub(crate) fn with_a_small_log() -> Self {
        let options = sigil_audit::Options { max_pages: Some(24), ..sigil_audit::Options::default() };
        Self::with_options(policy(Preset::Balanced, 1, |_| {}), options)
    }

    /// Writes entries until the log fails.
    pub(crate) async fn fill_the_log(&self) {
        let entry = || {
            let data = serde_json::json!({ "filling": "x".repeat(4096) });
            sigil_audit::Entry::new(sigil_types::Code::new("test.log.filling"), "test").data(data)
        };
        while self.audit.append(entry()).await.is_ok() {}
    }

    fn with_options(policy: Arc<Policy>, options: sigil_audit::Options) -> Self {
        // In memory, where that can be had: these tests are not about the disk.
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a folder");
        let clock = Arc::new(SystemClock);
        let pkcs8 = sigil_audit::SigningKey::generate().expect("a key");
        let key = sigil_audit::SigningKey::from_pkcs8("test", &pkcs8).expect("its form");
        let signer = Arc::new(LocalSigner::new(key, None));
        let audit =
            AuditLog::open_with(&folder.path().join("audit.db"), signer, clock.clone(), options).expect("a log");
        let budget = Arc::new(TestBudget::default());
        let gate = Gate::new(GateParts {
            scanner: Scanner::builtin().expect("rules"),
            policy,
            audit: audit.clone(),
            budget: budget.clone(),
            clock,
            text_key: [7; 32],
        });
        Self { gate, audit, _folder: folder, budget }
    }

    pub(crate) fn session(&self) -> Session {
        self.session_of("ann", Role::Owner, Label::bottom())
    }

    pub(crate) fn session_of(&self, user: &str, role: Role, label: Label) -> Session {
        let now = Timestamp::from_millis(1_700_000_000_000);
        self.gate.session(SessionContext {
            id: SessionId::generate(now),
            workspace: "home".parse().expect("a name"),
            principal: Principal { user: user.parse().expect("a name"), role },
            channel: sigil_types::ChannelRef("cli".parse().expect("a name")),
            audience: Readers::from_iter([Reader::User(user.parse().expect("a name"))]),
            label,
            workspace_grants: all(),
            user_grants: all(),
        })
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.entries().into_iter().map(|entry| entry.kind.to_string()).collect()
    }

    pub(crate) fn entries(&self) -> Vec<sigil_audit::Stored> {
        let mut entries = self.audit.query(&sigil_audit::Filter::default()).expect("reads");
        entries.sort_by_key(|entry| entry.seq);
        entries
    }
}

pub(crate) fn turn() -> TurnId {
    TurnId::generate(Timestamp::from_millis(1_700_000_000_000))
}

pub(crate) fn owner(text: &str) -> Untrusted<String> {
    Untrusted::new(Origin::Owner, text.to_owned())
}

pub(crate) fn model(text: &str) -> Untrusted<String> {
    Untrusted::new(Origin::Model, text.to_owned())
}

/// Records every call, and answers with a fixed text.
pub(crate) struct RecordingTool {
    definition: ToolDefinition,
    facts: ToolFacts,
    capabilities: CapabilitySet,
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) answer: String,
}

impl RecordingTool {
    pub(crate) fn new(name: &str, facts: ToolFacts) -> Arc<Self> {
        Arc::new(Self {
            definition: ToolDefinition {
                name: name.parse().expect("a tool"),
                description: String::new(),
                schema: serde_json::json!({"type": "object"}),
            },
            facts,
            capabilities: all(),
            calls: Mutex::default(),
            answer: "done".to_owned(),
        })
    }
}

impl Tool for RecordingTool {
    fn name(&self) -> &sigil_types::ToolName {
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
        self.calls.lock().expect("no panic").push(call.into_body().arguments);
        let answer = ToolAnswer { ok: true, content: self.answer.clone(), bytes: self.answer.len() as u64 };
        Box::pin(std::future::ready(Ok(Untrusted::new(Origin::Tool, answer))))
    }
}

/// Records every prompt, and answers with one word.
pub(crate) struct RecordingProvider {
    name: sigil_types::ProviderName,
    pub(crate) prompts: Mutex<Vec<sigil_gate::ProviderBody>>,
}

impl RecordingProvider {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.parse().expect("a name"), prompts: Mutex::default() })
    }
}

impl Provider for RecordingProvider {
    fn name(&self) -> &sigil_types::ProviderName {
        &self.name
    }

    fn chat(
        &self,
        prompt: Cleared<ToProvider>,
        _: Pass,
    ) -> BoxFuture<
        '_,
        Result<futures_util::stream::BoxStream<'static, Result<Untrusted<ModelEvent>, PortFailed>>, PortFailed>,
    > {
        self.prompts.lock().expect("no panic").push(prompt.into_body());
        let events = [ModelEvent::Text("yes".to_owned()), ModelEvent::Stop(StopReason::End)]
            .map(|event| Ok(Untrusted::new(Origin::Model, event)));
        Box::pin(std::future::ready(Ok(futures_util::StreamExt::boxed(futures_util::stream::iter(events)))))
    }
}

/// Records every text that was sent.
#[derive(Default)]
pub(crate) struct RecordingChannel {
    pub(crate) sent: Mutex<Vec<String>>,
}

impl RecordingChannel {
    pub(crate) fn text(&self) -> String {
        self.sent.lock().expect("no panic").concat()
    }
}

impl Channel for RecordingChannel {
    fn send(&self, message: Cleared<ToChannel>, _: Pass) -> BoxFuture<'_, Result<(), PortFailed>> {
        self.sent.lock().expect("no panic").push(message.into_body().text().to_owned());
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A tool that sends to anybody on the internet and reads nothing of the owner's.
pub(crate) fn external() -> ToolFacts {
    ToolFacts {
        sources: sigil_types::Authors::world(),
        reads: Readers::Everyone,
        effect: sigil_types::Effect::External,
        audience: Readers::Everyone,
    }
}

/// A tool that reads what only Ann may read.
pub(crate) fn private() -> ToolFacts {
    ToolFacts { reads: Readers::from_iter([Reader::User("ann".parse().expect("a name"))]), ..ToolFacts::pure() }
}
