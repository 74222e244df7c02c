//! The sandbox: profiles as data, the launcher that verifies, compiles and applies them, and the escape battery.
//!
//! Two halves. [`profile`] turns a manifest, a base profile and signed ceilings into a [`profile::Profile`]; nothing in
//! it touches the system. [`launcher`] is a process of its own that trusts only signed policy: it compiles the profile
//! itself, applies it through [`mod@sys`], the only place with `unsafe`, and returns a signed receipt. There is no way
//! to start a program without a profile.

#![deny(unsafe_code)]

pub mod battery;
mod cgroup;
pub mod client;
pub mod confine;
pub mod denials;
pub mod doctor;
pub mod host;
pub mod interpreter;
pub mod launcher;
pub mod people;
pub mod profile;
pub mod receipt;
pub mod remedy;
pub mod report;
pub mod run;
pub mod seatbelt;
mod sys;
pub mod tree;

pub use sys::give_back as give_back_memory;
