//! The escape battery, in the sandboxes of this host: as root (when the tests run as root) and as an ordinary user.
//!
//! The program starts itself: as the probe inside, as the victim outside, and, under root, once more as an ordinary user.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests, with a runner of their own, which clippy does not know as tests"
)]

#[path = "../launch/harness.rs"]
mod harness;
mod hundred;
mod page;
mod plugins;

use std::collections::BTreeSet;

use sigil_sandbox::battery::{self, BatteryFailed, Setting, Status, Trial};
use sigil_sandbox::doctor::{Reached, State};
use sigil_sandbox::profile::Layer;

fn main() -> std::process::ExitCode {
    if let Some(code) = battery::probe_if_asked() {
        return code;
    }
    harness::main(&[
        ("every_attempt_is_held_or_accepted", held),
        ("what_is_accepted_is_pinned", accepted),
        ("every_attempt_is_held_or_accepted_without_namespaces", reduced),
        ("every_attempt_works_unconfined", controls),
        ("every_attempt_works_without_its_layers", ablation),
        ("every_layer_stops_it_alone", alone),
        ("calls_at_random_change_nothing_outside", soak),
        ("nothing_is_missing_from_the_hundred", page::nothing_is_missing),
        ("the_page_says_what_the_battery_does", the_page),
        ("doctor_says_what_this_host_has", doctor),
        ("doctor_says_what_is_refused", doctor_without_namespaces),
        ("doctor_where_namespaces_are_refused", doctor_where_refused),
    ])
}

fn run() -> battery::BatteryReport {
    let settings: Vec<Setting> = Setting::all().into_iter().chain(plugins::settings()).collect();
    battery::run(&settings).unwrap_or_else(|error| panic!("{error}")).0
}

fn held() {
    let report = run();
    for row in report.rows.iter().filter(|row| !matches!(row.status, Status::Held | Status::Accepted)) {
        println!("{:<11} {:<13} {:?} {} ({})", row.id, row.profile, row.status, row.outcome, row.what);
    }
    println!("{} attempts, {} held, {} accepted", report.attempts, report.held, report.accepted.len());
    assert!(report.open.is_empty(), "{:?}", report.open);
    assert!(report.attempts >= 100 && report.held >= 100);
    // Five under each profile, one more with a shell, one more with a proxy.
    let more = |setting: &Setting| usize::from(setting.base() == "shell") + usize::from(setting.has_proxy());
    let settings = Setting::all().into_iter().chain(plugins::settings());
    assert_eq!(report.granted, settings.map(|setting| 5 + more(&setting)).sum::<usize>());
}

/// A change here is a change of what Sigil promises: the documents must say it too.
fn accepted() {
    let report = run();
    let pinned = BTreeSet::from([
        ("fs.24", "go-plugin"),
        ("fs.30", "shell"),
        ("fs.32", "*"),
        ("fs.38", "go-plugin"),
        ("info.10", "*"),
        ("kernel.13", "shell"),
        ("kernel.14", "shell"),
    ]);
    let said: BTreeSet<(&str, &str)> =
        report.accepted.iter().map(|accepted| (accepted.id.as_str(), accepted.profile.as_str())).collect();
    assert_eq!(said, pinned);
    // And each is really so: what is held after all must leave the table.
    let through = |id: &str, profile: &str| {
        let name = if profile == "go-plugin" { "plugin:serves" } else { profile };
        let under = |row: &&battery::Row| profile == "*" || row.profile.split('+').next() == Some(name);
        report.rows.iter().filter(|row| row.id == id).filter(under).all(|row| row.status == Status::Accepted)
    };
    for (id, profile) in pinned {
        assert!(through(id, profile), "{id} is held under {profile}");
    }
}

/// The same where Landlock and the filter stand alone. What is accepted beyond the list above is what only a namespace stops.
fn reduced() {
    let report = battery::run(&Setting::reduced()).unwrap_or_else(|error| panic!("{error}")).0;
    for row in report.rows.iter().filter(|row| !matches!(row.status, Status::Held | Status::Accepted)) {
        println!("{:<11} {:<15} {:?} {} ({})", row.id, row.profile, row.status, row.outcome, row.what);
    }
    println!("{} attempts, {} held, {} accepted", report.attempts, report.held, report.accepted.len());
    assert!(report.open.is_empty(), "{:?}", report.open);
    let found: BTreeSet<(&str, &str)> =
        report.accepted.iter().map(|accepted| (accepted.id.as_str(), accepted.profile.as_str())).collect();
    let mut pinned = BTreeSet::from([("fs.32", "*"), ("info.10", "*")]);
    pinned.extend(["fs.30", "kernel.13", "kernel.14"].map(|id| (id, "shell")));
    pinned.extend(["fs.02", "fs.29", "info.03", "info.09"].map(|id| (id, "reduced")));
    if !rustix::process::geteuid().is_root() {
        pinned.extend(["kernel.20", "proc.11"].map(|id| (id, "reduced, not root")));
    }
    assert_eq!(found, pinned);
}

/// Makes the trials and shows those that are not as they must be.
fn check(trials: Result<Vec<Trial>, BatteryFailed>, open: bool) {
    let trials = trials.unwrap_or_else(|error| panic!("{error}"));
    let wrong: Vec<&Trial> = trials.iter().filter(|trial| trial.open != open).collect();
    for trial in &wrong {
        println!("{:<11} {} without {:?}", trial.id, trial.outcome, trial.without);
    }
    println!("{} trials", trials.len());
    assert!(wrong.is_empty(), "{} trials went wrong", wrong.len());
}

fn controls() {
    check(battery::controls(), true);
}

fn ablation() {
    for setting in [Setting::of_base("native", false), Setting::of_base("shell", true)] {
        check(battery::ablate(&setting), true);
    }
}

fn alone() {
    for setting in [Setting::of_base("native", false), Setting::of_base("shell", true)] {
        check(battery::each_layer_alone(&setting), false);
    }
}

/// The tables of the documentation are those of the battery. `./task sandbox-matrix` writes them, after it has made sure that
/// each cell is true: this test alone compares.
fn the_page() {
    let right = page::fill(page::TEXT);
    if std::env::var_os("SIGIL_WRITE_PAGE").is_some() {
        alone();
        ablation();
        controls();
        std::fs::write(page::path(), right).unwrap_or_else(|error| panic!("{error}"));
        return;
    }
    let differs = page::TEXT.lines().zip(right.lines()).find(|(is, ought)| is != ought);
    assert!(
        page::TEXT == right,
        "the page is not what the battery does; ./task sandbox-matrix writes it anew: {differs:?}"
    );
}

/// Calls at random change nothing outside. `SIGIL_SOAK_SECONDS` says for how long, under all profiles together.
fn soak() {
    let seconds = std::env::var("SIGIL_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let settings = Setting::all();
    let each = std::time::Duration::from_secs(seconds) / u32::try_from(settings.len()).unwrap_or(1);
    for setting in settings {
        let changed = battery::soak(&setting, each).unwrap_or_else(|error| panic!("{error}"));
        assert!(changed.is_empty(), "{}: {changed:?}", setting.name());
    }
}

fn doctor() {
    let doctor = sigil_sandbox::doctor::doctor(|_| Vec::new());
    assert_eq!(doctor.failed, None);
    assert!(doctor.posture >= Reached::Standard, "{:?}", doctor.layers);
    assert!(doctor.battery.attempts >= 100 && doctor.battery.open.is_empty());
    let json = serde_json::to_value(&doctor).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(json["posture"], "standard");
    assert!(json["layers"].as_array().is_some_and(|layers| layers.iter().all(|layer| layer["status"].is_string())));
    assert!(json["battery"]["open"].as_array().is_some_and(Vec::is_empty));
}

/// In a user namespace that allows no other below it, as some systems do for everybody; root of it can become nobody else,
/// so that it cannot be had there without namespaces either.
fn doctor_without_namespaces() {
    let Ok(own) = std::env::current_exe() else { panic!("no path of one's own") };
    let forbid =
        "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" --exact doctor_where_namespaces_are_refused";
    let status = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", forbid])
        .arg(own)
        .env("SIGIL_TEST_REFUSED", "1")
        .status();
    assert!(status.is_ok_and(|status| status.success()), "see above; needs unshare of util-linux");
}

/// The other half of the test above: what doctor says there.
fn doctor_where_refused() {
    if std::env::var_os("SIGIL_TEST_REFUSED").is_none() {
        return;
    }
    let doctor = sigil_sandbox::doctor::doctor(|_| Vec::new());
    assert_eq!(doctor.posture, Reached::None);
    assert!(doctor.failed.is_some() && doctor.battery.attempts == 0);
    for layer in &doctor.layers {
        println!("{layer:?}");
        let expected = match layer.name {
            Layer::Cgroup => State::Missing,
            Layer::UserNs | Layer::MountNs | Layer::PidNs | Layer::NetNs | Layer::UtsNs | Layer::IpcNs => {
                State::Refused
            }
            Layer::CgroupNs | Layer::Capabilities | Layer::Identity => State::Refused,
            _ => State::Applied,
        };
        assert_eq!(layer.status, expected, "{layer:?}");
        assert_eq!(layer.status != State::Applied, !layer.fix.is_empty());
    }
}
