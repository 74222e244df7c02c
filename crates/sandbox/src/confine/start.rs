//! The launching half: the fork, and waiting until the program runs or the launch is given up.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use super::child;
use super::failure::{Message, StartFailed};
use super::listen::{self, Listening};
use super::mounts::Watch;
use super::prepared::Prepared;
use super::standby::{Init, Seen, Standby};
use crate::cgroup::Group;
use crate::profile::Layer;
use crate::profile::recorded::Answers;
use crate::report::LayerReport;
use crate::sys::{self, Forked};

/// Where the confined half finds its descriptors. 0 to 2 are the program's streams.
pub(super) const STATUS: RawFd = 3;
pub(super) const EXIT: RawFd = 4;
/// Close-on-exec, and closed by the init when it begins to wait: its end says that the program executes.
const READY: RawFd = 5;
/// This very program, when it is the probe.
pub(super) const OWN: RawFd = 6;

/// How long the set-up may take. It takes milliseconds; a dead network mount would take forever.
const PATIENCE: Duration = Duration::from_secs(10);

/// The descriptors that a program gets.
#[derive(Debug, Default)]
pub struct Streams<'a> {
    /// Standard input; `/dev/null` when absent, like the other two. A plugin of the SDK has its RPC socket there.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Standard output.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error.
    pub stderr: Option<BorrowedFd<'a>>,
}

/// A program that runs in its sandbox.
///
/// Dropping it does not end the program; [`Enforced::kill`] does, with everything that it started.
#[derive(Debug)]
pub struct Enforced {
    /// The init of its pid namespace, a child of the caller.
    pub init: Pid,
    /// Gives four bytes, the program's wait status in little-endian, when it ends; its end without them when it was
    /// killed from outside.
    pub exit: OwnedFd,
    /// The proxy's listener inside the program's network namespace.
    pub egress: Option<OwnedFd>,
    /// The mounts of its namespace, for a starter who wants to know when they change.
    pub(crate) mounts: Option<Watch>,
    /// The layers.
    pub report: LayerReport,
    /// Its control group, if it has one.
    pub(crate) group: Option<Group>,
    /// The questions of its filter, when its calls are recorded. Without a recorder refused calls fail with `ENOSYS`.
    pub listening: Option<Listening>,
}

impl Enforced {
    /// Kills the program and everything that it started. Without a process namespace or a control group, what it started ends
    /// when the caller, whose children they become, ends its strangers; the launcher does.
    ///
    /// # Errors
    /// `ESRCH` when it has ended and was waited for.
    pub fn kill(&self) -> Result<(), Errno> {
        if let Some(group) = &self.group {
            let _ = group.kill();
        }
        sys::kill_process(self.init, Signal::KILL)
    }

    /// Waits for the program's end and returns its wait status (waitpid(2)); 9 when it was killed from outside.
    ///
    /// # Errors
    /// `ECHILD` when somebody else has waited for it.
    pub fn wait(&self) -> Result<i32, Errno> {
        let mut status = [0; 4];
        let read = loop {
            match rustix::io::read(&self.exit, &mut status) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        sys::wait_for(self.init)?;
        Ok(if read == Ok(4) { i32::from_le_bytes(status) } else { libc::SIGKILL })
    }
}

impl Prepared {
    /// Applies the profile in a new process and executes the program.
    ///
    /// The calling process must have one thread.
    ///
    /// # Errors
    /// [`StartFailed`]; then nothing of the program has run, and no process of it is left.
    pub fn start(&self, streams: &Streams<'_>) -> Result<Enforced, StartFailed> {
        self.start_in(streams, None)
    }

    /// As [`Prepared::start`], in a control group.
    ///
    /// # Errors
    /// As [`Prepared::start`].
    pub(crate) fn start_in(&self, streams: &Streams<'_>, group: Option<Group>) -> Result<Enforced, StartFailed> {
        self.begin(None, group)?.go(self, streams)
    }

    /// Begins to apply the profile in a new process, for a launch to come; `None` when it binds what lies on another machine,
    /// where looking could take long. What goes wrong in the new process shows in that [`Standby::fits`] no launch.
    ///
    /// The calling process must have one thread.
    ///
    /// # Errors
    /// [`StartFailed`] when there is no process.
    pub(crate) fn ahead(&self, group: Option<Group>) -> Result<Option<Standby>, StartFailed> {
        let seen = Seen::look(self.profile())
            .map_err(|source| StartFailed::Host { what: "cannot look at what the profile binds", source })?;
        seen.map(|seen| self.begin(Some(seen), group)).transpose()
    }

    fn begin(&self, seen: Option<Seen>, group: Option<Group>) -> Result<Standby, StartFailed> {
        let host = |what| move |source| StartFailed::Host { what, source };
        let (status, their_status) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(host("cannot make the status socket"))?;
        let (exit, their_exit) = pipe_with(PipeFlags::CLOEXEC).map_err(host("cannot make the exit pipe"))?;
        let (ready, their_ready) = pipe_with(PipeFlags::CLOEXEC).map_err(host("cannot make the ready pipe"))?;
        // The streams come later, see `standby`.
        let handed = [
            None,
            None,
            None,
            Some(their_status.as_fd()),
            Some(their_exit.as_fd()),
            Some(their_ready.as_fd()),
            self.own_program(),
        ];
        debug_assert_eq!(handed.len(), usize::try_from(OWN).unwrap_or(0) + 1);
        debug_assert_eq!((STATUS + 2, EXIT + 1), (READY, READY));

        let namespaces = sys::namespaces(self.profile(), |layer| self.wants(layer));
        // Root makes only the pid namespace here: its sources are opened before it gives up its identity.
        let now = if self.as_root() { namespaces & libc::CLONE_NEWPID } else { namespaces };
        let limited = group.as_ref().is_some_and(Group::is_limited);
        match clone_into(now, group.as_ref()) {
            Ok(Forked::Child) => {
                // A panic must not unwind into the launching half's code in a second process.
                let status =
                    std::panic::catch_unwind(AssertUnwindSafe(|| child::run(self, &handed, seen.as_ref(), limited)));
                sys::exit_now(status.unwrap_or(126))
            }
            Ok(Forked::Parent(pid)) => {
                let init = Init::new(pid)?;
                // Nothing of the program runs before the streams are handed over: that its init is in the group is enough.
                if let Some(group) = group.as_ref().filter(|group| !group.holds(pid)) {
                    group.enter(pid).map_err(host("cannot move the new process into its control group"))?;
                }
                Ok(Standby { init, status, exit, ready, seen, group })
            }
            Err(errno) => {
                let what = "making the process and its namespaces".to_owned();
                Err(super::failure::Failure::new(super::Stage::Fork, errno, what).into())
            }
        }
    }
}

impl Standby {
    /// Has the program executed, in the sandbox that was made of `prepared`.
    ///
    /// # Errors
    /// [`StartFailed`]; then nothing of the program has run, and no process of it is left.
    pub(crate) fn go(mut self, prepared: &Prepared, streams: &Streams<'_>) -> Result<Enforced, StartFailed> {
        if let Err(source) = self.hand_over(streams) {
            let _ = self.init.end();
            return Err(StartFailed::Host { what: "cannot hand over the streams", source });
        }
        match self.settle(prepared) {
            Ok(Heard { report, egress, listening, mounts }) => {
                let Self { init, exit, group, .. } = self;
                let (init, report) = (init.release(), report.unwrap_or_default());
                Ok(Enforced { init, exit, egress, mounts, report, group, listening })
            }
            Err(failed) => {
                let wait = self.init.end();
                Err(if let StartFailed::Died(_) = failed { StartFailed::Died(wait) } else { failed })
            }
        }
    }

    /// Waits until the program executes, and reads what the confined half said meanwhile.
    fn settle(&self, prepared: &Prepared) -> Result<Heard, StartFailed> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Heard::default();
        if let Some(answers) = prepared.answers() {
            while heard.listening.is_none()
                && await_input(&self.status, deadline)?
                && heard.one(&self.status, answers)?
            {}
            if let Some(listening) = &heard.listening {
                listen::until_executed(listening, &self.ready, deadline, PATIENCE)?;
            }
        }
        if !await_input(&self.ready, deadline)? {
            return Err(StartFailed::TimedOut(PATIENCE.as_secs()));
        }
        let none = Answers::default();
        while readable(&self.status) && heard.one(&self.status, prepared.answers().unwrap_or(&none))? {}
        let report = heard.report.as_ref().ok_or(StartFailed::Died(0))?;
        let required = prepared.required();
        let missing: BTreeSet<Layer> = report.missing(&required).union(&report.unproven(&required)).copied().collect();
        if !missing.is_empty() {
            return Err(StartFailed::LayerMissing(missing));
        }
        Ok(heard)
    }
}

/// A new process, in `group` from the start where the kernel can do that.
fn clone_into(namespaces: i32, group: Option<&Group>) -> Result<Forked, Errno> {
    match group.map(|group| sys::clone_process_into(namespaces, group.folder())) {
        // Too old, or hidden by a container's filter.
        None | Some(Err(Errno::NOSYS | Errno::TOOBIG | Errno::INVAL)) => sys::clone_process(namespaces),
        Some(other) => other,
    }
}

/// What the confined half has said.
#[derive(Default)]
struct Heard {
    report: Option<LayerReport>,
    egress: Option<OwnedFd>,
    listening: Option<Listening>,
    mounts: Option<Watch>,
}

impl Heard {
    /// Reads one message; whether there may be more.
    fn one(&mut self, status: &OwnedFd, answers: &Answers) -> Result<bool, StartFailed> {
        let mut buffer = vec![0; 16 * 1024];
        let (length, fds) = match sys::receive_with_fds(status.as_fd(), &mut buffer) {
            // It ended before it took the streams. The kernel says so once, before what it had said itself.
            Err(Errno::CONNRESET) => return Ok(true),
            other => other.map_err(|source| StartFailed::Host { what: "cannot read the status socket", source })?,
        };
        if length == 0 {
            return Ok(false);
        }
        match buffer.get(..length).and_then(|bytes| serde_json::from_slice(bytes).ok()) {
            Some(Message::Failed(failure)) => return Err(failure.into()),
            Some(Message::Applied(layers)) => self.report = Some(layers),
            Some(Message::Listener) => self.egress = fds.into_iter().next(),
            Some(Message::Mounts) => self.mounts = fds.into_iter().next().map(Watch::from),
            Some(Message::Asks) => {
                self.listening = fds.into_iter().next().map(|fd| Listening { fd, answers: answers.clone() });
            }
            None => return Err(StartFailed::Died(0)),
        }
        Ok(true)
    }
}

/// Waits until something can be read from `fd`, or its other end is closed: by execve(2), or by death. `false` when neither
/// happens in time.
fn await_input(fd: &OwnedFd, deadline: Instant) -> Result<bool, StartFailed> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(source) => return Err(StartFailed::Host { what: "cannot wait for the program", source }),
        }
    }
}

fn readable(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
