//! Calls at random: what nobody thought of. Inside, anything may come of them; outside, nothing may change.
//!
//! Processes that do nothing else make them, one after the other: any number of the table, with arguments that mean something
//! here and there (descriptors, flags, addresses of names and of random bytes). A seed makes the same calls again.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open};

use super::run::{self, BatteryFailed};
use super::setting::Setting;
use super::stage::Stage;
use super::{Attempt, Needs, Scene, Stop, Tried};
use crate::profile::Layer::Seccomp;
use crate::sys::{self, Forked, exit_now, fork_process, kill_process, wait_for};

/// How long the battery's own row takes.
const MOMENT: Duration = Duration::from_millis(60);

/// How many calls one process makes before the next begins anew.
const CALLS: usize = 400;

/// How long one process may take; a call that waits ends with it.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The last row of the battery: the calls may well end the probe itself.
pub(super) const ATTEMPTS: &[Attempt] =
    &[Attempt::new("kernel.36", "call at random, for a moment", &[], &[Seccomp], moment)
        .judged_outside()
        .needs(Needs::NobodysFolders)
        .without_control("unconfined it would do harm: it calls anything with anything")];

fn moment(scene: &Scene) -> Tried {
    at_random(scene, MOMENT)
}

/// Calls at random under `setting` for about `time`, and returns the marks outside that changed: none, if all is well.
///
/// # Errors
/// [`BatteryFailed`] when the probe cannot be started.
pub fn soak(setting: &Setting, time: Duration) -> Result<BTreeSet<String>, BatteryFailed> {
    let begun = Instant::now();
    let mut changed = BTreeSet::new();
    let chosen: Vec<&Attempt> = ATTEMPTS.iter().collect();
    while begun.elapsed() < time && changed.is_empty() {
        let mut stage = Stage::build(run::outside_ids())?;
        run::launch(&mut stage, setting, &chosen, &BTreeSet::new())?;
        changed.extend(stage.changed());
    }
    Ok(changed)
}

fn at_random(scene: &Scene, time: Duration) -> Tried {
    let mut seed = [0; 8];
    SystemRandom::new().fill(&mut seed).map_err(|_| Stop::Cannot("no random numbers".into()))?;
    let seed = u64::from_le_bytes(seed);
    let (begun, mut processes) = (Instant::now(), 0_u64);
    while begun.elapsed() < time {
        let mut random = Random(seed.wrapping_add(processes).max(1));
        match fork_process()? {
            Forked::Child => call(scene, &mut random),
            Forked::Parent(child) => {
                let over = pidfd_open(child, PidfdFlags::empty())?;
                let _ = poll(&mut [PollFd::new(&over, PollFlags::IN)], Some(&PATIENCE));
                let _ = kill_process(child, Signal::KILL);
                // The calls may have reaped it already, or have killed everything but this.
                let _ = wait_for(child);
            }
        }
        processes += 1;
    }
    if processes == 0 { Err(Stop::Nothing) } else { Ok(format!("{processes} processes, seed {seed:#x}")) }
}

/// xorshift64*: the same numbers from the same seed.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0).checked_rem(end).unwrap_or(0)
    }

    fn of<T: Copy>(&mut self, choice: &[T], otherwise: T) -> T {
        let at = self.below(choice.len());
        choice.get(at).copied().unwrap_or(otherwise)
    }
}

/// Calls that make processes are attempts of their own; here they would only multiply this.
const PROCESSES: [libc::c_long; 3] = [libc::SYS_clone, libc::SYS_clone3, libc::SYS_exit_group];

fn call(scene: &Scene, random: &mut Random) -> ! {
    // Its streams are the probe's, whose lines are read; nothing of this process is to be heard.
    if sys::arrange_fds(&[None, None, None]).is_err() {
        exit_now(1);
    }
    let paths = [scene.outside().join("own"), scene.outside().join("writable"), scene.read_only().join("writable")];
    let words = [scene.root.clone(), "/tmp".into(), "/proc/self/mem".into(), "..".into(), "tmpfs".into()];
    let texts: Vec<CString> =
        paths.iter().chain(&words).filter_map(|path| CString::new(path.as_os_str().as_bytes()).ok()).collect();
    let bytes: Vec<u64> = (0..1024).map(|_| random.next()).collect();
    let mut addresses: Vec<u64> = texts.iter().map(|text| text.as_ptr().addr()).map(wide).collect();
    addresses.extend(bytes.iter().step_by(64).map(|word| wide(std::ptr::from_ref(word).addr())));
    for _ in 0..CALLS {
        let number = libc::c_long::try_from(random.below(470)).unwrap_or(0);
        if PROCESSES.contains(&number) {
            continue;
        }
        let arguments = std::array::from_fn(|_| argument(random, scene, &addresses));
        let _ = sys::probe::anything(number, arguments);
    }
    exit_now(0)
}

fn wide(address: usize) -> u64 {
    u64::try_from(address).unwrap_or(0)
}

fn argument(random: &mut Random, scene: &Scene, addresses: &[u64]) -> u64 {
    match random.below(8) {
        0..3 => random.of(addresses, 0),
        3 | 4 => random.next() & 0xf,
        5 => 1_u64 << (random.next() & 0x1f),
        6 => random.of(&[u64::MAX, u64::MAX - 99, u64::from(scene.victim.unsigned_abs()), 4096, 0], 0),
        _ => random.next(),
    }
}
