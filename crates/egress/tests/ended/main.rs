//! TLS that the proxy ends by consent, with real clients, a host with real TLS, and everything that is refused in between.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests")]
#![allow(unreachable_pub, reason = "one test program")]
#![allow(clippy::disallowed_methods, reason = "the plugin's side of the proxy, and servers")]

#[path = "../common/mod.rs"]
mod common;
mod refused;
mod rig;
mod secrets;
mod through;
