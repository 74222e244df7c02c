//! [`Mistake`]: one thing that is wrong with a configuration, and what to do about it.

use std::fmt;

use serde::Serialize;
use sigil_types::Code;

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Stable code.
    pub code: Code,
    /// Where the value was set: a file, an environment variable, a flag.
    pub source: String,
    /// The key, such as `gateway.limits.body_bytes` or `providers[0].name`; empty when the whole file is meant.
    pub key: String,
    /// What is wrong. Never repeats the value.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.source)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

/// Why a configuration was not taken: every mistake in it, in order of source and key. The one that ran before goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigRefused {
    /// At least one.
    pub mistakes: Vec<Mistake>,
}

impl ConfigRefused {
    pub(crate) fn new(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by(|a, b| (&a.source, &a.key, &a.reason).cmp(&(&b.source, &b.key, &b.reason)));
        mistakes.dedup();
        Self { mistakes }
    }

    /// The stable code: the mistake's own when there is one, else that of a configuration with several.
    #[must_use]
    pub fn code(&self) -> Code {
        match self.mistakes.as_slice() {
            [only] => only.code.clone(),
            _ => Code::new("config.load.invalid"),
        }
    }
}

impl fmt::Display for ConfigRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        write!(f, "the configuration has {count} mistake{}", if count == 1 { "" } else { "s" })?;
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for ConfigRefused {}
