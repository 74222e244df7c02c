//! How long the proxy waits for each step before bytes pass. What an instance may use is in its [`NetworkLimits`].
//!
//! [`NetworkLimits`]: sigil_policy::NetworkLimits

use std::time::Duration;

/// How long each step of a beginning connection may take.
#[derive(Debug, Clone)]
pub struct ProxyLimits {
    /// Until the whole request is there.
    pub request: Duration,
    /// Until the whole ClientHello is there.
    pub hello: Duration,
    /// For a name to be resolved.
    pub resolve: Duration,
    /// For one address to answer.
    pub connect: Duration,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        let each = |seconds| Duration::from_secs(seconds);
        Self { request: each(10), hello: each(10), resolve: each(5), connect: each(5) }
    }
}
