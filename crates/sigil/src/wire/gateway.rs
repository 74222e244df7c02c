//! A running gateway: its parts, and what they look like from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use sigil_agent::{Approvals, Hub};
use sigil_audit::AuditLog;
use sigil_config::Resolved;
use sigil_gate::Gate;
use sigil_host::PluginHost;
use sigil_policy::{Bundle, Verified};
use sigil_provider::Health;
use sigil_sandbox::client::LauncherClient;
use sigil_sandbox::confine::Confined;
use sigil_sandbox::host::Host;
use sigil_sandbox::launcher::wire;
use sigil_server::api;
use sigil_types::{ChannelRef, Clock, PluginName, SystemClock, Timestamp, WorkspaceId};

pub(crate) use super::room::Room;

/// A part that did not start. The rest runs without it.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    /// What, such as `plugin files`.
    pub(crate) what: String,
    /// Why, and what to do.
    pub(crate) why: String,
}

/// Everything that runs.
pub(crate) struct Gateway {
    pub(crate) resolved: Resolved,
    pub(crate) started: Timestamp,
    pub(crate) bundle: Bundle<Verified>,
    pub(crate) gate: Gate,
    pub(crate) audit: AuditLog,
    pub(crate) hub: Hub,
    pub(crate) approvals: Approvals,
    pub(crate) host: PluginHost,
    pub(crate) launcher: LauncherClient,
    /// What this machine gives of the sandbox.
    pub(crate) sandbox: Host,
    /// What this process itself is held in.
    pub(crate) confined: Confined,
    pub(crate) health: Arc<Health>,
    pub(crate) channel: ChannelRef,
    pub(crate) rooms: BTreeMap<WorkspaceId, Room>,
    pub(crate) missing: Vec<Missing>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("rooms", &self.rooms.len()).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Whether guarded work can be done.
    pub(crate) fn is_ready(&self) -> bool {
        self.audit.failure().is_none() && self.bundle.expires() > SystemClock.now()
    }

    pub(super) fn status(&self) -> api::Status {
        let now = SystemClock.now();
        let component =
            |name: &str, health: api::Health, detail: String| api::Component { name: name.to_owned(), health, detail };
        let audit = match self.audit.failure() {
            None => component("audit", api::Health::Ok, format!("{} entries", self.audit.size())),
            Some(failed) => component("audit", api::Health::Failed, failed.to_string()),
        };
        let policy = if self.bundle.expires() > now {
            component(
                "policy",
                api::Health::Ok,
                format!("version {}, until {}", self.bundle.version(), self.bundle.expires()),
            )
        } else {
            component("policy", api::Health::Failed, "expired; sign a new one with `sigil policy sign`".to_owned())
        };
        let mut components = vec![audit, policy];
        components.extend(self.provider_components());
        for status in self.host.list() {
            let health = if status.state == "running" { api::Health::Ok } else { api::Health::Degraded };
            components.push(component(&format!("plugin {}", status.plugin), health, status.state.to_owned()));
        }
        components.extend(self.missing.iter().map(|part| component(&part.what, api::Health::Failed, part.why.clone())));
        let worst = |components: &[api::Component]| {
            if components.iter().any(|c| c.health == api::Health::Failed && (c.name == "audit" || c.name == "policy")) {
                api::Health::Failed
            } else if components.iter().any(|c| c.health != api::Health::Ok) {
                api::Health::Degraded
            } else {
                api::Health::Ok
            }
        };
        api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
            uptime_ms: now.millis_since(self.started),
            ready: self.is_ready(),
            health: worst(&components),
            posture: self.sandbox.posture.to_string(),
            policy_version: Some(self.bundle.version()),
            turns_running: self.rooms.values().map(|room| room.agent.busy() as u64).sum(),
            approvals_pending: self.approvals.waiting().len() as u64,
            audit_size: self.audit.size(),
            components,
        }
    }

    fn provider_components(&self) -> Vec<api::Component> {
        let down = self.health.down();
        let one = |provider: &sigil_config::ProviderSettings| {
            let (health, detail) = match down.iter().find(|(name, _)| *name == provider.name) {
                None => (api::Health::Ok, provider.models.join(", ")),
                Some((_, until)) => {
                    (api::Health::Degraded, format!("failed when last asked; tried again after {until}"))
                }
            };
            api::Component { name: format!("provider {}", provider.name), health, detail }
        };
        self.resolved.settings.providers.iter().map(one).collect()
    }

    /// Metrics in the Prometheus text format.
    pub(super) fn metrics(&self) -> String {
        let status = self.status();
        let mut out = String::new();
        let mut gauge = |name: &str, help: &str, value: u64| {
            out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"));
        };
        gauge("sigil_uptime_seconds", "Time since the start.", status.uptime_ms / 1000);
        gauge("sigil_ready", "Whether guarded work can be done.", u64::from(status.ready));
        gauge("sigil_turns_running", "Sessions that have something to do.", status.turns_running);
        gauge("sigil_approvals_pending", "Questions that wait for a human.", status.approvals_pending);
        gauge("sigil_audit_entries", "Entries of the audit log.", status.audit_size);
        gauge("sigil_policy_version", "Version of the signed policy in force.", self.bundle.version());
        gauge(
            "sigil_plugins_running",
            "Plugin instances that run.",
            self.host.list().iter().filter(|s| s.state == "running").count() as u64,
        );
        out
    }

    pub(super) fn policy_view(&self) -> api::Policy {
        api::Policy {
            version: self.bundle.version(),
            digest: self.bundle.digest(),
            not_before: self.bundle.not_before(),
            expires: self.bundle.expires(),
            signers: self
                .bundle
                .signers()
                .iter()
                .map(|signer| api::Signer { key: format!("{} ({})", signer.name, signer.key) })
                .collect(),
            ceilings: serde_json::to_value(self.bundle.ceilings()).unwrap_or_default(),
            restricted: !self.is_ready(),
        }
    }

    /// Posture and layers, as the launches of this process report them.
    pub(super) async fn sandbox_view(&self) -> api::Sandbox {
        let posture = self.sandbox.posture.to_string();
        let detail = self.launcher_status().await.and_then(|status| serde_json::to_value(status).ok());
        let layers =
            self.host.list().iter().flat_map(|status| self.layers_of(&status.plugin, &status.workspace)).collect();
        api::Sandbox { posture, layers, battery: detail }
    }

    async fn launcher_status(&self) -> Option<wire::Status> {
        let launcher = self.launcher.clone();
        tokio::task::spawn_blocking(move || launcher.status()).await.ok()?.ok()
    }

    fn layers_of(&self, plugin: &PluginName, workspace: &WorkspaceId) -> Vec<api::Layer> {
        let Some(instance) = self.host.instance(plugin, workspace) else { return Vec::new() };
        let Some(report) = instance.report() else { return Vec::new() };
        report
            .applied
            .iter()
            .map(|layer| api::Layer {
                name: layer.to_string(),
                applied: true,
                detail: if report.proven.contains(layer) { "tried from inside at launch" } else { "applied" }
                    .to_owned(),
            })
            .collect()
    }

    pub(super) async fn plugin_list(&self) -> Vec<api::Plugin> {
        let status = self.launcher_status().await;
        let mut plugins: Vec<api::Plugin> =
            self.host.list().iter().map(|plugin| plugin_view(plugin, status.as_ref())).collect();
        for part in &self.missing {
            if let Some(name) = part.what.strip_prefix("plugin ").and_then(|name| name.parse().ok()) {
                plugins.push(api::Plugin {
                    name,
                    version: String::new(),
                    kind: "tool".to_owned(),
                    state: api::PluginState::Failed,
                    detail: Some(part.why.clone()),
                    uses: None,
                });
            }
        }
        plugins
    }

    pub(super) async fn plugin_detail(&self, name: &PluginName) -> Option<api::PluginDetail> {
        let status = self.host.list().into_iter().find(|status| status.plugin == *name)?;
        let tools = self.host.tools(&status.workspace);
        let tools = tools.iter().filter(|tool| sigil_gate::port::Tool::name(&***tool).plugin() == name.as_str());
        let view = |tool: &Arc<sigil_host::PluginTool>| {
            let tool: &dyn sigil_gate::port::Tool = &**tool;
            api::PluginTool {
                name: tool.name().clone(),
                description: tool.definition().description.clone(),
                facts: tool.facts().clone(),
            }
        };
        Some(api::PluginDetail {
            tools: tools.map(view).collect(),
            tree: Some(status.tree),
            layers: self.layers_of(name, &status.workspace),
            explanation: None,
            plugin: plugin_view(&status, self.launcher_status().await.as_ref()),
        })
    }
}

fn plugin_view(status: &sigil_host::Status, launcher: Option<&wire::Status>) -> api::Plugin {
    let mine = launcher.and_then(|launcher| launcher.usage.iter().find(|one| one.plugin == status.plugin));
    let ended = launcher.and_then(|launcher| launcher.ended.iter().rev().find(|one| one.plugin == status.plugin));
    let ended = ended.map(|ended| format!("was ended: too much of {}", ended.excess));
    api::Plugin {
        name: status.plugin.clone(),
        version: status.version.clone(),
        kind: "tool".to_owned(),
        state: match status.state {
            "running" => api::PluginState::Running,
            "starting" => api::PluginState::Starting,
            "restarting" => api::PluginState::Restarting,
            "stopped" => api::PluginState::Stopped,
            _ => api::PluginState::Failed,
        },
        detail: status.stopped.as_ref().map(|reason| format!("{reason:?}")).or(ended),
        uses: mine.map(|one| api::PluginUse {
            memory_bytes: one.usage.memory_bytes,
            processes: one.usage.processes,
            cpu_micros: one.usage.cpu_micros,
            memory_pressure: one.usage.memory_pressure,
        }),
    }
}
