//! Running the battery inside the real profiles.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sigil_types::Code;

use super::accepted::{ACCEPTED, Known, known};
use super::probe::{END, Line, Orders, Outcome};
use super::report::{Accepted, BatteryReport, Row, Status};
use super::setting::Setting;
use super::stage::Stage;
use super::{Attempt, Needs, Proof, Stop, attempts, granted, nodes, reduced};
use crate::confine::{Prepared, StartFailed, Streams};
use crate::profile::{CompileRefused, Layer, ProcMode};
use crate::report::LayerReport;

/// The user and group of the probe outside, when root launches: a number that no system gives to anybody.
pub(super) const UNPRIVILEGED: u32 = 0x7000_0b00;

/// Why the battery could not run.
#[derive(Debug, thiserror::Error)]
pub enum BatteryFailed {
    /// What the attempts aim at could not be made.
    #[error("cannot prepare what the attempts aim at: {0}")]
    Stage(#[from] io::Error),
    /// The profile could not be made.
    #[error("cannot make the probe's profile: {0}")]
    Compile(#[from] CompileRefused),
    /// The probe could not be started in the sandbox.
    #[error(transparent)]
    Start(#[from] StartFailed),
    /// The probe answered with something else.
    #[error(
        "the probe did not answer as it should: {0}; a program that embeds the sandbox calls probe_if_asked first in main"
    )]
    Probe(String),
}

impl BatteryFailed {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Stage(_) => Code::new("sandbox.battery.stage.failed"),
            Self::Compile(error) => error.code(),
            Self::Start(error) => error.code(),
            Self::Probe(_) => Code::new("sandbox.battery.probe.failed"),
        }
    }
}

/// Runs every attempt inside the real profiles of `settings`.
///
/// The calling process must have one thread, as for every launch.
///
/// # Errors
/// [`BatteryFailed`] when the probe cannot be started at all; an attempt that gets out is no error, but `open` in the report.
pub fn run(settings: &[Setting]) -> Result<(BatteryReport, LayerReport), BatteryFailed> {
    let (mut rows, mut changed) = (Vec::new(), BTreeSet::new());
    let mut layers = LayerReport::default();
    let (mut granted, mut broken) = (0, Vec::new());
    for setting in settings {
        let mut stage = Stage::build(outside_ids())?;
        if setting.is_reduced() {
            stage = stage.without_guards()?;
        }
        // What is granted comes first, before anything is used up.
        let acts: Vec<&Attempt> = granted::ACTS.iter().filter(|act| applies(act, setting)).collect();
        let made =
            |attempt: &&Attempt| possible(attempt) && applies(attempt, setting) && reduced::applies(attempt, setting);
        let chosen: Vec<&Attempt> = attempts().filter(made).collect();
        let all: Vec<&Attempt> = acts.iter().chain(&chosen).copied().collect();
        let said = launch(&mut stage, setting, &all, &BTreeSet::new())?;
        for act in acts {
            match said.outcome(act) {
                Outcome::Got(_) => granted += 1,
                other => broken.push(format!("{} ({}) does not work: {}", act.id, setting.name(), describe(&other))),
            }
        }
        rows.extend(chosen.iter().map(|attempt| judge(attempt, setting, &said, &stage)));
        layers = said.report;
        changed.extend(stage.changed().into_iter().map(|mark| format!("{mark} ({})", setting.name())));
    }
    let mut report = BatteryReport::of(rows, accepted(settings), changed.into_iter().collect());
    report.granted = granted;
    report.open.extend(broken);
    Ok((report, layers))
}

/// What the table accepts under `settings`.
fn accepted(settings: &[Setting]) -> Vec<Accepted> {
    let here = |name: &str| settings.iter().any(|setting| name == "*" || setting.is(name));
    let rows = ACCEPTED.iter().flat_map(|known| known.under.iter().map(move |name| (known, *name)));
    let row = |(known, name): (&Known, &str)| Accepted {
        id: known.id.to_owned(),
        profile: name.to_owned(),
        why: known.why.to_owned(),
    };
    rows.filter(|(_, name)| here(name)).map(row).collect()
}

/// Whether this host can make the attempt.
pub(super) fn possible(attempt: &Attempt) -> bool {
    let root = rustix::process::geteuid().is_root();
    match attempt.needs {
        Needs::Nothing | Needs::Shell | Needs::Proxy | Needs::NobodysFolders => true,
        Needs::Root => root && cfg!(target_arch = "x86_64"),
    }
}

/// Whether an act or attempt is made under `setting`.
fn applies(act: &Attempt, setting: &Setting) -> bool {
    match act.needs {
        Needs::Shell => setting.base() == "shell",
        Needs::Proxy => setting.has_proxy(),
        Needs::NobodysFolders => !setting.is_plugin(),
        Needs::Nothing | Needs::Root => true,
    }
}

pub(super) fn outside_ids() -> Option<(u32, u32)> {
    rustix::process::geteuid().is_root().then_some((UNPRIVILEGED, UNPRIVILEGED))
}

fn judge(attempt: &Attempt, setting: &Setting, said: &Said, stage: &Stage) -> Row {
    let outcome = said.outcome(attempt);
    let held = match attempt.proof {
        Proof::Outside => Some(true),
        Proof::Mark(mark) if stage.left(mark, said.survivors) => Some(false),
        Proof::Mark(_) => match &outcome {
            Outcome::Stopped(Stop::Cannot(_)) => None,
            _ => Some(true),
        },
        Proof::Result => match (&outcome, outcome.number()) {
            (_, Some(number)) if attempt.held.contains(&number) || reduced::holds(number, setting) => Some(true),
            (Outcome::Got(_), _) => Some(false),
            _ => None,
        },
    };
    let is_accepted = known(attempt, setting).is_some();
    let status = match held {
        Some(true) => Status::Held,
        Some(false) if is_accepted => Status::Accepted,
        Some(false) => Status::Open,
        None => Status::Unclear,
    };
    Row {
        id: attempt.id.to_owned(),
        group: attempt.group().to_owned(),
        what: attempt.what.to_owned(),
        profile: setting.name(),
        status,
        outcome: describe(&outcome),
        layers: attempt.layers.to_vec(),
    }
}

pub(super) fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Got(got) => format!("got: {got}"),
        Outcome::Stopped(Stop::Errno(errno)) => errno_name(*errno),
        Outcome::Stopped(Stop::Nothing) => "nothing there".to_owned(),
        Outcome::Stopped(Stop::Cannot(why)) => format!("could not be tried: {why}"),
        Outcome::Killed(signal) if *signal == libc::SIGSYS => "SIGSYS".to_owned(),
        Outcome::Killed(signal) => format!("signal {signal}"),
    }
}

fn errno_name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::ESRCH => "ESRCH",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EXDEV => "EXDEV",
        libc::EMFILE => "EMFILE",
        libc::EFBIG => "EFBIG",
        libc::ENOSPC => "ENOSPC",
        libc::EROFS => "EROFS",
        libc::ENOSYS => "ENOSYS",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::EBUSY => "EBUSY",
        libc::ETOOMANYREFS => "ETOOMANYREFS",
        other => return io::Error::from_raw_os_error(other).to_string(),
    };
    name.to_owned()
}

/// What a probe said, and what it left behind.
pub(super) struct Said {
    pub(super) lines: Vec<Line>,
    pub(super) survivors: bool,
    pub(super) report: LayerReport,
}

impl Said {
    /// What came of `attempt`.
    pub(super) fn outcome(&self, attempt: &Attempt) -> Outcome {
        let line = self.lines.iter().find(|line| line.id == attempt.id);
        line.map_or_else(
            || Outcome::Stopped(Stop::Cannot("the probe ended before this attempt".into())),
            |line| line.outcome.clone(),
        )
    }
}

/// Launches the probe with `ablated` layers left out, and reads what it says.
pub(super) fn launch(
    stage: &mut Stage,
    setting: &Setting,
    chosen: &[&Attempt],
    ablated: &BTreeSet<Layer>,
) -> Result<Said, BatteryFailed> {
    let mut profile = setting.profile(stage)?;
    stage.scene.env = profile.exec.env.keys().cloned().collect();
    for tmpfs in &mut profile.tmpfs {
        // What is tried is that there is an end; a near one is reached sooner.
        tmpfs.inodes = tmpfs.inodes.min(nodes::MANY - 100);
    }
    profile.exec.argv.push(orders(stage, chosen)?);
    profile.ablated = ablated.clone();
    if ablated.contains(&Layer::PidNs) && !ablated.contains(&Layer::MountNs) {
        // A fresh /proc shows a process namespace of one's own; there is none.
        profile.proc = ProcMode::None;
    }
    let prepared = Prepared::probe(profile)?;
    let (reader, writer) = io::pipe()?;
    let null = File::open("/dev/null")?;
    let errors = File::options().write(true).open("/dev/null")?;
    let streams = Streams { stdin: Some(null.as_fd()), stdout: Some(writer.as_fd()), stderr: Some(errors.as_fd()) };
    let running = prepared.start(&streams)?;
    drop(writer);
    let mut output = BufReader::new(reader);
    let lines = read(&mut output)?;
    running.wait().map_err(io::Error::from)?;
    Ok(Said { lines, survivors: still_open(output.get_ref()), report: running.report.clone() })
}

pub(super) fn orders(stage: &Stage, chosen: &[&Attempt]) -> Result<String, BatteryFailed> {
    let attempts = chosen.iter().map(|attempt| attempt.id.to_owned()).collect();
    let orders = Orders { scene: stage.scene.clone(), attempts };
    serde_json::to_string(&orders).map_err(|error| BatteryFailed::Probe(error.to_string()))
}

/// Reads lines up to the last one, or to the end.
pub(super) fn read(output: &mut impl BufRead) -> Result<Vec<Line>, BatteryFailed> {
    let mut lines = Vec::new();
    for text in output.lines() {
        let text = text?;
        let line: Line =
            serde_json::from_str(&text).map_err(|error| BatteryFailed::Probe(format!("{error} in {text:?}")))?;
        if line.id == END {
            break;
        }
        lines.push(line);
    }
    Ok(lines)
}

/// Whether some process still has the other end, although the program has ended.
pub(super) fn still_open(reader: &impl AsFd) -> bool {
    let mut ready = [PollFd::new(reader, PollFlags::IN)];
    poll(&mut ready, Some(&Timespec::default())) == Ok(0)
}
