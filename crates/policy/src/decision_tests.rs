//! Decision tests: `tests.toml` says what the policy has to answer, and is signed with it.

use serde::{Deserialize, Serialize};
use sigil_types::{
    Action, Authors, Capability, CapabilitySet, Code, Digest, Effect, Hop, Label, Origin, Principal, Readers, Role,
    Stage, Timestamp, UserId, WorkspaceId,
};

use crate::bundle::{Bundle, Unverified, Verified};
use crate::payload::Payload;
use crate::policy::Policy;
use crate::refused::BundleRefused;
use crate::request::{Facts, Request, Resource, ResourceKind, Verdict};
use crate::source::Source;

/// What the decision tests of a policy said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// How many answers were as expected.
    pub passed: usize,
    /// The others.
    pub failures: Vec<TestFailure>,
    /// What Cedar's validator found odd.
    pub warnings: Vec<String>,
}

/// An answer that was not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestFailure {
    /// The test's name.
    pub name: String,
    /// What it expects.
    pub expected: String,
    /// What the policy answers, and by which rules.
    pub answered: String,
}

impl TestReport {
    /// Whether all answers were as expected.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        self.failures.is_empty()
    }
}

impl Source {
    /// Compiles the source and runs its decision tests.
    ///
    /// # Errors
    /// When it does not compile, or `tests.toml` cannot be read.
    pub fn test(&self) -> Result<TestReport, BundleRefused> {
        let ceilings = self.ceilings().map_err(|error| BundleRefused::Ceilings { what: error.to_string() })?;
        let (not_before, expires) = (Timestamp::default(), Timestamp::default());
        let payload = Payload { version: 0, not_before, expires, files: self.all_files().clone() };
        let policy = Policy::compile(Digest::of(&[]), ceilings, &payload)?;
        policy.run_tests(self.file("tests.toml").unwrap_or_default())
    }
}

impl Bundle<Verified> {
    /// Runs its decision tests.
    ///
    /// # Errors
    /// When it does not compile, or `tests.toml` cannot be read.
    pub fn test(&self) -> Result<TestReport, BundleRefused> {
        self.compile()?.run_tests(self.file("tests.toml").unwrap_or_default())
    }
}

impl Bundle<Unverified> {
    /// Runs the decision tests of a bundle that nobody vouches for.
    ///
    /// # Errors
    /// When it is malformed, does not compile, or `tests.toml` cannot be read.
    pub fn test(&self) -> Result<TestReport, BundleRefused> {
        let payload: Payload = self.claims()?;
        let policy = Policy::compile(self.digest(), payload.ceilings()?, &payload)?;
        policy.run_tests(payload.files.get("tests.toml").map_or("", |text| text))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    #[serde(default)]
    scan: Vec<ScanTest>,
    #[serde(default)]
    authorize: Vec<AuthorizeTest>,
}

/// A finding, and the action that it has to lead to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScanTest {
    stage: Stage,
    origin: Origin,
    hop: Hop,
    class: String,
    severity: String,
    expect: Action,
}

/// A request, and the verdict that it has to get. What a test does not say is harmless.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorizeTest {
    name: String,
    hop: Hop,
    #[serde(default = "member")]
    role: Role,
    capability: Option<Capability>,
    id: Option<String>,
    #[serde(default)]
    trust: Authors,
    #[serde(default = "nobody")]
    audience: Readers,
    #[serde(default)]
    authors: Authors,
    #[serde(default = "everyone")]
    readers: Readers,
    #[serde(default = "no_effect")]
    effect: Effect,
    #[serde(default = "yes")]
    integrity: bool,
    #[serde(default = "yes")]
    flow: bool,
    #[serde(default)]
    approved: bool,
    #[serde(default)]
    facts: Facts,
    grants: Option<CapabilitySet>,
    expect: Expected,
    rules: Option<Vec<Code>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expected {
    Allow,
    Ask,
    Deny,
}

const fn member() -> Role {
    Role::Member
}
const fn nobody() -> Readers {
    Readers::NOBODY
}
const fn everyone() -> Readers {
    Readers::Everyone
}
const fn no_effect() -> Effect {
    Effect::None
}
const fn yes() -> bool {
    true
}

impl Policy {
    pub(crate) fn run_tests(&self, text: &str) -> Result<TestReport, BundleRefused> {
        let fail = |what: String| BundleRefused::Tests { what };
        let form: Form = toml::from_str(text).map_err(|error| fail(error.to_string().trim_end().to_owned()))?;
        let mut report = TestReport { warnings: self.warnings().to_vec(), ..TestReport::default() };
        for test in &form.scan {
            report.record(test.run(self));
        }
        for test in &form.authorize {
            report.record(test.run(self).map_err(|what| fail(format!("`{}`: {what}", test.name)))?);
        }
        Ok(report)
    }
}

impl TestReport {
    fn record(&mut self, failure: Option<TestFailure>) {
        match failure {
            None => self.passed += 1,
            Some(failure) => self.failures.push(failure),
        }
    }
}

impl ScanTest {
    fn run(&self, policy: &Policy) -> Option<TestFailure> {
        let answered = policy.action(self.stage, self.origin, self.hop, &self.class, &self.severity);
        (answered != self.expect).then(|| TestFailure {
            name: format!("scan: {} {} from {} {}, {}", self.severity, self.class, self.origin, self.hop, self.stage),
            expected: self.expect.to_string(),
            answered: answered.to_string(),
        })
    }
}

impl AuthorizeTest {
    fn run(&self, policy: &Policy) -> Result<Option<TestFailure>, String> {
        let principal = Principal { user: parse::<UserId>("tester")?, role: self.role };
        let workspace: WorkspaceId = parse("tests")?;
        let kind = ResourceKind::of(self.hop);
        let (id, capability) = self.target(policy)?;
        let resource = Resource { kind, id, trust: self.trust.clone(), audience: self.audience.clone() };
        let everything = CapabilitySet { allow: [parse("*")?].into(), ..CapabilitySet::default() };
        let answered = policy.authorize(&Request {
            principal: &principal,
            workspace: &workspace,
            hop: self.hop,
            capability: &capability,
            grants: &[self.grants.as_ref().unwrap_or(&everything)],
            resource: &resource,
            label: &Label { authors: self.authors.clone(), readers: self.readers.clone() },
            effect: self.effect,
            integrity: self.integrity,
            flow: self.flow,
            approved: self.approved,
            facts: &self.facts,
        });
        let kind = match &answered {
            Verdict::Allow => Expected::Allow,
            Verdict::Ask { .. } => Expected::Ask,
            Verdict::Deny { .. } => Expected::Deny,
        };
        let rules_ok = self.rules.as_ref().is_none_or(|rules| rules == answered.rules());
        Ok((kind != self.expect || !rules_ok).then(|| self.failure(&answered)))
    }

    /// The resource and the capability: those of the test, or some that suit the hop.
    fn target(&self, policy: &Policy) -> Result<(String, Capability), String> {
        let provider = policy.ceilings().providers.first().map_or("none", |grant| grant.name.as_str());
        let (id, capability) = match self.hop {
            Hop::ToProvider => (provider, "provider.chat"),
            Hop::ToTool => ("files.read", "tool.files.read"),
            Hop::ToChannel => ("cli", "channel.send"),
            Hop::ToMemory => ("tests", "memory.write"),
            Hop::ToPlugin => ("files", "plugin.configure"),
        };
        let id = self.id.clone().unwrap_or_else(|| id.to_owned());
        let capability = self.capability.clone().map_or_else(|| parse(capability), Ok)?;
        Ok((id, capability))
    }

    fn failure(&self, answered: &Verdict) -> TestFailure {
        let words = |word: &str, rules: &[Code]| {
            let rules: Vec<&str> = rules.iter().map(Code::as_str).collect();
            if rules.is_empty() { word.to_owned() } else { format!("{word} by {}", rules.join(", ")) }
        };
        let expected = match self.expect {
            Expected::Allow => "allow",
            Expected::Ask => "ask",
            Expected::Deny => "deny",
        };
        let mut answer = words(answered.as_str(), answered.rules());
        if let Verdict::Deny { code, .. } = answered {
            answer.push_str(&format!(" ({code})"));
        }
        TestFailure {
            name: self.name.clone(),
            expected: words(expected, self.rules.as_deref().unwrap_or_default()),
            answered: answer,
        }
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}
