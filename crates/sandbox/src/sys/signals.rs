//! Signals and waiting.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};

use super::clone::{check, last_errno};

/// Gives every signal its default disposition and unblocks all of them (signal(7)).
///
/// # Errors
/// None on a kernel that Sigil runs on.
pub(crate) fn reset_signals() -> Result<(), Errno> {
    // `struct sigaction` as the kernel has it: handler, flags, restorer, mask; all zeroes is the default disposition.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // The system call, because the C library keeps two signals for itself, which could have been left ignored.
        // SAFETY: `default` is a valid kernel sigaction, the old one is not asked for, and the size is that of the
        // kernel's mask. SIGKILL and SIGSTOP are refused, which changes nothing.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, std::ptr::null_mut::<u8>(), 8_usize)
        };
    }
    set_mask(libc::SIG_SETMASK, 0)
}

const ALL_SIGNALS: u64 = u64::MAX;

fn set_mask(how: i32, set: u64) -> Result<(), Errno> {
    // SAFETY: `set` is a kernel mask of eight bytes, and the old one is not asked for.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, std::ptr::null_mut::<u8>(), size_of::<u64>())
    };
    check(result).map(drop)
}

/// Kills the process `pid`.
///
/// # Errors
/// `ESRCH` when it is gone.
pub(crate) fn kill_process(pid: Pid, signal: Signal) -> Result<(), Errno> {
    rustix::process::kill_process(pid, signal)
}

/// The life of a pid namespace's init: forwards every signal to the process group of `child`, reaps whatever dies, and
/// returns the wait status of `child` (waitpid(2)) when that one has ended. Meanwhile `stopped` is given the wait status of
/// each time that it stops.
///
/// # Errors
/// Those of waitpid(2); `EPIPE` when the signal `end` came.
pub(crate) fn forward_and_reap(child: Pid, end: Option<Signal>, stopped: impl Fn(i32)) -> Result<i32, Errno> {
    let all = ALL_SIGNALS;
    loop {
        while let Some((pid, status)) = wait_any(libc::WUNTRACED)? {
            if pid != child {
                continue;
            }
            if libc::WIFSTOPPED(status) {
                stopped(status);
            } else {
                return Ok(status);
            }
        }
        let none = std::ptr::null_mut::<u8>();
        // SAFETY: the set is a kernel mask of eight bytes; neither details nor a time limit are asked for.
        let signal = unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const all, none, none, size_of::<u64>()) };
        if end.is_some_and(|end| signal == libc::c_long::from(end.as_raw())) {
            return Err(Errno::PIPE);
        }
        if let (Ok(signal), true) = (i32::try_from(signal), signal > 0 && signal != libc::c_long::from(libc::SIGCHLD)) {
            // SAFETY: kill(2) takes numbers only.
            unsafe { libc::kill(-child.as_raw_nonzero().get(), signal) };
        }
    }
}

/// The signal by which an init without a process namespace hears of its parent's end: one that nothing else sends. It blocks
/// it like all others and so lives to end what the program has started.
#[must_use]
pub(crate) fn parent_end_signal() -> Signal {
    // SAFETY: a real-time signal that the C library does not keep for itself.
    unsafe { Signal::from_raw_unchecked(libc::SIGRTMAX()) }
}

/// Reaps the child `pid` if it has ended.
///
/// # Errors
/// `ECHILD` when it is not a child.
pub(crate) fn reap(pid: Pid) -> Result<(), Errno> {
    rustix::process::waitpid(Some(pid), WaitOptions::NOHANG).map(drop)
}

/// Kills every other process of the pid namespace whose init this process is. Does nothing in any other process: there it
/// would kill everything of its user.
pub(crate) fn kill_all_others() {
    if rustix::process::getpid() == Pid::INIT {
        // SAFETY: kill(2) takes numbers only; an init cannot reach beyond its namespace.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// Blocks every signal, so that [`forward_and_reap`] gets each.
///
/// # Errors
/// None on a kernel that Sigil runs on.
pub(crate) fn block_signals() -> Result<(), Errno> {
    set_mask(libc::SIG_SETMASK, ALL_SIGNALS)
}

/// The signals that `sigil sandbox run` passes on to its command.
const FORWARDED: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
    libc::SIGCONT,
    libc::SIGTSTP,
];

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Blocks the signals that are passed on, and returns a descriptor by which they are read (signalfd(2)), one after the other.
///
/// # Errors
/// `EMFILE`.
pub(crate) fn take_signals() -> Result<OwnedFd, Errno> {
    let set = FORWARDED.iter().fold(0, |set, signal| set | bit(*signal));
    set_mask(libc::SIG_BLOCK, set)?;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set is a kernel mask of eight bytes; a new descriptor is asked for.
    let fd = check(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const set, size_of::<u64>(), flags) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next signal of [`take_signals`], if one has come.
pub(crate) fn next_signal(signals: &OwnedFd) -> Option<Signal> {
    /// `struct signalfd_siginfo`; its first four bytes are the number.
    const BYTES: usize = 128;
    let mut info = [0; BYTES];
    if rustix::io::read(signals, &mut info) != Ok(BYTES) {
        return None;
    }
    let number: [u8; 4] = info.first_chunk().copied()?;
    Signal::from_named_raw(i32::from_ne_bytes(number))
}

/// Stops this process, or with `group` its whole process group, as Ctrl-Z does; returns when it goes on. Where nobody could
/// continue it, the kernel does nothing (an orphaned process group).
///
/// # Errors
/// None on a kernel that Sigil runs on.
pub(crate) fn stop(group: bool) -> Result<(), Errno> {
    let target = if group { 0 } else { rustix::process::getpid().as_raw_nonzero().get() };
    set_mask(libc::SIG_UNBLOCK, bit(libc::SIGTSTP))?;
    // SAFETY: kill(2) takes numbers only.
    let result = check(libc::c_long::from(unsafe { libc::kill(target, libc::SIGTSTP) }));
    set_mask(libc::SIG_BLOCK, bit(libc::SIGTSTP))?;
    result.map(drop)
}

/// The forwarded signals, and the one by which a parent hears of its child.
fn forwarded() -> u64 {
    FORWARDED.iter().chain(&[libc::SIGCHLD]).fold(0, |set, signal| set | bit(*signal))
}

/// Blocks the signals that [`forward_until_exit`] waits for.
///
/// # Errors
/// None on a kernel that Sigil runs on.
pub(crate) fn block_forwarded_signals() -> Result<(), Errno> {
    set_mask(libc::SIG_BLOCK, forwarded())
}

/// Undoes [`block_forwarded_signals`].
///
/// # Errors
/// None on a kernel that Sigil runs on.
pub(crate) fn unblock_forwarded_signals() -> Result<(), Errno> {
    set_mask(libc::SIG_UNBLOCK, forwarded())
}

/// Passes signals on to the child `pid` until that one has ended, and reaps it.
///
/// # Errors
/// Those of waitpid(2).
pub(crate) fn forward_until_exit(pid: Pid) -> Result<(), Errno> {
    let set = forwarded();
    let none = std::ptr::null_mut::<u8>();
    loop {
        while let Some((ended, _)) = wait_any(0)? {
            if ended == pid {
                return Ok(());
            }
        }
        // SAFETY: the set is a kernel mask of eight bytes; neither details nor a time limit are asked for.
        let signal = unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, none, none, size_of::<u64>()) };
        if let (Ok(signal), true) = (i32::try_from(signal), signal > 0 && signal != libc::c_long::from(libc::SIGCHLD)) {
            // SAFETY: kill(2) takes numbers only; the child was not reaped, so the id is still its own.
            unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
        }
    }
}

/// Ends this process by `signal`, as its command ended: a shell that waits sees the same. Returns when that is not possible.
pub(crate) fn die_by(signal: i32) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // What would be dumped is not the command.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = reset_signals();
    // SAFETY: kill(2) takes numbers only.
    unsafe { libc::kill(libc::getpid(), signal) };
}

/// A child that has ended, if any has: its id and wait status. With `WUNTRACED` as `more` also one that has stopped.
///
/// # Errors
/// `ECHILD` when there is no child at all.
pub(crate) fn wait_any(more: i32) -> Result<Option<(Pid, i32)>, Errno> {
    let mut status = 0;
    // SAFETY: `status` is an int that lives through the call.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | more) } {
        -1 => Err(last_errno()),
        pid => Ok(Pid::from_raw(pid).map(|pid| (pid, status))),
    }
}

/// Waits for `child` to end, and returns its wait status.
///
/// # Errors
/// `ECHILD` when it is not a child.
pub(crate) fn wait_for(child: Pid) -> Result<i32, Errno> {
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status.as_raw()),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether the peer of `socket` is gone.
#[must_use]
pub(crate) fn peer_gone(socket: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default())).is_ok()
        && fds.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}
