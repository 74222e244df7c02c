//! What shows that the battery can fail: each attempt without any sandbox, without all the layers that stop it, and with only
//! one of them.
//!
//! Attempts that can be made under the same circumstances are made together; one that did not go as it must is made once more
//! alone, as another may have been in its way (killed its victim, say).

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::process::Stdio;

use super::accepted::known;
use super::probe::{Outcome, PROBE};
use super::run::{self, BatteryFailed, Said};
use super::setting::Setting;
use super::stage::{Stage, own_program};
use super::{Attempt, Proof, attempts};
use crate::profile::Layer;
use crate::report::LayerReport;

/// What one attempt did in a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The attempt.
    pub id: &'static str,
    /// The layers that were left out: the ones that were to be, and those that cannot be had without them.
    pub without: BTreeSet<Layer>,
    /// Whether it got out.
    pub open: bool,
    /// What it got, or what stopped it.
    pub outcome: String,
}

type Plan = Vec<(&'static Attempt, BTreeSet<Layer>)>;

/// Makes each attempt unconfined, as the same user: the positive controls. Every one must be open.
///
/// # Errors
/// [`BatteryFailed`] when the probe cannot be started.
pub fn controls() -> Result<Vec<Trial>, BatteryFailed> {
    let plan =
        possible().filter(|attempt| attempt.no_control.is_none()).map(|attempt| (attempt, BTreeSet::new())).collect();
    carry_out(plan, true, &|stage, chosen, _| unconfined(stage, chosen))
}

/// Makes each attempt under `setting` with *all* of its layers left out. Every one must be open: the table names every layer
/// that stops it. Attempts on layers that cannot be left out, being the way in which every program is started, are not made;
/// see [`inherent`].
///
/// # Errors
/// [`BatteryFailed`] when the probe cannot be started.
pub fn ablate(setting: &Setting) -> Result<Vec<Trial>, BatteryFailed> {
    let plan = possible().filter(|attempt| shown(attempt)).map(|attempt| (attempt, closure(attempt.layers))).collect();
    carry_out(plan, true, &|stage, chosen, without| run::launch(stage, setting, chosen, without))
}

/// Makes each attempt under `setting` with all of its layers but one left out, for each one. None may be open: each layer in
/// the table stops it by itself. Attempts that are accepted under the base profile are not made.
///
/// # Errors
/// [`BatteryFailed`] when the probe cannot be started.
pub fn each_layer_alone(setting: &Setting) -> Result<Vec<Trial>, BatteryFailed> {
    let mut plan = Plan::new();
    let accepted = |attempt: &Attempt| known(attempt, setting).is_some();
    for attempt in possible().filter(|attempt| shown(attempt) && !accepted(attempt)) {
        for kept in attempt.layers {
            if setting.has_proxy() && attempt.not_with_proxy.contains(kept) {
                continue;
            }
            let others: Vec<Layer> = attempt.layers.iter().copied().filter(|layer| layer != kept).collect();
            let without = closure(&others);
            // Some layers cannot be had without others: then this one is never alone.
            if !without.contains(kept) && !others.is_empty() {
                plan.push((attempt, without));
            }
        }
    }
    carry_out(plan, false, &|stage, chosen, without| run::launch(stage, setting, chosen, without))
}

/// Whether an attempt is on a layer that cannot be left out: the launcher has no other way to start a program than with the
/// descriptors and the environment that it made itself.
#[must_use]
pub fn inherent(attempt: &Attempt) -> bool {
    attempt.layers.iter().any(|layer| matches!(layer, Layer::Environment | Layer::Descriptors))
}

/// Whether an attempt gets out once nothing stops it.
fn shown(attempt: &Attempt) -> bool {
    attempt.no_control.is_none() && !inherent(attempt)
}

fn possible() -> impl Iterator<Item = &'static Attempt> {
    attempts().filter(|attempt| run::possible(attempt))
}

type Circumstances<'a> = &'a dyn Fn(&mut Stage, &[&Attempt], &BTreeSet<Layer>) -> Result<Said, BatteryFailed>;

/// Makes the attempts of `plan`, together where the same layers are left out; those that are not as `wanted` once more alone.
fn carry_out(plan: Plan, wanted: bool, start: Circumstances<'_>) -> Result<Vec<Trial>, BatteryFailed> {
    let mut groups: BTreeMap<BTreeSet<Layer>, Vec<&'static Attempt>> = BTreeMap::new();
    for (attempt, without) in plan {
        groups.entry(without).or_default().push(attempt);
    }
    let mut trials = Vec::new();
    for (without, chosen) in groups {
        for trial in make(&chosen, &without, start)? {
            let alone =
                chosen.iter().find(|attempt| attempt.id == trial.id && trial.open != wanted && chosen.len() > 1);
            match alone {
                Some(attempt) => trials.extend(make(&[attempt], &without, start)?),
                None => trials.push(trial),
            }
        }
    }
    Ok(trials)
}

fn make(
    chosen: &[&'static Attempt],
    without: &BTreeSet<Layer>,
    start: Circumstances<'_>,
) -> Result<Vec<Trial>, BatteryFailed> {
    let mut stage = Stage::build(run::outside_ids())?;
    let said = start(&mut stage, chosen, without)?;
    let trial = |attempt: &&'static Attempt| {
        let outcome = said.outcome(attempt);
        let got = matches!(outcome, Outcome::Got(_));
        let open = match attempt.proof {
            Proof::Result => got,
            Proof::Outside => !stage.changed().is_empty(),
            Proof::Mark(mark) => got && stage.left(mark, said.survivors),
        };
        Trial { id: attempt.id, without: without.clone(), open, outcome: run::describe(&outcome) }
    };
    Ok(chosen.iter().map(trial).collect())
}

fn unconfined(stage: &Stage, chosen: &[&Attempt]) -> Result<Said, BatteryFailed> {
    let mut probe = own_program(PROBE, run::outside_ids());
    let mut child = probe.arg(run::orders(stage, chosen)?).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or_else(|| BatteryFailed::Probe("it has no output".into()))?;
    let mut output = BufReader::new(output);
    let lines = run::read(&mut output)?;
    child.wait()?;
    Ok(Said { lines, survivors: run::still_open(output.get_ref()), report: LayerReport::default() })
}

/// `layers`, and the layers that cannot be had without them.
fn closure(layers: &[Layer]) -> BTreeSet<Layer> {
    let mut without: BTreeSet<Layer> = layers.iter().copied().collect();
    if without.contains(&Layer::NoNewPrivs) {
        // Dropping all privileges sets it; a filter and a Landlock domain need it.
        without.extend([Layer::Capabilities, Layer::Landlock, Layer::Seccomp]);
    }
    if without.contains(&Layer::UserNs) && !rustix::process::geteuid().is_root() {
        // An ordinary user makes no other namespace without one of these, and has no capabilities to drop.
        without.extend([Layer::MountNs, Layer::PidNs, Layer::IpcNs, Layer::UtsNs, Layer::NetNs, Layer::CgroupNs]);
        without.insert(Layer::Capabilities);
    }
    without
}
