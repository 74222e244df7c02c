//! From a merged value to settings, or to everything that is wrong with it.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::paths::LocationSegment;
use serde_json::Value;
use sigil_types::Code;

use sigil_types::nearest;

use crate::mistake::Mistake;
use crate::schema::{self, FORMATS, Step, compiled};
use crate::sections::{ProviderKind, Settings};

const UNKNOWN: Code = Code::new("config.key.unknown");
const MISSING: Code = Code::new("config.key.missing");
const TYPE: Code = Code::new("config.value.type");
const VALUE: Code = Code::new("config.value.invalid");

/// Validates the whole value, then extracts it. `source_of` names what set a key.
pub(crate) fn settings(merged: Value, source_of: &dyn Fn(&str) -> String) -> Result<Settings, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    for error in compiled().validator.iter_errors(&merged) {
        explain(&error, source_of, &mut mistakes);
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let settings: Settings = serde_json::from_value(merged).map_err(|error| {
        // The schema is made of the types, so this is a value that a type refuses and the schema does not: still a mistake
        // in the configuration, and still refused.
        vec![mistake(VALUE, "", source_of, error.to_string(), "correct the value".to_owned())]
    })?;
    let across = across(&settings, source_of);
    if across.is_empty() { Ok(settings) } else { Err(across) }
}

fn mistake(code: Code, key: &str, source_of: &dyn Fn(&str) -> String, reason: String, remedy: String) -> Mistake {
    Mistake { code, source: source_of(key), key: key.to_owned(), reason, remedy }
}

/// Turns one error of the validator into mistakes in the words of this project.
fn explain(error: &ValidationError<'_>, source_of: &dyn Fn(&str) -> String, into: &mut Vec<Mistake>) {
    let segments: Vec<LocationSegment<'_>> = error.instance_path().segments().collect();
    let key = dotted(&segments);
    let place = schema::at(&compiled().schema, segments.iter().map(step));
    let mut add =
        |code, key: &str, reason: String, remedy: String| into.push(mistake(code, key, source_of, reason, remedy));
    let words = place.map(schema::words).unwrap_or_default();
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            let known = place.map(schema::keys).unwrap_or_default();
            for name in unexpected {
                let full = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                let remedy = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("remove it; known here: {}", known.join(", ")),
                };
                add(UNKNOWN.clone(), &full, "there is no such key".to_owned(), remedy);
            }
        }
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            add(MISSING.clone(), &key, format!("`{name}` is missing"), format!("add `{name}`"));
        }
        Kind::PropertyNames { error } => {
            let name = error.instance().as_str().unwrap_or_default();
            let (reason, remedy) = format_words(error.kind());
            add(VALUE.clone(), &key, format!("the key `{}` {reason}", name.escape_default()), remedy);
        }
        _ if !words.is_empty() => {
            let given = error.instance().as_str().unwrap_or_default();
            let remedy = match nearest(given, words.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "choose one of them".to_owned(),
            };
            add(VALUE.clone(), &key, format!("must be one of {}", words.join(", ")), remedy);
        }
        Kind::Type { .. } => {
            let wanted = wanted(place);
            let given = kind_of(error.instance());
            add(TYPE.clone(), &key, format!("is {given}, and must be {wanted}"), format!("write {wanted}"));
        }
        kind => {
            let (reason, remedy) = format_words(kind);
            add(VALUE.clone(), &key, reason, remedy);
        }
    }
}

/// What a validation keyword means, and what to do, without repeating the value.
fn format_words(kind: &Kind) -> (String, String) {
    match kind {
        Kind::Format { format } => FORMATS.iter().find(|known| known.name == *format).map_or_else(
            || (format!("must be of the form {format}"), "correct it".to_owned()),
            |known| (format!("must be {}", known.is), known.remedy.to_owned()),
        ),
        Kind::Minimum { limit } => (format!("must be {limit} or more"), format!("write {limit} or more")),
        Kind::Maximum { limit } => (format!("must be {limit} or less"), format!("write {limit} or less")),
        Kind::MinItems { limit } => (format!("must have at least {limit} entries"), "add one".to_owned()),
        Kind::MinLength { limit } => (format!("must have at least {limit} characters"), "write it out".to_owned()),
        Kind::MaxLength { limit } => (format!("must have at most {limit} characters"), "shorten it".to_owned()),
        _ => ("does not have the right form".to_owned(), "see `sigil config schema`".to_owned()),
    }
}

fn wanted(place: Option<&Value>) -> String {
    let types = [
        ("string", "a text"),
        ("integer", "a whole number"),
        ("number", "a number"),
        ("boolean", "true or false"),
        ("array", "a list"),
        ("object", "a mapping"),
        ("null", "null"),
    ];
    let allowed: Vec<&str> = types
        .iter()
        .filter(|(kind, _)| place.is_some_and(|node| schema::allows(node, kind)))
        .map(|(_, w)| *w)
        .collect();
    allowed.join(" or ")
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn step<'a>(segment: &'a LocationSegment<'_>) -> Step<'a> {
    match segment {
        LocationSegment::Property(name) => Step::Key(name),
        LocationSegment::Index(_) => Step::Index,
    }
}

fn dotted(segments: &[LocationSegment<'_>]) -> String {
    let mut key = String::new();
    for segment in segments {
        match segment {
            LocationSegment::Property(name) => {
                if !key.is_empty() {
                    key.push('.');
                }
                key.push_str(name);
            }
            LocationSegment::Index(at) => key.push_str(&format!("[{at}]")),
        }
    }
    key
}

/// What no single field can say.
fn across(settings: &Settings, source_of: &dyn Fn(&str) -> String) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut add = |key: String, reason: String, remedy: &str| {
        found.push(mistake(VALUE.clone(), &key, source_of, reason, remedy.to_owned()));
    };
    for (at, provider) in settings.providers.iter().enumerate() {
        if settings.providers.iter().take(at).any(|earlier| earlier.name == provider.name) {
            add(
                format!("providers[{at}].name"),
                format!("there are two providers named {}", provider.name),
                "rename one",
            );
        }
        if provider.kind == ProviderKind::Rehearsal && (provider.base_url.is_some() || provider.api_key.is_some()) {
            let reason = "the rehearsal provider has no address and no key".to_owned();
            add(format!("providers[{at}]"), reason, "remove base_url and api_key, or choose another kind");
        }
    }
    for (name, workspace) in &settings.workspaces {
        if let Some(provider) = &workspace.provider
            && !settings.providers.iter().any(|known| known.name == *provider)
        {
            let reason = format!("there is no provider named {provider}");
            add(format!("workspaces.{name}.provider"), reason, "name one of `providers`, or remove the key");
        }
    }
    for (name, plugin) in &settings.plugins.settings {
        for workspace in &plugin.workspaces {
            if !settings.workspaces.contains_key(workspace) {
                let reason = format!("there is no workspace named {workspace}");
                add(format!("plugins.settings.{name}.workspaces"), reason, "name one of `workspaces`");
            }
        }
    }
    found
}
