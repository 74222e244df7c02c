//! What the server is told when it starts.

use std::time::Duration;

use sigil_types::{Host, UserId};

/// What the server is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The owner of this host's Sigil: who a process of the same user is, on the Unix socket.
    pub owner: UserId,
    /// Names, besides loopback addresses and `localhost`, that a `Host` header may have.
    pub hosts: Vec<Host>,
    /// Limits.
    pub limits: Limits,
}

/// Limits that keep one client from using up the gateway.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest request body in bytes. Most routes have a lower one.
    pub body_bytes: usize,
    /// Time for request line and headers, and the longest pause between two requests of a connection.
    pub header_timeout: Duration,
    /// Time for the body.
    pub body_timeout: Duration,
    /// Longest time that an answer may wait for its client to read it.
    pub write_timeout: Duration,
    /// Connections at a time.
    pub connections: usize,
    /// Event streams at a time for one principal.
    pub streams_per_principal: usize,
    /// How often a quiet stream says that it is alive.
    pub keep_alive: Duration,
    /// Time that open requests get when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1024 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            connections: 256,
            streams_per_principal: 4,
            keep_alive: Duration::from_secs(15),
            drain: Duration::from_secs(10),
        }
    }
}
