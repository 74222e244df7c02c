//! [`LayerReport`]: which layers were applied to a launch, as the launcher itself saw it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::profile::{Layer, Right};

/// Which layers were applied to one launch, and which of them the confined process saw at work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerReport {
    /// The layers that were applied.
    pub applied: BTreeSet<Layer>,
    /// Layers that were left out on purpose, which only Sigil's own probe may ask for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ablated: BTreeSet<Layer>,
    /// The kernel's Landlock ABI; 0 when there is none.
    pub landlock_abi: u32,
    /// Rights that the profile handles and that this kernel does not know.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub landlock_unknown: BTreeSet<Right>,
    /// The layers whose work the self-test saw from inside, just before the program started.
    pub proven: BTreeSet<Layer>,
}

impl LayerReport {
    /// The required layers that were not applied. Empty means that the launch may go on.
    #[must_use]
    pub fn missing(&self, required: &BTreeSet<Layer>) -> BTreeSet<Layer> {
        required.difference(&self.applied).copied().collect()
    }

    /// The required layers that were applied, can be tried from inside, and were not seen at work there.
    #[must_use]
    pub fn unproven(&self, required: &BTreeSet<Layer>) -> BTreeSet<Layer> {
        let tried = |layer: &&Layer| Self::TRIED.contains(layer) && self.applied.contains(layer);
        required.iter().filter(tried).filter(|layer| !self.proven.contains(layer)).copied().collect()
    }

    /// Whether Landlock holds signals inside.
    #[must_use]
    pub fn scopes_signals(&self) -> bool {
        self.applied.contains(&Layer::Landlock)
            && self.landlock_abi >= Right::ScopeSignal.since()
            && !self.landlock_unknown.contains(&Right::ScopeSignal)
    }

    /// The layers that the self-test tries. The others are either proven by the kernel's answer to the call that
    /// applied them, or by the escape battery.
    pub const TRIED: [Layer; 11] = [
        Layer::Session,
        Layer::Rlimits,
        Layer::UserNs,
        Layer::MountNs,
        Layer::PidNs,
        Layer::NetNs,
        Layer::Identity,
        Layer::Capabilities,
        Layer::NoNewPrivs,
        Layer::Landlock,
        Layer::Seccomp,
    ];
}
