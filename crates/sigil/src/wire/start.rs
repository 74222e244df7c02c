//! From settings to a running gateway.
//!
//! Policy, audit log and store are not optional: without them nothing starts. A provider or plugin that cannot start is
//! named and left out, and the rest starts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;
use sigil_agent::{Agent, AgentParts, AgentSettings, Approvals, Hub, ModelRoute, TokenBudget};
use sigil_audit::{AuditLog, Entry};
use sigil_config::{ProviderKind, ProviderSettings, Resolved};
use sigil_egress::ended::SecretSource;
use sigil_egress::{ClientLimits, HostRights, HttpClient, Proxy, ProxyLimits, Roots, Surroundings, SystemResolver};
use sigil_gate::port::Provider;
use sigil_gate::{Door, Gate, GateParts, ToChannel, ToProvider};
use sigil_host::{HostParts, PluginHost, PluginStore, Start};
use sigil_policy::{Bundle, TrustStore, Verified};
use sigil_provider::{Health, HttpProvider, HttpProviderSettings, Rehearsal, wire::Wire};
use sigil_sandbox::launcher::Launcher;
use sigil_scan::Scanner;
use sigil_server::Server;
use sigil_store::sqlite::{SqliteGateway, SqliteSessions};
use sigil_store::{GatewayStore, UserRecord, WorkspaceRecord};
use sigil_types::{CapabilitySet, ChannelRef, Clock, Code, Principal, ProviderName, Role, SystemClock, WorkspaceId};
use tokio::sync::watch;

use super::gateway::{Gateway, Missing, Room};
use super::opened::{Opened, ProviderEndpoint};
use super::operations::Wired;
use super::room::RoomWorkspace;
use super::secrets;

/// The highest policy version that this gateway has run under.
const POLICY_FLOOR: &str = "policy.floor";
/// The name of the channel behind `sigil chat` and the API.
const LOCAL_CHANNEL: &str = "local";

/// A gateway that serves.
pub(crate) struct Running {
    pub(crate) gateway: Arc<Gateway>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    stop: watch::Sender<bool>,
    /// Dropped last: with it everything ends that it has started.
    _launcher: Launcher,
    /// Where TCP listens.
    pub(crate) address: Option<std::net::SocketAddr>,
}

impl Running {
    /// Waits until the server ends by itself, which it does only when it cannot go on.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        (&mut self.server).await.context("the server's task was lost")?.context("the server stopped")
    }

    /// Stops in order: no new messages, turns end, requests end, plugins stop.
    pub(crate) async fn shut_down(self) -> anyhow::Result<()> {
        let patience = Duration::from_secs(30);
        let drained = async {
            for room in self.gateway.rooms.values() {
                room.agent.drain().await;
            }
        };
        if tokio::time::timeout(patience, drained).await.is_err() {
            tracing::warn!("turns still run after {patience:?}; they go on at the next start");
        }
        self.stop.send_replace(true);
        let served = self.server.await.context("the server's task was lost")?;
        self.gateway.host.shutdown().await;
        let entry = Entry::new(Code::new("gateway.stopped"), "sigil");
        self.gateway.audit.append(entry).await.context("the stop was not recorded")?;
        let audit = self.gateway.audit.clone();
        let _signed = tokio::task::spawn_blocking(move || audit.sign_head()).await;
        served.context("the server stopped")
    }
}

/// The signed policy, verified and accepted by the launcher too.
struct SignedPolicy {
    bundle: Bundle<Verified>,
    policy: Arc<sigil_policy::Policy>,
}

/// Puts everything together and serves.
pub(crate) async fn start(opened: Opened, demo: bool) -> anyhow::Result<Running> {
    let Opened { resolved, launcher, listeners, trust, envelope, mut endpoints, credentials, confined } = opened;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let folders = resolved.folders.clone();
    let client = launcher.client();
    let store: Arc<dyn GatewayStore> = Arc::new(SqliteGateway::open(&folders.data)?);
    let audit = AuditLog::open(&folders.audit_db(), Arc::new(client.clone()), Arc::clone(&clock))?;
    let bundle = accept_policy(&trust, envelope, &*store, &client).await?;
    let (signed, scanner) = compile(bundle).await?;
    let ceilings = Arc::new(signed.bundle.ceilings().clone());

    let budget = Arc::new(TokenBudget::new(ceilings.budgets, Arc::clone(&clock)));
    let gate = Gate::new(GateParts {
        scanner,
        policy: Arc::clone(&signed.policy),
        audit: audit.clone(),
        budget,
        clock: Arc::clone(&clock),
        text_key: secrets::text_key(&folders.data)?,
    });

    let surroundings = Surroundings::default();
    if let Some(address) = listeners.address() {
        surroundings.add_listener(address);
    }
    let http = HttpClient::new(
        Arc::new(SystemResolver),
        surroundings.clone(),
        Roots::default(),
        ClientLimits::default(),
        HostRights::of(&ceilings),
    );
    let mut missing = Vec::new();
    let proxy = Proxy::new(audit.clone(), Arc::new(SystemResolver), surroundings, ProxyLimits::default());
    let (audit_of_host, clock_of_host) = (audit.clone(), Arc::clone(&clock));
    let parts =
        HostParts { launcher: client.clone(), proxy, audit: audit_of_host, clock: clock_of_host, ceilings, demo };
    let host = plugin_host(parts, credentials, &mut missing);
    let health = Arc::new(Health::new(Arc::clone(&clock)));
    let routes = provider_routes(&resolved, &mut endpoints, (&gate, &http, demo), &mut missing);
    let (hub, approvals) = (Hub::default(), Approvals::default());
    let channel = ChannelRef(LOCAL_CHANNEL.parse().context("the local channel's name")?);
    let door = gate.channel_door(channel.clone(), Arc::new(hub.clone()));
    let parts = Shared { gate: &gate, hub: &hub, approvals: &approvals, clock: &clock, health: &health };
    people(&resolved, &*store, &*clock).await?;
    let rooms = open_rooms(&resolved, &parts, &routes, (&channel, &door))?;
    start_plugins(&resolved, &signed, &host, &gate, &rooms, &mut missing).await;

    let sandbox = client.status()?.host;
    let gateway = Arc::new(Gateway {
        started: clock.now(),
        bundle: signed.bundle,
        gate,
        audit,
        hub,
        approvals,
        host,
        launcher: client,
        sandbox,
        confined,
        health,
        channel,
        rooms,
        missing,
        resolved,
    });
    announce(&gateway).await?;
    let (stop, stopped) = watch::channel(false);
    let address = listeners.address();
    let operations = Arc::new(Wired(Arc::clone(&gateway)));
    let server = Server::new(server_settings(&gateway.resolved)?, operations, store, clock)?;
    let server = tokio::spawn(server.run(listeners, async move {
        let mut stopped = stopped;
        let _ended = stopped.wait_for(|stop| *stop).await;
    }));
    Ok(Running { gateway, server, stop, _launcher: launcher, address })
}

/// The host of plugins, with the vault that their credentials come from, if any has some.
fn plugin_host(
    parts: HostParts,
    credentials: Option<anyhow::Result<Arc<dyn SecretSource>>>,
    missing: &mut Vec<Missing>,
) -> PluginHost {
    let host = PluginHost::new(parts);
    match credentials {
        None => host,
        Some(Ok(vault)) => host.with_vault(vault),
        Some(Err(error)) => {
            missing.push(Missing { what: "credentials of plugins".to_owned(), why: format!("{error:#}") });
            host
        }
    }
}

/// What every workspace shares.
struct Shared<'a> {
    gate: &'a Gate,
    hub: &'a Hub,
    approvals: &'a Approvals,
    clock: &'a Arc<dyn Clock>,
    health: &'a Arc<Health>,
}

/// Verifies the policy, and has the launcher accept it too.
async fn accept_policy(
    trust: &TrustStore,
    envelope: Vec<u8>,
    store: &dyn GatewayStore,
    launcher: &sigil_sandbox::client::LauncherClient,
) -> anyhow::Result<Bundle<Verified>> {
    let floor = store.setting(POLICY_FLOOR.to_owned()).await?.and_then(|value| value.as_u64()).unwrap_or(0);
    let bundle = Bundle::parse(&envelope)?.verify(trust, SystemClock.now(), floor)?;
    // The launcher verifies by itself, with keys that it read before the gateway read anything.
    let text = String::from_utf8(envelope).context("the policy envelope is not text")?;
    let (version, digest) = launcher.set_policy(&text)?;
    if version != bundle.version() || digest != bundle.digest() {
        bail!("the launcher and the gateway read different policies; nothing starts");
    }
    store.put_setting(POLICY_FLOOR.to_owned(), Some(json!(bundle.version()))).await?;
    Ok(bundle)
}

/// Compiles the policy and loads the scanner's rules: the two that take longest at a start, side by side.
async fn compile(bundle: Bundle<Verified>) -> anyhow::Result<(SignedPolicy, Scanner)> {
    let packs: Vec<String> = bundle.scanner_packs().map(str::to_owned).collect();
    let scanner = tokio::task::spawn_blocking(move || {
        let packs: Vec<&str> = packs.iter().map(String::as_str).collect();
        Scanner::from_packs(&packs)
    });
    let policy = Arc::new(bundle.compile()?);
    let scanner = scanner.await.context("the scanner's task was lost")?;
    let scanner = scanner.context("the signed policy's scanner rules cannot be used")?;
    Ok((SignedPolicy { bundle, policy }, scanner))
}

/// The doors to all models, in the order of the configuration.
fn provider_routes(
    resolved: &Resolved,
    endpoints: &mut BTreeMap<ProviderName, anyhow::Result<ProviderEndpoint>>,
    (gate, http, demo): (&Gate, &HttpClient, bool),
    missing: &mut Vec<Missing>,
) -> Vec<(ProviderName, String, Door<ToProvider>)> {
    let mut routes = Vec::new();
    for settings in &resolved.settings.providers {
        match provider(settings, endpoints.remove(&settings.name), http, demo) {
            Ok(port) => {
                let door = gate.provider_door(port);
                let models = settings.models.iter();
                routes.extend(models.map(|model| (settings.name.clone(), model.clone(), door.clone())));
            }
            Err(error) => {
                missing.push(Missing { what: format!("provider {}", settings.name), why: format!("{error:#}") });
            }
        }
    }
    routes
}

fn provider(
    settings: &ProviderSettings,
    endpoint: Option<anyhow::Result<ProviderEndpoint>>,
    http: &HttpClient,
    demo: bool,
) -> anyhow::Result<Arc<dyn Provider>> {
    let first_event = Duration::from_millis(settings.first_event_timeout_ms);
    let Some(endpoint) = endpoint else {
        return Ok(Arc::new(Rehearsal::new(settings.name.clone(), first_event, demo)?));
    };
    let ProviderEndpoint { base_url, key } = endpoint?;
    let wire = match settings.kind {
        ProviderKind::Anthropic => Wire::Anthropic,
        ProviderKind::Openai | ProviderKind::Rehearsal => Wire::openai_at(base_url.endpoint()),
    };
    let settings =
        HttpProviderSettings { name: settings.name.clone(), wire, base_url, key, first_event, idle: first_event };
    Ok(Arc::new(HttpProvider::new(http.clone(), settings)))
}

/// The owner and the workspaces stand in the store, so that tokens and memberships can name them.
async fn people(resolved: &Resolved, store: &dyn GatewayStore, clock: &dyn Clock) -> anyhow::Result<()> {
    let owner = &resolved.settings.gateway.owner;
    if store.user(owner.clone()).await?.is_none() {
        let display_name = owner.to_string();
        let record =
            UserRecord { id: owner.clone(), display_name, role: Role::Owner, created: clock.now(), disabled: None };
        store.put_user(record).await?;
    }
    let known = store.workspaces().await?;
    for id in resolved.settings.workspaces.keys().filter(|id| !known.iter().any(|record| record.id == **id)) {
        store.put_workspace(WorkspaceRecord { id: id.clone(), title: id.to_string(), created: clock.now() }).await?;
    }
    Ok(())
}

fn open_rooms(
    resolved: &Resolved,
    parts: &Shared<'_>,
    routes: &[(ProviderName, String, Door<ToProvider>)],
    channel: (&ChannelRef, &Door<ToChannel>),
) -> anyhow::Result<BTreeMap<WorkspaceId, Room>> {
    let settings = &resolved.settings;
    let mut rooms = BTreeMap::new();
    for (id, workspace) in &settings.workspaces {
        let wanted = |name: &ProviderName, model: &String| {
            workspace.provider.as_ref().is_none_or(|only| only == name)
                && workspace.model.as_ref().is_none_or(|only| only == model)
        };
        let routes = routes.iter().filter(|(name, model, _)| wanted(name, model)).map(|(name, model, door)| {
            let max_tokens = Some(settings.agent.max_output_tokens);
            (name.clone(), ModelRoute { door: door.clone(), model: model.clone(), temperature: None, max_tokens })
        });
        let room = Arc::new(RoomWorkspace {
            id: id.clone(),
            members: workspace.members.iter().cloned().collect(),
            grants: grants(&workspace.capabilities),
            routes: routes.collect(),
            health: Arc::clone(parts.health),
            channel: (channel.0.clone(), channel.1.clone()),
            tools: std::sync::RwLock::default(),
        });
        let agent = Agent::new(AgentParts {
            gate: parts.gate.clone(),
            store: Arc::new(SqliteSessions::open(&resolved.folders.data, id)?),
            workspace: Arc::clone(&room) as Arc<dyn sigil_agent::Workspace>,
            hub: parts.hub.clone(),
            approvals: parts.approvals.clone(),
            settings: AgentSettings {
                window: settings.agent.window,
                tool_rounds: usize::try_from(settings.agent.tool_iterations).unwrap_or(0),
                ..AgentSettings::default()
            },
            clock: Arc::clone(parts.clock),
        });
        rooms.insert(id.clone(), Room { id: id.clone(), workspace: room, agent });
    }
    if rooms.is_empty() {
        bail!("no workspace is configured; `sigil init` makes one, or add `workspaces: {{home: {{…}}}}` to sigil.yaml");
    }
    Ok(rooms)
}

/// A workspace grants what it lists; models and the local channel are part of having one at all.
fn grants(listed: &CapabilitySet) -> CapabilitySet {
    let mut grants = listed.clone();
    for always in ["provider.*", "channel.*"] {
        if let Ok(pattern) = always.parse() {
            grants.allow.insert(pattern);
        }
    }
    grants
}

/// Installs and starts the enabled plugins that signed policy endorses; names the others.
async fn start_plugins(
    resolved: &Resolved,
    signed: &SignedPolicy,
    host: &PluginHost,
    gate: &Gate,
    rooms: &BTreeMap<WorkspaceId, Room>,
    missing: &mut Vec<Missing>,
) {
    let settings = &resolved.settings.plugins;
    if settings.enabled.is_empty() {
        return;
    }
    let installed = match installed_plugins(resolved, signed) {
        Ok(installed) => installed,
        Err(error) => {
            missing.push(Missing { what: "plugins".to_owned(), why: format!("{error:#}") });
            return;
        }
    };
    for name in &settings.enabled {
        let named = |why: String| Missing { what: format!("plugin {name}"), why };
        let Some(plugin) = installed.get(name) else {
            let why = "no installed version of it is endorsed by the signed policy; `sigil plugin install` and \
                       `sigil plugin list` show what is there";
            missing.push(named(why.to_owned()));
            continue;
        };
        let own = settings.settings.get(name).cloned().unwrap_or_default();
        for room in rooms.values().filter(|room| own.workspaces.is_empty() || own.workspaces.contains(&room.id)) {
            let ceilings = signed.bundle.ceilings();
            let started = match sigil_host::endorse(plugin.clone(), ceilings, signed.bundle.digest()) {
                Err(refused) => Err(anyhow::Error::new(refused)),
                Ok(trusted) => {
                    let config = serde_json::Value::Object(own.config.clone().into_iter().collect());
                    let credentials = own.credentials.clone();
                    let start = Start { config, credentials, ..Start::new(trusted, room.id.clone()) };
                    host.start(start).await.map_err(anyhow::Error::new)
                }
            };
            if let Err(error) = started {
                missing.push(named(format!("{error:#}")));
            }
        }
    }
    for room in rooms.values() {
        let doors = host.tools(&room.id).into_iter().map(|tool| gate.tool_door(tool)).collect();
        room.workspace.set_tools(doors);
    }
}

/// The newest installed version of each plugin that the signed policy endorses.
fn installed_plugins(
    resolved: &Resolved,
    signed: &SignedPolicy,
) -> anyhow::Result<BTreeMap<sigil_types::PluginName, sigil_host::Installed>> {
    let store = PluginStore::open(resolved.folders.plugins())?;
    let grants = &signed.bundle.ceilings().plugins;
    let mut newest: BTreeMap<_, sigil_host::Installed> = BTreeMap::new();
    for installed in store.list()? {
        let Ok(installed) = installed else { continue };
        let endorsed = grants.get(installed.name()).is_some_and(|grant| grant.trees.contains(&installed.tree));
        if !endorsed {
            continue;
        }
        let version = |one: &sigil_host::Installed| one.manifest.spec().version.clone();
        let newer = newest.get(installed.name()).is_none_or(|known| version(known) < version(&installed));
        if newer {
            newest.insert(installed.name().clone(), installed);
        }
    }
    Ok(newest)
}

fn server_settings(resolved: &Resolved) -> anyhow::Result<sigil_server::Settings> {
    let gateway = &resolved.settings.gateway;
    let hosts = gateway.hosts.iter().map(|host| host.parse()).collect::<Result<_, _>>();
    let limits = &gateway.limits;
    Ok(sigil_server::Settings {
        owner: gateway.owner.clone(),
        hosts: hosts.context("gateway.hosts")?,
        limits: sigil_server::Limits {
            body_bytes: limits.body_bytes,
            header_timeout: Duration::from_millis(limits.header_timeout_ms),
            body_timeout: Duration::from_millis(limits.body_timeout_ms),
            write_timeout: Duration::from_millis(limits.write_timeout_ms),
            connections: limits.connections,
            streams_per_principal: limits.streams_per_principal,
            ..sigil_server::Limits::default()
        },
    })
}

/// Writes the start down, and deals with what a crash left.
async fn announce(gateway: &Gateway) -> anyhow::Result<()> {
    let missing: Vec<_> = gateway.missing.iter().map(|part| part.what.clone()).collect();
    let data = json!({
        "version": env!("CARGO_PKG_VERSION"), "policy": gateway.bundle.digest(),
        "policy_version": gateway.bundle.version(), "missing": missing, "confined": gateway.confined.report(),
    });
    let entry = Entry::new(Code::new("gateway.started"), "sigil").data(data);
    gateway.audit.append(entry).await.context("the start was not recorded, so nothing starts")?;
    for part in &gateway.missing {
        tracing::warn!(part = %part.what, "{} does not run: {}", part.what, part.why);
    }
    for room in gateway.rooms.values() {
        let recovered = room.agent.recover().await?;
        if recovered != sigil_agent::Recovered::default() {
            tracing::info!(workspace = %room.id, resumed = recovered.resumed, interrupted = recovered.interrupted,
                "took up what the last run left");
        }
    }
    Ok(())
}

/// The owner, as whom the local commands act.
pub(crate) fn owner(resolved: &Resolved) -> Principal {
    Principal { user: resolved.settings.gateway.owner.clone(), role: Role::Owner }
}
