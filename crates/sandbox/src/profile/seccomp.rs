//! From a filter as data to the BPF programs that the kernel loads.
//!
//! Two programs, to be installed in this order: the first kills what comes from another architecture or in the x32 form, and
//! answers `ENOSYS` to the calls that have an older form whose arguments can be read here; the second is the allow-list.
//! Both run at each call and the stricter result counts; of two errno results the one installed last counts, which is why
//! a call that shall give `ENOSYS` stands in the allow-list too.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    sock_filter,
};
use serde::{Deserialize, Serialize};
use sigil_types::Code;

use super::{shortcuts, syscalls};

/// A system call filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterData {
    /// What a call gets that is not allowed (`EPERM`).
    pub default_errno: u32,
    /// Calls that get `ENOSYS`, so that a C library falls back to an older one whose arguments can be read here.
    pub enosys: BTreeSet<String>,
    /// The calls that are allowed, by name. No alternative: always. Otherwise one alternative must hold.
    pub allow: BTreeMap<String, Vec<Alternative>>,
}

impl FilterData {
    /// The filter that allows no call.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { default_errno: libc::EPERM.unsigned_abs(), enosys: BTreeSet::new(), allow: BTreeMap::new() }
    }
}

/// Conditions on the arguments of one call, all of which must hold.
pub type Alternative = Vec<Condition>;

/// One condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Which argument, from 0.
    pub arg: u8,
    /// How many of its bits the kernel looks at.
    #[serde(default)]
    pub width: Width,
    /// How it is compared.
    pub is: Comparison,
}

/// How many bits of an argument the kernel looks at. A filter that compares more can be passed by setting the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Width {
    /// 32 bits: the argument is an `int`.
    #[default]
    Dword,
    /// 64 bits: the argument is a `long` or a pointer.
    Qword,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// It is this value.
    Eq(u64),
    /// It is not this value.
    Ne(u64),
    /// It is less than or equal to this value.
    Le(u64),
    /// Of the bits of this mask, it has exactly those of this value.
    Masked {
        /// The bits that are looked at.
        mask: u64,
        /// What they must be.
        value: u64,
    },
}

/// A program for the kernel's classic BPF machine.
pub type BpfProgram = Vec<sock_filter>;

/// Why a filter cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileFilter {
    /// A name that no system call has.
    #[error("`{name}` is no system call; correct its spelling in the profile")]
    Unknown {
        /// The name.
        name: String,
    },
    /// A call that shall give `ENOSYS` and is not in the allow-list, so that the other errno would win.
    #[error("`{name}` stands in the list for ENOSYS but not in the allow-list; the allow-list's errno would win")]
    Hidden {
        /// The name.
        name: String,
    },
    /// This processor architecture has no filter.
    #[error("there is no system call filter for the architecture {0}")]
    Architecture(&'static str),
    /// The filter does not let its own start report to a recorder.
    #[error(
        "refused calls cannot be recorded under this filter: {why}; take the recording away, or correct the profile"
    )]
    Unrecordable {
        /// Why not.
        why: &'static str,
    },
    /// The compiler of filters refused.
    #[error("the filter cannot be compiled: {0}")]
    Backend(#[from] seccompiler::BackendError),
}

impl CompileFilter {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Unknown { .. } => const { Code::new("sandbox.filter.call.unknown") },
            Self::Hidden { .. } => const { Code::new("sandbox.filter.enosys.hidden") },
            Self::Architecture(_) => const { Code::new("sandbox.filter.architecture.unsupported") },
            Self::Unrecordable { .. } => const { Code::new("sandbox.filter.recording.impossible") },
            Self::Backend(_) => const { Code::new("sandbox.filter.backend.refused") },
        }
    }
}

/// Compiles `filter`; the programs are to be installed in the order in which they come.
///
/// # Errors
///
/// [`CompileFilter`] when a name is unknown, stands twice, or when the architecture has no filter.
pub fn compile(filter: &FilterData) -> Result<Vec<BpfProgram>, CompileFilter> {
    build(filter, true)
}

/// As [`compile`], without the shortcuts, to compare with.
#[cfg(test)]
pub(super) fn compile_plain(filter: &FilterData) -> Result<Vec<BpfProgram>, CompileFilter> {
    build(filter, false)
}

/// A program that refuses (`EPERM`) the calls named here, each when one of its alternatives holds, or always when that has no
/// condition, and lets everything else through.
pub(crate) fn refuse(calls: &[(&str, &[&[Condition]])]) -> Result<BpfProgram, CompileFilter> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| CompileFilter::Architecture(std::env::consts::ARCH))?;
    let owned = |alternatives: &[&[Condition]]| {
        if alternatives.iter().any(|all| all.is_empty()) {
            return Vec::new();
        }
        alternatives.iter().map(|all| all.to_vec()).collect()
    };
    let calls = calls.iter().map(|(name, alternatives)| ((*name).to_owned(), owned(alternatives))).collect();
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    Ok(SeccompFilter::new(numbered(&calls)?, SeccompAction::Allow, refused, arch)?.try_into()?)
}

fn build(filter: &FilterData, shortcuts: bool) -> Result<Vec<BpfProgram>, CompileFilter> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| CompileFilter::Architecture(std::env::consts::ARCH))?;
    let errno = SeccompAction::Errno(filter.default_errno);
    let allowed = numbered(&filter.allow)?;

    let mut absent = BTreeMap::new();
    for name in &filter.enosys {
        if !syscalls::is_known(name) {
            return Err(CompileFilter::Unknown { name: name.clone() });
        }
        let Some(number) = syscalls::number(name) else { continue };
        if !allowed.contains_key(&number) {
            return Err(CompileFilter::Hidden { name: name.clone() });
        }
        absent.insert(number, Vec::new());
    }
    let enosys = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let first: BpfProgram = SeccompFilter::new(absent, SeccompAction::Allow, enosys, arch)?.try_into()?;
    let second: BpfProgram = SeccompFilter::new(allowed.clone(), errno, SeccompAction::Allow, arch)?.try_into()?;
    let second = if shortcuts { shortcuts::insert(second, &allowed, arch) } else { second };
    Ok(vec![with_x32_guard(first), second])
}

pub(super) fn numbered(
    rules: &BTreeMap<String, Vec<Alternative>>,
) -> Result<BTreeMap<i64, Vec<SeccompRule>>, CompileFilter> {
    let mut numbered = BTreeMap::new();
    for (name, alternatives) in rules {
        if !syscalls::is_known(name) {
            return Err(CompileFilter::Unknown { name: name.clone() });
        }
        // A call that only other architectures have needs no rule here.
        let Some(number) = syscalls::number(name) else { continue };
        let alternatives = alternatives.iter().map(|all| alternative(all)).collect::<Result<Vec<_>, _>>()?;
        numbered.insert(number, alternatives);
    }
    Ok(numbered)
}

fn alternative(conditions: &[Condition]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions.iter().map(|condition| {
        let width = match condition.width {
            Width::Dword => SeccompCmpArgLen::Dword,
            Width::Qword => SeccompCmpArgLen::Qword,
        };
        let (op, value) = match condition.is {
            Comparison::Eq(value) => (SeccompCmpOp::Eq, value),
            Comparison::Ne(value) => (SeccompCmpOp::Ne, value),
            Comparison::Le(value) => (SeccompCmpOp::Le, value),
            Comparison::Masked { mask, value } => (SeccompCmpOp::MaskedEq(mask), value),
        };
        SeccompCondition::new(condition.arg, width, op, value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// Puts the check of the x32 form of a call behind the check of the architecture, with which the program starts.
///
/// INVARIANT: jumps of classic BPF are relative, so instructions may be put where none jumps over. The compiler's first
/// three are: load the architecture, skip one if it is ours, kill.
fn with_x32_guard(program: BpfProgram) -> BpfProgram {
    const ARCHITECTURE_CHECK: usize = 3;
    /// `__X32_SYSCALL_BIT`; numbers from it upwards, and negative ones, are no calls of the 64-bit form.
    const X32_BIT: u32 = 0x4000_0000;
    let instruction = |code: u32, jf: u8, k: u32| sock_filter { code: code as u16, jt: 0, jf, k };
    let guard = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32_BIT),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let mut guarded = program;
    let at = ARCHITECTURE_CHECK.min(guarded.len());
    guarded.splice(at..at, guard);
    guarded
}
