//! Checks of a credential beyond its form: checksums, structure, entropy, placeholders.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Severity;
use crate::pack::Check;

/// What a check says of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It is not one.
    No,
    /// It has the form, and the severity of the rule.
    Form,
    /// It has the form, and is probably made up for an example.
    Example,
    /// Its checksum or structure is right.
    Verified,
}

impl Checked {
    /// The severity of a finding, from that of its rule.
    pub(crate) fn severity(self, rule: Severity) -> Option<Severity> {
        match self {
            Self::No => None,
            Self::Form => Some(rule),
            Self::Example => Some(Severity::Low),
            Self::Verified => Some(Severity::Critical),
        }
    }
}

/// Applies `check` to `value`.
pub(crate) fn check(check: Option<Check>, value: &[u8]) -> Checked {
    let Ok(text) = std::str::from_utf8(value) else { return Checked::No };
    match check {
        None => Checked::Form,
        Some(Check::Crc32) if crc_is_right(text) => Checked::Verified,
        Some(Check::Crc32 | Check::Real) => example_or(text, Checked::Form),
        Some(Check::Jwt) if is_jwt(text) => Checked::Verified,
        Some(Check::Jwt) => Checked::No,
        Some(Check::Mixed) => {
            if varied(text) && entropy(text) > 3.5 {
                example_or(text, Checked::Form)
            } else {
                Checked::No
            }
        }
        Some(Check::OpenAi) => open_ai(text),
        Some(Check::Random) => random(text),
        Some(Check::Password) => password(text),
        Some(Check::Query) => query(text),
    }
}

fn example_or(text: &str, otherwise: Checked) -> Checked {
    if is_placeholder(text) || entropy(text) < 2.0 { Checked::Example } else { otherwise }
}

/// GitHub and npm: `prefix_`, 30 random characters, and their CRC-32 in base 62, padded to six.
fn crc_is_right(token: &str) -> bool {
    let Some((_, body)) = token.rsplit_once('_') else { return false };
    let Some((random, sum)) = body.split_at_checked(body.len().saturating_sub(6)) else { return false };
    !random.is_empty() && base62(crc32(random.as_bytes())) == sum
}

/// CRC-32 as in ISO 3309, the one of zip and Ethernet.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    });
    !sum
}

/// Six digits of base 62: digits, upper case, lower case.
pub(crate) fn base62(mut number: u32) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut digits = [b'0'; 6];
    for place in digits.iter_mut().rev() {
        *place = DIGITS.get((number % 62) as usize).copied().unwrap_or(b'0');
        number /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

fn is_jwt(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let Ok(json) = URL_SAFE_NO_PAD.decode(header) else { return false };
    let Ok(text) = std::str::from_utf8(&json) else { return false };
    text.starts_with('{') && text.trim_end().ends_with('}') && (text.contains("\"alg\"") || text.contains("\"typ\""))
}

/// `T3BlbkFJ`, base64 of "OpenAI", stands within its keys. Others copy the prefix.
fn open_ai(token: &str) -> Checked {
    if token.contains("T3BlbkFJ") {
        return if is_placeholder(token) { Checked::Example } else { Checked::Verified };
    }
    let last = token.rsplit('-').next().unwrap_or_default();
    let random = last.len() >= 32 && last.bytes().any(|b| b.is_ascii_digit()) && longest_word(last) < 12;
    if random { example_or(token, Checked::Form) } else { Checked::No }
}

/// Shannon entropy, in bits a character.
pub(crate) fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let length = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / length).map(|p| -p * p.log2()).sum()
}

/// Whether upper case, lower case and digits all occur.
fn varied(text: &str) -> bool {
    [u8::is_ascii_uppercase, u8::is_ascii_lowercase, u8::is_ascii_digit]
        .iter()
        .all(|kind| text.bytes().any(|b| kind(&b)))
}

/// A value that only its name makes a secret has to look like one.
fn random(text: &str) -> Checked {
    let text = text.trim_end_matches(['.', ',', ';', ')', '"', '\'']);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    if text.len() < 8 || letters < 2 || is_reference(text) {
        return Checked::No;
    }
    if is_placeholder(text) {
        return if text.len() >= 12 && digits > 0 { Checked::Example } else { Checked::No };
    }
    let wordy = longest_word(text);
    let enough = match text.len() {
        8..12 => digits >= 2 && entropy(text) >= 2.6 && wordy < 6,
        12..20 => digits >= 2 && entropy(text) >= 2.9 && wordy < 8,
        _ => digits >= 3 && entropy(text) >= 3.0 && wordy < 12,
    };
    if enough { Checked::Form } else { Checked::No }
}

/// A password may be a word with a digit; it is not a variable, a type or a sentence.
fn password(text: &str) -> Checked {
    let text = text.trim_end_matches(['.', ',', ';', ')', '"', '\'']);
    if text.len() < 6 || is_reference(text) || is_placeholder(text) {
        return Checked::No;
    }
    let digit = text.bytes().any(|b| b.is_ascii_digit());
    let letter = text.bytes().any(|b| b.is_ascii_alphabetic());
    let sign = text.bytes().any(|b| b"!@#$%^&*?+~".contains(&b));
    let mixed = text.bytes().skip(1).any(|b| b.is_ascii_uppercase()) && longest_word(text) < 6 && entropy(text) >= 3.0;
    if letter && (digit || sign || mixed) && entropy(text) >= 2.0 { Checked::Form } else { Checked::No }
}

/// Whether a value is a name for a value: a variable, a path, a call, a template.
fn is_reference(text: &str) -> bool {
    let starts =
        ["${", "$(", "{{", "<", "%(", "$", "process.", "os.", "env.", "ENV[", "self.", "this.", "/", "./", "@", "#{"];
    let holds = ["::", "()", "(", "->", "://", "getenv", "environ", "secrets.", "vault:", "arn:aws"];
    starts.iter().any(|start| text.starts_with(start)) || holds.iter().any(|part| text.contains(part))
}

/// The longest run of letters of one case, after an initial: names and words have long ones, random values short ones.
fn longest_word(text: &str) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for byte in text.bytes() {
        run = if byte.is_ascii_lowercase() { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// Whether a value is one of those that stand for a value.
fn is_placeholder(text: &str) -> bool {
    const WORDS: [&str; 30] = [
        "example",
        "xxxx",
        "your",
        "placeholder",
        "changeme",
        "change_me",
        "redacted",
        "dummy",
        "sample",
        "insert",
        "replace",
        "todo",
        "fixme",
        "abcdef",
        "123456789",
        "foobar",
        "....",
        "****",
        "----",
        "____",
        "0000000",
        "1111111",
        "aaaaaa",
        "<",
        "${",
        "{{",
        "fake",
        "notreal",
        "not-a-real",
        "deadbeef",
    ];
    let lower = text.to_ascii_lowercase();
    WORDS.iter().any(|word| lower.contains(word))
}

/// A query that carries something away: a template to be filled, or much data.
fn query(text: &str) -> Checked {
    let Some((_, query)) = text.split_once('?') else { return Checked::No };
    let template = query.contains(['{', '<', '[', '$']) || query.to_ascii_lowercase().contains("base64");
    let named = [
        "data=",
        "q=",
        "d=",
        "c=",
        "msg=",
        "content=",
        "text=",
        "secret=",
        "token=",
        "key=",
        "exfil",
        "leak=",
        "payload=",
        "chat=",
        "history=",
        "prompt=",
        "conversation=",
        "info=",
        "summary=",
        "log=",
        "p=",
        "m=",
    ];
    let longest = query.split(['&', '=']).map(str::len).max().unwrap_or(0);
    let carries = named.iter().any(|name| query.to_ascii_lowercase().contains(name));
    if template || (carries && longest >= 24) || longest >= 96 { Checked::Form } else { Checked::No }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_and_base62_are_the_published_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(base62(0), "000000");
        assert_eq!(base62(61), "00000z");
        let random = "q".repeat(29) + "7";
        let token = format!("ghp_{random}{}", base62(crc32(random.as_bytes())));
        assert!(crc_is_right(&token));
        assert!(!crc_is_right(&token.replace('7', "8")));
    }

    #[test]
    fn placeholders_and_references_are_no_secrets() {
        for value in ["${DB_PASSWORD}", "your-api-key-here-1", "process.env.TOKEN1", "changeme1", "<token>12345"] {
            assert_eq!(password(value), Checked::No, "{value}");
        }
        assert_eq!(random("getTokenFromRequest"), Checked::No);
        assert_eq!(random("user_authentication_token"), Checked::No);
        assert_eq!(random("b7Kq92mZx4Lr8Tn1"), Checked::Form);
    }

    #[test]
    fn a_jwt_has_a_header() {
        assert!(is_jwt("eyJhbGciOiJIUzI1NiJ9.e30.x"));
        assert!(!is_jwt("eyJxxxxxxxxxxxxxxxxx.e30.x"));
    }
}
