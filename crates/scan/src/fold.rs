//! [`Folded`]: the view in which phrases are looked for. Case, accents, look-alikes, leet and white space are folded.

use std::ops::Range;

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

use crate::Step;
use crate::chars::{plain, simplified, skeleton};
use crate::clean::{Clean, steps_in};

/// A folded text, and for each byte where in the clean view it came from.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    bytes: Vec<u8>,
    at: Vec<u32>,
    edits: Vec<(usize, Step)>,
    /// How much of the clean view is in this one, in bytes.
    taken: usize,
}

impl Folded {
    /// Folds `clean`. Unless it is the `last` of a text, a sign whose reading depends on the next character is left out.
    pub(crate) fn new(clean: &Clean<'_>, last: bool) -> Self {
        let text = clean.text();
        let mut folded = Self {
            bytes: Vec::with_capacity(text.len()),
            at: Vec::with_capacity(text.len()),
            edits: Vec::new(),
            taken: 0,
        };
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let plain = bytes.get(at..).unwrap_or_default().iter().take_while(|byte| is_plain(**byte)).count();
            if plain > 0 {
                folded.run(bytes.get(at..at + plain).unwrap_or_default(), at);
                at += plain;
            } else if byte < 0x80 {
                match kind(byte) {
                    Kind::Same(byte) => folded.push(byte, at),
                    Kind::Space => folded.space(at),
                    Kind::Leet(letter) => match leet(bytes, at) {
                        Some(true) => {
                            folded.edits.push((folded.bytes.len(), Step::Leet));
                            folded.push(letter, at);
                        }
                        Some(false) => folded.push(byte, at),
                        None if last => folded.push(byte, at),
                        None => break,
                    },
                }
                at += 1;
            } else {
                let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) else { break };
                folded.wide(c, at);
                at += c.len_utf8();
            }
        }
        folded.taken = at;
        folded
    }

    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The range of the clean view that `range` came from.
    pub(crate) fn clean(&self, range: &Range<usize>, clean: &Clean<'_>) -> Range<usize> {
        let from = self.origin(range.start, clean);
        let to = range.end.checked_sub(1).map_or(from, |end| {
            let at = self.origin(end, clean);
            let length = clean.text().get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
            at + length
        });
        from..to.max(from)
    }

    /// Where in the clean view the byte `at` came from.
    pub(crate) fn origin(&self, at: usize, clean: &Clean<'_>) -> usize {
        self.at.get(at).map_or(clean.text().len(), |at| *at as usize)
    }

    pub(crate) fn steps(&self, range: &Range<usize>) -> impl Iterator<Item = Step> {
        steps_in(&self.edits, range)
    }

    fn push(&mut self, byte: u8, at: usize) {
        self.bytes.push(byte);
        self.at.push(u32::try_from(at).unwrap_or(u32::MAX));
    }

    /// A run of ASCII that folds byte by byte.
    fn run(&mut self, run: &[u8], at: usize) {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        self.bytes.extend(run.iter().map(u8::to_ascii_lowercase));
        self.at.extend((at..).take(run.len()));
    }

    /// White space of any length is one space.
    fn space(&mut self, at: usize) {
        if self.bytes.last() != Some(&b' ') {
            self.push(b' ', at);
        }
    }

    fn text(&mut self, text: &str, at: usize) {
        for byte in text.bytes() {
            if byte == b' ' { self.space(at) } else { self.push(byte, at) }
        }
    }

    /// A character beyond ASCII.
    fn wide(&mut self, c: char, at: usize) {
        if matches!(c, '\u{4e00}'..='\u{9fff}') {
            return self.char(simplified(c).unwrap_or(c), at);
        }
        if is_combining_mark(c) {
            return;
        }
        for lower in c.to_lowercase().filter(|c| !is_combining_mark(*c)) {
            if let Some(latin) = skeleton(lower) {
                self.edits.push((self.bytes.len(), Step::Confusable));
                self.text(latin, at);
            } else if let Some(text) = plain(lower) {
                self.text(text, at);
            } else if lower.is_whitespace() {
                self.space(at);
            } else {
                self.char(lower, at);
            }
        }
    }

    fn char(&mut self, c: char, at: usize) {
        let mut buffer = [0; 4];
        for byte in c.encode_utf8(&mut buffer).bytes() {
            self.push(byte, at);
        }
    }
}

/// Folds a phrase of a pack as texts are folded.
pub(crate) fn fold(phrase: &str) -> String {
    let mut out = String::with_capacity(phrase.len());
    for c in phrase.chars() {
        decompose_compatible(c, |c| {
            for lower in c.to_lowercase().filter(|c| !is_combining_mark(*c)) {
                match skeleton(lower).or_else(|| plain(lower)) {
                    Some(text) => out.push_str(text),
                    None => out.push(simplified(lower).unwrap_or(lower)),
                }
            }
        });
    }
    out
}

/// ASCII that folds byte by byte: neither white space nor a sign that may stand for a letter.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'!'..=b'#' | b'%'..=b'/' | b':'..=b'?' | b'['..=b'`' | b'{'..=b'~')
}

enum Kind {
    Same(u8),
    Space,
    Leet(u8),
}

const fn kind(byte: u8) -> Kind {
    match byte {
        b' ' | b'\t'..=b'\r' => Kind::Space,
        b'0' => Kind::Leet(b'o'),
        b'1' => Kind::Leet(b'i'),
        b'3' => Kind::Leet(b'e'),
        b'4' | b'@' => Kind::Leet(b'a'),
        b'5' | b'$' => Kind::Leet(b's'),
        b'7' => Kind::Leet(b't'),
        b'8' => Kind::Leet(b'b'),
        _ => Kind::Same(byte.to_ascii_lowercase()),
    }
}

/// Whether the sign at `at` stands for a letter: a digit with a letter at most [`LEET_REACH`] digits away, another sign
/// between two letters. None: what follows decides, and is not there yet.
fn leet(bytes: &[u8], at: usize) -> Option<bool> {
    let letter = |byte: &u8| byte.is_ascii_alphabetic();
    let before = bytes.get(..at).unwrap_or_default();
    if !bytes.get(at).is_some_and(u8::is_ascii_digit) {
        return if before.last().is_some_and(letter) { bytes.get(at + 1).map(letter) } else { Some(false) };
    }
    if before.iter().rev().take(LEET_REACH).find(|byte| !byte.is_ascii_digit()).is_some_and(letter) {
        return Some(true);
    }
    let mut after = bytes.get(at + 1..).unwrap_or_default().iter().take(LEET_REACH);
    match after.find(|byte| !byte.is_ascii_digit()) {
        Some(byte) => Some(letter(byte)),
        None if bytes.len() > at + LEET_REACH => Some(false),
        None => None,
    }
}

/// How many digits may stand between a digit and the letter that makes it one.
const LEET_REACH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        let clean = Clean::new(text, true);
        String::from_utf8(Folded::new(&clean, true).bytes().to_vec()).expect("text")
    }

    #[test]
    fn writings_of_one_text_fold_to_it() {
        for text in [
            "Ignore ALL\n\t previous",
            "ｉｇｎｏｒｅ　ａｌｌ previous",
            "іgnоrе аll рrеviоus",
            "1gn0r3 4ll pr3v10us",
            "ígnóre àll prëvious",
            "i\u{338}gnore all previous",
            "𝐢𝐠𝐧𝐨𝐫𝐞 𝖆𝖑𝖑 𝓅revious",
        ] {
            assert_eq!(folded(text), "ignore all previous", "{text}");
        }
        assert_eq!(folded("Straße, größer"), "strasse, grosser");
        assert_eq!(folded("無視規則"), "无视规则");
        assert_eq!(folded("in 2019 and a@b.c 100 $5"), "in 2019 and aab.c 100 $5");
    }

    #[test]
    fn phrases_fold_like_texts() {
        for text in ["Größe", "instrucción", "無視", "ｉ Ё", "don’t"] {
            assert_eq!(fold(&Clean::new(text, true).text().to_lowercase()), folded(text), "{text}");
        }
    }

    #[test]
    fn positions_lead_back() {
        let clean = Clean::new("a  ÜBER  b", true);
        let view = Folded::new(&clean, true);
        let over = view.bytes().windows(4).position(|w| w == b"uber").expect("there");
        assert_eq!(clean.original(view.clean(&(over..over + 4), &clean)), 3..8);
    }
}
