//! The only place where the parts of Sigil are put together.
//!
//! `launcher` and `opened` run before the runtime, `start` puts the parts together, `gateway` holds them, `room` is a workspace,
//! `operations` answers the server's requests with them.

mod denials;
pub(crate) mod gateway;
pub(crate) mod launcher;
pub(crate) mod opened;
mod operations;
mod room;
mod secrets;
pub(crate) mod start;
pub(crate) mod views;
