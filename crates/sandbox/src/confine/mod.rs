//! Applying a profile: what the launcher does between a request and a running program, and what `sigil sandbox run`
//! does without a launcher.
//!
//! A [`Prepared`] is a checked profile; [`Prepared::start`] makes it an [`Enforced`], a running program of which every
//! required layer was applied and, where that can be tried, seen at work from inside. Where the same profile will be wanted
//! again, [`Prepared::ahead`] takes most of the steps before anybody asks. There is no other way to start a program.

mod child;
mod failure;
pub(crate) mod family;
mod gateway;
mod ids;
mod landlock;
mod last;
mod listen;
mod mounts;
mod prepared;
mod root;
mod sources;
mod standby;
mod start;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod trial;

pub use failure::{Failure, Stage, StartFailed};
pub use gateway::{ConfineFailed, Confined, Keep, Kept, apart, confine_gateway, try_gateway};
pub use listen::Listening;
pub(crate) use mounts::{Mounts, Watch};
pub use prepared::{Attended, Pin, Prepared};
pub use standby::Standby;
pub use start::{Enforced, Streams};

/// The version of the kernel's Landlock interface; 0 when there is none or it is switched off (landlock(7)).
#[must_use]
pub fn landlock_abi() -> u32 {
    crate::sys::landlock_abi()
}
