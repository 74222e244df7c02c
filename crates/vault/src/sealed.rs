//! The encrypted file: header, then ChaCha20-Poly1305 (RFC 8439) over everything else.
//!
//! A 96-bit nonce may not repeat under one key, and random ones may after some 2^32 writes. So every write has a key of its
//! own, derived from the master key and 256 random bits in the header; a repeated nonce then meets another key. The whole
//! header is authenticated with the content.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::key::{Derivation, Master, random};
use crate::vault::VaultFailed;

const MAGIC: &[u8; 16] = b"sigil vault v1\n\0";
const SALT_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 16;
const FILE_KEY: &[u8] = b"sigil vault v1: key of one file version";
const KEY_ID: &[u8] = b"sigil vault v1: key id";

/// What stands before the encrypted part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) derivation: Derivation,
    /// Tells a wrong key from a damaged file; says nothing about the key.
    key_id: [u8; KEY_ID_BYTES],
    salt: [u8; SALT_BYTES],
    nonce: [u8; NONCE_LEN],
}

impl Header {
    /// Length in bytes: magic, kind, memory, passes, Argon2 salt, key id, salt, nonce.
    const BYTES: usize = 16 + 1 + 4 + 4 + 16 + KEY_ID_BYTES + SALT_BYTES + NONCE_LEN;

    fn write(&self) -> Vec<u8> {
        let (kind, memory_kib, passes, salt) = match self.derivation {
            Derivation::KeyFile => (0_u8, 0_u32, 0_u32, [0; 16]),
            Derivation::Passphrase { memory_kib, passes, salt } => (1, memory_kib, passes, salt),
        };
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.push(kind);
        bytes.extend_from_slice(&memory_kib.to_be_bytes());
        bytes.extend_from_slice(&passes.to_be_bytes());
        bytes.extend_from_slice(&salt);
        bytes.extend_from_slice(&self.key_id);
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.nonce);
        bytes
    }

    /// Reads the header; answers what follows it.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), VaultFailed> {
        const SHORT: VaultFailed = VaultFailed::Form("it is too short");
        let (magic, rest) = bytes.split_first_chunk::<16>().ok_or(SHORT)?;
        if magic != MAGIC {
            return Err(VaultFailed::Form("it does not begin as a vault does"));
        }
        let ([kind], rest) = rest.split_first_chunk::<1>().ok_or(SHORT)?;
        let (memory_kib, rest) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
        let (passes, rest) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
        let (argon_salt, rest) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
        let (key_id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or(SHORT)?;
        let (salt, rest) = rest.split_first_chunk::<SALT_BYTES>().ok_or(SHORT)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SHORT)?;
        let (memory_kib, passes) = (u32::from_be_bytes(*memory_kib), u32::from_be_bytes(*passes));
        let derivation = match kind {
            0 => Derivation::KeyFile,
            1 => Derivation::Passphrase { memory_kib, passes, salt: *argon_salt },
            _ => return Err(VaultFailed::Form("it is opened in a way that this Sigil does not know")),
        };
        Ok((Self { derivation, key_id: *key_id, salt: *salt, nonce: *nonce }, rest))
    }
}

/// Encrypts `content` as a new version of the file.
pub(crate) fn seal(master: &Master, content: &[u8]) -> Result<Vec<u8>, VaultFailed> {
    let header = Header { derivation: master.derivation, key_id: key_id(master)?, salt: random()?, nonce: random()? };
    let mut bytes = header.write();
    // The buffer is encrypted in place, so that no copy of the content is left.
    let mut sealed = Zeroizing::new(Vec::with_capacity(content.len() + CHACHA20_POLY1305.tag_len()));
    sealed.extend_from_slice(content);
    file_key(master, &header)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(header.nonce), Aad::from(&bytes), &mut *sealed)
        .map_err(|_| VaultFailed::Crypto)?;
    bytes.extend_from_slice(&sealed);
    Ok(bytes)
}

/// Decrypts a version of the file.
pub(crate) fn open(master: &Master, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultFailed> {
    let (header, sealed) = Header::read(bytes)?;
    if header.derivation != master.derivation || header.key_id != key_id(master)? {
        return Err(VaultFailed::WrongKey);
    }
    // The bytes themselves, not what was understood of them: nothing in the header can change unnoticed.
    let authenticated = bytes.get(..Header::BYTES).unwrap_or_default();
    let mut content = Zeroizing::new(sealed.to_vec());
    let length = file_key(master, &header)?
        .open_in_place(Nonce::assume_unique_for_key(header.nonce), Aad::from(authenticated), &mut content)
        .map_err(|_| VaultFailed::Tampered)?
        .len();
    content.truncate(length);
    Ok(content)
}

fn file_key(master: &Master, header: &Header) -> Result<LessSafeKey, VaultFailed> {
    let key = master.derive(&header.salt, FILE_KEY)?;
    UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).map(LessSafeKey::new).map_err(|_| VaultFailed::Crypto)
}

fn key_id(master: &Master) -> Result<[u8; KEY_ID_BYTES], VaultFailed> {
    let id = master.derive(&[], KEY_ID)?;
    id.first_chunk().copied().ok_or(VaultFailed::Crypto)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::Unlock;

    #[test]
    fn the_same_content_is_never_sealed_the_same_way() {
        let folder = tempfile::tempdir().unwrap();
        let master = Master::create(&Unlock::KeyFile(folder.path().join("key"))).unwrap();
        let (one, two) = (seal(&master, b"content").unwrap(), seal(&master, b"content").unwrap());
        let (first, second) = (Header::read(&one).unwrap().0, Header::read(&two).unwrap().0);
        assert!(first.salt != second.salt && first.nonce != second.nonce);
        assert_ne!(*one.last_chunk::<16>().unwrap(), *two.last_chunk::<16>().unwrap());
        assert_eq!(open(&master, &one).unwrap().as_slice(), b"content");
        assert_eq!(one.len(), Header::BYTES + 7 + 16);
    }

    proptest! {
        #[test]
        fn a_header_of_any_bytes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::read(&bytes);
            let with_magic: Vec<u8> = MAGIC.iter().copied().chain(bytes).collect();
            if let Ok((header, rest)) = Header::read(&with_magic)
                && header.derivation != Derivation::KeyFile {
                    let again: Vec<u8> = header.write().into_iter().chain(rest.iter().copied()).collect();
                    prop_assert_eq!(again, with_magic);
            }
        }
    }
}
