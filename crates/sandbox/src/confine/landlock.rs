//! Landlock: the rights of the profile, by name, on the descriptors that were opened before.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use landlock::{
    AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::failure::{At, Failure, Stage};
use super::prepared::Prepared;
use super::sources::Source;
use super::start::OWN;
use crate::profile::{Access, Landlock, ProcMode, Right};
use crate::report::LayerReport;
use crate::sys;

/// Whether a right makes sense on a file that is no folder.
pub(super) const fn is_of_files(right: Right) -> bool {
    matches!(right, Right::Execute | Right::WriteFile | Right::ReadFile | Right::Truncate | Right::IoctlDev)
}

const fn fs_right(right: Right) -> Option<AccessFs> {
    Some(match right {
        Right::Execute => AccessFs::Execute,
        Right::WriteFile => AccessFs::WriteFile,
        Right::ReadFile => AccessFs::ReadFile,
        Right::ReadDir => AccessFs::ReadDir,
        Right::RemoveDir => AccessFs::RemoveDir,
        Right::RemoveFile => AccessFs::RemoveFile,
        Right::MakeChar => AccessFs::MakeChar,
        Right::MakeDir => AccessFs::MakeDir,
        Right::MakeReg => AccessFs::MakeReg,
        Right::MakeSock => AccessFs::MakeSock,
        Right::MakeFifo => AccessFs::MakeFifo,
        Right::MakeBlock => AccessFs::MakeBlock,
        Right::MakeSym => AccessFs::MakeSym,
        Right::Refer => AccessFs::Refer,
        Right::Truncate => AccessFs::Truncate,
        Right::IoctlDev => AccessFs::IoctlDev,
        Right::BindTcp | Right::ConnectTcp | Right::ScopeAbstractUnix | Right::ScopeSignal => return None,
    })
}

const fn net_right(right: Right) -> Option<AccessNet> {
    match right {
        Right::BindTcp => Some(AccessNet::BindTcp),
        Right::ConnectTcp => Some(AccessNet::ConnectTcp),
        _ => None,
    }
}

const fn scope(right: Right) -> Option<Scope> {
    match right {
        Right::ScopeAbstractUnix => Some(Scope::AbstractUnixSocket),
        Right::ScopeSignal => Some(Scope::Signal),
        _ => None,
    }
}

/// The version of the kernel's interface from which what is logged can be chosen.
const LOGS: u32 = 7;

fn refuse(error: &RulesetError) -> Failure {
    Failure { stage: Stage::Landlock, errno: 0, what: error.to_string() }
}

/// What may be done with one file or folder and everything below it.
pub(super) struct Rule<'a> {
    /// The file or folder.
    pub(super) fd: BorrowedFd<'a>,
    /// What may be done.
    pub(super) rights: &'a [Right],
}

/// Restricts the calling process to its profile, and writes into `report` what the kernel knows.
pub(super) fn restrict(prepared: &Prepared, sources: &[Source], report: &mut LayerReport) -> Result<(), Failure> {
    let own = own_files(prepared)?;
    let bound = sources.iter().filter_map(|source| match source {
        Source::Tree { fd, rights, .. } => Some(Rule { fd: fd.as_fd(), rights }),
        Source::Link { .. } => None,
    });
    let own = own.iter().map(|(fd, rights)| Rule { fd: fd.as_fd(), rights });
    let program = Rule { fd: sys::fixed_fd(OWN), rights: &[Right::Execute, Right::ReadFile] };
    let program = prepared.is_probe().then_some(program);
    let rules = bound.chain(own).chain(program);
    enforce(&prepared.profile().landlock, prepared.least_abi(), rules, prepared.proxy_port(), report)
}

/// Restricts the calling thread, and those that it makes later, to `rules` and to TCP connections to `port`.
pub(super) fn enforce<'a>(
    wanted: &Landlock,
    least_abi: u32,
    rules: impl Iterator<Item = Rule<'a>>,
    port: Option<u16>,
    report: &mut LayerReport,
) -> Result<(), Failure> {
    let abi = sys::landlock_abi();
    report.landlock_abi = abi;
    if abi < least_abi {
        let what = format!("Landlock ABI {abi}, but the profile needs {least_abi}");
        return Err(Failure { stage: Stage::Landlock, errno: 0, what });
    }
    let known = |right: &Right| right.since() <= abi;
    report.landlock_unknown = wanted.handled.iter().copied().filter(|right| !known(right)).collect();
    if let Some(right) = wanted.required.iter().find(|right| !known(right) || !wanted.handled.contains(right)) {
        return Err(Failure { stage: Stage::Landlock, errno: 0, what: format!("the required right {right:?}") });
    }
    let handled: Vec<Right> = wanted.handled.iter().copied().filter(known).collect();
    let files: BitFlags<AccessFs> = handled.iter().copied().filter_map(fs_right).collect();
    let net: BitFlags<AccessNet> = handled.iter().copied().filter_map(net_right).collect();
    let scopes: BitFlags<Scope> = handled.iter().copied().filter_map(scope).collect();

    let built = || -> Result<RulesetCreated, RulesetError> {
        // Hard: every right was checked against the kernel's version above, so each must be had.
        let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(files)?;
        if !net.is_empty() {
            ruleset = ruleset.handle_access(net)?;
        }
        if !scopes.is_empty() {
            ruleset = ruleset.scope(scopes)?;
        }
        ruleset.create()
    };
    let mut ruleset = built().map_err(|error| refuse(&error))?;
    for Rule { fd, rights } in rules {
        let rights: BitFlags<AccessFs> = rights.iter().copied().filter_map(fs_right).collect();
        let rights = rights & files;
        if !rights.is_empty() {
            ruleset = ruleset.add_rule(PathBeneath::new(fd, rights)).map_err(|error| refuse(&error))?;
        }
    }
    if let (Some(port), true) = (port, net.contains(AccessNet::ConnectTcp)) {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp)).map_err(|error| refuse(&error))?;
    }
    if abi >= LOGS {
        // Where audit is on, what is refused after an execve(2) is worth a record; Sigil's own tries before it are not.
        let logged = ruleset.log_new_exec(true).and_then(|ruleset| ruleset.log_same_exec(false));
        ruleset = logged.map_err(|error| refuse(&error))?;
    }
    ruleset.restrict_self().map_err(|error| refuse(&error))?;
    Ok(())
}

/// What exists only in the new root, with its rights.
fn own_files(prepared: &Prepared) -> Result<Vec<(OwnedFd, Vec<Right>)>, Failure> {
    if !prepared.makes_root() {
        return Ok(Vec::new());
    }
    let profile = prepared.profile();
    let open = |path: &std::path::Path| -> Result<OwnedFd, Errno> {
        openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    };
    let open = |path: &std::path::Path| open(path).at_what(Stage::Landlock, || path.display().to_string());
    let mut opened = Vec::new();
    for tmpfs in &profile.tmpfs {
        opened.push((open(&tmpfs.path)?, Access::Scratch.rights().to_vec()));
    }
    for file in &profile.files {
        opened.push((open(&file.path)?, vec![Right::ReadFile]));
    }
    if profile.proc == ProcMode::Pids {
        opened.push((open(std::path::Path::new("/proc"))?, vec![Right::ReadFile, Right::ReadDir]));
    }
    Ok(opened)
}
