//! Signed heads: C2SP tlog-checkpoints in C2SP signed notes, with Ed25519 keys.
//!
//! Forms: <https://c2sp.org/tlog-checkpoint> and <https://c2sp.org/signed-note>. A head says how many entries the log has
//! and what their Merkle root is; other people's tools can check it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sigil_types::{Digest, Secret};

/// The signature type byte of Ed25519 in signed notes.
const ED25519_TYPE: u8 = 1;
/// Longest head that is read: origin, size, root and a handful of signatures.
const MAX_NOTE_BYTES: usize = 4096;

/// Why a text is not a signed head, or not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseHead {
    /// Not a checkpoint.
    #[error("not a signed head: {0}")]
    Form(&'static str),
    /// Not a verifying key.
    #[error("not a verifying key: expected NAME+HASH+BASE64 as in C2SP signed-note, with an Ed25519 key")]
    Key,
    /// Not a name for a key.
    #[error("a key's name is 1 to 128 printable ASCII characters without blanks and `+`")]
    KeyName,
}

/// A log's state that somebody signed: size, root, and the note that says so.
///
/// Parsing checks the form only; [`SignedHead::signed_by`] checks a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    note: String,
    origin: String,
    size: u64,
    root: Digest,
}

impl SignedHead {
    /// Signs the tree of `size` entries with `root` as `key`. The origin is the key's name.
    #[must_use]
    pub fn sign(size: u64, root: Digest, key: &SigningKey) -> Self {
        let origin = key.verify.name.clone();
        let body = format!("{origin}\n{size}\n{}\n", BASE64.encode(root.as_bytes()));
        let mut blob = key.verify.key_id().to_vec();
        blob.extend_from_slice(key.pair.sign(body.as_bytes()).as_ref());
        let note = format!("{body}\n\u{2014} {origin} {}\n", BASE64.encode(blob));
        Self { note, origin, size, root }
    }

    /// The note as it is stored and shown.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Which log this is a head of.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Number of entries.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Merkle root over them.
    #[must_use]
    pub const fn root(&self) -> &Digest {
        &self.root
    }

    /// Whether one of the note's signatures is a valid one by `key`, for a log of that key's name.
    #[must_use]
    pub fn signed_by(&self, key: &VerifyKey) -> bool {
        let Some((text, signatures)) = self.note.split_once("\n\n") else { return false };
        self.origin == key.name && signatures.lines().any(|line| key.verifies(&format!("{text}\n"), line))
    }
}

/// Splits `— NAME BASE64` into name, key id and signature.
fn parse_signature(line: &str) -> Option<(&str, [u8; 4], Vec<u8>)> {
    let (name, blob) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let blob = BASE64.decode(blob).ok()?;
    let (id, signature) = blob.split_first_chunk::<4>()?;
    Some((name, *id, signature.to_vec()))
}

impl FromStr for SignedHead {
    type Err = ParseHead;

    fn from_str(note: &str) -> Result<Self, Self::Err> {
        let form = |what| ParseHead::Form(what);
        if note.len() > MAX_NOTE_BYTES {
            return Err(form("longer than 4096 bytes"));
        }
        let (text, signatures) = note.split_once("\n\n").ok_or(form("no blank line before the signatures"))?;
        let mut lines = text.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(form("no origin"))?.to_owned();
        let digits = lines.next().ok_or(form("no size"))?;
        let size: u64 = digits.parse().map_err(|_| form("the size is not a number"))?;
        if size.to_string() != digits {
            return Err(form("the size is not written in its shortest form"));
        }
        let root = lines.next().and_then(|line| BASE64.decode(line).ok()).ok_or(form("the root is not base64"))?;
        let root = <[u8; 32]>::try_from(root).map_err(|_| form("the root is not 32 bytes"))?;
        let signed = signatures.ends_with('\n')
            && signatures.lines().all(|line| parse_signature(line).is_some())
            && signatures.lines().next().is_some();
        if !signed {
            return Err(form("a signature line is missing or malformed"));
        }
        Ok(Self { note: note.to_owned(), origin, size, root: Digest::from_bytes(root) })
    }
}

/// A key that heads are checked with, written as `NAME+HASH+BASE64`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VerifyKey {
    name: String,
    public: [u8; 32],
}

impl VerifyKey {
    /// The Ed25519 key `public` under `name`.
    ///
    /// # Errors
    /// [`ParseHead::KeyName`] when signed notes do not allow the name.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, ParseHead> {
        let printable = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+');
        if name.is_empty() || name.len() > 128 || !printable {
            return Err(ParseHead::KeyName);
        }
        Ok(Self { name: name.to_owned(), public })
    }

    /// The key's name, which is also the log's origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ed25519 public key.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Whether `line` is a valid signature line of this key for the note's text `body`.
    fn verifies(&self, body: &str, line: &str) -> bool {
        let Some((name, id, signature)) = parse_signature(line) else { return false };
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        name == self.name && id == self.key_id() && key.verify(body.as_bytes(), &signature).is_ok()
    }

    fn key_id(&self) -> [u8; 4] {
        let digest = Digest::of_parts([self.name.as_bytes(), &[b'\n', ED25519_TYPE], &self.public]);
        let [a, b, c, d, ..] = *digest.as_bytes();
        [a, b, c, d]
    }
}

impl fmt::Display for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blob = vec![ED25519_TYPE];
        blob.extend_from_slice(&self.public);
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.key_id()), BASE64.encode(blob))
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyKey {
    type Err = ParseHead;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '+');
        let (name, hash, blob) =
            parts.next().zip(parts.next()).zip(parts.next()).map(|((a, b), c)| (a, b, c)).ok_or(ParseHead::Key)?;
        let blob = BASE64.decode(blob).map_err(|_| ParseHead::Key)?;
        let (kind, public) = blob.split_first().ok_or(ParseHead::Key)?;
        let public = <[u8; 32]>::try_from(public).map_err(|_| ParseHead::Key)?;
        let key = Self::new(name, public)?;
        let hash_ok = hash == format!("{:08x}", u32::from_be_bytes(key.key_id()));
        if *kind == ED25519_TYPE && hash_ok { Ok(key) } else { Err(ParseHead::Key) }
    }
}

/// A key that signs heads.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    verify: VerifyKey,
}

/// Why a signing key cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyRefused {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] ParseHead),
    /// The bytes are not an Ed25519 key in PKCS#8 form.
    #[error("not an Ed25519 private key in PKCS#8 form")]
    Key,
    /// No randomness.
    #[error("the operating system gave no randomness for a new key")]
    Random,
}

impl SigningKey {
    /// A new key in PKCS#8 form, to be stored where only the signer can read it.
    ///
    /// # Errors
    /// [`SigningKeyRefused::Random`] when the system has no randomness.
    pub fn generate() -> Result<Secret<Vec<u8>>, SigningKeyRefused> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).map_err(|_| SigningKeyRefused::Random)?;
        Ok(Secret::new(document.as_ref().to_vec()))
    }

    /// The key in `pkcs8`, under `name`.
    ///
    /// # Errors
    /// When the bytes are not an Ed25519 key, or the name is not one.
    pub fn from_pkcs8(name: &str, pkcs8: &Secret<Vec<u8>>) -> Result<Self, SigningKeyRefused> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.expose()).map_err(|_| SigningKeyRefused::Key)?;
        let public = <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| SigningKeyRefused::Key)?;
        Ok(Self { verify: VerifyKey::new(name, public)?, pair })
    }

    /// The key that checks what this one signs.
    #[must_use]
    pub const fn verify_key(&self) -> &VerifyKey {
        &self.verify
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verify)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> SigningKey {
        SigningKey::from_pkcs8(name, &SigningKey::generate().unwrap()).unwrap()
    }

    #[test]
    fn a_head_survives_its_text_and_is_bound_to_key_and_content() {
        let (ours, theirs) = (key("sigil/audit"), key("sigil/audit"));
        let head = SignedHead::sign(7, crate::merkle::leaf_hash(b"x"), &ours);
        let read: SignedHead = head.note().parse().unwrap();
        assert_eq!(read, head);
        assert!(read.signed_by(ours.verify_key()));
        assert!(!read.signed_by(theirs.verify_key()));
        let forged: SignedHead = head.note().replacen("\n7\n", "\n8\n", 1).parse().unwrap();
        assert!(!forged.signed_by(ours.verify_key()));
        let moved: SignedHead = head.note().replacen("sigil/audit\n", "sigil/other\n", 1).parse().unwrap();
        assert!(!moved.signed_by(ours.verify_key()));
    }

    #[test]
    fn a_verifying_key_survives_its_text() {
        let key = key("sigil/audit/home");
        let text = key.verify_key().to_string();
        assert_eq!(text.parse::<VerifyKey>().unwrap(), *key.verify_key());
        assert_eq!(text.replace("home", "away").parse::<VerifyKey>(), Err(ParseHead::Key));
        assert_eq!(VerifyKey::new("a b", [0; 32]), Err(ParseHead::KeyName));
    }

    /// The example key and checkpoint of the Go checksum database, which uses the same note form.
    #[test]
    fn a_known_key_is_read() {
        let key: VerifyKey = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8".parse().unwrap();
        assert_eq!(key.name(), "sum.golang.org");
    }

    /// The example of Go's package `note`, from which the C2SP form comes.
    #[test]
    fn a_signature_by_another_implementation_is_verified() {
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let key: VerifyKey = key.parse().unwrap();
        let body =
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let line = "\u{2014} PeterNeumann \
                    x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        assert!(key.verifies(body, line));
        assert!(!key.verifies(&body.replace("answer", "question"), line));
        assert!(!key.verifies(body, &line.replace("PeterNeumann", "SomebodyElse")));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,300}") {
            let _ = text.parse::<SignedHead>();
            let _ = text.parse::<VerifyKey>();
        }

        #[test]
        fn lines_in_any_shape_never_panic(lines in proptest::collection::vec("[\u{2014} a-zA-Z0-9+/=]{0,60}", 0..8)) {
            let _ = lines.join("\n").parse::<SignedHead>();
        }
    }
}
