//! One attempt, as a row of data, and what came of it.

use rustix::io::Errno;
use serde::Serialize;

/// What came of trying.
pub(crate) enum Try {
    /// The kernel said no.
    Refused(Errno),
    /// The act was possible, and there was nothing to be had by it.
    Nothing(&'static str),
    /// It worked.
    Worked(String),
}

impl<T> From<Result<T, Errno>> for Try {
    fn from(result: Result<T, Errno>) -> Self {
        match result {
            Ok(_) => Self::Worked(String::new()),
            Err(errno) => Self::Refused(errno),
        }
    }
}

impl<T> From<std::io::Result<T>> for Try {
    fn from(result: std::io::Result<T>) -> Self {
        match result {
            Ok(_) => Self::Worked(String::new()),
            // An error without a number is one that the standard library made of a call that failed.
            Err(error) => Self::Refused(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
}

/// One attempt.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    /// `group.what`.
    pub(crate) id: &'static str,
    /// What is tried, for people.
    pub(crate) act: &'static str,
    /// The layers of the sandbox that stop it, first the one that does so first.
    pub(crate) layers: &'static [&'static str],
    pub(crate) run: fn() -> Try,
}

/// What is reported of an attempt.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    id: &'static str,
    act: &'static str,
    /// Whether the sandbox held.
    pub(crate) held: bool,
    /// The kernel's answer, by name.
    errno: Option<String>,
    layers: &'static [&'static str],
    detail: String,
}

impl Attempt {
    pub(crate) fn run(&self) -> Outcome {
        let (held, errno, detail) = match (self.run)() {
            Try::Refused(errno) => (true, Some(name(errno)), errno.to_string()),
            Try::Nothing(what) => (true, None, what.to_owned()),
            Try::Worked(what) => (false, None, what),
        };
        Outcome { id: self.id, act: self.act, held, errno, layers: self.layers, detail }
    }
}

/// The symbolic name of an error number.
fn name(errno: Errno) -> String {
    let known = [
        (Errno::ACCESS, "EACCES"),
        (Errno::AFNOSUPPORT, "EAFNOSUPPORT"),
        (Errno::CONNREFUSED, "ECONNREFUSED"),
        (Errno::HOSTUNREACH, "EHOSTUNREACH"),
        (Errno::INVAL, "EINVAL"),
        (Errno::LOOP, "ELOOP"),
        (Errno::MFILE, "EMFILE"),
        (Errno::NETUNREACH, "ENETUNREACH"),
        (Errno::NOENT, "ENOENT"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::NOSYS, "ENOSYS"),
        (Errno::NOTDIR, "ENOTDIR"),
        (Errno::NXIO, "ENXIO"),
        (Errno::PERM, "EPERM"),
        (Errno::ROFS, "EROFS"),
        (Errno::SRCH, "ESRCH"),
        (Errno::TIMEDOUT, "ETIMEDOUT"),
        (Errno::XDEV, "EXDEV"),
        (Errno::TXTBSY, "ETXTBSY"),
    ];
    let found = known.iter().find(|(known, _)| *known == errno).map(|(_, name)| (*name).to_owned());
    found.unwrap_or_else(|| format!("errno {}", errno.raw_os_error()))
}
