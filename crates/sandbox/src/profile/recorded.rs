//! The filter of a program whose refused calls are recorded: the same verdicts, asked for at somebody who keeps count.
//!
//! A thread can have one listener for all its filters, and of several filters' answers the strictest counts: kill before errno
//! before a question before permission. So only the allow-list asks. Kills stay kills, and the calls that get `ENOSYS` so
//! that libraries fall back get it as ever, from the first program, and are not recorded: nothing is lost by them.
//!
//! **Refused calls.** The compiled allow-list returns an errno in one place; there it asks instead, and [`Answers`] gives
//! that errno for every call. When nobody listens any more the kernel answers `ENOSYS`: no call is ever allowed for that.
//!
//! **Observed calls** (learn mode). The allow-list then asks about some calls that it allows, too, to see where a program
//! looks. Those may go on after they were seen. That decides nothing: a program of its own refuses, with an errno, what the
//! data do not allow of these calls, and an errno is stricter than a question. So whoever receives a question about an
//! observed call knows from its number alone that every filter allows it with these arguments, and that mounts, Landlock
//! and file modes judge it afterwards as they always do. Nothing read from the program's memory has a part in the answer.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::{SeccompAction, SeccompFilter, TargetArch, sock_filter};
use serde::{Deserialize, Serialize};

use super::seccomp::{self, BpfProgram, Comparison, CompileFilter, Condition, FilterData, Width};
use super::syscalls;

/// What of a program's calls is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// The calls that the filter refuses.
    Refused,
    /// These, and where the program looks for files: for learn mode, where time does not matter.
    Looks,
}

/// Calls that name files, hosts or programs, and that learn mode observes where the data allow them.
pub const OBSERVED: [&str; 37] = [
    "access",
    "chdir",
    "chmod",
    "connect",
    "creat",
    "execve",
    "execveat",
    "faccessat",
    "faccessat2",
    "fchmodat",
    "fchmodat2",
    "getxattr",
    "lgetxattr",
    "lstat",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "readlink",
    "readlinkat",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "stat",
    "statfs",
    "statx",
    "symlink",
    "symlinkat",
    "truncate",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimes",
    "futimesat",
];

/// Programs to be installed in their order, the last one with a listener, and what it answers.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The programs.
    pub programs: Vec<BpfProgram>,
    /// What a question is answered with.
    pub answers: Answers,
}

/// What is answered to a call that the filter asks about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// What a refused call gets.
    errno: u32,
    /// The numbers of calls that go on.
    ///
    /// INVARIANT: about each of these the filters ask only when they allow it.
    observed: BTreeSet<i64>,
}

impl Answers {
    /// The errno of a refused call.
    #[must_use]
    pub const fn errno(&self) -> u32 {
        self.errno
    }

    /// Whether the call `number` is one that the filters allow and only want to be seen.
    #[must_use]
    pub fn is_observed(&self, number: i64) -> bool {
        self.observed.contains(&number)
    }
}

/// Compiles `filter` for recording.
///
/// # Errors
/// [`CompileFilter`], also when the filter does not allow the one call that hands the listener out.
pub fn compile(filter: &FilterData, recording: Recording) -> Result<Recorded, CompileFilter> {
    if !is_possible(filter) {
        return Err(CompileFilter::Unrecordable { why: "it does not allow sendmsg" });
    }
    let observed: BTreeMap<&str, i64> = match recording {
        Recording::Refused => BTreeMap::new(),
        Recording::Looks => OBSERVED
            .into_iter()
            .filter(|name| filter.allow.contains_key(*name) && !filter.enosys.contains(*name))
            .filter_map(|name| Some((name, syscalls::number(name)?)))
            .collect(),
    };
    let asking = FilterData { allow: without(filter, |name| observed.contains_key(name)), ..filter.clone() };
    let mut programs = seccomp::compile(&asking)?;
    let allow_list = programs.pop().unwrap_or_default();
    if !observed.is_empty() {
        programs.push(refusing(filter, &observed)?);
    }
    programs.push(ask_instead(allow_list, filter.default_errno)?);
    let answers = Answers { errno: filter.default_errno, observed: observed.into_values().collect() };
    Ok(Recorded { programs, answers })
}

/// Whether the calls of `filter` can be recorded: it must allow sendmsg(2) with MSG_NOSIGNAL, by which the listener leaves the
/// process that has just installed it.
#[must_use]
pub fn is_possible(filter: &FilterData) -> bool {
    allows(filter, "sendmsg", &[0, 0, 0x4000, 0, 0, 0])
}

fn without(filter: &FilterData, leave_out: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<Vec<Condition>>> {
    filter.allow.iter().filter(|(name, _)| !leave_out(name)).map(|(name, any)| (name.clone(), any.clone())).collect()
}

/// The program that refuses what the data do not allow of the observed calls, and leaves all others to the rest.
fn refusing(filter: &FilterData, observed: &BTreeMap<&str, i64>) -> Result<BpfProgram, CompileFilter> {
    /// Beyond every number that a kernel has; what lies beyond this is refused here.
    const NUMBERS: std::ops::Range<i64> = 0..512;
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| CompileFilter::Architecture(std::env::consts::ARCH))?;
    let conditional: BTreeMap<String, Vec<Vec<Condition>>> = observed
        .keys()
        .filter_map(|name| filter.allow.get(*name).map(|any| ((*name).to_owned(), any.clone())))
        .filter(|(_, any)| !any.is_empty())
        .collect();
    let mut rules = seccomp::numbered(&conditional)?;
    for number in NUMBERS {
        rules.entry(number).or_default();
    }
    let errno = SeccompAction::Errno(filter.default_errno);
    // Without the shortcuts: this program is for learning, not for speed.
    Ok(SeccompFilter::new(rules, errno, SeccompAction::Allow, arch)?.try_into()?)
}

/// Makes a compiled allow-list ask where it would return `errno`. Nothing else in it changes.
fn ask_instead(program: BpfProgram, errno: u32) -> Result<BpfProgram, CompileFilter> {
    let refusal = libc::SECCOMP_RET_ERRNO | (errno & libc::SECCOMP_RET_DATA);
    let returns = |instruction: &sock_filter| u32::from(instruction.code) == libc::BPF_RET | libc::BPF_K;
    let known = [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_KILL_PROCESS, refusal];
    if program.iter().any(|instruction| returns(instruction) && !known.contains(&instruction.k)) {
        return Err(CompileFilter::Unrecordable { why: "its compiled form has an answer that is not known" });
    }
    let mut program = program;
    let mut changed = 0;
    for instruction in program.iter_mut().filter(|instruction| returns(instruction) && instruction.k == refusal) {
        instruction.k = libc::SECCOMP_RET_USER_NOTIF;
        changed += 1;
    }
    if changed == 0 {
        return Err(CompileFilter::Unrecordable { why: "its compiled form refuses nothing" });
    }
    Ok(program)
}

/// Whether `filter` allows the call `name` with `args`; a call that gets `ENOSYS` is not allowed.
#[must_use]
pub fn allows(filter: &FilterData, name: &str, args: &[u64; 6]) -> bool {
    if filter.enosys.contains(name) {
        return false;
    }
    let holds = |condition: &Condition| args.get(usize::from(condition.arg)).is_some_and(|arg| holds(condition, *arg));
    filter.allow.get(name).is_some_and(|any| any.is_empty() || any.iter().any(|all| all.iter().all(holds)))
}

/// Whether `condition` holds for the argument `arg`, as the compiled filter sees it.
fn holds(condition: &Condition, arg: u64) -> bool {
    let seen = |value: u64| match condition.width {
        Width::Dword => value & u64::from(u32::MAX),
        Width::Qword => value,
    };
    match condition.is {
        Comparison::Eq(value) => seen(arg) == seen(value),
        Comparison::Ne(value) => seen(arg) != seen(value),
        Comparison::Le(value) => seen(arg) <= seen(value),
        Comparison::Masked { mask, value } => seen(arg & mask) == seen(value & mask),
    }
}
