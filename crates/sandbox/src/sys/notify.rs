//! Notifications of a system call filter (seccomp_unotify(2)): the calls that it does not decide wait until somebody answers.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use seccompiler::sock_filter;

use super::clone::{check, last_errno};

/// One call that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    /// Names the call until it is answered.
    pub(crate) id: u64,
    /// The thread that made it, as the receiver's process namespace numbers it; 0 when it has no number there.
    pub(crate) thread: i32,
    /// The number of the call, as the kernel saw it.
    pub(crate) number: i64,
    /// Its arguments, as the kernel saw them: registers, not what they point to.
    pub(crate) args: [u64; 6],
}

/// What a waiting call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallAnswer {
    /// It fails with this errno; nothing of it happens.
    Fails(u32),
    /// It goes on, as if no filter had asked. Everything behind the filter still decides.
    GoesOn,
}

/// Installs `program` on the calling thread, and returns the descriptor on which its notifications are received.
///
/// # Errors
/// `EBUSY` when some filter of this thread has a listener already; `EINVAL` before Linux 5.0; `EACCES` without
/// no_new_privs.
pub(crate) fn install_listener(program: &[sock_filter]) -> Result<OwnedFd, Errno> {
    /// `struct sock_fprog`, with the element type of the compiler of filters, which has the kernel's form.
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const sock_filter,
    }
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = Program { len, filter: program.as_ptr() };
    let install = |flags: libc::c_ulong| {
        // SAFETY: the program and its instructions live through the call; the kernel checks and copies them.
        check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
    };
    // A call that somebody looks at is then interrupted by deadly signals only, not begun anew by every other (Linux 5.19).
    let patient = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let number = match install(patient) {
        Err(Errno::INVAL) => install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?,
        other => other?,
    };
    let number = RawFd::try_from(number).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Receives the call that has waited longest. `None` when it was given up meanwhile. Blocks unless `listener` is readable.
///
/// # Errors
/// Those of ioctl(2).
pub(crate) fn receive_call(listener: BorrowedFd<'_>) -> Result<Option<Notification>, Errno> {
    // The kernel refuses a buffer that is not zeroed.
    let mut notification = MaybeUninit::<libc::seccomp_notif>::zeroed();
    // SAFETY: the kernel writes one `struct seccomp_notif`, of the size that is part of the command.
    let received = check(i64::from(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, notification.as_mut_ptr())
    }));
    match received {
        Err(Errno::NOENT | Errno::INTR) => return Ok(None),
        other => other?,
    };
    // SAFETY: it was zeroed, which is a valid value of these integers, and the kernel has filled it.
    let notification = unsafe { notification.assume_init() };
    let thread = i32::try_from(notification.pid).unwrap_or(0);
    let data = notification.data;
    Ok(Some(Notification { id: notification.id, thread, number: i64::from(data.nr), args: data.args }))
}

/// Answers the waiting call `id`. No error when its thread is gone.
///
/// # Errors
/// Those of ioctl(2).
pub(crate) fn answer_call(listener: BorrowedFd<'_>, id: u64, answer: CallAnswer) -> Result<(), Errno> {
    let (error, flags) = match answer {
        CallAnswer::Fails(errno) => (i32::try_from(errno).map_or(-libc::EPERM, |errno| -errno), 0),
        CallAnswer::GoesOn => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE),
    };
    let mut response =
        libc::seccomp_notif_resp { id, val: 0, error, flags: u32::try_from(flags).map_err(|_| Errno::INVAL)? };
    // SAFETY: the kernel reads one `struct seccomp_notif_resp`, of the size that is part of the command.
    let sent = check(i64::from(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response)
    }));
    match sent {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether the call `id` still waits: then its thread's number has not gone to another one.
pub(crate) fn call_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one number of 64 bits.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Reads the memory of the process of `thread` at `address` into `buffer`, as far as it is mapped, over at most two pages
/// (process_vm_readv(2)); returns how many bytes.
///
/// # Errors
/// `EPERM` when this process may not look at that one; `EFAULT` when nothing is mapped there; `ESRCH`.
pub(crate) fn read_other(thread: i32, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    const PAGE: usize = 4096;
    let address = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    let first = buffer.len().min(PAGE - address % PAGE);
    let next = address.checked_add(first).ok_or(Errno::FAULT)?;
    let second = (buffer.len() - first).min(PAGE);
    let here = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: first + second };
    let there = [(address, first), (next, second)]
        .map(|(start, length)| libc::iovec { iov_base: std::ptr::without_provenance_mut(start), iov_len: length });
    // SAFETY: ours is a live buffer of at least that length. The addresses of the others are never touched by this process:
    // the kernel reads them in the other one.
    let read = unsafe { libc::process_vm_readv(thread, &raw const here, 1, there.as_ptr(), there.len() as u64, 0) };
    usize::try_from(read).map_err(|_| last_errno())
}
