//! The vault's secrets on one connection: fetched when it begins, put where their stand-ins are, looked for in what comes
//! back.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use sigil_types::{Credentials, Host, Name, PluginName, Secret, WorkspaceId};
use zeroize::Zeroizing;

use super::scrub::Patterns;
use super::sentinel::{CREDENTIAL_FIELDS, Placed, Sentinel, placed, stands_in};
use super::{Ended, NotForwarded};
use crate::BoxFuture;
use crate::rules::Identity;

/// Shorter secrets would be found where they are not, and their forms with them.
pub const MIN_SECRET: usize = 16;

/// The vault cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the vault cannot be used")]
pub struct VaultUnavailable;

/// Where the real secrets are. Asked once for each connection and secret; the answer is wiped with the connection.
pub trait SecretSource: fmt::Debug + Send + Sync {
    /// The secret `name`, for `plugin` in `workspace` to send to `host`; `None` when there is none that is bound to all three.
    fn secret<'a>(
        &'a self,
        name: &'a Name,
        plugin: &'a PluginName,
        workspace: Option<&'a WorkspaceId>,
        host: &'a Host,
    ) -> BoxFuture<'a, Result<Option<Secret<String>>, VaultUnavailable>>;
}

/// The secrets that may go to one host.
#[derive(Debug, Default)]
pub(super) struct Held {
    secrets: Vec<(Sentinel, Secret<String>)>,
    /// Their forms, to be taken out of answers.
    pub(super) patterns: Arc<Patterns>,
}

impl Held {
    /// Fetches all that are bound to `host`, used or not: what another connection has sent may come back on this one.
    pub(super) async fn fetch(ended: &Ended, identity: &Identity, host: &Host) -> Result<Self, NotForwarded> {
        let mut held = Self::default();
        let mut patterns = Patterns::default();
        let Some(source) = &ended.source else { return Ok(held) };
        for sentinel in ended.sentinels.iter().filter(|sentinel| sentinel.covers(host)) {
            let asked = source.secret(sentinel.secret(), &identity.plugin, identity.workspace.as_ref(), host).await;
            let Some(secret) = asked.map_err(|VaultUnavailable| NotForwarded::Vault)? else { continue };
            if secret.expose().len() >= MIN_SECRET {
                patterns.add(secret.expose().as_bytes());
                held.secrets.push((sentinel.clone(), secret));
            }
        }
        held.patterns = Arc::new(patterns);
        Ok(held)
    }

    /// Puts the secrets into the credential fields that have their stand-ins. Returns the names of those that were put in.
    ///
    /// # Errors
    /// When a stand-in stands anywhere else, is not for `host`, has no secret, or a credential is there that may not be.
    pub(super) fn put_in(
        &self,
        ended: &Ended,
        rule: Credentials,
        host: &Host,
        fields: &mut HeaderMap,
    ) -> Result<Vec<Name>, NotForwarded> {
        let mut used = Vec::new();
        for (name, value) in fields.iter_mut() {
            if !CREDENTIAL_FIELDS.contains(&name.as_str()) {
                if stands_in(value.as_bytes()) || stands_in(name.as_str().as_bytes()) {
                    return Err(NotForwarded::SentinelPlace);
                }
                continue;
            }
            let (before, text, basic) = match placed(value.as_bytes()) {
                Placed::Absent if rule == Credentials::Any => continue,
                Placed::Absent => return Err(NotForwarded::Credential),
                Placed::Elsewhere => return Err(NotForwarded::SentinelPlace),
                Placed::Plain { before, sentinel } => (before, sentinel, false),
                Placed::Basic { before, sentinel } => (before, sentinel, true),
            };
            let known = ended.sentinels.iter().find(|known| known.text() == text && known.covers(host));
            let known = known.ok_or(NotForwarded::SentinelHost)?;
            let secret = self.secrets.iter().find(|(sentinel, _)| sentinel == known).map(|(_, secret)| secret);
            *value = with_secret(&before, secret.ok_or(NotForwarded::Secret)?, basic)?;
            used.push(known.secret().clone());
        }
        if rule == Credentials::Vault && used.is_empty() {
            return Err(NotForwarded::NoCredential);
        }
        Ok(used)
    }
}

/// A field's value with the secret in it. Its memory is wiped when the last holder lets go of it.
fn with_secret(before: &str, secret: &Secret<String>, basic: bool) -> Result<HeaderValue, NotForwarded> {
    // With room for all of it from the beginning, so that no copy is left behind by growing.
    let mut plain = Zeroizing::new(Vec::with_capacity(before.len() + secret.expose().len()));
    plain.extend_from_slice(before.as_bytes());
    plain.extend_from_slice(secret.expose().as_bytes());
    let value = if basic {
        const SCHEME: &[u8] = b"Basic ";
        let mut value = Zeroizing::new(vec![0; SCHEME.len() + plain.len().div_ceil(3) * 4]);
        let (scheme, rest) = value.split_at_mut(SCHEME.len());
        scheme.copy_from_slice(SCHEME);
        STANDARD.encode_slice(&*plain, rest).map_err(|_| NotForwarded::Secret)?;
        value
    } else {
        plain
    };
    // A secret with a line break in it can be no field's value.
    let mut value =
        HeaderValue::from_maybe_shared(Bytes::from_owner(Wiped(value))).map_err(|_| NotForwarded::Secret)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a field's value lives in.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_holds_the_secret_and_does_not_show_it() {
        let secret = Secret::new("s3cr3t-0123456789abcdef".to_owned());
        let plain = with_secret("Bearer ", &secret, false).expect("a value");
        assert_eq!(plain.as_bytes(), b"Bearer s3cr3t-0123456789abcdef");
        assert!(!format!("{plain:?}").contains("s3cr3t"));
        let basic = with_secret("user:", &secret, true).expect("a value");
        assert_eq!(basic.as_bytes(), b"Basic dXNlcjpzM2NyM3QtMDEyMzQ1Njc4OWFiY2RlZg==");
        let broken = Secret::new("0123456789abcdef\r\nX: y".to_owned());
        assert!(matches!(with_secret("", &broken, false), Err(NotForwarded::Secret)));
    }
}
