//! [`Gate`]: the border. Scan, labels, policy, budget, audit; then [`Cleared`], [`Held`] or [`Refused`].
//!
//! [`Gate::clear`] reads top to bottom in the order in which it decides. Nothing waits for a human inside it: what a human
//! must decide comes back as [`Held`] and goes on in [`Gate::resume`].

use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use sigil_audit::{AuditLog, Entry, Receipt};
use sigil_policy::{Facts, Policy, Request, Resource, ResourceKind, TypedReaders};
use sigil_scan::Scanner;
use sigil_types::{
    ApprovalId, Author, Authors, Capability, ChannelRef, Clock, Code, Effect, InstanceId, Label, Readers, Role,
    WorkspaceId,
};

use crate::assemble::{Blocked, Surroundings};
use crate::cleared::Permit;
use crate::core::Core;
use crate::door::{Door, Sink};
use crate::held::{Answer, Plan};
use crate::hop::{Destination, Hop, ToChannel, ToMemory, ToPlugin, ToProvider, ToTool};
use crate::port::{Budget, Channel, Memory, Plugin, Provider, Tool};
use crate::refused::{explain, why_asked};
use crate::screen::{Rules, Screening, bound_readers};
use crate::session::{Session, SessionContext};
use crate::{Cleared, Held, Refused};

/// How long a clearance may wait for its door, in milliseconds.
const PERMIT_LIFETIME: u64 = 120_000;
/// How long a human has, in milliseconds; after that the answer is no.
const APPROVAL_LIFETIME: u64 = 15 * 60_000;

/// The gate's answer.
#[must_use = "a verdict says whether the content may go on"]
#[derive(Debug)]
pub enum Verdict<H: Hop> {
    /// It may go, once, through its door.
    Cleared(Cleared<H>),
    /// A human decides.
    Held(Box<Held<H>>),
    /// It may not.
    Refused(Box<Refused>),
}

/// What a gate is made of.
pub struct GateParts {
    /// The scanner with the signed rule packs.
    pub scanner: Scanner,
    /// The policy in force.
    pub policy: Arc<Policy>,
    /// The audit log.
    pub audit: AuditLog,
    /// Who admits model calls.
    pub budget: Arc<dyn Budget>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Key under which the log refers to texts.
    pub text_key: [u8; 32],
}

impl std::fmt::Debug for GateParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GateParts").finish_non_exhaustive()
    }
}

/// The border.
#[derive(Clone)]
pub struct Gate {
    pub(crate) core: Arc<Core>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gate(generation {})", self.core.generation())
    }
}

/// What one clearing is about: gathered by the stages, read by the next ones.
pub(crate) struct Case<'a> {
    pub(crate) session: &'a Session,
    pub(crate) sink: &'a Sink,
    pub(crate) hop: sigil_types::Hop,
    pub(crate) rules: Rules,
    /// The generation that `rules.now` belongs to.
    pub(crate) generation: u64,
    /// The session's label, with the draft joined in.
    pub(crate) label: Label,
    /// Authors who may not cause an effect here.
    pub(crate) untrusted: Vec<Author>,
    pub(crate) integrity: bool,
    pub(crate) flow: bool,
    pub(crate) found: Vec<Code>,
    pub(crate) redactions: usize,
    /// Facts of the arguments, for policies to look at.
    pub(crate) facts: Facts,
}

/// What policy says, of both policies in force the stricter.
enum Ruling {
    Allow,
    Ask(Vec<Code>),
    Deny(Vec<Code>, Code),
}

impl Gate {
    /// A gate. There is no gate without a policy and a log.
    #[must_use]
    pub fn new(parts: GateParts) -> Self {
        let GateParts { scanner, policy, audit, budget, clock, text_key } = parts;
        let core = Core::new(scanner, policy, audit, budget, clock, &text_key);
        Self { core: Arc::new(core) }
    }

    /// Clears `draft` for the destination of `door`.
    pub async fn clear<H: Hop>(&self, session: &Session, door: &Door<H>, draft: H::Draft) -> Verdict<H> {
        let mut case = self.open_case(session, &door.sink, H::WORD);

        // 1 scan, 2 labels: what was in the draft was in the session, also when it goes no further
        let screened = self.screen::<H>(&mut case, draft);
        self.label(&mut case);
        let Ok(body) = screened else {
            return refused(self.refuse(&case, SCAN_BLOCKED, case.found.clone()));
        };
        // 3 policy
        match self.rule(&case, false) {
            Ruling::Allow => {}
            Ruling::Ask(rules) => return self.hold(case, body, rules).await,
            Ruling::Deny(rules, code) => return refused(self.refuse(&case, code, rules)),
        }
        // 4 budget, 5 audit
        self.let_through(case, body, None).await
    }

    /// Goes on with held content after a human's answer. Everything is checked again: that the answer is to this very
    /// plan, in time, and that policy and labels still allow it.
    pub async fn resume<H: Hop>(&self, session: &Session, held: Held<H>, answer: &Answer) -> Verdict<H> {
        let Held { body, sink, plan, .. } = held;
        let mut case = self.open_case(session, &sink, H::WORD);
        case.label = session.label();
        self.label(&mut case);
        let stale = answer.plan != plan.digest() || self.core.now() > plan.expires || case.label != plan.label;
        let entry = self.entry("approval.plan.answered", session).data(json!({
            "approval": plan.approval, "plan": plan.digest(), "approved": answer.approved && !stale,
            "by": answer.by.user, "destination": plan.destination, "label": plan.label, "stale": stale,
        }));
        if let Err(failed) = self.core.audit.append(entry).await {
            return refused(log_failed(&case, &failed));
        }
        if stale {
            return refused(self.refuse(&case, APPROVAL_STALE, plan.rules));
        }
        if !answer.approved {
            return refused(self.refuse(&case, APPROVAL_DENIED, plan.rules));
        }
        match self.rule(&case, true) {
            Ruling::Allow => self.let_through(case, body, Some(plan.approval)).await,
            Ruling::Ask(rules) => refused(self.refuse(&case, POLICY_DENIED, rules)),
            Ruling::Deny(rules, code) => refused(self.refuse(&case, code, rules)),
        }
    }

    pub(crate) fn open_case<'a>(&self, session: &'a Session, sink: &'a Sink, hop: sigil_types::Hop) -> Case<'a> {
        // The generation is read first: if policy changes in between, the permit is already stale at the door.
        let generation = self.core.generation();
        let rules = Rules { now: self.core.policy(), then: Arc::clone(session.opened_under()) };
        Case {
            session,
            sink,
            hop,
            rules,
            generation,
            label: session.label(),
            untrusted: Vec::new(),
            integrity: true,
            flow: true,
            found: Vec::new(),
            redactions: 0,
            facts: Facts::new(),
        }
    }

    fn screen<H: Hop>(&self, case: &mut Case<'_>, draft: H::Draft) -> Result<H::Body, Blocked> {
        let Some(marker) = random_marker() else {
            case.found = vec![NO_RANDOMNESS];
            return Err(Blocked);
        };
        let around = Surroundings { system: case.rules.now.system_text(), marker: &marker };
        let mut screening = Screening::new(&self.core, &case.rules, case.session, case.sink, case.hop);
        let body = H::assemble(draft, &mut screening, &around);
        let found = if body.is_ok() { screening.rules_found() } else { screening.rules_of_the_last() };
        let (label, redactions) = (screening.label.clone(), screening.redactions);
        case.redactions = redactions;
        case.found = found;
        case.label = case.label.join(&label);
        body
    }

    /// Joins the draft's label into the session's, and checks integrity (line 12) and flow (line 13) at this sink.
    pub(crate) fn label(&self, case: &mut Case<'_>) {
        case.label = case.session.raise(&case.label);
        let acting = case.session.context().principal.author();
        case.untrusted =
            case.label.authors.iter().filter(|author| !self.core.trusts(author, &acting)).cloned().collect();
        case.integrity = case.sink.effect == Effect::None || case.untrusted.is_empty();
        case.flow = case.sink.audience(case.session).is_subset(&case.label.readers);
    }

    /// Asks the policy in force, and the one that was in force when the turn began.
    fn rule(&self, case: &Case<'_>, approved: bool) -> Ruling {
        let context = case.session.context();
        let Some(capability) = capability(&case.sink.destination) else {
            return Ruling::Deny(Vec::new(), POLICY_DENIED);
        };
        let mut grants = vec![&context.workspace_grants, &context.user_grants];
        grants.extend(&case.sink.grants);
        let acting = context.principal.author();
        let trust = case.label.authors.iter().filter(|author| self.core.trusts(author, &acting)).cloned().collect();
        let resource = Resource {
            kind: ResourceKind::of(case.hop),
            id: case.sink.destination.id(),
            trust,
            audience: case.sink.audience(case.session),
        };
        let mut ruling = Ruling::Allow;
        for policy in case.rules.both() {
            // A policy that has run out vouches for nothing but words to the owner, who has to sign the next one.
            let to_the_owner = case.hop == sigil_types::Hop::ToChannel && context.principal.role == Role::Owner;
            if policy.expires() <= self.core.now() && !to_the_owner {
                return Ruling::Deny(Vec::new(), POLICY_EXPIRED);
            }
            let verdict = policy.authorize(&Request {
                principal: &context.principal,
                workspace: &context.workspace,
                hop: case.hop,
                capability: &capability,
                grants: &grants,
                resource: &resource,
                label: &case.label,
                effect: case.sink.effect,
                integrity: case.integrity,
                flow: case.flow,
                approved,
                facts: &case.facts,
            });
            match verdict {
                sigil_policy::Verdict::Deny { rules, code } => return Ruling::Deny(rules, code),
                sigil_policy::Verdict::Ask { rules } => ruling = Ruling::Ask(rules),
                // Whatever a policy says, a failed check is never allowed without a human (after line 13).
                sigil_policy::Verdict::Allow if !(approved || case.integrity && case.flow) => {
                    return Ruling::Deny(Vec::new(), LABELS_FORBID);
                }
                sigil_policy::Verdict::Allow => {}
            }
        }
        ruling
    }

    /// Policy for a reply that will be streamed. What a human would have to decide is refused: nobody can approve words
    /// that are not spoken yet.
    pub(crate) fn rule_stream(&self, case: &Case<'_>) -> Result<(), Box<Refused>> {
        match self.rule(case, false) {
            Ruling::Allow => Ok(()),
            Ruling::Ask(rules) => Err(self.refuse(case, LABELS_FORBID, rules)),
            Ruling::Deny(rules, code) => Err(self.refuse(case, code, rules)),
        }
    }

    async fn hold<H: Hop>(&self, case: Case<'_>, body: H::Body, rules: Vec<Code>) -> Verdict<H> {
        let now = self.core.now();
        let plan = Plan {
            approval: ApprovalId::generate(now),
            session: case.session.id(),
            destination: case.sink.destination.to_string(),
            effect: case.sink.effect,
            content: H::content(&body).into_owned(),
            why: why_asked(&case),
            label: case.label.clone(),
            untrusted: case.untrusted.clone(),
            rules,
            expires: now.plus_millis(APPROVAL_LIFETIME),
        };
        let entry = self.entry(&format!("gate.{}.held", case.hop), case.session).data(json!({
            "approval": plan.approval, "plan": plan.digest(), "destination": plan.destination,
            "rules": plan.rules, "label": plan.label, "integrity": case.integrity, "flow": case.flow,
            "policy": case.rules.now.digest(),
        }));
        match self.core.audit.append(entry).await {
            Ok(receipt) => {
                let sink = case.sink.clone();
                Verdict::Held(Box::new(Held { body, sink, plan, receipt: receipt.id() }))
            }
            Err(failed) => refused(log_failed(&case, &failed)),
        }
    }

    /// Budget, then the durable receipt, then the clearance.
    async fn let_through<H: Hop>(&self, case: Case<'_>, body: H::Body, approval: Option<ApprovalId>) -> Verdict<H> {
        let content = H::content(&body);
        if case.hop == sigil_types::Hop::ToProvider
            && let Err(over) = self.core.budget.admit(case.session, estimate_tokens(&content))
        {
            return refused(Box::new(Refused { why: over.limit, ..*self.refuse(&case, BUDGET_EXCEEDED, Vec::new()) }));
        }
        let entry = self.entry(&format!("gate.{}.cleared", case.hop), case.session).data(json!({
            "destination": case.sink.destination.to_string(), "label": case.label, "rules": case.found,
            "redactions": case.redactions, "approval": approval, "policy": case.rules.now.digest(),
            "bytes": content.len(),
            "text": self.core.text_ref(&case.session.context().workspace, content.as_bytes()),
        }));
        drop(content);
        match self.core.audit.append(entry).await {
            Ok(receipt) => Verdict::Cleared(self.mint(&case, body, receipt)),
            Err(failed) => refused(log_failed(&case, &failed)),
        }
    }

    pub(crate) fn mint<H: Hop>(&self, case: &Case<'_>, body: H::Body, receipt: Receipt) -> Cleared<H> {
        let permit = Permit {
            destination: case.sink.destination.clone(),
            principal: case.session.context().principal.clone(),
            session: case.session.id(),
            generation: case.generation,
            epoch: case.session.opened_in(),
            deadline: self.core.now().plus_millis(PERMIT_LIFETIME),
        };
        Cleared::mint(body, permit, receipt, case.found.clone())
    }

    /// Refuses: the reasons go to the log and to the owner. Refusals are aggregated there, so nobody can fill the log.
    pub(crate) fn refuse(&self, case: &Case<'_>, code: Code, rules: Vec<Code>) -> Box<Refused> {
        let source = format!("{}:{}", case.session.context().principal.user, case.sink.destination);
        let entry = self.entry(&format!("gate.{}.refused", case.hop), case.session).data(json!({
            "code": code, "rules": rules, "destination": case.sink.destination.to_string(), "label": case.label,
            "integrity": case.integrity, "flow": case.flow, "policy": case.rules.now.digest(),
        }));
        let receipt = self.core.audit.refusal(&source, entry).id();
        let (why, fix) = explain(case, &code, &rules);
        Box::new(Refused { code, hop: case.hop, rules, why, fix, receipt: Some(receipt) })
    }

    pub(crate) fn entry(&self, kind: &str, session: &Session) -> Entry {
        let context = session.context();
        let kind = kind.parse().unwrap_or(Code::new("gate.entry.unnamed"));
        Entry::new(kind, context.principal.user.as_str()).session(context.id).workspace(context.workspace.clone())
    }

    /// The label of an inbound message (lines 4 and 5): what a person typed is theirs; a quote, a forwarded message, an
    /// attachment or a link preview may be anybody's, and stays in the chat.
    #[must_use]
    pub fn inbound_label(&self, session: &Session, typed: bool) -> Label {
        let context = session.context();
        let policy = self.core.policy();
        let within = context.audience.union(&bound_readers(&policy));
        let author = context.principal.author();
        match (typed, policy.ceilings().labels.typed) {
            (true, TypedReaders::Everyone) => Label::by(author),
            (true, TypedReaders::Members) => Label { authors: Authors::one(author), readers: within },
            (false, _) => Label { authors: [author, Author::World].into_iter().collect(), readers: within },
        }
    }

    /// Opens a session under the policy in force. Open one for every turn: a turn keeps the policy that it began with, as
    /// far as that is the stricter one.
    #[must_use]
    pub fn session(&self, context: SessionContext) -> Session {
        Session::new(context, self.core.policy(), self.core.epoch())
    }

    /// The door to a model provider.
    #[must_use]
    pub fn provider_door(&self, port: Arc<dyn Provider>) -> Door<ToProvider> {
        Door::provider(Arc::clone(&self.core), port)
    }

    /// The door to a tool. Its facts are the port's, from the enforced profile.
    #[must_use]
    pub fn tool_door(&self, port: Arc<dyn Tool>) -> Door<ToTool> {
        self.core.register_tool(port.name().clone(), !port.facts().sources.has_world());
        Door::tool(Arc::clone(&self.core), port)
    }

    /// The door to a channel instance.
    #[must_use]
    pub fn channel_door(&self, name: ChannelRef, port: Arc<dyn Channel>) -> Door<ToChannel> {
        Door::channel(Arc::clone(&self.core), name, port)
    }

    /// The door to a workspace's memory.
    #[must_use]
    pub fn memory_door(&self, workspace: WorkspaceId, readers: Readers, port: Arc<dyn Memory>) -> Door<ToMemory> {
        Door::memory(Arc::clone(&self.core), workspace, readers, port)
    }

    /// The door to a plugin instance.
    #[must_use]
    pub fn plugin_door(&self, instance: InstanceId, audience: Readers, port: Arc<dyn Plugin>) -> Door<ToPlugin> {
        Door::plugin(Arc::clone(&self.core), instance, audience, port)
    }

    /// Puts another policy in force. What was cleared under the old one is no longer delivered.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        self.core.set_policy(policy);
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.core.policy()
    }

    /// Panic: nothing that was cleared before this moment is delivered any more, nor anything that is cleared later for a
    /// session that was open at it.
    pub fn stop_everything(&self) {
        self.core.stop_everything();
    }

    /// Records what a model call used.
    pub fn spent(&self, session: &Session, usage: sigil_types::Usage) {
        self.core.budget.spent(session, usage);
    }

    /// The scanner behind the gate.
    #[must_use]
    pub fn scanner(&self) -> &Scanner {
        &self.core.scanner
    }
}

const SCAN_BLOCKED: Code = Code::new("gate.scan.blocked");
const NO_RANDOMNESS: Code = Code::new("gate.marker.randomness.missing");
const POLICY_EXPIRED: Code = Code::new("policy.bundle.expired");
const POLICY_DENIED: Code = Code::new("gate.policy.denied");
const LABELS_FORBID: Code = Code::new("gate.label.forbidden");
const BUDGET_EXCEEDED: Code = Code::new("gate.budget.exceeded");
const APPROVAL_DENIED: Code = Code::new("gate.approval.denied");
const APPROVAL_STALE: Code = Code::new("gate.approval.stale");
pub(crate) const LOG_FAILED: Code = Code::new("audit.log.unwritable");

fn refused<H: Hop>(refused: Box<Refused>) -> Verdict<H> {
    Verdict::Refused(refused)
}

/// Nothing goes anywhere without a durable receipt.
pub(crate) fn log_failed(case: &Case<'_>, failed: &sigil_audit::AppendFailed) -> Box<Refused> {
    Box::new(Refused {
        code: LOG_FAILED,
        hop: case.hop,
        rules: Vec::new(),
        why: format!("The audit log cannot be written ({failed}), and nothing is done without a record of it."),
        fix:
            "Make the data folder writable and give it space, then restart Sigil; `sigil audit verify` checks the log."
                .to_owned(),
        receipt: None,
    })
}

fn capability(destination: &Destination) -> Option<Capability> {
    match destination {
        Destination::Tool(tool) => Some(Capability::tool(tool)),
        Destination::Provider(name) => format!("provider.{name}").parse().ok(),
        Destination::Channel(name) => format!("channel.{name}").parse().ok(),
        Destination::Memory(_) => "memory.write".parse().ok(),
        Destination::Plugin(_) => "plugin.message".parse().ok(),
    }
}

/// About four bytes a token: what the common tokenizers make of English prose. For admission only; usage is counted from
/// what the provider reports.
fn estimate_tokens(text: &str) -> u64 {
    u64::try_from(text.len() / 4).unwrap_or(u64::MAX)
}

/// Sixteen random hexadecimal digits; none when the system has no randomness: a marker that can be guessed is none.
fn random_marker() -> Option<String> {
    let mut bytes = [0_u8; 8];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes.iter().fold("data-".to_owned(), |text, byte| text + &format!("{byte:02x}")))
}
