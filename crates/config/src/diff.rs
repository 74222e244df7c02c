//! What a new configuration changes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::layers::leaves;
use crate::sections::Settings;

/// One key whose value differs. Settings hold references to secrets, never secrets, so both values may be shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The key, such as `agent.window`.
    pub key: String,
    /// The value before, where there was one.
    pub before: Option<Value>,
    /// The value after, where there is one.
    pub after: Option<Value>,
}

/// The keys in which `after` differs from `before`, in order.
#[must_use]
pub fn diff(before: &Settings, after: &Settings) -> Vec<Change> {
    let as_value = |settings| serde_json::to_value(settings).unwrap_or(Value::Null);
    let (before, after) = (as_value(before), as_value(after));
    let before: BTreeMap<String, &Value> = leaves(&before).into_iter().collect();
    let after: BTreeMap<String, &Value> = leaves(&after).into_iter().collect();
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| Change {
            key: key.clone(),
            before: before.get(key).map(|value| (*value).clone()),
            after: after.get(key).map(|value| (*value).clone()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_named() {
        let before = Settings::default();
        let mut after = before.clone();
        assert_eq!(diff(&before, &after), []);
        after.agent.window = 7;
        after.workspaces.insert("home".parse().expect("a name"), crate::WorkspaceSettings::default());
        let changes = diff(&before, &after);
        assert!(changes.iter().any(|change| change.key == "agent.window" && change.after == Some(7.into())));
        assert!(changes.iter().any(|change| change.key.starts_with("workspaces")));
        assert!(!changes.iter().any(|change| change.key.starts_with("gateway")));
    }
}
