//! One launch, as the oath has it: nothing that the gateway says is believed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, chownat, mkdirat, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use sigil_policy::{Bundle, Verified};
use sigil_proto::manifest::Transport;
use sigil_types::{Code, Digest, LaunchId, PluginName, Timestamp, WorkspaceId};

use super::judge;
use super::ready::{Cache, Next, Place, Ready};
use super::watch::Watch;
use super::wire::{LaunchRequest, Refusal, Started};
use super::{LauncherConfig, refusal};
use crate::cgroup::Group;
use crate::confine::{Enforced, Prepared, Stage, Standby, StartFailed, Streams};
use crate::denials::Telling;
use crate::host::{Host, Reached};
use crate::receipt::{Launch, LaunchReceipt};

/// A program that was started, with the descriptors that the gateway gets.
pub(super) struct Running {
    pub(super) started: Started,
    pub(super) enforced: Enforced,
    /// Its folder on the host, to be removed when it has ended.
    pub(super) private: Option<PathBuf>,
    pub(super) fds: Vec<OwnedFd>,
    /// What is looked at while it runs.
    pub(super) watch: Watch,
    /// What it was launched from, if the same may be launched again.
    pub(super) again: Option<Rc<Ready>>,
    /// Which arguments of refused calls say what was wanted.
    pub(super) telling: Telling,
}

/// What a prepared launch depends on, beside the policy and the machine.
fn key(request: &LaunchRequest) -> Digest {
    let params = serde_json::to_vec(&request.params).unwrap_or_default();
    let texts = [request.plugin.as_str(), request.workspace.as_str(), &request.manifest];
    let parts = texts.map(|text| Digest::of(text.as_bytes()));
    let parts = parts.iter().chain([&request.tree]).map(|digest| &digest.as_bytes()[..]);
    Digest::of_parts(parts.chain([params.as_slice()]))
}

/// Verifies, compiles, confines and executes.
pub(super) fn launch(
    place: &mut Place,
    policy: Option<&Bundle<Verified>>,
    cache: &mut Cache,
    now: Timestamp,
    request: &LaunchRequest,
    next: &mut Next,
    sign: impl FnOnce(&Launch) -> Result<LaunchReceipt, String>,
) -> Result<Running, Refusal> {
    let permit = judge::launch(&place.config, policy, now, request)?;
    let id = LaunchId::generate(now);
    let key = key(request);
    let (mut private, mut serves) = (None, false);
    let ready = match cache.find(&key, &permit.pin) {
        Some(ready) => ready,
        None => {
            let spec = permit.spec()?;
            let ids = host_ids(&request.plugin, &request.workspace);
            serves = matches!(spec.execution.transport, Transport::GoPlugin(_));
            let reached = place.host.posture;
            if serves || reached == Reached::Reduced {
                private = Some(private_folder(&place.config, &id, ids)?);
            }
            let pin = permit.pin.clone();
            let judged = permit.compile(&place.config, &spec, (ids, reached), private.as_deref());
            let ready = judged.and_then(|judged| Ready::new(key, pin, judged, cache.recording));
            let ready = ready.map_err(|refused| because(refused, &place.host));
            let ready = Rc::new(ready.inspect_err(|_| remove(private.as_ref()))?);
            if private.is_none() {
                cache.keep(Rc::clone(&ready));
            }
            ready
        }
    };
    let standby = next.take(&ready);
    let socket = private.as_ref().filter(|_| serves);
    let group = || place.group(&ready).map_err(|errno| host_failed("cannot make a control group", errno));
    let (enforced, fds) = start(&ready.prepared, socket, standby, group).inspect_err(|_| remove(private.as_ref()))?;
    let launch = Launch {
        id,
        at: now,
        plugin: request.plugin.clone(),
        instance: request.instance,
        workspace: request.workspace.clone(),
        policy: request.policy,
        manifest: Digest::of(request.manifest.as_bytes()),
        tree: request.tree,
        profile: ready.prepared.digest(),
        posture: ready.prepared.profile().posture,
        floor: ready.floor,
        layers: enforced.report.clone(),
        facts: ready.compiled.facts.clone(),
    };
    let receipt = match sign(&launch) {
        Ok(receipt) => receipt,
        Err(why) => {
            // Without a receipt nothing may run.
            let _ = enforced.kill();
            let _ = crate::sys::wait_for(enforced.init);
            remove(private.as_ref());
            return Err(refusal(const { Code::new("sandbox.launch.receipt.unsigned") }, why));
        }
    };
    let started = Started {
        id,
        receipt,
        report: enforced.report.clone(),
        facts: ready.compiled.facts.clone(),
        egress: ready.compiled.egress.clone(),
        serves,
    };
    let limited = enforced.group.as_ref().is_some_and(Group::is_limited);
    let profile = ready.prepared.profile();
    let left = place.growth.left(&request.plugin, &request.workspace, profile.limits.disk_bytes);
    let watch = Watch::new(profile, limited, left);
    let telling = Telling::of(&profile.seccomp);
    let again = private.is_none().then_some(ready);
    Ok(Running { started, enforced, private, fds, watch, again, telling })
}

/// A refusal for want of layers also says which, why, and what to do.
fn because(refused: Refusal, host: &Host) -> Refusal {
    let of_posture = refused.code.as_str().starts_with("sandbox.posture.");
    if !of_posture || host.missing.is_empty() {
        return refused;
    }
    Refusal { text: format!("{}. Here {}", refused.text, host.lacks()), ..refused }
}

pub(super) fn remove(private: Option<&PathBuf>) {
    if let Some(folder) = private {
        // Nobody is left who could use it; what cannot be removed is left, and named by nothing.
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// The user and group outside, under root: one of 2^28 ids from 0x7000_0000 on, above those of people, of containers and
/// of systemd's dynamic users, and the same at every launch of this plugin for this workspace. An ordinary user's
/// programs keep its id.
fn host_ids(plugin: &PluginName, workspace: &WorkspaceId) -> (u32, u32) {
    let digest =
        Digest::of_parts([b"sigil host id\0", plugin.as_str().as_bytes(), &[0], workspace.as_str().as_bytes()]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    let id = 0x7000_0000 | (u32::from_le_bytes([a, b, c, d]) & 0x0FFF_FFFF);
    (id, id)
}

/// The folder of one launch, in which a go-plugin program makes its socket, and in posture `reduced` any program its temporary
/// files: new, empty, and its own.
fn private_folder(config: &LauncherConfig, id: &LaunchId, ids: (u32, u32)) -> Result<PathBuf, Refusal> {
    let path = config.run.join(id.to_string());
    let make = || -> Result<(), Errno> {
        mkdirat(CWD, &path, Mode::from_raw_mode(0o700))?;
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = (Uid::from_raw(ids.0), Gid::from_raw(ids.1));
            chownat(CWD, &path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    };
    make().map_err(|errno| host_failed("cannot make the plugin's private folder", errno))?;
    Ok(path)
}

fn host_failed(what: &'static str, source: Errno) -> Refusal {
    let failed = StartFailed::Host { what, source };
    refusal(failed.code(), failed)
}

/// Starts the program. The descriptors for the gateway: output, errors, exit, RPC socket, listener; the last two if there are any.
fn start(
    prepared: &Prepared,
    private: Option<&PathBuf>,
    standby: Option<Standby>,
    mut group: impl FnMut() -> Result<Option<Group>, Refusal>,
) -> Result<(Enforced, Vec<OwnedFd>), Refusal> {
    let failed = |what| move |errno| host_failed(what, errno);
    let (ours, theirs) = if private.is_some() {
        let null = openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("cannot open /dev/null"))?;
        (None, null)
    } else {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed("cannot make the RPC socket"))?;
        (Some(ours), theirs)
    };
    let (out, their_out) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("cannot make a pipe"))?;
    let (err, their_err) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("cannot make a pipe"))?;
    let streams =
        Streams { stdin: Some(theirs.as_fd()), stdout: Some(their_out.as_fd()), stderr: Some(their_err.as_fd()) };
    let started = match standby.map(|standby| standby.go(prepared, &streams)) {
        // It broke while it stood, before anything of the program could run: as if there had been none.
        Some(Err(StartFailed::Died(_))) | None => prepared.start_in(&streams, group()?),
        Some(Err(StartFailed::Step(failure))) if failure.stage < Stage::Seccomp => {
            prepared.start_in(&streams, group()?)
        }
        Some(started) => started,
    };
    let mut enforced = started.map_err(|error| refusal(error.code(), error))?;
    let exit = duplicate(enforced.exit.as_fd());
    let egress = enforced.egress.take();
    let exit = match exit {
        Ok(exit) => exit,
        Err(errno) => {
            let _ = enforced.kill();
            let _ = crate::sys::wait_for(enforced.init);
            return Err(host_failed("cannot duplicate a descriptor", errno));
        }
    };
    let mut fds = vec![out, err, exit];
    fds.extend(ours);
    fds.extend(egress);
    Ok((enforced, fds))
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ids_are_far_from_everybody_s_and_differ() {
        let id = |plugin: &str, workspace: &str| host_ids(&plugin.parse().unwrap(), &workspace.parse().unwrap()).0;
        let ids = [id("files", "home"), id("files", "work"), id("fetch", "home")];
        assert!(ids.iter().all(|id| (0x7000_0000..0x8000_0000).contains(id)));
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
        assert_eq!(ids[0], id("files", "home"), "the same at every launch");
    }
}
