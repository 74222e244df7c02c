//! Processes, and waiting for what they do.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `found` finds something.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// A process: its id, and when it started, so that another one with the same id is another one.
pub type Process = (i32, u64);

/// Name, state, parent and start of a process.
fn stat(pid: i32) -> Option<(String, char, i32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = tail.split(' ').collect();
    let name = head.split_once('(')?.1.to_owned();
    Some((name, fields[0].chars().next()?, fields[1].parse().ok()?, fields[19].parse().ok()?))
}

/// `root` and all that it started, by name.
pub fn family(root: i32) -> Vec<(String, Process)> {
    let all: BTreeMap<i32, _> = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect();
    let within = |pid: i32| {
        let ancestors = std::iter::successors(Some(pid), |pid| all.get(pid).map(|stat| stat.2));
        ancestors.take(64).any(|ancestor| ancestor == root)
    };
    let members = all.iter().filter(|(pid, _)| within(**pid));
    members.map(|(pid, (name, _, _, started))| (name.clone(), (*pid, *started))).collect()
}

/// Whether it is gone. A zombie is: what is left of it waits for a parent to ask.
pub fn is_gone((pid, started): Process) -> bool {
    stat(pid).is_none_or(|(_, state, _, at)| at != started || matches!(state, 'Z' | 'X'))
}
