//! Executing.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::clone::last_errno;

/// Arguments and environment in the form in which the kernel takes them, made before the fork.
#[derive(Debug)]
pub(crate) struct ExecImage {
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl ExecImage {
    /// The image of `argv` and of the `NAME=value` strings `env`.
    #[must_use]
    pub(crate) const fn new(argv: Vec<CString>, env: Vec<CString>) -> Self {
        Self { argv, env }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Executes the file behind `fd` (execveat(2) with `AT_EMPTY_PATH`). Returns only when that failed.
#[must_use]
pub(crate) fn exec_fd(fd: BorrowedFd<'_>, image: &ExecImage) -> Errno {
    let (argv, env) = (pointers(&image.argv), pointers(&image.env));
    // SAFETY: both vectors end with null and point to C strings that `image` keeps alive; the kernel copies them.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

/// Executes `path` (execve(2)), for scripts, whose interpreter must be able to open them again. Returns only when that
/// failed.
#[must_use]
pub(crate) fn exec_path(path: &CStr, image: &ExecImage) -> Errno {
    let (argv, env) = (pointers(&image.argv), pointers(&image.env));
    // SAFETY: as in `exec_fd`.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    last_errno()
}
