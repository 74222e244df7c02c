//! Control groups of version 2: a group for each launch, in a part of the tree that belongs to Sigil.
//!
//! The launcher makes its own folder in the group that it runs in (or in one that is named to it), and below it one for each
//! launch. What can be had there is found out by doing it: folders, then the controllers `memory`, `pids` and `cpu`. Where the
//! controllers are bound to version 1, or the group holds processes that are not Sigil's, groups can still be killed and
//! frozen as a whole. See cgroups(7) and the kernel's `cgroup-v2.rst`.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, flock, fstatfs, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::profile::Limits;

/// What there is of control groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offer {
    /// Nothing, and why.
    Nothing(String),
    /// Groups, which can be killed and frozen; and why there are no limits.
    Groups(String),
    /// Groups with limits of memory, processes and processor time.
    Limits,
}

impl Offer {
    /// Whether there are limits.
    #[must_use]
    pub const fn limits(&self) -> bool {
        matches!(self, Self::Limits)
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing(why) => write!(f, "no control group can be made: {why}"),
            Self::Groups(why) => write!(f, "control groups can be made, but not limited: {why}"),
            Self::Limits => f.write_str("control groups with limits of memory, processes and processor time"),
        }
    }
}

/// The controllers that limits need.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// What Sigil's own folders are called, and those of launches in them.
const OWN: &str = "sigil-";
const LAUNCH: &str = "launch-";
/// Where Sigil's own processes go, because a group with limits for its children may hold none itself.
const SELF: &str = "self";

/// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
const CGROUP2: i64 = 0x6367_7270;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Sigil's part of the tree. Removed when it is dropped, as far as nothing runs in it.
#[derive(Debug)]
pub(crate) struct Groups {
    base: OwnedFd,
    name: String,
    folder: OwnedFd,
    limits: bool,
    made: u64,
}

/// The group of one launch. Removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Group {
    parent: OwnedFd,
    name: String,
    folder: OwnedFd,
    limited: bool,
}

impl Groups {
    /// Makes Sigil's folder in the group `base`, or in the one that this process is in, and removes what Sigils that are gone
    /// have left there.
    pub(crate) fn open(base: Option<&Path>) -> (Option<Self>, Offer) {
        match Self::make(base) {
            Ok((groups, None)) => (Some(groups), Offer::Limits),
            Ok((groups, Some(why))) => (Some(groups), Offer::Groups(why)),
            Err(why) => (None, Offer::Nothing(why)),
        }
    }

    fn make(base: Option<&Path>) -> Result<(Self, Option<String>), String> {
        let path = match base {
            Some(path) => path.to_owned(),
            None => own_group()?,
        };
        let say = |what: &str, errno: Errno| format!("{what} {}: {errno}", path.display());
        let base = openat(CWD, &path, FOLDER, Mode::empty()).map_err(|errno| say("cannot open", errno))?;
        let kind = fstatfs(&base).map_err(|errno| say("cannot look at", errno))?.f_type;
        if kind as i64 != CGROUP2 {
            return Err(format!("{} is no control group of version 2", path.display()));
        }
        sweep(&base);
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{OWN}{}-{number}", rustix::process::getpid().as_raw_nonzero());
        match mkdirat(&base, &name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(say("cannot make a group in", errno)),
        }
        let folder =
            openat(&base, &name, FOLDER, Mode::empty()).map_err(|errno| say("cannot open a group in", errno))?;
        // Held as long as this process lives: by it the next one knows that the folder is in use.
        flock(&folder, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| say("cannot lock a group in", errno))?;
        let limits = delegate(&base, &folder);
        let groups = Self { base, name, folder, limits: limits.is_ok(), made: 0 };
        // A group must be had, not only its folder.
        drop(groups.group(0, None).map_err(|errno| say("cannot make a group in", errno))?);
        Ok((groups, limits.err()))
    }

    /// A group for one launch, with the limits that can be had.
    pub(crate) fn launch(&mut self, limits: &Limits) -> Result<Group, Errno> {
        self.made += 1;
        self.group(self.made, self.limits.then_some(limits))
    }

    fn group(&self, number: u64, limits: Option<&Limits>) -> Result<Group, Errno> {
        let name = format!("{LAUNCH}{number}");
        mkdirat(&self.folder, &name, Mode::from_raw_mode(0o755))?;
        let folder = openat(&self.folder, &name, FOLDER, Mode::empty())?;
        let parent = rustix::io::fcntl_dupfd_cloexec(&self.folder, 3)?;
        let group = Group { parent, name, folder, limited: limits.is_some() };
        if let Some(limits) = limits {
            group.limit(limits)?;
        }
        Ok(group)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        remove(&self.base, &self.name, &self.folder);
    }
}

impl Group {
    fn limit(&self, limits: &Limits) -> Result<(), Errno> {
        if let Some(bytes) = limits.cgroup_memory_bytes {
            write(&self.folder, "memory.max", &bytes.to_string())?;
            // Absent where the kernel has no accounting of swap, or no swap at all.
            match write(&self.folder, "memory.swap.max", "0") {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            write(&self.folder, "memory.oom.group", "1")?;
        }
        if let Some(processes) = limits.cgroup_processes {
            // And the init.
            write(&self.folder, "pids.max", &processes.saturating_add(1).to_string())?;
        }
        if let Some(percent) = limits.cgroup_cpu_percent {
            write(&self.folder, "cpu.max", &format!("{} 100000", percent.saturating_mul(1000)))?;
        }
        Ok(())
    }

    /// Whether its memory, processes and processor time are limited.
    pub(crate) const fn is_limited(&self) -> bool {
        self.limited
    }

    /// Its folder, for clone3(2).
    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Moves the process `pid` into it.
    pub(crate) fn enter(&self, pid: Pid) -> Result<(), Errno> {
        write(&self.folder, "cgroup.procs", &pid.as_raw_nonzero().to_string())
    }

    /// Whether the process `pid` is in it.
    pub(crate) fn holds(&self, pid: Pid) -> bool {
        let pid = pid.as_raw_nonzero().to_string();
        read(&self.folder, "cgroup.procs").is_some_and(|text| text.lines().any(|line| line == pid))
    }

    /// Kills every process in it, however fast they make others.
    ///
    /// # Errors
    /// `ENOENT` before Linux 5.14.
    pub(crate) fn kill(&self) -> Result<(), Errno> {
        write(&self.folder, "cgroup.kill", "1")
    }

    /// Stops every process in it, or lets them go on.
    #[cfg_attr(not(test), expect(dead_code, reason = "what a person looks into is stopped by it"))]
    pub(crate) fn freeze(&self, stop: bool) -> Result<(), Errno> {
        write(&self.folder, "cgroup.freeze", if stop { "1" } else { "0" })
    }

    /// What its processes use.
    pub(crate) fn usage(&self) -> Usage {
        let number = |name: &str| read(&self.folder, name).and_then(|text| text.trim().parse().ok());
        let field = |text: Option<String>, name: &str| {
            text.and_then(|text| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()))
        };
        Usage {
            memory_bytes: number("memory.current"),
            memory_peak_bytes: number("memory.peak"),
            processes: number("pids.current"),
            disk_grown_bytes: None,
            cpu_micros: field(read(&self.folder, "cpu.stat"), "usage_usec "),
            cpu_pressure: pressure(&self.folder, "cpu.pressure"),
            memory_pressure: pressure(&self.folder, "memory.pressure"),
            io_pressure: pressure(&self.folder, "io.pressure"),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR);
    }
}

/// What a launch uses; nothing where it cannot be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// Memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The most memory that it had, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Processor time, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_micros: Option<u64>,
    /// By how much the folders that it may write have grown since its start, in bytes, as of the last time that all was added up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_grown_bytes: Option<u64>,
    /// Hundredths of percent of the last ten seconds in which something of it waited for a processor (PSI, `some avg10`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_pressure: Option<u32>,
    /// As above, for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_pressure: Option<u32>,
    /// As above, for input and output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_pressure: Option<u32>,
}

/// `some avg10=1.23 …` as 123.
fn pressure(folder: &OwnedFd, name: &str) -> Option<u32> {
    avg10(&read(folder, name)?)
}

fn avg10(text: &str) -> Option<u32> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let value = line.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?;
    let (whole, part) = value.split_once('.')?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)
}

/// Gives `folder`, in the group `base`, the controllers for its children. Says why not.
fn delegate(base: &OwnedFd, folder: &OwnedFd) -> Result<(), String> {
    let has = read(base, "cgroup.controllers").unwrap_or_default();
    if let Some(lacks) = CONTROLLERS.iter().find(|name| !has.split_whitespace().any(|one| one == **name)) {
        return Err(format!("the group has no controller `{lacks}`: it is bound to version 1, or was not delegated"));
    }
    let all: Vec<String> = CONTROLLERS.iter().map(|name| format!("+{name}")).collect();
    let all = all.join(" ");
    let first = write(base, "cgroup.subtree_control", &all);
    if first == Err(Errno::BUSY) {
        step_aside(base, folder)?;
        write(base, "cgroup.subtree_control", &all).map_err(|errno| format!("controllers are refused: {errno}"))?;
    } else {
        first.map_err(|errno| format!("controllers are refused: {errno}"))?;
    }
    write(folder, "cgroup.subtree_control", &all).map_err(|errno| format!("controllers are refused: {errno}"))
}

/// Moves Sigil's own processes out of `base`, if there are no others in it.
fn step_aside(base: &OwnedFd, folder: &OwnedFd) -> Result<(), String> {
    let failed = |errno: Errno| format!("Sigil's own processes cannot be moved aside: {errno}");
    let own = [Some(rustix::process::getpid()), rustix::process::getppid()];
    let own: Vec<i32> = own.into_iter().flatten().map(|pid| pid.as_raw_nonzero().get()).collect();
    let text = read(base, "cgroup.procs").unwrap_or_default();
    let inside: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    if inside.iter().any(|pid| !own.contains(pid)) {
        return Err("the group holds processes that are not Sigil's".to_owned());
    }
    match mkdirat(folder, SELF, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let aside = openat(folder, SELF, FOLDER, Mode::empty()).map_err(failed)?;
    inside.iter().try_for_each(|pid| write(&aside, "cgroup.procs", &pid.to_string())).map_err(failed)
}

/// Removes what Sigils that are gone have left in `base`.
fn sweep(base: &OwnedFd) {
    let Ok(entries) = Dir::read_from(base) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().to_str() else { continue };
        let Ok(folder) = openat(base, name, FOLDER, Mode::empty()) else { continue };
        if name.starts_with(OWN) && flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove(base, name, &folder);
        }
    }
}

/// Kills what runs in the launches of `folder`, and removes it. What has not quite ended keeps its folder until the next time.
fn remove(base: &OwnedFd, name: &str, folder: &OwnedFd) {
    for entry in Dir::read_from(folder).into_iter().flatten().flatten() {
        let Ok(launch) = entry.file_name().to_str() else { continue };
        if launch.starts_with(LAUNCH) {
            if let Ok(group) = openat(folder, launch, FOLDER, Mode::empty()) {
                let _ = write(&group, "cgroup.kill", "1");
            }
            let _ = unlinkat(folder, launch, AtFlags::REMOVEDIR);
        }
    }
    let _ = unlinkat(folder, SELF, AtFlags::REMOVEDIR);
    let _ = unlinkat(base, name, AtFlags::REMOVEDIR);
}

/// The folder of the group that this process is in.
fn own_group() -> Result<PathBuf, String> {
    let text = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let mounts = text("/proc/self/mountinfo")?;
    place(&text("/proc/self/cgroup")?, &mounts).ok_or_else(|| "no control groups of version 2 are mounted".to_owned())
}

/// The folder of the group of `/proc/self/cgroup`, as `/proc/self/mountinfo` has it.
fn place(groups: &str, mounts: &str) -> Option<PathBuf> {
    let own = Path::new(groups.lines().find_map(|line| line.strip_prefix("0::"))?);
    let mounted = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        after.starts_with("cgroup2 ").then_some((root, point))
    });
    let (root, point) = mounted?;
    let rest = own.strip_prefix(root).ok()?;
    let plain = rest.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    plain.then(|| if rest.as_os_str().is_empty() { PathBuf::from(point) } else { Path::new(point).join(rest) })
}

fn write(folder: &OwnedFd, name: &str, text: &str) -> Result<(), Errno> {
    let file = openat(folder, name, OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

fn read(folder: &OwnedFd, name: &str) -> Option<String> {
    use std::io::Read;
    let file = openat(folder, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = String::new();
    std::fs::File::from(file).take(1 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests;
