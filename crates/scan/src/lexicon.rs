//! [`Lexicon`]: all phrases of all lists, and where they stand in a folded text.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::LoadPack;
use crate::fold::fold;
use crate::trie::Trie;

/// A list of phrases, by number.
pub(crate) type List = u16;

/// The phrases, before they become a [`Lexicon`].
#[derive(Debug, Default)]
pub(crate) struct Phrases {
    known: BTreeMap<Form, Vec<List>>,
}

/// How a phrase is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    /// Folded.
    text: String,
    open_left: bool,
    open_right: bool,
    /// Without its spaces, for texts that have lost theirs.
    glued: bool,
}

impl Form {
    /// Where the word ends in which the phrase ends at `end`; zero when it should have ended there. None: more text decides.
    fn end(&self, text: &[u8], end: usize, last: bool) -> Option<usize> {
        if !end.checked_sub(1).is_some_and(|last| is_word(text, last)) {
            return Some(end);
        }
        let rest = text.get(end..).unwrap_or_default();
        let tail = rest.iter().take(LONGEST_WORD).take_while(|byte| byte.is_ascii_alphanumeric()).count();
        if !last && tail == rest.len() {
            return None;
        }
        Some(if tail > 0 && !self.open_right { 0 } else { end + tail })
    }
}

/// Shorter phrases without their spaces might be parts of words, in bytes.
const SHORTEST_GLUED: usize = 6;

impl Phrases {
    /// Adds a phrase to `list`. `*` at an end leaves the word open there.
    pub(crate) fn add(&mut self, phrase: &str, list: List) -> Result<(), String> {
        let body = phrase.trim_start_matches('*');
        let open_left = body.len() < phrase.len();
        let core = body.trim_end_matches('*');
        let open_right = core.len() < body.len();
        let text = fold(core);
        if text.trim() != text || text.is_empty() {
            return Err(format!("`{phrase}` is empty, or begins or ends with a space"));
        }
        let shortest = if text.is_ascii() { 2 } else { 3 };
        if text.len() < shortest {
            return Err(format!("`{phrase}` is too short to mean anything"));
        }
        if text.len() > LONGEST {
            return Err(format!("`{phrase}` is longer than {LONGEST} bytes: make it a sequence"));
        }
        if text.contains(' ') {
            let glued: String = text.split(' ').collect();
            if glued.is_ascii() && glued.len() >= SHORTEST_GLUED {
                self.insert(Form { text: glued, glued: true, ..Form::default() }, list);
            }
        }
        self.insert(Form { text, open_left, open_right, glued: false }, list);
        Ok(())
    }

    fn insert(&mut self, form: Form, list: List) {
        let lists = self.known.entry(form).or_default();
        if !lists.contains(&list) {
            lists.push(list);
        }
    }
}

/// No phrase is longer, in bytes of the folded form.
pub(crate) const LONGEST: usize = 64;

/// No word goes on longer after a phrase, in bytes of the folded form.
const LONGEST_WORD: usize = 64;

/// What stands further away in the original is no neighbour, in bytes.
pub(crate) const NEAR: usize = 128;

/// How far a phrase may reach in the original, where invisible characters may be strewn over it, in bytes.
pub(crate) const PHRASE_REACH: usize = 1024;

/// A phrase in a text, in bytes of the folded view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    phrase: usize,
}

#[derive(Debug)]
struct Phrase {
    lists: Vec<List>,
    form: Form,
}

/// All phrases, ready to be looked for.
#[derive(Debug)]
pub(crate) struct Lexicon {
    /// Phrases that start with a word, or with a character of a script without spaces.
    trie: Trie,
    /// Phrases that may start within a word, and their numbers.
    within: AhoCorasick,
    within_numbers: Vec<usize>,
    phrases: Vec<Phrase>,
    partials: Partials,
}

impl Lexicon {
    pub(crate) fn new(phrases: Phrases) -> Result<Self, LoadPack> {
        let numbered = || phrases.known.keys().zip(0_u32..);
        let mut starting: Vec<(&[u8], u32)> = numbered()
            .filter(|(form, _)| !form.open_left)
            .map(|(form, number)| (form.text.as_bytes(), number))
            .collect();
        // Forms of one text follow each other: the tree has the first of them.
        starting.dedup_by_key(|(text, _)| *text);
        let trie = Trie::new(&starting);
        let (texts, within_numbers): (Vec<&str>, Vec<usize>) = numbered()
            .filter(|(form, _)| form.open_left)
            .map(|(form, number)| (form.text.as_str(), number as usize))
            .unzip();
        let within = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(&texts)
            .map_err(|error| LoadPack::Automaton(error.to_string()))?;
        let partials = Partials::new(phrases.known.keys().filter(|form| !form.glued).map(|form| &form.text));
        let phrases = phrases.known.into_iter().map(|(form, lists)| Phrase { lists, form }).collect();
        Ok(Self { trie, within, within_numbers, phrases, partials })
    }

    /// All phrases in `text`, by start. Phrases that more text may still make or unmake are left out; the second value is
    /// where the first of those may start. In `glued` text words have lost their boundaries. `origin` leads from a place
    /// in the text to its place in the original: no phrase reaches further than [`PHRASE_REACH`] there.
    pub(crate) fn hits(
        &self,
        text: &[u8],
        last: bool,
        glued: bool,
        origin: impl Fn(usize) -> usize,
    ) -> (Vec<Hit>, usize) {
        let mut hits = Vec::new();
        let limit = origin(text.len()).saturating_sub(PHRASE_REACH);
        let mut pending = if last { text.len() } else { self.partials.start(text, |at| origin(at) >= limit) };
        let mut take = |index: usize, start: usize, end: usize| {
            let Some(phrase) = self.phrases.get(index).filter(|phrase| glued || !phrase.form.glued) else { return };
            let Some(end) = (if glued { Some(end) } else { phrase.form.end(text, end, last) }) else {
                if origin(start) >= limit {
                    pending = pending.min(start);
                }
                return;
            };
            if end > 0 && origin(end) <= origin(start) + PHRASE_REACH {
                hits.push(Hit { start, end, phrase: index });
            }
        };
        let mut before = 0_u8;
        for (at, byte) in text.iter().enumerate() {
            let within = byte.is_ascii_alphanumeric() && before.is_ascii_alphanumeric();
            before = *byte;
            let may = glued || !within || starts_word(text, at) || (at > 0 && origin(at - 1) + NEAR < origin(at));
            if !may || !self.trie.starts_with(*byte) {
                continue;
            }
            self.trie.walk(text.get(at..).unwrap_or_default(), |length, first| {
                let forms = self.phrases.iter().enumerate().skip(first);
                let same = forms.take_while(|(index, phrase)| {
                    *index == first || (phrase.form.text.len() == length && self.is_same(first, phrase))
                });
                same.filter(|(_, phrase)| !phrase.form.open_left).for_each(|(index, _)| take(index, at, at + length));
            });
        }
        for found in self.within.find_overlapping_iter(text) {
            if let Some(index) = self.within_numbers.get(found.pattern().as_usize()) {
                take(*index, found.start(), found.end());
            }
        }
        // What starts later may yet be preceded by others, and waits with them.
        hits.retain(|hit| hit.start < pending);
        hits.sort_unstable();
        (hits, pending)
    }

    /// Whether `phrase` is another form of the text of the phrase number `first`.
    fn is_same(&self, first: usize, phrase: &Phrase) -> bool {
        self.phrases.get(first).is_some_and(|other| other.form.text == phrase.form.text)
    }

    /// The lists that a hit belongs to.
    pub(crate) fn lists(&self, hit: &Hit) -> &[List] {
        self.phrases.get(hit.phrase).map_or(&[], |phrase| &phrase.lists)
    }
}

fn is_word(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether a word starts at `at` after another letter: only the letter of an escaped line end stands before it.
fn starts_word(text: &[u8], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return true };
    let escaped = before.checked_sub(1).and_then(|at| text.get(at)) == Some(&b'\\');
    escaped && matches!(text.get(before), Some(b'n' | b'r' | b't'))
}

/// Literals in order, to ask whether a text ends within one.
#[derive(Debug)]
pub(crate) struct Partials {
    sorted: Vec<Vec<u8>>,
    longest: usize,
}

impl Partials {
    pub(crate) fn new<T: AsRef<[u8]>>(literals: impl IntoIterator<Item = T>) -> Self {
        let mut sorted: Vec<Vec<u8>> = literals.into_iter().map(|text| text.as_ref().to_ascii_lowercase()).collect();
        sorted.sort_unstable();
        let longest = sorted.iter().map(Vec::len).max().unwrap_or(0);
        Self { sorted, longest }
    }

    /// Where the longest end of `text` starts that is the start of a literal, the whole literal included, and that is
    /// `near` enough to the end.
    pub(crate) fn start(&self, text: &[u8], near: impl Fn(usize) -> bool) -> usize {
        let window = text.get(text.len().saturating_sub(self.longest)..).unwrap_or_default().to_ascii_lowercase();
        let base = text.len() - window.len();
        (0..window.len())
            .find(|from| {
                if !near(base + from) {
                    return false;
                }
                let end = window.get(*from..).unwrap_or_default();
                let at = self.sorted.partition_point(|literal| literal.as_slice() < end);
                self.sorted.get(at).is_some_and(|literal| literal.starts_with(end))
            })
            .map_or(text.len(), |from| base + from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexicon(phrases: &[&str]) -> Lexicon {
        let mut all = Phrases::default();
        for phrase in phrases {
            all.add(phrase, 0).expect("a phrase");
        }
        Lexicon::new(all).expect("an automaton")
    }

    fn found(lexicon: &Lexicon, text: &str, last: bool) -> Vec<String> {
        let (hits, _) = lexicon.hits(text.as_bytes(), last, false, |at| at);
        hits.iter().map(|hit| text.get(hit.start..hit.end).expect("inside").to_owned()).collect()
    }

    #[test]
    fn words_are_whole_unless_open() {
        let lexicon = lexicon(&["ignore", "instruct*", "*anweisung*", "忽略"]);
        assert_eq!(
            found(&lexicon, "ignored ignore instructions, systemanweisungen 请忽略它", true),
            ["ignore", "instructions", "anweisungen", "忽略"]
        );
        assert_eq!(found(&lexicon, "x\\nignore", true), ["ignore"]);
        assert!(found(&lexicon, "xnignore", true).is_empty());
    }

    #[test]
    fn what_more_text_may_change_is_pending() {
        let lexicon = lexicon(&["ignore", "all of the above"]);
        for (text, pending) in [("please ign", 7), ("please ignore", 7), ("please ignore ", 14), ("x all of", 2)] {
            let (hits, from) = lexicon.hits(text.as_bytes(), false, false, |at| at);
            assert_eq!(from, pending, "{text}");
            assert_eq!(hits.len(), usize::from(text.ends_with(' ')), "{text}");
        }
    }

    #[test]
    fn a_partial_literal_starts_where_its_first_byte_is() {
        let partials = Partials::new(["ghp_", "-----BEGIN"]);
        assert_eq!(partials.start(b"x ghp", |_| true), 2);
        assert_eq!(partials.start(b"x GHP_", |_| true), 2);
        assert_eq!(partials.start(b"x ghp_a", |_| true), 7);
        assert_eq!(partials.start(b"x ---", |_| true), 2);
    }
}
