//! The listener of a filter that asks: its installation in the confined half, and its first answers in the launching one.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::failure::{At, Failure, Message, Stage, StartFailed};
use super::prepared::Prepared;
use super::start::STATUS;
use crate::profile::recorded::Answers;
use crate::sys::{self, CallAnswer};

/// The questions of a running program's filter, and what is answered to them.
///
/// Dropping it makes every refused call fail with `ENOSYS`.
#[derive(Debug)]
pub struct Listening {
    pub(crate) fd: OwnedFd,
    pub(crate) answers: Answers,
}

impl Answers {
    /// The answer to a question about the call `number`: from its number alone, and never permission for what was refused.
    pub(crate) fn answer(&self, number: i64) -> CallAnswer {
        if self.is_observed(number) { CallAnswer::GoesOn } else { CallAnswer::Fails(self.errno()) }
    }
}

/// Installs the filters. When calls are recorded the last one comes with a listener, which goes to the launching half.
pub(super) fn install(prepared: &Prepared) -> Result<(), Failure> {
    let refused = |what: String| Failure { stage: Stage::Seccomp, errno: 0, what };
    let filters = prepared.filters();
    let (plain, asking) = match (prepared.answers(), filters.split_last()) {
        (Some(_), Some((last, before))) => (before, Some(last)),
        _ => (filters, None),
    };
    for filter in plain {
        seccompiler::apply_filter(filter).map_err(|error| refused(error.to_string()))?;
    }
    let Some(asking) = asking else { return Ok(()) };
    let message = serde_json::to_vec(&Message::Asks).unwrap_or_default();
    let listener =
        sys::install_listener(asking).at_what(Stage::Seccomp, || "the listener of refused calls".to_owned())?;
    // From here on a refused call waits for the launching half, which has nothing to answer with before it has this.
    sys::send_with_fds(sys::fixed_fd(STATUS), &message, &[listener.as_fd()]).map(drop).at(Stage::Seccomp)
}

/// Answers the questions of Sigil's own code between the installation of the filter and the program's execution: the call
/// with which it tries the filter, and, where that is observed, the execution. Nothing is read from its memory. What the
/// program asks waits for a recorder.
pub(super) fn until_executed(
    listening: &Listening,
    ready: &OwnedFd,
    deadline: Instant,
    patience: Duration,
) -> Result<(), StartFailed> {
    let host = |source: Errno| StartFailed::Host { what: "cannot answer for the filter", source };
    let executes = |number: i64| number == libc::SYS_execveat || number == libc::SYS_execve;
    let mut tried = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(StartFailed::TimedOut(patience.as_secs()));
        }
        let mut fds = [PollFd::new(&listening.fd, PollFlags::IN), PollFd::new(ready, PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) | Err(Errno::INTR) => continue,
            other => other.map_err(host)?,
        };
        let [asked, executed] = fds.map(|fd| fd.revents());
        if !asked.contains(PollFlags::IN) {
            if executed.is_empty() && !asked.contains(PollFlags::HUP) {
                continue;
            }
            return Ok(());
        }
        let Some(call) = sys::receive_call(listening.fd.as_fd()).map_err(host)? else { continue };
        let answer = listening.answers.answer(call.number);
        sys::answer_call(listening.fd.as_fd(), call.id, answer).map_err(host)?;
        match answer {
            CallAnswer::Fails(_) => tried = true,
            CallAnswer::GoesOn if executes(call.number) => return Ok(()),
            CallAnswer::GoesOn => {}
        }
        if tried && !listening.answers.is_observed(libc::SYS_execveat) {
            return Ok(());
        }
    }
}
