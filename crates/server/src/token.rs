//! Bearer tokens: `sgl_<kind>_<id>_<secret><crc>`.
//!
//! The secret is 256 bits from the system, so a plain SHA-256 at rest is enough: there is nothing to guess. The checksum
//! (CRC-32, IEEE 802.3) lets a secret scanner tell a token from an accident, and lets the server refuse a mistyped one
//! without asking the store.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use sigil_types::{Digest, Secret, Timestamp, TokenId};

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A person's own, for the API.
    Personal,
    /// For the compatible inference endpoints only.
    Inference,
    /// A remote plugin host's.
    Node,
}

impl TokenKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Personal => "pat",
            Self::Inference => "inf",
            Self::Node => "node",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Personal, Self::Inference, Self::Node].into_iter().find(|kind| kind.word() == word)
    }
}

/// A token whose form and checksum are right. Whether it counts is for the store to say.
#[derive(Debug)]
pub struct Token {
    /// What it is for.
    pub kind: TokenKind,
    /// Its name.
    pub id: TokenId,
    /// SHA-256 of the whole text: what is stored and looked up.
    pub digest: Digest,
}

/// Why a text is not a token. Says nothing about its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token of Sigil: expected sgl_<kind>_<id>_<secret>, unchanged from when it was shown")]
pub struct ParseToken;

/// A new token: the text to show once, and the digest to keep.
#[derive(Debug)]
pub struct Minted {
    /// Its name.
    pub id: TokenId,
    /// What to show, once.
    pub text: Secret<String>,
    /// What to keep.
    pub digest: Digest,
}

/// Makes a token with 256 bits of the system's randomness.
///
/// # Errors
/// When the system has no randomness to give.
pub fn mint(kind: TokenKind, now: Timestamp) -> Result<Minted, ring::error::Unspecified> {
    let id = TokenId::generate(now);
    let mut bytes = [0_u8; 32];
    SystemRandom::new().fill(&mut bytes)?;
    let name = id.to_string();
    let mut text = format!("sgl_{}_{}_", kind.word(), name.trim_start_matches(TokenId::PREFIX));
    text.extend(bytes.iter().map(|byte| format!("{byte:02x}")));
    let checksum = crc32(text.as_bytes());
    text.push_str(&format!("{checksum:08x}"));
    let digest = Digest::of(text.as_bytes());
    Ok(Minted { id, text: Secret::new(text), digest })
}

impl FromStr for Token {
    type Err = ParseToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > 160 || !text.is_ascii() {
            return Err(ParseToken);
        }
        let mut parts = text.splitn(4, '_');
        let (prefix, kind, id, rest) = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some("sgl"), Some(kind), Some(id), Some(rest)) = (prefix, kind, id, rest) else { return Err(ParseToken) };
        let kind = TokenKind::from_word(kind).ok_or(ParseToken)?;
        let id: TokenId = format!("{}{id}", TokenId::PREFIX).parse().map_err(|_| ParseToken)?;
        let hexadecimal = rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let (body, checksum) = text.split_at_checked(text.len().saturating_sub(8)).ok_or(ParseToken)?;
        if rest.len() != 72 || !hexadecimal || format!("{:08x}", crc32(body.as_bytes())) != checksum {
            return Err(ParseToken);
        }
        Ok(Self { kind, id, digest: Digest::of(text.as_bytes()) })
    }
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Whether two digests are the same, in a time that does not depend on where they differ.
pub(crate) fn same(left: &Digest, right: &Digest) -> bool {
    let difference = left.as_bytes().iter().zip(right.as_bytes()).fold(0_u8, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// CRC-32 as in IEEE 802.3, bit by bit: tokens are short.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn crc_of_the_standard_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_is_minted_is_read_and_no_two_are_the_same() {
        let now = Timestamp::from_millis(1_793_404_800_123);
        let (one, two) =
            (mint(TokenKind::Personal, now).expect("random"), mint(TokenKind::Personal, now).expect("random"));
        let token: Token = one.text.expose().parse().expect("a token");
        assert_eq!((token.id, token.kind), (one.id, TokenKind::Personal));
        assert!(same(&token.digest, &one.digest) && !same(&one.digest, &two.digest));
        assert!(!format!("{one:?}").contains("sgl_"), "a token is not printed");
    }

    proptest! {
        #[test]
        fn one_changed_character_is_refused(at in 0_usize..111, with in "[0-9a-f]") {
            let minted = mint(TokenKind::Personal, Timestamp::from_millis(1)).expect("random");
            let mut text = minted.text.expose().clone();
            let at = at % text.len();
            if text.get(at..=at) != Some(with.as_str()) {
                text.replace_range(at..=at, &with);
                prop_assert!(text.parse::<Token>().is_err());
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            prop_assert!(text.parse::<Token>().is_err());
        }
    }
}
