//! [`ToolFacts`]: what a tool can read, change and tell, as its *enforced* sandbox profile says, not its manifest.

use serde::{Deserialize, Serialize};

use crate::{Authors, Readers};

/// What a tool's call can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing outside its own scratch folder.
    None,
    /// Files that it was granted.
    Local,
    /// The world: it can send bytes to another machine.
    External,
}

/// The label facts of a tool: `F(t) = (src, reads, eff, aud)`.
///
/// They are computed by the profile compiler from the compiled profile, and carried in the launch receipt. A manifest
/// may state stricter ones; looser ones need signed policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolFacts {
    /// Whose words its results may contain, beside its own and its caller's.
    pub sources: Authors,
    /// Who may read what it can read.
    pub reads: Readers,
    /// What a call can change.
    pub effect: Effect,
    /// Who can observe a call.
    pub audience: Readers,
}

impl ToolFacts {
    /// A tool that reads nothing, changes nothing and tells nobody.
    #[must_use]
    pub const fn pure() -> Self {
        Self { sources: Authors::NONE, reads: Readers::Everyone, effect: Effect::None, audience: Readers::NOBODY }
    }

    /// A tool of which nothing is known: its results may be anybody's words, and a call may tell everybody.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            sources: Authors::world(),
            reads: Readers::NOBODY,
            effect: Effect::External,
            audience: Readers::Everyone,
        }
    }
}
