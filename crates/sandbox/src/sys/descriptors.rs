//! Descriptors: closing all that were not meant, and passing few over a socket.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::clone::check;

/// How many descriptors one message may carry.
pub(crate) const MAX_FDS: usize = 8;

/// Gives the process exactly the descriptors `wanted`, in order from 0, and closes all others. The first three survive
/// an execve(2), the others do not. An absent one of the first three is `/dev/null`, since what is opened next would
/// otherwise take its place; another absent one stays closed.
///
/// # Errors
/// `EMFILE`; `ENOSYS` before Linux 5.9.
pub(crate) fn arrange_fds(wanted: &[Option<BorrowedFd<'_>>]) -> Result<(), Errno> {
    const KEPT: usize = 3;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // Far up first, so that none is overwritten before it was copied.
    let mut copies: Vec<Option<OwnedFd>> = Vec::with_capacity(wanted.len());
    for (number, fd) in wanted.iter().enumerate() {
        let fd = fd.or_else(|| (number < KEPT).then_some(null.as_fd()));
        copies.push(fd.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 64)).transpose()?);
    }
    for (number, copy) in copies.iter().enumerate() {
        let raw = RawFd::try_from(number).map_err(|_| Errno::MFILE)?;
        match copy {
            Some(copy) => {
                let flags = if number < KEPT { 0 } else { libc::O_CLOEXEC };
                // SAFETY: takes numbers only; what it closes is not used any more (see `close_range`).
                check(i64::from(unsafe { libc::dup3(copy.as_raw_fd(), raw, flags) }))?;
            }
            // SAFETY: as above; an error means that it was closed already.
            None => drop(unsafe { libc::close(raw) }),
        }
    }
    // The copies lie among what is closed now.
    std::mem::forget((copies, null));
    close_range(u32::try_from(wanted.len()).map_err(|_| Errno::MFILE)?, u32::MAX, 0)
}

/// Puts `fd` in the place of the standard stream `number`, where it survives an execve(2).
///
/// # Errors
/// `EBADF` when `number` is none.
pub(crate) fn replace_stream(number: usize, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let stream = RawFd::try_from(number).ok().filter(|number| (0..3).contains(number)).ok_or(Errno::BADF)?;
    // SAFETY: takes numbers only; a standard stream is replaced, not taken away.
    check(i64::from(unsafe { libc::dup2(fd.as_raw_fd(), stream) })).map(drop)
}

/// Closes every descriptor but `kept`.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub(crate) fn close_all_but(kept: RawFd) -> Result<(), Errno> {
    let kept = u32::try_from(kept).map_err(|_| Errno::BADF)?;
    if kept > 0 {
        close_range(0, kept - 1, 0)?;
    }
    close_range(kept + 1, u32::MAX, 0)
}

/// Closes every descriptor but standard error and `kept`, and opens `/dev/null` as standard input and output.
///
/// # Errors
/// `EMFILE`; `ENOSYS` before Linux 5.9.
pub(crate) fn close_others(kept: BorrowedFd<'_>) -> Result<(), Errno> {
    let number = u32::try_from(kept.as_raw_fd()).map_err(|_| Errno::BADF)?;
    if number < 3 {
        return Err(Errno::BADF);
    }
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
    for stream in 0..2 {
        // SAFETY: takes numbers only; standard input and output are replaced, not taken away.
        check(i64::from(unsafe { libc::dup2(null.as_raw_fd(), stream) }))?;
    }
    drop(null);
    if number > 3 {
        close_range(3, number - 1, 0)?;
    }
    close_range(number + 1, u32::MAX, 0)
}

/// The descriptor `number`, which [`arrange_fds`] put there.
#[must_use]
pub(crate) const fn fixed_fd(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is not −1. That it is open is the caller's affair: a closed one gives `EBADF`, nothing worse,
    // as the process has no other thread that could open it meanwhile.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Marks every descriptor from `first` on as close-on-exec (close_range(2)).
///
/// # Errors
/// `EINVAL` before Linux 5.11.
pub(crate) fn close_from_on_exec(first: u32) -> Result<(), Errno> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only. Closing descriptors that Rust values own would break those values: callers
    // are processes just forked, which use no such value afterwards (their clean-up never runs: they exec or _exit).
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Sends `bytes` in one message with `fds` beside them.
///
/// # Errors
/// Those of sendmsg(2); `EMSGSIZE` when there are too many descriptors.
pub(crate) fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Receives one message; descriptors that came with it are close-on-exec.
///
/// # Errors
/// Those of recvmsg(2); `EMSGSIZE` when the message was longer than `buffer` or carried more descriptors than fit.
pub(crate) fn receive_with_fds(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok((received.bytes, fds))
}
