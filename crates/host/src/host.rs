//! [`PluginHost`]: all running instances, and starting one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use sigil_audit::AuditLog;
use sigil_egress::Proxy;
use sigil_egress::ended::SecretSource;
use sigil_policy::Ceilings;
use sigil_proto::manifest::Manifest;
use sigil_sandbox::client::LauncherClient;
use sigil_sandbox::profile::Params;
use sigil_types::{Clock, Code, Digest, InstanceId, Name, PluginName, Secret, WorkspaceId};

use crate::ended::placeholders;
use crate::instance::{Instance, Parts, Plugin, Shared, Status};
use crate::process::StartFailed;
use crate::record::{self, Record};
use crate::tool::PluginTool;
use crate::trusted::{NotEndorsed, Trusted};

/// The plugin that attacks: it runs in the throw-away folder of a demonstration only.
const ADVERSARY: &str = "adversary";

/// What a plugin host is made of.
pub struct HostParts {
    /// Who starts programs.
    pub launcher: LauncherClient,
    /// Who lets them out to a network.
    pub proxy: Proxy,
    /// Where every step is recorded.
    pub audit: AuditLog,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Ceilings of the signed policy in force.
    pub ceilings: Arc<Ceilings>,
    /// Whether the data folder was made by `sigil demo`.
    pub demo: bool,
}

impl std::fmt::Debug for HostParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostParts").field("demo", &self.demo).finish_non_exhaustive()
    }
}

/// What an instance is started with.
#[derive(Debug)]
pub struct Start {
    /// The plugin, endorsed by the policy in force.
    pub plugin: Manifest<Trusted>,
    /// The workspace that it serves.
    pub workspace: WorkspaceId,
    /// Its configuration, without secrets. An object.
    pub config: serde_json::Value,
    /// The secrets that its configuration schema names.
    pub secrets: BTreeMap<String, Secret<String>>,
    /// Secrets of its schema that it never holds: it gets a stand-in for the named secret of the vault, which the egress
    /// proxy replaces in requests to the hosts that it is for.
    pub credentials: BTreeMap<String, Name>,
    /// Less than what is granted, if that is wanted.
    pub params: Params,
    /// The digest of its tool definitions that the owner has agreed to. Without one, what it says at its first start counts
    /// as long as the instance lives.
    pub definitions: Option<Digest>,
}

impl Start {
    /// A start without configuration, with everything that is granted.
    #[must_use]
    pub fn new(plugin: Manifest<Trusted>, workspace: WorkspaceId) -> Self {
        Self {
            plugin,
            workspace,
            config: json!({}),
            secrets: BTreeMap::new(),
            credentials: BTreeMap::new(),
            params: Params::default(),
            definitions: None,
        }
    }
}

/// Why an instance was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartRefused {
    /// It runs already.
    #[error("plugin {plugin} already runs for workspace {workspace}; stop it first")]
    Runs {
        /// Which.
        plugin: PluginName,
        /// Where.
        workspace: WorkspaceId,
    },
    /// The adversary, outside a demonstration.
    #[error("the adversary plugin runs in `sigil demo` only: it attacks the machine that it runs on")]
    DemoOnly,
    /// The configuration does not fit the manifest's schema.
    #[error("the configuration of plugin {plugin} is not what its manifest asks for: {}", mistakes.join("; "))]
    Config {
        /// Which.
        plugin: PluginName,
        /// All mistakes.
        mistakes: Vec<String>,
    },
    /// The signed policy does not endorse it.
    #[error(transparent)]
    NotEndorsed(#[from] NotEndorsed),
    /// It could not be started.
    #[error("plugin {plugin} could not be started: {source}")]
    Failed {
        /// Which.
        plugin: PluginName,
        /// Why not.
        source: StartFailed,
    },
}

impl StartRefused {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Runs { .. } => const { Code::new("host.plugin.start.twice") },
            Self::DemoOnly => const { Code::new("host.plugin.start.demo-only") },
            Self::Config { .. } => const { Code::new("host.plugin.config.bad") },
            Self::NotEndorsed(source) => source.code(),
            Self::Failed { source, .. } => source.code(),
        }
    }
}

type Key = (PluginName, WorkspaceId);

/// The plugin host. Cheap to clone.
#[derive(Clone)]
pub struct PluginHost(Arc<Inner>);

struct Inner {
    /// Replaced as a whole when the policy changes; what runs keeps what it was started with.
    parts: Mutex<Arc<Parts>>,
    audit: AuditLog,
    demo: bool,
    /// `None` while an instance is being started.
    instances: Mutex<BTreeMap<Key, Option<Instance>>>,
}

impl std::fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginHost").field("instances", &self.list().len()).finish_non_exhaustive()
    }
}

impl PluginHost {
    /// A host without instances.
    #[must_use]
    pub fn new(parts: HostParts) -> Self {
        let HostParts { launcher, proxy, audit, clock, ceilings, demo } = parts;
        let (call_time, result_bytes) = call_limits(&ceilings);
        let parts = Mutex::new(Arc::new(Parts { launcher, proxy, clock, vault: None, call_time, result_bytes }));
        Self(Arc::new(Inner { parts, audit, demo, instances: Mutex::default() }))
    }

    /// The same host, with a vault from which credentials come. What runs already keeps what it was started with.
    #[must_use]
    pub fn with_vault(self, vault: Arc<dyn SecretSource>) -> Self {
        {
            let mut parts = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner);
            *parts = Arc::new(Parts { vault: Some(vault), ..(**parts).clone() });
        }
        self
    }

    fn parts(&self) -> Arc<Parts> {
        Arc::clone(&self.0.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts an instance, and returns when its tools can be called. It is then kept running until it is stopped.
    ///
    /// # Errors
    /// [`StartRefused`]; then nothing of it runs.
    pub async fn start(&self, start: Start) -> Result<Instance, StartRefused> {
        let Start { plugin: manifest, workspace, config, secrets, credentials, params, definitions } = start;
        let spec = manifest.state().spec();
        let name = spec.name.clone();
        if name.as_str() == ADVERSARY && !self.0.demo {
            return Err(StartRefused::DemoOnly);
        }
        let mistakes = crate::settings::mistakes(&spec.config_schema, &config, &placeholders(&secrets, &credentials));
        if !mistakes.is_empty() {
            return Err(StartRefused::Config { plugin: name, mistakes });
        }
        let plugin = Plugin { manifest, params, config, secrets, credentials, pinned: definitions };
        self.start_plugin(plugin, workspace).await
    }

    async fn start_plugin(&self, plugin: Plugin, workspace: WorkspaceId) -> Result<Instance, StartRefused> {
        let name = plugin.manifest.state().spec().name.clone();
        let slot = self.reserve((name.clone(), workspace.clone()))?;
        let record = Record {
            audit: self.0.audit.clone(),
            plugin: name.clone(),
            instance: InstanceId::generate(self.parts().clock.now()),
            workspace,
        };
        let instance = match Shared::new(self.parts(), plugin, record) {
            Ok(shared) => Instance::start(shared).await,
            Err(refused) => Err(refused.into()),
        };
        let instance = instance.map_err(|source| StartRefused::Failed { plugin: name, source })?;
        slot.fill(instance.clone());
        Ok(instance)
    }

    fn reserve(&self, key: Key) -> Result<Slot, StartRefused> {
        let mut instances = self.0.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if instances.contains_key(&key) {
            let (plugin, workspace) = key;
            return Err(StartRefused::Runs { plugin, workspace });
        }
        instances.insert(key.clone(), None);
        Ok(Slot { inner: Arc::clone(&self.0), key: Some(key) })
    }

    /// The instance of a plugin for a workspace.
    #[must_use]
    pub fn instance(&self, plugin: &PluginName, workspace: &WorkspaceId) -> Option<Instance> {
        let instances = self.0.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.get(&(plugin.clone(), workspace.clone())).cloned().flatten()
    }

    fn instances(&self) -> Vec<Instance> {
        let instances = self.0.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.values().flatten().cloned().collect()
    }

    /// How all instances are.
    #[must_use]
    pub fn list(&self) -> Vec<Status> {
        self.instances().iter().map(Instance::status).collect()
    }

    /// The tools of a workspace: those of all its instances, for the gate to make doors of.
    #[must_use]
    pub fn tools(&self, workspace: &WorkspaceId) -> Vec<Arc<PluginTool>> {
        let of_workspace = self.instances().into_iter().filter(|instance| instance.workspace() == workspace);
        of_workspace.flat_map(|instance| PluginTool::all(&instance)).map(Arc::new).collect()
    }

    /// Stops an instance and forgets it. Returns whether there was one.
    pub async fn stop(&self, plugin: &PluginName, workspace: &WorkspaceId) -> bool {
        let Some(instance) = self.instance(plugin, workspace) else { return false };
        instance.stop().await;
        let mut instances = self.0.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.remove(&(plugin.clone(), workspace.clone()));
        true
    }

    /// Goes over to another signed policy, which the launcher has already: stops every instance, and starts again those
    /// that the new policy endorses, with the rights that it gives. Returns those that it does not, with the reason.
    ///
    /// The tools of before are dead afterwards: take new ones from [`PluginHost::tools`].
    pub async fn apply_policy(
        &self,
        ceilings: &Ceilings,
        policy: Digest,
    ) -> Vec<(PluginName, WorkspaceId, StartRefused)> {
        let (call_time, result_bytes) = call_limits(ceilings);
        {
            let mut parts = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner);
            *parts = Arc::new(Parts { call_time, result_bytes, ..(**parts).clone() });
        }
        let before = self.instances();
        self.shutdown().await;
        let mut refused = Vec::new();
        for instance in before {
            let (name, workspace) = (instance.plugin().clone(), instance.workspace().clone());
            let started = match instance.shared.plugin.under(ceilings, policy) {
                Ok(plugin) => self.start_plugin(plugin, workspace.clone()).await.map(drop),
                Err(source) => Err(StartRefused::NotEndorsed(source)),
            };
            if let Err(why) = started {
                self.refused(&name, &workspace, &why.code());
                refused.push((name, workspace, why));
            }
        }
        refused
    }

    /// Stops all instances, at the same time.
    pub async fn shutdown(&self) {
        let mut stopping = tokio::task::JoinSet::new();
        for instance in self.instances() {
            stopping.spawn(async move { instance.stop().await });
        }
        while stopping.join_next().await.is_some() {}
        self.0.instances.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Records that a plugin was refused before it came here: an unsigned tree, a manifest with mistakes.
    pub fn refused(&self, plugin: &PluginName, workspace: &WorkspaceId, code: &Code) {
        let instance = InstanceId::generate(self.parts().clock.now());
        let record =
            Record { audit: self.0.audit.clone(), plugin: plugin.clone(), instance, workspace: workspace.clone() };
        record.refusal(record::FAILED, json!({ "code": code }));
    }
}

/// What the signed policy allows one call: time, and bytes of its result.
fn call_limits(ceilings: &Ceilings) -> (Duration, usize) {
    let bytes = usize::try_from(ceilings.budgets.tool_result_bytes).unwrap_or(usize::MAX);
    (Duration::from_secs(ceilings.sandbox.call_seconds), bytes)
}

/// The place of an instance that is being started. Given up when it is dropped unfilled.
struct Slot {
    inner: Arc<Inner>,
    key: Option<Key>,
}

impl Slot {
    fn fill(mut self, instance: Instance) {
        if let Some(key) = self.key.take() {
            let mut instances = self.inner.instances.lock().unwrap_or_else(PoisonError::into_inner);
            instances.insert(key, Some(instance));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.inner.instances.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
    }
}
