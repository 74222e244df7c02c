//! What differs in posture `reduced`, where Landlock and the filter stand alone.

use super::Attempt;
use super::run::Setting;
use crate::profile::Posture;

/// What only a namespace stops, and why it is accepted where there is none. The documents name the same.
const ACCEPTED: &[(&str, &str)] = &[
    ("fs.02", "Landlock does not look at stat(2): a program learns that a file exists, its size and its times"),
    ("fs.29", "the loader reads what it may read; execution is no border where files that can be read can be written"),
    ("info.03", "the name of the machine is not a secret that is worth a namespace"),
    ("info.09", "the view of control groups is shared; its number can be read, and nothing else of it"),
];

/// The same for an ordinary user alone, who has no user of its own to give to the program.
const ACCEPTED_OF_USERS: &[(&str, &str)] = &[
    (
        "kernel.20",
        "a user without capabilities cannot empty the bounding set; with no_new_privs no file gives a capability back",
    ),
    (
        "proc.11",
        "the kernel counts all processes of its user; the launcher counts the program's own, and ends it when there are more",
    ),
];

/// What cannot be tried: the launch itself is refused.
const REFUSED: &[&str] = &[
    // A read-only folder inside of one that may be written is a mount: a grant that holds such a folder does not start.
    "persist.03",
];

/// Whether `attempt` can be made under `setting`.
pub(super) fn applies(attempt: &Attempt, setting: Setting) -> bool {
    setting.posture != Posture::Reduced || !REFUSED.contains(&attempt.id)
}

/// Why it is accepted that `attempt` works under `setting`, if that is for want of namespaces.
pub(super) fn accepted(attempt: &Attempt, setting: Setting) -> Option<&'static str> {
    let of_users = if rustix::process::geteuid().is_root() { &[] } else { ACCEPTED_OF_USERS };
    let found = ACCEPTED.iter().chain(of_users).find(|(id, _)| *id == attempt.id);
    found.filter(|_| setting.posture == Posture::Reduced).map(|(_, why)| *why)
}

/// Whether an error holds an attempt although its row, which is written for namespaces, does not name it: what a filter or
/// Landlock refuses.
pub(super) fn holds(number: i32, setting: Setting) -> bool {
    setting.posture == Posture::Reduced && [libc::EPERM, libc::EACCES].contains(&number)
}
