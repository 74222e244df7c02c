//! The registry of codes: what each means, and what to do. One data file for `sigil explain` and for errors.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use sigil_types::Code;

/// The data.
const TEXT: &str = include_str!("../../data/codes.toml");

/// What is known about a code, or about all codes that begin with it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// What it means.
    pub(crate) what: String,
    /// Why it happens.
    pub(crate) why: String,
    /// What to do.
    pub(crate) fix: String,
}

/// The registry. A registry that cannot be read is empty; a test holds that it can.
fn registry() -> &'static BTreeMap<String, Entry> {
    static REGISTRY: OnceLock<BTreeMap<String, Entry>> = OnceLock::new();
    REGISTRY.get_or_init(|| toml::from_str(TEXT).unwrap_or_default())
}

/// What is known about `code`: its own entry, else that of the longest beginning that has one.
pub(crate) fn find(code: &Code) -> Option<&'static Entry> {
    entry(code).map(|(_, entry)| entry)
}

/// The same, with the beginning that it stands under.
pub(crate) fn entry(code: &Code) -> Option<(&'static str, &'static Entry)> {
    let mut text = code.as_str();
    loop {
        if let Some((key, entry)) = registry().get_key_value(text) {
            return Some((key, entry));
        }
        text = text.rsplit_once('.')?.0;
    }
}

/// All codes and beginnings that are known.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static Entry)> {
    registry().iter().map(|(code, entry)| (code.as_str(), entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_reads_and_is_complete_in_each_entry() {
        let read: BTreeMap<String, Entry> = toml::from_str(TEXT).expect("TOML of this form");
        assert!(read.len() > 40, "{}", read.len());
        for (code, entry) in &read {
            assert!(code.contains('.') && !code.starts_with('.') && code.is_ascii(), "{code}");
            for text in [&entry.what, &entry.why, &entry.fix] {
                assert!(text.len() > 8 && !text.contains('\n'), "{code}: {text}");
            }
        }
    }

    /// Every code that stands in the sources is explained, by itself or by a beginning of two parts or more.
    #[test]
    fn every_code_in_the_sources_is_explained() {
        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates/").to_owned();
        let mut missing = Vec::new();
        let mut found = 0;
        let mut folders = vec![crates];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("readable").flatten() {
                let path = entry.path();
                if path.is_dir()
                    && !["tests", "target", "benches", "peers", "examples"].iter().any(|name| path.ends_with(name))
                {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path).expect("a source");
                    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                    for after in code.split("Code::new(\"").skip(1) {
                        let Ok(code) = after.split('"').next().unwrap_or_default().parse::<Code>() else { continue };
                        found += 1;
                        if find(&code).is_none() {
                            missing.push(format!("{code} ({})", path.display()));
                        }
                    }
                }
            }
        }
        missing.sort();
        assert!(found > 100, "{found}");
        assert!(missing.is_empty(), "add to data/codes.toml:\n{}", missing.join("\n"));
    }
}
