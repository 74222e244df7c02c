//! The signed content: which files there are, what is in them, and when they are the policy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sigil_types::{Digest, Timestamp};

use crate::refused::BundleRefused;

/// The form of the payload that this Sigil reads and writes.
const FORMAT: u32 = 1;
/// More files than this are nobody's honest bundle.
const MAX_FILES: usize = 256;

/// A bundle's files: canonical path to text.
pub(crate) type Files = BTreeMap<Box<str>, Box<str>>;

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) version: u64,
    pub(crate) not_before: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) files: Files,
}

/// The written form. Files stand in strictly ascending order of path, so none can stand twice.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: u32,
    version: u64,
    not_before: Timestamp,
    expires: Timestamp,
    files: Vec<FileForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    path: String,
    size: u64,
    sha256: Digest,
    content: String,
}

fn malformed(what: impl Into<String>) -> BundleRefused {
    BundleRefused::Malformed { what: what.into() }
}

impl Payload {
    /// Reads a payload, and compares every file with its size and digest.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BundleRefused> {
        let form: Form = serde_json::from_slice(bytes).map_err(|error| malformed(format!("payload: {error}")))?;
        if form.format != FORMAT {
            return Err(malformed(format!("payload: format {}; this Sigil reads {FORMAT}", form.format)));
        }
        if form.version == 0 || form.not_before >= form.expires {
            return Err(malformed("payload: versions begin at 1, and a bundle begins before it expires"));
        }
        if form.files.len() > MAX_FILES {
            return Err(malformed(format!("payload: more than {MAX_FILES} files")));
        }
        let mut files = Files::new();
        for file in form.files {
            let FileForm { path, size, sha256, content } = file;
            if !is_bundle_path(&path) {
                return Err(malformed(format!("payload: `{}` is not a file of a policy", path.escape_debug())));
            }
            if files.last_key_value().is_some_and(|(last, _)| **last >= *path) {
                return Err(malformed(format!("payload: `{path}` stands twice or out of order")));
            }
            if content.len() as u64 != size || Digest::of(content.as_bytes()) != sha256 {
                return Err(BundleRefused::Tampered { what: format!("`{path}` is not the file that was listed") });
            }
            files.insert(path.into(), content.into());
        }
        Ok(Self { version: form.version, not_before: form.not_before, expires: form.expires, files })
    }

    /// Writes the payload.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let files = self.files.iter().map(|(path, content)| FileForm {
            path: path.to_string(),
            size: content.len() as u64,
            sha256: Digest::of(content.as_bytes()),
            content: content.to_string(),
        });
        let form = Form {
            format: FORMAT,
            version: self.version,
            not_before: self.not_before,
            expires: self.expires,
            files: files.collect(),
        };
        // INVARIANT: plain data with string keys always serialises.
        serde_json::to_vec(&form).unwrap_or_default()
    }
}

/// Whether `path` is one of the files that a policy consists of, in its one written form.
///
/// They are `schema.cedarschema`, `ceilings.toml`, `scan.toml`, `tests.toml`, `NAME.cedar` and `scanner/NAME.toml`, where
/// a name is 1 to 64 characters of `a-z 0-9 _ -`, and a rule pack's may be several, joined by dots.
pub(crate) fn is_bundle_path(path: &str) -> bool {
    let named = |stem: &str| stem.parse::<sigil_types::Name>().is_ok();
    match path {
        "schema.cedarschema" | "ceilings.toml" | "scan.toml" | "system.md" | "tests.toml" => true,
        _ => match path.strip_prefix("scanner/") {
            Some(rest) => rest.strip_suffix(".toml").is_some_and(|stem| stem.split('.').all(named)),
            None => path.strip_suffix(".cedar").is_some_and(named),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        let files =
            [("a.cedar", "permit(principal, action, resource);"), ("ceilings.toml", "x = 1"), ("scan.toml", "")];
        Payload {
            version: 3,
            not_before: Timestamp::from_millis(1_000),
            expires: Timestamp::from_millis(2_000),
            files: files.into_iter().map(|(path, content)| (path.into(), content.into())).collect(),
        }
    }

    fn edited(edit: impl FnOnce(&mut serde_json::Value)) -> &'static str {
        let mut value: serde_json::Value = serde_json::from_slice(&payload().encode()).expect("JSON");
        edit(&mut value);
        let refused = Payload::parse(&serde_json::to_vec(&value).expect("JSON")).expect_err("refused");
        if matches!(refused, BundleRefused::Tampered { .. }) { "tampered" } else { "malformed" }
    }

    #[test]
    fn a_payload_survives_its_form() {
        assert_eq!(Payload::parse(&payload().encode()).expect("its own"), payload());
    }

    #[test]
    fn a_file_that_is_not_the_listed_one_is_tampering() {
        assert_eq!(
            edited(|value| value["files"][0]["content"] = "permit(principal, action, resource) ".into()),
            "tampered"
        );
        assert_eq!(edited(|value| value["files"][1]["size"] = 4.into()), "tampered");
        assert_eq!(edited(|value| value["files"][1]["sha256"] = Digest::of(b"").to_string().into()), "tampered");
    }

    #[test]
    fn other_forms_are_malformed() {
        assert_eq!(edited(|value| value["format"] = 2.into()), "malformed");
        assert_eq!(edited(|value| value["version"] = 0.into()), "malformed");
        assert_eq!(edited(|value| value["more"] = 0.into()), "malformed");
        assert_eq!(edited(|value| value["expires"] = value["not_before"].clone()), "malformed");
        assert_eq!(edited(|value| value["files"][1]["path"] = "a.cedar".into()), "malformed");
        assert_eq!(edited(|value| value["files"].as_array_mut().expect("a list").swap(0, 2)), "malformed");
    }

    #[test]
    fn a_path_has_one_form() {
        for good in
            ["base.cedar", "schema.cedarschema", "scanner/injection-en.toml", "scanner/secrets.v1.toml", "tests.toml"]
        {
            assert!(is_bundle_path(good), "{good}");
        }
        for bad in [
            "",
            "/base.cedar",
            "./base.cedar",
            "a/base.cedar",
            "../base.cedar",
            "Base.cedar",
            ".cedar",
            "base.cedar/",
            "scanner/../a.toml",
            "scanner//a.toml",
            "scanner/a..toml",
            "scanner/.toml",
            "scanner/a/b.toml",
            "scanner\\a.toml",
            "other.toml",
            "a\0.cedar",
        ] {
            assert!(!is_bundle_path(bad), "{bad:?}");
        }
    }
}
