//! Section `gateway`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sigil_types::UserId;

use super::forms::HostForm;

/// Where the gateway keeps its data and listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySettings {
    /// Data folder. Without it: `/var/lib/sigil` for root, else `$XDG_DATA_HOME/sigil`.
    pub data_dir: Option<PathBuf>,
    /// Address of the HTTP API: a loopback address and a port, or `null` for the Unix socket alone.
    #[schemars(with = "Option<String>", extend("format" = "loopback-address"))]
    pub listen: Option<SocketAddr>,
    /// Unix socket of the local command line. Without it: `$XDG_RUNTIME_DIR/sigil/sigil.sock`, else `run/sigil.sock` in the data folder.
    pub socket: Option<PathBuf>,
    /// Names, besides loopback addresses and `localhost`, that a `Host` header may have.
    #[schemars(with = "Vec<HostForm>")]
    pub hosts: Vec<String>,
    /// The person who owns this Sigil, as the signed policy names them.
    #[schemars(with = "String", extend("format" = "name"))]
    pub owner: UserId,
    /// Limits that keep one client from using up the gateway.
    pub limits: GatewayLimits,
}

/// Limits that keep one client from using up the gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayLimits {
    /// Largest request body, in bytes. Routes may have a lower one of their own.
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub body_bytes: usize,
    /// Time for request line and headers, and the longest pause between two requests of a connection, in milliseconds.
    #[schemars(range(min = 100, max = 120_000))]
    pub header_timeout_ms: u64,
    /// Time in which a client must have sent its body, in milliseconds.
    #[schemars(range(min = 100, max = 600_000))]
    pub body_timeout_ms: u64,
    /// Longest time that an answer may wait for its client to read it, in milliseconds.
    #[schemars(range(min = 1000, max = 3_600_000))]
    pub write_timeout_ms: u64,
    /// Connections at a time.
    #[schemars(range(min = 1, max = 65_536))]
    pub connections: usize,
    /// Event streams at a time for one principal.
    #[schemars(range(min = 1, max = 256))]
    pub streams_per_principal: usize,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            data_dir: None,
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7717))),
            socket: None,
            hosts: Vec::new(),
            #[expect(clippy::expect_used, reason = "a literal that the grammar of names accepts; held by a test")]
            owner: "owner".parse().expect("a name"),
            limits: GatewayLimits::default(),
        }
    }
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            body_bytes: 1024 * 1024,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            write_timeout_ms: 30_000,
            connections: 256,
            streams_per_principal: 4,
        }
    }
}
