//! Screening: scan every text of a draft, apply the signed table, and turn the draft into a body.

use std::sync::Arc;

use sigil_policy::Policy;
use sigil_scan::{Class, Finding};
use sigil_types::{Action, Code, Hop as HopWord, Label, Origin, Reader, Readers, Stage};

use crate::Session;
use crate::core::Core;
use crate::door::Sink;

/// A finding, and what the signed table makes of it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) rule: Code,
    pub(crate) action: Action,
}

/// What became of one text.
#[derive(Debug)]
pub(crate) enum Screened {
    /// It may go on, possibly without what was redacted.
    Passes(String),
    /// It may not.
    Blocked,
}

/// The rules in force: what holds now, and what held when the session's turn began. The stricter of the two decides, so
/// narrowing is immediate and widening waits for the next turn.
pub(crate) struct Rules {
    pub(crate) now: Arc<Policy>,
    pub(crate) then: Arc<Policy>,
}

impl Rules {
    pub(crate) fn action(&self, stage: Stage, origin: Origin, hop: HopWord, finding: &Finding) -> Action {
        let (class, severity) = (finding.class.as_str(), finding.severity.as_str());
        let now = self.now.action(stage, origin, hop, class, severity);
        if Arc::ptr_eq(&self.now, &self.then) {
            return now;
        }
        now.max(self.then.action(stage, origin, hop, class, severity))
    }

    pub(crate) fn both(&self) -> impl Iterator<Item = &Policy> {
        let then = (!Arc::ptr_eq(&self.now, &self.then)).then_some(&*self.then);
        std::iter::once(&*self.now).chain(then)
    }
}

/// One draft on its way to becoming a body.
pub struct Screening<'a> {
    pub(crate) core: &'a Core,
    pub(crate) rules: &'a Rules,
    pub(crate) session: &'a Session,
    pub(crate) sink: &'a Sink,
    pub(crate) hop: HopWord,
    /// Join of the labels of everything in the draft.
    pub(crate) label: Label,
    pub(crate) found: Vec<Found>,
    /// Where in `found` the text that was screened last begins.
    last: usize,
    pub(crate) redactions: usize,
}

impl std::fmt::Debug for Screening<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Screening({}, {} found)", self.sink.destination, self.found.len())
    }
}

impl<'a> Screening<'a> {
    pub(crate) fn new(core: &'a Core, rules: &'a Rules, session: &'a Session, sink: &'a Sink, hop: HopWord) -> Self {
        Self { core, rules, session, sink, hop, label: Label::bottom(), found: Vec::new(), last: 0, redactions: 0 }
    }

    /// Scans `text` and applies the table. A scan that could not cover the whole text blocks it.
    pub(crate) fn text(&mut self, stage: Stage, origin: Origin, text: &str) -> Screened {
        self.last = self.found.len();
        let report = self.core.scans.scan(&self.core.scanner, stage, text);
        if report.truncated {
            self.found.push(Found { rule: OVERSIZE, action: Action::Block });
            return Screened::Blocked;
        }
        let mut worst = Action::Allow;
        let mut redact = Vec::new();
        for finding in &report.findings {
            let action = self.rules.action(stage, origin, self.hop, finding);
            if action == Action::Redact {
                redact.push(finding);
            }
            if finding.class == Class::Secret {
                self.keep_within_the_chat();
            }
            if action > Action::Allow {
                self.found.push(Found { rule: finding.rule.clone(), action });
            }
            worst = worst.max(action);
        }
        if worst == Action::Block {
            return Screened::Blocked;
        }
        self.redactions += redact.len();
        if redact.is_empty() {
            Screened::Passes(text.to_owned())
        } else {
            Screened::Passes(sigil_scan::redact(text, redact))
        }
    }

    /// A secret was found: whatever it is in may be read by the chat and its bound vendors only (line 4).
    fn keep_within_the_chat(&mut self) {
        let readers = self.session.context().audience.union(&bound_readers(&self.rules.now));
        self.label = self.label.join(&Label { authors: sigil_types::Authors::NONE, readers });
    }

    pub(crate) fn join(&mut self, label: &Label) {
        self.label = self.label.join(label);
    }

    /// All that was found, strongest first.
    pub(crate) fn rules_found(&self) -> Vec<Code> {
        Self::rules_of(&self.found)
    }

    /// What was found in the text that was screened last: the reason when that text is why nothing goes on. What else is in
    /// the draft may be for fewer eyes than the refusal.
    pub(crate) fn rules_of_the_last(&self) -> Vec<Code> {
        Self::rules_of(self.found.get(self.last..).unwrap_or_default())
    }

    fn rules_of(found: &[Found]) -> Vec<Code> {
        let mut found: Vec<&Found> = found.iter().collect();
        found.sort_by_key(|found| std::cmp::Reverse(found.action));
        let mut rules: Vec<Code> = found.into_iter().map(|found| found.rule.clone()).collect();
        let mut seen = std::collections::BTreeSet::new();
        rules.retain(|rule| seen.insert(rule.clone()));
        rules
    }
}

/// A text that is too long to be scanned as a whole.
pub(crate) const OVERSIZE: Code = Code::new("gate.scan.size.exceeded");

/// Who reads along with every workspace, because signed policy binds them to it: model vendors and platforms.
pub(crate) fn bound_readers(policy: &Policy) -> Readers {
    let ceilings = policy.ceilings();
    let vendors = ceilings.providers.iter().map(sigil_policy::ProviderGrant::reader);
    let platforms = ceilings.labels.platforms.iter().cloned().map(Reader::Platform);
    vendors.chain(platforms).collect()
}
