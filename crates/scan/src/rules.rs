//! [`Rules`]: all packs, compiled.

use std::collections::{BTreeMap, BTreeSet};

use sigil_types::{Code, Digest, Stage};

use crate::grammar::Sequence;
use crate::layer::Found;
use crate::lexicon::{Lexicon, List, Phrases};
use crate::pack::{HiddenForm, LoadPack, Pack, RuleForm};
use crate::pattern::{Pattern, Patterns};
use crate::{Class, Finding, Severity};

/// One rule, without how it is found.
#[derive(Debug)]
struct Rule {
    pack: String,
    id: Code,
    class: Class,
    severity: Severity,
    stages: u8,
    guard: bool,
}

/// The sequences that start with one list.
#[derive(Debug, Default)]
pub(crate) struct Starting {
    pub(crate) sequences: Vec<Sequence>,
    /// How wide the gaps of any of them are together, and how many phrases any has between its first and its last.
    pub(crate) gaps: usize,
    pub(crate) between: usize,
}

/// All packs, compiled.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    pub(crate) lexicon: Lexicon,
    sequences: Vec<Starting>,
    pub(crate) patterns: Patterns,
    hidden: Vec<(HiddenForm, usize)>,
    negations: BTreeSet<List>,
    mentions: BTreeSet<List>,
    version: Digest,
}

/// Changes when the same packs find something else than before.
const ENGINE: &[u8] = b"sigil-scan 1";

impl Rules {
    pub(crate) fn compile(packs: &[&str]) -> Result<Self, LoadPack> {
        let mut loading = Loading::default();
        for (number, text) in packs.iter().enumerate() {
            let pack: Pack = toml::from_str(text).map_err(|error| LoadPack::Form {
                number: number + 1,
                message: error.to_string().trim_end().to_owned(),
            })?;
            loading.pack(pack)?;
        }
        let mut sequences: Vec<Starting> = Vec::new();
        sequences.resize_with(usize::from(loading.lists), Starting::default);
        for sequence in loading.sequences {
            if let Some(starting) = sequences.get_mut(usize::from(sequence.first())) {
                let (gaps, between) = sequence.reach();
                starting.gaps = starting.gaps.max(gaps);
                starting.between = starting.between.max(between);
                starting.sequences.push(sequence);
            }
        }
        Ok(Self {
            rules: loading.rules,
            lexicon: Lexicon::new(loading.phrases)?,
            sequences,
            patterns: Patterns::new(loading.patterns)?,
            hidden: loading.hidden,
            negations: loading.negations,
            mentions: loading.mentions,
            version: Digest::of_parts(std::iter::once(ENGINE).chain(packs.iter().map(|pack| pack.as_bytes()))),
        })
    }

    /// Builds now what is otherwise built when it is first needed.
    pub(crate) fn build(&self) -> Result<(), LoadPack> {
        self.patterns.build().map_err(|(rule, why)| match self.rules.get(rule) {
            Some(rule) => LoadPack::Rule { pack: rule.pack.clone(), rule: rule.id.clone(), why },
            None => LoadPack::Automaton(why),
        })
    }

    pub(crate) const fn version(&self) -> Digest {
        self.version
    }

    /// What was found, in the words of the outside. `base` is where the text begins that its span counts from.
    pub(crate) fn finding(&self, found: Found, base: usize) -> Option<Finding> {
        let rule = self.rules.get(found.rule)?;
        let span = found.span.start.checked_sub(base)?..found.span.end.checked_sub(base)?;
        Some(Finding { rule: rule.id.clone(), class: rule.class, severity: found.severity, span, via: found.via })
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &Code> {
        self.rules.iter().map(|rule| &rule.id)
    }

    pub(crate) fn applies(&self, rule: usize, mask: u8) -> bool {
        self.rules.get(rule).is_some_and(|rule| rule.stages & mask != 0)
    }

    pub(crate) fn severity(&self, rule: usize) -> Option<Severity> {
        self.rules.get(rule).map(|rule| rule.severity)
    }

    pub(crate) fn is_guarded(&self, rule: usize) -> bool {
        self.rules.get(rule).is_some_and(|rule| rule.guard)
    }

    pub(crate) fn is_negation(&self, list: List) -> bool {
        self.negations.contains(&list)
    }

    pub(crate) fn is_mention(&self, list: List) -> bool {
        self.mentions.contains(&list)
    }

    /// The sequences that start with `list`, if any do.
    pub(crate) fn starting_with(&self, list: List) -> Option<&Starting> {
        self.sequences.get(usize::from(list)).filter(|starting| !starting.sequences.is_empty())
    }

    /// The rule for a kind of invisible characters.
    pub(crate) fn hidden(&self, form: HiddenForm) -> Option<usize> {
        self.hidden.iter().find(|(known, _)| *known == form).map(|(_, rule)| *rule)
    }
}

/// The bit of a stage in a rule's mask.
pub(crate) fn bit(stage: Stage) -> u8 {
    let index = Stage::ALL.iter().position(|known| *known == stage).unwrap_or(0);
    u8::try_from(index).map_or(0, |index| 1_u8.checked_shl(u32::from(index)).unwrap_or(0))
}

#[derive(Default)]
struct Loading {
    rules: Vec<Rule>,
    ids: BTreeSet<Code>,
    phrases: Phrases,
    lists: List,
    sequences: Vec<Sequence>,
    patterns: Vec<(Pattern, Vec<String>)>,
    hidden: Vec<(HiddenForm, usize)>,
    negations: BTreeSet<List>,
    mentions: BTreeSet<List>,
}

impl Loading {
    fn pack(&mut self, pack: Pack) -> Result<(), LoadPack> {
        let mut numbers = BTreeMap::new();
        for (name, phrases) in &pack.list {
            let refuse = |why: String| LoadPack::List { pack: pack.pack.clone(), list: name.clone(), why };
            let number = self.lists;
            self.lists = self.lists.checked_add(1).ok_or_else(|| refuse("there are too many lists".to_owned()))?;
            for phrase in phrases {
                self.phrases.add(phrase, number).map_err(refuse)?;
            }
            match name.as_str() {
                "_negation" => drop(self.negations.insert(number)),
                "_mention" => drop(self.mentions.insert(number)),
                _ => {}
            }
            numbers.insert(name.as_str(), number);
        }
        for form in &pack.rule {
            if !self.ids.insert(form.id.clone()) {
                return Err(LoadPack::Twice(form.id.clone()));
            }
            self.rule(&pack.pack, form, &numbers).map_err(|why| LoadPack::Rule {
                pack: pack.pack.clone(),
                rule: form.id.clone(),
                why,
            })?;
        }
        Ok(())
    }

    fn rule(&mut self, pack: &str, form: &RuleForm, lists: &BTreeMap<&str, List>) -> Result<(), String> {
        let rule = self.rules.len();
        let ways = [!form.phrases.is_empty(), form.pattern.is_some(), form.hidden.is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            return Err("a rule has either `phrases` or a `pattern` or `hidden`".to_owned());
        }
        if form.description.trim().is_empty() || form.stages.is_empty() {
            return Err("a rule has a description and at least one stage".to_owned());
        }
        if form.examples.positive.is_empty() || form.examples.negative.is_empty() {
            return Err("a rule has at least one positive and one negative example".to_owned());
        }
        for line in &form.phrases {
            let number = |name: &str| lists.get(name).copied().ok_or_else(|| format!("there is no list `{name}`"));
            self.sequences.extend(Sequence::parse(line, rule, number)?);
        }
        if let Some(pattern) = &form.pattern {
            self.patterns.extend(Pattern::parse(rule, pattern)?);
        }
        if let Some(hidden) = form.hidden {
            self.hidden.push((hidden, rule));
        }
        self.rules.push(Rule {
            pack: pack.to_owned(),
            id: form.id.clone(),
            class: form.class,
            severity: form.severity,
            stages: form.stages.iter().fold(0, |mask, stage| mask | bit(*stage)),
            guard: form.guard,
        });
        Ok(())
    }
}
