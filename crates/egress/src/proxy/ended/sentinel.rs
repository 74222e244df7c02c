//! Stand-ins for credentials: what a plugin holds instead of the real one, and where it may put it.

use std::collections::BTreeSet;
use std::fmt;

use ring::rand::{SecureRandom as _, SystemRandom};
use sigil_types::{Host, HostPattern, Name};

/// What every stand-in begins with.
pub const PREFIX: &str = "sigil-secret-";
/// Hexadecimal digits after it.
const DIGITS: usize = 32;
const LENGTH: usize = PREFIX.len() + DIGITS;

/// The header fields in which servers expect credentials, and no others: what stands in any other field may be kept and shown
/// to others.
pub(super) const CREDENTIAL_FIELDS: [&str; 8] = [
    "authorization",
    "api-key",
    "x-api-key",
    "x-auth-token",
    "x-access-token",
    "x-goog-api-key",
    "x-vault-token",
    "private-token",
];

/// A stand-in for one secret of the vault. It is worth nothing outside of this instance's own connections.
#[derive(Clone, PartialEq, Eq)]
pub struct Sentinel {
    text: String,
    secret: Name,
    hosts: BTreeSet<HostPattern>,
}

impl fmt::Debug for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sentinel({})", self.secret)
    }
}

/// The operating system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness for a credential's stand-in")]
pub struct NoRandomness;

impl NoRandomness {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> sigil_types::Code {
        sigil_types::Code::new("egress.ended.randomness.absent")
    }
}

impl Sentinel {
    /// A new one for `secret`, which may go to `hosts` and nowhere else.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate(secret: Name, hosts: BTreeSet<HostPattern>) -> Result<Self, NoRandomness> {
        let mut bytes = [0_u8; DIGITS / 2];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { text: format!("{PREFIX}{digits}"), secret, hosts })
    }

    /// What the plugin is given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The secret that it stands for.
    #[must_use]
    pub const fn secret(&self) -> &Name {
        &self.secret
    }

    /// Whether its secret may go to `host`.
    #[must_use]
    pub fn covers(&self, host: &Host) -> bool {
        self.hosts.iter().any(|pattern| pattern.covers(host))
    }
}

/// Whether a stand-in, anybody's, stands in `bytes`.
#[must_use]
pub fn stands_in(bytes: &[u8]) -> bool {
    bytes.windows(LENGTH).any(is_one)
}

fn is_one(bytes: &[u8]) -> bool {
    bytes
        .strip_prefix(PREFIX.as_bytes())
        .is_some_and(|digits| digits.len() == DIGITS && digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// As [`stands_in`], with what is percent-encoded decoded once.
#[must_use]
pub fn stands_in_encoded(text: &str) -> bool {
    stands_in(&percent_decoded(text))
}

/// Decodes `%XX`; what is not that stays.
pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let nibble = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = (nibble(bytes.get(at + 1)), nibble(bytes.get(at + 2)));
        match pair {
            (Some(high), Some(low)) if byte == b'%' => {
                decoded.push(u8::try_from(high << 4 | low).unwrap_or(byte));
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Looks for stand-ins in a stream.
#[derive(Debug, Default)]
pub struct Finder {
    tail: Vec<u8>,
}

impl Finder {
    /// Whether one ends in `bytes`, which follow what was pushed before.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        self.tail.extend_from_slice(bytes);
        let found = stands_in(&self.tail);
        let keep = self.tail.len().min(LENGTH - 1);
        self.tail.drain(..self.tail.len() - keep);
        found
    }
}

/// How a stand-in stands in the value of a credential field.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// None does.
    Absent,
    /// As the whole value, or after a scheme such as `Bearer`: what stands before it, and it.
    Plain { before: String, sentinel: String },
    /// As the password of the scheme `Basic`: what stands before it in the decoded value, and it.
    Basic { before: String, sentinel: String },
    /// Within something else.
    Elsewhere,
}

/// Reads the value of a credential field.
pub(super) fn placed(value: &[u8]) -> Placed {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let Ok(text) = std::str::from_utf8(value) else {
        return if stands_in(value) { Placed::Elsewhere } else { Placed::Absent };
    };
    let (scheme, token) = text.rsplit_once(' ').map_or((None, text), |(scheme, token)| (Some(scheme), token));
    if scheme.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("basic")) {
        let Some(decoded) = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return if stands_in(value) { Placed::Elsewhere } else { Placed::Absent };
        };
        return match decoded.split_once(':') {
            Some((user, password)) if is_one(password.as_bytes()) && !stands_in(user.as_bytes()) => {
                Placed::Basic { before: format!("{user}:"), sentinel: password.to_owned() }
            }
            _ if stands_in(decoded.as_bytes()) || stands_in(value) => Placed::Elsewhere,
            _ => Placed::Absent,
        };
    }
    // Too short for another one of its kind.
    let one_word = scheme.is_none_or(|scheme| {
        scheme.len() < PREFIX.len() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    if is_one(token.as_bytes()) && one_word {
        let before = scheme.map(|scheme| format!("{scheme} ")).unwrap_or_default();
        Placed::Plain { before, sentinel: token.to_owned() }
    } else if stands_in(value) {
        Placed::Elsewhere
    } else {
        Placed::Absent
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "sigil-secret-0123456789abcdef0123456789abcdef";

    #[test]
    fn each_is_new_and_for_its_hosts() {
        let hosts = || BTreeSet::from(["*.example.com".parse().expect("a pattern")]);
        let new = || Sentinel::generate("token".parse().expect("a name"), hosts()).expect("randomness");
        let (one, other) = (new(), new());
        assert_ne!(one.text(), other.text());
        assert!(is_one(one.text().as_bytes()));
        assert!(one.covers(&"a.example.com".parse().expect("a host")));
        assert!(!one.covers(&"example.com".parse().expect("a host")));
        assert!(!format!("{one:?}").contains(one.text()));
    }

    #[test]
    fn it_stands_whole_or_after_a_scheme_or_as_a_password() {
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let plain = |before: &str| Placed::Plain { before: before.into(), sentinel: ONE.into() };
        assert_eq!(placed(ONE.as_bytes()), plain(""));
        assert_eq!(placed(format!("Bearer {ONE}").as_bytes()), plain("Bearer "));
        let basic = placed(format!("Basic {}", encode(&format!("user:{ONE}"))).as_bytes());
        assert_eq!(basic, Placed::Basic { before: "user:".into(), sentinel: ONE.into() });
        assert_eq!(placed(b"Bearer something-else"), Placed::Absent);
        assert_eq!(placed(format!("Basic {}", encode("user:password")).as_bytes()), Placed::Absent);
        for bad in [
            format!("{ONE}x"),
            format!("x{ONE}"),
            format!("Token token=\"{ONE}\""),
            format!("Bearer a {ONE}"),
            format!("{ONE} {ONE}"),
            format!("Basic {ONE}"),
            format!("Basic {}", encode(&format!("{ONE}:password"))),
            format!("Basic {}", encode(&format!("user:{ONE}x"))),
        ] {
            assert_eq!(placed(bad.as_bytes()), Placed::Elsewhere, "{bad}");
        }
    }

    #[test]
    fn one_that_is_encoded_is_found() {
        let encoded: String = ONE.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert!(stands_in_encoded(&format!("/x?y={encoded}")) && stands_in_encoded(ONE));
        assert!(!stands_in_encoded("/x?y=sigil-secret-") && !stands_in_encoded("%"));
    }

    proptest! {
        #[test]
        fn no_split_hides_it(before in "[ -~]{0,60}", after in "[ -~]{0,60}", mut cuts in prop::collection::vec(0_usize..170, 0..8)) {
            let text = format!("{before}{ONE}{after}");
            cuts.sort_unstable();
            let (mut finder, mut found, mut from) = (Finder::default(), false, 0);
            for cut in cuts.into_iter().map(|cut| cut.min(text.len())).chain([text.len()]) {
                found |= finder.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            prop_assert!(found);
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = placed(&bytes);
            let _ = stands_in_encoded(&String::from_utf8_lossy(&bytes));
        }
    }
}
