//! The launcher: the only process of Sigil that can start programs.
//!
//! It is forked from `main` before any thread exists and before the gateway has read an outside byte, and does not trust
//! the gateway afterwards. It verifies policy, file tree and manifest by itself, compiles the profile by itself, and
//! answers with a signed receipt. What it may be asked is the closed list of [`wire::Request`]. When the gateway dies, it
//! dies, and what it started dies with it.

mod audited;
pub mod connect;
mod disk;
mod judge;
mod launch;
#[cfg(test)]
mod oath;
mod ready;
mod recorder;
mod serve;
mod state;
mod watch;
pub mod wire;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, Pid, Signal};
use sigil_types::Code;

pub use crate::cgroup::Usage;
pub use state::{LoadState, write_trust};
pub use watch::Excess;

use crate::cgroup::Groups;
use crate::client::LauncherClient;
use crate::host::Host;
use crate::sys::{self, Forked};
use ready::{Growth, Place};
use serve::Server;
use state::State;
use wire::{Refusal, Reply};

/// What the launcher is told once, before it is forked.
#[derive(Clone, Debug)]
pub struct LauncherConfig {
    /// Its own folder, which the gateway must not be able to reach: `trust.json` is there; key, floor and last signed
    /// head are made there.
    pub state: PathBuf,
    /// The plugin store: a folder for each tree, named by [`tree::folder_name`](crate::tree::folder_name).
    pub plugins: PathBuf,
    /// Where private folders of go-plugin programs are made; exists, and belongs to the user who runs Sigil.
    pub run: PathBuf,
    /// Sigil's own folders and files: data, configuration, keys, the launcher's folder. Never granted.
    pub own: Vec<PathBuf>,
    /// The folders of people on this machine. Never granted as a whole.
    pub homes: Vec<PathBuf>,
    /// The name of the audit log, such as `sigil/host-name`: the origin of its heads.
    pub origin: String,
    /// The control group of version 2 below which the groups of launches are made; the one that it runs in, when absent.
    pub cgroup: Option<PathBuf>,
    /// The most programs that may run at once.
    pub max_running: usize,
}

/// Why there is no launcher.
#[derive(Debug, thiserror::Error)]
pub enum ForkFailed {
    /// The process has threads already.
    #[error("the launcher must be forked before any other thread exists, but there are {0}")]
    Threads(usize),
    /// The kernel refused.
    #[error("cannot make the launcher: {what}: {source}")]
    Host {
        /// What.
        what: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The launcher came up and could not go on; the text says why and what to do.
    #[error("the launcher cannot start: {0}")]
    Refused(Refusal),
    /// The launcher died or spoke another language.
    #[error("the launcher did not report itself ready: {0}")]
    Silent(String),
}

impl ForkFailed {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Threads(_) => const { Code::new("sandbox.launcher.fork.threads") },
            Self::Host { .. } => const { Code::new("sandbox.launcher.fork.failed") },
            Self::Refused(refusal) => refusal.code.clone(),
            Self::Silent(_) => const { Code::new("sandbox.launcher.start.silent") },
        }
    }
}

/// A running launcher.
///
/// When it is dropped together with every clone of its client, the launcher ends, and everything that it started.
#[derive(Debug)]
pub struct Launcher {
    client: LauncherClient,
    pid: Pid,
}

impl Launcher {
    /// A handle to ask it with.
    #[must_use]
    pub fn client(&self) -> LauncherClient {
        self.client.clone()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }
}

fn refusal(code: Code, error: impl std::fmt::Display) -> Refusal {
    Refusal { code, text: error.to_string() }
}

/// Forks the launcher and waits until it is ready.
///
/// # Errors
/// [`ForkFailed`]; then no process is left.
pub fn fork(config: LauncherConfig) -> Result<Launcher, ForkFailed> {
    let host = |what| move |source: Errno| ForkFailed::Host { what, source: source.into() };
    let threads =
        sys::thread_count().map_err(|source| ForkFailed::Host { what: "cannot count the threads", source })?;
    if threads != 1 {
        return Err(ForkFailed::Threads(threads));
    }
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(host("cannot make its socket"))?;
    let pid = match sys::fork_process().map_err(host("fork"))? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            drop(ours);
            // A panic must not unwind into the gateway's code in a second process.
            let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(config, theirs)));
            sys::exit_now(lived.unwrap_or(1))
        }
    };
    drop(theirs);
    match wire::receive_reply(&ours) {
        Ok((Reply::Ready { key, public, .. }, _)) => {
            LauncherClient::new(ours, &key, &public).map(|client| Launcher { client, pid }).map_err(ForkFailed::Silent)
        }
        other => {
            let _ = sys::kill_process(pid, Signal::KILL);
            let _ = sys::wait_for(pid);
            Err(match other {
                Ok((Reply::Refused(refused), _)) => ForkFailed::Refused(refused),
                Ok(_) => ForkFailed::Silent("it answered what it was not asked".to_owned()),
                Err(error) => ForkFailed::Silent(error.to_string()),
            })
        }
    }
}

/// The life of the launcher's process, and its exit status.
fn live(config: LauncherConfig, socket: OwnedFd) -> i32 {
    let failed = settle(&socket).err().map(|errno| {
        let code = const { Code::new("sandbox.launcher.start.failed") };
        refusal(code, errno)
    });
    let loaded = match failed {
        Some(refused) => Err(refused),
        None => State::load(&config.state, &config.origin).map_err(|error| refusal(error.code(), error)),
    };
    let (state, ready) = match loaded.and_then(|state| ready(&state).map(|ready| (state, ready))) {
        Ok(loaded) => loaded,
        Err(refused) => {
            let _ = wire::send(socket.as_fd(), &Reply::Refused(refused), &[]);
            return 1;
        }
    };
    if wire::send(socket.as_fd(), &ready, &[]).is_err() {
        return 1;
    }
    // After it said that it is ready: it takes milliseconds, in which the gateway has other things to do.
    let (groups, offer) = Groups::open(config.cgroup.as_deref());
    let place = Place { config, host: Host::look(offer), groups, growth: Growth::default() };
    let _ = Server::new(place, state).run(&socket);
    0
}

/// Makes the process the launcher's own: it dies with the gateway, ignores the terminal's signals (the gateway decides
/// when to stop), shows its memory to nobody, and has no descriptor but its socket and standard error.
fn settle(socket: &OwnedFd) -> Result<(), Errno> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if sys::peer_gone(socket.as_fd()) {
        return Err(Errno::PIPE);
    }
    rustix::process::setsid()?;
    // What outlives the init of a program without a process namespace becomes this process's child, and is ended.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let _ = rustix::thread::set_name(c"sigil-launcher");
    sys::close_others(socket.as_fd())
}

fn ready(state: &State) -> Result<Reply, Refusal> {
    let broken = |text: String| refusal(const { Code::new("sandbox.launcher.key.unusable") }, text);
    let key = state.signing_key().map_err(broken)?.verify_key().to_string();
    let public = state.public().map_err(broken)?;
    let public = public.iter().map(|byte| format!("{byte:02x}")).collect();
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    Ok(Reply::Ready { pid, key, public, floor: state.floor })
}
