//! Learn mode: a command is run in the sandbox as ever, denied what it is denied, and watched.
//!
//! Each attempt is a process of its own, which ends with the command: a sandbox is made by a process of one thread, and
//! watching needs more. What was learnt comes back as one message, and grants nothing.

use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::PoisonError;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::setpgid;
use serde::{Deserialize, Serialize};
use sigil_types::Code;

use super::{HostRefused, Ledger, Recorder, RuleSet, Telling};
use crate::client::ExitStatus;
use crate::confine::{Attended, Prepared, StartFailed, Streams};
use crate::profile::recorded::Recording;
use crate::profile::{Egress, NeverGrant, with_proxy};
use crate::run::{self, Attendant, Ended, Options, Plan, RunFailed};
use crate::sys::{self, Forked};

/// Longest message of an attempt, in bytes.
const LONGEST: u64 = 16 << 20;

/// What serves the egress proxy of an attempt, and knows what it refused.
pub trait Outlet {
    /// Serves the proxy on `listener` until the process ends.
    ///
    /// # Errors
    /// Why it cannot.
    fn serve(&mut self, listener: OwnedFd, rules: &Egress) -> Result<(), String>;

    /// What it has refused.
    fn refused(&mut self) -> Vec<HostRefused>;
}

/// What one run of a command has shown.
#[derive(Debug)]
pub struct Attempt {
    /// How the command ended, as the exit status of a process.
    pub status: u8,
    /// The calls that were refused, and the files and addresses that it looked for in vain.
    pub ledger: Ledger,
    /// The hosts that the proxy refused.
    pub hosts: Vec<HostRefused>,
    /// The base profile that it had.
    pub profile: String,
}

/// Why a command could not be watched.
#[derive(Debug, thiserror::Error)]
pub enum LearnFailed {
    /// It was not run.
    #[error("the command was not run: {0}")]
    NotRun(String),
    /// This process cannot make another one.
    #[error("{what}: {source}; free processes or memory, and try again")]
    Host {
        /// What it could not do.
        what: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// The watching process ended without a word.
    #[error("the process that watched the command ended early; nothing was learnt. Try again")]
    Lost,
}

impl LearnFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::new(match self {
            Self::NotRun(_) => "sandbox.learn.command.not-run",
            Self::Host { .. } => "sandbox.learn.host.failed",
            Self::Lost => "sandbox.learn.watcher.lost",
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Said {
    Learnt { status: u8, ledger: Ledger, hosts: Vec<HostRefused>, profile: String },
    Failed(String),
}

/// What is never granted to a command on this machine, for [`Subject`](super::Subject).
#[must_use]
pub fn never() -> NeverGrant {
    run::never()
}

/// Runs the command of `options` once, and says what it was refused. Its streams are this process's own; with `aside`
/// what it writes to standard output goes to standard error.
///
/// The calling process must have one thread.
///
/// # Errors
/// [`LearnFailed`].
pub fn attempt(options: &Options, outlet: &mut dyn Outlet, aside: bool) -> Result<Attempt, LearnFailed> {
    let host = |what| move |source| LearnFailed::Host { what, source };
    let threads = sys::thread_count()
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .map_err(host("cannot count the threads"))?;
    if threads != 1 {
        return Err(LearnFailed::NotRun(format!("the process must have one thread, and has {threads}")));
    }
    // A file in memory: whoever watches writes all of it at the end, and is waited for before it is read.
    let report = memfd_create("sigil-learnt", MemfdFlags::CLOEXEC).map_err(host("cannot make a file in memory"))?;
    let child = match sys::fork_process().map_err(host("cannot make a process"))? {
        Forked::Child => {
            // A panic must not unwind into the caller's code in a second process.
            let lived =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tell(report, &watch(options, outlet, aside))));
            sys::exit_now(i32::from(lived.is_err()));
        }
        Forked::Parent(child) => child,
    };
    // What a person types ends the command, not the learning: it goes on with what was seen.
    sys::block_forwarded_signals().map_err(host("cannot block signals"))?;
    let waited = sys::forward_until_exit(child);
    sys::unblock_forwarded_signals().map_err(host("cannot unblock signals"))?;
    waited.map_err(host("cannot wait for the command"))?;
    match read(report) {
        Some(Said::Learnt { status, ledger, hosts, profile }) => Ok(Attempt { status, ledger, hosts, profile }),
        Some(Said::Failed(why)) => Err(LearnFailed::NotRun(why)),
        None => Err(LearnFailed::Lost),
    }
}

fn read(report: OwnedFd) -> Option<Said> {
    let mut file = std::fs::File::from(report);
    file.rewind().ok()?;
    let mut message = Vec::new();
    file.take(LONGEST).read_to_end(&mut message).ok()?;
    serde_json::from_slice(&message).ok()
}

fn tell(report: OwnedFd, said: &Result<Said, RunFailed>) {
    let said = match said {
        Ok(said) => serde_json::to_vec(said),
        Err(failed) => serde_json::to_vec(&Said::Failed(failed.to_string())),
    };
    // Nobody is there to be told when that fails; the parent sees that the message is not whole.
    let _ = std::fs::File::from(report).write_all(&said.unwrap_or_default());
}

/// The life of the watching process.
fn watch(options: &Options, outlet: &mut dyn Outlet, aside: bool) -> Result<Said, RunFailed> {
    let host = |what| move |source| StartFailed::Host { what, source };
    // A group of its own, so that what a person types reaches the command once: through the parent.
    setpgid(None, None).map_err(host("cannot make a process group"))?;
    let Plan { mut compiled, wall, covered, absent, .. } = run::plan(options)?;
    with_proxy(&mut compiled.profile)?;
    let (telling, rules) = (Telling::of(&compiled.profile.seccomp), RuleSet::of(&compiled.profile));
    let profile = compiled.profile.name.clone();
    let attended = Attended { terminal: false, mounts: covered };
    let prepared = Prepared::recorded(compiled.profile, Vec::new(), Recording::Looks)?.attended(attended);
    let Streams { stdin, stdout, stderr } = run::streams(None);
    let stdout = if aside { stderr } else { stdout };
    let signals = sys::take_signals().map_err(host("cannot take signals"))?;
    let mut enforced = prepared.start(&Streams { stdin, stdout, stderr })?;
    let recording = enforced.listening.take().map(|listening| {
        let recorder = Recorder::new(listening, telling, Some(rules));
        (recorder.ledger(), std::thread::spawn(|| recorder.run()))
    });
    if let Some(listener) = enforced.egress.take()
        && let Err(why) = outlet.serve(listener, &compiled.egress)
    {
        let _ = enforced.kill();
        let _ = enforced.wait();
        return Err(RunFailed::Egress(why));
    }
    let mounts = enforced.mounts.take();
    let status = match (Attendant { signals, terminal: None, wall, mounts }).wait(&enforced)? {
        Ended::Itself(ExitStatus::Exited(status)) => u8::try_from(status).unwrap_or(run::FAILED),
        Ended::Itself(ExitStatus::Signaled(signal)) => u8::try_from(128 + signal).unwrap_or(run::FAILED),
        Ended::Itself(ExitStatus::Killed) => 128 + 9,
        Ended::TimedOut => run::TIMED_OUT,
    };
    run::tell_made(&absent);
    let ledger = recording.map(|(ledger, thread)| {
        let _ = thread.join();
        ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    });
    Ok(Said::Learnt { status, ledger: ledger.unwrap_or_default(), hosts: outlet.refused(), profile })
}
