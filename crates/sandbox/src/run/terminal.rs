//! [`Terminal`]: a pseudo-terminal for a command, between it and a person's terminal.
//!
//! The command never holds the person's terminal: what it could do with that (type into it, change it, take it over) it does
//! to one of its own, which ends with it. Job control inside works on that one; whoever waits outside passes bytes and size
//! on and, when the command is stopped, stops as well.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize};

/// A person's terminal, and the pseudo-terminal of his command.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Our end.
    master: OwnedFd,
    /// How the person's terminal was.
    saved: Termios,
    /// Whether it is in raw mode now: only then is what is typed passed on.
    raw: bool,
}

const PERSON: BorrowedFd<'static> = rustix::stdio::stdin();

impl Terminal {
    /// Makes one when a person sits at both ends: standard input and output are a terminal. Else, as in a pipeline, what is
    /// typed may be meant for somebody else. Also returns the command's end.
    pub(super) fn open() -> Result<Option<(Self, OwnedFd)>, Errno> {
        if !(isatty(PERSON) && isatty(rustix::stdio::stdout())) {
            return Ok(None);
        }
        let saved = tcgetattr(PERSON)?;
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let theirs = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        tcsetattr(&theirs, OptionalActions::Now, &saved)?;
        let terminal = Self { master, saved, raw: false };
        terminal.resize();
        rustix::io::ioctl_fionbio(&terminal.master, true)?;
        Ok(Some((terminal, theirs)))
    }

    /// Begins, or goes on after a stop. In the background nothing is typed for the command.
    pub(super) fn resume(&mut self) {
        // Where it is nobody's controlling terminal there is no background.
        let foreground = tcgetpgrp(PERSON).is_ok_and(|group| group != rustix::process::getpgrp());
        if foreground {
            return;
        }
        // The shell may have changed it since.
        if let (false, Ok(now)) = (self.raw, tcgetattr(PERSON)) {
            self.saved = now;
        }
        let mut raw = self.saved.clone();
        raw.make_raw();
        self.raw = tcsetattr(PERSON, OptionalActions::Drain, &raw).is_ok();
        self.resize();
    }

    /// Makes the person's terminal what it was.
    pub(super) fn restore(&mut self) {
        if std::mem::take(&mut self.raw) {
            let _ = tcsetattr(PERSON, OptionalActions::Drain, &self.saved);
        }
    }

    /// Whether what is typed is passed on.
    pub(super) const fn listens(&self) -> bool {
        self.raw
    }

    /// Gives the command's terminal the size of the person's; the kernel tells the command.
    pub(super) fn resize(&self) {
        if let Ok(size) = tcgetwinsize(PERSON) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// Passes on what the command said. `false` when there will be no more.
    pub(super) fn show(&self) -> bool {
        let mut buffer = [0; 8192];
        loop {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(0) => return false,
                Ok(count) => write_all(rustix::stdio::stdout(), buffer.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(errno) => return errno == Errno::AGAIN,
            }
        }
    }

    /// Reads what was typed into `typed`. `false` when there will be no more.
    pub(super) fn listen(typed: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 4096];
        match rustix::io::read(PERSON, &mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                typed.extend_from_slice(buffer.get(..count).unwrap_or_default());
                true
            }
            Err(errno) => matches!(errno, Errno::AGAIN | Errno::INTR),
        }
    }

    /// Gives the command as much of `typed` as it takes now.
    pub(super) fn tell(&self, typed: &mut Vec<u8>) {
        match rustix::io::write(&self.master, typed) {
            Ok(count) => drop(typed.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody is there to be told.
            Err(_) => typed.clear(),
        }
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Writes all of `bytes`. What cannot be written is lost, as it is when a terminal is closed.
fn write_all(to: BorrowedFd<'_>, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [rustix::event::PollFd::from_borrowed_fd(to, rustix::event::PollFlags::OUT)];
                let _ = rustix::event::poll(&mut fds, None);
            }
            Err(_) => return,
        }
    }
}
