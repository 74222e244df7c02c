//! [`BundleRefused`]: why a bundle does not become the policy.

use sigil_types::{Code, Digest, Timestamp};

/// Why a bundle does not become the policy. Each reason has its own code; `Display` says what and why, and
/// [`BundleRefused::fix`] what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleRefused {
    /// It carries no signature.
    #[error("the policy bundle is not signed")]
    Unsigned,
    /// A trusted key's signature, or a file's digest or size, does not match what it stands for.
    #[error("the policy bundle was changed after it was signed: {what}")]
    Tampered {
        /// What does not match.
        what: String,
    },
    /// Its validity is over.
    #[error("the policy bundle expired at {expires}; it is now {now}")]
    Expired {
        /// When it ended.
        expires: Timestamp,
        /// The present moment.
        now: Timestamp,
    },
    /// Its validity has not begun.
    #[error("the policy bundle is valid from {not_before}; it is now {now}")]
    NotYetValid {
        /// When it begins.
        not_before: Timestamp,
        /// The present moment.
        now: Timestamp,
    },
    /// None of its signatures is by a key that is trusted.
    #[error("the policy bundle is signed by no trusted key; it names {}", list(.signers))]
    UnknownKey {
        /// The ids of the keys that it names.
        signers: Vec<Digest>,
    },
    /// Too few distinct trusted keys have signed.
    #[error("the policy bundle has signatures of {have} trusted keys, and {need} must sign")]
    TooFewSignatures {
        /// How many have.
        have: usize,
        /// How many must.
        need: usize,
    },
    /// It is older than one that was already in force.
    #[error("the policy bundle is version {version}, and version {floor} was already in force")]
    Rollback {
        /// Its version.
        version: u64,
        /// The lowest version that is accepted.
        floor: u64,
    },
    /// It is not the form that it should be.
    #[error("the policy bundle is malformed: {what}")]
    Malformed {
        /// What is wrong, and where.
        what: String,
    },
    /// Its ceilings are not valid.
    #[error("the policy bundle's ceilings.toml is not valid: {what}")]
    Ceilings {
        /// What is wrong, and where.
        what: String,
    },
    /// Its scan table is not valid.
    #[error("the policy bundle's scan.toml is not valid: {what}")]
    ScanTable {
        /// What is wrong, and where.
        what: String,
    },
    /// Its Cedar schema or policies are not valid.
    #[error("the policy bundle's Cedar policies are not valid: {what}")]
    Policies {
        /// What is wrong, and where.
        what: String,
    },
    /// Its decision tests cannot be read.
    #[error("the policy bundle's tests.toml is not valid: {what}")]
    Tests {
        /// What is wrong, and where.
        what: String,
    },
}

fn list(signers: &[Digest]) -> String {
    let ids: Vec<String> = signers.iter().map(Digest::short).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}

impl BundleRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unsigned => Code::new("policy.bundle.unsigned"),
            Self::Tampered { .. } => Code::new("policy.bundle.tampered"),
            Self::Expired { .. } => Code::new("policy.bundle.expired"),
            Self::NotYetValid { .. } => Code::new("policy.bundle.early"),
            Self::UnknownKey { .. } => Code::new("policy.bundle.key.unknown"),
            Self::TooFewSignatures { .. } => Code::new("policy.bundle.signatures.few"),
            Self::Rollback { .. } => Code::new("policy.bundle.rollback"),
            Self::Malformed { .. } => Code::new("policy.bundle.malformed"),
            Self::Ceilings { .. } => Code::new("policy.bundle.ceilings.invalid"),
            Self::ScanTable { .. } => Code::new("policy.bundle.scan.invalid"),
            Self::Policies { .. } => Code::new("policy.bundle.cedar.invalid"),
            Self::Tests { .. } => Code::new("policy.bundle.tests.invalid"),
        }
    }

    /// What a person may do about it.
    #[must_use]
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::Unsigned => "sign it with the owner's key: `sigil policy sign`",
            Self::Tampered { .. } => {
                "do not use this copy: get the bundle again from where it was signed, or sign its source again with \
                 `sigil policy sign`; the last good bundle stays in force"
            }
            Self::Expired { .. } => "sign the policy again with a later end: `sigil policy sign`",
            Self::NotYetValid { .. } => {
                "check this machine's clock; if it is right, wait, or sign with an earlier start"
            }
            Self::UnknownKey { .. } => {
                "sign with a key that the trust document lists, or, if the signer is to be trusted, let the owner add \
                 its public key there"
            }
            Self::TooFewSignatures { .. } => "let another holder of a trusted key add a signature",
            Self::Rollback { .. } => "sign it again with a higher version: `sigil policy sign` takes the next one",
            Self::Malformed { .. } => "make it again with `sigil policy sign`; a bundle is never edited by hand",
            Self::Ceilings { .. } | Self::ScanTable { .. } | Self::Policies { .. } | Self::Tests { .. } => {
                "correct the named file of the policy source, try it with `sigil policy test`, and sign it again"
            }
        }
    }
}
