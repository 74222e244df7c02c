//! [`Explanation`]: each right that a profile gives and where it comes from, and what was asked for and struck out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a profile gives, and what it does not give although it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// The effective rules.
    pub rules: Vec<EffectiveRule>,
    /// What was asked for and is not given, or only in part.
    pub struck: Vec<StruckOut>,
}

/// One right that the program has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectiveRule {
    /// What kind of right.
    pub kind: RuleKind,
    /// The right: `write /home/ann/notes`.
    pub what: String,
    /// Everybody whose word was needed for it.
    pub from: Vec<Source>,
}

/// What kind of right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// A file or folder.
    Files,
    /// A host.
    Network,
    /// A program to execute.
    Exec,
    /// A limit.
    Limit,
}

/// Where a right, or a wish, comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The base profile, and why it has that.
    Base {
        /// Its name.
        profile: String,
        /// Why.
        why: String,
    },
    /// The manifest: which field, and the reason that it gives.
    Manifest {
        /// `execution.sandbox.filesystem[1]`.
        field: String,
        /// Its reason.
        reason: String,
    },
    /// The signed policy: which key of `ceilings.toml`.
    Policy {
        /// `plugins.files.folders.roots[0]`.
        key: String,
    },
    /// The parameters of this launch.
    Launch {
        /// Which.
        parameter: String,
    },
    /// The person who typed the command, by this option.
    Command {
        /// `--read`.
        option: String,
    },
    /// Sigil itself.
    Sigil {
        /// Why.
        why: String,
    },
}

/// A wish that is not granted, or only in part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StruckOut {
    /// The wish: `write /srv/data`.
    pub what: String,
    /// Whose it is.
    pub asked: Source,
    /// Why it is not granted.
    pub why: String,
}

impl Explanation {
    /// Notes a right.
    pub(super) fn rule(&mut self, kind: RuleKind, what: impl Into<String>, from: Vec<Source>) {
        self.rules.push(EffectiveRule { kind, what: what.into(), from });
    }

    /// Notes a wish that is not granted.
    pub(super) fn strike(&mut self, what: impl Into<String>, asked: Source, why: impl Into<String>) {
        self.struck.push(StruckOut { what: what.into(), asked, why: why.into() });
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base { profile, .. } => write!(f, "base profile {profile}"),
            Self::Manifest { field, .. } => write!(f, "plugin.yaml {field}"),
            Self::Policy { key } => write!(f, "signed policy {key}"),
            Self::Launch { parameter } => write!(f, "launch parameter {parameter}"),
            Self::Command { option } => write!(f, "{option}"),
            Self::Sigil { why } => write!(f, "Sigil ({why})"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            let from = rule.from.iter().map(ToString::to_string).collect::<Vec<_>>();
            writeln!(f, "{:<44}  {}", rule.what, from.join(" ∩ "))?;
        }
        for struck in &self.struck {
            writeln!(f, "not given: {:<33}  {}: {}", struck.what, struck.asked, struck.why)?;
        }
        Ok(())
    }
}
