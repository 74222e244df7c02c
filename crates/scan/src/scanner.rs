//! [`Scanner`]: rule packs, loaded and ready.

use std::sync::Arc;

use sigil_types::{Code, Digest, Stage};

use crate::arrange::arrange;
use crate::engine::{State, search};
use crate::rules::{Rules, bit};
use crate::{LoadPack, MAX_SCAN, Report, StreamScanner};

/// The packs that are part of Sigil.
const BUILTIN: [&str; 7] = [
    include_str!("../../../policy/scanner/hidden.toml"),
    include_str!("../../../policy/scanner/injection-de.toml"),
    include_str!("../../../policy/scanner/injection-en.toml"),
    include_str!("../../../policy/scanner/injection-es.toml"),
    include_str!("../../../policy/scanner/injection-zh.toml"),
    include_str!("../../../policy/scanner/markup.toml"),
    include_str!("../../../policy/scanner/secrets.toml"),
];

/// Rule packs, loaded and ready. Cheap to clone, and shared between threads.
#[derive(Clone, Debug)]
pub struct Scanner {
    rules: Arc<Rules>,
}

impl Scanner {
    /// The scanner with the packs that are part of Sigil.
    ///
    /// # Errors
    /// When a pack is not as it should be. A test loads them, so this is not expected of a released build.
    pub fn builtin() -> Result<Self, LoadPack> {
        Ok(Self { rules: Arc::new(Rules::compile(&BUILTIN)?) })
    }

    /// A scanner with the packs given, each the text of a TOML file.
    ///
    /// # Errors
    /// When a pack cannot be read, a rule contradicts itself, or its expression is not bounded.
    pub fn from_packs(packs: &[&str]) -> Result<Self, LoadPack> {
        let rules = Rules::compile(packs)?;
        rules.build()?;
        Ok(Self { rules: Arc::new(rules) })
    }

    /// What identifies the packs and the engine: a remembered scan holds for one version only.
    #[must_use]
    pub fn version(&self) -> Digest {
        self.rules.version()
    }

    /// The ids of all rules.
    pub fn rules(&self) -> impl Iterator<Item = &Code> {
        self.rules.ids()
    }

    /// Scans `text` by the rules of `stage`. Total, and linear in the length; what is longer than [`MAX_SCAN`] is looked at
    /// up to there, and the report says `truncated`.
    #[must_use]
    pub fn scan(&self, stage: Stage, text: &str) -> Report {
        let truncated = text.len() > MAX_SCAN;
        let text = text.get(..crate::redact::floor(text, MAX_SCAN)).unwrap_or(text);
        let searched = search(&self.rules, bit(stage), text, true, &State::default());
        let arranged = arrange(searched.found);
        let findings = arranged.found.into_iter().filter_map(|found| self.rules.finding(found, 0)).collect();
        Report { findings, truncated }
    }

    /// A scan of a text that is still being written, by the rules of `stage`.
    #[must_use]
    pub fn stream(&self, stage: Stage) -> StreamScanner {
        StreamScanner::new(Arc::clone(&self.rules), bit(stage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_in_the_packs_builds() {
        assert!(Scanner::from_packs(&BUILTIN).is_ok());
    }
}
