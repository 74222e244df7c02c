//! The last steps, in the program's own process: trying the layers from inside, the filter, the execution.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, Resource, Signal, getpid, getppid, getsid, set_parent_process_death_signal, setpgid};

use rustix::termios::tcsetpgrp;

use super::child;
use super::failure::{At, Failure, Message, Stage};
use super::landlock;
use super::listen;
use super::prepared::Prepared;
use super::sources::Source;
use super::start::{EXIT, OWN, STATUS};
use crate::profile::Layer;
use crate::profile::seccomp::{self, BpfProgram, Comparison, Condition, Width};
use crate::report::LayerReport;
use crate::sys;

/// What the world looked like before the layers, to compare with.
pub(super) struct Before {
    root: Option<(u64, u64)>,
}

impl Before {
    pub(super) fn look() -> Self {
        Self { root: stat("/").ok().map(|stat| (stat.st_dev, stat.st_ino)) }
    }
}

/// What is executed, opened.
pub(super) enum Program {
    /// By descriptor.
    Binary(OwnedFd),
    /// By path: its interpreter opens it again.
    Script,
}

/// Sends `message` to the launching half. Nobody is there to be told when that fails; the end of the process tells.
pub(super) fn tell(message: &Message) {
    if let Ok(bytes) = serde_json::to_vec(message) {
        // write(2), because the filter may not allow sendmsg(2).
        let _ = rustix::io::write(sys::fixed_fd(STATUS), &bytes);
    }
}

/// Sends `message` with a descriptor to the launching half.
pub(super) fn hand_out(message: &Message, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let message = serde_json::to_vec(message).unwrap_or_default();
    sys::send_with_fds(sys::fixed_fd(STATUS), &message, &[fd]).map(drop)
}

/// Opens the program inside the new root; no symbolic link leads out of it, as nothing is outside.
pub(super) fn open_program(prepared: &Prepared) -> Result<Program, Failure> {
    let path = &prepared.profile().exec.path;
    let open = |flags| openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let what = || path.display().to_string();
    if prepared.is_probe() {
        return rustix::io::fcntl_dupfd_cloexec(sys::fixed_fd(OWN), OWN).map(Program::Binary).at(Stage::Exec);
    }
    let fd = open(OFlags::PATH).at_what(Stage::Exec, || match (prepared.is_reduced(), prepared.as_root()) {
        // Nothing is mounted here: the program's own user must be able to come to it.
        (true, true) => {
            format!("{}, as user {} (every folder above it must let others pass)", what(), prepared.ids().outside.0)
        }
        _ => what(),
    })?;
    let mut start = [0; 2];
    // What cannot be read (mode 0111) is no script: its interpreter could not read it either.
    let read = open(OFlags::RDONLY).and_then(|file| rustix::io::read(&file, &mut start));
    Ok(if read.is_ok() && start == *b"#!" { Program::Script } else { Program::Binary(fd) })
}

/// Starts the program as a child of the init, and returns when it executes.
pub(super) fn start_program(
    prepared: &Prepared,
    program: &Program,
    before: &Before,
    late: Option<&[Source]>,
    report: LayerReport,
) -> Result<Pid, Failure> {
    let mut report = Some(report);
    sys::vfork_process(&mut || {
        let report = report.take().unwrap_or_default();
        let failure = match become_program(prepared, program, before, late, report) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        tell(&Message::Failed(failure));
        126
    })
    .at(Stage::Fork)
}

fn become_program(
    prepared: &Prepared,
    program: &Program,
    before: &Before,
    late: Option<&[Source]>,
    mut report: LayerReport,
) -> Result<std::convert::Infallible, Failure> {
    setpgid(None, None).at(Stage::Session)?;
    if prepared.attendance().is_some_and(|attended| attended.terminal) {
        // Every signal is blocked here, the one for taking a terminal from the background included.
        tcsetpgrp(rustix::stdio::stdin(), getpid())
            .at_what(Stage::Session, || "the terminal's foreground".to_owned())?;
    }
    set_parent_process_death_signal(Some(Signal::KILL)).at(Stage::ParentDeath)?;
    if let Some(sources) = late {
        landlock::restrict(prepared, sources, &mut report)?;
        report.applied.insert(Layer::Landlock);
    }
    report.proven = prove(prepared, before, &report.applied);
    if let (Some(files), true) = (prepared.profile().limits.open_files, prepared.wants(Layer::Rlimits)) {
        // Not before: setting up and trying takes more descriptors than the program may have.
        child::lower(Resource::Nofile, files)?;
    }
    sys::reset_signals().at(Stage::Session)?;
    sys::close_from_on_exec(u32::try_from(STATUS.min(EXIT)).unwrap_or(3)).at(Stage::Descriptors)?;
    if prepared.wants(Layer::Seccomp) {
        let refused = |error: String| Failure { stage: Stage::Seccomp, errno: 0, what: error };
        // The kernel takes another filter only while the one before lets the call through that brings it.
        if prepared.is_reduced() && !report.scopes_signals() {
            let fence = fence(getpid()).map_err(|error| refused(error.to_string()))?;
            seccompiler::apply_filter(&fence).map_err(|error| refused(error.to_string()))?;
        }
        listen::install(prepared)?;
        report.applied.insert(Layer::Seccomp);
        if sys::is_filtered(prepared.profile().seccomp.default_errno) {
            report.proven.insert(Layer::Seccomp);
        }
    }
    let required = prepared.required();
    let refused = report.missing(&required).union(&report.unproven(&required)).next().is_some();
    tell(&Message::Applied(report));
    if refused {
        // The launching half names the layers; it has the report.
        sys::exit_now(126);
    }
    let errno = match program {
        Program::Binary(fd) => sys::exec_fd(fd.as_fd(), prepared.image()),
        Program::Script => sys::exec_path(prepared.program(), prepared.image()),
    };
    Err(errno).at_what(Stage::Exec, || prepared.profile().exec.path.display().to_string())
}

/// Where neither a process namespace nor Landlock's scope holds signals inside: a filter that lets the program signal itself
/// and its own process group, and no number beside. Its children cannot be signalled by their numbers, and so neither can
/// anybody else: a filter does not know whose a number is.
pub(super) fn fence(own: Pid) -> Result<BpfProgram, seccomp::CompileFilter> {
    let own = u64::from(own.as_raw_nonzero().get().unsigned_abs());
    let not = |value| Condition { arg: 0, width: Width::Dword, is: Comparison::Ne(value) };
    let others: &[Condition] = &[not(own), not(0)];
    let other: &[Condition] = &[not(own)];
    seccomp::refuse(&[("kill", &[others]), ("tgkill", &[other]), ("tkill", &[other])])
}

/// Tries each applied layer from inside, where a try is cheap and certain.
fn prove(prepared: &Prepared, before: &Before, applied: &BTreeSet<Layer>) -> BTreeSet<Layer> {
    let mut proven = BTreeSet::new();
    let privileges = sys::privileges().ok();
    let mut check = |layer: Layer, holds: &dyn Fn() -> bool| {
        if applied.contains(&layer) && holds() {
            proven.insert(layer);
        }
    };
    check(Layer::NoNewPrivs, &|| privileges.is_some_and(|p| p.no_new_privs));
    check(Layer::Capabilities, &|| privileges.is_some_and(|p| p.capabilities == 0));
    let ids = prepared.ids();
    check(Layer::UserNs, &|| rustix::process::getuid().as_raw() == ids.inside.0);
    check(Layer::Identity, &|| !rustix::process::geteuid().is_root() && !rustix::process::getegid().is_root());
    // The init is the first process of its namespace, and this one its child.
    check(Layer::PidNs, &|| getppid() == Some(Pid::INIT));
    check(Layer::Session, &|| getsid(None).is_ok_and(|sid| sid != getpid() || !prepared.wants(Layer::PidNs)));
    check(Layer::MountNs, &|| {
        let now = stat("/").ok().map(|stat| (stat.st_dev, stat.st_ino));
        now.is_some() && now != before.root
    });
    check(Layer::NetNs, &|| no_route());
    // The root folder itself is never granted, only what is bound below it.
    let list = || openat(CWD, "/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    check(Layer::Landlock, &|| list().is_err_and(|errno| errno == Errno::ACCESS));
    check(Layer::Rlimits, &|| prepared.profile().limits.core_bytes != Some(0) || core_is_off());
    proven
}

fn core_is_off() -> bool {
    rustix::process::getrlimit(Resource::Core).current == Some(0)
}

/// Whether there is no way to another machine: connecting a datagram socket sends nothing, but looks up the route.
fn no_route() -> bool {
    /// Reserved for documentation (RFC 5737); any default route would cover it.
    const ELSEWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9);
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    socket.is_ok_and(|socket| connect(&socket, &ELSEWHERE) == Err(Errno::NETUNREACH))
}
