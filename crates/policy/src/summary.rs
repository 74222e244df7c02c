//! [`Summary`]: a bundle, shown.

use std::fmt;

use serde::Serialize;
use sigil_types::{Digest, Name, Timestamp};

use crate::bundle::{Bundle, Unverified, Verified};
use crate::payload::Payload;
use crate::refused::BundleRefused;

/// What a bundle is, for people (`Display`) and programs (`Serialize`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Whether trusted keys vouch for what follows.
    pub verified: bool,
    /// The digest of what was signed.
    pub digest: Digest,
    /// The version.
    pub version: u64,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub expires: Timestamp,
    /// The preset that its ceilings name.
    pub preset: Name,
    /// Who has signed; where it is not verified, who is said to have.
    pub signers: Vec<SignerSummary>,
    /// Its files, in order of path.
    pub files: Vec<FileSummary>,
}

/// One who has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignerSummary {
    /// The name in the trust document, where the bundle is verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The key's id.
    pub key: Digest,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSummary {
    /// Its path.
    pub path: String,
    /// Its size in bytes.
    pub size: usize,
    /// Its digest.
    pub sha256: Digest,
}

impl Summary {
    fn new(
        verified: bool,
        digest: Digest,
        signers: Vec<SignerSummary>,
        payload: &Payload,
    ) -> Result<Self, BundleRefused> {
        let files = payload.files.iter().map(|(path, text)| FileSummary {
            path: path.to_string(),
            size: text.len(),
            sha256: Digest::of(text.as_bytes()),
        });
        Ok(Self {
            verified,
            digest,
            version: payload.version,
            not_before: payload.not_before,
            expires: payload.expires,
            preset: payload.ceilings()?.preset,
            signers,
            files: files.collect(),
        })
    }
}

impl Bundle<Unverified> {
    /// What it says of itself. Nobody vouches for it: to look at, not to decide by.
    ///
    /// # Errors
    /// When its payload is malformed or its ceilings are not valid.
    pub fn summary(&self) -> Result<Summary, BundleRefused> {
        let signers = self.claimed_signers().map(|key| SignerSummary { name: None, key }).collect();
        Summary::new(false, self.digest(), signers, &self.claims()?)
    }
}

impl Bundle<Verified> {
    /// What it is.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let signers =
            self.signers().iter().map(|signer| SignerSummary { name: Some(signer.name.clone()), key: signer.key });
        let files = self.files().map(|(path, text)| FileSummary {
            path: path.to_owned(),
            size: text.len(),
            sha256: Digest::of(text.as_bytes()),
        });
        Summary {
            verified: true,
            digest: self.digest(),
            version: self.version(),
            not_before: self.not_before(),
            expires: self.expires(),
            preset: self.ceilings().preset.clone(),
            signers: signers.collect(),
            files: files.collect(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.verified { "verified" } else { "NOT VERIFIED: nobody vouches for what follows" };
        writeln!(f, "policy    version {}, preset {} ({state})", self.version, self.preset)?;
        writeln!(f, "digest    {}", self.digest)?;
        writeln!(f, "valid     {} to {}", self.not_before, self.expires)?;
        for signer in &self.signers {
            match &signer.name {
                Some(name) => writeln!(f, "signed by {name}, key {}", signer.key.short())?,
                None => writeln!(f, "names key {}", signer.key.short())?,
            }
        }
        if self.signers.is_empty() {
            writeln!(f, "signed by nobody")?;
        }
        let width = self.files.iter().map(|file| file.path.len()).max().unwrap_or_default();
        for file in &self.files {
            writeln!(f, "file      {:width$}  {:>7} bytes  {}", file.path, file.size, file.sha256.short())?;
        }
        Ok(())
    }
}
