//! Waiting for a command as a shell waits for it: signals, stops, its terminal, its time.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::RunFailed;
use super::terminal::Terminal;
use crate::client::ExitStatus;
use crate::confine::{Enforced, StartFailed, Watch};
use crate::sys;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself or by a signal.
    Itself(ExitStatus),
    /// Its time was up.
    TimedOut,
}

/// Who waits for a command.
#[derive(Debug)]
pub(crate) struct Attendant {
    /// The signals that are passed on.
    pub(crate) signals: OwnedFd,
    /// Its terminal.
    pub(crate) terminal: Option<Terminal>,
    /// How long it may take.
    pub(crate) wall: Option<Duration>,
    /// The mounts of its namespace, where some of them hide what must stay hidden.
    pub(crate) mounts: Option<Watch>,
}

/// What happened.
#[derive(Default)]
struct Happened {
    signal: bool,
    exit: bool,
    mounts: bool,
    typed: bool,
    said: bool,
    takes: bool,
}

impl Attendant {
    /// Waits until the command that `enforced` is has ended, and reaps its init.
    pub(crate) fn wait(mut self, enforced: &Enforced) -> Result<Ended, RunFailed> {
        let ended = self.attend(enforced);
        if !matches!(ended, Ok(Ended::Itself(_))) {
            let _ = enforced.kill();
        }
        if let Some(terminal) = &mut self.terminal {
            while terminal.show() && matches!(ended, Ok(Ended::Itself(_))) {
                let mut fds = [PollFd::new(&*terminal, PollFlags::IN)];
                if poll(&mut fds, None).is_err() {
                    break;
                }
            }
            terminal.restore();
        }
        let _ = sys::wait_for(enforced.init);
        ended
    }

    fn attend(&mut self, enforced: &Enforced) -> Result<Ended, RunFailed> {
        let failed = |source| RunFailed::Start(StartFailed::Host { what: "cannot wait for the command", source });
        let deadline = self.wall.map(|wall| Instant::now() + wall);
        let (mut typed, mut listening) = (Vec::new(), true);
        if let Some(terminal) = &mut self.terminal {
            terminal.resume();
        }
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Ended::TimedOut);
            }
            let happened = self.await_something(enforced, &typed, listening, left).map_err(failed)?;
            if let Some(terminal) = &self.terminal {
                if happened.said {
                    terminal.show();
                }
                if happened.takes {
                    terminal.tell(&mut typed);
                }
                if happened.typed {
                    listening = Terminal::listen(&mut typed);
                }
            }
            if happened.exit {
                match next_status(&enforced.exit).map_err(failed)? {
                    Some(status) if libc::WIFSTOPPED(status) => self.stop(enforced),
                    Some(status) => return Ok(Ended::Itself(ExitStatus::from_wait(status))),
                    None => return Ok(Ended::Itself(ExitStatus::Killed)),
                }
            }
            if happened.mounts {
                return Err(RunFailed::Uncovered);
            }
            if happened.signal {
                self.pass_on(enforced);
            }
        }
    }

    fn await_something(
        &self,
        enforced: &Enforced,
        typed: &[u8],
        listening: bool,
        left: Option<Duration>,
    ) -> Result<Happened, Errno> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&enforced.exit, PollFlags::IN)];
        let mut places = [None; 3];
        if let Some(mounts) = &self.mounts {
            places[0] = Some(fds.len());
            fds.push(PollFd::new(mounts, Watch::CHANGED));
        }
        let stdin = rustix::stdio::stdin();
        if let Some(terminal) = &self.terminal {
            places[1] = Some(fds.len());
            let more = if typed.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::new(terminal, PollFlags::IN | more));
            // One thing after the other: what the command does not take is not read, so that the typist notices.
            if listening && terminal.listens() && typed.is_empty() {
                places[2] = Some(fds.len());
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Happened::default()),
            Err(errno) => return Err(errno),
        }
        let at = |place: Option<usize>| place.and_then(|at| fds.get(at)).map_or(PollFlags::empty(), PollFd::revents);
        let ended = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        Ok(Happened {
            signal: at(Some(0)).intersects(PollFlags::IN),
            exit: at(Some(1)).intersects(ended),
            mounts: at(places[0]).intersects(Watch::CHANGED),
            said: at(places[1]).intersects(PollFlags::IN),
            takes: at(places[1]).intersects(PollFlags::OUT),
            typed: at(places[2]).intersects(ended),
        })
    }

    /// The command was stopped: whoever waits for this process is to see that, and continues both.
    fn stop(&mut self, enforced: &Enforced) {
        if let Some(terminal) = &mut self.terminal {
            terminal.show();
            terminal.restore();
        }
        // At a terminal of its own, only the command was told; without, the whole group was, this process included.
        let _ = sys::stop(self.terminal.is_some());
        if let Some(terminal) = &mut self.terminal {
            terminal.resume();
        }
        let _ = sys::kill_process(enforced.init, Signal::CONT);
    }

    fn pass_on(&mut self, enforced: &Enforced) {
        while let Some(signal) = sys::next_signal(&self.signals) {
            match (&mut self.terminal, signal) {
                (Some(terminal), Signal::WINCH) => terminal.resize(),
                (Some(terminal), Signal::CONT) => {
                    terminal.resume();
                    let _ = sys::kill_process(enforced.init, signal);
                }
                _ => drop(sys::kill_process(enforced.init, signal)),
            }
        }
    }
}

/// The next wait status that the init wrote; nothing when it is gone.
fn next_status(exit: &OwnedFd) -> Result<Option<i32>, Errno> {
    let mut status = [0; 4];
    loop {
        match rustix::io::read(exit.as_fd(), &mut status) {
            Ok(4) => return Ok(Some(i32::from_le_bytes(status))),
            Ok(_) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
