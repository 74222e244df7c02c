//! [`KeyFile`]: the owner's key at rest.
//!
//! JSON. Sealed by a passphrase: Argon2id (RFC 9106) makes a key of it, ChaCha20-Poly1305 (RFC 8439) seals the PKCS#8
//! document, and everything else in the file is its additional data, so nothing in it can be exchanged:
//!
//! ```json
//! {"format": "sigil-key-1", "public": "ed25519:…",
//!  "kdf": {"name": "argon2id", "memory_kib": 65536, "passes": 3, "lanes": 1, "salt": "…"},
//!  "cipher": {"name": "chacha20-poly1305", "nonce": "…"}, "sealed": "…"}
//! ```
//!
//! Or, by explicit choice only, with `"plain": "…"` in place of the last three.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use sigil_types::{Code, Secret};
use zeroize::Zeroizing;

use super::key::{KeyUnusable, SigningKey};
use crate::trust::PublicKey;

const FORMAT: &str = "sigil-key-1";
const MAX_BYTES: u64 = 16 << 10;
/// A shorter passphrase is refused when a key is sealed.
const MIN_PASSPHRASE_CHARS: usize = 8;
/// More memory than this is an attack by the file, not a choice: 1 GiB.
const MAX_MEMORY_KIB: u32 = 1 << 20;
/// More passes than this likewise.
const MAX_PASSES: u32 = 64;

/// What protects a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// A passphrase.
    Passphrase,
    /// Nothing but the file's permissions.
    None,
}

/// A key file's content: a key, sealed or plain.
#[derive(Clone)]
pub struct KeyFile {
    form: Form,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyFile({}, {:?})", self.form.public, self.protection())
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: String,
    public: PublicKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    kdf: Option<Kdf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cipher: Option<Cipher>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plain: Option<Zeroizing<String>>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    name: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Why a key file is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileRefused {
    /// It cannot be read or written.
    #[error("cannot read or write {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Other users may read or write it.
    #[error("{} can be read or written by other users (mode {mode:03o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a key file.
    #[error("not a key file that this Sigil reads: {0}")]
    Malformed(String),
    /// It is sealed, and no passphrase was given.
    #[error("the key is sealed by a passphrase, and none was given")]
    PassphraseMissing,
    /// The passphrase is another, or the file was changed.
    #[error("the passphrase is wrong, or the key file was changed")]
    PassphraseWrong,
    /// The new passphrase is too short.
    #[error("the passphrase has fewer than {MIN_PASSPHRASE_CHARS} characters; take a longer one")]
    PassphraseShort,
    /// The key itself.
    #[error(transparent)]
    Key(#[from] KeyUnusable),
}

impl KeyFileRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::File { .. } => Code::new("policy.key_file.unreadable"),
            Self::Exposed { .. } => Code::new("policy.key_file.exposed"),
            Self::Malformed(_) => Code::new("policy.key_file.malformed"),
            Self::PassphraseMissing => Code::new("policy.key_file.passphrase.missing"),
            Self::PassphraseWrong => Code::new("policy.key_file.passphrase.wrong"),
            Self::PassphraseShort => Code::new("policy.key_file.passphrase.short"),
            Self::Key(unusable) => unusable.code(),
        }
    }
}

fn malformed(what: impl Into<String>) -> KeyFileRefused {
    KeyFileRefused::Malformed(what.into())
}

impl KeyFile {
    /// Seals `key` by `passphrase`: Argon2id with 64 MiB and three passes (RFC 9106, section 4, second choice).
    ///
    /// # Errors
    /// When the passphrase is shorter than eight characters, or there is no randomness.
    pub fn seal(key: &SigningKey, passphrase: &Secret<String>) -> Result<Self, KeyFileRefused> {
        Self::seal_at(key, passphrase, 64 << 10, 3)
    }

    fn seal_at(
        key: &SigningKey,
        passphrase: &Secret<String>,
        memory_kib: u32,
        passes: u32,
    ) -> Result<Self, KeyFileRefused> {
        if passphrase.expose().chars().count() < MIN_PASSPHRASE_CHARS {
            return Err(KeyFileRefused::PassphraseShort);
        }
        let (mut salt, mut nonce) = ([0_u8; 16], [0_u8; NONCE_LEN]);
        let random = SystemRandom::new();
        random.fill(&mut salt).and_then(|()| random.fill(&mut nonce)).map_err(|_| KeyUnusable::NoRandomness)?;
        let mut form = Form {
            format: FORMAT.to_owned(),
            public: key.public(),
            kdf: Some(Kdf { name: "argon2id".to_owned(), memory_kib, passes, lanes: 1, salt: STANDARD.encode(salt) }),
            cipher: Some(Cipher { name: "chacha20-poly1305".to_owned(), nonce: STANDARD.encode(nonce) }),
            sealed: None,
            plain: None,
        };
        let sealing = form.sealing_key(passphrase)?;
        let mut bytes = key.pkcs8().expose().clone();
        sealing
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(form.header()), &mut bytes)
            .map_err(|_| malformed("the key cannot be sealed"))?;
        form.sealed = Some(STANDARD.encode(bytes));
        Ok(Self { form })
    }

    /// Keeps `key` unsealed. Whoever reads the file can sign policies.
    #[must_use]
    pub fn plain(key: &SigningKey) -> Self {
        let plain = Some(Zeroizing::new(STANDARD.encode(key.pkcs8().expose())));
        let form =
            Form { format: FORMAT.to_owned(), public: key.public(), kdf: None, cipher: None, sealed: None, plain };
        Self { form }
    }

    /// Reads a key file's text. The key in it stays sealed.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(text: &str) -> Result<Self, KeyFileRefused> {
        // The place only: the parser's own words may quote the key.
        let form: Form = serde_json::from_str(text).map_err(|error| {
            malformed(format!("line {}, column {} is not what stands there in one", error.line(), error.column()))
        })?;
        if form.format != FORMAT {
            return Err(malformed(format!("its format is not {FORMAT}")));
        }
        match (&form.kdf, &form.cipher, &form.sealed, &form.plain) {
            (Some(_), Some(_), Some(_), None) | (None, None, None, Some(_)) => Ok(Self { form }),
            _ => Err(malformed("it has neither `kdf`, `cipher` and `sealed`, nor `plain` alone")),
        }
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> Secret<String> {
        // INVARIANT: plain data with string keys always serialises.
        let mut text = serde_json::to_string_pretty(&self.form).unwrap_or_default();
        text.push('\n');
        Secret::new(text)
    }

    /// The public half, which is not sealed.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.form.public
    }

    /// What protects the key.
    #[must_use]
    pub const fn protection(&self) -> Protection {
        if self.form.plain.is_some() { Protection::None } else { Protection::Passphrase }
    }

    /// The key.
    ///
    /// # Errors
    /// When the passphrase is missing or wrong, or what was sealed is not the key that the file names.
    pub fn open(&self, passphrase: Option<&Secret<String>>) -> Result<SigningKey, KeyFileRefused> {
        let pkcs8 = match (&self.form.plain, passphrase) {
            (Some(plain), _) => STANDARD.decode(plain.as_bytes()).map_err(|error| malformed(error.to_string()))?,
            (None, None) => return Err(KeyFileRefused::PassphraseMissing),
            (None, Some(passphrase)) => self.unseal(passphrase)?,
        };
        let key = SigningKey::from_pkcs8(Secret::new(pkcs8))?;
        if key.public() == self.form.public { Ok(key) } else { Err(malformed("`public` is another key's")) }
    }

    fn unseal(&self, passphrase: &Secret<String>) -> Result<Vec<u8>, KeyFileRefused> {
        let opening = self.form.sealing_key(passphrase)?;
        let (Some(cipher), Some(sealed)) = (&self.form.cipher, &self.form.sealed) else {
            return Err(malformed("nothing is sealed in it"));
        };
        let nonce = STANDARD.decode(&cipher.nonce).map_err(|error| malformed(error.to_string()))?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| malformed("`nonce` has not 12 bytes"))?;
        let mut bytes = Zeroizing::new(STANDARD.decode(sealed).map_err(|error| malformed(error.to_string()))?);
        let pkcs8 = opening
            .open_in_place(nonce, Aad::from(self.form.header()), &mut bytes)
            .map_err(|_| KeyFileRefused::PassphraseWrong)?;
        Ok(pkcs8.to_vec())
    }

    /// Writes a new file with mode 0600. An existing one is never replaced.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), KeyFileRefused> {
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(self.to_text().expose().as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| KeyFileRefused::File { path: path.to_owned(), source })
    }

    /// Reads a file that nobody else may read or write.
    ///
    /// # Errors
    /// When it cannot be read, others may read or write it, or it is not a key file.
    pub fn read(path: &Path) -> Result<Self, KeyFileRefused> {
        let fail = |source| KeyFileRefused::File { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(fail)?;
        let mode = file.metadata().map_err(fail)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileRefused::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(fail)?;
        Self::parse(&text)
    }
}

impl Form {
    /// What is sealed along: the file without what was sealed.
    fn header(&self) -> Vec<u8> {
        let header = Self { sealed: None, plain: None, ..self.clone() };
        // INVARIANT: plain data with string keys always serialises.
        serde_json::to_vec(&header).unwrap_or_default()
    }

    fn sealing_key(&self, passphrase: &Secret<String>) -> Result<LessSafeKey, KeyFileRefused> {
        let (Some(kdf), Some(cipher)) = (&self.kdf, &self.cipher) else {
            return Err(malformed("`kdf` or `cipher` is missing"));
        };
        if kdf.name != "argon2id" || cipher.name != "chacha20-poly1305" {
            return Err(malformed("this Sigil knows argon2id and chacha20-poly1305"));
        }
        if kdf.memory_kib > MAX_MEMORY_KIB || kdf.passes > MAX_PASSES || kdf.lanes != 1 {
            return Err(malformed("`kdf` asks for more than 1 GiB, 64 passes or one lane"));
        }
        let salt = STANDARD.decode(&kdf.salt).map_err(|error| malformed(error.to_string()))?;
        let params = Params::new(kdf.memory_kib, kdf.passes, kdf.lanes, Some(32));
        let params = params.map_err(|error| malformed(format!("`kdf`: {error}")))?;
        let mut bytes = Zeroizing::new([0_u8; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose().as_bytes(), &salt, &mut *bytes)
            .map_err(|error| malformed(format!("`kdf`: {error}")))?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*bytes).map_err(|_| malformed("the key cannot be derived"))?;
        Ok(LessSafeKey::new(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn sealed() -> (SigningKey, KeyFile) {
        let key = SigningKey::generate().expect("randomness");
        let file = KeyFile::seal_at(&key, &secret("correct horse"), 64, 1).expect("sealed");
        (key, file)
    }

    fn code(result: Result<SigningKey, KeyFileRefused>) -> String {
        result.expect_err("refused").code().to_string()
    }

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_only() {
        let (key, file) = sealed();
        let file = KeyFile::parse(file.to_text().expose()).expect("its own");
        assert_eq!((file.public(), file.protection()), (key.public(), Protection::Passphrase));
        let opened = file.open(Some(&secret("correct horse"))).expect("opens");
        assert_eq!(opened.pkcs8().expose(), key.pkcs8().expose());
        assert_eq!(code(file.open(Some(&secret("wrong horse!")))), "policy.key_file.passphrase.wrong");
        assert_eq!(code(file.open(None)), "policy.key_file.passphrase.missing");
        let short = KeyFile::seal(&key, &secret("1234567")).expect_err("too short");
        assert_eq!(short.code().as_str(), "policy.key_file.passphrase.short");
    }

    #[test]
    fn nothing_in_a_sealed_file_can_be_exchanged() {
        let (_, file) = sealed();
        let (_, other) = sealed();
        let pass = secret("correct horse");
        let mut changed = file.clone();
        changed.form.public = other.form.public;
        assert_eq!(code(changed.open(Some(&pass))), "policy.key_file.passphrase.wrong");
        let mut changed = file.clone();
        changed.form.sealed = other.form.sealed.clone();
        assert_eq!(code(changed.open(Some(&pass))), "policy.key_file.passphrase.wrong");
        let mut greedy = file;
        greedy.form.kdf.as_mut().expect("sealed").memory_kib = u32::MAX;
        assert_eq!(code(greedy.open(Some(&pass))), "policy.key_file.malformed");
    }

    #[test]
    fn a_plain_file_says_so_and_hides_its_key_from_debug() {
        let key = SigningKey::generate().expect("randomness");
        let file = KeyFile::plain(&key);
        assert_eq!(file.protection(), Protection::None);
        assert_eq!(file.open(None).expect("opens").public(), key.public());
        let plain = file.form.plain.as_ref().expect("plain").to_string();
        assert!(!format!("{file:?}{key:?}").contains(&plain));
        let text = file.to_text();
        let misplaced = ["\"sealed\"", "\"kdf\"", "\"else\""].map(|word| text.expose().replace("\"plain\"", word));
        for bad in misplaced.iter().map(String::as_str).chain(["{}", "[]", "null"]) {
            let refused = KeyFile::parse(bad).expect_err(bad);
            assert!(!refused.to_string().contains(&plain), "an error never quotes the key");
        }
    }

    #[test]
    fn files_are_private_and_never_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("owner.key");
        let (_, file) = sealed();
        file.write(&path).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(KeyFile::read(&path).expect("read").public(), file.public());
        assert!(matches!(file.write(&path), Err(KeyFileRefused::File { .. })), "an existing key stays");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        assert_eq!(KeyFile::read(&path).expect_err("exposed").code().as_str(), "policy.key_file.exposed");
    }
}
