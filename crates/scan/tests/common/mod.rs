//! What the tests share.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The files of the packs.
pub(crate) fn packs() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy/scanner");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the packs").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// A scanner with the packs as they are on disk, which are those that are part of Sigil when it is built next.
pub(crate) fn scanner() -> sigil_scan::Scanner {
    let texts: Vec<String> = packs().iter().map(|path| std::fs::read_to_string(path).expect("a pack")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    sigil_scan::Scanner::from_packs(&texts).expect("the packs load")
}

/// A small deterministic generator (SplitMix64), so that no credential has to stand in the tree.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).expect("small")).expect("small")
    }

    fn from(&mut self, alphabet: &str, length: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| letters[self.below(letters.len())]).collect()
    }
}

const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const DIGIT: &str = "0123456789";

/// Replaces `{{KIND}}` or `{{KIND LENGTH}}` in a text by made-up credentials and encodings:
/// `alnum`, `upper` (with digits), `lower` (with digits), `hex`, `digit`, `word` (base64url), `b64`, `crc` (30 characters
/// and their checksum), `jwt`, `pem`, `base64 TEXT`, `hexed TEXT`.
pub(crate) fn expand(text: &str) -> String {
    let mut random = Random(text.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))));
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").expect("a closed marker");
        let (kind, argument) = inside.split_once(' ').unwrap_or((inside, ""));
        let length = argument.parse().unwrap_or(32);
        out.push_str(before);
        out.push_str(&match kind {
            "alnum" => random.from(&format!("{UPPER}{LOWER}{DIGIT}"), length),
            "upper" => random.from(&format!("{UPPER}{DIGIT}"), length),
            "base32" => random.from(&format!("{UPPER}234567"), length),
            "lower" => random.from(&format!("{LOWER}{DIGIT}"), length),
            "hex" => random.from("0123456789abcdef", length),
            "letters" => random.from(&format!("{UPPER}{LOWER}"), length),
            "digit" => random.from(DIGIT, length),
            "word" => random.from(&format!("{UPPER}{LOWER}{DIGIT}_-"), length),
            "b64" => random.from(&format!("{UPPER}{LOWER}{DIGIT}+/"), length),
            "crc" => with_checksum(&random.from(&format!("{UPPER}{LOWER}{DIGIT}"), 30)),
            "jwt" => {
                let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{}","admin":true}}"#, random.from(DIGIT, 12)));
                let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
                format!("{header}.{claims}.{}", random.from(&format!("{UPPER}{LOWER}{DIGIT}_-"), 43))
            }
            "pem" => {
                let label = if argument.is_empty() { "PRIVATE KEY" } else { argument };
                let body: Vec<String> = (0..24).map(|_| random.from(&format!("{UPPER}{LOWER}{DIGIT}+/"), 64)).collect();
                format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", body.join("\n"))
            }
            "base64" => STANDARD.encode(argument),
            "hexed" => argument.bytes().map(|byte| format!("{byte:02x}")).collect(),
            other => panic!("no such marker: {other}"),
        });
        rest = after;
    }
    out + rest
}

fn with_checksum(random: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut crc = flate2::Crc::new();
    crc.update(random.as_bytes());
    let mut sum = crc.sum();
    let mut digits = [0_u8; 6];
    for place in digits.iter_mut().rev() {
        *place = DIGITS[(sum % 62) as usize];
        sum /= 62;
    }
    format!("{random}{}", String::from_utf8(digits.to_vec()).expect("ASCII"))
}
