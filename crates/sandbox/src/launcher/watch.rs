//! [`Watch`]: what no limit of the kernel holds for a launch is looked at again and again, and a program over it is ended.
//!
//! Looking is not a limit: between two looks a program can take more. What it can take then is bounded by the limits of its
//! single processes and files; `docs/security/postures.md` has the numbers.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::disk::Disk;
use crate::cgroup::{Group, Usage};
use crate::confine::family;
use crate::profile::{Namespace, Profile};

/// Why a program was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Excess {
    /// It had more memory, all its processes together.
    Memory,
    /// It had more processes and threads.
    Processes,
    /// It lived longer.
    WallClock,
    /// The folders that it may write grew by more.
    Disk,
    /// Its temporary folder held more, or more files.
    Scratch,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Processes => "processes and threads",
            Self::WallClock => "time",
            Self::Disk => "room in its folders",
            Self::Scratch => "room in its temporary folder",
        })
    }
}

/// How often memory, processes and folders are looked at.
const EVERY: Duration = Duration::from_millis(200);

/// The watch over one launch.
pub(super) struct Watch {
    memory: Option<u64>,
    processes: Option<u64>,
    until: Option<Instant>,
    disk: Option<Disk>,
    scratch: Option<Disk>,
    next: Instant,
}

impl Watch {
    /// The watch over a launch of `profile`, whose group `limited` memory and processes if it did. Its folders may grow by what
    /// earlier launches have left of their limit.
    pub(super) fn new(profile: &Profile, limited: bool, left: u64) -> Self {
        let limits = &profile.limits;
        // In a user namespace of its own the kernel counts its processes alone.
        let counted = limited || profile.namespaces.contains(&Namespace::User);
        let now = Instant::now();
        Self {
            memory: limits.cgroup_memory_bytes.filter(|_| !limited),
            processes: limits.processes.filter(|_| !counted),
            until: limits.wall_seconds.and_then(|seconds| now.checked_add(Duration::from_secs(seconds))),
            disk: limits.disk_bytes.and_then(|_| Disk::of_folders(profile, left)),
            scratch: profile.scratch.as_ref().and_then(Disk::of_scratch),
            next: now + EVERY,
        }
    }

    /// When to look next.
    pub(super) fn due(&self) -> Option<Instant> {
        let looks = self.memory.is_some() || self.processes.is_some() || self.disk.is_some() || self.scratch.is_some();
        [looks.then_some(self.next), self.until].into_iter().flatten().min()
    }

    /// Looks, if it is time: what there is too much of.
    pub(super) fn look(&mut self, init: Pid, now: Instant) -> Option<Excess> {
        if self.until.is_some_and(|until| now >= until) {
            return Some(Excess::WallClock);
        }
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        if self.memory.is_some() || self.processes.is_some() {
            let used = family::used(init);
            if self.memory.is_some_and(|most| used.memory_bytes > most) {
                return Some(Excess::Memory);
            }
            if self.processes.is_some_and(|most| used.processes > most) {
                return Some(Excess::Processes);
            }
        }
        if self.scratch.as_mut().is_some_and(Disk::is_over) {
            return Some(Excess::Scratch);
        }
        self.disk.as_mut().is_some_and(Disk::is_over).then_some(Excess::Disk)
    }

    /// By how much its folders have grown, as far as was seen.
    pub(super) fn grown(&self) -> Option<u64> {
        self.disk.as_ref().and_then(Disk::grown)
    }

    /// What the launch uses: as its group counts it, or else as its processes say.
    pub(super) fn usage(&self, init: Pid, group: Option<&Group>) -> Usage {
        let usage = Usage { disk_grown_bytes: self.grown(), ..group.map(Group::usage).unwrap_or_default() };
        if usage.memory_bytes.is_some() {
            return usage;
        }
        let used = family::used(init);
        Usage { memory_bytes: Some(used.memory_bytes), processes: Some(used.processes), ..usage }
    }
}
