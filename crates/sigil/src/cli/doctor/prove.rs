//! `sigil doctor --prove`: that the battery can fail, and that each layer is worth its name.

use serde::Serialize;
use sigil_sandbox::battery::{self, BatteryFailed, Setting, Trial};

use super::{Check, Status};

/// What was proven.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Proof {
    /// Without any sandbox: each must work.
    pub(super) unconfined: Tally,
    /// Without all the layers that stop it: each must work.
    pub(super) without_layers: Tally,
    /// With one of these layers left: each must be stopped.
    pub(super) each_layer_alone: Tally,
}

/// How many trials were made of one kind, and which did not go as they must.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tally {
    pub(super) made: usize,
    pub(super) wrong: Vec<String>,
}

/// Makes all trials, and adds the check that sums them up.
pub(super) fn prove(checks: &mut Vec<Check>) -> Option<Proof> {
    let id = "sandbox.proof";
    let proof = match trials() {
        Ok(proof) => proof,
        Err(error) => {
            let fix = format!("sigil explain {}", error.code());
            checks.push(Check { id, status: Status::Fail, detail: error.to_string(), fix });
            return None;
        }
    };
    let tallies = [&proof.unconfined, &proof.without_layers, &proof.each_layer_alone];
    let wrong: Vec<&str> = tallies.iter().flat_map(|tally| &tally.wrong).map(String::as_str).collect();
    let [controls, without, alone] = tallies.map(|tally| tally.made - tally.wrong.len());
    let detail = format!(
        "{controls} attempts work unconfined, {without} once their layers are left out, and in {alone} cases one layer \
         stops one alone"
    );
    let (status, fix) = if wrong.is_empty() {
        (Status::Pass, String::new())
    } else {
        (Status::Warn, format!("the table of layers is not right for this host; look at: {}", wrong.join(", ")))
    };
    checks.push(Check { id, status, detail, fix });
    Some(proof)
}

fn trials() -> Result<Proof, BatteryFailed> {
    let settings = [Setting::of_base("native", false), Setting::of_base("shell", true)];
    let mut proof =
        Proof { unconfined: Tally::default(), without_layers: Tally::default(), each_layer_alone: Tally::default() };
    proof.unconfined.add("unconfined", battery::controls()?, true);
    for setting in &settings {
        proof.without_layers.add(&setting.name(), battery::ablate(setting)?, true);
        proof.each_layer_alone.add(&setting.name(), battery::each_layer_alone(setting)?, false);
    }
    Ok(proof)
}

impl Tally {
    fn add(&mut self, setting: &str, trials: Vec<Trial>, open: bool) {
        self.made += trials.len();
        let words = |trial: &Trial| {
            let without: Vec<String> = trial.without.iter().map(ToString::to_string).collect();
            format!("{} ({setting} without {}: {})", trial.id, without.join(", "), trial.outcome)
        };
        self.wrong.extend(trials.iter().filter(|trial| trial.open != open).map(words));
    }
}
