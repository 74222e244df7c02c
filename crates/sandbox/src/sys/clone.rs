//! Making processes.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::process::Pid;

/// On which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Forked {
    /// In the new process.
    Child,
    /// In the old one.
    Parent(Pid),
}

/// Forks with the C library's own `fork`, which keeps its allocator usable in the child.
///
/// # Errors
/// `EAGAIN` at the limit of processes, `ENOMEM`.
pub(crate) fn fork_process() -> Result<Forked, Errno> {
    // SAFETY: the child continues in ordinary Rust code. The callers have one thread (they check), so no lock can be
    // held by a thread that does not exist in the child.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        0 => Ok(Forked::Child),
        pid => Pid::from_raw(pid).map(Forked::Parent).ok_or(Errno::INVAL),
    }
}

/// Forks into new namespaces: clone(2) with `namespaces` (`CLONE_NEW*`) and nothing shared.
///
/// # Errors
/// `EPERM` without the right to make them, `ENOSPC` at a limit of namespaces, `EAGAIN`, `ENOMEM`.
pub(crate) fn clone_process(namespaces: libc::c_int) -> Result<Forked, Errno> {
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: without CLONE_VM this is fork(2) with namespaces: the child has a copy of everything, on the same stack.
    // It passes by the C library's fork handlers; the callers have one thread (they check), so there is no lock to
    // reset.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match pid {
        -1 => Err(last_errno()),
        0 => Ok(Forked::Child),
        pid => i32::try_from(pid).ok().and_then(Pid::from_raw).map(Forked::Parent).ok_or(Errno::INVAL),
    }
}

/// As [`clone_process`], in the control group whose folder is `group` from its first moment on (clone3(2) with
/// `CLONE_INTO_CGROUP`): moving a process there afterwards makes the whole machine wait for a moment.
///
/// # Errors
/// As [`clone_process`]; `ENOSYS` before Linux 5.3, or where a filter hides the call; `E2BIG` before 5.7.
pub(crate) fn clone_process_into(namespaces: libc::c_int, group: BorrowedFd<'_>) -> Result<Forked, Errno> {
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let number = |value: i32| u64::from(value.unsigned_abs());
    // `struct clone_args` of version 2: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    // set_tid_size, cgroup.
    let arguments: [u64; 11] =
        [number(namespaces) | INTO_CGROUP, 0, 0, 0, number(libc::SIGCHLD), 0, 0, 0, 0, 0, number(group.as_raw_fd())];
    // SAFETY: as in `clone_process`: a fork with namespaces, without a stack of its own and without CLONE_VM. The arguments
    // live through the call, and their size is passed with them.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
    match pid {
        -1 => Err(last_errno()),
        0 => Ok(Forked::Child),
        pid => i32::try_from(pid).ok().and_then(Pid::from_raw).map(Forked::Parent).ok_or(Errno::INVAL),
    }
}

/// Runs `child` in a new process that borrows this one's memory until it executes or exits (clone(2) with `CLONE_VM |
/// CLONE_VFORK`, as posix_spawn does). The caller sleeps meanwhile. No page table is copied.
///
/// `child` must not return a value that matters to memory: what it returns is the exit status.
///
/// # Errors
/// As [`fork_process`].
pub(crate) fn vfork_process(child: &mut dyn FnMut() -> i32) -> Result<Pid, Errno> {
    extern "C" fn enter(argument: *mut libc::c_void) -> libc::c_int {
        // SAFETY: `argument` is the pointer to the fat reference below, which outlives the child: the parent sleeps.
        let child = unsafe { &mut *argument.cast::<&mut dyn FnMut() -> i32>() };
        child()
    }
    let stack = Stack::new()?;
    let top = stack.top();
    let mut child = child;
    let argument: *mut libc::c_void = std::ptr::from_mut(&mut child).cast();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is ours, page-aligned, and lives until after the call, which returns only when the child
    // has executed or exited. The child touches memory only while this, the only other thread, sleeps in the kernel.
    let pid = unsafe { libc::clone(enter, top, flags, argument) };
    if pid == -1 { Err(last_errno()) } else { Pid::from_raw(pid).ok_or(Errno::INVAL) }
}

/// The stack of a process that borrows this one's memory: pages that exist only once they are touched, above one that
/// may not be.
struct Stack(*mut libc::c_void);

impl Stack {
    const BYTES: usize = 256 * 1024;
    const GUARD: usize = 4096;

    fn new() -> Result<Self, Errno> {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping, at an address that the kernel chooses.
        let bottom = unsafe { mmap_anonymous(std::ptr::null_mut(), Self::BYTES, protection, MapFlags::PRIVATE) }?;
        let stack = Self(bottom);
        // SAFETY: the lowest page of that mapping, which nothing uses.
        unsafe { mprotect(bottom, Self::GUARD, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    const fn top(&self) -> *mut libc::c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.0.byte_add(Self::BYTES) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and the process that ran on it has executed or exited.
        let _ = unsafe { rustix::mm::munmap(self.0, Self::BYTES) };
    }
}

/// Ends the process at once: no destructors, no exit handlers, no flushing of what the parent buffered.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(status) }
}

pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

pub(super) fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}
