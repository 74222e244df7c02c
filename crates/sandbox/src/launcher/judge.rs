//! The judgement of the launcher's oath: what may be launched, and with which profile. It starts nothing.
//!
//! Everything here is decided from signed policy, from the launcher's own folder, and from the plugin store as it now is. A
//! request only chooses among what these allow.

use std::path::{Path, PathBuf};

use sigil_policy::{Bundle, Verified};
use sigil_proto::manifest::{self, Manifest, Spec};
use sigil_types::{Code, Timestamp};

use super::state::State;
use super::wire::{LaunchRequest, Refusal};
use super::{LauncherConfig, refusal};
use crate::confine::Pin;
use crate::host::Reached;
use crate::interpreter::Interpreter;
use crate::profile::{self, Compiled, NeverGrant, Posture, Site};
use crate::tree;

/// Verifies a policy, and raises the floor to its version for good.
pub(super) fn policy(state: &mut State, envelope: &str, now: Timestamp) -> Result<Bundle<Verified>, Refusal> {
    let bundle = Bundle::parse(envelope.as_bytes())
        .and_then(|bundle| bundle.verify(&state.trust, now, state.floor))
        .map_err(|refused| refusal(refused.code(), refused))?;
    // The floor is on the disk before the policy counts: a restart cannot bring an older one back.
    state.raise_floor(bundle.version()).map_err(|error| refusal(error.code(), error))?;
    Ok(bundle)
}

/// A launch that signed policy allows, of files that are what was endorsed.
///
/// INVARIANT: made by [`launch`] only.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    policy: &'a Bundle<Verified>,
    request: &'a LaunchRequest,
    tree: PathBuf,
    /// What pins the root of the tree until it is mounted.
    pub(super) pin: Pin,
}

/// A permitted launch with its profile.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) compiled: Compiled,
    /// What the interpreter's file must be when it is mounted.
    pub(super) pins: Vec<Pin>,
    /// The weakest posture that would do.
    pub(super) floor: Posture,
    pub(super) interpreter: Option<Interpreter>,
}

/// Decides whether `request` may be launched at `now`: its policy is the one in force and valid, the policy endorses the tree for
/// the plugin, the files of the tree are those, and the manifest is the one among them.
pub(super) fn launch<'a>(
    config: &LauncherConfig,
    policy: Option<&'a Bundle<Verified>>,
    now: Timestamp,
    request: &'a LaunchRequest,
) -> Result<Permit<'a>, Refusal> {
    let policy = policy.ok_or_else(|| Refusal {
        code: const { Code::new("sandbox.launch.policy.absent") },
        text:
            "no signed policy was given to the launcher, so nothing may start; run `sigil init` or `sigil policy sign`"
                .to_owned(),
    })?;
    verify_policy(policy, now, request)?;
    let (tree, pin) = verify_tree(config, request)?;
    Ok(Permit { policy, request, tree, pin })
}

impl Permit<'_> {
    /// What the verified manifest says.
    pub(super) fn spec(&self) -> Result<Spec, Refusal> {
        let checked = Manifest::parse(self.request.manifest.as_bytes())
            .map_err(|error| refusal(error.code(), error))?
            .validate()
            .map_err(|error| refusal(error.code(), error))?;
        let spec = checked.spec().clone();
        let plugin = &self.request.plugin;
        if spec.name != *plugin {
            return Err(other_manifest(format!("the manifest is that of plugin {}, not of {plugin}", spec.name)));
        }
        Ok(spec)
    }

    /// Compiles its profile, and verifies what reads its program.
    pub(super) fn compile(
        self,
        config: &LauncherConfig,
        spec: &Spec,
        (ids, reached): ((u32, u32), Reached),
        private: Option<&Path>,
    ) -> Result<Judged, Refusal> {
        let ceilings = self.policy.ceilings();
        let plugin = &self.request.plugin;
        let never = NeverGrant { own: config.own.clone(), homes: config.homes.clone() };
        let site = Site {
            tree: self.tree.clone(),
            tree_digest: self.request.tree,
            never: never.clone(),
            host_uid: ids.0,
            host_gid: ids.1,
            private: private.map(Path::to_path_buf),
            reached,
        };
        // Read for the launches that may need it only.
        let params = &self.request.params;
        let roots = params.authority.as_ref().and_then(|_| profile::system_roots());
        let mut compiled = profile::compile_with(spec, ceilings, &site, params, roots.as_deref())
            .map_err(|refused| refusal(refused.code(), refused))?;
        let program = spec.execution.command.first().map_or("", String::as_str);
        let interpreter = Interpreter::of(&self.tree, Path::new(program))
            .and_then(|found| {
                let endorsed = ceilings.plugins.get(plugin).map_or(&[][..], |grant| &grant.interpreters);
                found.map(|found| found.endorsed(plugin, endorsed).map(|()| found)).transpose()
            })
            .map_err(|refused| refusal(refused.code(), refused))?;
        let mut pins = vec![self.pin];
        if let Some(found) = &interpreter {
            compiled.interpreter(plugin, &found.source, &never).map_err(|refused| refusal(refused.code(), refused))?;
            let (dev, ino) = found.file();
            pins.push(Pin { source: found.source.clone(), dev, ino });
        }
        let floor = ceilings.plugins.get(plugin).map(|grant| profile::floor(ceilings, grant));
        Ok(Judged { compiled, pins, floor: floor.unwrap_or(Posture::Strict), interpreter })
    }
}

fn verify_policy(policy: &Bundle<Verified>, now: Timestamp, request: &LaunchRequest) -> Result<(), Refusal> {
    if now >= policy.expires() || now < policy.not_before() {
        let text = format!(
            "the signed policy, version {}, is not valid now (valid until {}); sign a new one with `sigil policy sign`",
            policy.version(),
            policy.expires()
        );
        return Err(Refusal { code: const { Code::new("sandbox.launch.policy.expired") }, text });
    }
    if request.policy != policy.digest() {
        let text = format!(
            "the launch was asked for under policy {}, but {} is in force; give the launcher the newer policy first",
            request.policy.short(),
            policy.digest().short()
        );
        return Err(Refusal { code: const { Code::new("sandbox.launch.policy.other") }, text });
    }
    let plugin = &request.plugin;
    let Some(grant) = policy.ceilings().plugins.get(plugin) else {
        let refused = profile::CompileRefused::UnknownPlugin(plugin.clone());
        return Err(refusal(refused.code(), refused));
    };
    if !grant.trees.contains(&request.tree) {
        let refused = profile::CompileRefused::TreeNotEndorsed { plugin: plugin.clone(), tree: request.tree };
        return Err(refusal(refused.code(), refused));
    }
    Ok(())
}

/// Hashes the whole tree as it now is, with the manifest in it. Returns its path, and what pins its root until it is mounted.
fn verify_tree(config: &LauncherConfig, request: &LaunchRequest) -> Result<(PathBuf, Pin), Refusal> {
    let path = config.plugins.join(tree::folder_name(&request.tree));
    let hashed = tree::hash_installed(&path, manifest::FILE_NAME, manifest::MAX_BYTES);
    let (hashed, kept) = hashed.map_err(|error| {
        let text = format!("the files of plugin {} cannot be verified in {}: {error}", request.plugin, path.display());
        Refusal { code: error.code(), text }
    })?;
    if hashed.digest != request.tree {
        let text = format!(
            "the files of plugin {} were changed after they were installed: {} holds {}, not {}. Remove the plugin and \
             install it again from a source that you trust",
            request.plugin,
            path.display(),
            hashed.digest,
            request.tree
        );
        return Err(Refusal { code: const { Code::new("sandbox.launch.tree.tampered") }, text });
    }
    // These very bytes are part of the digest: nothing is read a second time.
    if kept != request.manifest.as_bytes() {
        let text = "the manifest of this launch is not the one in the plugin's verified tree; reload the plugin";
        return Err(other_manifest(text.to_owned()));
    }
    let pin = Pin { source: path.clone(), dev: hashed.dev, ino: hashed.ino };
    Ok((path, pin))
}

fn other_manifest(text: String) -> Refusal {
    Refusal { code: const { Code::new("sandbox.launch.manifest.other") }, text }
}
