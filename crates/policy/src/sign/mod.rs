//! Signing: keys, key files and envelopes. Run by the owner, in a process of its own; the gateway never opens a key.

mod key;
mod key_file;

use sigil_types::{Code, Timestamp};

use crate::bundle::{Bundle, Unverified};
use crate::decision_tests::TestFailure;
use crate::envelope::{Envelope, MAX_ENVELOPE_BYTES, Signature};
use crate::payload::Payload;
use crate::refused::BundleRefused;
use crate::source::Source;

pub use key::{KeyUnusable, SigningKey};
pub use key_file::{KeyFile, KeyFileRefused, Protection};

/// From when until when a bundle is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: Timestamp,
    /// The first moment after it.
    pub expires: Timestamp,
}

impl Validity {
    /// `days` days from `now` on.
    #[must_use]
    pub const fn days(now: Timestamp, days: u64) -> Self {
        Self { not_before: now, expires: now.plus_millis(days.saturating_mul(86_400_000)) }
    }
}

/// Why a policy is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignRefused {
    /// It would not be accepted: the reason that verifying or compiling would give.
    #[error("not signed: {0}")]
    Invalid(#[from] BundleRefused),
    /// Its own decision tests do not hold.
    #[error("not signed: {} decision tests do not hold, the first is `{}`: expected {}, answered {}",
        failures.len(), first(failures, |f| &f.name), first(failures, |f| &f.expected), first(failures, |f| &f.answered))]
    TestsFailed {
        /// Those that do not.
        failures: Vec<TestFailure>,
    },
    /// Cedar's validator found something odd: a rule that can never apply, a letter that looks like another.
    #[error("not signed: {0}")]
    Odd(String),
    /// The envelope would be larger than one may be.
    #[error("not signed: the envelope would have {0} bytes; at most {MAX_ENVELOPE_BYTES}")]
    TooLarge(usize),
    /// This key has signed it already.
    #[error("not signed: this key has signed it already")]
    Doubled,
}

fn first<'f>(failures: &'f [TestFailure], field: impl Fn(&'f TestFailure) -> &'f String) -> &'f str {
    failures.first().map_or("", |failure| field(failure))
}

impl SignRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid(refused) => refused.code(),
            Self::TestsFailed { .. } => Code::new("policy.sign.tests.failed"),
            Self::Odd(_) => Code::new("policy.sign.cedar.odd"),
            Self::TooLarge(_) => Code::new("policy.sign.size.exceeded"),
            Self::Doubled => Code::new("policy.sign.key.doubled"),
        }
    }
}

/// Signs `source` as `version`, and gives the envelope.
///
/// Nothing is signed that would not be accepted: the source is compiled and its decision tests are run first.
///
/// # Errors
/// When it does not compile, its tests do not hold, the validity is empty, or the envelope would be too large.
pub fn sign(source: &Source, version: u64, validity: Validity, key: &SigningKey) -> Result<Vec<u8>, SignRefused> {
    let report = source.test()?;
    if !report.is_ok() {
        return Err(SignRefused::TestsFailed { failures: report.failures });
    }
    if let Some(odd) = report.warnings.into_iter().next() {
        return Err(SignRefused::Odd(odd));
    }
    let payload = Payload {
        version,
        not_before: validity.not_before,
        expires: validity.expires,
        files: source.all_files().clone(),
    }
    .encode();
    Payload::parse(&payload)?;
    seal(Envelope { payload, signatures: Vec::new() }, key)
}

/// Adds another key's signature to `envelope`, whose content stays.
///
/// # Errors
/// When it is not an envelope, or the key has signed it already.
pub fn add_signature(envelope: &[u8], key: &SigningKey) -> Result<Vec<u8>, SignRefused> {
    Bundle::<Unverified>::parse(envelope)?.claims()?;
    seal(Envelope::parse(envelope)?, key)
}

fn seal(mut envelope: Envelope, key: &SigningKey) -> Result<Vec<u8>, SignRefused> {
    let id = key.public().id();
    if envelope.signatures.iter().any(|signature| signature.key == id) {
        return Err(SignRefused::Doubled);
    }
    let bytes = key.sign(&envelope.signed_bytes());
    envelope.signatures.push(Signature { key: id, bytes });
    let encoded = envelope.encode();
    if encoded.len() > MAX_ENVELOPE_BYTES { Err(SignRefused::TooLarge(encoded.len())) } else { Ok(encoded) }
}
