//! Rule packs: what a TOML file of rules may hold, and why one is refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use sigil_types::{Code, Stage};

use crate::{Class, Severity};

/// Why a rule pack was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadPack {
    /// It is not TOML of the expected form.
    #[error("rule pack {number} is not read: {message}")]
    Form {
        /// Which of the packs, counted from 1.
        number: usize,
        /// What the reader says, with line and column.
        message: String,
    },
    /// A rule contradicts itself or the format.
    #[error("rule `{rule}` of pack `{pack}`: {why}")]
    Rule {
        /// The pack.
        pack: String,
        /// The rule.
        rule: Code,
        /// What is wrong, and what it should be.
        why: String,
    },
    /// A list of phrases is not usable.
    #[error("list `{list}` of pack `{pack}`: {why}")]
    List {
        /// The pack.
        pack: String,
        /// The list.
        list: String,
        /// What is wrong.
        why: String,
    },
    /// Two rules have one id.
    #[error("rule `{0}` is defined twice")]
    Twice(Code),
    /// The literals of all packs together do not make an automaton.
    #[error("the literals of all packs do not fit into one automaton: {0}")]
    Automaton(String),
}

impl LoadPack {
    /// The stable code of this refusal.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Form { .. } => Code::new("scan.pack.form.invalid"),
            Self::Rule { .. } => Code::new("scan.pack.rule.invalid"),
            Self::List { .. } => Code::new("scan.pack.list.invalid"),
            Self::Twice(_) => Code::new("scan.pack.rule.twice"),
            Self::Automaton(_) => Code::new("scan.pack.size.exceeded"),
        }
    }
}

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pack {
    /// Its name, for messages.
    pub(crate) pack: String,
    /// Lists of phrases by name. `_negation` and `_mention` are guards.
    #[serde(default)]
    pub(crate) list: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) rule: Vec<RuleForm>,
}

/// One rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleForm {
    pub(crate) id: Code,
    pub(crate) class: Class,
    pub(crate) severity: Severity,
    #[serde(default = "all_stages")]
    pub(crate) stages: Vec<Stage>,
    pub(crate) description: String,
    /// Sequences of lists with gaps: `verb ~12 scope object`.
    #[serde(default)]
    pub(crate) phrases: Vec<String>,
    /// Whether quoting, negating or discussing words near by lower the severity of its phrases.
    #[serde(default = "yes")]
    pub(crate) guard: bool,
    pub(crate) pattern: Option<PatternForm>,
    /// A detector that is code: of invisible characters.
    pub(crate) hidden: Option<HiddenForm>,
    pub(crate) examples: Examples,
}

/// A bounded regular expression near literals.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatternForm {
    /// Strings that start it, in any case; what is not near one of them is not looked at.
    #[serde(default)]
    pub(crate) literals: Vec<String>,
    /// How many digits may stand before the literal and belong to it.
    #[serde(default)]
    pub(crate) digits_before: usize,
    /// What has to be there, from the literal on, and is not part of the finding.
    pub(crate) context: Option<String>,
    /// What is found.
    pub(crate) value: Option<String>,
    /// Instead of `value` and `literals`: expressions that start with a literal of their own.
    #[serde(default)]
    pub(crate) values: Vec<String>,
    /// What goes on for as long as it goes on, beyond the value.
    pub(crate) tail: Option<TailForm>,
    /// Whether a letter or digit before the literal or after the value forbids a match.
    #[serde(default = "yes")]
    pub(crate) bounded: bool,
    /// A check of the value beyond its form.
    pub(crate) check: Option<Check>,
}

/// Open-ended continuations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TailForm {
    /// Characters of a token: base64url, dots.
    Token,
    /// The body of a PEM block (RFC 7468) up to and with its end line.
    Pem,
}

/// Checks of a value beyond its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Check {
    /// The last six characters are the CRC-32 of those before them (after the prefix), in base 62: GitHub, npm.
    Crc32,
    /// The header is base64url of a JSON object with `alg` (RFC 7515).
    Jwt,
    /// The mark in the middle of OpenAI's keys, or a run of random characters after the prefix.
    OpenAi,
    /// High entropy, and none of the usual placeholders: for values that only their name makes a secret.
    Random,
    /// None of the usual placeholders.
    Real,
    /// A password that a person would type: no placeholder, no variable, no word of prose.
    Password,
    /// 40 characters as AWS makes them: mixed case and digits.
    Mixed,
    /// A query that carries data: long or templated.
    Query,
}

/// Which detector of invisible characters a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HiddenForm {
    /// Tag characters outside a flag.
    Tags,
    /// Several supplementary variation selectors in a row.
    Selectors,
    /// Direction overrides.
    Override,
    /// Direction embeddings and isolates.
    Embedding,
    /// Many zero-width characters in a row: more than any text needs.
    ZeroWidthRun,
    /// Zero-width characters within words, repeatedly.
    ZeroWidthWord,
    /// A zero-width character where it is unusual.
    ZeroWidth,
}

/// Examples that the tests try: each positive one must be found by its rule, no negative one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Examples {
    pub(crate) positive: Vec<String>,
    pub(crate) negative: Vec<String>,
}

const fn yes() -> bool {
    true
}

fn all_stages() -> Vec<Stage> {
    Stage::ALL.to_vec()
}
