//! The gateway's own confinement: the calling process, for good, before it has a second thread.
//!
//! Landlock and the filter bind the calling thread and the threads that it makes later. So this is done in `main`, after the
//! launcher was forked and the listeners were opened, and before the runtime exists.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getpid, set_dumpable_behavior, set_parent_process_death_signal,
    setrlimit,
};
use sigil_types::Code;

use super::failure::{At, Failure, Stage, StartFailed};
use super::landlock::{self, Rule};
use super::last::fence;
use crate::client::ExitStatus;
use crate::profile::base::OwnProfile;
use crate::profile::{Access, Layer, Right, seccomp};
use crate::report::LayerReport;
use crate::sys::{self, Forked};

/// A file or folder that the gateway keeps.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Where it is. Symbolic links are followed: the path is the owner's own setting.
    pub path: PathBuf,
    /// What may be done there.
    pub keep: Keep,
}

/// What the gateway may do with what it keeps. It executes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Read files and list folders.
    Read,
    /// Read, write, make, rename and remove.
    Write,
    /// Remove files in it, and nothing else: the folder of its socket, whose file goes when it stops.
    Remove,
}

impl Keep {
    const fn rights(self) -> &'static [Right] {
        match self {
            Self::Read => Access::Read.rights(),
            Self::Write => Access::Write.rights(),
            Self::Remove => &[Right::RemoveFile],
        }
    }
}

/// Why the gateway is not confined. It must not go on then.
#[derive(Debug, thiserror::Error)]
pub enum ConfineFailed {
    /// Another thread exists, which would stay free.
    #[error("the gateway must confine itself before any other thread exists, but there are {0}")]
    Threads(usize),
    /// The layers cannot be had.
    #[error("the gateway cannot confine itself: {0}")]
    Layers(#[from] StartFailed),
}

impl ConfineFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Threads(_) => const { Code::new("sandbox.gateway.threads.many") },
            Self::Layers(_) => const { Code::new("sandbox.gateway.layer.missing") },
        }
    }
}

/// The gateway's confinement, which stands for as long as the process.
#[derive(Debug)]
pub struct Confined {
    report: LayerReport,
    /// Keeps `/proc/self` the very folder that the rule was made for: the kernel makes another when it forgets one.
    _opened: Vec<OwnedFd>,
}

impl Confined {
    /// The layers that were applied, and those that were seen at work.
    #[must_use]
    pub const fn report(&self) -> &LayerReport {
        &self.report
    }
}

/// Confines the calling process to its profile (`sandbox-profiles/gateway.toml`) and to `kept`, for good. What the profile
/// names and this machine does not have is left out; what is `kept` must exist.
///
/// # Errors
/// [`ConfineFailed`]; what was applied by then stays, so the process must end.
pub fn confine_gateway(kept: &[Kept]) -> Result<Confined, ConfineFailed> {
    let host = |what| move |source: std::io::Error| StartFailed::Host { what, source: errno_of(&source) };
    let threads = sys::thread_count().map_err(host("cannot count the threads"))?;
    if threads != 1 {
        return Err(ConfineFailed::Threads(threads));
    }
    let profile = OwnProfile::gateway().map_err(|error| StartFailed::Profile(error.to_string()))?;
    let mut filters = seccomp::compile(&profile.filter).map_err(|error| StartFailed::Profile(error.to_string()))?;
    // Landlock's scope, from its sixth version on, holds signals inside; without it a filter does.
    if sys::landlock_abi() < Right::ScopeSignal.since() {
        let fence = fence(getpid()).map_err(|error| StartFailed::Profile(error.to_string()))?;
        filters.insert(0, fence);
    }
    let mut report = LayerReport::default();
    let opened = layers(profile, kept, &mut report).map_err(StartFailed::from)?;
    report.proven = prove(profile);
    for filter in &filters {
        let failed = |error: seccompiler::Error| Failure { stage: Stage::Seccomp, errno: 0, what: error.to_string() };
        seccompiler::apply_filter(filter).map_err(failed).map_err(StartFailed::from)?;
    }
    report.applied.insert(Layer::Seccomp);
    if sys::is_filtered(profile.filter.default_errno) {
        report.proven.insert(Layer::Seccomp);
    }
    let lacking = &report.missing(&profile.required) | &report.unproven(&profile.required);
    if lacking.is_empty() {
        Ok(Confined { report, _opened: opened })
    } else {
        Err(StartFailed::LayerMissing(lacking).into())
    }
}

/// Tries the confinement in a process that ends at once: what it would report here.
///
/// # Errors
/// As [`confine_gateway`]; also when the process cannot be made.
pub fn try_gateway() -> Result<LayerReport, ConfineFailed> {
    let host = |what| move |source| StartFailed::Host { what, source };
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(host("cannot make a pipe"))?;
    match sys::fork_process().map_err(host("cannot make a process"))? {
        Forked::Child => {
            let said = confine_gateway(&[]).map(|confined| confined.report).map_err(|error| error.to_string());
            let bytes = serde_json::to_vec(&said).unwrap_or_default();
            let written = rustix::io::write(&write, &bytes);
            sys::exit_now(i32::from(written != Ok(bytes.len())));
        }
        Forked::Parent(child) => {
            drop(write);
            let mut said = Vec::new();
            let heard = std::fs::File::from(read).read_to_end(&mut said);
            let ended = sys::wait_for(child).map_err(host("cannot wait for the process"))?;
            heard.map_err(|error| host("cannot read what the process said")(errno_of(&error)))?;
            let said: Result<LayerReport, String> =
                serde_json::from_slice(&said).map_err(|_| StartFailed::Died(ended))?;
            said.map_err(|why| StartFailed::Profile(why).into())
        }
    }
}

/// Goes on in a process of its own, so that what may be done afterwards outlives a confinement: answers nothing in the new
/// process, and its end in the old one, which has waited for it. The new one dies with the old one.
///
/// # Errors
/// [`ConfineFailed`] when the calling process has a second thread, or no process can be made.
pub fn apart() -> Result<Option<ExitStatus>, ConfineFailed> {
    let host = |what| move |source| StartFailed::Host { what, source };
    let threads = sys::thread_count().map_err(|error| host("cannot count the threads")(errno_of(&error)))?;
    if threads != 1 {
        return Err(ConfineFailed::Threads(threads));
    }
    match sys::fork_process().map_err(host("cannot make a process"))? {
        Forked::Child => {
            set_parent_process_death_signal(Some(Signal::KILL)).map_err(host("cannot be made to end together"))?;
            Ok(None)
        }
        Forked::Parent(child) => {
            let status = sys::wait_for(child).map_err(host("cannot wait for the process"))?;
            Ok(Some(ExitStatus::from_wait(status)))
        }
    }
}

/// Everything below the filter, in the order in which each still may be done.
fn layers(profile: &OwnProfile, kept: &[Kept], report: &mut LayerReport) -> Result<Vec<OwnedFd>, Failure> {
    let opened = open(profile, kept)?;
    let core = Rlimit { current: profile.limits.core_bytes, maximum: profile.limits.core_bytes };
    setrlimit(Resource::Core, core).at(Stage::Limits)?;
    // Nobody of the same user attaches to it, or reads its memory.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at(Stage::Privileges)?;
    report.applied.insert(Layer::Rlimits);
    sys::drop_all_privileges(None).at(Stage::Privileges)?;
    report.applied.extend([Layer::Capabilities, Layer::NoNewPrivs]);
    let rules = opened.iter().map(|(fd, rights)| Rule { fd: fd.as_fd(), rights });
    landlock::enforce(&profile.landlock, profile.landlock.least_abi, rules, None, report)?;
    report.applied.insert(Layer::Landlock);
    Ok(opened.into_iter().map(|(fd, _)| fd).collect())
}

fn open(profile: &OwnProfile, kept: &[Kept]) -> Result<Vec<(OwnedFd, Vec<Right>)>, Failure> {
    let own = profile.bind.iter().map(|bind| (bind.path.as_path(), Keep::Read, true));
    let kept = kept.iter().map(|kept| (kept.path.as_path(), kept.keep, false));
    let mut opened = Vec::new();
    for (path, keep, optional) in own.chain(kept) {
        match open_one(path, keep) {
            Err(Errno::NOENT | Errno::ACCESS) if optional => {}
            other => opened.push(other.at_what(Stage::Sources, || path.display().to_string())?),
        }
    }
    Ok(opened)
}

fn open_one(path: &Path, keep: Keep) -> Result<(OwnedFd, Vec<Right>), Errno> {
    let fd = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let folder = FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::Directory;
    let rights = keep.rights().iter().copied().filter(|right| folder || landlock::is_of_files(*right));
    Ok((fd, rights.collect()))
}

/// Tries each layer below the filter from inside.
fn prove(profile: &OwnProfile) -> std::collections::BTreeSet<Layer> {
    let privileges = sys::privileges().ok();
    let list = || openat(CWD, "/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let core = || rustix::process::getrlimit(Resource::Core).current;
    [
        (Layer::NoNewPrivs, privileges.is_some_and(|held| held.no_new_privs)),
        (Layer::Capabilities, privileges.is_some_and(|held| held.capabilities == 0)),
        (Layer::Rlimits, core() == profile.limits.core_bytes),
        (Layer::Landlock, list().is_err_and(|errno| errno == Errno::ACCESS)),
    ]
    .into_iter()
    .filter_map(|(layer, holds)| holds.then_some(layer))
    .collect()
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
