//! The schema of the settings: generated from their types, with the formats that JSON Schema does not have.

use std::net::SocketAddr;
use std::sync::LazyLock;

use jsonschema::Validator;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use sigil_types::{CapabilityPattern, Host, HostPort, Name};

use crate::sections::Settings;

/// A written form that a text must have.
pub(crate) struct Format {
    pub(crate) name: &'static str,
    pub(crate) holds: fn(&str) -> bool,
    /// Completes "must be …".
    pub(crate) is: &'static str,
    pub(crate) remedy: &'static str,
}

/// All forms, by the name that stands in the schema.
pub(crate) const FORMATS: &[Format] = &[
    Format {
        name: "name",
        holds: |text| text.parse::<Name>().is_ok(),
        is: "a name: 1 to 64 characters of a-z, 0-9, `_` and `-`, starting with a letter or digit",
        remedy: "choose a name of that form",
    },
    Format {
        name: "loopback-address",
        holds: |text| text.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback()),
        is: "a loopback address with a port, such as 127.0.0.1:7717 or [::1]:7717",
        remedy: "listen on loopback: there is no TLS yet, so every other address is refused; reach it from elsewhere \
                 through an SSH tunnel or a proxy that ends TLS",
    },
    Format {
        name: "host",
        holds: |text| text.parse::<Host>().is_ok(),
        is: "a host name or address without port or path",
        remedy: "write the name as it stands in the browser's address line",
    },
    Format {
        name: "capability-pattern",
        holds: |text| text.parse::<CapabilityPattern>().is_ok(),
        is: "a capability pattern, such as tool.files.* or sessions.read.self",
        remedy: "write parts of a-z, 0-9, `_` and `-` joined by dots; `*` stands for one part, at the end for all that follow",
    },
    Format {
        name: "http-url",
        holds: is_http_url,
        is: "an http:// or https:// URL without user, query or fragment",
        remedy: "write it like https://api.example.com/v1",
    },
    Format {
        name: "secret-ref",
        holds: is_secret_ref,
        is: "a reference to a secret: env:NAME, file:/absolute/path or secret:name",
        remedy: "store the key with `sigil secret set NAME` and write secret:NAME; a key itself has no place in configuration",
    },
];

fn is_http_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else { return false };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    (authority.parse::<Host>().is_ok() || authority.parse::<HostPort>().is_ok())
        && path.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\\"<>".contains(&b))
}

fn is_secret_ref(text: &str) -> bool {
    match text.split_once(':') {
        Some(("env", name)) => {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
        }
        Some(("file", path)) => path.starts_with('/') && !path.contains('\0'),
        // The vault refuses `keyring:` with its own reason, so that the answer is the same wherever one is written.
        Some(("secret" | "keyring", name)) => name.parse::<Name>().is_ok(),
        _ => false,
    }
}

/// The JSON Schema (draft 2020-12) of `sigil.yaml`, without references, generated from the types.
#[must_use]
pub fn json_schema() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.into_generator().into_root_schema_for::<Settings>().to_value()
}

/// Schema and validator, made once.
pub(crate) struct Compiled {
    pub(crate) schema: Value,
    pub(crate) validator: Validator,
}

/// The compiled schema.
pub(crate) fn compiled() -> &'static Compiled {
    #[expect(clippy::expect_used, reason = "the schema is made of our own types when Sigil is built; held by a test")]
    static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
        let schema = json_schema();
        let mut options = jsonschema::options().should_validate_formats(true);
        for format in FORMATS {
            options = options.with_format(format.name, format.holds);
        }
        let validator = options.build(&schema).expect("our own schema");
        Compiled { schema, validator }
    });
    &COMPILED
}

/// One step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Key(&'a str),
    Index,
}

/// The schema of the value that `path` leads to, where the settings have such a place.
pub(crate) fn at<'s, 'a>(schema: &'s Value, path: impl IntoIterator<Item = Step<'a>>) -> Option<&'s Value> {
    path.into_iter().try_fold(schema, |node, step| {
        branches(node).find_map(|branch| match step {
            Step::Key(key) => branch
                .get("properties")
                .and_then(|properties| properties.get(key))
                .or_else(|| branch.get("additionalProperties").filter(|schema| **schema != Value::Bool(false))),
            Step::Index => branch.get("items"),
        })
    })
}

/// A schema and the alternatives in it.
fn branches(node: &Value) -> impl Iterator<Item = &Value> {
    let alternatives = ["anyOf", "oneOf"].into_iter().filter_map(|key| node.get(key)?.as_array()).flatten();
    std::iter::once(node).chain(alternatives)
}

/// The keys that an object of this schema may have.
pub(crate) fn keys(node: &Value) -> Vec<&str> {
    branches(node)
        .filter_map(|branch| branch.get("properties")?.as_object())
        .flat_map(|properties| properties.keys().map(String::as_str))
        .collect()
}

/// The words that a value of this schema may be, where it is one of a closed list.
pub(crate) fn words(node: &Value) -> Vec<&str> {
    branches(node)
        .flat_map(|branch| {
            let list = branch.get("enum").and_then(Value::as_array).into_iter().flatten();
            branch.get("const").into_iter().chain(list)
        })
        .filter_map(Value::as_str)
        .collect()
}

/// Whether a value of this schema may have the JSON type `kind`.
pub(crate) fn allows(node: &Value, kind: &str) -> bool {
    branches(node).any(|branch| match branch.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        _ => false,
    }) || (kind == "string" && !words(node).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_compiles_and_accepts_the_defaults() {
        let defaults = serde_json::to_value(Settings::default()).expect("settings are JSON");
        assert!(compiled().validator.is_valid(&defaults));
    }

    #[test]
    fn every_format_in_the_schema_is_known() {
        fn walk(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("format").and_then(Value::as_str).map(str::to_owned));
                    map.iter().filter(|(key, _)| *key != "default").for_each(|(_, inner)| walk(inner, found));
                }
                Value::Array(list) => list.iter().for_each(|inner| walk(inner, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        walk(&compiled().schema, &mut found);
        for format in found {
            let ours = FORMATS.iter().any(|known| known.name == format);
            assert!(ours || format.starts_with("uint"), "{format}");
        }
    }

    #[test]
    fn places_are_found() {
        let schema = &compiled().schema;
        let place = at(schema, [Step::Key("gateway"), Step::Key("limits"), Step::Key("body_bytes")]).expect("a place");
        assert!(allows(place, "integer"));
        let kind = at(schema, [Step::Key("providers"), Step::Index, Step::Key("kind")]).expect("a place");
        assert_eq!(words(kind), ["anthropic", "openai", "rehearsal"]);
        assert!(at(schema, [Step::Key("workspaces"), Step::Key("home"), Step::Key("model")]).is_some());
        assert!(at(schema, [Step::Key("gateway"), Step::Key("nothing")]).is_none());
    }

    #[test]
    fn urls_and_references() {
        for good in ["https://api.example.com", "http://127.0.0.1:8080/v1", "http://[::1]:80/v1", "https://a.b/c/d"] {
            assert!(is_http_url(good), "{good}");
        }
        for bad in
            ["", "ftp://a.b", "https://", "https://u:p@a.b/", "https://a.b:0/", "https://a.b/?q", "https://a.b/ x"]
        {
            assert!(!is_http_url(bad), "{bad}");
        }
        for good in ["env:KEY", "file:/run/key", "secret:anthropic", "keyring:openai"] {
            assert!(is_secret_ref(good), "{good}");
        }
        for bad in ["sk-ant-abc", "env:", "env:1A", "file:relative", "secret:", "secret:A B", "vault:x"] {
            assert!(!is_secret_ref(bad), "{bad}");
        }
    }
}
