//! What of a plugin's life goes to the audit log: every step, with digests and ids, never its words.

use serde_json::{Value, json};
use sigil_audit::{AppendFailed, AuditLog, Entry, Receipt};
use sigil_types::{Code, InstanceId, PluginName, WorkspaceId};

/// Writes the entries of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) audit: AuditLog,
    pub(crate) plugin: PluginName,
    pub(crate) instance: InstanceId,
    pub(crate) workspace: WorkspaceId,
}

pub(crate) const STARTING: Code = Code::new("host.plugin.start.begun");
pub(crate) const LAUNCHED: Code = Code::new("host.plugin.start.launched");
pub(crate) const READY: Code = Code::new("host.plugin.start.ready");
pub(crate) const FAILED: Code = Code::new("host.plugin.start.failed");
pub(crate) const ENDED: Code = Code::new("host.plugin.process.ended");
pub(crate) const UNHEALTHY: Code = Code::new("host.plugin.process.unhealthy");
pub(crate) const REFUSED: Code = Code::new("host.plugin.calls.refused");
pub(crate) const RESTARTING: Code = Code::new("host.plugin.restart.waiting");
pub(crate) const STOPPED: Code = Code::new("host.plugin.stop.done");

impl Record {
    fn entry(&self, kind: Code, data: Value) -> Entry {
        let mut all = json!({ "plugin": self.plugin, "instance": self.instance });
        if let (Some(all), Value::Object(data)) = (all.as_object_mut(), data) {
            all.extend(data);
        }
        Entry::new(kind, format!("plugin:{}", self.plugin)).workspace(self.workspace.clone()).data(all)
    }

    /// Notes a step, without waiting for the disk.
    pub(crate) fn note(&self, kind: Code, data: Value) {
        drop(self.audit.append(self.entry(kind, data)));
    }

    /// Records a step that has an effect: durable when this returns.
    pub(crate) async fn before(&self, kind: Code, data: Value) -> Result<Receipt, AppendFailed> {
        self.audit.append(self.entry(kind, data)).await
    }

    /// Records a refusal: many of them become one entry.
    pub(crate) fn refusal(&self, kind: Code, data: Value) {
        drop(self.audit.refusal(&format!("plugin:{}", self.plugin), self.entry(kind, data)));
    }
}
