//! `sigil sandbox …`: what a plugin's sandbox gives, and why. (`run` is handled before the command line is parsed.)

use std::path::{Path, PathBuf};

use serde_json::json;
use sigil_config::{Folders, Resolved};
use sigil_egress::ended::InstanceCa;
use sigil_host::Search;
use sigil_policy::{Bundle, TrustStore, Unverified, Verified};
use sigil_proto::manifest::{Checked, FILE_NAME, Manifest, Unchecked};
use sigil_sandbox::host::Reached;
use sigil_sandbox::interpreter::Interpreter;
use sigil_sandbox::profile::{Authority, Compiled, NeverGrant, Params, Site, compile_with, ended_hosts, system_roots};
use sigil_types::{Code, PluginName};

use super::args::SandboxCommand;
use super::complaint::{Complaint, Outcome, file};
use super::context::Context;
use super::exit::Exit;
use super::output::{Paint, word};
use super::safe;

mod profile;

/// What stands in for the user that a launch by root gets: a number that nobody has.
const NOBODY: u32 = 65_534;

pub(super) fn run(context: &Context, command: SandboxCommand) -> Outcome {
    match command {
        SandboxCommand::Explain { plugin } => explain(context, &plugin),
        SandboxCommand::Profile(args) => profile::run(context, &args),
        SandboxCommand::Denials { plugin } => super::denials::run(context, &plugin),
        SandboxCommand::Learn(args) => super::learn::run(context, args),
        // Options before `sandbox` or between it and `run` keep the early path from seeing the command.
        SandboxCommand::Run { .. } => {
            let code = Code::new("cli.usage.invalid");
            Err(Complaint::new(code, "options of sigil itself do not go together with `sandbox run`")
                .exit(Exit::Usage)
                .fix("write exactly: sigil sandbox run [OPTIONS] -- COMMAND", None))
        }
    }
}

/// A plugin's profile, as the launcher would compile it.
pub(super) fn profile_of(context: &Context, plugin: &str) -> Result<Compiled, Complaint> {
    compiled(context, plugin).map(|found| found.compiled)
}

/// A plugin's profile, as the launcher would compile it, and what it was compiled from.
struct Found {
    name: PluginName,
    tree: sigil_types::Digest,
    /// The version of the signed policy.
    policy: u64,
    compiled: Compiled,
}

fn compiled(context: &Context, plugin: &str) -> Result<Found, Complaint> {
    let resolved = context.resolved()?;
    let folder = find(&resolved.settings.plugins.dirs, plugin)?;
    let (manifest, bundle) = (manifest(&folder)?, verified(context, &resolved)?);
    let spec = manifest.spec();
    // What it would get where everything can be had; `sigil doctor` says what this host gives.
    let site = site(&resolved.folders, &folder, Reached::Strict)?;
    // Shown as it would be launched, with an authority that is made for the occasion.
    let ended = ended_hosts(spec, bundle.ceilings());
    let mut params = Params::default();
    if !ended.is_empty() {
        let made = InstanceCa::new(ended).map_err(|error| Complaint::new(error.code(), error.to_string()))?;
        params.authority = Authority::from_der(made.certificate()).ok();
    }
    let roots = system_roots();
    let mut compiled = compile_with(spec, bundle.ceilings(), &site, &params, roots.as_deref())?;
    let program = Path::new(spec.execution.command.first().map_or("", String::as_str));
    let built = folder.join(program).is_file();
    if let Some(found) = built.then(|| Interpreter::of(&folder, program)).transpose()?.flatten() {
        let grant = bundle.ceilings().plugins.get(&spec.name);
        found.endorsed(&spec.name, grant.map_or(&[][..], |grant| &grant.interpreters))?;
        compiled.interpreter(&spec.name, &found.source, &site.never)?;
    }
    Ok(Found { name: spec.name.clone(), tree: site.tree_digest, policy: bundle.version(), compiled })
}

fn explain(context: &Context, plugin: &str) -> Outcome {
    let Found { name, tree, policy, compiled } = compiled(context, plugin)?;
    let output = &context.output;
    if output.json {
        output.document(&json!({
            "plugin": name, "tree": tree, "policy": policy,
            "explanation": compiled.explanation, "facts": compiled.facts, "egress": compiled.egress,
            "layers": compiled.profile.required,
        }));
        return Ok(Exit::Ok);
    }
    output.line(output.paint(Paint::Bold, &format!("{name} under policy version {policy}, tree {}", tree.short())));
    output.piece(&safe::block(&compiled.explanation.to_string()));
    let facts = serde_json::to_string(&compiled.facts).unwrap_or_default();
    output.line(format!("facts: {}", safe::line(&facts)));
    let layers: Vec<String> = compiled.profile.required.iter().map(word).collect();
    output.line(format!("layers: {}", layers.join(", ")));
    Ok(Exit::Ok)
}

/// The manifest in `folder`, with every mistake refused.
pub(super) fn manifest(folder: &Path) -> Result<Manifest<Checked>, Complaint> {
    let path = folder.join(FILE_NAME);
    let bytes = std::fs::read(&path).map_err(|error| file(&path, &error))?;
    let refused = |code, error: &dyn std::fmt::Display| Complaint::new(code, format!("{}: {error}", path.display()));
    let manifest = Manifest::<Unchecked>::parse(&bytes).map_err(|error| refused(error.code(), &error))?;
    manifest.validate().map_err(|error| refused(error.code(), &error))
}

/// The signed policy, verified by the keys of this set-up.
pub(super) fn verified(context: &Context, resolved: &Resolved) -> Result<Bundle<Verified>, Complaint> {
    let (policy, trust) = (&resolved.folders.policy, resolved.folders.trust());
    let trust = TrustStore::parse(&std::fs::read(&trust).map_err(|error| file(&trust, &error))?)?;
    let envelope = std::fs::read(policy).map_err(|error| file(policy, &error))?;
    Ok(Bundle::<Unverified>::parse(&envelope)?.verify(&trust, context.now(), 0)?)
}

/// What the launcher would know of a launch from `folder`, on a host that reaches `reached`.
pub(super) fn site(folders: &Folders, folder: &Path, reached: Reached) -> Result<Site, Complaint> {
    let uid = rustix::process::geteuid().as_raw();
    Ok(Site {
        tree: folder.to_owned(),
        tree_digest: sigil_sandbox::tree::hash(folder)?.digest,
        never: NeverGrant {
            own: vec![folders.data.clone(), folders.config.clone(), folders.launcher.clone()],
            homes: sigil_sandbox::people::homes(),
        },
        host_uid: if uid == 0 { NOBODY } else { uid },
        host_gid: if uid == 0 { NOBODY } else { rustix::process::getegid().as_raw() },
        private: Some(PathBuf::from("/run/sigil-private")),
        reached,
    })
}

/// The plugin's folder: named directly, or found where plugins are looked up.
fn find(configured: &[PathBuf], plugin: &str) -> Result<PathBuf, Complaint> {
    let direct = Path::new(plugin);
    if direct.join(FILE_NAME).is_file() {
        return direct.canonicalize().map_err(|error| file(direct, &error));
    }
    let search = Search { command_line: Vec::new(), configured: configured.to_vec() };
    let found = plugin.parse::<PluginName>().ok().and_then(|name| search.find(&name));
    found.ok_or_else(|| {
        Complaint::new(Code::new("host.store.manifest.missing"), format!("there is no plugin `{plugin}`"))
            .exit(Exit::NotFound)
            .why("it is not a folder with a plugin.yaml, and not in a folder where plugins are looked up")
            .fix("name its folder, or add the folder of plugins to plugins.dirs in sigil.yaml", None)
    })
}
