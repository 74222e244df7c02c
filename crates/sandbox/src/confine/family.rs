//! The processes below one: looking at them and ending them where no process namespace does it.
//!
//! A descendant cannot leave: whose parent ends becomes the child of the nearest ancestor that asked for it
//! (`PR_SET_CHILD_SUBREAPER`), which the init of such a launch and the launcher do.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::sys;

/// A process below another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relative {
    pub(crate) pid: Pid,
    parent: Pid,
}

/// The most that is looked at in one go: more than any limit lets exist.
const MOST: usize = 100_000;

/// How often processes that go on making others are gone after. Each round ends all that there are.
const ROUNDS: usize = 10_000;

/// Every process below `root`, as far as it can be seen in one go, but for those below `spared`.
///
/// proc(5) does not promise that no child is left out while processes come and go: what must be complete is repeated.
pub(crate) fn below(root: Pid, spared: &[Pid]) -> Vec<Relative> {
    let mut found: Vec<Relative> = children(root).into_iter().filter(|child| !spared.contains(&child.pid)).collect();
    let mut at = 0;
    while let Some(relative) = found.get(at).copied() {
        at += 1;
        if found.len() < MOST {
            found.extend(children(relative.pid));
        }
    }
    found
}

/// The children of all threads of `parent`.
fn children(parent: Pid) -> Vec<Relative> {
    let number = parent.as_raw_nonzero();
    let Ok(threads) = fs::read_dir(format!("/proc/{number}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        let Ok(text) = fs::read_to_string(thread.path().join("children")) else { continue };
        let pids = text.split_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw));
        found.extend(pids.map(|pid| Relative { pid, parent }));
    }
    found
}

/// State and parent of a process, from `/proc/PID/stat`; the second field, the name, may hold anything.
fn state(pid: Pid) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

impl Relative {
    /// Kills it. A number that has come to mean another process meanwhile is left alone: the handle is taken first, and
    /// then its parent is looked at. Says whether it lived.
    fn kill(self) -> bool {
        let Ok(handle) = pidfd_open(self.pid, PidfdFlags::empty()) else { return false };
        match state(self.pid) {
            Some((state, parent)) if parent == self.parent.as_raw_nonzero().get() && !matches!(state, 'Z' | 'X') => {
                pidfd_send_signal(&handle, Signal::KILL) == Ok(())
            }
            _ => false,
        }
    }
}

/// Ends and reaps every process below the calling one, but for `spared` and what is below them. For a process that asked to
/// become the parent of its descendants. Says whether nothing is left.
///
/// What has ended is reaped only when nothing lives any more: until then it counts against its user's processes, so that one
/// that forks without end comes to its limit instead of taking the freed places.
pub(crate) fn end_all(spared: &[Pid]) -> bool {
    let own = rustix::process::getpid();
    for _ in 0..ROUNDS {
        let relatives = below(own, spared);
        if relatives.is_empty() {
            return true;
        }
        let lived = relatives.iter().filter(|relative| relative.kill()).count();
        if lived == 0 {
            for relative in relatives.iter().filter(|relative| relative.parent == own) {
                let _ = sys::reap(relative.pid);
            }
        }
        std::thread::yield_now();
    }
    false
}

/// What processes use, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Use {
    /// Memory that is theirs: anonymous, shared without a file, swapped out; in bytes. What several map counts for each.
    pub(crate) memory_bytes: u64,
    /// Processes and threads.
    pub(crate) processes: u64,
}

/// What the processes below `init` use.
pub(crate) fn used(init: Pid) -> Use {
    let mut sum = Use::default();
    for relative in below(init, &[]) {
        let path = format!("/proc/{}/status", relative.pid.as_raw_nonzero());
        let Ok(text) = fs::read_to_string(path) else { continue };
        let parent = i32::try_from(number(&text, "PPid:")).ok();
        if parent == Some(relative.parent.as_raw_nonzero().get()) {
            let kilobytes: u64 = ["RssAnon:", "RssShmem:", "VmSwap:"].iter().map(|name| number(&text, name)).sum();
            sum.memory_bytes = sum.memory_bytes.saturating_add(kilobytes.saturating_mul(1024));
            sum.processes += number(&text, "Threads:");
        }
    }
    sum
}

/// The number behind `name` in a `/proc/PID/status`; line breaks in the process's name are escaped there.
fn number(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The tasks of the calling process's user on this machine, threads included: what `RLIMIT_NPROC` is compared with.
pub(crate) fn tasks_of_own_user() -> Result<u64, Errno> {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::getuid().as_raw();
    let is_own = |path: &std::path::Path, owner: u32| {
        // What shows its memory to nobody belongs to root there, whoever runs it.
        let status = || fs::read_to_string(path.join("status")).unwrap_or_default();
        owner == own || (owner == 0 && number(&status(), "Uid:") == u64::from(own))
    };
    let mut tasks = 0;
    let entries = fs::read_dir("/proc").map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    for entry in entries.flatten() {
        let is_process = entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_process || !entry.metadata().is_ok_and(|meta| is_own(&entry.path(), meta.uid())) {
            continue;
        }
        tasks += fs::metadata(entry.path().join("task")).map_or(1, |meta| meta.nlink().saturating_sub(2).max(1));
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_read_by_line() {
        let status = "Name:\tRssAnon: 9 kB\\nPPid:\t1\nPPid:\t7\nRssAnon:\t    1024 kB\nVmSwap:\t 1 kB\nThreads:\t3\n";
        assert_eq!((number(status, "RssAnon:"), number(status, "PPid:"), number(status, "Threads:")), (1024, 7, 3));
        assert_eq!(number(status, "RssShmem:"), 0);
    }

    #[test]
    fn own_tasks_are_counted() {
        assert!(tasks_of_own_user().expect("counted") >= 1);
    }
}
