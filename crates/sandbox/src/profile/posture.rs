//! [`Posture`]: how much of the sandbox there must be.

use serde::{Deserialize, Serialize};
use sigil_policy::{Ceilings, PluginGrant};

use crate::host::Reached;

/// How much of the sandbox must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Posture {
    /// No user namespaces: Landlock and seccomp alone, and no network.
    Reduced,
    /// User, mount, net and pid namespaces, Landlock 3 or later, seccomp.
    Standard,
    /// Standard, with control group limits and Landlock 6 or later.
    Strict,
}

impl std::fmt::Display for Posture {
    /// The word that policy and reports use.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

impl TryFrom<Reached> for Posture {
    type Error = Reached;

    fn try_from(reached: Reached) -> Result<Self, Reached> {
        match reached {
            Reached::None => Err(reached),
            Reached::Reduced => Ok(Self::Reduced),
            Reached::Standard => Ok(Self::Standard),
            Reached::Strict => Ok(Self::Strict),
        }
    }
}

/// The weakest posture in which a plugin with `grant` may run: what everybody needs, and what it needs itself.
#[must_use]
pub fn floor(ceilings: &Ceilings, grant: &PluginGrant) -> Posture {
    let of_policy = |posture| match posture {
        sigil_policy::Posture::Reduced => Posture::Reduced,
        sigil_policy::Posture::Standard => Posture::Standard,
        sigil_policy::Posture::Strict => Posture::Strict,
    };
    let own = grant.posture.map_or(Posture::Reduced, of_policy);
    of_policy(ceilings.posture).max(own)
}
