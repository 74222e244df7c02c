//! One plugin instance: a plugin in a workspace, through all its launches.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use sigil_egress::ended::SecretSource;
use sigil_egress::{Proxy, ProxyStats};
use sigil_policy::Ceilings;
use sigil_proto::manifest::Manifest;
use sigil_sandbox::client::{LaunchRefused, LauncherClient};
use sigil_sandbox::denials::Ledger;
use sigil_sandbox::profile::Params;
use sigil_sandbox::report::LayerReport;
use sigil_types::{
    Clock, Digest, InstanceId, LaunchId, Name, PluginName, Secret, Timestamp, ToolFacts, ToolName, WorkspaceId,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::definitions::{Definitions, DefinitionsRefused};
use crate::ended::{Ending, EndingRefused};
use crate::keeper::{Keeper, Order, Phase};
use crate::logs::Logs;
use crate::process::{self, Running, StartFailed};
use crate::record::Record;
use crate::trusted::{NotEndorsed, Trusted, endorse_again};

/// What instances share.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) launcher: LauncherClient,
    pub(crate) proxy: Proxy,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where credentials are whose stand-ins plugins get.
    pub(crate) vault: Option<Arc<dyn SecretSource>>,
    /// Ceilings of the signed policy for one call.
    pub(crate) call_time: Duration,
    pub(crate) result_bytes: usize,
}

/// What an instance is started with.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) manifest: Manifest<Trusted>,
    pub(crate) params: Params,
    pub(crate) config: serde_json::Value,
    pub(crate) secrets: BTreeMap<String, Secret<String>>,
    /// Properties that get a stand-in, and the vault's secrets that these stand for.
    pub(crate) credentials: BTreeMap<String, Name>,
    pub(crate) pinned: Option<Digest>,
}

impl Plugin {
    /// The same under another policy, if that one endorses it.
    pub(crate) fn under(&self, ceilings: &Ceilings, policy: Digest) -> Result<Self, NotEndorsed> {
        let Self { manifest, params, config, secrets, credentials, pinned } = self;
        let manifest = endorse_again(manifest, ceilings, policy)?;
        let (params, config, secrets) = (params.clone(), config.clone(), secrets.clone());
        Ok(Self { manifest, params, config, secrets, credentials: credentials.clone(), pinned: *pinned })
    }
}

/// What everybody who has to do with an instance shares.
pub(crate) struct Shared {
    pub(crate) parts: Arc<Parts>,
    pub(crate) plugin: Plugin,
    /// What its TLS is ended with, if it is.
    pub(crate) ending: Option<Ending>,
    pub(crate) record: Record,
    pub(crate) logs: Logs,
    state: watch::Sender<State>,
    /// What was said and enforced at the first start. A later launch must be the same.
    first: OnceLock<(Definitions, ToolFacts)>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Shared {
    /// # Errors
    /// When what its TLS is to be ended with cannot be made.
    pub(crate) fn new(parts: Arc<Parts>, plugin: Plugin, record: Record) -> Result<Self, EndingRefused> {
        let state = watch::Sender::new(State::Starting);
        let ending = Ending::of(plugin.manifest.state(), &plugin.credentials, parts.vault.as_ref())?;
        Ok(Self { parts, plugin, ending, record, logs: Logs::default(), state, first: OnceLock::new() })
    }

    /// Goes over to another state, which whoever waits for one sees.
    pub(crate) fn enter(&self, state: State) {
        self.state.send_replace(state);
    }

    /// Compares with what was agreed to, or else with the first start.
    pub(crate) fn pin(&self, definitions: &Definitions, facts: &ToolFacts) -> Result<(), StartFailed> {
        let now = definitions.digest;
        let (known, enforced) = self.first.get_or_init(|| (definitions.clone(), facts.clone()));
        let pinned = self.plugin.pinned.unwrap_or(known.digest);
        if pinned != now {
            return Err(DefinitionsRefused::Changed { pinned, now }.into());
        }
        if enforced == facts { Ok(()) } else { Err(StartFailed::FactsChanged) }
    }

    /// The running plugin. Waits for one that is being started, until `deadline`.
    pub(crate) async fn running(&self, deadline: Instant) -> Result<Arc<Running>, NotRunning> {
        let mut states = self.state.subscribe();
        let settled = states.wait_for(|state| !matches!(state, State::Starting | State::Waiting));
        match tokio::time::timeout_at(deadline.into(), settled).await {
            Ok(Ok(state)) => match &*state {
                State::Running(running) => Ok(Arc::clone(running)),
                State::Stopped(why) => Err(NotRunning::Stopped(*why)),
                State::Starting | State::Waiting => Err(NotRunning::Starting),
            },
            Ok(Err(_)) | Err(_) => Err(NotRunning::Starting),
        }
    }
}

/// Why nothing can be called just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRunning {
    Starting,
    Stopped(StopReason),
}

/// Where an instance is in its life.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Starting,
    Running(Arc<Running>),
    Waiting,
    Stopped(StopReason),
}

/// Why an instance does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Somebody wanted it so.
    Ordered,
    /// It ended too often.
    CrashLoop,
    /// A new launch was refused, or what it says of itself has changed: the owner has to look.
    Refused,
}

/// A running plugin instance.
#[derive(Clone, Debug)]
pub struct Instance {
    pub(crate) shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

/// How an instance is.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Which plugin.
    pub plugin: PluginName,
    /// In which version.
    pub version: String,
    /// For which workspace.
    pub workspace: WorkspaceId,
    /// The instance.
    pub instance: InstanceId,
    /// `starting`, `running`, `waiting` (to be started again) or `stopped`.
    pub state: &'static str,
    /// Why it is stopped, if it is.
    pub stopped: Option<StopReason>,
    /// Since when it runs, if it does.
    pub since: Option<Timestamp>,
    /// The digest of its tree.
    pub tree: Digest,
    /// The digest of what it says about its tools.
    pub definitions: Option<Digest>,
    /// Its tools.
    pub tools: Vec<ToolName>,
    /// Its present launch.
    pub launch: Option<LaunchId>,
    /// The digest of the launch receipt.
    pub receipt: Option<Digest>,
    /// Connections and bytes through its egress proxy: accepted, refused, up, down.
    pub egress: Option<[u64; 4]>,
}

impl Instance {
    /// Starts an instance, and the task that watches over it.
    pub(crate) async fn start(shared: Shared) -> Result<Self, StartFailed> {
        let shared = Arc::new(shared);
        let (running, exit) = process::start(&shared).await?;
        let (orders, inbox) = mpsc::channel(4);
        let running = Arc::new(running);
        shared.enter(State::Running(Arc::clone(&running)));
        tokio::spawn(Keeper::new(Arc::clone(&shared), inbox).keep(Phase::Runs(running, exit)));
        Ok(Self { shared, orders })
    }

    /// The plugin.
    #[must_use]
    pub fn plugin(&self) -> &PluginName {
        &self.shared.record.plugin
    }

    /// The workspace.
    #[must_use]
    pub fn workspace(&self) -> &WorkspaceId {
        &self.shared.record.workspace
    }

    /// The layers that its present launch has applied; none while it does not run.
    #[must_use]
    pub fn report(&self) -> Option<LayerReport> {
        match &*self.shared.state.borrow() {
            State::Running(running) => Some(running.report.clone()),
            State::Starting | State::Waiting | State::Stopped(_) => None,
        }
    }

    /// What its present launch was refused, and whether files are among it; nothing while it does not run. What former launches
    /// were refused stands in the audit log.
    ///
    /// # Errors
    /// When nothing is recorded on this machine, or the launcher cannot be reached.
    pub async fn denials(&self) -> Result<(Ledger, bool), LaunchRefused> {
        let launch = match &*self.shared.state.borrow() {
            State::Running(running) => Some(running.launch),
            State::Starting | State::Waiting | State::Stopped(_) => None,
        };
        match launch {
            Some(launch) => process::denials(&self.shared, launch).await,
            None => Ok((Ledger::default(), true)),
        }
    }

    /// The base profile of its manifest.
    #[must_use]
    pub fn base_profile(&self) -> &str {
        self.shared.plugin.manifest.state().spec().execution.sandbox.profile.as_str()
    }

    /// What it has printed of late.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.shared.logs
    }

    /// Stops it: asks, waits as long as its manifest says, and kills. Returns when it has ended.
    pub async fn stop(&self) {
        self.order(Order::Stop).await;
    }

    /// Stops and starts it, also out of a crash loop. Returns when it has been tried.
    pub async fn restart(&self) {
        self.order(Order::Restart).await;
    }

    async fn order(&self, order: fn(oneshot::Sender<()>) -> Order) {
        let (done, heard) = oneshot::channel();
        // A keeper that is gone has stopped the instance.
        if self.orders.send(order(done)).await.is_ok() {
            let _ = heard.await;
        }
    }

    /// What was said about its tools, and what the sandbox enforces.
    pub(crate) fn agreed(&self) -> Option<&(Definitions, ToolFacts)> {
        self.shared.first.get()
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        let Shared { plugin, record, .. } = &*self.shared;
        let trusted = plugin.manifest.state();
        let state = self.shared.state.borrow().clone();
        let running = match &state {
            State::Running(running) => Some(running),
            _ => None,
        };
        let (word, stopped) = match &state {
            State::Starting => ("starting", None),
            State::Running(_) => ("running", None),
            State::Waiting => ("waiting", None),
            State::Stopped(why) => ("stopped", Some(*why)),
        };
        let agreed = self.agreed();
        let stats = |ProxyStats { accepted, refused, up, down }| [accepted, refused, up, down];
        Status {
            plugin: record.plugin.clone(),
            version: trusted.spec().version.to_string(),
            workspace: record.workspace.clone(),
            instance: record.instance,
            state: word,
            stopped,
            since: running.map(|running| running.since),
            tree: trusted.tree(),
            definitions: agreed.map(|(definitions, _)| definitions.digest),
            tools: agreed
                .map(|(said, _)| said.tools.iter().map(|tool| tool.name.clone()).collect())
                .unwrap_or_default(),
            launch: running.map(|running| running.launch),
            receipt: running.map(|running| running.receipt),
            egress: running.and_then(|running| running.egress.as_ref()).map(|egress| stats(egress.stats())),
        }
    }
}
