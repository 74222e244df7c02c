//! Arbitrary text as the path of a request: what is read has one reading, and rules see that one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigil_types::{PathRule, UrlPath};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(rule) = text.parse::<PathRule>() {
        assert_eq!(rule.to_string().parse(), Ok(rule), "one form of a rule");
    }
    let Ok(path) = text.parse::<UrlPath>() else { return };
    let read = path.as_str();
    assert!(read.starts_with('/') && !read.contains(['\\', '\0', '\r', '\n']));
    let mut parts = read.split('/').skip(1).collect::<Vec<_>>();
    let last = parts.pop();
    assert!(parts.iter().chain(&last).all(|part| !matches!(part.split(';').next(), Some("." | ".."))));
    assert!(parts.iter().all(|part| !part.is_empty()));
    let encoded: String = read.bytes().map(|b| if b.is_ascii_alphanumeric() || b"/-._~;".contains(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    assert_eq!(encoded.parse(), Ok(path), "decoding again changes nothing");
});
