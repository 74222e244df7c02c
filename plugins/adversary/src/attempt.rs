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
    /// The layers of the sandbox that stop it, each by itself.
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
    /// The one of them whose answer this was.
    stopped_by: Option<&'static str>,
    detail: String,
}

impl Attempt {
    pub(crate) fn run(&self) -> Outcome {
        let layers = self.layers;
        let (held, errno, stopped_by, detail) = match (self.run)() {
            Try::Refused(errno) => (true, Some(name(errno)), answered(errno, layers), errno.to_string()),
            Try::Nothing(what) => (true, None, layers.first().copied(), what.to_owned()),
            Try::Worked(what) => (false, None, None, what),
        };
        Outcome { id: self.id, act: self.act, held, errno, layers, stopped_by, detail }
    }
}

/// Which of `layers` answers with `errno`: each layer has answers of its own, and where several would stop an act, the
/// answer tells which was first.
fn answered(errno: Errno, layers: &[&'static str]) -> Option<&'static str> {
    let typical: &[&str] = match errno {
        Errno::PERM | Errno::NOSYS => &["seccomp", "capabilities"],
        Errno::ACCESS => &["landlock"],
        Errno::NOENT | Errno::ROFS | Errno::NOSPC | Errno::XDEV => &["mount_ns"],
        Errno::SRCH => &["pid_ns"],
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::CONNREFUSED => &["net_ns"],
        _ => &[],
    };
    let found = typical.iter().find_map(|wanted| layers.iter().find(|layer| *layer == wanted));
    found.or_else(|| layers.first()).copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_tells_the_layer() {
        assert_eq!(answered(Errno::PERM, &["net_ns", "seccomp"]), Some("seccomp"));
        assert_eq!(answered(Errno::NETUNREACH, &["net_ns", "seccomp"]), Some("net_ns"));
        assert_eq!(answered(Errno::ACCESS, &["mount_ns", "landlock"]), Some("landlock"));
        assert_eq!(answered(Errno::NOENT, &["mount_ns", "landlock"]), Some("mount_ns"));
        assert_eq!(
            answered(Errno::INVAL, &["mount_ns", "landlock"]),
            Some("mount_ns"),
            "the first, when it is nobody's"
        );
    }
}
