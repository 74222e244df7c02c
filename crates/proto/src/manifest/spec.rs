//! What a checked manifest says, as types. Every value here has passed its parser; nothing has been granted yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use sigil_types::{
    Authors, CapabilitySet, Effect, FieldName, HostPattern, Name, PluginName, Readers, RequestRule, ToolFacts, ToolName,
};

/// Everything that a plugin says about itself.
///
/// INVARIANT: only [`Manifest::validate`](super::Manifest::validate) makes one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Spec {
    /// Its name, which is also the first part of its tools' names.
    pub name: PluginName,
    /// Its version (semver.org, 2.0.0).
    pub version: semver::Version,
    /// What kind of plugin it is.
    #[serde(rename = "type")]
    pub kind: PluginKind,
    /// The versions of Sigil that it works with.
    pub engine: semver::VersionReq,
    /// Its licence, as an SPDX expression.
    pub license: String,
    /// What it is for, in one line.
    pub description: String,
    /// What it asks for (`capabilities`), less what it gives up for good (`deny_capabilities`).
    pub capabilities: CapabilitySet,
    /// How it runs.
    pub execution: Execution,
    /// Its tools, as far as it says something about them here. A tool that is not named here is described by `Describe` only.
    pub tools: Vec<DeclaredTool>,
    /// The JSON Schema of its configuration.
    pub config_schema: ConfigSchema,
    /// Other plugins that it needs.
    pub dependencies: Vec<Dependency>,
    /// Starting, stopping, swapping.
    pub lifecycle: Lifecycle,
    /// What the host keeps for it.
    pub storage: Storage,
}

/// What kind of plugin it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginKind {
    /// Offers tools to models.
    Tool,
    /// Speaks to a model vendor. Not built yet: refused by validation.
    Provider,
    /// Connects people. Not built yet: refused by validation.
    Channel,
    /// Brings instructions. Not built yet: refused by validation.
    Skill,
}

/// How a plugin runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Execution {
    /// In what kind of box.
    pub tier: Tier,
    /// How the host and the plugin find each other.
    pub transport: Transport,
    /// The program, as a path below the plugin's tree, and its arguments. At least one element.
    pub command: Vec<String>,
    /// The OCI image of the container tier, pinned by digest.
    pub image: Option<String>,
    /// The component of the wasm tier, as a path below the plugin's tree.
    pub module: Option<String>,
    /// What the sandbox is asked for.
    pub sandbox: SandboxSpec,
}

/// In what kind of box a plugin runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// A process of its own in the kernel sandbox.
    Process,
    /// A WebAssembly component. Not built yet: refused by validation.
    Wasm,
    /// A container image in the same sandbox. Not built yet: refused by validation.
    Container,
    /// A server of the Model Context Protocol. Not built yet: refused by validation.
    Mcp,
}

/// How the host and the plugin find each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// gRPC over a socket that the plugin inherits; its number is in `SIGIL_RPC_FD`.
    Sdk,
    /// HashiCorp go-plugin's handshake on standard output, then gRPC over the Unix socket that it names.
    GoPlugin(GoPlugin),
}

/// What go-plugin's handshake needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GoPlugin {
    /// Name of the environment variable that the plugin looks for.
    pub cookie_key: String,
    /// The value that it expects there. It is no secret: it only tells a person who starts the plugin by hand.
    pub cookie_value: String,
    /// The application protocol version that the plugin must announce.
    pub protocol: u16,
}

/// What the sandbox is asked for. The signed policy and the base profile decide what of it is given.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SandboxSpec {
    /// Name of the base profile.
    pub profile: Name,
    /// Files and folders beyond the plugin's own.
    pub filesystem: Vec<FilesystemAsk>,
    /// Hosts that it wants to reach through the egress proxy.
    pub network: Vec<NetworkAsk>,
    /// How much of the network it will use at most.
    pub network_limits: NetworkLimits,
    /// Programs that it wants to execute beside its own.
    pub exec: Vec<ExecAsk>,
    /// Limits that it sets itself.
    pub limits: Limits,
}

/// A wish for a file or folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilesystemAsk {
    /// Which.
    #[serde(flatten)]
    pub target: FilesystemTarget,
    /// For what.
    pub access: Access,
    /// Why, for the person who decides.
    pub reason: String,
}

/// Which file or folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FilesystemTarget {
    /// This absolute path: canonical in form, not `/`, not below `/proc`, `/sys` or `/dev`.
    Path(PathBuf),
    /// The folders that the signed policy lists under this parameter.
    Param(Name),
}

/// What may be done with a file or folder. Ordered: writing includes reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Reading and listing.
    Read,
    /// Reading, listing, creating, changing and deleting.
    Write,
}

/// A wish for hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkAsk {
    /// Which.
    #[serde(flatten)]
    pub target: NetworkTarget,
    /// TCP ports; at least one. With a parameter, what policy grants is narrowed to these.
    pub ports: BTreeSet<u16>,
    /// That Sigil may end the TLS to them, to judge each request; absent: TLS passes as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndedAsk>,
    /// Why, for the person who decides.
    pub reason: String,
}

/// The plugin's consent to have its TLS ended, and what it says its requests will be. Without signed policy that says the
/// same it has no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndedAsk {
    /// All requests that it will make. None: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestRule>,
    /// Header fields that are to be taken out of its requests.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub strip_headers: BTreeSet<FieldName>,
    /// Header fields that are to be put into its requests.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set_headers: BTreeMap<FieldName, String>,
}

/// Which hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkTarget {
    /// These.
    Host(HostPattern),
    /// The hosts that the signed policy grants to this plugin, whichever they are. The name is for people.
    Param(Name),
}

/// A wish to execute a program beside the plugin's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExecAsk {
    /// The program: an absolute path, or a path below the plugin's tree.
    pub path: PathBuf,
    /// Why, for the person who decides.
    pub reason: String,
}

/// Limits that a plugin sets itself; none means the ceiling of the signed policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processor time in thousandths of one core.
    pub cpu_milli: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Open files.
    pub files: Option<u32>,
    /// Bytes in its private scratch folder.
    pub scratch: Option<u64>,
    /// How long an instance may live.
    pub wall_clock: Option<Duration>,
}

/// How much of the network a plugin will use at most; none means the ceiling of the signed policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NetworkLimits {
    /// Connections at the same time.
    pub connections: Option<u32>,
    /// Connections in a second.
    pub connections_per_second: Option<u32>,
    /// Bytes from the plugin in one connection.
    pub up: Option<u64>,
    /// Bytes to the plugin in one connection.
    pub down: Option<u64>,
    /// Bytes from the plugin in a day.
    pub up_per_day: Option<u64>,
    /// Bytes to the plugin in a day.
    pub down_per_day: Option<u64>,
    /// Bytes in a second, in each direction.
    pub per_second: Option<u64>,
    /// How long a connection may be without a byte. Whole seconds.
    pub idle: Option<Duration>,
    /// How long a connection may last. Whole seconds.
    pub total: Option<Duration>,
}

/// What a manifest says about one tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeclaredTool {
    /// Its full name.
    pub name: ToolName,
    /// Facts that are stricter than what the sandbox enforces.
    pub facts: DeclaredFacts,
    /// How long one call may take.
    pub timeout: Option<Duration>,
    /// The largest result in bytes.
    pub max_result: Option<u64>,
}

/// Facts of a tool as its manifest states them.
///
/// They can only make the enforced facts stricter: see [`DeclaredFacts::tighten`]. Looser ones need signed policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeclaredFacts {
    /// Whose words its results may contain, beside those that the profile implies.
    pub sources: Authors,
    /// Who may read what it can read, at most.
    pub reads: Option<Readers>,
    /// What a call can change, at least.
    pub effect: Option<Effect>,
}

impl DeclaredFacts {
    /// The facts of the tool: what the sandbox enforces, made stricter by what the manifest states.
    #[must_use]
    pub fn tighten(&self, enforced: &ToolFacts) -> ToolFacts {
        ToolFacts {
            sources: enforced.sources.union(&self.sources),
            reads: self
                .reads
                .as_ref()
                .map_or_else(|| enforced.reads.clone(), |reads| enforced.reads.intersection(reads)),
            effect: self.effect.map_or(enforced.effect, |effect| effect.max(enforced.effect)),
            audience: enforced.audience.clone(),
        }
    }
}

/// The JSON Schema of a plugin's configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ConfigSchema(pub(super) serde_json::Value);

impl ConfigSchema {
    /// The schema, as JSON Schema. A property with `secret: true` is handed over apart from the rest.
    #[must_use]
    pub const fn schema(&self) -> &serde_json::Value {
        &self.0
    }

    /// Names of the top-level properties that are secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let properties = self.0.get("properties").and_then(serde_json::Value::as_object);
        properties.into_iter().flatten().filter(|(_, schema)| is_secret(schema)).map(|(name, _)| name.as_str())
    }
}

pub(super) fn is_secret(schema: &serde_json::Value) -> bool {
    schema.get("secret").and_then(serde_json::Value::as_bool) == Some(true)
}

/// Another plugin that is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// Which.
    pub name: PluginName,
    /// In which versions.
    pub version: semver::VersionReq,
}

/// Starting, stopping, swapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Lifecycle {
    /// Whether a new version may replace a running one.
    pub hot_reload: bool,
    /// How long it may take to end after being asked to.
    pub graceful_shutdown_timeout: Duration,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { hot_reload: false, graceful_shutdown_timeout: Duration::from_secs(5) }
    }
}

/// What the host keeps for a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Storage {
    /// Whether it uses the key-value store. Not built yet: refused by validation.
    pub kv: bool,
    /// The most bytes in it.
    pub quota: Option<u64>,
}
