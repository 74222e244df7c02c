//! Identities and capabilities.

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::clone::check;

/// What a process may do beyond its user's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// Effective, permitted and inheritable capabilities, united.
    pub(crate) capabilities: u64,
    /// Whether `no_new_privs` is set.
    pub(crate) no_new_privs: bool,
}

/// Becomes `uid` and `gid` for good, with no supplementary groups.
///
/// # Errors
/// `EPERM` without the right to.
pub(crate) fn set_ids(uid: u32, gid: u32, clear_groups: bool) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if clear_groups {
        rustix::thread::set_thread_groups(&[])?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Empties the bounding, ambient, inheritable, permitted and effective sets, and locks the secure bits, so that neither
/// uid 0 nor a file could bring a capability back. `no_new_privs` comes with it. With `become_ids`, becomes that user and
/// group on the way, while it still may.
///
/// A process that has no capability at all and no user namespace of its own cannot change bounding set and secure bits;
/// with `no_new_privs` they give it nothing.
///
/// # Errors
/// `EPERM` when the process may not; then nothing can be assumed.
pub(crate) fn drop_all_privileges(become_ids: Option<(u32, u32)>) -> Result<(), Errno> {
    if privileges()?.capabilities != 0 {
        lock_capabilities()?;
    }
    if let Some((uid, gid)) = become_ids {
        set_ids(uid, gid, true)?;
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    rustix::thread::set_no_new_privs(true)
}

fn lock_capabilities() -> Result<(), Errno> {
    /// SECBIT_NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE with their locks, and KEEP_CAPS locked off
    /// (linux/securebits.h).
    const SECURE_BITS: libc::c_ulong = 0b1110_1111;
    for capability in 0..64_u64 {
        // SAFETY: prctl with numbers only.
        let result = check(i64::from(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }));
        match result {
            // The first number that the kernel does not know.
            Err(Errno::INVAL) => break,
            other => other?,
        };
    }
    // SAFETY: prctl with numbers only.
    check(i64::from(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECURE_BITS, 0, 0, 0) })).map(drop)
}

/// What the calling thread may do.
///
/// # Errors
/// None on a kernel that Sigil runs on.
pub(crate) fn privileges() -> Result<Privileges, Errno> {
    let sets = rustix::thread::capabilities(None)?;
    let capabilities = (sets.effective | sets.permitted | sets.inheritable).bits();
    Ok(Privileges { capabilities, no_new_privs: rustix::thread::no_new_privs()? })
}

/// How many threads the calling process has.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn thread_count() -> Result<usize, std::io::Error> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}
