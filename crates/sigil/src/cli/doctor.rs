//! `sigil doctor`: tries the sandbox on this machine, and checks the set-up.

mod plugins;
mod prove;
mod setup;
mod show;

use serde::Serialize;
use sigil_sandbox::battery::BatteryReport;
use sigil_sandbox::confine::try_gateway;
use sigil_sandbox::doctor::{self, Doctor, LayerStatus, Reached, State};
use sigil_sandbox::remedy::{Clues, LANDLOCK, LandlockVersion, Remedy, remedies};

use super::args::{DoctorArgs, Level};
use super::complaint::Outcome;
use super::context::Context;
use super::exit::Exit;
use super::output::word;
use prove::Proof;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// As it must be.
    Pass,
    /// Could be better.
    Warn,
    /// Is not as it must be.
    Fail,
    /// Was not made.
    Skip,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    /// Stable id.
    pub(crate) id: &'static str,
    /// How it ended.
    pub(crate) status: Status,
    /// What was seen.
    pub(crate) detail: String,
    /// What to do; empty when nothing needs to be done.
    pub(crate) fix: String,
}

/// What doctor found.
#[derive(Clone, Debug, Serialize)]
struct Report {
    /// The kernel's release.
    kernel: String,
    posture: Reached,
    landlock_abi: u32,
    /// The versions of Landlock that this kernel does not have yet.
    landlock_missing: Vec<LandlockVersion>,
    layers: Vec<LayerStatus>,
    battery: BatteryReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<Proof>,
    checks: Vec<Check>,
    remedies: Vec<Remedy>,
}

pub(super) fn run(context: &Context, args: &DoctorArgs) -> Outcome {
    let mut checks = Vec::new();
    // Before all that has threads: the battery launches programs, which needs a process of one.
    let Doctor { posture, landlock_abi, layers, battery, failed } =
        doctor::doctor(|reached| plugins::settings(context, reached, &mut checks));
    let proof = if args.prove { prove::prove(&mut checks) } else { None };
    checks.insert(0, battery_check(&battery, failed.as_deref()));
    checks.push(posture_check(posture, landlock_abi, &layers));
    checks.push(confinement_check());
    setup::set_up(context, &mut checks);
    let report = Report {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        posture,
        landlock_abi,
        landlock_missing: LANDLOCK.into_iter().filter(|version| version.abi > landlock_abi).collect(),
        remedies: remedies(&layers, landlock_abi, &Clues::look()),
        layers,
        battery,
        proof,
        checks,
    };
    if context.output.json {
        context.output.document(&report)
    } else {
        show::show(&context.output, &report)
    }
    let worst = if args.ci { Some(Level::Fail) } else { args.fail_on };
    let bad = |check: &Check| match worst {
        Some(Level::Warn) => matches!(check.status, Status::Warn | Status::Fail),
        Some(Level::Fail) => check.status == Status::Fail,
        None => false,
    };
    Ok(if report.checks.iter().any(bad) { Exit::Findings } else { Exit::Ok })
}

fn posture_check(posture: Reached, abi: u32, layers: &[LayerStatus]) -> Check {
    let (status, detail) = match posture {
        Reached::Strict | Reached::Standard => (Status::Pass, format!("{}, Landlock ABI {abi}", word(posture))),
        Reached::Reduced => (Status::Fail, "there are no user namespaces; no plugin is started".to_owned()),
        Reached::None => (Status::Fail, format!("layers are missing (Landlock ABI {abi}); no plugin is started")),
    };
    // The first layer that this host can be made to have is where to begin.
    let remedy = layers.iter().find(|layer| layer.status != State::Applied && !layer.fix.is_empty());
    let fix = match (status, remedy) {
        (Status::Fail, Some(layer)) => format!("{}: {}", word(layer.name), layer.fix),
        (Status::Fail, None) => "sigil explain sandbox.launch.layer.missing".to_owned(),
        _ => String::new(),
    };
    Check { id: "sandbox.posture", status, detail, fix }
}

/// Whether the gateway can confine itself here.
fn confinement_check() -> Check {
    let id = "gateway.confined";
    match try_gateway() {
        Ok(report) => {
            let seen: Vec<String> = report.proven.iter().map(word).collect();
            let detail = format!("it can confine itself; seen at work: {}", seen.join(", "));
            Check { id, status: Status::Pass, detail, fix: String::new() }
        }
        Err(error) => {
            let fix = format!("sigil explain {}", error.code());
            Check { id, status: Status::Fail, detail: error.to_string(), fix }
        }
    }
}

fn battery_check(battery: &BatteryReport, failed: Option<&str>) -> Check {
    let id = "sandbox.battery";
    if let Some(why) = failed {
        let fix = "see sandbox.posture: the attempts are made from inside the sandbox".to_owned();
        return Check { id, status: Status::Fail, detail: format!("no attempt could be made: {why}"), fix };
    }
    let mut accepted: Vec<&str> = battery.accepted.iter().map(|accepted| accepted.id.as_str()).collect();
    accepted.dedup();
    let (held, attempts, accepted, open) = (battery.held, battery.attempts, accepted.len(), battery.open.len());
    let detail = format!(
        "{attempts} escape attempts: {held} held under every profile, {accepted} accepted under some, {open} open"
    );
    let (status, fix) = if battery.open.is_empty() && attempts > 0 {
        (Status::Pass, String::new())
    } else {
        (Status::Fail, format!("do not run plugins of others on this host; look at: {}", battery.open.join(", ")))
    };
    Check { id, status, detail, fix }
}
