//! [`SigningKey`]: an Ed25519 key pair.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sigil_types::{Code, Secret};

use crate::trust::PublicKey;

/// An Ed25519 key pair (RFC 8032), kept as PKCS#8 version 2 (RFC 8410).
pub struct SigningKey {
    pkcs8: Secret<Vec<u8>>,
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyUnusable {
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes; try again")]
    NoRandomness,
    /// The bytes are not an Ed25519 key in PKCS#8.
    #[error("the bytes are not an Ed25519 key in PKCS#8 form")]
    Malformed,
}

impl KeyUnusable {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NoRandomness => Code::new("policy.key.random.failed"),
            Self::Malformed => Code::new("policy.key.malformed"),
        }
    }
}

impl SigningKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// When there is none.
    pub fn generate() -> Result<Self, KeyUnusable> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyUnusable::NoRandomness)?;
        Self::from_pkcs8(Secret::new(document.as_ref().to_vec()))
    }

    /// The key in a PKCS#8 document.
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_pkcs8(pkcs8: Secret<Vec<u8>>) -> Result<Self, KeyUnusable> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.expose()).map_err(|_| KeyUnusable::Malformed)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyUnusable::Malformed)?;
        Ok(Self { pkcs8, pair, public: PublicKey::from_bytes(public) })
    }

    /// Its public half.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Its PKCS#8 document.
    #[must_use]
    pub const fn pkcs8(&self) -> &Secret<Vec<u8>> {
        &self.pkcs8
    }

    /// Signs `message`: 64 bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}
