//! What is asked of a policy, and what it answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sigil_types::{Authors, Capability, CapabilitySet, Code, Effect, Hop, Label, Principal, Readers, WorkspaceId};

/// One question: may this go out?
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// On whose behalf.
    pub principal: &'a Principal,
    /// In which workspace.
    pub workspace: &'a WorkspaceId,
    /// By which way out.
    pub hop: Hop,
    /// The right that it takes.
    pub capability: &'a Capability,
    /// What manifest, workspace and user grant: every one of them must. The policy's own set is added inside.
    pub grants: &'a [&'a CapabilitySet],
    /// Where to.
    pub resource: &'a Resource,
    /// The label of what goes out: that of the session, joined with its parts.
    pub label: &'a Label,
    /// What it can change there.
    pub effect: Effect,
    /// Whether all authors may cause the effect (line 12 of the trust model). Computed by the gate.
    pub integrity: bool,
    /// Whether all who can observe it may read it (line 13). Computed by the gate.
    pub flow: bool,
    /// Whether a human has approved exactly this. Turns [`Verdict::Ask`] into [`Verdict::Allow`], and nothing else.
    pub approved: bool,
    /// Facts of the arguments, for policies to look at. A fact that the schema does not declare is seen by none.
    pub facts: &'a Facts,
}

/// Facts of the arguments of a call, by name: `host`, `port`, `path`, ….
pub type Facts = BTreeMap<String, Fact>;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
    /// Several texts, in no order.
    Texts(BTreeSet<String>),
}

/// Where something goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// What it is. Must suit the hop.
    pub kind: ResourceKind,
    /// Which one: a provider's, tool's or channel's name, a workspace for memory, a plugin instance.
    pub id: String,
    /// The authors that may cause an effect there.
    pub trust: Authors,
    /// Who can observe it.
    pub audience: Readers,
}

/// What is at the other end of a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// A model provider.
    Provider,
    /// A tool.
    Tool,
    /// A channel.
    Channel,
    /// The memory of a workspace.
    Memory,
    /// A plugin.
    Plugin,
}

impl ResourceKind {
    /// What the hop `hop` leads to.
    #[must_use]
    pub const fn of(hop: Hop) -> Self {
        match hop {
            Hop::ToProvider => Self::Provider,
            Hop::ToTool => Self::Tool,
            Hop::ToChannel => Self::Channel,
            Hop::ToMemory => Self::Memory,
            Hop::ToPlugin => Self::Plugin,
        }
    }

    /// Its Cedar entity type.
    pub(crate) const fn entity_type(self) -> &'static str {
        match self {
            Self::Provider => "Provider",
            Self::Tool => "Tool",
            Self::Channel => "Channel",
            Self::Memory => "Memory",
            Self::Plugin => "Plugin",
        }
    }
}

/// What a policy answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a verdict that nobody looks at protects nothing"]
pub enum Verdict {
    /// It may.
    Allow,
    /// A human decides.
    Ask {
        /// The rules that ask.
        rules: Vec<Code>,
    },
    /// It may not.
    Deny {
        /// The rules that forbid; none when no rule was reached, or none permits.
        rules: Vec<Code>,
        /// Which kind of denial.
        code: Code,
    },
}

impl Verdict {
    /// A party does not grant the right, or nobody was asked.
    pub const CAPABILITY_MISSING: Code = Code::new("policy.authorize.capability.missing");
    /// A rule forbids it.
    pub const FORBIDDEN: Code = Code::new("policy.authorize.rule.forbidden");
    /// No rule permits it.
    pub const UNPERMITTED: Code = Code::new("policy.authorize.rule.none");
    /// A label check failed, and no rule of the bundle answers for that case.
    pub const LABEL_UNHANDLED: Code = Code::new("policy.authorize.label.unhandled");
    /// A rule could not be evaluated. A forbidding rule that fails would otherwise be passed over.
    pub const EVALUATION_FAILED: Code = Code::new("policy.authorize.rule.failed");
    /// The resource is not what the hop leads to.
    pub const MISMATCH: Code = Code::new("policy.authorize.request.mismatch");

    /// Whether it may.
    #[must_use]
    pub const fn is_allow(&self) -> bool {
        matches!(self, Self::Allow)
    }

    /// The word for it: `allow`, `ask` or `deny`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask { .. } => "ask",
            Self::Deny { .. } => "deny",
        }
    }

    /// The deciding rules.
    #[must_use]
    pub fn rules(&self) -> &[Code] {
        match self {
            Self::Allow => &[],
            Self::Ask { rules } | Self::Deny { rules, .. } => rules,
        }
    }

    pub(crate) const fn denied(code: Code) -> Self {
        Self::Deny { rules: Vec::new(), code }
    }
}
