//! What is known of system calls: which of their arguments matter, which name a path, and why they are refused.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Need;
use crate::profile::FilterData;
use crate::profile::seccomp::Alternative;

/// A path among the arguments of a call.
pub(super) struct PathArg {
    /// The argument that holds the folder from which a relative path counts; none: the working directory.
    pub(super) folder: Option<usize>,
    /// The argument that points to the path.
    pub(super) path: usize,
    /// For what.
    pub(super) need: PathNeed,
}

/// For what a call names a path.
pub(super) enum PathNeed {
    /// Always this.
    Always(Need),
    /// It is in the flags of open(2), which this argument has.
    Flags(usize),
}

impl PathNeed {
    pub(super) fn of(&self, args: &[u64; 6]) -> Need {
        match self {
            Self::Always(need) => *need,
            Self::Flags(at) => {
                let flags = args.get(*at).and_then(|flags| i32::try_from(*flags & 0x7fff_ffff).ok()).unwrap_or(0);
                let writes = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
                if flags & writes != 0 {
                    Need::Write
                } else if flags & libc::O_PATH != 0 {
                    Need::Look
                } else {
                    Need::Read
                }
            }
        }
    }
}

const fn plain(path: usize, need: Need) -> PathArg {
    PathArg { folder: None, path, need: PathNeed::Always(need) }
}

const fn at(folder: usize, path: usize, need: Need) -> PathArg {
    PathArg { folder: Some(folder), path, need: PathNeed::Always(need) }
}

/// The paths that the call `name` has among its arguments.
pub(super) fn paths(name: &str) -> &'static [PathArg] {
    match name {
        "open" => const { &[PathArg { folder: None, path: 0, need: PathNeed::Flags(1) }] },
        "openat" => const { &[PathArg { folder: Some(0), path: 1, need: PathNeed::Flags(2) }] },
        "stat" | "lstat" | "access" | "readlink" | "statfs" => const { &[plain(0, Need::Look)] },
        "chdir" => const { &[plain(0, Need::Look)] },
        "newfstatat" | "faccessat" | "faccessat2" | "statx" | "readlinkat" | "name_to_handle_at" => {
            const { &[at(0, 1, Need::Look)] }
        }
        "getxattr" | "lgetxattr" | "listxattr" | "llistxattr" | "inotify_add_watch" => {
            const { &[plain(0, Need::Look)] }
        }
        "execve" => const { &[plain(0, Need::Execute)] },
        "execveat" => const { &[at(0, 1, Need::Execute)] },
        "creat" | "mkdir" | "rmdir" | "unlink" | "truncate" | "chmod" | "utime" | "utimes" | "mknod" | "chown"
        | "lchown" | "setxattr" | "lsetxattr" | "removexattr" | "lremovexattr" => const { &[plain(0, Need::Write)] },
        "mkdirat" | "unlinkat" | "fchmodat" | "fchmodat2" | "utimensat" | "futimesat" | "mknodat" | "fchownat" => {
            const { &[at(0, 1, Need::Write)] }
        }
        "rename" => const { &[plain(0, Need::Write), plain(1, Need::Write)] },
        "renameat" | "renameat2" => const { &[at(0, 1, Need::Write), at(2, 3, Need::Write)] },
        "link" => const { &[plain(0, Need::Read), plain(1, Need::Write)] },
        "linkat" => const { &[at(0, 1, Need::Read), at(2, 3, Need::Write)] },
        // The first is what the link says, not a place.
        "symlink" => const { &[plain(1, Need::Write)] },
        "symlinkat" => const { &[at(1, 2, Need::Write)] },
        "chroot" | "umount2" | "acct" | "swapon" => const { &[plain(0, Need::Look)] },
        "mount" => const { &[plain(1, Need::Look)] },
        _ => &[],
    }
}

/// Which arguments of a refused call say what was wanted: those that its rules look at, or those that choose a kind. The others
/// count as 0, so that calls which differ in a pointer or a descriptor are one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Telling(BTreeMap<String, BTreeSet<u8>>);

impl Telling {
    /// Of the calls of `filter`.
    #[must_use]
    pub fn of(filter: &FilterData) -> Self {
        let arguments = |any: &Vec<Alternative>| any.iter().flatten().map(|condition| condition.arg).collect();
        let ruled = filter.allow.iter().filter(|(_, any)| !any.is_empty());
        Self(ruled.map(|(name, any)| (name.clone(), arguments(any))).collect())
    }

    /// The arguments of the call `name`, the others as 0.
    pub(super) fn of_call(&self, name: &str, args: &[u64; 6]) -> [u64; 6] {
        let chosen: &[u8] = match name {
            "socket" | "socketpair" => &[0, 1, 2],
            "ptrace" | "keyctl" | "bpf" | "unshare" | "seccomp" | "personality" | "quotactl" | "reboot" | "syslog" => {
                &[0]
            }
            "setns" | "fsopen" | "ioctl" | "fcntl" | "setsockopt" => &[1],
            _ => &[],
        };
        let mut kept = [0; 6];
        for at in self.0.get(name).into_iter().flatten().chain(chosen).map(|at| usize::from(*at)) {
            if let (Some(place), Some(arg)) = (kept.get_mut(at), args.get(at)) {
                *place = *arg;
            }
        }
        kept
    }
}

/// What a call that no profile allows would be good for, by families.
const FAMILIES: &[(&[&str], &str)] = &[
    (
        &[
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "open_tree",
            "move_mount",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "mount_setattr",
        ],
        "it builds another file tree, behind the rules on files",
    ),
    (&["unshare", "setns"], "it leaves for another namespace, where it could have rights that it does not have here"),
    (
        &["ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "process_madvise"],
        "it looks into another process",
    ),
    (&["open_by_handle_at", "name_to_handle_at"], "it opens files without a path, past the rules on paths"),
    (&["mknod", "mknodat"], "it makes devices"),
    (
        &[
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "keyctl",
            "add_key",
            "request_key",
            "io_setup",
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "modify_ldt",
            "iopl",
            "ioperm",
            "lookup_dcookie",
            "quotactl",
            "acct",
            "swapon",
            "swapoff",
            "reboot",
            "syslog",
            "settimeofday",
            "clock_settime",
            "adjtimex",
            "sethostname",
            "setdomainname",
            "vmsplice",
            "memfd_secret",
        ],
        "it reaches parts of the kernel that are large, or that all programs of the machine share",
    ),
    (
        &["seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"],
        "it builds a sandbox of its own; this one stays in force without it",
    ),
    (
        &[
            "setuid",
            "setgid",
            "setreuid",
            "setregid",
            "setresuid",
            "setresgid",
            "setgroups",
            "setfsuid",
            "setfsgid",
            "capset",
        ],
        "it becomes somebody else",
    ),
    (
        &[
            "chown",
            "fchown",
            "lchown",
            "fchownat",
            "setxattr",
            "lsetxattr",
            "fsetxattr",
            "removexattr",
            "lremovexattr",
            "fremovexattr",
            "link",
            "linkat",
        ],
        "it changes owners, attributes or names of files; contents, modes and times can be changed where writing is granted",
    ),
    (
        &["inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch", "fanotify_init", "fanotify_mark"],
        "it watches what others do with files; programs that can poll instead do so",
    ),
    (
        &[
            "shmget",
            "shmat",
            "shmctl",
            "shmdt",
            "semget",
            "semop",
            "semctl",
            "semtimedop",
            "msgget",
            "msgsnd",
            "msgrcv",
            "msgctl",
            "mq_open",
            "mq_unlink",
            "mq_timedsend",
            "mq_timedreceive",
            "mq_notify",
            "mq_getsetattr",
        ],
        "it shares memory or queues by name with other programs",
    ),
    (
        &[
            "sched_setaffinity",
            "sched_setscheduler",
            "sched_setparam",
            "sched_setattr",
            "setpriority",
            "ioprio_set",
            "mbind",
            "set_mempolicy",
            "migrate_pages",
            "move_pages",
        ],
        "it takes processor time or memory before others",
    ),
    (
        &["sendmmsg"],
        "it sends many messages at once, into which no filter can look; libraries send them one by one instead",
    ),
    (
        &["bind", "listen", "accept", "accept4"],
        "it waits for connections from outside; nothing connects into a sandbox",
    ),
    (&["prlimit64"], "it changes the limits of another process"),
    (&["mlock", "mlock2", "mlockall", "munlock", "munlockall"], "it keeps memory from being swapped out"),
];

/// Why the call `name` is refused, in one clause.
pub(super) fn why(name: &str, args: &[u64; 6]) -> &'static str {
    let domain = args.first().map(|domain| *domain & u64::from(u32::MAX));
    match (name, domain) {
        ("socket", Some(1)) => "sockets of other programs are reached by path; the filter has no sockets of that kind",
        ("socket", Some(2 | 10)) => {
            "there is no network here; with a granted host, TCP to the egress proxy is allowed, and nothing else"
        }
        ("socket", Some(16)) => "it asks the kernel about interfaces and routes; programs go on without the answer",
        ("socket", _) => "the filter allows no sockets of that family",
        ("connect" | "sendto", _) => "there is no network here: no host is granted",
        ("ioctl", _) => "the filter allows a list of device commands, and this is not on it",
        ("prctl", _) => "the filter allows a list of process settings, and this is not on it",
        ("fcntl", _) => "this setting makes the kernel act in this program's name, or holds others up",
        ("mmap" | "mprotect" | "pkey_mprotect", _) => {
            "memory becomes executable only when it is mapped so from a file; interpreters that compile need a profile for them"
        }
        ("memfd_create", _) => "a file in memory must be sealed against execution (MFD_NOEXEC_SEAL)",
        ("clone", _) => "threads and processes are allowed, new namespaces are not",
        ("open" | "openat" | "creat" | "chmod" | "fchmod" | "fchmodat" | "fchmodat2", _) => {
            "files with a set-user-id or set-group-id bit are never made"
        }
        ("personality", _) => "it would switch off protections of memory",
        _ => FAMILIES
            .iter()
            .find(|(names, _)| names.contains(&name))
            .map_or("the profile's list of system calls does not have it", |(_, why)| why),
    }
}

/// The call as a person reads it: its name, the arguments that matter, and the path that it named.
pub(super) fn describe(name: &str, args: &[u64; 6], path: Option<&str>) -> String {
    let known = match (name, args.first()) {
        ("socket" | "socketpair", Some(1)) => Some("AF_UNIX"),
        ("socket", Some(2)) => Some("AF_INET"),
        ("socket", Some(10)) => Some("AF_INET6"),
        ("socket", Some(16)) => Some("AF_NETLINK"),
        ("socket", Some(17)) => Some("AF_PACKET"),
        _ => None,
    };
    let last = args.iter().rposition(|arg| *arg != 0).map_or(0, |at| at + 1);
    let mut words: Vec<String> =
        args.iter().take(last).map(|arg| if *arg < 10 { arg.to_string() } else { format!("{arg:#x}") }).collect();
    if let (Some(known), Some(first)) = (known, words.first_mut()) {
        known.clone_into(first);
    }
    words.extend(path.map(|path| format!("{path:?}")));
    format!("{name}({})", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{base::BaseProfile, syscalls};

    #[test]
    fn the_families_name_real_calls_and_no_allowed_ones() {
        let filter = BaseProfile::load("native").unwrap().filter(&Default::default());
        for name in FAMILIES.iter().flat_map(|(names, _)| *names) {
            assert!(syscalls::is_known(name), "{name}");
            assert!(filter.allow.get(*name).is_none_or(|any| !any.is_empty()), "{name} is allowed");
        }
    }

    #[test]
    fn calls_that_differ_in_pointers_are_one() {
        let telling = Telling::of(&BaseProfile::load("native").unwrap().filter(&Default::default()));
        let one = telling.of_call("ioctl", &[3, 0x5412, 0x7fff_1234, 0, 0, 0]);
        let other = telling.of_call("ioctl", &[4, 0x5412, 0x7fff_5678, 0, 0, 0]);
        assert_eq!(one, other);
        assert_ne!(one, telling.of_call("ioctl", &[3, 0x5413, 0, 0, 0, 0]));
        assert_eq!(telling.of_call("mount", &[1, 2, 3, 4, 5, 6]), [0; 6]);
        assert_eq!(telling.of_call("socket", &[16, 3, 0, 9, 9, 9]), [16, 3, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_opened_says_for_what() {
        let need = |flags: i32| paths("openat")[0].need.of(&[0, 0, flags as u64, 0, 0, 0]);
        assert_eq!(need(libc::O_RDONLY), Need::Read);
        assert_eq!(need(libc::O_PATH), Need::Look);
        assert_eq!(need(libc::O_WRONLY | libc::O_CREAT), Need::Write);
        assert_eq!(need(libc::O_RDWR), Need::Write);
    }
}
