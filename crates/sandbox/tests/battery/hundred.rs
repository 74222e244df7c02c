//! The hundred known ways out, as `hundred.toml` says them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A known way out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Way {
    pub(crate) what: String,
    /// Attempts of the battery.
    #[serde(default)]
    pub(crate) attempts: Vec<String>,
    /// Tests that prove what is held elsewhere.
    #[serde(default)]
    pub(crate) tests: Vec<String>,
    /// What neither of them says.
    #[serde(default)]
    pub(crate) note: String,
}

/// All of them, by number.
pub(crate) fn ways() -> BTreeMap<usize, Way> {
    let text: BTreeMap<String, Way> = toml::from_str(include_str!("hundred.toml")).expect("well-formed");
    text.into_iter().map(|(number, way)| (number.parse().expect("a number"), way)).collect()
}
