//! The compiler: manifest ∩ base profile ∩ signed ceilings → [`Profile`], its explanation, and the facts of its tools.
//!
//! The launcher calls it with what it verified itself; nothing in it touches the system. Each input can only take away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sigil_policy::{Ceilings, HostRule, NetworkLimits};
use sigil_proto::manifest::{Spec, Transport};
use sigil_types::{Digest, EndedHost, Name, PluginName, ToolFacts};

use super::base::{BaseProfile, BaseTmpfs, Feature};
use super::ended::Authority;
use super::explain::{Explanation, RuleKind, Source};
use super::grants::{self, Granted};
use super::never::{GUARDED, NeverGrant};
use super::posture::floor;
use super::refused::CompileRefused;
use super::{
    Access, Bind, Exec, Identity, Layer, LinkRule, Network, Posture, Profile, Right, Tmpfs, ended, facts, limits, pins,
    proxy, reduced,
};
use crate::host::Reached;

/// Where a plugin's tree is mounted.
pub const TREE: &str = "/plugin";

/// The port of the egress proxy on the program's own loopback.
pub const PROXY_PORT: u16 = 3128;

/// What the launcher knows of the machine and of this launch, by itself and not from the gateway.
#[derive(Clone, Debug)]
pub struct Site {
    /// The plugin's file tree in Sigil's store.
    pub tree: PathBuf,
    /// The digest of that tree, which was just computed.
    pub tree_digest: Digest,
    /// The places of this machine that are never granted.
    pub never: NeverGrant,
    /// The user id outside, under root. Never 0.
    pub host_uid: u32,
    /// The group id outside, under root. Never 0.
    pub host_gid: u32,
    /// The folder of this launch on the host: where a go-plugin program makes its socket, and, in posture `reduced`, where
    /// any program has its temporary files; `None` for others.
    pub private: Option<PathBuf>,
    /// The strongest posture that this host gives.
    pub reached: Reached,
}

/// What the gateway may choose of a launch: less than what is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// For parameters of the manifest, the granted folders, or folders in them, that this launch gets. Absent: all.
    pub folders: BTreeMap<Name, Vec<PathBuf>>,
    /// The certificate of the authority that the plugin is to trust, where its TLS is ended. Public, and not believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<Authority>,
}

/// A compiled profile, and what is known through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// What the program gets.
    pub profile: Profile,
    /// Where each right comes from, and what was struck out.
    pub explanation: Explanation,
    /// What the program can read, change and tell.
    pub facts: ToolFacts,
    /// What the egress proxy lets it reach.
    pub egress: Egress,
}

impl Compiled {
    /// Adds the program that reads the plugin's script, which signed policy names: the one file, where it is on this machine.
    ///
    /// # Errors
    /// [`CompileRefused::NeverGranted`] when it stands where nothing is ever granted.
    pub fn interpreter(
        &mut self,
        plugin: &PluginName,
        source: &Path,
        never: &NeverGrant,
    ) -> Result<(), CompileRefused> {
        never.check(source, Access::Exec).map_err(|why| CompileRefused::NeverGranted {
            path: source.to_owned(),
            from: "the interpreter of a script".to_owned(),
            why,
        })?;
        let from = vec![Source::Policy { key: format!("plugins.{plugin}.interpreters") }];
        self.explanation.rule(RuleKind::Exec, format!("execute {}", source.display()), from);
        let (source, target) = (source.to_owned(), source.to_owned());
        self.profile.binds.retain(|bind| bind.target != target);
        self.profile.binds.push(Bind { source, target, access: Access::Exec, optional: false, link: LinkRule::Refuse });
        // Parents before what is in them.
        self.profile.binds.sort_by(|one, other| one.target.cmp(&other.target));
        Ok(())
    }
}

/// What the egress proxy lets a program reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Hosts of the internet.
    pub hosts: Vec<HostRule>,
    /// Addresses of this machine or of a private network.
    pub local: BTreeSet<SocketAddr>,
    /// How much of it.
    pub limits: NetworkLimits,
    /// Those of them to which TLS is ended, and what requests there may be. No two cover the same host.
    #[serde(default)]
    pub ended: Vec<EndedHost>,
}

impl Egress {
    /// Whether nothing can be reached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.local.is_empty()
    }
}

/// Compiles the profile of a plugin.
///
/// # Errors
/// [`CompileRefused`] when the signed policy does not know the plugin or its tree, when a path is named that is never
/// granted, or when a launch wants more than is granted. What a manifest asks for and policy does not grant is no error:
/// it is struck out, and the explanation says so.
pub fn compile(spec: &Spec, ceilings: &Ceilings, site: &Site, params: &Params) -> Result<Compiled, CompileRefused> {
    compile_with(spec, ceilings, site, params, None)
}

/// As [`compile`], with the bundle of this machine's own authorities, for a plugin that needs it beside its own.
///
/// # Errors
/// Those of [`compile`].
pub fn compile_with(
    spec: &Spec,
    ceilings: &Ceilings,
    site: &Site,
    params: &Params,
    roots: Option<&str>,
) -> Result<Compiled, CompileRefused> {
    let plugin = &spec.name;
    let grant = ceilings.plugins.get(plugin).ok_or_else(|| CompileRefused::UnknownPlugin(plugin.clone()))?;
    if !grant.trees.contains(&site.tree_digest) {
        return Err(CompileRefused::TreeNotEndorsed { plugin: plugin.clone(), tree: site.tree_digest });
    }
    let base = BaseProfile::load(spec.execution.sandbox.profile.as_str())?;
    let floor = floor(ceilings, grant);
    let reached = Posture::try_from(site.reached).ok().filter(|posture| *posture >= floor);
    let below = || CompileRefused::BelowFloor { plugin: plugin.clone(), floor, reached: site.reached };
    let posture = reached.ok_or_else(below)?;
    let mut explanation = base_rules(base);
    let granted = grants::files(spec, grant, site, params, &mut explanation)?;
    let mut egress = grants::hosts(spec, grant, ceilings, &mut explanation);
    if !egress.is_empty() {
        let asked = &spec.execution.sandbox.network_limits;
        egress.limits = limits::network(&ceilings.sandbox.network, asked, &base.name, &mut explanation);
    }
    executables(spec, base, &mut explanation);

    let mut features = base.features.clone();
    let mut env = BTreeMap::from([(sigil_proto::RPC_FD.to_owned(), sigil_proto::RPC_FD_NUMBER.to_string())]);
    let mut private = None;
    if let Transport::GoPlugin(go) = &spec.execution.transport {
        if posture == Posture::Reduced {
            return Err(CompileRefused::ReducedTransport(plugin.clone()));
        }
        features.insert(Feature::UnixListener);
        private = Some(site.private.clone().ok_or_else(|| CompileRefused::NoPrivateFolder(plugin.clone()))?);
        env = BTreeMap::from([
            (go.cookie_key.clone(), go.cookie_value.clone()),
            ("PLUGIN_PROTOCOL_VERSIONS".to_owned(), go.protocol.to_string()),
            ("PLUGIN_UNIX_SOCKET_DIR".to_owned(), "/tmp".to_owned()),
        ]);
    }
    sockets_alone(&features, &granted, &egress, || match &spec.execution.transport {
        Transport::GoPlugin(_) => format!("plugin {plugin} uses the transport go-plugin"),
        _ => makes_sockets(base),
    })?;
    let (program, arguments) = spec.execution.command.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let program = Path::new(TREE).join(program);
    let mut argv = vec![program.to_string_lossy().into_owned()];
    argv.extend(arguments.iter().cloned());
    let parts = Parts {
        exec: Exec { path: program, argv, env, cwd: base.cwd.clone() },
        tree: Some(&site.tree),
        private,
        granted: &granted,
        egress: !egress.is_empty(),
        posture,
        identity: (site.host_uid, site.host_gid),
        features,
    };
    let mut profile = assemble(base, parts)?;
    limits::narrow(&mut profile, &ceilings.sandbox, &spec.execution.sandbox.limits, &mut explanation);
    if posture == Posture::Reduced {
        reduced::reduce(&mut profile, site.private.as_deref().ok_or(CompileRefused::NoScratch)?)?;
    }
    if !egress.ended.is_empty() {
        let authority = params.authority.as_ref().ok_or_else(|| CompileRefused::NoAuthority(plugin.clone()))?;
        if !ended::all(&egress) && roots.is_none() {
            return Err(CompileRefused::NoRoots(plugin.clone()));
        }
        ended::trust(authority, roots, &mut profile.files, &mut profile.exec.env);
    }

    let enforced = facts::of(granted.iter().map(|granted| (granted.access, &granted.label)), &egress);
    let stated = grant.facts.iter().find(|stated| stated.tree == site.tree_digest);
    let facts = stated.map_or(enforced, |stated| stated.facts.clone());
    Ok(Compiled { profile, explanation, facts, egress })
}

/// Turns the profile of a command into one of posture `reduced`, with `scratch` as its temporary folder.
///
/// # Errors
/// [`CompileRefused::ReducedEgress`] when it may reach hosts.
pub fn reduce(profile: &mut Profile, scratch: &Path) -> Result<(), CompileRefused> {
    reduced::reduce(profile, scratch)
}

/// Checks that a program that makes Unix sockets has folders or a network, not both.
pub(super) fn sockets_alone(
    features: &BTreeSet<Feature>,
    granted: &[Granted],
    egress: &Egress,
    who: impl Fn() -> String,
) -> Result<(), CompileRefused> {
    let both = !granted.is_empty() && !egress.is_empty();
    if both && features.contains(&Feature::UnixListener) { Err(CompileRefused::SocketsInReach(who())) } else { Ok(()) }
}

pub(super) fn makes_sockets(base: &BaseProfile) -> String {
    format!("programs of the base profile `{}` make Unix sockets of their own", base.name)
}

/// What goes on a base profile.
pub(super) struct Parts<'a> {
    pub(super) exec: Exec,
    pub(super) tree: Option<&'a Path>,
    pub(super) private: Option<PathBuf>,
    pub(super) granted: &'a [Granted],
    pub(super) egress: bool,
    pub(super) posture: Posture,
    pub(super) identity: (u32, u32),
    pub(super) features: BTreeSet<Feature>,
}

/// The base profile with what goes on it.
pub(super) fn assemble(base: &BaseProfile, mut parts: Parts<'_>) -> Result<Profile, CompileRefused> {
    let (host_uid, host_gid) = parts.identity;
    if [host_uid, host_gid, base.uid, base.gid].contains(&0) {
        return Err(CompileRefused::Root);
    }
    let network = if parts.egress { Network::Proxy(PROXY_PORT) } else { Network::None };
    if parts.egress {
        parts.features.insert(Feature::Proxy);
    }
    let mut env = base.env.clone();
    if let Network::Proxy(port) = network {
        env.extend(proxy::variables(port));
    }
    env.append(&mut parts.exec.env);
    if env.iter().any(|(name, value)| name.contains(['\0', '=']) || value.contains('\0')) {
        return Err(CompileRefused::Nul("the environment"));
    }
    if parts.exec.argv.iter().any(|argument| argument.contains('\0')) {
        return Err(CompileRefused::Nul("the argument vector"));
    }
    let binds = binds(base, &parts)?;
    let mut tmpfs: Vec<Tmpfs> = base.tmpfs.iter().map(BaseTmpfs::tmpfs).collect();
    if parts.private.is_some() {
        tmpfs.retain(|tmpfs| tmpfs.path != Path::new("/tmp"));
    }
    let mut profile = Profile {
        name: base.name.clone(),
        posture: parts.posture,
        required: base.required.clone(),
        ablated: BTreeSet::new(),
        namespaces: base.namespaces.clone(),
        identity: Identity { uid: base.uid, gid: base.gid, host_uid, host_gid },
        exec: Exec { env, ..parts.exec },
        binds,
        hidden: Vec::new(),
        files: base.file.clone(),
        tmpfs,
        scratch: None,
        root_bytes: base.root_bytes,
        proc: base.proc,
        devices: base.devices.clone(),
        network,
        hostname: base.hostname.clone(),
        limits: base.limits.clone(),
        landlock: base.landlock.clone(),
        seccomp: base.filter(&parts.features),
    };
    if parts.posture == Posture::Strict {
        profile.required.insert(Layer::Cgroup);
        profile.landlock.least_abi = profile.landlock.least_abi.max(Right::ScopeSignal.since());
        profile.landlock.required.extend([Right::ScopeSignal, Right::ScopeAbstractUnix]);
    }
    Ok(profile)
}

/// The system's files, the plugin's tree and the grants, parents before what is in them.
fn binds(base: &BaseProfile, parts: &Parts<'_>) -> Result<Vec<Bind>, CompileRefused> {
    let same = |path: &Path, access| Bind {
        source: path.to_owned(),
        target: path.to_owned(),
        access,
        optional: false,
        link: LinkRule::Refuse,
    };
    let mut binds: BTreeMap<PathBuf, Bind> = BTreeMap::new();
    for bind in &base.bind {
        // A part of a folder that is there anyway, with as much access, needs no mount of its own.
        let covered = |other: &super::base::BaseBind| {
            other.path != bind.path
                && bind.path.starts_with(&other.path)
                && other.access >= bind.access
                && !other.optional
        };
        if !base.bind.iter().any(covered) {
            let bind = Bind { optional: bind.optional, link: bind.link, ..same(&bind.path, bind.access) };
            binds.insert(bind.target.clone(), bind);
        }
    }
    if let Some(tree) = parts.tree {
        binds.insert(TREE.into(), Bind { target: TREE.into(), ..same(tree, Access::Exec) });
    }
    if let Some(private) = &parts.private {
        binds.insert("/tmp".into(), Bind { target: "/tmp".into(), ..same(private, Access::Scratch) });
    }
    let own = base.own_places();
    for granted in parts.granted {
        let covers = |own: &&PathBuf| own.starts_with(&granted.path);
        let taken = own.iter().find(covers);
        let in_tree = granted.path.starts_with(TREE).then(|| PathBuf::from(TREE));
        if let Some(own) = taken.cloned().or(in_tree) {
            return Err(CompileRefused::Covers { path: granted.path.clone(), own });
        }
    }
    for granted in parts.granted {
        binds.entry(granted.path.clone()).or_insert_with(|| same(&granted.path, granted.access));
        if granted.access == Access::Write {
            for guarded in GUARDED {
                let path = granted.path.join(guarded);
                let guard = Bind { optional: true, ..same(&path, Access::Read) };
                binds.entry(path).or_insert(guard);
            }
        }
    }
    pins::pin(&mut binds);
    Ok(binds.into_values().collect())
}

/// What the base profile gives to every program of its kind.
pub(super) fn base_rules(base: &BaseProfile) -> Explanation {
    let mut explanation = Explanation::default();
    let source = |why: &str| vec![Source::Base { profile: base.name.clone(), why: why.to_owned() }];
    for bind in &base.bind {
        explanation.rule(RuleKind::Files, grants::describe(bind.access, &bind.path), source(&bind.why));
    }
    for tmpfs in &base.tmpfs {
        explanation.rule(RuleKind::Files, grants::describe(Access::Scratch, &tmpfs.path), source(&tmpfs.why));
    }
    explanation
}

/// Notes which programs may be executed: those of the plugin's own tree, and of the base profile.
fn executables(spec: &Spec, base: &BaseProfile, explanation: &mut Explanation) {
    let own = vec![Source::Sigil { why: "the endorsed tree".to_owned() }];
    explanation.rule(RuleKind::Exec, format!("execute {TREE}"), own);
    for (at, ask) in spec.execution.sandbox.exec.iter().enumerate() {
        let asked = Source::Manifest { field: format!("execution.sandbox.exec[{at}]"), reason: ask.reason.clone() };
        let what = format!("execute {}", ask.path.display());
        let covering = base.bind.iter().find(|bind| bind.access == Access::Exec && ask.path.starts_with(&bind.path));
        match covering {
            Some(bind) => {
                let source = Source::Base { profile: base.name.clone(), why: bind.why.clone() };
                explanation.rule(RuleKind::Exec, what, vec![asked, source]);
            }
            None if ask.path.is_relative() => {
                let tree = Source::Sigil { why: "the endorsed tree".to_owned() };
                explanation.rule(RuleKind::Exec, what, vec![asked, tree]);
            }
            None => {
                let why = format!("the base profile `{}` has no such program; `shell` has the system's", base.name);
                explanation.strike(what, asked, why);
            }
        }
    }
}
