//! The master key: from a key file, or from a passphrase by Argon2id.

use std::fmt;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hkdf;
use ring::rand::{SecureRandom as _, SystemRandom};
use sigil_types::Secret;
use zeroize::Zeroizing;

use crate::file;
use crate::vault::VaultFailed;

/// What opens a vault.
#[derive(Clone)]
pub enum Unlock {
    /// A file with the key: 32 random bytes in base64, mode 0600. It is made together with a new vault.
    KeyFile(PathBuf),
    /// A passphrase, of which the key is derived by Argon2id (RFC 9106).
    Passphrase(Secret<String>),
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyFile(path) => write!(f, "KeyFile({})", path.display()),
            Self::Passphrase(_) => f.write_str("Passphrase(…)"),
        }
    }
}

/// How the key was made, as the vault's header says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Derivation {
    KeyFile,
    Passphrase { memory_kib: u32, passes: u32, salt: [u8; 16] },
}

/// RFC 9106's second recommendation, with one lane: 64 MiB, three passes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// More than this is not computed, whatever a header asks for.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 16;

/// The key that all others are derived from.
pub(crate) struct Master {
    bytes: Secret<[u8; 32]>,
    pub(crate) derivation: Derivation,
}

impl Master {
    /// Makes the key for a new vault.
    pub(crate) fn create(unlock: &Unlock) -> Result<Self, VaultFailed> {
        match unlock {
            Unlock::KeyFile(path) => {
                if !path.exists() {
                    let fresh = Zeroizing::new(random::<32>()?);
                    let text = Zeroizing::new(format!("{}\n", BASE64.encode(*fresh)));
                    file::create(path, text.as_bytes())?;
                }
                Self::from_file(path)
            }
            Unlock::Passphrase(passphrase) => {
                if passphrase.expose().chars().count() < 8 {
                    return Err(VaultFailed::ShortPassphrase);
                }
                let derivation =
                    Derivation::Passphrase { memory_kib: MEMORY_KIB, passes: PASSES, salt: random::<16>()? };
                Self::from_passphrase(passphrase, derivation)
            }
        }
    }

    /// Makes the key of a vault whose header says `derivation`.
    pub(crate) fn of_existing(unlock: &Unlock, derivation: Derivation) -> Result<Self, VaultFailed> {
        match (unlock, derivation) {
            (Unlock::KeyFile(path), Derivation::KeyFile) => Self::from_file(path),
            (Unlock::Passphrase(passphrase), Derivation::Passphrase { .. }) => {
                Self::from_passphrase(passphrase, derivation)
            }
            (_, Derivation::KeyFile) => Err(VaultFailed::OtherUnlock { needs: "a key file" }),
            (_, Derivation::Passphrase { .. }) => Err(VaultFailed::OtherUnlock { needs: "a passphrase" }),
        }
    }

    fn from_file(path: &Path) -> Result<Self, VaultFailed> {
        let text = file::read(path, 4096)?;
        let refused = || VaultFailed::KeyFile { path: path.to_owned() };
        let mut bytes = Zeroizing::new([0_u8; 32]);
        let decoded = BASE64.decode_slice(text.trim_ascii(), bytes.as_mut()).map_err(|_| refused())?;
        if decoded != bytes.len() {
            return Err(refused());
        }
        Ok(Self { bytes: Secret::new(*bytes), derivation: Derivation::KeyFile })
    }

    fn from_passphrase(passphrase: &Secret<String>, derivation: Derivation) -> Result<Self, VaultFailed> {
        let Derivation::Passphrase { memory_kib, passes, salt } = derivation else {
            return Err(VaultFailed::OtherUnlock { needs: "a key file" });
        };
        let params = Params::new(memory_kib, passes, 1, Some(32)).ok();
        let within = memory_kib <= MAX_MEMORY_KIB && passes <= MAX_PASSES;
        let params = params.filter(|_| within).ok_or(VaultFailed::Form("its Argon2id parameters are out of bounds"))?;
        let mut bytes = Zeroizing::new([0_u8; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose().as_bytes(), &salt, bytes.as_mut())
            .map_err(|_| VaultFailed::Crypto)?;
        Ok(Self { bytes: Secret::new(*bytes), derivation })
    }

    /// A key for one purpose (HKDF-SHA256, RFC 5869).
    pub(crate) fn derive(&self, salt: &[u8], purpose: &[u8]) -> Result<Zeroizing<[u8; 32]>, VaultFailed> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(self.bytes.expose())
            .expand(&[purpose], hkdf::HKDF_SHA256)
            .and_then(|key| key.fill(bytes.as_mut()))
            .map_err(|_| VaultFailed::Crypto)?;
        Ok(bytes)
    }
}

/// Bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], VaultFailed> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| VaultFailed::Random)?;
    Ok(bytes)
}
