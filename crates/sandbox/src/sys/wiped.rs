//! [`WipedOnFork`]: memory that children see as zeroes.

use std::ptr::NonNull;

use rustix::io::Errno;

/// Bytes on a page of their own that a forked child finds zeroed (madvise(2), `MADV_WIPEONFORK`), that are not in core
/// dumps, and that are wiped when dropped. For the seed of the launcher's signing key: every program that it starts
/// begins as a fork of it.
pub(crate) struct WipedOnFork<const N: usize> {
    page: NonNull<libc::c_void>,
}

const PAGE: usize = 4096;

impl<const N: usize> WipedOnFork<N> {
    /// Moves `bytes` there.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` before Linux 4.14, or when there are more bytes than fit on a page.
    pub(crate) fn new(bytes: &[u8; N]) -> Result<Self, Errno> {
        if N > PAGE {
            return Err(Errno::INVAL);
        }
        // SAFETY: a new anonymous mapping, at an address that the kernel chooses.
        let page = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                PAGE,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::PRIVATE,
            )
        }?;
        let wiped = Self { page: NonNull::new(page).ok_or(Errno::NOMEM)? };
        for advice in [libc::MADV_WIPEONFORK, libc::MADV_DONTDUMP] {
            // SAFETY: the page is ours, whole and page-aligned.
            if unsafe { libc::madvise(page, PAGE, advice) } == -1 {
                return Err(super::clone::last_errno());
            }
        }
        // SAFETY: the page is at least N bytes long, writable, and nobody else knows it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), page.cast::<u8>(), N) };
        Ok(wiped)
    }

    /// The bytes; zeroes in a forked child.
    #[must_use]
    pub(crate) const fn expose(&self) -> &[u8; N] {
        // SAFETY: the page is mapped, initialised (anonymous memory is zeroed) and N bytes long for as long as `self`
        // lives; nothing writes to it while it is borrowed.
        unsafe { self.page.cast::<[u8; N]>().as_ref() }
    }
}

impl<const N: usize> Drop for WipedOnFork<N> {
    fn drop(&mut self) {
        // SAFETY: the page is ours and nobody borrows it any more. Errors mean that it was not mapped.
        unsafe {
            std::ptr::write_bytes(self.page.as_ptr().cast::<u8>(), 0, N);
            let _ = rustix::mm::munmap(self.page.as_ptr(), PAGE);
        }
    }
}

impl<const N: usize> std::fmt::Debug for WipedOnFork<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WipedOnFork(…)")
    }
}
