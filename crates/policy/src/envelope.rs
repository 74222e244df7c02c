//! The DSSE envelope (<https://github.com/secure-systems-lab/dsse>, protocol and envelope 1.0.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sigil_types::Digest;

use crate::refused::BundleRefused;
use crate::trust::{TrustStore, TrustedKey};

/// The largest envelope that is read, in bytes.
pub const MAX_ENVELOPE_BYTES: usize = 4 << 20;
/// The type of the payload, which the signature covers.
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.sigil.policy.v1+json";
/// More signatures than this are nobody's honest envelope.
const MAX_SIGNATURES: usize = 32;

/// An envelope whose form is right, and of which nothing else is known.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) payload: Vec<u8>,
    pub(crate) signatures: Vec<Signature>,
}

/// One signature. INVARIANT of DSSE: the key id is a hint that no signature covers; it only says which key to try.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    pub(crate) key: Digest,
    pub(crate) bytes: Vec<u8>,
}

/// The written form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Form {
    payload_type: String,
    payload: String,
    signatures: Vec<SignatureForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureForm {
    keyid: Digest,
    sig: String,
}

fn malformed(what: impl Into<String>) -> BundleRefused {
    BundleRefused::Malformed { what: what.into() }
}

impl Envelope {
    /// Reads an envelope. Only the one form that [`Envelope::encode`] writes is accepted, to the byte: so two different
    /// files are never the same bundle, and no two readers can understand one file differently.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BundleRefused> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(malformed(format!("{} bytes; at most {MAX_ENVELOPE_BYTES}", bytes.len())));
        }
        let form: Form = serde_json::from_slice(bytes).map_err(|error| malformed(format!("envelope: {error}")))?;
        if form.payload_type != PAYLOAD_TYPE {
            return Err(malformed(format!("envelope: the payload's type is not {PAYLOAD_TYPE}")));
        }
        if form.signatures.len() > MAX_SIGNATURES {
            return Err(malformed(format!("envelope: more than {MAX_SIGNATURES} signatures")));
        }
        let payload =
            STANDARD.decode(&form.payload).map_err(|error| malformed(format!("envelope: payload: {error}")))?;
        let mut signatures = Vec::with_capacity(form.signatures.len());
        for signature in form.signatures {
            let bytes =
                STANDARD.decode(&signature.sig).map_err(|error| malformed(format!("envelope: signature: {error}")))?;
            signatures.push(Signature { key: signature.keyid, bytes });
        }
        let envelope = Self { payload, signatures };
        if envelope.encode() != bytes {
            return Err(malformed("envelope: not in the one form in which envelopes are written"));
        }
        Ok(envelope)
    }

    /// Writes the envelope: JSON on one line, and a line feed.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let form = Form {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(&self.payload),
            signatures: self
                .signatures
                .iter()
                .map(|signature| SignatureForm { keyid: signature.key, sig: STANDARD.encode(&signature.bytes) })
                .collect(),
        };
        // INVARIANT: plain data with string keys always serialises.
        let mut bytes = serde_json::to_vec(&form).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// What the signatures cover.
    pub(crate) fn signed_bytes(&self) -> Vec<u8> {
        pre_authentication_encoding(PAYLOAD_TYPE, &self.payload)
    }

    /// The distinct trusted keys that have signed, when they are enough.
    ///
    /// Signatures by unknown keys are passed over (another trust document may know them). One that names a trusted key
    /// and does not verify refuses the whole envelope.
    pub(crate) fn verify<'t>(&self, trust: &'t TrustStore) -> Result<Vec<&'t TrustedKey>, BundleRefused> {
        if self.signatures.is_empty() {
            return Err(BundleRefused::Unsigned);
        }
        let message = self.signed_bytes();
        let mut signers: Vec<&TrustedKey> = Vec::new();
        for signature in &self.signatures {
            let Some(trusted) = trust.key(&signature.key) else { continue };
            if !trusted.key.verifies(&message, &signature.bytes) {
                return Err(BundleRefused::Tampered {
                    what: format!("the signature of `{}` does not match the content", trusted.name),
                });
            }
            if !signers.iter().any(|counted| counted.key == trusted.key) {
                signers.push(trusted);
            }
        }
        if signers.is_empty() {
            let signers = self.signatures.iter().map(|signature| signature.key).collect();
            return Err(BundleRefused::UnknownKey { signers });
        }
        if signers.len() < trust.threshold() {
            return Err(BundleRefused::TooFewSignatures { have: signers.len(), need: trust.threshold() });
        }
        Ok(signers)
    }
}

/// DSSE's PAE: `DSSEv1 LEN(type) type LEN(body) body`.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_specification_s_example() {
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn only_the_written_form_is_read() {
        let envelope = Envelope {
            payload: b"{}".to_vec(),
            signatures: vec![Signature { key: Digest::of(b"k"), bytes: vec![1, 2, 3] }],
        };
        let bytes = envelope.encode();
        assert!(Envelope::parse(&bytes).is_ok());
        let text = String::from_utf8(bytes).expect("JSON");
        let variants = [
            text.trim_end().to_owned(),
            format!(" {text}"),
            text.replacen("{", "{\"payload\":\"\",", 1),
            text.replacen("{", "{\"more\":1,", 1),
            text.replacen("\"payload\"", "\"p\\u0061yload\"", 1),
            text.replace("e30=", "e30"),
            text.replace("e30=", "e31="),
            text.replace("v1+json", "v2+json"),
            "{}".to_owned(),
            String::new(),
        ];
        for variant in variants {
            let refused = Envelope::parse(variant.as_bytes()).expect_err(&variant);
            assert_eq!(refused.code().as_str(), "policy.bundle.malformed", "{variant}");
        }
    }

    #[test]
    fn a_large_envelope_is_refused_unread() {
        let refused = Envelope::parse(&vec![b' '; MAX_ENVELOPE_BYTES + 1]).expect_err("too large");
        assert_eq!(refused.code().as_str(), "policy.bundle.malformed");
    }
}
