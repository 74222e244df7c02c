//! Trials: what a launch does, done in a process of its own that ends at once, to see whether this host lets it be done.

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, fsconfig_create, fsmount, fsopen,
    mount_change, move_mount,
};
use rustix::system::sethostname;

use super::ids::{self, Ids};
use crate::host::LEAST_ABI;
use crate::profile::{Layer, seccomp};
use crate::sys::{self, Forked};

/// Whom a trial becomes: nobody's number, as launches have.
const NOBODY: (u32, u32) = (65532, 65532);

/// In the order of the trial; the process ends with the place of the one that failed.
const STEPS: [Layer; 9] = [
    Layer::Identity,
    Layer::UserNs,
    Layer::MountNs,
    Layer::NetNs,
    Layer::UtsNs,
    Layer::PidNs,
    Layer::NoNewPrivs,
    Layer::Landlock,
    Layer::Seccomp,
];

type Trial = Result<(), (Layer, Errno)>;

/// Everything that posture `standard` needs beyond `reduced`: namespaces, and what they are for.
pub(crate) fn namespaces() -> Trial {
    apart(|| {
        let at = |layer: Layer| move |errno: Errno| (layer, errno);
        become_nobody().map_err(at(Layer::Identity))?;
        let outside = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        sys::unshare(ALL).map_err(at(Layer::UserNs))?;
        ids::map_self(Ids { inside: NOBODY, outside })
            .map_err(|failure| (Layer::UserNs, Errno::from_raw_os_error(failure.errno)))?;
        mount_something().map_err(at(Layer::MountNs))?;
        sys::loopback_up().map_err(at(Layer::NetNs))?;
        sethostname(b"sandbox").map_err(at(Layer::UtsNs))?;
        // Only a child is in the new process namespace.
        match sys::fork_process().map_err(at(Layer::PidNs))? {
            Forked::Child => sys::exit_now(0),
            Forked::Parent(child) => sys::wait_for(child).map(drop).map_err(at(Layer::PidNs)),
        }
    })
}

/// Root gives itself up first, as in each launch.
fn become_nobody() -> Result<(), Errno> {
    if rustix::process::geteuid().is_root() { sys::set_ids(NOBODY.0, NOBODY.1, true) } else { Ok(()) }
}

/// What every posture needs: an ordinary user, no new privileges, Landlock, a filter.
pub(crate) fn restrict() -> Trial {
    apart(|| {
        let at = |layer: Layer| move |errno: Errno| (layer, errno);
        become_nobody().map_err(at(Layer::Identity))?;
        rustix::thread::set_no_new_privs(true).map_err(at(Layer::NoNewPrivs))?;
        landlock().map_err(at(Layer::Landlock))?;
        filter().map_err(at(Layer::Seccomp))
    })
}

const ALL: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// A file system in memory, mounted: where only the namespace is let through, this is what fails.
fn mount_something() -> Result<(), Errno> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    move_mount(&mount, "", rustix::fs::CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// A domain without any rule, seen at work.
fn landlock() -> Result<(), Errno> {
    use landlock::{AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
    if sys::landlock_abi() < LEAST_ABI {
        return Err(Errno::NOSYS);
    }
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::ReadDir | AccessFs::Truncate)
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    restricted.map_err(|_| Errno::PERM)?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    match rustix::fs::open("/", flags, rustix::fs::Mode::empty()) {
        Err(Errno::ACCESS) => Ok(()),
        _ => Err(Errno::NOSYS),
    }
}

/// A filter, seen at work.
fn filter() -> Result<(), Errno> {
    let program = seccomp::refuse(&[("kcmp", &[&[]])]).map_err(|_| Errno::INVAL)?;
    seccompiler::apply_filter(&program).map_err(|_| Errno::PERM)?;
    if sys::is_filtered(libc::EPERM.unsigned_abs()) { Ok(()) } else { Err(Errno::NOSYS) }
}

/// One layer, without the others.
pub(crate) fn alone(layer: Layer) -> Result<(), Errno> {
    let namespace = |flag: i32| sys::unshare(libc::CLONE_NEWUSER | flag);
    let trial = apart(|| {
        let result = match layer {
            Layer::UserNs => namespace(0),
            Layer::MountNs => namespace(libc::CLONE_NEWNS)
                .and_then(|()| mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)),
            Layer::PidNs => namespace(libc::CLONE_NEWPID),
            Layer::IpcNs => namespace(libc::CLONE_NEWIPC),
            Layer::UtsNs => namespace(libc::CLONE_NEWUTS).and_then(|()| sethostname(b"sandbox")),
            Layer::NetNs => namespace(libc::CLONE_NEWNET).and_then(|()| sys::loopback_up()),
            Layer::CgroupNs => namespace(libc::CLONE_NEWCGROUP),
            Layer::Capabilities => namespace(0).and_then(|()| sys::drop_all_privileges(None)),
            Layer::Identity => become_nobody(),
            Layer::NoNewPrivs => rustix::thread::set_no_new_privs(true),
            Layer::Landlock => rustix::thread::set_no_new_privs(true).and_then(|()| landlock()),
            Layer::Seccomp => rustix::thread::set_no_new_privs(true).and_then(|()| filter()),
            // What needs nothing of the kernel but what every program has.
            _ => Ok(()),
        };
        result.map_err(|errno| (Layer::Identity, errno))
    });
    trial.map_err(|(_, errno)| errno)
}

/// Carries `trial` out in a process of its own.
fn apart(trial: impl FnOnce() -> Trial) -> Trial {
    let host = |errno: Errno| (Layer::Identity, errno);
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(host)?;
    let child = match sys::fork_process().map_err(host)? {
        Forked::Child => {
            let (layer, errno) = trial().err().map_or((u8::MAX, 0), |(layer, errno)| {
                let place = STEPS.iter().position(|step| *step == layer).and_then(|place| u8::try_from(place).ok());
                (place.unwrap_or(0), errno.raw_os_error())
            });
            let [a, b, c, d] = errno.to_le_bytes();
            let _ = rustix::io::write(&theirs, &[layer, a, b, c, d]);
            sys::exit_now(0)
        }
        Forked::Parent(child) => child,
    };
    drop(theirs);
    let mut said = [0; 5];
    let read = rustix::io::read(&ours, &mut said);
    sys::wait_for(child).map_err(host)?;
    let [layer, errno @ ..] = said;
    match (read, STEPS.get(usize::from(layer))) {
        (Ok(5), None) => Ok(()),
        (Ok(5), Some(layer)) => Err((*layer, Errno::from_raw_os_error(i32::from_le_bytes(errno)))),
        // A filter that kills instead of refusing, say.
        _ => Err((Layer::Identity, Errno::IO)),
    }
}
