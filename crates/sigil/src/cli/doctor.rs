//! `sigil doctor`: tries the sandbox on this machine, and checks the set-up.

use serde::Serialize;
use sigil_policy::sign::{KeyFile, Protection};
use sigil_policy::{Bundle, TrustStore, Unverified};
use sigil_sandbox::battery::{self, BatteryReport, Setting};
use sigil_sandbox::confine::try_gateway;
use sigil_sandbox::doctor::{self, Doctor, LayerStatus, Reached, State};
use sigil_server::api;

use super::args::{DoctorArgs, Level};
use super::client::{Client, runtime};
use super::complaint::Outcome;
use super::context::Context;
use super::exit::Exit;
use super::output::{Output, Paint, word};
use super::safe;

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
    posture: Reached,
    landlock_abi: u32,
    layers: Vec<LayerStatus>,
    battery: BatteryReport,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ablation: Vec<AblationRow>,
    checks: Vec<Check>,
}

/// One attempt without the layers that stop it.
#[derive(Clone, Debug, Serialize)]
struct AblationRow {
    id: &'static str,
    open: bool,
    outcome: String,
}

pub(super) fn run(context: &Context, args: &DoctorArgs) -> Outcome {
    let mut checks = Vec::new();
    // First of all: the battery launches programs, which needs a process of one thread.
    let Doctor { posture, landlock_abi, layers, battery, failed } = doctor::doctor();
    checks.push(battery_check(&battery, failed.as_deref()));
    let ablation = if args.ablate { ablate(&mut checks) } else { Vec::new() };
    checks.push(posture_check(posture, landlock_abi, &layers));
    checks.push(confinement_check());
    set_up(context, &mut checks);
    let report = Report { posture, landlock_abi, layers, battery, ablation, checks };
    if context.output.json {
        context.output.document(&report)
    } else {
        show(&context.output, &report)
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

fn ablate(checks: &mut Vec<Check>) -> Vec<AblationRow> {
    let rows = match battery::ablate(Setting::standard("native", false)) {
        Ok(rows) => rows,
        Err(error) => {
            let fix = format!("sigil explain {}", error.code());
            checks.push(Check { id: "sandbox.ablation", status: Status::Fail, detail: error.to_string(), fix });
            return Vec::new();
        }
    };
    let rows: Vec<AblationRow> = rows
        .into_iter()
        .map(|row| AblationRow { id: row.id, open: row.open, outcome: format!("{:?}", row.outcome) })
        .collect();
    let blind: Vec<&str> = rows.iter().filter(|row| !row.open).map(|row| row.id).collect();
    let (status, fix) = if blind.is_empty() {
        (Status::Pass, String::new())
    } else {
        (Status::Warn, format!("these were held by something that the table does not name: {}", blind.join(", ")))
    };
    let got_out = rows.iter().filter(|row| row.open).count();
    checks.push(Check {
        id: "sandbox.ablation",
        status,
        detail: format!("{got_out} of {} attempts get out once their layers are left out", rows.len()),
        fix,
    });
    rows
}

/// Configuration, policy, keys, gateway.
fn set_up(context: &Context, checks: &mut Vec<Check>) {
    let mut add =
        |id, status, detail: String, fix: &str| checks.push(Check { id, status, detail, fix: fix.to_owned() });
    let resolved = match context.resolved() {
        Ok(resolved) => resolved,
        Err(complaint) => {
            add("config.valid", Status::Fail, complaint.what.clone(), "sigil config validate");
            return;
        }
    };
    let file = resolved.file.as_ref().map_or_else(|| "no file; defaults".to_owned(), |file| file.display().to_string());
    add("config.valid", Status::Pass, file, "");
    for note in &resolved.notes {
        add("config.note", Status::Warn, note.text.clone(), "sigil config show --sources");
    }
    let folders = &resolved.folders;
    let verified = std::fs::read(folders.trust())
        .map_err(|error| format!("{}: {error}", folders.trust().display()))
        .and_then(|trust| {
            let trust = TrustStore::parse(&trust).map_err(|error| error.to_string())?;
            let envelope =
                std::fs::read(&folders.policy).map_err(|error| format!("{}: {error}", folders.policy.display()))?;
            let bundle =
                Bundle::<Unverified>::parse(&envelope).and_then(|bundle| bundle.verify(&trust, context.now(), 0));
            bundle.map_err(|error| error.to_string())
        });
    match verified {
        Ok(bundle) => {
            let days = bundle.expires().millis_since(context.now()) / 86_400_000;
            let detail = format!("version {}, valid for {days} days more", bundle.version());
            let soon = days < 30;
            let fix = if soon { "sigil policy sign" } else { "" };
            add("policy.signed", if soon { Status::Warn } else { Status::Pass }, detail, fix);
        }
        Err(why) if resolved.file.is_none() => {
            add("policy.signed", Status::Skip, format!("not set up: {why}"), "sigil init")
        }
        Err(why) => add("policy.signed", Status::Fail, why, "sigil policy verify"),
    }
    let key = folders.keys().join("owner.json");
    match KeyFile::read(&key).map(|file| file.protection()) {
        Ok(Protection::Passphrase) => add("policy.key", Status::Pass, "the owner's key is encrypted".to_owned(), ""),
        Ok(Protection::None) => {
            let detail = format!("{} is not encrypted: whoever reads it can sign", key.display());
            add(
                "policy.key",
                Status::Warn,
                detail,
                "move it to another machine, or make one with a passphrase: sigil policy keygen",
            );
        }
        Err(_) if !key.exists() => {
            add("policy.key", Status::Pass, "the owner's key is not on this machine".to_owned(), "")
        }
        Err(error) => add("policy.key", Status::Fail, error.to_string(), "chmod 600 on the key file"),
    }
    let status = runtime()
        .and_then(|runtime| runtime.block_on(Client::new(&folders.socket).get::<api::Status>("/api/v1/status")));
    match status {
        Ok(status) => {
            add(
                "gateway.running",
                Status::Pass,
                format!("ready: {}, audit log of {} entries", status.ready, status.audit_size),
                "",
            );
            let part = |part: &&api::Component| matches!(part.health, api::Health::Degraded | api::Health::Failed);
            for part in status.components.iter().filter(part) {
                let failed = part.health == api::Health::Failed;
                let status = if failed { Status::Fail } else { Status::Warn };
                add("gateway.component", status, format!("{}: {}", part.name, part.detail), "sigil status");
            }
        }
        Err(_) => add("gateway.running", Status::Skip, "the gateway does not run".to_owned(), "sigil start"),
    }
}

fn show(output: &Output, report: &Report) {
    let abi = report.landlock_abi;
    output.line(output.paint(
        Paint::Bold,
        &format!("Sigil {} · posture {} · Landlock ABI {abi}", env!("CARGO_PKG_VERSION"), word(report.posture)),
    ));
    let cell = |layer: &LayerStatus| {
        let mark = if layer.status == State::Applied { "✓" } else { "–" };
        format!("{mark} {}", word(layer.name))
    };
    let layers: Vec<String> = report.layers.iter().map(cell).collect();
    for row in layers.chunks(6) {
        let cells: Vec<String> = row.iter().map(|cell| format!("{cell:<16}")).collect();
        output.line(format!("  {}", cells.concat().trim_end()));
    }
    if output.verbose > 0 {
        let rows: Vec<Vec<String>> = report
            .battery
            .rows
            .iter()
            .map(|row| {
                let status = word(row.status);
                vec![row.id.clone(), row.profile.clone(), status, safe::line(&row.outcome), safe::line(&row.what)]
            })
            .collect();
        output.table(&["ATTEMPT", "PROFILE", "STATUS", "STOPPED BY", "WHAT"], &rows);
    }
    for accepted in &report.battery.accepted {
        output.line(
            output.paint(Paint::Dim, &format!("  accepted: {} ({}): {}", accepted.id, accepted.profile, accepted.why)),
        );
    }
    for check in &report.checks {
        let (paint, mark) = match check.status {
            Status::Pass => (Paint::Green, "✓ ok  "),
            Status::Warn => (Paint::Yellow, "! warn"),
            Status::Fail => (Paint::Red, "✗ FAIL"),
            Status::Skip => (Paint::Dim, "– skip"),
        };
        output.line(format!("{} {:<18} {}", output.paint(paint, mark), check.id, safe::line(&check.detail)));
        if !check.fix.is_empty() {
            output.line(format!("       {:<18} fix: {}", "", safe::line(&check.fix)));
        }
    }
    let count = |status| report.checks.iter().filter(|check| check.status == status).count();
    let (failed, warned) = (count(Status::Fail), count(Status::Warn));
    let verdict = match (failed, warned) {
        (0, 0) => output.paint(Paint::Green, "nothing to do"),
        (0, _) => output.paint(Paint::Yellow, &format!("{warned} to look at")),
        _ => output.paint(Paint::Red, &format!("{failed} failed, {warned} to look at")),
    };
    output.line(format!("{} of {} attempts held · {verdict}", report.battery.held, report.battery.attempts));
}
