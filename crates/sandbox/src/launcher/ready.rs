//! What the launcher keeps from one launch to the next: compiled profiles, a sandbox that stands ready, its place on the machine.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use sigil_types::{Digest, PluginName, WorkspaceId};

use super::judge::Judged;
use super::wire::Refusal;
use super::{LauncherConfig, refusal};
use crate::cgroup::{Group, Groups};
use crate::confine::{Pin, Prepared, Standby};
use crate::host::Host;
use crate::interpreter::Interpreter;
use crate::profile::recorded::{self, Recording};
use crate::profile::{Compiled, Posture};

/// A launch as far as it can be prepared before the request: a compiled and checked profile.
///
/// Nothing in it depends on what may have changed since: the tree is hashed and the manifest compared at every launch, the
/// interpreter is looked at again, and a new policy empties the cache.
pub(super) struct Ready {
    pub(super) key: Digest,
    pub(super) pin: Pin,
    pub(super) compiled: Compiled,
    pub(super) prepared: Prepared,
    /// The weakest posture that would have done.
    pub(super) floor: Posture,
    /// What reads its program, when that is a script.
    interpreter: Option<Interpreter>,
}

impl Ready {
    pub(super) fn new(key: Digest, pin: Pin, judged: Judged, recording: Option<Recording>) -> Result<Self, Refusal> {
        let Judged { compiled, pins, floor, interpreter } = judged;
        let profile = compiled.profile.clone();
        let prepared = match recording.filter(|_| recorded::is_possible(&profile.seccomp)) {
            Some(recording) => Prepared::recorded(profile, pins, recording),
            None => Prepared::new(profile, pins),
        };
        let prepared = prepared.map_err(|error| refusal(error.code(), error))?;
        Ok(Self { key, pin, compiled, prepared, floor, interpreter })
    }

    /// Whether what reads its program is still what was verified.
    fn holds(&self) -> bool {
        self.interpreter.as_ref().is_none_or(Interpreter::holds)
    }
}

/// The sandbox that is made ready before anybody asks for it: for what was launched last.
#[derive(Default)]
pub(super) enum Next {
    /// There is nothing to make ready.
    #[default]
    None,
    /// What it is to be made from.
    Wanted(Rc<Ready>),
    /// It stands ready, until then. A sandbox that is not used for long would only keep what it has opened.
    Stands(Rc<Ready>, Standby, Instant),
}

/// What the launcher has of the machine.
pub(super) struct Place {
    /// What the launcher was told at its start.
    pub(super) config: LauncherConfig,
    /// What it gives.
    pub(super) host: Host,
    /// Sigil's part of its control groups.
    pub(super) groups: Option<Groups>,
    /// How much the folders of plugins have grown.
    pub(super) growth: Growth,
}

/// By how much the folders of each plugin have grown in its launches so far: who is started again does not start anew.
#[derive(Default)]
pub(super) struct Growth(BTreeMap<(PluginName, WorkspaceId), u64>);

impl Growth {
    /// What is left of `most`.
    pub(super) fn left(&self, plugin: &PluginName, workspace: &WorkspaceId, most: Option<u64>) -> u64 {
        let grown = self.0.get(&(plugin.clone(), workspace.clone())).copied().unwrap_or(0);
        most.unwrap_or(u64::MAX).saturating_sub(grown)
    }

    /// Adds what a launch has left behind.
    pub(super) fn add(&mut self, plugin: &PluginName, workspace: &WorkspaceId, bytes: u64) {
        if bytes > 0 {
            let grown = self.0.entry((plugin.clone(), workspace.clone())).or_default();
            *grown = grown.saturating_add(bytes);
        }
    }
}

impl Place {
    /// The control group of a launch: where limits can be had, and where nothing else could end everything at once.
    pub(super) fn group(&mut self, ready: &Ready) -> Result<Option<Group>, Errno> {
        let profile = ready.prepared.profile();
        let wanted = self.host.cgroup.limits() || profile.posture == Posture::Reduced;
        match &mut self.groups {
            Some(groups) if wanted => groups.launch(&profile.limits).map(Some),
            _ => Ok(None),
        }
    }
}

/// How long a sandbox stands ready, while the machine runs.
const STANDS: Duration = Duration::from_secs(60);

impl Next {
    /// Makes it ready, or ends it when its time is over.
    pub(super) fn advance(&mut self, place: &mut Place) {
        *self = match std::mem::take(self) {
            // A failure is not one: the next launch makes its own and says what is wrong.
            Self::Wanted(ready) => {
                match place.group(&ready).ok().and_then(|group| ready.prepared.ahead(group).ok()).flatten() {
                    Some(standby) => Self::Stands(ready, standby, Instant::now() + STANDS),
                    None => Self::None,
                }
            }
            other => other,
        };
        self.expire();
    }

    /// Ends it when its time is over.
    pub(super) fn expire(&mut self) {
        if matches!(self, Self::Stands(_, _, until) if Instant::now() >= *until) {
            *self = Self::None;
        }
    }

    /// How long until [`Next::advance`] has something to do, when nothing else happens.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::None => None,
            Self::Wanted(_) => Some(QUIET),
            Self::Stands(_, _, until) => Some(until.saturating_duration_since(Instant::now())),
        }
    }

    /// Takes it for a launch from `ready`, if it was made for that.
    pub(super) fn take(&mut self, ready: &Rc<Ready>) -> Option<Standby> {
        match std::mem::take(self) {
            Self::Stands(of, standby, until)
                if Rc::ptr_eq(&of, ready) && Instant::now() < until && standby.fits(&ready.prepared) =>
            {
                Some(standby)
            }
            Self::Stands(..) | Self::Wanted(_) | Self::None => None,
        }
    }
}

/// How long nothing must have happened before the launcher works ahead: what it has just started needs the processor, and
/// what has just been asked for may be followed by more.
const QUIET: Duration = Duration::from_millis(5);

/// The last prepared launches under the policy in force.
#[derive(Default)]
pub(super) struct Cache {
    ready: VecDeque<Rc<Ready>>,
    /// What of the programs' calls is recorded: what is prepared depends on it.
    pub(super) recording: Option<Recording>,
}

/// How many prepared launches are kept: tens of kilobytes each.
const KEPT: usize = 16;

impl Cache {
    /// Forgets everything, and prepares with this recording from now on.
    pub(super) fn record(&mut self, recording: Option<Recording>) {
        self.clear();
        self.recording = recording;
    }

    /// Forgets everything: another policy is in force.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
    }

    pub(super) fn find(&self, key: &Digest, pin: &Pin) -> Option<Rc<Ready>> {
        self.ready.iter().find(|ready| ready.key == *key && ready.pin == *pin && ready.holds()).cloned()
    }

    pub(super) fn keep(&mut self, ready: Rc<Ready>) {
        self.ready.retain(|old| old.key != ready.key);
        self.ready.push_front(ready);
        self.ready.truncate(KEPT);
    }
}
