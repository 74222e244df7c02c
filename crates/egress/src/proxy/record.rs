//! What the proxy writes into the audit log: names, numbers and reasons, never content.

use std::sync::Arc;

use serde_json::json;
use sigil_audit::{AuditLog, Entry};
use sigil_types::{Code, EventId, Name};

use super::connection::Asked;
use super::meter::Meter;
use crate::Refused;
use crate::resolve::Checked;
use crate::rules::Identity;

const OPEN: Code = Code::new("egress.connection.open");
const CLOSE: Code = Code::new("egress.connection.close");
const SECRETS: Code = Code::new("egress.secrets.used");

fn entry(identity: &Identity, kind: Code, data: serde_json::Value) -> Entry {
    let entry = Entry::new(kind, format!("plugin:{}", identity.plugin)).data(data);
    Entry { workspace: identity.workspace.clone(), ..entry }
}

/// Records why a connection was refused, and what the owner can do. Aggregated per plugin: refusals cannot fill the log.
pub(super) fn refusal(audit: &AuditLog, identity: &Identity, asked: Option<&Asked>, refused: Refused) {
    let data = json!({
        "instance": identity.instance,
        "target": asked.map(|asked| asked.target.to_string()),
        "way": asked.map(|asked| asked.way.as_str()),
        "why": refused.to_string(),
        "remedy": refused.remedy(),
    });
    let source = format!("egress:{}", identity.plugin);
    drop(audit.refusal(&source, entry(identity, refused.code(), data)));
}

/// Records that secrets of the vault are about to be sent, by their names; durable before the first one is.
pub(super) async fn secrets_used(
    audit: &AuditLog,
    identity: &Identity,
    asked: &Asked,
    secrets: &[Name],
) -> Result<(), Refused> {
    let data = json!({ "instance": identity.instance, "target": asked.target.to_string(), "secrets": secrets });
    audit.append(entry(identity, SECRETS, data)).await.map(drop).map_err(|_| Refused::Audit)
}

/// An opened connection: its opening entry is durable, and its closing entry is written however it ends.
pub(super) struct Open<'a> {
    audit: &'a AuditLog,
    identity: &'a Identity,
    opened: EventId,
    meter: Arc<Meter>,
    ending: &'static str,
}

impl<'a> Open<'a> {
    /// Writes the opening entry, and waits until it is durable: no audit, no action.
    pub(super) async fn write(
        audit: &'a AuditLog,
        identity: &'a Identity,
        asked: &Asked,
        checked: &Checked,
        meter: Arc<Meter>,
    ) -> Result<Self, Refused> {
        let addresses: Vec<String> = checked.iter().map(|address| address.to_string()).collect();
        let data = json!({
            "instance": identity.instance,
            "target": asked.target.to_string(),
            "way": asked.way.as_str(),
            "addresses": addresses,
        });
        let receipt = audit.append(entry(identity, OPEN, data)).await.map_err(|_| Refused::Audit)?;
        Ok(Self { audit, identity, opened: receipt.id(), meter, ending: "stopped" })
    }

    /// Says how it ended.
    pub(super) fn end(&mut self, ending: &'static str) {
        self.ending = ending;
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let data = json!({
            "instance": self.identity.instance,
            "open": self.opened,
            "up": self.meter.up(),
            "down": self.meter.down(),
            "ending": self.ending,
        });
        drop(self.audit.append(entry(self.identity, CLOSE, data)));
    }
}
