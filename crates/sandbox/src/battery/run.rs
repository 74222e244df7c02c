//! Running the battery inside the real profiles.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sigil_policy::HostRule;
use sigil_types::Code;

use super::probe::{END, Line, Orders, Outcome, PROBE};
use super::report::{Accepted, BatteryReport, Row, Status};
use super::stage::Stage;
use super::{Attempt, Needs, Proof, Stop, attempts, granted, reduced};
use crate::confine::{Prepared, StartFailed, Streams};
use crate::profile::{
    self, Access, Bind, CommandAsk, CompileRefused, Exec, Layer, LinkRule, NeverGrant, Posture, ProcMode, Profile,
    TREE, compile_command,
};
use crate::report::LayerReport;

/// The user and group of the probe outside, when root launches: a number that no system gives to anybody.
const UNPRIVILEGED: u32 = 0x7000_0b00;

/// Under what the battery runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The base profile.
    pub base: &'static str,
    /// Whether there is a proxy, so that the filter lets sockets be made.
    pub proxy: bool,
    /// With how much of the sandbox: `reduced`, or what is more.
    pub posture: Posture,
}

impl Setting {
    /// The profiles that programs really get.
    pub const ALL: [Self; 4] = [
        Self::standard("native", false),
        Self::standard("native", true),
        Self::standard("shell", false),
        Self::standard("shell", true),
    ];

    /// The same in posture `reduced`, in which there is no proxy.
    pub const REDUCED: [Self; 2] = [
        Self { base: "native", proxy: false, posture: Posture::Reduced },
        Self { base: "shell", proxy: false, posture: Posture::Reduced },
    ];

    /// The base profile `base` in posture `standard`.
    #[must_use]
    pub const fn standard(base: &'static str, proxy: bool) -> Self {
        Self { base, proxy, posture: Posture::Standard }
    }

    /// The base profile, and `reduced`: under what an attempt is accepted.
    fn kind(self) -> String {
        Self { proxy: false, ..self }.name()
    }

    /// `native+proxy`, `shell reduced`.
    #[must_use]
    pub fn name(self) -> String {
        let reduced = if self.posture == Posture::Reduced { " reduced" } else { "" };
        format!("{}{}{reduced}", self.base, if self.proxy { "+proxy" } else { "" })
    }
}

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
    let (mut rows, mut accepted, mut changed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut layers = LayerReport::default();
    let (mut granted, mut broken) = (0, Vec::new());
    for setting in settings {
        let mut stage = Stage::build(outside_ids())?;
        if setting.posture == Posture::Reduced {
            stage = stage.without_guards()?;
        }
        // What is granted comes first, before anything is used up.
        let acts: Vec<&Attempt> = granted::ACTS.iter().filter(|act| applies(act, *setting)).collect();
        let chosen: Vec<&Attempt> =
            attempts().filter(|attempt| possible(attempt) && reduced::applies(attempt, *setting)).collect();
        let all: Vec<&Attempt> = acts.iter().chain(&chosen).copied().collect();
        let said = launch(&mut stage, *setting, &all, &BTreeSet::new())?;
        for act in acts {
            match said.outcome(act) {
                Outcome::Got(_) => granted += 1,
                other => broken.push(format!("{} ({}) does not work: {}", act.id, setting.name(), describe(&other))),
            }
        }
        for attempt in chosen {
            let row = judge(attempt, *setting, &said, &stage);
            if row.status == Status::Accepted {
                let why = why_accepted(attempt, *setting).unwrap_or_default().to_owned();
                accepted.insert(Accepted { id: row.id.clone(), profile: setting.kind(), why });
            }
            rows.push(row);
        }
        layers = said.report;
        changed.extend(stage.changed().into_iter().map(|mark| format!("{mark} ({})", setting.name())));
    }
    let mut report = BatteryReport::of(rows, accepted.into_iter().collect(), changed.into_iter().collect());
    report.granted = granted;
    report.open.extend(broken);
    Ok((report, layers))
}

/// Whether this host can make the attempt.
pub(super) fn possible(attempt: &Attempt) -> bool {
    let root = rustix::process::geteuid().is_root();
    match attempt.needs {
        Needs::Nothing | Needs::Shell | Needs::Proxy => true,
        Needs::Root => root && cfg!(target_arch = "x86_64"),
    }
}

/// Whether an act is granted under `setting`.
fn applies(act: &Attempt, setting: Setting) -> bool {
    match act.needs {
        Needs::Shell => setting.base == "shell",
        Needs::Proxy => setting.proxy,
        Needs::Nothing | Needs::Root => true,
    }
}

pub(super) fn outside_ids() -> Option<(u32, u32)> {
    rustix::process::geteuid().is_root().then_some((UNPRIVILEGED, UNPRIVILEGED))
}

/// Why it is accepted that `attempt` works under `setting`, if it is.
fn why_accepted(attempt: &Attempt, setting: Setting) -> Option<&'static str> {
    let by_base = attempt.accepted.iter().find(|(base, _)| *base == setting.base).map(|(_, why)| *why);
    by_base.or_else(|| reduced::accepted(attempt, setting))
}

fn judge(attempt: &Attempt, setting: Setting, said: &Said, stage: &Stage) -> Row {
    let outcome = said.outcome(attempt);
    let held = match attempt.proof {
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
    let is_accepted = why_accepted(attempt, setting).is_some();
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
        other => return io::Error::from_raw_os_error(other).to_string(),
    };
    name.to_owned()
}

/// The profile of the probe: a real one, with a folder to read, one to write, and a tree.
fn profile(stage: &Stage, setting: Setting) -> Result<Profile, BatteryFailed> {
    let scene = &stage.scene;
    let hosts = if setting.proxy { vec![proxied_host()?] } else { Vec::new() };
    let ask = CommandAsk {
        profile: setting.base.to_owned(),
        read: vec![scene.read_only()],
        execute: Vec::new(),
        write: vec![scene.writable()],
        hosts,
        exec: Exec {
            path: PathBuf::from(TREE).join("program"),
            argv: vec![PROBE.to_owned()],
            env: std::collections::BTreeMap::new(),
            cwd: "/tmp".into(),
        },
        never: NeverGrant::default(),
        host_ids: outside_ids().unwrap_or((UNPRIVILEGED, UNPRIVILEGED)),
    };
    let mut profile = compile_command(ask)?.profile;
    profile.binds.push(Bind {
        source: scene.root.join("tree"),
        target: TREE.into(),
        access: Access::Exec,
        optional: false,
        link: LinkRule::Refuse,
    });
    if setting.posture == Posture::Reduced {
        profile::reduce(&mut profile, &scene.scratch())?;
    }
    Ok(profile)
}

fn proxied_host() -> Result<HostRule, BatteryFailed> {
    let host = "proxied.example".parse().map_err(|error| BatteryFailed::Probe(format!("{error}")))?;
    Ok(HostRule { host, ports: BTreeSet::from([443]) })
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
    setting: Setting,
    chosen: &[&Attempt],
    ablated: &BTreeSet<Layer>,
) -> Result<Said, BatteryFailed> {
    let mut profile = profile(stage, setting)?;
    stage.scene.env = profile.exec.env.keys().cloned().collect();
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
