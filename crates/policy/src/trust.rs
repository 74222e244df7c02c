//! [`TrustStore`]: the keys that may sign a policy, and how many of them it takes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sigil_types::{Code, Digest, Name};

/// An Ed25519 public key (RFC 8032). Written as `ed25519:` and base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// Why a text is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a public key is `ed25519:` and the base64 form of 32 bytes")]
pub struct ParsePublicKeyError;

impl PublicKey {
    /// The key with these 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its id: the SHA-256 digest of its bytes. Names the key in an envelope.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = ParsePublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text.strip_prefix("ed25519:").ok_or(ParsePublicKeyError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| ParsePublicKeyError)?;
        bytes.try_into().map(Self).map_err(|_| ParsePublicKeyError)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", STANDARD.encode(self.0))
    }
}

crate::ceilings::text_form!(PublicKey);

/// One key that may sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// Whose it is, for people: `sean-laptop`.
    pub name: Name,
    /// The key.
    pub key: PublicKey,
    /// No longer counts, and stays listed so that it cannot come back by accident.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
}

/// The trust document: the keys that may sign, and how many distinct ones of them must.
///
/// INVARIANT: keys and names are distinct, and at least one and at most all of the keys that are not revoked are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustStore {
    threshold: usize,
    keys: Vec<TrustedKey>,
}

/// The written form of a [`TrustStore`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    threshold: usize,
    keys: Vec<TrustedKey>,
}

/// The newest form of the trust document that this Sigil reads and writes.
const FORMAT: u32 = 1;
/// Longest trust document, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Why a trust document is refused.
#[derive(Debug, thiserror::Error)]
pub enum TrustRefused {
    /// Not the JSON that it should be, or too large.
    #[error("the trust document is not readable: {0}")]
    Malformed(String),
    /// The same key or name stands in it twice.
    #[error("the trust document names `{0}` twice")]
    Doubled(String),
    /// Nobody could sign, or nobody would have to.
    #[error("the trust document asks for {threshold} signatures and has {usable} keys that count")]
    Threshold {
        /// How many signatures are asked for.
        threshold: usize,
        /// How many keys are not revoked.
        usable: usize,
    },
}

impl TrustRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::new("policy.trust.document.malformed"),
            Self::Doubled(_) => Code::new("policy.trust.key.doubled"),
            Self::Threshold { .. } => Code::new("policy.trust.threshold.unreachable"),
        }
    }
}

impl TrustStore {
    /// A store of `keys`, of which `threshold` distinct ones must sign.
    ///
    /// # Errors
    /// When a key or name is doubled, or when the threshold is zero or above the number of keys that are not revoked.
    pub fn new(threshold: usize, keys: Vec<TrustedKey>) -> Result<Self, TrustRefused> {
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for trusted in &keys {
            if !ids.insert(trusted.key) || !names.insert(trusted.name.clone()) {
                return Err(TrustRefused::Doubled(trusted.name.to_string()));
            }
        }
        let usable = keys.iter().filter(|key| !key.revoked).count();
        if threshold == 0 || threshold > usable {
            return Err(TrustRefused::Threshold { threshold, usable });
        }
        Ok(Self { threshold, keys })
    }

    /// A store of one key.
    #[must_use]
    pub fn of_one(name: Name, key: PublicKey) -> Self {
        Self { threshold: 1, keys: vec![TrustedKey { name, key, revoked: false }] }
    }

    /// Reads a trust document.
    ///
    /// # Errors
    /// When it is not JSON of this form (unknown and doubled fields included), or as for [`TrustStore::new`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustRefused> {
        if bytes.len() > MAX_BYTES {
            return Err(TrustRefused::Malformed(format!("{} bytes; at most {MAX_BYTES}", bytes.len())));
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| TrustRefused::Malformed(error.to_string()))?;
        if document.format != FORMAT {
            return Err(TrustRefused::Malformed(format!("format {}; this Sigil reads {FORMAT}", document.format)));
        }
        Self::new(document.threshold, document.keys)
    }

    /// Writes the trust document.
    #[must_use]
    pub fn to_json(&self) -> String {
        let document = Document { format: FORMAT, threshold: self.threshold, keys: self.keys.clone() };
        // INVARIANT: plain data with string keys always serialises.
        serde_json::to_string_pretty(&document).unwrap_or_default()
    }

    /// How many distinct keys must sign.
    #[must_use]
    pub const fn threshold(&self) -> usize {
        self.threshold
    }

    /// All keys, revoked ones included.
    #[must_use]
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }

    /// The key with this id, unless it is revoked.
    #[must_use]
    pub fn key(&self, id: &Digest) -> Option<&TrustedKey> {
        self.keys.iter().find(|trusted| !trusted.revoked && trusted.key.id() == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, byte: u8) -> TrustedKey {
        TrustedKey { name: name.parse().expect("a name"), key: PublicKey::from_bytes([byte; 32]), revoked: false }
    }

    #[test]
    fn a_document_survives_its_json() {
        let revoked = TrustedKey { revoked: true, ..key("old", 9) };
        let store = TrustStore::new(2, vec![key("a", 1), key("b", 2), revoked]).expect("valid");
        assert_eq!(TrustStore::parse(store.to_json().as_bytes()).expect("its own"), store);
        assert!(store.key(&PublicKey::from_bytes([9; 32]).id()).is_none(), "a revoked key does not count");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let revoked = TrustedKey { revoked: true, ..key("b", 2) };
        let code = |result: Result<TrustStore, TrustRefused>| result.expect_err("refused").code().to_string();
        assert_eq!(code(TrustStore::new(0, vec![key("a", 1)])), "policy.trust.threshold.unreachable");
        assert_eq!(code(TrustStore::new(2, vec![key("a", 1), revoked])), "policy.trust.threshold.unreachable");
        assert_eq!(code(TrustStore::new(1, vec![key("a", 1), key("b", 1)])), "policy.trust.key.doubled");
        assert_eq!(code(TrustStore::new(1, vec![key("a", 1), key("a", 2)])), "policy.trust.key.doubled");
        for bad in [
            "{}",
            r#"{"format":2,"threshold":1,"keys":[]}"#,
            r#"{"format":1,"format":1,"threshold":1,"keys":[]}"#,
            r#"{"format":1,"threshold":1,"keys":[],"more":1}"#,
        ] {
            assert_eq!(code(TrustStore::parse(bad.as_bytes())), "policy.trust.document.malformed", "{bad}");
        }
    }
}
