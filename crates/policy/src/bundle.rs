//! [`Bundle`]: a signed policy on its way from bytes to force.
//!
//! `Bundle<Unverified>` is an envelope of the right form. [`Bundle::verify`] turns it into `Bundle<Verified>`, which is the
//! only thing that shows ceilings or becomes a [`Policy`]. The launcher stops there; no Cedar is touched before
//! [`Bundle::compile`].

use sigil_types::{Digest, Name, Timestamp};

use crate::ceilings::Ceilings;
use crate::envelope::Envelope;
use crate::payload::Payload;
use crate::policy::Policy;
use crate::refused::BundleRefused;
use crate::trust::TrustStore;

/// State of a [`Bundle`] whose signatures were not looked at.
#[derive(Debug, Clone)]
pub struct Unverified {
    envelope: Envelope,
}

/// State of a [`Bundle`] that trusted keys have signed, that is whole, valid now, and not older than the last one.
#[derive(Debug, Clone)]
pub struct Verified {
    digest: Digest,
    signers: Vec<Signer>,
    payload: Payload,
    ceilings: Ceilings,
}

/// Who has signed a verified bundle.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Signer {
    /// The name that the trust document has for the key.
    pub name: Name,
    /// The key's id: the SHA-256 digest of its 32 bytes.
    pub key: Digest,
}

/// A signed policy, verified or not.
#[derive(Debug, Clone)]
pub struct Bundle<State> {
    state: State,
}

impl Bundle<Unverified> {
    /// Reads an envelope, at most [`MAX_ENVELOPE_BYTES`](crate::MAX_ENVELOPE_BYTES) long. Its payload stays unread.
    ///
    /// # Errors
    /// [`BundleRefused::Malformed`] for everything that [`sign`](crate::sign) would not have written.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleRefused> {
        Ok(Self { state: Unverified { envelope: Envelope::parse(bytes)? } })
    }

    /// The digest of what is signed. Another signature does not change it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.state.envelope.payload)
    }

    /// Verifies signatures, digests, validity at `now`, and that the version is at least `floor`.
    ///
    /// Signatures come first: nothing of the payload is read before enough trusted keys vouch for it.
    ///
    /// # Errors
    /// The first reason for which it is refused.
    pub fn verify(self, trust: &TrustStore, now: Timestamp, floor: u64) -> Result<Bundle<Verified>, BundleRefused> {
        let signers = self.state.envelope.verify(trust)?;
        let signers = signers.into_iter().map(|key| Signer { name: key.name.clone(), key: key.key.id() }).collect();
        let payload = Payload::parse(&self.state.envelope.payload)?;
        if payload.version < floor {
            return Err(BundleRefused::Rollback { version: payload.version, floor });
        }
        if now < payload.not_before {
            return Err(BundleRefused::NotYetValid { not_before: payload.not_before, now });
        }
        if now >= payload.expires {
            return Err(BundleRefused::Expired { expires: payload.expires, now });
        }
        let ceilings = payload.ceilings()?;
        Ok(Bundle { state: Verified { digest: self.digest(), signers, payload, ceilings } })
    }

    /// What it says of itself, believed by nobody: for showing it.
    pub(crate) fn claims(&self) -> Result<Payload, BundleRefused> {
        Payload::parse(&self.state.envelope.payload)
    }

    /// The ids of the keys that it names as signers, believed by nobody.
    pub(crate) fn claimed_signers(&self) -> impl Iterator<Item = Digest> + '_ {
        self.state.envelope.signatures.iter().map(|signature| signature.key)
    }
}

impl Payload {
    pub(crate) fn ceilings(&self) -> Result<Ceilings, BundleRefused> {
        let text = self
            .files
            .get("ceilings.toml")
            .ok_or_else(|| BundleRefused::Malformed { what: "payload: `ceilings.toml` is missing".to_owned() })?;
        Ceilings::parse(text).map_err(|error| BundleRefused::Ceilings { what: error.to_string() })
    }
}

impl Bundle<Verified> {
    /// Its version. A later one is higher.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.state.payload.version
    }

    /// The digest of what is signed. Another signature does not change it.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.state.digest
    }

    /// From when it is valid.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.state.payload.not_before
    }

    /// Until when it is valid, this moment excluded.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.state.payload.expires
    }

    /// The distinct trusted keys that have signed it.
    #[must_use]
    pub fn signers(&self) -> &[Signer] {
        &self.state.signers
    }

    /// What nothing can go beyond.
    #[must_use]
    pub const fn ceilings(&self) -> &Ceilings {
        &self.state.ceilings
    }

    /// Its files: path and text, in order of path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.state.payload.files.iter().map(|(path, text)| (&**path, &**text))
    }

    /// The text of one file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&str> {
        self.state.payload.files.get(path).map(|text| &**text)
    }

    /// The texts of its scanner rule packs, in order of path. None: the scanner's built-in ones count.
    pub fn scanner_packs(&self) -> impl Iterator<Item = &str> {
        self.files().filter(|(path, _)| path.starts_with("scanner/")).map(|(_, text)| text)
    }

    /// Compiles Cedar policies and scan table.
    ///
    /// # Errors
    /// [`BundleRefused::Policies`] or [`BundleRefused::ScanTable`] when they are not valid, [`BundleRefused::Malformed`]
    /// when a file is missing.
    pub fn compile(&self) -> Result<Policy, BundleRefused> {
        Policy::compile(self.digest(), self.ceilings().clone(), &self.state.payload)
    }
}
