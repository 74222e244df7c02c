//! The confined half: from the fork to the program. Read top to bottom, it is the order of operations.
//!
//! The first process becomes the init of the new pid namespace: it sets up everything, gives up every right that it
//! has, and then starts the program, forwards signals to it and reaps. It reads nothing that the program writes.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, chdir, getrlimit, ioctl_tiocsctty, set_parent_process_death_signal, setrlimit,
    setsid, umask,
};
use rustix::system::sethostname;

use super::failure::{At, Failure, Message, Stage};
use super::family;
use super::ids::{self, OwnerMaps};
use super::landlock;
use super::last::{self, Before};
use super::mounts::Watch;
use super::prepared::Prepared;
use super::root;
use super::sources::{self, Sources};
use super::standby::{self, Seen};
use super::start::{EXIT, STATUS};
use crate::profile::{Layer, ProcMode};
use crate::report::LayerReport;
use crate::sys;

/// What the init returns: the program's wait status, or why there is none.
pub(super) fn run(prepared: &Prepared, handed: &[Option<BorrowedFd<'_>>], seen: Option<&Seen>, limited: bool) -> i32 {
    match set_up(prepared, handed, seen, limited) {
        Ok(program) => reap(prepared, program),
        Err(failure) => {
            last::tell(&Message::Failed(failure));
            126
        }
    }
}

fn reap(prepared: &Prepared, program: Pid) -> i32 {
    // Only the pipe for the exit status stays open: the program's streams must close when the program closes them.
    let _ = sys::close_all_but(EXIT);
    let tell = |status: i32| {
        if prepared.attendance().is_some() {
            let _ = rustix::io::write(sys::fixed_fd(EXIT), &status.to_le_bytes());
        }
    };
    let status = sys::forward_and_reap(program, prepared.is_reduced().then(sys::parent_end_signal), tell);
    if prepared.is_reduced() {
        // Whatever the program has started is below this process, wherever it tried to go.
        family::end_all(&[]);
    }
    let Ok(status) = status else { return 126 };
    if prepared.wants(Layer::PidNs) {
        // Whoever reads the status may rely on nothing going on; the end of this process would come a little later.
        sys::kill_all_others();
    }
    let _ = rustix::io::write(sys::fixed_fd(EXIT), &status.to_le_bytes());
    0
}

fn set_up(
    prepared: &Prepared,
    handed: &[Option<BorrowedFd<'_>>],
    seen: Option<&Seen>,
    limited: bool,
) -> Result<Pid, Failure> {
    let mut report = LayerReport { ablated: prepared.profile().ablated.clone(), ..LayerReport::default() };
    if limited {
        report.applied.insert(Layer::Cgroup);
    }
    let mut applied = |layer: Layer| {
        if prepared.wants(layer) {
            report.applied.insert(layer);
        }
    };

    sys::arrange_fds(handed).at(Stage::Descriptors)?;
    applied(Layer::Descriptors);
    sys::block_signals().at(Stage::Session)?;
    if prepared.wants(Layer::Session) {
        setsid().at(Stage::Session)?;
    }
    applied(Layer::Session);
    // For the new root, whose folders have modes of their own.
    umask(Mode::from_raw_mode(0o022));
    chdir("/").at(Stage::Session)?;
    die_with_parent(prepared)?;

    if prepared.is_reduced() {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).at(Stage::Session)?;
    }

    let before = Before::look();
    let mut sources = open_and_separate(prepared, seen)?;
    for layer in [Layer::UserNs, Layer::PidNs, Layer::IpcNs, Layer::CgroupNs, Layer::Identity] {
        applied(layer);
    }
    // Changes of identity take the death signal away.
    die_with_parent(prepared)?;
    applied(Layer::ParentDeath);

    if prepared.wants(Layer::Rlimits) {
        limit(prepared)?;
    }
    applied(Layer::Rlimits);
    if prepared.makes_root() {
        root::enter(prepared, &mut sources)?;
    }
    if prepared.attendance().is_some_and(|attended| attended.mounts) {
        let watch = Watch::begin().at_what(Stage::Root, || "watching the mounts".to_owned())?;
        last::hand_out(&Message::Mounts, watch.as_fd()).at(Stage::Root)?;
    }
    applied(Layer::MountNs);
    network(prepared)?;
    hostname(prepared)?;
    applied(Layer::NetNs);
    if prepared.proxy_port().is_some() {
        applied(Layer::Proxy);
    }
    applied(Layer::UtsNs);

    let folder = &prepared.profile().exec.cwd;
    chdir(folder).at_what(Stage::Session, || format!("the working directory {}", folder.display()))?;
    give_up_privileges(prepared)?;
    applied(Layer::Capabilities);
    applied(Layer::NoNewPrivs);
    let late = prepared.wants(Layer::Landlock) && prepared.confines_late();
    if prepared.wants(Layer::Landlock) && !late {
        landlock::restrict(prepared, &sources.sources, &mut report)?;
        report.applied.insert(Layer::Landlock);
    }
    // They close when the program executes and when this process begins to wait: closing them here, one by one, would only
    // keep the program waiting.
    let sources = ManuallyDrop::new(sources);
    umask(Mode::from_raw_mode(0o077));
    report.applied.insert(Layer::Environment);
    standby::receive_streams()?;
    if prepared.attendance().is_some_and(|attended| attended.terminal) {
        ioctl_tiocsctty(rustix::stdio::stdin()).at_what(Stage::Session, || "taking the terminal".to_owned())?;
    }
    // Now, not before: its tree was verified for this launch.
    let program = last::open_program(prepared)?;
    last::start_program(prepared, &program, &before, late.then_some(&sources.sources[..]), report)
}

/// Opens the sources as the launching identity and stands in the new namespaces afterwards, as the program's user.
///
/// Under root the sources are opened with root's rights before the identity changes; an ordinary user opens them with
/// its own, which do not change. Either way no failure to open is hidden by a change of identity.
fn open_and_separate(prepared: &Prepared, seen: Option<&Seen>) -> Result<Sources, Failure> {
    let ids = prepared.ids();
    let user_ns = prepared.wants(Layer::UserNs);
    let fresh_proc = prepared.makes_root() && prepared.profile().proc == ProcMode::Pids;
    let proc = || if fresh_proc { sources::fresh_proc().map(Some).at(Stage::Proc) } else { Ok(None) };
    if prepared.as_root() {
        // In the launcher's own mount namespace nothing is mounted; only detached copies are made.
        let mut maps = OwnerMaps::new(ids.outside);
        let sources = Sources { sources: sources::open_all(prepared, seen, Some(&mut maps))?, proc: proc()? };
        let all = sys::namespaces(prepared.profile(), |layer| prepared.wants(layer));
        let missing = all & !libc::CLONE_NEWPID;
        if user_ns {
            sys::set_ids(ids.outside.0, ids.outside.1, true).at(Stage::Identity)?;
            sys::unshare(missing).at(Stage::UserNamespace)?;
            ids::map_self(ids)?;
        } else if missing != 0 {
            sys::unshare(missing).at(Stage::Fork)?;
        }
        return Ok(sources);
    }
    if user_ns {
        ids::map_self(ids)?;
    }
    if prepared.makes_root() {
        // Copies of mounts can only be made of mounts of this namespace that nobody else changes.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).at(Stage::Root)?;
    }
    Ok(Sources { sources: sources::open_all(prepared, seen, None)?, proc: proc()? })
}

fn give_up_privileges(prepared: &Prepared) -> Result<(), Failure> {
    // With a user namespace it became the program's user long ago.
    let late = prepared.as_root() && !prepared.wants(Layer::UserNs) && prepared.wants(Layer::Identity);
    let ids = late.then(|| prepared.ids().outside);
    if prepared.wants(Layer::Capabilities) {
        sys::drop_all_privileges(ids).at(Stage::Privileges)?;
    } else {
        if let Some((uid, gid)) = ids {
            sys::set_ids(uid, gid, true).at(Stage::Identity)?;
        }
        if prepared.wants(Layer::NoNewPrivs) {
            rustix::thread::set_no_new_privs(true).at(Stage::Privileges)?;
        }
    }
    if late {
        die_with_parent(prepared)?;
    }
    Ok(())
}

/// Asks to be killed when the launcher dies, and gives up if it is dead already.
fn die_with_parent(prepared: &Prepared) -> Result<(), Failure> {
    if !prepared.wants(Layer::ParentDeath) {
        return Ok(());
    }
    let signal = if prepared.is_reduced() { sys::parent_end_signal() } else { Signal::KILL };
    set_parent_process_death_signal(Some(signal)).at(Stage::ParentDeath)?;
    // In a new pid namespace getppid(2) is always 0; the status socket knows whether its other end lives.
    if sys::peer_gone(sys::fixed_fd(STATUS)) {
        return Err(Failure::new(Stage::ParentDeath, Errno::PIPE, "the launcher is gone"));
    }
    Ok(())
}

/// How many more tasks its user may start elsewhere before a program without a user namespace gets no more. It bounds what a
/// program can start before the launcher looks at it, and no less.
const SPARE: u64 = 1024;

fn limit(prepared: &Prepared) -> Result<(), Failure> {
    use Resource as R;
    let limits = &prepared.profile().limits;
    let processes = match limits.processes {
        // Without a user namespace it counts what the user has elsewhere, too: under root that is this program's alone.
        Some(processes) if prepared.is_reduced() && !prepared.as_root() => {
            let others = family::tasks_of_own_user().at_what(Stage::Limits, || "counting processes".to_owned())?;
            Some(others.saturating_add(SPARE).saturating_add(processes))
        }
        processes => processes.filter(|_| prepared.wants(Layer::UserNs) || prepared.is_reduced()),
    };
    let wanted = [
        (R::Core, limits.core_bytes),
        (R::Fsize, limits.file_bytes),
        (R::Nproc, processes),
        (R::Data, limits.data_bytes),
        (R::As, limits.address_space_bytes),
        (R::Stack, limits.stack_bytes),
        (R::Memlock, limits.locked_bytes),
        (R::Msgqueue, limits.message_queue_bytes),
        (R::Rtprio, limits.realtime_priority),
        (R::Nice, limits.nice),
        (R::Cpu, limits.cpu_seconds),
        (R::Sigpending, limits.pending_signals),
    ];
    for (resource, value) in wanted {
        if let Some(value) = value {
            lower(resource, value)?;
        }
    }
    Ok(())
}

/// Sets a limit, or keeps a lower one that was inherited: it cannot be raised without a right of root's.
pub(super) fn lower(resource: Resource, value: u64) -> Result<(), Failure> {
    let value = Some(getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value)));
    let limit = Rlimit { current: value, maximum: value };
    setrlimit(resource, limit).at_what(Stage::Limits, || format!("{resource:?}"))
}

fn hostname(prepared: &Prepared) -> Result<(), Failure> {
    if prepared.wants(Layer::UtsNs) {
        sethostname(prepared.profile().hostname.as_bytes()).at(Stage::Hostname)?;
    }
    Ok(())
}

/// Makes the proxy's listener inside the new network namespace, and hands it out.
fn network(prepared: &Prepared) -> Result<(), Failure> {
    let Some(port) = prepared.proxy_port() else { return Ok(()) };
    sys::loopback_up().at_what(Stage::Network, || "bringing lo up".to_owned())?;
    let listener = sys::listen_loopback(port).at_what(Stage::Network, || format!("listening on 127.0.0.1:{port}"))?;
    last::hand_out(&Message::Listener, listener.as_fd()).at(Stage::Network)
}
