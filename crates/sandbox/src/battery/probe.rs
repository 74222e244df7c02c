//! The probe: the part of the battery that runs inside, and the victim that waits outside.
//!
//! Each attempt runs in a process of its own, so that one that is killed, hangs or uses everything up harms no other.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::{Scene, Stop, attempt};
use crate::sys::{self, ExecImage, Forked};

/// `argv[0]` of the probe.
pub(super) const PROBE: &str = "sigil-probe";

/// `argv[0]` of the victim.
pub(super) const VICTIM: &str = "sigil-victim";

/// The id of the last line.
pub(super) const END: &str = "end";

/// How long one attempt may take; each takes microseconds, save those that wait for a network.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// What the host side tells the probe, as its only argument.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Orders {
    pub(super) scene: Scene,
    pub(super) attempts: Vec<String>,
}

/// What the probe says about one attempt, as one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) id: String,
    pub(super) outcome: Outcome,
}

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It got this.
    Got(String),
    /// This stopped it.
    Stopped(Stop),
    /// This signal ended it.
    Killed(i32),
}

impl Outcome {
    /// What the rows of the table compare: an error, a negative signal, 0 for nothing found; `None` when it got out or
    /// could not be tried.
    pub(super) const fn number(&self) -> Option<i32> {
        match self {
            Self::Stopped(Stop::Errno(errno)) => Some(*errno),
            Self::Stopped(Stop::Nothing) => Some(super::errors::NOTHING),
            Self::Killed(signal) => Some(-*signal),
            Self::Got(_) | Self::Stopped(Stop::Cannot(_)) => None,
        }
    }
}

thread_local! {
    /// Descriptors that the probe itself has opened.
    static OWN: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
}

/// Runs as the probe or as its victim when this program was started as one, and returns its exit status. Programs that
/// embed the sandbox call it first in `main`.
#[must_use]
pub fn probe_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let name = arguments.next()?;
    if name == VICTIM {
        return Some(wait_as_victim());
    }
    if name != PROBE {
        return None;
    }
    let orders = arguments.next().and_then(|text| text.into_string().ok());
    let orders = orders.and_then(|text| serde_json::from_str::<Orders>(&text).ok());
    Some(orders.map_or(ExitCode::from(2), |orders| run(&orders)))
}

/// Says that it is there, and waits for the end of its input.
fn wait_as_victim() -> ExitCode {
    let _ = rustix::io::write(std::io::stdout(), b".");
    let _ = rustix::io::read(std::io::stdin(), &mut [0]);
    ExitCode::SUCCESS
}

fn run(orders: &Orders) -> ExitCode {
    let end = Line { id: END.to_owned(), outcome: Outcome::Stopped(Stop::Nothing) };
    let lines = orders.attempts.iter().map(|id| Line { id: id.clone(), outcome: make(id, &orders.scene) });
    for line in lines.chain([end]) {
        let Ok(mut text) = serde_json::to_vec(&line) else { return ExitCode::FAILURE };
        text.push(b'\n');
        if rustix::io::write(std::io::stdout(), &text) != Ok(text.len()) {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Makes one attempt in a process of its own.
fn make(id: &str, scene: &Scene) -> Outcome {
    let cannot = |why: &str| Outcome::Stopped(Stop::Cannot(why.to_owned()));
    let Some(attempt) = attempt(id) else { return cannot("there is no such attempt") };
    let Ok((reader, writer)) = pipe_with(PipeFlags::CLOEXEC) else { return cannot("no pipe for the result") };
    let child = match sys::fork_process() {
        Err(errno) => return cannot(&format!("no process: {errno}")),
        Ok(Forked::Child) => {
            OWN.with_borrow_mut(|own| own.extend([reader.as_raw_fd(), writer.as_raw_fd()]));
            let outcome = match (attempt.act)(scene) {
                Ok(got) => Outcome::Got(got),
                Err(stop) => Outcome::Stopped(stop),
            };
            if let Ok(text) = serde_json::to_vec(&outcome) {
                let _ = rustix::io::write(&writer, &text);
            }
            sys::exit_now(0)
        }
        Ok(Forked::Parent(child)) => child,
    };
    drop(writer);
    let text = answer(&reader);
    if text.is_none() {
        let _ = sys::kill_process(child, Signal::KILL);
    }
    let status = sys::wait_for(child);
    match (text, status) {
        (None, _) => cannot("no answer in time"),
        (Some(text), Ok(status)) if text.is_empty() => {
            if libc::WIFSIGNALED(status) {
                Outcome::Killed(libc::WTERMSIG(status))
            } else {
                cannot("no answer")
            }
        }
        (Some(text), _) => serde_json::from_slice(&text).unwrap_or_else(|_| cannot("an answer that is none")),
    }
}

/// What the attempt says: nothing when it died; `None` when it takes too long. It is read once, as a process that the
/// attempt left behind may hold the pipe.
fn answer(reader: &OwnedFd) -> Option<Vec<u8>> {
    let mut ready = [PollFd::new(reader, PollFlags::IN)];
    if poll(&mut ready, Some(&PATIENCE)) == Ok(0) {
        return None;
    }
    let mut text = vec![0; 4096];
    let length = rustix::io::read(reader, &mut text).ok()?;
    text.truncate(length);
    Some(text)
}

/// The descriptors that the probe itself has opened.
pub(super) fn own_descriptors() -> Vec<i32> {
    OWN.with_borrow(Clone::clone)
}

/// Executes a program and returns its exit status.
pub(super) fn execute(argv: &[&CStr]) -> Result<i32, Stop> {
    let image = ExecImage::new(argv.iter().map(|&argument| argument.into()).collect(), Vec::new());
    let program: CString = argv.first().map(|&path| path.into()).unwrap_or_default();
    spawn(&mut || sys::exec_path(&program, &image))
}

/// As [`execute`], by descriptor.
pub(super) fn execute_fd(program: BorrowedFd<'_>) -> Result<i32, Stop> {
    let image = ExecImage::new(vec![c"probe".into()], Vec::new());
    spawn(&mut || sys::exec_fd(program.as_fd(), &image))
}

fn spawn(execute: &mut dyn FnMut() -> rustix::io::Errno) -> Result<i32, Stop> {
    let mut failed = None;
    // The child borrows this process's memory until it executes, so what it notes is seen here.
    let child: Pid = sys::vfork_process(&mut || {
        failed = Some(execute());
        127
    })?;
    let status = sys::wait_for(child)?;
    match failed {
        Some(errno) => Err(errno.into()),
        None if libc::WIFEXITED(status) => Ok(libc::WEXITSTATUS(status)),
        None => Err(Stop::Cannot(format!("wait status {status}"))),
    }
}
