//! The witness: signs a head only when it extends the last one that it signed.
//!
//! [`check_and_sign`] is the whole of it, and is what the launcher runs. It is a pure function over the last signed head,
//! which the witness keeps in a file of its own, so a log that was cut, rewritten or replaced cannot get a signature.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sigil_types::{Code, Digest};

use crate::checkpoint::{SignedHead, SigningKey, VerifyKey};
use crate::merkle;

/// Longest proof that is looked at: a tree of 2^64 leaves needs no more.
pub const MAX_PROOF_HASHES: usize = 130;

/// A head that asks for a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadToSign {
    /// Number of entries.
    pub size: u64,
    /// Merkle root over them.
    pub root: Digest,
    /// Number of entries of the head that this one extends; zero for none.
    pub previous: u64,
    /// Proof that it does (RFC 6962, 2.1.2).
    pub proof: Vec<Digest>,
}

/// Why a head was not signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refused", rename_all = "snake_case")]
pub enum SignRefused {
    /// The proof starts from another head than the last one signed. The log may ask again from that one.
    #[error("the proof starts at {asked} entries, but the last head that was signed has {witnessed}")]
    OtherStart {
        /// Where the proof starts.
        asked: u64,
        /// The size of the last signed head.
        witnessed: u64,
    },
    /// The log is shorter than it was: entries are gone.
    #[error(
        "the log has {asked} entries, but a head over {witnessed} was signed before: entries were removed or the file \
         was replaced. Keep both files and run `sigil audit verify`"
    )]
    Shrunk {
        /// Entries now.
        asked: u64,
        /// Entries of the last signed head.
        witnessed: u64,
    },
    /// The log does not contain what was signed before.
    #[error(
        "the log of {asked} entries does not extend the head over {witnessed} that was signed before: its past was \
         changed. Keep the file and run `sigil audit verify`"
    )]
    Inconsistent {
        /// Entries now.
        asked: u64,
        /// Entries of the last signed head.
        witnessed: u64,
    },
    /// The signer could not be reached or could not store its state. Nothing is known to be wrong with the log.
    #[error("the signer of heads cannot be reached: {reason}")]
    Unavailable {
        /// What went wrong.
        reason: String,
    },
}

impl SignRefused {
    /// Whether the refusal means that the log itself was damaged.
    #[must_use]
    pub const fn means_damage(&self) -> bool {
        matches!(self, Self::Shrunk { .. } | Self::Inconsistent { .. })
    }

    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::OtherStart { .. } => Code::new("audit.head.start.other"),
            Self::Shrunk { .. } => Code::new("audit.head.log.shrunk"),
            Self::Inconsistent { .. } => Code::new("audit.head.log.inconsistent"),
            Self::Unavailable { .. } => Code::new("audit.head.signer.unavailable"),
        }
    }
}

/// Signs `head` with `key` if it extends `last`, the last head that this witness signed.
///
/// Whoever calls this stores the answer durably as the new `last` before handing it out. The same request twice gives the
/// same bytes, so a log that crashed before it stored a head simply asks again.
///
/// # Errors
/// Every [`SignRefused`] but `Unavailable`.
pub fn check_and_sign(
    last: Option<&SignedHead>,
    head: &HeadToSign,
    key: &SigningKey,
) -> Result<SignedHead, SignRefused> {
    let (witnessed, root) = last.map_or_else(|| (0, merkle::empty_root()), |last| (last.size(), *last.root()));
    let asked = head.size;
    if asked < witnessed {
        return Err(SignRefused::Shrunk { asked, witnessed });
    }
    if head.previous != witnessed {
        return Err(SignRefused::OtherStart { asked: head.previous, witnessed });
    }
    let short = head.proof.len() <= MAX_PROOF_HASHES;
    if !short || !merkle::verify_consistency(witnessed, &root, asked, &head.root, &head.proof) {
        return Err(SignRefused::Inconsistent { asked, witnessed });
    }
    Ok(SignedHead::sign(asked, head.root, key))
}

/// Whoever signs heads: the launcher, or a [`LocalSigner`].
pub trait HeadSigner: Send + Sync {
    /// The key that checks its signatures; its name is the log's origin.
    fn key(&self) -> VerifyKey;

    /// Signs `head`, if it extends the last head that was signed. Blocks.
    ///
    /// # Errors
    /// When it does not, or the signer cannot be reached.
    fn sign(&self, head: &HeadToSign) -> Result<SignedHead, SignRefused>;
}

/// A signer in this process: for tests and for logs outside the gateway. It remembers only while it lives.
#[derive(Debug)]
pub struct LocalSigner {
    key: SigningKey,
    last: Mutex<Option<SignedHead>>,
}

impl LocalSigner {
    /// A signer with `key` whose last signed head is `last`.
    #[must_use]
    pub const fn new(key: SigningKey, last: Option<SignedHead>) -> Self {
        Self { key, last: Mutex::new(last) }
    }

    /// The last head that it signed.
    #[must_use]
    pub fn last(&self) -> Option<SignedHead> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HeadSigner for LocalSigner {
    fn key(&self) -> VerifyKey {
        self.key.verify_key().clone()
    }

    fn sign(&self, head: &HeadToSign) -> Result<SignedHead, SignRefused> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let signed = check_and_sign(last.as_ref(), head, &self.key)?;
        *last = Some(signed.clone());
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use super::*;
    use crate::merkle::{Frontier, consistency_proof, leaf_hash};

    fn key() -> SigningKey {
        SigningKey::from_pkcs8("test/audit", &SigningKey::generate().unwrap()).unwrap()
    }

    struct Tree(Frontier, HashMap<(u32, u64), Digest>);

    impl Tree {
        fn of(leaves: &[&str]) -> Self {
            let mut tree = Self(Frontier::default(), HashMap::new());
            for (at, leaf) in (0_u64..).zip(leaves) {
                for (level, node) in (0_u32..).zip(tree.0.push(leaf_hash(leaf.as_bytes()))) {
                    tree.1.insert((level, at >> level), node);
                }
            }
            tree
        }

        fn head(&self, previous: u64) -> HeadToSign {
            let proof =
                consistency_proof(previous, self.0.size(), |l, i| Ok::<_, Infallible>(self.1[&(l, i)])).unwrap();
            HeadToSign { size: self.0.size(), root: self.0.root(), previous, proof }
        }
    }

    #[test]
    fn only_extensions_are_signed() {
        let key = key();
        let first = check_and_sign(None, &Tree::of(&["a", "b", "c"]).head(0), &key).unwrap();
        assert!(first.signed_by(key.verify_key()));
        let longer = Tree::of(&["a", "b", "c", "d", "e"]);
        let second = check_and_sign(Some(&first), &longer.head(3), &key).unwrap();
        assert_eq!(second.size(), 5);
        assert_eq!(check_and_sign(Some(&second), &longer.head(5), &key).unwrap(), second, "asking twice is harmless");

        let forked = Tree::of(&["a", "b", "X", "d", "e", "f"]);
        let refused = |last: &SignedHead, head: &HeadToSign| check_and_sign(Some(last), head, &key).unwrap_err();
        assert_eq!(refused(&first, &forked.head(3)), SignRefused::Inconsistent { asked: 6, witnessed: 3 });
        assert_eq!(
            refused(&second, &Tree::of(&["a", "b", "c"]).head(0)),
            SignRefused::Shrunk { asked: 3, witnessed: 5 }
        );
        assert_eq!(refused(&first, &longer.head(2)), SignRefused::OtherStart { asked: 2, witnessed: 3 });
        let same_size = Tree::of(&["a", "b", "c", "d", "E"]);
        assert!(refused(&second, &same_size.head(5)).means_damage());
        let long = HeadToSign { proof: vec![leaf_hash(b""); MAX_PROOF_HASHES + 1], ..longer.head(3) };
        assert!(refused(&first, &long).means_damage());
    }
}
