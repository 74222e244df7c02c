//! Patterns: bounded expressions near literals, for what has a form: credentials, markup, templates of chats.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::LoadPack;
use crate::REACH;
use crate::automaton::{Bounded, Run};
use crate::check::{Checked, check};
use crate::clean::Clean;
use crate::lexicon::{NEAR, PHRASE_REACH, Partials};
use crate::pack::{Check, PatternForm, TailForm};

/// One rule's pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// The rule, by number.
    pub(crate) rule: usize,
    digits_before: usize,
    context: Option<Bounded>,
    value: Bounded,
    pub(crate) tail: Option<TailForm>,
    bounded: bool,
    check: Option<Check>,
}

/// What a pattern came to at one place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    No,
    /// More text decides; what is found would start here.
    Pending(usize),
    /// The value, without its tail.
    Found(Range<usize>, Checked),
}

impl Pattern {
    /// The patterns of a rule, each with its literals.
    pub(crate) fn parse(rule: usize, form: &PatternForm) -> Result<Vec<(Self, Vec<String>)>, String> {
        if let (Some(value), true) = (&form.value, form.values.is_empty()) {
            return Ok(vec![(Self::new(rule, form, value)?, literals(&form.literals)?)]);
        }
        if form.value.is_some() || form.values.is_empty() || !form.literals.is_empty() || form.context.is_some() {
            return Err("a pattern has `literals` and a `value`, or `values` and neither".to_owned());
        }
        let own = |value: &String| Ok((Self::new(rule, form, value)?, literals(&[leading(value)])?));
        form.values.iter().map(own).collect()
    }

    fn new(rule: usize, form: &PatternForm, value: &str) -> Result<Self, String> {
        if form.digits_before > MOST_DIGITS {
            return Err(format!("`digits_before` is at most {MOST_DIGITS}"));
        }
        Ok(Self {
            rule,
            digits_before: form.digits_before,
            context: form.context.as_deref().map(Bounded::new).transpose()?,
            value: Bounded::new(value)?,
            tail: form.tail,
            bounded: form.bounded,
            check: form.check,
        })
    }

    /// Builds its automata now.
    fn build(&self) -> Result<(), String> {
        self.context.as_ref().map_or(Ok(()), Bounded::build)?;
        self.value.build()
    }

    /// Tries it at the literal that starts at `at`. It sees [`crate::REACH`] bytes of the original and no more.
    fn run(&self, clean: &Clean<'_>, at: usize, last: bool) -> Outcome {
        let text = clean.text().as_bytes();
        let start = at - digits(clean, at, self.digits_before);
        let near = start.checked_sub(1).is_some_and(|before| clean.origin(before) + NEAR >= clean.origin(start));
        if self.bounded && near && !begins(text.get(..start).unwrap_or_default()) {
            return Outcome::No;
        }
        let reach = clean.origin(start) + REACH;
        let last = last || clean.settled() >= reach;
        let text = text.get(..clean.at(reach)).unwrap_or(text);
        let from = match self.context.as_ref().map(|context| context.run(text, start, last)) {
            None => start,
            Some(Run::To(end)) => end,
            Some(Run::Pending) => return Outcome::Pending(start),
            Some(Run::No) => return Outcome::No,
        };
        match self.value.run(text, from, last) {
            Run::No => Outcome::No,
            Run::Pending => Outcome::Pending(start),
            Run::To(end) => {
                let goes_on = text.get(end).is_some_and(u8::is_ascii_alphanumeric);
                if self.bounded && self.tail.is_none() && goes_on {
                    return Outcome::No;
                }
                match check(self.check, text.get(from..end).unwrap_or_default()) {
                    Checked::No => Outcome::No,
                    checked => Outcome::Found(from..end, checked),
                }
            }
        }
    }
}

/// Checks the literals of a pattern.
fn literals(literals: &[String]) -> Result<Vec<String>, String> {
    if literals.is_empty() {
        return Err("a pattern needs literals".to_owned());
    }
    match literals.iter().find(|literal| literal.len() < 2 || !literal.is_ascii()) {
        Some(short) => Err(format!("the literal `{short}` is not two or more ASCII characters")),
        None => Ok(literals.to_vec()),
    }
}

/// The literal that an expression starts with.
fn leading(expression: &str) -> String {
    let mut literal = String::new();
    let mut chars = expression.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek().is_some_and(char::is_ascii_punctuation) => literal.extend(chars.next()),
            '?' | '*' | '{' => {
                literal.pop();
                break;
            }
            '\\' | '[' | '(' | '.' | '|' | '+' | '^' | '$' => break,
            _ => literal.push(c),
        }
    }
    literal
}

/// The most digits that may stand before a literal.
const MOST_DIGITS: usize = 16;

/// How many digits stand right before `at`, close by in the original too, up to `most`.
fn digits(clean: &Clean<'_>, at: usize, most: usize) -> usize {
    let head = clean.text().as_bytes().get(..at).unwrap_or_default();
    let near = clean.origin(at).saturating_sub(64);
    let digits = head.iter().rev().take(most).enumerate();
    digits.take_while(|(back, byte)| byte.is_ascii_digit() && clean.origin(at - 1 - back) >= near).count()
}

/// Whether a token may begin after `head`: no letter or digit, or only that of an escaped line end.
fn begins(head: &[u8]) -> bool {
    match head {
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., before] => !before.is_ascii_alphanumeric(),
        [] => true,
    }
}

/// All patterns behind one automaton of their literals.
#[derive(Debug)]
pub(crate) struct Patterns {
    automaton: AhoCorasick,
    /// For each literal, the patterns that it starts.
    starts: Vec<Vec<usize>>,
    patterns: Vec<Pattern>,
    partials: Partials,
}

impl Patterns {
    pub(crate) fn new(forms: Vec<(Pattern, Vec<String>)>) -> Result<Self, LoadPack> {
        let mut literals: std::collections::BTreeMap<String, Vec<usize>> = std::collections::BTreeMap::new();
        let mut patterns = Vec::new();
        for (pattern, own) in forms {
            for literal in own {
                let starts = literals.entry(literal.to_ascii_lowercase()).or_default();
                if !starts.contains(&patterns.len()) {
                    starts.push(patterns.len());
                }
            }
            patterns.push(pattern);
        }
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(literals.keys())
            .map_err(|error| LoadPack::Automaton(error.to_string()))?;
        Ok(Self {
            automaton,
            partials: Partials::new(literals.keys()),
            starts: literals.into_values().collect(),
            patterns,
        })
    }

    /// Builds the automata of all patterns now: the rule, and why one of its is refused.
    pub(crate) fn build(&self) -> Result<(), (usize, String)> {
        self.patterns.iter().try_for_each(|pattern| pattern.build().map_err(|why| (pattern.rule, why)))
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Pattern> {
        self.patterns.get(index)
    }

    /// Every pattern at every literal of `clean`. The result is where undecided ones start, in bytes of the view.
    pub(crate) fn run(
        &self,
        clean: &Clean<'_>,
        last: bool,
        wanted: impl Fn(usize) -> bool,
        mut found: impl FnMut(usize, Range<usize>, Checked),
    ) -> Vec<usize> {
        let text = clean.text().as_bytes();
        let mut pending = Vec::new();
        if !last {
            let near = clean.settled().saturating_sub(PHRASE_REACH);
            let partial = self.partials.start(text, |at| clean.origin(at) >= near);
            pending.push(partial - digits(clean, partial, MOST_DIGITS));
        }
        for hit in self.automaton.find_overlapping_iter(text) {
            if clean.origin(hit.end()) > clean.origin(hit.start()) + PHRASE_REACH {
                continue;
            }
            for index in self.starts.get(hit.pattern().as_usize()).into_iter().flatten() {
                let Some(pattern) = self.patterns.get(*index).filter(|pattern| wanted(pattern.rule)) else { continue };
                match pattern.run(clean, hit.start(), last) {
                    Outcome::No => {}
                    Outcome::Pending(start) => pending.push(start),
                    Outcome::Found(range, checked) => found(*index, range, checked),
                }
            }
        }
        pending
    }
}

/// How far a tail goes on from `at`, and whether more text may continue it.
pub(crate) fn tail(form: TailForm, text: &[u8], at: usize, last: bool) -> (usize, bool) {
    let rest = text.get(at..).unwrap_or_default();
    match form {
        TailForm::Token => {
            let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"_-.=".contains(b)).count();
            (at + length, !last && length == rest.len())
        }
        TailForm::Pem => pem_tail(rest, last).map_or((text.len(), true), |length| (at + length, false)),
    }
}

/// The length of the body of a PEM block with its end line; none while more text may continue it.
fn pem_tail(rest: &[u8], last: bool) -> Option<usize> {
    const END: &[u8] = b"-----END ";
    let mut at = 0;
    while let Some(byte) = rest.get(at) {
        let here = rest.get(at..).unwrap_or_default();
        if here.starts_with(END) {
            let label = here.get(END.len()..).unwrap_or_default();
            let name = label.iter().take(40).take_while(|b| b.is_ascii_uppercase() || **b == b' ').count();
            let dashes = label.iter().skip(name).take(5).take_while(|b| **b == b'-').count();
            let length = END.len() + name + dashes;
            return if length == here.len() && !last && dashes < 5 { None } else { Some(at + length) };
        }
        if !last && END.starts_with(here) {
            return None;
        }
        if !(byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=-:,\\\"'".contains(byte)) {
            return Some(at);
        }
        at += 1;
    }
    last.then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pem_body_ends_with_its_end_line() {
        let text = b"\nMIIE+/=\n-----END RSA PRIVATE KEY-----\nHello";
        assert_eq!(pem_tail(text, true), Some(text.len() - 6));
        assert_eq!(pem_tail(b"\nMIIE", false), None);
        assert_eq!(pem_tail(b"\nMIIE\n-----EN", false), None);
        assert_eq!(pem_tail(b"\nMIIE; rest", false), Some(5));
        assert_eq!(pem_tail(b"\nMIIE", true), Some(5));
    }

    #[test]
    fn the_literal_of_an_expression_is_what_it_starts_with() {
        for (expression, literal) in
            [("hf_[A-Z]{3}", "hf_"), (r"dp\.pt\.x", "dp.pt.x"), ("ab?c", "a"), ("sm_(a|b)", "sm_")]
        {
            assert_eq!(leading(expression), literal);
        }
    }
}
