//! [`Policy`]: a verified bundle that answers questions.

use sigil_types::{Action, CapabilitySet, Code, Digest, Hop, Origin, Stage, Timestamp, ToolName};

use crate::ceilings::Ceilings;
use crate::engine::{Answer, Engine};
use crate::payload::Payload;
use crate::refused::BundleRefused;
use crate::request::{Request, ResourceKind, Verdict};
use crate::scan_table::ScanTable;

/// The policy in force. Pure: it has no clock, does no input or output, and the same question always has the same answer.
#[derive(Debug)]
pub struct Policy {
    version: u64,
    digest: Digest,
    not_before: Timestamp,
    expires: Timestamp,
    ceilings: Ceilings,
    scan: ScanTable,
    engine: Engine,
    system: Box<str>,
}

impl Policy {
    pub(crate) fn compile(digest: Digest, ceilings: Ceilings, payload: &Payload) -> Result<Self, BundleRefused> {
        let text = payload
            .files
            .get("scan.toml")
            .ok_or_else(|| BundleRefused::ScanTable { what: "the file is missing".to_owned() })?;
        let scan = ScanTable::parse(text).map_err(|what| BundleRefused::ScanTable { what })?;
        let bound = ceilings.providers.iter().map(|provider| provider.name.to_string()).collect();
        let engine = Engine::compile(&payload.files, bound).map_err(|what| BundleRefused::Policies { what })?;
        let Payload { version, not_before, expires, .. } = *payload;
        let system = payload.files.get("system.md").cloned().unwrap_or_default();
        Ok(Self { version, digest, not_before, expires, ceilings, scan, engine, system })
    }

    /// The text that every prompt begins with, from the bundle's `system.md`. There is no other source of system text.
    #[must_use]
    pub fn system_text(&self) -> &str {
        &self.system
    }

    /// The bundle's version.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The digest of what was signed.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// From when it is valid.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Until when it is valid, this moment excluded. It was valid when it was verified; it may end while it is in force.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// What nothing can go beyond.
    #[must_use]
    pub const fn ceilings(&self) -> &Ceilings {
        &self.ceilings
    }

    /// What a finding of the scanner leads to. A class or severity that the table does not know is blocked.
    #[must_use]
    pub fn action(&self, stage: Stage, origin: Origin, hop: Hop, class: &str, severity: &str) -> Action {
        self.scan.action(stage, origin, hop, class, severity)
    }

    /// Decides `request`.
    ///
    /// First the rights: manifest, workspace, user and this policy must all grant the capability. Then the rules, with
    /// `context.approved = false`; if rules forbid it and every one of them bears `@ask`, once more with `true`. Where that
    /// allows, a human decides. An approval turns exactly that case into [`Verdict::Allow`].
    ///
    /// Never [`Verdict::Allow`] while `integrity` or `flow` is false and `approved` is: a bundle whose rules forget these
    /// checks denies.
    pub fn authorize(&self, request: &Request<'_>) -> Verdict {
        match (self.judge(request), request.approved) {
            (Verdict::Ask { .. }, true) => Verdict::Allow,
            (verdict, _) => verdict,
        }
    }

    /// The `@why` of a rule: what it guards against, in words for the owner.
    #[must_use]
    pub fn why(&self, rule: &Code) -> Option<&str> {
        self.engine.why(rule)
    }

    /// What Cedar's validator found odd and did not refuse; [`sign`](crate::sign::sign) does.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.engine.warnings()
    }

    /// What the ceilings leave to the plugin behind a tool.
    fn narrowed(&self, request: &Request<'_>) -> Option<&CapabilitySet> {
        let tool: ToolName = (request.hop == Hop::ToTool).then(|| request.resource.id.parse().ok())??;
        self.ceilings.plugins.get(&tool.plugin().parse().ok()?)?.capabilities.as_ref()
    }

    /// Decides as if nobody had approved anything.
    fn judge(&self, request: &Request<'_>) -> Verdict {
        if request.resource.kind != ResourceKind::of(request.hop) {
            return Verdict::denied(Verdict::MISMATCH);
        }
        let parties = request.grants.iter().copied().chain([&self.ceilings.capabilities]).chain(self.narrowed(request));
        if request.grants.is_empty() || !CapabilitySet::all_grant(parties, request.capability) {
            return Verdict::denied(Verdict::CAPABILITY_MISSING);
        }
        let Some(question) = self.engine.question(request) else {
            return Verdict::denied(Verdict::EVALUATION_FAILED);
        };
        match self.engine.ask(&question, false) {
            Answer::Allow if request.integrity && request.flow => Verdict::Allow,
            Answer::Allow => Verdict::denied(Verdict::LABEL_UNHANDLED),
            Answer::Failed => Verdict::denied(Verdict::EVALUATION_FAILED),
            Answer::Deny(rules) if rules.is_empty() => Verdict::denied(Verdict::UNPERMITTED),
            Answer::Deny(rules) if self.engine.all_ask(&rules) => match self.engine.ask(&question, true) {
                Answer::Allow => Verdict::Ask { rules },
                Answer::Deny(more) if more.is_empty() => Verdict::denied(Verdict::UNPERMITTED),
                Answer::Deny(more) => Verdict::Deny { rules: more, code: Verdict::FORBIDDEN },
                Answer::Failed => Verdict::denied(Verdict::EVALUATION_FAILED),
            },
            Answer::Deny(rules) => Verdict::Deny { rules, code: Verdict::FORBIDDEN },
        }
    }
}
