//! A plugin's configuration against the schema in its manifest.

use std::collections::BTreeMap;

use serde_json::Value;
use sigil_proto::manifest::ConfigSchema;
use sigil_types::Secret;

/// Everything that is wrong with a configuration; nothing when it is right. Values are never quoted.
pub(crate) fn mistakes(
    schema: &ConfigSchema,
    config: &Value,
    secrets: &BTreeMap<String, Secret<String>>,
) -> Vec<String> {
    let mut mistakes = Vec::new();
    for name in schema.secrets() {
        if config.get(name).is_some() {
            mistakes.push(format!("`{name}` is a secret: give it as a secret, not as configuration"));
        }
    }
    for name in secrets.keys().filter(|name| !schema.secrets().any(|known| known == name.as_str())) {
        mistakes.push(format!("the plugin has no secret `{name}`"));
    }
    // What is required may be a secret: it stands in for itself.
    let mut whole = config.clone();
    if let Some(object) = whole.as_object_mut() {
        object.extend(secrets.keys().map(|name| (name.clone(), Value::String(String::new()))));
    }
    match jsonschema::validator_for(&relaxed(schema)) {
        Err(error) => mistakes.push(format!("its configuration schema is not a JSON Schema: {}", error.masked())),
        Ok(validator) => {
            let found = validator.iter_errors(&whole).take(20);
            mistakes.extend(found.map(|error| format!("{}: {}", error.instance_path(), error.masked())));
        }
    }
    mistakes
}

/// The schema with secrets as any text: their placeholder is empty.
fn relaxed(schema: &ConfigSchema) -> Value {
    let mut relaxed = schema.schema().clone();
    for name in schema.secrets() {
        if let Some(property) = relaxed.get_mut("properties").and_then(|properties| properties.get_mut(name)) {
            *property = serde_json::json!({ "type": "string" });
        }
    }
    relaxed
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sigil_proto::manifest::Manifest;

    use super::*;

    fn schema() -> ConfigSchema {
        let text = "manifest: 1\nname: a\nversion: 0.1.0\ntype: tool\nengine: '>=0.1'\nlicense: MIT\ndescription: A.\ncapabilities: []\n\
            execution: { tier: process, transport: sdk, command: [a], sandbox: { profile: native } }\nconfig_schema:\n  \
            type: object\n  additionalProperties: false\n  required: [token]\n  properties:\n    \
            token: { type: string, secret: true, minLength: 8 }\n    limit: { type: integer, maximum: 5 }\n";
        let manifest = Manifest::parse(text.as_bytes()).expect("well-formed").validate().expect("valid");
        manifest.spec().config_schema.clone()
    }

    fn found(config: &Value, secrets: &[&str]) -> usize {
        let secrets = secrets.iter().map(|name| ((*name).to_owned(), Secret::new("hunter2".to_owned()))).collect();
        let mistakes = mistakes(&schema(), config, &secrets);
        assert!(!mistakes.iter().any(|mistake| mistake.contains("hunter2")), "{mistakes:?}");
        mistakes.len()
    }

    #[test]
    fn configuration_and_secrets_are_held_to_the_schema() {
        assert_eq!(found(&json!({ "limit": 3 }), &["token"]), 0);
        assert_eq!(found(&json!({}), &[]), 1, "a required secret is missing");
        assert_eq!(found(&json!({ "limit": 9, "colour": "hunter2" }), &["token"]), 2);
        assert!(found(&json!({ "token": "hunter2" }), &[]) > 0, "a secret in the configuration");
        assert!(found(&json!({}), &["token", "other"]) > 0);
        assert!(found(&json!([]), &[]) > 0);
    }
}
