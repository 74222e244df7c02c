//! The escape battery: attempts to get out, made inside the real profiles by a mode of this very program.
//!
//! An attempt is a row of data: what it tries, the errors that count as held, and *every* layer that stops it. It is held
//! when it got one of these errors and nothing outside changed. That it can fail at all is shown twice: unconfined it
//! works ([`controls`]), and with all of its layers left out it works too ([`ablate`]).
//!
//! ```text
//! host side                                                   inside
//! Stage: folders, sockets, a victim, marks  ──launch──►  probe: each attempt in a process of its own
//! compare the marks, judge the rows         ◄──lines───  {"id":"fs.07","tried":{"errno":30}}
//! ```

mod accepted;
mod fs;
mod granted;
mod info;
mod kernel;
mod net;
mod nodes;
mod persist;
mod probe;
mod proc;
mod reduced;
mod report;
mod run;
mod setting;
mod soak;
mod stage;
mod trials;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::profile::Layer;

pub use accepted::{ACCEPTED, Known};
pub use probe::probe_if_asked;
pub use report::{Accepted, BatteryReport, Row, Status};
pub use run::{BatteryFailed, run};
pub use setting::Setting;
pub use soak::soak;
pub use trials::{Trial, ablate, controls, each_layer_alone, inherent};

/// One attempt to get out.
#[derive(Debug)]
pub struct Attempt {
    /// Its id, such as `fs.07`. Never used again for another attempt.
    pub id: &'static str,
    /// What is tried, for people.
    pub what: &'static str,
    /// The errors that count as held: positive ones are errno(3), negative ones the signal that ended the process, 0 that
    /// there was nothing to find.
    pub held: &'static [i32],
    /// Every layer that stops it by itself.
    pub layers: &'static [Layer],
    /// Those of them that cannot stop it where the program has a proxy, and so may make TCP sockets.
    pub not_with_proxy: &'static [Layer],
    /// How it is seen whether it got out.
    pub(crate) proof: Proof,
    /// Why it does not work unconfined either, so that neither a control nor an ablation shows what stops it; mostly that the
    /// kernel refuses it to everybody but root.
    pub no_control: Option<&'static str>,
    /// What it needs of the host.
    pub(crate) needs: Needs,
    /// The act.
    pub(crate) act: fn(&Scene) -> Tried,
}

/// How it is seen whether an attempt got out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It says so itself.
    Result,
    /// By a mark that only the host side can see; inside, the act may well succeed.
    Mark(Mark),
    /// By the marks of the host side alone: inside, anything may come of it.
    Outside,
}

/// What an attempt may leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// A file in the host's `/tmp`.
    Tmp,
    /// A file in the host's `/dev/shm`.
    Shm,
    /// A System V segment.
    Segment,
    /// A process that outlives the program.
    Survivor,
}

/// What an attempt needs of the host to be tried at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// That root launches.
    Root,
    /// The base profile `shell`.
    Shell,
    /// A profile with a proxy.
    Proxy,
    /// A profile in which nobody's own folders are granted.
    NobodysFolders,
}

/// What came of an act: what it got, or what stopped it.
pub(crate) type Tried = Result<String, Stop>;

/// What stopped an act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stop {
    /// The kernel refused.
    Errno(i32),
    /// There was nothing to find.
    Nothing,
    /// The act could not be made; this proves nothing.
    Cannot(String),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno.raw_os_error())
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        error.raw_os_error().map_or_else(|| Self::Cannot(error.to_string()), Self::Errno)
    }
}

/// What the acts aim at; made by the host side, told to the probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scene {
    /// The folder that holds all of the following.
    pub(crate) root: PathBuf,
    /// A process of the same user, as the host numbers it.
    pub(crate) victim: i32,
    /// A TCP listener on 127.0.0.1.
    pub(crate) tcp: u16,
    /// A TCP listener on 127.0.0.2 at the port that the proxy has inside.
    pub(crate) tcp_proxy: u16,
    /// A UDP socket on 127.0.0.1.
    pub(crate) udp: u16,
    /// The name of an abstract Unix socket.
    pub(crate) abstract_name: String,
    /// The key of a System V segment, and of one that does not exist yet.
    pub(crate) keys: (i32, i32),
    /// The name of the machine.
    pub(crate) hostname: String,
    /// The identity of the host's cgroup namespace.
    pub(crate) cgroup_ns: String,
    /// The names of the variables that the program may see.
    pub(crate) env: BTreeSet<String>,
    /// A file name that nobody else uses.
    pub(crate) name: String,
}

impl Scene {
    /// A folder that is not granted, although its mode lets anybody read and write.
    pub(crate) fn outside(&self) -> PathBuf {
        self.root.join("outside")
    }

    /// A folder that is granted to read, although its mode lets anybody write.
    pub(crate) fn read_only(&self) -> PathBuf {
        self.root.join("ro")
    }

    /// The folder for temporary files, where it is one of the host: outside of what is granted otherwise.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// A folder that is granted to write.
    pub(crate) fn writable(&self) -> PathBuf {
        self.root.join("rw")
    }

    /// A file that another program left in the host's `/tmp`.
    pub(crate) fn theirs(&self) -> PathBuf {
        Path::new("/tmp").join(format!("{}-theirs", self.name))
    }

    /// The program's own tree: where it appears inside, or where it lies when there is no new root.
    pub(crate) fn tree(&self) -> PathBuf {
        let inside = Path::new(crate::profile::TREE);
        if inside.exists() { inside.to_owned() } else { self.root.join("tree") }
    }
}

/// All attempts.
pub fn attempts() -> impl Iterator<Item = &'static Attempt> {
    [
        fs::ATTEMPTS,
        nodes::ATTEMPTS,
        net::ATTEMPTS,
        proc::ATTEMPTS,
        kernel::ATTEMPTS,
        info::ATTEMPTS,
        persist::ATTEMPTS,
        soak::ATTEMPTS,
    ]
    .into_iter()
    .flatten()
}

/// The attempt `id`, or the act `id` that is granted.
pub(crate) fn attempt(id: &str) -> Option<&'static Attempt> {
    attempts().chain(granted::ACTS).find(|attempt| attempt.id == id)
}

impl Attempt {
    /// The group, which is the first part of the id.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.id.split_once('.').map_or(self.id, |(group, _)| group)
    }

    /// A row with the usual proof and no needs.
    pub(crate) const fn new(
        id: &'static str,
        what: &'static str,
        held: &'static [i32],
        layers: &'static [Layer],
        act: fn(&Scene) -> Tried,
    ) -> Self {
        Self {
            id,
            what,
            held,
            layers,
            not_with_proxy: &[],
            proof: Proof::Result,
            no_control: None,
            needs: Needs::Nothing,
            act,
        }
    }

    pub(crate) const fn without_control(mut self, why: &'static str) -> Self {
        self.no_control = Some(why);
        self
    }

    pub(crate) const fn not_with_proxy(mut self, layers: &'static [Layer]) -> Self {
        self.not_with_proxy = layers;
        self
    }

    pub(crate) const fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }

    pub(crate) const fn judged_outside(mut self) -> Self {
        self.proof = Proof::Outside;
        self
    }

    pub(crate) const fn leaves(mut self, mark: Mark) -> Self {
        self.proof = Proof::Mark(mark);
        self
    }
}

/// The errors that rows name.
pub(crate) mod errors {
    pub(crate) const NOTHING: i32 = 0;
    pub(crate) const SIGSYS: i32 = -libc::SIGSYS;
    pub(crate) const PERM: i32 = libc::EPERM;
    pub(crate) const NOENT: i32 = libc::ENOENT;
    pub(crate) const SRCH: i32 = libc::ESRCH;
    pub(crate) const ACCES: i32 = libc::EACCES;
    pub(crate) const ROFS: i32 = libc::EROFS;
    pub(crate) const XDEV: i32 = libc::EXDEV;
    pub(crate) const NOSYS: i32 = libc::ENOSYS;
    pub(crate) const NOSPC: i32 = libc::ENOSPC;
    pub(crate) const FBIG: i32 = libc::EFBIG;
    pub(crate) const MFILE: i32 = libc::EMFILE;
    pub(crate) const AGAIN: i32 = libc::EAGAIN;
    pub(crate) const NETUNREACH: i32 = libc::ENETUNREACH;
    pub(crate) const CONNREFUSED: i32 = libc::ECONNREFUSED;
    pub(crate) const BUSY: i32 = libc::EBUSY;
    pub(crate) const NOMEM: i32 = libc::ENOMEM;
    pub(crate) const TOOMANYREFS: i32 = libc::ETOOMANYREFS;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_single_and_rows_are_whole() {
        let mut seen = BTreeSet::new();
        for attempt in attempts() {
            assert!(seen.insert(attempt.id), "{} stands twice", attempt.id);
            assert!(!attempt.what.is_empty(), "{}", attempt.id);
            // What nothing stops must be accepted under every profile.
            let everywhere = ACCEPTED.iter().any(|known| known.id == attempt.id && known.under == ["*"]);
            assert_eq!(attempt.layers.is_empty(), everywhere, "{}", attempt.id);
            let marked = attempt.proof != Proof::Result;
            assert!(marked || everywhere || !attempt.held.is_empty(), "{} can never be held", attempt.id);
        }
        assert!(seen.len() >= 100, "{} attempts", seen.len());
    }

    #[test]
    fn every_layer_that_stops_something_is_tried() {
        use Layer as L;
        let tried: BTreeSet<Layer> = attempts().flat_map(|attempt| attempt.layers).copied().collect();
        for layer in [
            L::Descriptors,
            L::Environment,
            L::Rlimits,
            L::UserNs,
            L::MountNs,
            L::PidNs,
            L::IpcNs,
            L::UtsNs,
            L::NetNs,
            L::CgroupNs,
            L::NoNewPrivs,
            L::Capabilities,
            L::Landlock,
            L::Seccomp,
        ] {
            assert!(tried.contains(&layer), "nothing tries {layer:?}");
        }
    }
}
