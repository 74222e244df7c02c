//! How a program finds the egress proxy.

use std::collections::BTreeSet;

use super::base::{BaseProfile, Feature};
use super::compile::PROXY_PORT;
use super::refused::CompileRefused;
use super::{Network, Posture, Profile};

/// The variables by which programs find the egress proxy.
///
/// ALL_PROXY stays HTTP: Python's usual clients read it, and end with an error at a SOCKS address when their SOCKS package is
/// not installed. SOCKS_PROXY is read by those who speak it. `h`: the proxy resolves, nobody else can.
pub(super) fn variables(port: u16) -> impl Iterator<Item = (String, String)> {
    let names = [("HTTP_PROXY", "http"), ("HTTPS_PROXY", "http"), ("ALL_PROXY", "http"), ("SOCKS_PROXY", "socks5h")];
    names.into_iter().flat_map(move |(name, scheme)| {
        let value = format!("{scheme}://127.0.0.1:{port}");
        [(name.to_lowercase(), value.clone()), (name.to_owned(), value)]
    })
}

/// Gives a command's profile the egress proxy where it has none: nothing can be reached through it, and it can say what was
/// to be reached. For learn mode.
///
/// # Errors
/// [`CompileRefused::Base`] when the base profile is unknown.
pub(crate) fn with_proxy(profile: &mut Profile) -> Result<(), CompileRefused> {
    // Without namespaces there is no network at all, and no place for a proxy.
    if profile.network != Network::None || profile.posture == Posture::Reduced {
        return Ok(());
    }
    let base = BaseProfile::load(&profile.name)?;
    profile.network = Network::Proxy(PROXY_PORT);
    profile.seccomp = base.filter(&BTreeSet::from([Feature::Proxy]));
    for (name, value) in variables(PROXY_PORT) {
        profile.exec.env.entry(name).or_insert(value);
    }
    Ok(())
}
