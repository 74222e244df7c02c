//! Egress: the only way out to a network.
//!
//! Two doors. [`Proxy`] serves plugins, in HTTP and SOCKS 5: one listener is one [`Identity`], and nothing that a request claims changes it.
//! [`HttpClient`] serves the host itself: model providers that signed policy names. Both judge a target by its text before a
//! name is resolved, resolve once, check every answer, and dial exactly what was checked.

mod client;
pub mod proxy;
mod refused;
mod resolve;
mod rules;
mod surroundings;

use std::net::SocketAddr;

pub use client::{
    BadHttpRequest, ClientLimits, HostRights, HttpClient, HttpRequest, HttpResponse, RequestFailed, Roots,
};
pub use proxy::ended;
pub use proxy::{Proxy, ProxyHandle, ProxyLimits, ProxyStats, ServeFailed};
pub use refused::{Refused, Told};
pub use resolve::{BoxFuture, Resolver, SystemResolver};
pub use rules::{Covered, EgressRule, Identity, Way};
pub use surroundings::Surroundings;

/// Connects to an address that was checked. The only place in the proxy where a connection begins.
#[expect(clippy::disallowed_methods, reason = "this is the place: the address was checked, and its entry is durable")]
async fn connect(address: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
    tokio::net::TcpStream::connect(address).await
}
