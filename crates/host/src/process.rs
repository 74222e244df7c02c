//! One launch: the process in its sandbox, the connection to it, what it prints, and its end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use sigil_audit::AppendFailed;
use sigil_egress::{EgressRule, Identity, ProxyHandle};
use sigil_proto::PROTOCOL;
use sigil_proto::manifest::Transport;
use sigil_proto::v1::InitRequest;
use sigil_sandbox::client::{ExitStatus, LaunchRefused, Launched, Rpc};
use sigil_sandbox::denials::Ledger;
use sigil_sandbox::launcher::wire::LaunchRequest;
use sigil_sandbox::profile::Params;
use sigil_sandbox::report::LayerReport;
use sigil_types::{Code, Digest, LaunchId, Timestamp};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot};

use crate::definitions::{Definitions, DefinitionsRefused, said};
use crate::ended::{Ending, EndingRefused};
use crate::follow;
use crate::instance::Shared;
use crate::logs::LogStream;
use crate::record;
use crate::rpc::{Client, Connection, Dialect, RpcFailed};
use crate::transport::handshake::Handshake;
use crate::transport::{self, ConnectFailed};

/// How long a plugin may take from its launch to its handshake, and for each of the first two calls.
const START: Duration = Duration::from_secs(10);

/// Why a plugin did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFailed {
    /// The audit log cannot be written: nothing starts without it.
    #[error("nothing starts, because the audit log cannot be written: {0}")]
    Audit(#[from] AppendFailed),
    /// The launcher refused.
    #[error(transparent)]
    Launch(#[from] LaunchRefused),
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectFailed),
    /// It does not speak the protocol.
    #[error("the plugin started and then failed at `{step}`: {why}; its log may say more")]
    Speech {
        /// The call.
        step: &'static str,
        /// What happened.
        why: String,
    },
    /// It is another plugin than its manifest says.
    #[error("the plugin calls itself another name or version than its manifest")]
    Identity,
    /// Its tools are not accepted.
    #[error(transparent)]
    Definitions(#[from] DefinitionsRefused),
    /// The egress proxy cannot serve it.
    #[error(transparent)]
    Egress(#[from] sigil_egress::ServeFailed),
    /// What its TLS is to be ended with cannot be made.
    #[error(transparent)]
    Ending(#[from] EndingRefused),
    /// The sandbox is another one than before.
    #[error("the policy changed while the plugin ran; start it again to take its new rights")]
    FactsChanged,
    /// A descriptor cannot be used.
    #[error("a descriptor from the launcher cannot be used: {0}")]
    Descriptor(#[source] io::Error),
}

impl StartFailed {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Audit(error) => error.code(),
            Self::Launch(error) => error.code(),
            Self::Connect(error) => error.code(),
            Self::Speech { .. } => const { Code::new("host.plugin.protocol.bad") },
            Self::Identity => const { Code::new("host.plugin.identity.other") },
            Self::Definitions(error) => error.code(),
            Self::Egress(error) => error.code(),
            Self::Ending(error) => error.code(),
            Self::FactsChanged => const { Code::new("host.plugin.facts.changed") },
            Self::Descriptor(_) => const { Code::new("host.plugin.descriptor.bad") },
        }
    }

    /// Whether starting again could help.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Speech { .. })
    }
}

/// A plugin that runs and speaks.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) client: Client,
    pub(crate) launch: LaunchId,
    pub(crate) receipt: Digest,
    /// The layers that this launch has applied.
    pub(crate) report: LayerReport,
    pub(crate) definitions: Definitions,
    pub(crate) since: Timestamp,
    pub(crate) egress: Option<ProxyHandle>,
    /// Calls that were given up on. The plugin may still be busy with them.
    pub(crate) abandoned: AtomicU32,
    /// Rung when somebody has reason to think that the plugin is not well.
    pub(crate) doubt: Notify,
    _connection: Connection,
}

impl Running {
    /// Notes a call that was given up on, and has the plugin looked at.
    pub(crate) fn abandon(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        self.doubt.notify_one();
    }
}

/// The process's end, as it will be.
#[derive(Debug)]
pub(crate) struct Exit(pipe::Receiver);

impl Exit {
    /// Waits for the end.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let mut status = [0; 4];
        match self.0.read_exact(&mut status).await {
            Ok(_) => ExitStatus::from_wait(i32::from_le_bytes(status)),
            Err(_) => ExitStatus::Killed,
        }
    }
}

fn receiver(fd: OwnedFd) -> Result<pipe::Receiver, StartFailed> {
    pipe::Receiver::from_owned_fd(fd).map_err(StartFailed::Descriptor)
}

/// Launches the plugin and brings it to the point where tools can be called. On failure nothing of it is left.
pub(crate) async fn start(shared: &Arc<Shared>) -> Result<(Running, Exit), StartFailed> {
    let trusted = shared.plugin.manifest.state();
    let tree = trusted.tree();
    shared.record.before(record::STARTING, json!({ "tree": tree, "policy": trusted.policy() })).await?;
    let (launched, exit) = match launch(shared).await {
        Ok(launched) => launched,
        Err(error) => {
            shared.record.refusal(record::FAILED, json!({ "code": error.code(), "tree": tree }));
            return Err(error);
        }
    };
    let id = launched.id;
    shared.record.note(
        record::LAUNCHED,
        json!({ "launch": id, "receipt": launched.receipt.digest(), "tree": tree, "profile": launched.launch.profile, "facts": launched.facts }),
    );
    let mut exit = Exit(exit);
    let outcome = greet(shared, launched).await;
    match &outcome {
        Ok(running) => {
            let tools: Vec<_> = running.definitions.tools.iter().map(|tool| &tool.name).collect();
            let data = json!({ "launch": id, "tools": tools, "definitions": running.definitions.digest });
            shared.record.note(record::READY, data);
        }
        Err(error) => {
            kill(shared, id).await;
            exit.wait().await;
            account(shared, id).await;
            shared.record.note(record::FAILED, json!({ "launch": id, "code": error.code() }));
        }
    }
    outcome.map(|running| (running, exit))
}

/// Has the launcher start the program. Its end is watched from here on: without that, it does not stay.
async fn launch(shared: &Arc<Shared>) -> Result<(Launched, pipe::Receiver), StartFailed> {
    let trusted = shared.plugin.manifest.state();
    let request = LaunchRequest {
        plugin: trusted.spec().name.clone(),
        instance: shared.record.instance,
        workspace: shared.record.workspace.clone(),
        policy: trusted.policy(),
        manifest: trusted.text().to_owned(),
        tree: trusted.tree(),
        params: Params { authority: shared.ending.as_ref().map(Ending::authority), ..shared.plugin.params.clone() },
    };
    let launcher = shared.parts.launcher.clone();
    let asked = tokio::task::spawn_blocking(move || launcher.launch(&request)).await;
    // A task that cannot be joined was cancelled with the runtime.
    let launched = asked.unwrap_or(Err(LaunchRefused::Nonsense))?;
    match launched.exit.try_clone().map_err(StartFailed::Descriptor).and_then(receiver) {
        Ok(exit) => Ok((launched, exit)),
        Err(error) => {
            kill(shared, launched.id).await;
            Err(error)
        }
    }
}

/// Ends a launch and everything that it started.
pub(crate) async fn kill(shared: &Shared, launch: LaunchId) {
    let launcher = shared.parts.launcher.clone();
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || launcher.kill(launch)).await {
        tracing::error!(%launch, %error, "host.kill");
    }
}

/// What the filter of a launch has refused.
pub(crate) async fn denials(shared: &Shared, launch: LaunchId) -> Result<(Ledger, bool), LaunchRefused> {
    let launcher = shared.parts.launcher.clone();
    let asked = tokio::task::spawn_blocking(move || launcher.denials(launch)).await;
    asked.unwrap_or(Err(LaunchRefused::Nonsense))
}

/// Records what a launch was refused, when it is over: one entry, however much it was.
pub(crate) async fn account(shared: &Shared, launch: LaunchId) {
    /// Different calls that the entry names.
    const NAMED: usize = 64;
    match denials(shared, launch).await {
        Ok((ledger, _)) if ledger.is_empty() => {}
        Ok((ledger, _)) => {
            let data = json!({ "launch": launch, "refused": ledger.without_words(NAMED) });
            shared.record.note(record::REFUSED, data);
        }
        Err(error) => tracing::warn!(%launch, %error, "host.denials"),
    }
}

/// Connects, and makes the first calls.
async fn greet(shared: &Arc<Shared>, launched: Launched) -> Result<Running, StartFailed> {
    let Launched { id, rpc, stdout, stderr, egress, egress_rules, receipt, report, facts, .. } = launched;
    let trusted = shared.plugin.manifest.state();
    let spec = trusted.spec();
    let ended = shared.ending.as_ref().map(|ending| ending.for_hosts(egress_rules.ended.clone()));
    let serve = |listener| shared.parts.proxy.serve_ended(listener, identity(shared, egress_rules), ended);
    let egress = egress.map(serve).transpose()?;
    tokio::spawn(follow::pipe(Arc::clone(shared), receiver(stderr)?, LogStream::Stderr, None));
    let (said_first, first_line) = oneshot::channel();
    let app = match &spec.execution.transport {
        Transport::Sdk => None,
        Transport::GoPlugin(go) => Some(go.protocol),
    };
    let first = app.map(|_| said_first);
    tokio::spawn(follow::pipe(Arc::clone(shared), receiver(stdout)?, LogStream::Stdout, first));
    let (stream, dialect) = match (rpc, app) {
        (Rpc::Socket(rpc), None) => (transport::connected(rpc)?, Dialect::Sdk),
        (Rpc::Serves, Some(app)) => {
            let line = tokio::time::timeout(START, first_line).await.map_err(|_| ConnectFailed::Silent(START))?;
            let handshake =
                Handshake::parse(&line.map_err(|_| ConnectFailed::Ended)?, app).map_err(ConnectFailed::from)?;
            (transport::connected(connect(shared, id, handshake).await?)?, Dialect::GoPlugin)
        }
        (Rpc::Socket(_), Some(_)) | (Rpc::Serves, None) => return Err(ConnectFailed::Missing.into()),
    };
    let speech = |step| move |error: RpcFailed| StartFailed::Speech { step, why: error.to_string() };
    let (client, connection) = Client::connect(stream, dialect).await.map_err(speech("connect"))?;
    if dialect == Dialect::GoPlugin {
        // From the beginning: go-plugin keeps no more than a pipe holds, and a plugin that prints more waits for its
        // reader.
        tokio::spawn(follow::stdio(Arc::clone(shared), client.clone()));
    }
    let request = InitRequest {
        protocol: PROTOCOL,
        config_json: shared.plugin.config.to_string(),
        secrets: shared
            .plugin
            .secrets
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().clone()))
            .chain(shared.ending.iter().flat_map(Ending::stand_ins))
            .collect(),
        folders: trusted.folders(&shared.plugin.params),
    };
    let named = client.init(request, START).await.map_err(speech("Init"))?;
    if named.name != spec.name.as_str() || named.version != spec.version.to_string() {
        return Err(StartFailed::Identity);
    }
    let tools = client.describe(START).await.map_err(speech("Describe"))?;
    let definitions = Definitions::check(&spec.name, said(tools))?;
    if let Some(absent) = spec.tools.iter().find(|tool| !definitions.tools.iter().any(|known| known.name == tool.name))
    {
        return Err(DefinitionsRefused::Absent(absent.name.clone()).into());
    }
    shared.pin(&definitions, &facts)?;
    Ok(Running {
        client,
        launch: id,
        receipt: receipt.digest(),
        report,
        definitions,
        since: shared.parts.clock.now(),
        egress,
        abandoned: AtomicU32::new(0),
        doubt: Notify::new(),
        _connection: connection,
    })
}

/// Has the launcher connect to the socket that the plugin named, in the private folder of its launch.
async fn connect(shared: &Shared, launch: LaunchId, handshake: Handshake) -> Result<OwnedFd, ConnectFailed> {
    let launcher = shared.parts.launcher.clone();
    let asked = tokio::task::spawn_blocking(move || launcher.connect(launch, handshake.into_socket())).await;
    Ok(asked.unwrap_or(Err(LaunchRefused::Nonsense))?)
}

/// What the egress proxy knows the instance as.
fn identity(shared: &Shared, rules: sigil_sandbox::profile::Egress) -> Identity {
    let rule = |rule: sigil_policy::HostRule| EgressRule {
        host: rule.host,
        ports: rule.ports.into_iter().collect(),
        opaque: false,
    };
    Identity {
        plugin: shared.record.plugin.clone(),
        instance: shared.record.instance,
        workspace: Some(shared.record.workspace.clone()),
        rules: rules.hosts.into_iter().map(rule).collect(),
        local: rules.local.into_iter().collect(),
        limits: rules.limits,
    }
}
