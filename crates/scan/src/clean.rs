//! [`Clean`]: a text without what hides it, and the way back to the original.
//!
//! Invisible characters are left out, tag characters are read, compatibility forms are decomposed, references and escapes
//! are replaced. Each character or escape of the original is one *unit* and is treated on its own, so the view of a part is
//! the part of the view: what the stream scanner rests on. Case stays: credentials have case.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr3;
use unicode_normalization::char::decompose_compatible;

use crate::Step;
use crate::chars::{Hidden, hidden, untag};
use crate::escape::{Escape, escape};

/// A text in which credentials and markup are looked for.
#[derive(Debug)]
pub(crate) struct Clean<'t> {
    text: Cow<'t, str>,
    /// Absent: the view is the original.
    units: Option<Units>,
    edits: Vec<(usize, Step)>,
    /// How much of the original is in the view, in bytes. Less than all only when more text may follow.
    settled: usize,
}

/// For each byte of the view, the unit of the original that it came from.
#[derive(Debug, Default)]
struct Units {
    from: Vec<u32>,
    to: Vec<u32>,
}

impl<'t> Clean<'t> {
    /// The view of `text`. Unless it is the `last` of a text, an escape that it may end within is left for later.
    pub(crate) fn new(text: &'t str, last: bool) -> Self {
        if text.is_ascii() && !has_escape(text.as_bytes()) {
            return Self { text: Cow::Borrowed(text), units: None, edits: Vec::new(), settled: text.len() };
        }
        let mut builder = Builder { out: String::with_capacity(text.len()), ..Builder::default() };
        let settled = builder.run(text, last);
        Self { text: Cow::Owned(builder.out), units: Some(builder.units), edits: builder.edits, settled }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) const fn settled(&self) -> usize {
        self.settled
    }

    /// The range of the original that `range` of the view came from.
    pub(crate) fn original(&self, range: Range<usize>) -> Range<usize> {
        let Some(units) = &self.units else { return range };
        if range.is_empty() {
            let at = self.origin(range.start);
            return at..at;
        }
        let to = range.end.checked_sub(1).and_then(|at| units.to.get(at)).map_or(self.settled, |to| *to as usize);
        self.origin(range.start)..to
    }

    /// Where in the original the byte `at` of the view came from; the end of the view is the end of what was taken.
    pub(crate) fn origin(&self, at: usize) -> usize {
        match &self.units {
            None => at.min(self.settled),
            Some(units) => units.from.get(at).map_or(self.settled, |from| *from as usize),
        }
    }

    /// The first byte of the view that came from `original` or what follows it.
    pub(crate) fn at(&self, original: usize) -> usize {
        match &self.units {
            None => original.min(self.settled),
            Some(units) => units.from.partition_point(|from| (*from as usize) < original),
        }
    }

    /// The decodings that were applied within `range` of the view.
    pub(crate) fn steps(&self, range: &Range<usize>) -> impl Iterator<Item = Step> {
        steps_in(&self.edits, range)
    }
}

/// The steps of `edits`, which are ordered by place, that fall into `range`.
pub(crate) fn steps_in(edits: &[(usize, Step)], range: &Range<usize>) -> impl Iterator<Item = Step> {
    let first = edits.partition_point(|(at, _)| *at < range.start);
    let end = range.end;
    edits.iter().skip(first).take_while(move |(at, _)| *at < end).map(|(_, step)| *step)
}

/// Whether an escape may start somewhere.
fn has_escape(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = memchr3(b'&', b'%', b'\\', rest) {
        let next = rest.get(at + 1);
        let starts = match rest.get(at) {
            Some(b'&') => next.is_none_or(|b| *b == b'#' || b.is_ascii_alphabetic()),
            Some(b'%') => next.is_none_or(u8::is_ascii_hexdigit),
            _ => next.is_none_or(|b| matches!(b, b'x' | b'u' | b'U')),
        };
        if starts {
            return true;
        }
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    false
}

#[derive(Default)]
struct Builder {
    out: String,
    units: Units,
    edits: Vec<(usize, Step)>,
    in_tags: bool,
}

impl Builder {
    /// Takes in as much of `text` as is settled, and returns how much that is.
    fn run(&mut self, text: &str, last: bool) -> usize {
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(c) = rest.chars().next() else { break };
            let mut length = c.len_utf8();
            if matches!(c, '&' | '%' | '\\') {
                match escape(rest.as_bytes(), last) {
                    Escape::Unfinished => return at,
                    Escape::Decoded { c: decoded, length: escaped, step } => {
                        length = escaped;
                        self.edits.push((self.out.len(), step));
                        self.take(decoded, at, at + length);
                    }
                    Escape::None => self.push(c, at, at + length),
                }
            } else {
                self.take(c, at, at + length);
            }
            at += length;
        }
        at
    }

    /// One character, of the original or decoded.
    fn take(&mut self, c: char, from: usize, to: usize) {
        if c.is_ascii() {
            self.leave_tags(from);
            return self.push(c, from, to);
        }
        match hidden(c) {
            Some(Hidden::Tag) => self.tag(c, from, to),
            Some(_) => self.edits.push((self.out.len(), Step::Invisible)),
            None if has_no_decomposition(c) => {
                self.leave_tags(from);
                self.push(c, from, to);
            }
            None => {
                self.leave_tags(from);
                let start = self.out.len();
                let mut same = true;
                decompose_compatible(c, |part| {
                    same &= part == c || is_mark(part) || is_letter_of(c, part);
                    self.push(part, from, to);
                });
                if !same {
                    self.edits.push((start, Step::Compatibility));
                }
            }
        }
    }

    /// A tag character: read as what it stands for, with a space between it and what is not a tag.
    fn tag(&mut self, c: char, from: usize, to: usize) {
        let Some(plain) = untag(c) else { return };
        if !self.in_tags {
            self.push(' ', from, from);
            self.in_tags = true;
        }
        self.edits.push((self.out.len(), Step::Tags));
        self.push(plain, from, to);
    }

    fn leave_tags(&mut self, at: usize) {
        if self.in_tags {
            self.in_tags = false;
            self.push(' ', at, at);
        }
    }

    fn push(&mut self, c: char, from: usize, to: usize) {
        self.out.push(c);
        for _ in 0..c.len_utf8() {
            self.units.from.push(u32::try_from(from).unwrap_or(u32::MAX));
            self.units.to.push(u32::try_from(to).unwrap_or(u32::MAX));
        }
    }
}

/// Large blocks without compatibility decompositions, which need no look-up.
const fn has_no_decomposition(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{3043}' | '\u{4e00}'..='\u{9fff}' | '\u{0430}'..='\u{0438}' | '\u{043a}'..='\u{044f}'
        | '\u{0410}'..='\u{0418}' | '\u{041a}'..='\u{042f}')
}

fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

/// Whether `part` is what a canonical decomposition of `c` starts with: an accent is no disguise.
fn is_letter_of(c: char, part: char) -> bool {
    let mut canonical = false;
    unicode_normalization::char::decompose_canonical(c, |piece| canonical |= piece == part);
    canonical
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(text: &str) -> String {
        Clean::new(text, true).text().to_owned()
    }

    #[test]
    fn ascii_is_itself() {
        let clean = Clean::new("a & b 100% c:\\d", true);
        assert_eq!(clean.text(), "a & b 100% c:\\d");
        assert!(clean.units.is_none());
        assert_eq!(clean.original(2..5), 2..5);
    }

    #[test]
    fn what_hides_is_left_out_and_positions_lead_back() {
        let text = "i\u{200b}gn\u{ad}ore ｆｕｌｌ";
        let clean = Clean::new(text, true);
        assert_eq!(clean.text(), "ignore full");
        assert_eq!(text.get(clean.original(0..6)), Some("i\u{200b}gn\u{ad}ore"));
        assert_eq!(text.get(clean.original(7..11)), Some("ｆｕｌｌ"));
        assert_eq!(clean.steps(&(0..6)).collect::<Vec<_>>(), [Step::Invisible, Step::Invisible]);
        assert!(clean.steps(&(7..11)).all(|step| step == Step::Compatibility));
    }

    #[test]
    fn tags_references_and_escapes_are_read() {
        assert_eq!(view("x\u{e0068}\u{e0069}y"), "x hi y");
        assert_eq!(view("&#105;&#x67;&lt;&amp;lt;"), "ig<&lt;");
        assert_eq!(view("%69%67%20%E4%BD%A0"), "ig 你");
        assert_eq!(view("\\x69\\u0067\\n"), "ig\\n");
    }

    #[test]
    fn an_accent_is_no_disguise() {
        let clean = Clean::new("é ﬁ", true);
        assert_eq!(clean.steps(&(0..99)).collect::<Vec<_>>(), [Step::Compatibility]);
    }

    #[test]
    fn an_unfinished_escape_waits() {
        for (text, settled) in [("ab&#10", 2), ("ab%4", 2), ("ab\\u00", 2), ("é&am", 2), ("ab%E4%BD", 2)] {
            assert_eq!(Clean::new(text, false).settled(), settled, "{text}");
            assert_eq!(Clean::new(text, true).settled(), text.len(), "{text}");
        }
    }
}
