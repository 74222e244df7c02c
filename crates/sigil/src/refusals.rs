//! What the egress proxy has refused, as its audit entries say it.

use std::collections::BTreeMap;

use sigil_audit::{AuditLog, Filter, ReadFailed, Stored};
use sigil_sandbox::denials::HostRefused;
use sigil_types::Timestamp;

/// Entries that are looked at: the newest of each kind.
const ENTRIES: usize = 2_000;
/// Different refusals that are kept.
const MOST: usize = 256;

/// Failures of what was allowed: nobody refused anything.
const FAILURES: [&str; 5] = [
    "egress.host.unresolved",
    "egress.host.unreachable",
    "egress.answer.malformed",
    "egress.connections.exhausted",
    "egress.audit.unavailable",
];

/// What was refused to `plugin`, in the newest entries of the log.
pub(crate) fn of(audit: &AuditLog, plugin: &str) -> Result<Vec<HostRefused>, ReadFailed> {
    let newest = |kind: &str| audit.query(&Filter { kind: Some(kind.to_owned()), limit: ENTRIES, ..Filter::default() });
    let mut entries = newest("egress")?;
    // Beyond its burst a plugin's refusals are counted together, with one as a sample.
    entries.extend(newest("audit.refusals.aggregated")?);
    let actor = format!("plugin:{plugin}");
    let mut found: BTreeMap<(String, Option<String>), HostRefused> = BTreeMap::new();
    for refused in entries.iter().filter_map(|entry| read(entry, &actor)) {
        let key = (refused.code.clone(), refused.target.clone());
        let room = found.len() < MOST;
        match found.get_mut(&key) {
            Some(known) => {
                known.count = known.count.saturating_add(refused.count);
                known.first = known.first.min(refused.first);
                known.last = known.last.max(refused.last);
            }
            None if room => _ = found.insert(key, refused),
            None => {}
        }
    }
    Ok(found.into_values().collect())
}

/// A refusal of the proxy, if `entry` is one of `actor`.
fn read(entry: &Stored, actor: &str) -> Option<HostRefused> {
    let text = |data: &serde_json::Value, key: &str| data.get(key)?.as_str().map(str::to_owned);
    let moment = |key: &str| text(&entry.data, key)?.parse::<Timestamp>().ok();
    let sample = entry.data.get("sample");
    let (code, who, data) = match sample {
        None => (entry.kind.as_str().to_owned(), entry.actor.clone(), &entry.data),
        Some(sample) => (text(sample, "kind")?, text(sample, "actor")?, sample.get("data")?),
    };
    if who != actor || !code.starts_with("egress.") || FAILURES.contains(&code.as_str()) {
        return None;
    }
    Some(HostRefused {
        code,
        target: text(data, "target"),
        // What is no refusal (a connection that was opened or closed) has no reason.
        why: text(data, "why")?,
        remedy: text(data, "remedy")?,
        count: entry.data.get("count").filter(|_| sample.is_some()).and_then(serde_json::Value::as_u64).unwrap_or(1),
        first: moment("first").filter(|_| sample.is_some()).unwrap_or(entry.at),
        last: moment("last").filter(|_| sample.is_some()).unwrap_or(entry.at),
    })
}
