//! [`Bounded`]: a regular expression of bounded length as an anchored automaton that can say "not yet".

use std::fmt;
use std::sync::OnceLock;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

/// No expression matches more, in bytes.
const LONGEST: usize = 1200;

/// An expression. Bytes, no Unicode classes; matches only where it is asked to start.
///
/// The automaton is built when it is first needed: most are for credentials that most processes never meet.
pub(crate) struct Bounded {
    expression: String,
    automaton: OnceLock<Option<dense::DFA<Vec<u32>>>>,
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expression)
    }
}

/// What trying an expression came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// No match, whatever follows.
    No,
    /// What follows decides.
    Pending,
    /// A match up to here, whatever follows.
    To(usize),
}

impl Bounded {
    /// Reads an expression, and checks that it is bounded.
    pub(crate) fn new(expression: &str) -> Result<Self, String> {
        let hir = syntax::parse_with(expression, &form()).map_err(|error| error.to_string())?;
        match hir.properties().maximum_len() {
            Some(longest) if longest <= LONGEST => {}
            _ => return Err(format!("`{expression}` may match more than {LONGEST} bytes")),
        }
        Ok(Self { expression: expression.to_owned(), automaton: OnceLock::new() })
    }

    /// Builds the automaton now, and says why it cannot be built.
    pub(crate) fn build(&self) -> Result<(), String> {
        build(&self.expression).map(|automaton| drop(self.automaton.set(Some(automaton))))
    }

    /// Runs it from `at`. Unless `text` is the `last`, a run that reaches its end is pending.
    pub(crate) fn run(&self, text: &[u8], at: usize, last: bool) -> Run {
        let automaton = self.automaton.get_or_init(|| build(&self.expression).ok());
        // INVARIANT: packs from outside were built when they were loaded, those that are part of Sigil are built by a test.
        let Some(automaton) = automaton else { return Run::No };
        let input = Input::new(text).range(at..).anchored(Anchored::Yes);
        let Ok(mut state) = automaton.start_state_forward(&input) else { return Run::No };
        let mut end = None;
        for (offset, byte) in text.iter().enumerate().skip(at) {
            state = automaton.next_state(state, *byte);
            if automaton.is_special_state(state) {
                if automaton.is_match_state(state) {
                    end = Some(offset);
                } else if automaton.is_dead_state(state) || automaton.is_quit_state(state) {
                    return end.map_or(Run::No, Run::To);
                }
            }
        }
        if !last {
            return Run::Pending;
        }
        if automaton.is_match_state(automaton.next_eoi_state(state)) {
            end = Some(text.len());
        }
        end.map_or(Run::No, Run::To)
    }
}

fn form() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

fn build(expression: &str) -> Result<dense::DFA<Vec<u32>>, String> {
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .match_kind(MatchKind::LeftmostFirst)
        .dfa_size_limit(Some(2 << 20))
        .determinize_size_limit(Some(8 << 20));
    dense::Builder::new()
        .configure(config)
        .syntax(form())
        .thompson(thompson::Config::new().utf8(false))
        .build(expression)
        .map_err(|error| format!("`{expression}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_decided_as_soon_as_it_can_be() {
        let token = Bounded::new("tok_[a-z0-9]{4,8}").expect("an expression");
        assert_eq!(token.run(b"x tok_abcd1, ", 2, false), Run::To(11));
        assert_eq!(token.run(b"x tok_abcd1", 2, false), Run::Pending);
        assert_eq!(token.run(b"x tok_abcd1", 2, true), Run::To(11));
        assert_eq!(token.run(b"x tok_ab!", 2, false), Run::No);
        assert_eq!(token.run(b"tok_1234567890", 0, false), Run::To(12));
    }

    #[test]
    fn unbounded_expressions_are_refused() {
        assert!(Bounded::new("a+").is_err());
        assert!(Bounded::new("a{1,2000}").is_err());
        assert!(Bounded::new("(").is_err());
    }
}
