//! Takes secrets out of what comes back: as they are, in base64, in hexadecimal, and each of these escaped.
//!
//! What is taken out is replaced by as many `*`, so that lengths and framing stay as they were. This holds against a server
//! that repeats what it was sent. A server that means to tell a secret in another form was told it already.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

const MASK: u8 = b'*';

/// The forms of some secrets, in which they are looked for without regard to case.
pub struct Patterns {
    forms: Vec<Zeroizing<Vec<u8>>>,
    /// The bytes with which a form, or the escape of a byte, can begin.
    starts: [bool; 256],
}

impl Default for Patterns {
    fn default() -> Self {
        let mut patterns = Self { forms: Vec::new(), starts: [false; 256] };
        patterns.begin(*b"%\\&+");
        patterns
    }
}

impl std::fmt::Debug for Patterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Patterns({})", self.forms.len())
    }
}

impl Patterns {
    /// Adds a secret. One that is short is found where it is not meant; see `MIN_SECRET`.
    pub fn add(&mut self, secret: &[u8]) {
        let mut forms = vec![Zeroizing::new(secret.to_vec()), hexadecimal(secret)];
        for before in 0..3 {
            forms.push(within_base64(secret, before, false));
            forms.push(within_base64(secret, before, true));
        }
        for form in forms {
            let Some(&first) = form.first() else { continue };
            self.begin([first.to_ascii_lowercase(), first.to_ascii_uppercase()]);
            if !self.forms.contains(&form) {
                self.forms.push(form);
            }
        }
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// `text`, whole, without the secrets; `None` when there are none in it.
    #[must_use]
    pub fn scrub(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut scrubber = Scrubber::new(self);
        let mut clean = scrubber.push(text);
        clean.extend(scrubber.finish());
        (clean != text).then_some(clean)
    }

    /// What stands at the start of `text`.
    fn at(&self, text: &[u8]) -> Found {
        let mut found = Found { length: 0, more: false };
        for form in &self.forms {
            let one = stands(form, text);
            found.length = found.length.max(one.length);
            found.more |= one.more;
        }
        found
    }

    fn may_begin(&self, byte: u8) -> bool {
        self.starts.get(usize::from(byte)).is_none_or(|start| *start)
    }

    fn begin(&mut self, bytes: impl IntoIterator<Item = u8>) {
        for byte in bytes {
            if let Some(start) = self.starts.get_mut(usize::from(byte)) {
                *start = true;
            }
        }
    }
}

/// The longest match, or 0; and whether more text could make a longer one.
#[derive(Clone, Copy)]
struct Found {
    length: usize,
    more: bool,
}

fn hexadecimal(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
    Zeroizing::new(secret.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
}

/// What is sure to stand in the base64 of a text that has `secret` after `before` bytes (modulo 3): the characters all of
/// whose six bits are the secret's.
fn within_base64(secret: &[u8], before: usize, url: bool) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(vec![0; before]);
    text.extend_from_slice(secret);
    let encoded = if url { URL_SAFE_NO_PAD.encode(&*text) } else { STANDARD_NO_PAD.encode(&*text) };
    let encoded = Zeroizing::new(encoded.into_bytes());
    let (first, end) = ((8 * before).div_ceil(6), 8 * text.len() / 6);
    Zeroizing::new(encoded.get(first..end).unwrap_or_default().to_vec())
}

/// Matches `form` at the start of `text`, each byte of it as it is or escaped.
fn stands(form: &[u8], text: &[u8]) -> Found {
    // Most places end here, and cost no memory.
    if let Some(&first) = form.first()
        && let (Unit::No, Unit::No) = (literal(first, text), escaped(first, text))
    {
        return Found { length: 0, more: false };
    }
    // Where the matches of what was read so far end. More than one only where a byte of the form begins an escape itself.
    let mut ends = vec![0_usize];
    let mut more = false;
    for &wanted in form {
        let mut next = Vec::with_capacity(2);
        for end in ends {
            let rest = text.get(end..).unwrap_or_default();
            if rest.is_empty() {
                more = true;
            }
            let reached = [literal(wanted, rest), escaped(wanted, rest)];
            for unit in reached {
                match unit {
                    Unit::Is(length) if !next.contains(&(end + length)) => next.push(end + length),
                    Unit::More => more = true,
                    Unit::Is(_) | Unit::No => {}
                }
            }
        }
        ends = next;
        if ends.is_empty() {
            break;
        }
    }
    Found { length: ends.into_iter().max().unwrap_or(0), more }
}

/// One byte of a form in a text.
enum Unit {
    /// It stands there, in so many bytes.
    Is(usize),
    /// It may, when there is more text.
    More,
    No,
}

fn literal(wanted: u8, text: &[u8]) -> Unit {
    match text.first() {
        Some(byte) if byte.eq_ignore_ascii_case(&wanted) || *byte == b'+' && wanted == b' ' => Unit::Is(1),
        _ => Unit::No,
    }
}

/// `%41`, `\u0041`, `\x41`, `\/`, `&#65;`, `&#x41;`, `&amp;` and their like.
fn escaped(wanted: u8, text: &[u8]) -> Unit {
    match text {
        [b'%', rest @ ..] => digits(rest, 16, 2..3, None, wanted, 1),
        [b'\\', b'u' | b'U', rest @ ..] => digits(rest, 16, 4..5, None, wanted, 2),
        [b'\\', b'x' | b'X', rest @ ..] => digits(rest, 16, 2..3, None, wanted, 2),
        [b'\\', byte, ..] if !byte.is_ascii_alphanumeric() && *byte == wanted => Unit::Is(2),
        [b'&', b'#', b'x' | b'X', rest @ ..] => digits(rest, 16, 1..7, Some(b';'), wanted, 3),
        [b'&', b'#', rest @ ..] => digits(rest, 10, 1..7, Some(b';'), wanted, 2),
        [b'\\' | b'&'] => Unit::More,
        [b'&', rest @ ..] => entity(wanted, rest),
        _ => Unit::No,
    }
}

/// A number of some digits, with what ends it, that means `wanted`.
fn digits(text: &[u8], radix: u32, count: Range<usize>, end: Option<u8>, wanted: u8, before: usize) -> Unit {
    let most = count.end - 1;
    let mut value = 0_u32;
    let mut read = 0;
    while let Some(digit) = text.get(read).filter(|_| read < most).and_then(|byte| char::from(*byte).to_digit(radix)) {
        value = value.saturating_mul(radix).saturating_add(digit);
        read += 1;
    }
    if read == text.len() && (read < most || end.is_some()) {
        return Unit::More;
    }
    let closed = end.is_none() || text.get(read).copied() == end;
    let same = u8::try_from(value).is_ok_and(|value| value.eq_ignore_ascii_case(&wanted));
    if count.contains(&read) && closed && same {
        Unit::Is(before + read + usize::from(end.is_some()))
    } else {
        Unit::No
    }
}

fn entity(wanted: u8, text: &[u8]) -> Unit {
    let names: [(u8, &[u8]); 5] =
        [(b'&', b"amp;"), (b'<', b"lt;"), (b'>', b"gt;"), (b'"', b"quot;"), (b'\'', b"apos;")];
    let Some((_, name)) = names.iter().find(|(byte, _)| *byte == wanted) else { return Unit::No };
    if text.starts_with(name) {
        Unit::Is(1 + name.len())
    } else if name.starts_with(text) {
        Unit::More
    } else {
        Unit::No
    }
}

/// Takes the secrets out of a stream.
///
/// INVARIANT: what was given out is what came in, byte by byte, but `*` where a form of a secret stood; what is held back may
/// be the beginning of one.
#[derive(Debug)]
pub struct Scrubber<P> {
    patterns: P,
    held: Zeroizing<Vec<u8>>,
    /// How many of the first bytes held belong to a form that was found.
    masked: usize,
}

impl<P: std::ops::Deref<Target = Patterns>> Scrubber<P> {
    /// A scrubber at the start of a stream.
    #[must_use]
    pub fn new(patterns: P) -> Self {
        Self { patterns, held: Zeroizing::default(), masked: 0 }
    }

    /// Takes the next bytes in, and gives out those that are sure.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        self.advance(false)
    }

    /// The end: gives out the rest.
    pub fn finish(&mut self) -> Vec<u8> {
        self.advance(true)
    }

    /// Whether bytes are held back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    fn advance(&mut self, last: bool) -> Vec<u8> {
        let mut at = 0;
        let mut clean = Vec::with_capacity(self.held.len());
        while let Some(&byte) = self.held.get(at) {
            if self.patterns.may_begin(byte) {
                let found = self.patterns.at(self.held.get(at..).unwrap_or_default());
                if found.more && !last {
                    break;
                }
                self.masked = self.masked.max(at + found.length);
            }
            clean.push(if at < self.masked { MASK } else { byte });
            at += 1;
        }
        self.masked = self.masked.saturating_sub(at);
        let rest = Zeroizing::new(self.held.get(at..).unwrap_or_default().to_vec());
        self.held = rest;
        clean
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "ghp_A1b2C3/d4+e5%F6&g7\"h8";

    fn patterns(secrets: &[&str]) -> Patterns {
        let mut patterns = Patterns::default();
        for secret in secrets {
            patterns.add(secret.as_bytes());
        }
        patterns
    }

    /// Every form of it that is known, in words that a server might use.
    fn forms(secret: &str) -> Vec<String> {
        let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let some: String = secret
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("%{:02x}", u32::from(c)) })
            .collect();
        let html = secret.replace('&', "&amp;").replace('"', "&quot;");
        let numbers: String = secret.bytes().map(|byte| format!("&#{byte};")).collect();
        let hexadecimal: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let unicode: String = secret.bytes().map(|byte| format!("\\u00{byte:02x}")).collect();
        let json = serde_json::to_string(secret).expect("JSON").replace('/', "\\/");
        let json = json.trim_matches('"').to_owned();
        let mut all = vec![
            secret.to_owned(),
            secret.to_uppercase(),
            percent,
            some,
            html,
            numbers,
            hexadecimal.to_uppercase(),
            hexadecimal,
            unicode,
            json,
        ];
        for before in ["", "u", "u:", "user:"] {
            let text = format!("{before}{secret}");
            all.push(base64::engine::general_purpose::STANDARD.encode(&text));
            all.push(base64::engine::general_purpose::URL_SAFE.encode(&text));
            all.push(base64::engine::general_purpose::STANDARD.encode(&text).replace('+', "%2B").replace('/', "%2F"));
        }
        all
    }

    /// Characters of `form` that are given out at its place.
    fn shown(form: &str, clean: &[u8], at: usize) -> usize {
        let place = &clean[at..at + form.len()];
        place.iter().zip(form.bytes()).filter(|(out, byte)| **out != MASK && *out == byte).count()
    }

    #[test]
    fn every_form_is_taken_out_and_nothing_else() {
        let patterns = patterns(&[SECRET]);
        for form in forms(SECRET) {
            let text = format!("before {form} after, 100% & more\\");
            let clean = patterns.scrub(text.as_bytes()).unwrap_or_else(|| panic!("{form} was not found"));
            assert_eq!(clean.len(), text.len());
            assert!(clean.starts_with(b"before ") && clean.ends_with(b" after, 100% & more\\"), "{form}");
            // At the ends of base64 a few characters are partly the secret's, partly its neighbours'.
            assert!(shown(&form, &clean, 7) <= 10, "{form}: {}", String::from_utf8_lossy(&clean));
        }
        assert_eq!(patterns.scrub(b"ghp_A1b2C3/d4+e5%F6&g7\"h"), None, "a beginning is not the whole");
        assert_eq!(patterns.scrub(b""), None);
    }

    #[test]
    fn secrets_that_overlap_are_both_taken_out() {
        let patterns = patterns(&["aaaabbbbccccdddd", "aaaabbbbccccddddeeee", "ccccddddeeeeffffgggg"]);
        let clean = patterns.scrub(b"-aaaabbbbccccddddeeeeffffgggg-").expect("found");
        assert_eq!(clean, format!("-{}-", "*".repeat(28)).as_bytes());
    }

    #[test]
    fn nothing_is_held_that_cannot_become_a_secret() {
        let patterns = patterns(&[SECRET]);
        let mut scrubber = Scrubber::new(&patterns);
        assert_eq!(scrubber.push(b"data: hello\n\n"), b"data: hello\n\n");
        assert_eq!(scrubber.push(b"x ghp_A1"), b"x ");
        assert!(scrubber.holds());
        assert_eq!(scrubber.push(b"- no"), b"ghp_A1- no");
        assert_eq!(scrubber.finish(), b"");
    }

    proptest! {
        #[test]
        fn no_split_lets_it_through(
            which in 0_usize..22, before in "[ -~]{0,12}", after in "[ -~]{0,12}", mut cuts in prop::collection::vec(0_usize..260, 0..6),
        ) {
            let patterns = patterns(&[SECRET]);
            let all = forms(SECRET);
            let text = format!("{before} {} {after}", all[which % all.len()]);
            cuts.sort_unstable();
            let (mut scrubber, mut clean, mut from) = (Scrubber::new(&patterns), Vec::new(), 0);
            for cut in cuts.into_iter().map(|cut| cut.min(text.len())).chain([text.len()]) {
                clean.extend(scrubber.push(&text.as_bytes()[from..cut]));
                from = cut;
            }
            clean.extend(scrubber.finish());
            prop_assert_eq!(clean.len(), text.len());
            prop_assert!(patterns.scrub(&clean).is_none());
            prop_assert_eq!(patterns.scrub(text.as_bytes()).unwrap_or_default(), clean, "a split changes nothing");
        }

        #[test]
        fn other_text_passes_unchanged(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(patterns(&[SECRET]).scrub(&text), None);
        }
    }

    #[test]
    fn every_split_in_two_of_every_form() {
        let patterns = patterns(&[SECRET]);
        for form in forms(SECRET) {
            let whole = patterns.scrub(form.as_bytes()).expect("found");
            for cut in 0..=form.len() {
                let mut scrubber = Scrubber::new(&patterns);
                let mut clean = scrubber.push(&form.as_bytes()[..cut]);
                clean.extend(scrubber.push(&form.as_bytes()[cut..]));
                clean.extend(scrubber.finish());
                assert_eq!(clean, whole, "{form} cut at {cut}");
            }
        }
    }
}
