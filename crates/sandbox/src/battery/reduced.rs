//! What differs in posture `reduced`, where Landlock and the filter stand alone.

use super::Attempt;
use super::setting::Setting;

/// What cannot be tried: the launch itself is refused.
const REFUSED: &[&str] = &[
    // A read-only folder inside of one that may be written is a mount: a grant that holds such a folder does not start.
    "persist.03",
    "fs.31",
];

/// Whether `attempt` can be made under `setting`.
pub(super) fn applies(attempt: &Attempt, setting: &Setting) -> bool {
    !setting.is_reduced() || !REFUSED.contains(&attempt.id)
}

/// Whether an error holds an attempt although its row, which is written for namespaces, does not name it: what a filter or
/// Landlock refuses.
pub(super) fn holds(number: i32, setting: &Setting) -> bool {
    setting.is_reduced() && [libc::EPERM, libc::EACCES].contains(&number)
}
