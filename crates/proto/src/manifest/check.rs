//! Which fields a manifest has, and what each must be.

mod ended;
mod execution;

use std::time::Duration;

use serde_json::Value;
use sigil_types::{CapabilitySet, Effect, PluginName, ToolName};

use super::read::{MISSING, Node, Object, Problems, UNSUPPORTED, VALUE};
use super::spec::is_secret;
use super::units::{parse_bytes, parse_duration};
use super::{ConfigSchema, DeclaredFacts, DeclaredTool, Dependency, Lifecycle, PluginKind, Problem, Spec, Storage};

/// The version of this Sigil, which a manifest's `engine` must admit.
const ENGINE: &str = env!("CARGO_PKG_VERSION");

/// A plugin that needs longer than this to end is ended.
const MAX_SHUTDOWN: Duration = Duration::from_secs(60);

/// No call takes longer.
const MAX_CALL: Duration = Duration::from_secs(600);

/// No result is larger.
const MAX_RESULT: u64 = 16 << 20;

/// Reads the whole, or says everything that is wrong with it.
pub(super) fn spec(value: &Value) -> Result<Spec, Vec<Problem>> {
    let problems = Problems::default();
    let spec = Node::root(value, &problems).object().and_then(top_level);
    let problems = problems.into_vec();
    match spec {
        Some(spec) if problems.is_empty() => Ok(spec),
        // Every path to `None` reports; this holds even if one forgot.
        _ if problems.is_empty() => Err(vec![Problem {
            path: "(whole file)".into(),
            code: MISSING,
            message: "the manifest is incomplete".into(),
        }]),
        _ => Err(problems),
    }
}

/// Each field is read before any is judged missing: that is what makes the list of mistakes complete.
fn top_level(top: Object<'_>) -> Option<Spec> {
    let schema_version = top.required("manifest").and_then(|node| node.number(1, 1));
    let name: Option<PluginName> = top.required("name").and_then(|node| node.read(plugin_name));
    let version = top.required("version").and_then(|node| node.parse());
    let kind = top.required("type").and_then(|node| plugin_kind(&node));
    let engine = top.required("engine").and_then(|node| engine(&node));
    let license = top.required("license").and_then(|node| node.read(license));
    let description = top.required("description").and_then(|node| node.read(|text| line(text, 200)));
    let allow = top.required("capabilities").map(|node| node.list_of(Node::parse));
    let deny = top.optional("deny_capabilities").map(|node| node.list_of(Node::parse)).unwrap_or_default();
    let execution = top.required("execution").and_then(|node| execution::read(&node));
    let tools = top.optional("tools").map(|node| tools(&node, name.as_ref())).unwrap_or_default();
    let config_schema = top.optional("config_schema").map_or_else(|| Some(no_config()), |node| config_schema(&node));
    let dependencies = top.optional("dependencies").map(|node| dependencies(&node)).unwrap_or_default();
    let lifecycle = top.optional("lifecycle").map_or_else(|| Some(Lifecycle::default()), |node| lifecycle(&node));
    let storage = top.optional("storage").map_or_else(|| Some(Storage::default()), |node| storage(&node));
    top.finish();
    schema_version?;
    Some(Spec {
        name: name?,
        version: version?,
        kind: kind?,
        engine: engine?,
        license: license?,
        description: description?,
        capabilities: CapabilitySet { allow: allow?, deny },
        execution: execution?,
        tools,
        config_schema: config_schema?,
        dependencies,
        lifecycle: lifecycle?,
        storage: storage?,
    })
}

fn plugin_name(text: &str) -> Result<PluginName, String> {
    let name: PluginName = text.parse().map_err(|error: sigil_types::ParseIdError| error.to_string())?;
    // The same rule that tools have: `plugin__tool` must stay reversible.
    ToolName::new(&name, "x").map_err(|error| error.to_string())?;
    Ok(name)
}

fn plugin_kind(node: &Node<'_>) -> Option<PluginKind> {
    let kind = node.word(&[
        ("tool", PluginKind::Tool),
        ("provider", PluginKind::Provider),
        ("channel", PluginKind::Channel),
        ("skill", PluginKind::Skill),
    ])?;
    if kind != PluginKind::Tool {
        node.fail(UNSUPPORTED, "this Sigil runs plugins of type `tool` only");
    }
    Some(kind)
}

fn engine(node: &Node<'_>) -> Option<semver::VersionReq> {
    let wanted: semver::VersionReq = node.parse()?;
    let met = ENGINE.parse::<semver::Version>().is_ok_and(|engine| wanted.matches(&engine));
    if !met {
        let code = sigil_types::Code::new("plugin.manifest.engine.unmet");
        node.fail(code, format!("this is Sigil {ENGINE}, which is not among the versions that the plugin works with"));
    }
    Some(wanted)
}

/// An SPDX expression, by its alphabet: which licences exist is not for a parser to know.
fn license(text: &str) -> Result<String, String> {
    let ok = |c: char| c.is_ascii_alphanumeric() || " .-+():".contains(c);
    if !text.is_empty() && text.len() <= 128 && text.chars().all(ok) {
        Ok(text.to_owned())
    } else {
        Err("expected an SPDX expression such as Apache-2.0, at most 128 characters".into())
    }
}

/// One line for people.
pub(super) fn line(text: &str, max: usize) -> Result<String, String> {
    let plain = !text.trim().is_empty() && text.chars().count() <= max && !text.chars().any(char::is_control);
    if plain { Ok(text.trim().to_owned()) } else { Err(format!("expected one line of 1 to {max} characters")) }
}

fn tools(node: &Node<'_>, plugin: Option<&PluginName>) -> Vec<DeclaredTool> {
    let mut names = std::collections::BTreeSet::new();
    let tools: Vec<DeclaredTool> = node.list_of(|item| {
        let object = item.object()?;
        let name = object.required("name").and_then(|node| {
            node.read(|text| match plugin {
                Some(plugin) => ToolName::new(plugin, text).map_err(|error| error.to_string()),
                None => format!("x.{text}").parse().map_err(|error: sigil_types::ParseIdError| error.to_string()),
            })
        });
        let facts = object.optional("facts").map_or_else(|| Some(DeclaredFacts::default()), |node| facts(&node));
        let timeout = object.optional("timeout").and_then(|node| duration(&node, MAX_CALL));
        let max_result = object.optional("max_result").and_then(|node| bytes(&node, MAX_RESULT));
        object.finish();
        Some(DeclaredTool { name: name?, facts: facts?, timeout, max_result })
    });
    for (at, tool) in tools.iter().enumerate() {
        if !names.insert(tool.name.clone()) {
            node.problems.add(&format!("{}[{at}].name", node.path), VALUE, "this tool is listed twice");
        }
    }
    tools
}

fn facts(node: &Node<'_>) -> Option<DeclaredFacts> {
    let object = node.object()?;
    let sources = object.optional("sources").map(|node| node.list_of(Node::parse)).unwrap_or_default();
    let reads = object.optional("reads").map(|node| node.list_of(Node::parse));
    let effect = object.optional("effect").and_then(|node| {
        node.word(&[("none", Effect::None), ("local", Effect::Local), ("external", Effect::External)])
    });
    object.finish();
    Some(DeclaredFacts { sources, reads, effect })
}

fn no_config() -> ConfigSchema {
    ConfigSchema(serde_json::json!({ "type": "object", "properties": {}, "additionalProperties": false }))
}

fn config_schema(node: &Node<'_>) -> Option<ConfigSchema> {
    let Some(schema) = node.value.as_object() else {
        node.fail(VALUE, "expected a JSON Schema of an object");
        return None;
    };
    let at = |field: &str| format!("{}.{field}", node.path);
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        node.problems.add(&at("type"), VALUE, "the configuration is an object: `type: object`");
    }
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        let why = "unknown keys must be refused: `additionalProperties: false`";
        node.problems.add(&at("additionalProperties"), VALUE, why);
    }
    for reference in ["$ref", "$dynamicRef", "$id"] {
        if mentions(node.value, reference, 0) {
            node.fail(VALUE, format!("`{reference}` is not read here: write the schema out"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        if is_secret(property) && property.get("type").and_then(Value::as_str) != Some("string") {
            node.problems.add(&at(&format!("properties.{name}")), VALUE, "a secret is a text: `type: string`");
        }
        if property.as_object().is_some_and(|map| map.values().any(|inner| mentions(inner, "secret", 0))) {
            let why = "`secret` marks properties of the top level only";
            node.problems.add(&at(&format!("properties.{name}")), VALUE, why);
        }
    }
    Some(ConfigSchema(node.value.clone()))
}

/// Whether a key occurs anywhere below. The parser's budget bounds the depth; the count is a second fence.
fn mentions(value: &Value, key: &str, depth: u8) -> bool {
    let deeper = |inner: &Value| depth < 64 && mentions(inner, key, depth + 1);
    match value {
        Value::Object(map) => map.contains_key(key) || map.values().any(deeper),
        Value::Array(items) => items.iter().any(deeper),
        _ => false,
    }
}

fn dependencies(node: &Node<'_>) -> Vec<Dependency> {
    let all: Vec<Dependency> = node.list_of(|item| {
        let object = item.object()?;
        let name = object.required("name").and_then(|node| node.parse());
        let version = object.required("version").and_then(|node| node.parse());
        object.finish();
        Some(Dependency { name: name?, version: version? })
    });
    if !all.is_empty() {
        node.fail(UNSUPPORTED, "this Sigil does not resolve dependencies between plugins yet");
    }
    all
}

fn lifecycle(node: &Node<'_>) -> Option<Lifecycle> {
    let object = node.object()?;
    let default = Lifecycle::default();
    let hot_reload = object.optional("hot_reload").map_or(Some(default.hot_reload), |node| node.boolean());
    let timeout = object
        .optional("graceful_shutdown_timeout")
        .map_or(Some(default.graceful_shutdown_timeout), |node| duration(&node, MAX_SHUTDOWN));
    object.finish();
    Some(Lifecycle { hot_reload: hot_reload?, graceful_shutdown_timeout: timeout? })
}

fn storage(node: &Node<'_>) -> Option<Storage> {
    let object = node.object()?;
    let kv = object.optional("kv").map_or(Some(false), |node| node.boolean());
    let quota = object.optional("quota").and_then(|node| bytes(&node, 1 << 40));
    object.finish();
    if kv == Some(true) || quota.is_some() {
        node.fail(UNSUPPORTED, "this Sigil keeps no key-value store for plugins yet");
    }
    Some(Storage { kv: kv?, quota })
}

/// A size from 1 byte to `most`.
pub(super) fn bytes(node: &Node<'_>, most: u64) -> Option<u64> {
    node.read(|text| {
        let size = parse_bytes(text)?;
        if (1..=most).contains(&size) { Ok(size) } else { Err(format!("expected 1 to {most} bytes")) }
    })
}

/// A duration from 1 ms to `most`.
pub(super) fn duration(node: &Node<'_>, most: Duration) -> Option<Duration> {
    node.read(|text| {
        let time = parse_duration(text)?;
        let inside = time > Duration::ZERO && time <= most;
        if inside { Ok(time) } else { Err(format!("expected 1ms to {}s", most.as_secs())) }
    })
}
