//! Calls of the escape battery: each tries one thing that a sandboxed program must not be able to do.
//!
//! They are made raw, because the C library checks or rewrites some of them, and because what is tried is the kernel.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_long};
use rustix::io::Errno;

use super::clone::{Forked, check, exit_now, last_errno};

macro_rules! numbers_only {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) = $number:expr, $($value:expr),*;)+) => {$(
        $(#[$doc])*
        pub(crate) fn $name($($arg: $kind),*) -> Result<c_long, Errno> {
            // SAFETY: the call takes numbers only, and gives no memory to this process or away from it.
            check(unsafe { libc::syscall($number, $($value as c_long),*) })
        }
    )+};
}

numbers_only! {
    /// userfaultfd(2) for faults of user mode, which needs no privilege.
    userfaultfd() = libc::SYS_userfaultfd, 1;
    /// keyctl(2): the id of the session keyring.
    keyring_id() = libc::SYS_keyctl, 0, -3, 0;
    /// personality(2).
    personality(persona: u64) = libc::SYS_personality, persona;
    /// kcmp(2): compares descriptor 0 of `pid` with itself.
    compare_files(pid: i32) = libc::SYS_kcmp, pid, pid, 0, 0, 0;
    /// ptrace(2): attaches without stopping.
    ptrace_seize(pid: i32) = libc::SYS_ptrace, 0x4206, pid, 0, 0;
    /// shmget(2).
    shared_memory(key: i32, bytes: usize, flags: c_int) = libc::SYS_shmget, key, bytes, flags;
    /// shmctl(2): removes a segment.
    remove_shared_memory(id: c_int) = libc::SYS_shmctl, id, libc::IPC_RMID, 0;
    /// prctl(2) with numbers.
    prctl(option: c_int, argument: u64) = libc::SYS_prctl, option, argument, 0, 0, 0;
    /// socket(2), of any family.
    socket(family: c_int, kind: c_int, protocol: c_int) = libc::SYS_socket, family, kind, protocol;
    /// capget's sibling: a number of the 64-bit table with the bit of the x32 one.
    x32_getpid() = 0x4000_0000 | libc::SYS_getpid, 0;
    /// pidfd_getfd(2).
    take_descriptor(pidfd: c_int, theirs: c_int) = libc::SYS_pidfd_getfd, pidfd, theirs, 0;
    /// fanotify_init(2) as everybody may call it: names of files in place of descriptors.
    fanotify() = libc::SYS_fanotify_init, 0x200, libc::O_RDONLY;
    /// tgkill(2) to the first thread of `pid`.
    signal_thread(pid: i32, signal: c_int) = libc::SYS_tgkill, pid, pid, signal;
    /// ioprio_set(2): the lowest share of the usual class for process `pid`.
    set_io_priority(pid: i32) = libc::SYS_ioprio_set, 1, pid, (2 << 13) | 7;
    /// setns(2) of a descriptor that is none: `EBADF` says that the kernel looked at it.
    join_nothing() = libc::SYS_setns, -1, 0;
    /// bpf(2) with more than a page of nothing: `E2BIG` says that the kernel looked at it.
    bpf() = libc::SYS_bpf, 0, 0, 4097;
    /// clock_settime(2) from no address: `EFAULT` says that the kernel looked at it.
    set_clock_to_nowhere() = libc::SYS_clock_settime, libc::CLOCK_REALTIME, 0;
    /// quotactl(2) of a kind of quota that there is not: `EINVAL` says that the kernel looked at it.
    quota_of_no_kind() = libc::SYS_quotactl, 0x8000_00ff_u32, 0, 0, 0;
    /// set_mempolicy(2): the usual one.
    usual_memory_policy() = libc::SYS_set_mempolicy, 0, 0, 0;
    /// landlock_create_ruleset(2): asks for the version.
    landlock_version() = libc::SYS_landlock_create_ruleset, 0, 0, 1;
    /// A number that no call has.
    no_call() = 1000, 0;
    /// semget(2): one semaphore that only this process knows.
    semaphores() = libc::SYS_semget, libc::IPC_PRIVATE, 1, 0o600;
    /// semctl(2): removes a set.
    remove_semaphores(id: c_int) = libc::SYS_semctl, id, 0, libc::IPC_RMID;
    /// A call of administrators, without arguments: each refuses them, to whomever.
    administrators_call(number: c_long) = number, 0, 0, 0, 0;
}

/// Calls that are for administrators alone, and do nothing without arguments: reboot(2) without its magic numbers, loading no
/// module and no kernel, swapping on no file, a host name of no length.
pub(crate) const ADMINISTRATORS: [c_long; 6] = [
    libc::SYS_reboot,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_swapon,
    libc::SYS_sethostname,
    libc::SYS_pivot_root,
];

/// io_uring_setup(2).
pub(crate) fn io_uring() -> Result<c_long, Errno> {
    let mut parameters = [0_u8; 120];
    // SAFETY: the kernel reads and writes `struct io_uring_params`, which has 120 bytes; it maps nothing by itself.
    check(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1_usize, parameters.as_mut_ptr()) })
}

/// add_key(2) to the keyring of this process.
pub(crate) fn add_key() -> Result<c_long, Errno> {
    // SAFETY: three live strings, the last with its length; the kernel copies them.
    check(unsafe {
        libc::syscall(libc::SYS_add_key, c"user".as_ptr(), c"probe".as_ptr(), c"x".as_ptr(), 1_usize, -2_isize)
    })
}

/// perf_event_open(2): the dummy event of this process, without the kernel.
pub(crate) fn perf_event() -> Result<c_long, Errno> {
    const SIZE: u32 = 112;
    let mut attributes = [0_u32; (SIZE / 4) as usize];
    // type = PERF_TYPE_SOFTWARE, size, config = PERF_COUNT_SW_DUMMY, flags = exclude_kernel | exclude_hv.
    for (at, value) in [(0, 1), (1, SIZE), (2, 9), (10, 0b110_0000)] {
        if let Some(field) = attributes.get_mut(at) {
            *field = value;
        }
    }
    // SAFETY: the kernel reads `struct perf_event_attr` of the size that stands in it.
    check(unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0_usize) })
}

/// seccomp(2): asks whether an action exists.
pub(crate) fn seccomp_action() -> Result<c_long, Errno> {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: SECCOMP_GET_ACTION_AVAIL reads one 32-bit number.
    check(unsafe { libc::syscall(libc::SYS_seccomp, 2_usize, 0_usize, &raw const action) })
}

/// modify_ldt(2): reads the table.
#[cfg(target_arch = "x86_64")]
pub(crate) fn read_ldt() -> Result<c_long, Errno> {
    let mut table = [0_u8; 64];
    // SAFETY: function 0 writes at most as many bytes as it is told.
    check(unsafe { libc::syscall(libc::SYS_modify_ldt, 0_usize, table.as_mut_ptr(), table.len()) })
}

/// process_vm_readv(2) of one byte at address 0 of `pid`: `EFAULT` says that the kernel would have let it read.
pub(crate) fn read_memory(pid: i32) -> Result<c_long, Errno> {
    let mut byte = 0_u8;
    let here = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let there = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 };
    // SAFETY: both vectors live through the call, and ours points to one byte of ours; theirs is theirs.
    check(unsafe {
        libc::syscall(libc::SYS_process_vm_readv, pid, &raw const here, 1_usize, &raw const there, 1_usize, 0_usize)
    })
}

/// process_vm_writev(2) of one byte to address 0 of `pid`: `EFAULT` says that the kernel would have let it write.
pub(crate) fn write_memory(pid: i32) -> Result<c_long, Errno> {
    let mut byte = 0_u8;
    let here = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let there = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 };
    // SAFETY: both vectors live through the call, and ours points to one byte of ours, which is only read.
    check(unsafe {
        libc::syscall(libc::SYS_process_vm_writev, pid, &raw const here, 1_usize, &raw const there, 1_usize, 0_usize)
    })
}

/// open_by_handle_at(2) in no mount: `EBADF` says that the kernel looked at it.
pub(crate) fn open_by_handle() -> Result<c_long, Errno> {
    // `struct file_handle` of 8 bytes: its length, its kind, and the handle itself.
    let handle: [u32; 4] = [8, 1, 0, 0];
    // SAFETY: the handle says how long it is, and the kernel only reads it.
    check(unsafe { libc::syscall(libc::SYS_open_by_handle_at, -1_isize, handle.as_ptr(), libc::O_RDONLY) })
}

/// sendmmsg(2) of one message of one byte.
pub(crate) fn send_many(socket: BorrowedFd<'_>) -> Result<c_long, Errno> {
    let mut byte = *b"x";
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all zeros are a valid `struct mmsghdr`: no name, no parts, nothing beside them.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = &raw mut part;
    message.msg_hdr.msg_iovlen = 1;
    // SAFETY: one message, whose one part is a byte of ours; all of them live through the call.
    check(unsafe { libc::syscall(libc::SYS_sendmmsg, socket.as_raw_fd(), &raw mut message, 1_usize, 0_usize) })
}

/// sched_setscheduler(2): this process as one that waits for nobody.
pub(crate) fn schedule_as_batch() -> Result<c_long, Errno> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters live through the call, which reads them.
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0_usize, libc::SCHED_BATCH, &raw const parameters) })
}

/// mmap(2) of `bytes` that are writable and never touched, unmapped again.
pub(crate) fn reserve_memory(bytes: usize) -> Result<(), Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping where the kernel likes it disturbs no other.
    let area = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if area == libc::MAP_FAILED {
        return Err(last_errno());
    }
    // SAFETY: the mapping of just now, into which no reference exists.
    unsafe { libc::munmap(area, bytes) };
    Ok(())
}

/// ioperm(2) of more ports than there are: `EINVAL` says that the kernel looked at it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn too_many_ports() -> Result<c_long, Errno> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_ioperm, 0_usize, 0x2_0000_usize, 1_usize) })
}

/// Makes the call `number` with `arguments`, whatever that does, and returns what the kernel said.
///
/// Only for a process that exists for nothing else: see `battery::soak`.
pub(crate) fn anything(number: c_long, arguments: [u64; 6]) -> c_long {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: none, on purpose: the kernel may write anywhere into this process, or unmap it. It is a fork that makes
    // such calls until it dies, shares no memory with anybody, and owns nothing whose destructor will run; what it may
    // do to others is what is tested.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

/// name_to_handle_at(2).
pub(crate) fn file_handle(path: &CString) -> Result<c_long, Errno> {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        handle: [u8; 128],
    }
    let mut handle = Handle { bytes: 128, kind: 0, handle: [0; 128] };
    let mut mount = 0;
    // SAFETY: the handle says how much room it has; the kernel writes no more, and the mount's id.
    check(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0_usize,
        )
    })
}

/// ioctl(2) with a command of 64 bits, of which the kernel looks at 32, and room for 64 bytes.
pub(crate) fn ioctl(fd: BorrowedFd<'_>, command: u64) -> Result<c_long, Errno> {
    let mut room = [0_u8; 64];
    // SAFETY: the commands of the battery read or write at most 64 bytes there.
    check(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), command, room.as_mut_ptr()) })
}

/// mmap(2) of one page that is writable and executable, unmapped again.
pub(crate) fn map_writable_code() -> Result<(), Errno> {
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let page = map_page(protection)?;
    unmap_page(page);
    Ok(())
}

/// mprotect(2): writes into a page, then makes it executable.
pub(crate) fn make_data_executable() -> Result<(), Errno> {
    let page = map_page(libc::PROT_READ | libc::PROT_WRITE)?;
    // SAFETY: the page was just mapped, and nothing else uses it.
    let result = unsafe { libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_EXEC) };
    let result = check(c_long::from(result)).map(drop);
    unmap_page(page);
    result
}

const PAGE: usize = 4096;

fn map_page(protection: c_int) -> Result<*mut libc::c_void, Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping where the kernel likes it disturbs no other.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED { Err(last_errno()) } else { Ok(page) }
}

fn unmap_page(page: *mut libc::c_void) {
    // SAFETY: `page` is a mapping of this size by `map_page`, and no reference into it exists.
    unsafe { libc::munmap(page, PAGE) };
}

/// mlock(2) of a few bytes of this process.
pub(crate) fn lock_memory() -> Result<(), Errno> {
    let bytes = [0_u8; 64];
    // SAFETY: the range is a live array of ours.
    check(c_long::from(unsafe { libc::mlock(bytes.as_ptr().cast(), bytes.len()) })).map(drop)
}

/// clone3(2) of a plain child, which ends at once.
pub(crate) fn clone3() -> Result<c_long, Errno> {
    // `struct clone_args` of version 0: 64 bytes, of which the fifth number is the exit signal.
    let arguments: [u64; 8] = [0, 0, 0, 0, libc::SIGCHLD.unsigned_abs().into(), 0, 0, 0];
    // SAFETY: without CLONE_VM this is a fork; the child does nothing but end.
    let result = check(unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), 64_usize) });
    if result == Ok(0) { exit_now(0) } else { result }
}

/// A plain child in a new namespace, by clone(2); it ends at once.
pub(crate) fn clone_into(namespaces: c_int) -> Result<(), Errno> {
    match super::clone::clone_process(namespaces)? {
        Forked::Child => exit_now(0),
        Forked::Parent(pid) => super::wait_for(pid).map(drop),
    }
}

/// getpid(2) by the 32-bit door, where there is one.
#[cfg(target_arch = "x86_64")]
pub(crate) fn int80_getpid() -> c_long {
    let result: i32;
    // SAFETY: number 20 of the 32-bit table is getpid, which takes nothing. The kernel saves every register but r8 to
    // r11 there, which are declared lost.
    unsafe {
        std::arch::asm!(
            "int 0x80", inlateout("eax") 20 => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    c_long::from(result)
}

/// Waits until a signal ends this process.
pub(crate) fn pause() {
    // SAFETY: pause(2) takes nothing.
    unsafe { libc::pause() };
}

/// Ignores `SIGXFSZ`, so that a write beyond the limit gives `EFBIG` instead of ending the process.
pub(crate) fn ignore_file_size_signal() {
    // SAFETY: SIG_IGN is a valid disposition, and no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// truncate(2) to nothing.
pub(crate) fn truncate(path: &CString) -> Result<c_long, Errno> {
    // SAFETY: the path is a live string.
    check(unsafe { libc::syscall(libc::SYS_truncate, path.as_ptr(), 0_usize) })
}

/// fcntl(2) `F_SETOWN`: makes the kernel signal this process about the descriptor.
pub(crate) fn set_owner(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETOWN, libc::getpid()) };
    check(c_long::from(result)).map(drop)
}

/// Whether the number `fd` is an open descriptor.
pub(crate) fn is_open(fd: c_int) -> bool {
    // SAFETY: takes numbers only, and F_GETFD changes nothing.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}
