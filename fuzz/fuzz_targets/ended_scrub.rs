//! Arbitrary answers, cut anywhere: no form of a secret comes out, nothing else changes, and a cut makes no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigil_egress::ended::scrub::{Patterns, Scrubber};
use sigil_egress::ended::sentinel::{Finder, stands_in};

const SECRET: &[u8] = b"ghp_A1b2C3/d4+e5%F6&g7\"h8";

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (cuts, text) = input;
    let mut patterns = Patterns::default();
    patterns.add(SECRET);
    let whole = patterns.scrub(&text).unwrap_or_else(|| text.clone());
    let (mut scrubber, mut finder) = (Scrubber::new(&patterns), Finder::default());
    let (mut clean, mut found, mut rest) = (Vec::new(), false, text.as_slice());
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(cut).min(rest.len()));
        clean.extend(scrubber.push(piece));
        found |= finder.push(piece);
        rest = after;
    }
    clean.extend(scrubber.push(rest));
    clean.extend(scrubber.finish());
    found |= finder.push(rest);
    assert_eq!(clean, whole, "a cut makes a difference");
    assert_eq!(clean.len(), text.len());
    assert!(clean.iter().zip(&text).all(|(out, byte)| out == byte || *out == b'*'));
    assert!(!clean.windows(SECRET.len()).any(|window| window.eq_ignore_ascii_case(SECRET)));
    assert_eq!(found, stands_in(&text));
});
