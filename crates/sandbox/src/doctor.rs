//! What this host has of the sandbox: each layer by doing it, and the escape battery inside the real profiles.
//!
//! Nothing is concluded from a setting that can be read: on some systems making a user namespace succeeds, and what it is for
//! fails later.

use serde::{Deserialize, Serialize};

use crate::battery::{self, BatteryReport, Setting};
use crate::cgroup::Groups;
use crate::host::{Host, fix};
use crate::profile::Layer;
use crate::report::LayerReport;

pub use crate::host::{LayerStatus, Reached, State};

/// What this host has of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doctor {
    /// The strongest posture that can be had here.
    pub posture: Reached,
    /// The version of the kernel's Landlock interface; 0 when there is none.
    pub landlock_abi: u32,
    /// Every layer.
    pub layers: Vec<LayerStatus>,
    /// What the battery said; nothing when no probe could be started.
    pub battery: BatteryReport,
    /// Why no probe could be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// All layers of a launch, in the order in which they are applied. The proxy is no part of the host.
const LAYERS: [Layer; 18] = [
    Layer::Descriptors,
    Layer::Environment,
    Layer::Session,
    Layer::ParentDeath,
    Layer::Rlimits,
    Layer::UserNs,
    Layer::MountNs,
    Layer::PidNs,
    Layer::IpcNs,
    Layer::UtsNs,
    Layer::NetNs,
    Layer::CgroupNs,
    Layer::Cgroup,
    Layer::Identity,
    Layer::Capabilities,
    Layer::NoNewPrivs,
    Layer::Landlock,
    Layer::Seccomp,
];

/// Tries the sandbox on this host: under every base profile, and under the profiles that `plugins` returns for the posture
/// that this host reaches. The calling process must have one thread, as for every launch.
#[must_use]
pub fn doctor(plugins: impl FnOnce(Reached) -> Vec<Setting>) -> Doctor {
    let (groups, offer) = Groups::open(None);
    drop(groups);
    let host = Host::look(offer);
    let settings: Vec<Setting> = match host.posture {
        Reached::None => Vec::new(),
        Reached::Reduced => Setting::reduced(),
        Reached::Standard | Reached::Strict => Setting::all().into_iter().chain(plugins(host.posture)).collect(),
    };
    let (battery, report, failed) = match battery::run(&settings) {
        Ok(_) if settings.is_empty() => (BatteryReport::default(), LayerReport::default(), Some(host.lacks())),
        Ok((battery, report)) => (battery, report, None),
        Err(error) => (BatteryReport::default(), LayerReport::default(), Some(error.to_string())),
    };
    let layers: Vec<LayerStatus> = LAYERS.iter().map(|layer| status(*layer, &report, &host)).collect();
    let posture = if failed.is_some() { Reached::None } else { host.posture };
    Doctor { posture, landlock_abi: host.landlock_abi, layers, battery, failed }
}

fn status(layer: Layer, report: &LayerReport, host: &Host) -> LayerStatus {
    let row = |status, detail: String| LayerStatus { name: layer, status, detail, fix: String::new() };
    if report.applied.contains(&layer) {
        let detail = match layer {
            Layer::Landlock => format!("version {} of the kernel's interface", report.landlock_abi),
            _ if report.proven.contains(&layer) => "applied, and seen at work from inside".to_owned(),
            _ => "applied".to_owned(),
        };
        return row(State::Applied, detail);
    }
    if let Some(missing) = host.missing.iter().find(|missing| missing.name == layer) {
        return missing.clone();
    }
    if layer == Layer::Cgroup {
        let status = if host.cgroup.limits() { State::Applied } else { State::Missing };
        return LayerStatus { fix: fix(layer).to_owned(), ..row(status, host.cgroup.to_string()) };
    }
    LayerStatus::alone(layer)
}
