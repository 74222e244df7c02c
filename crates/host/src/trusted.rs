//! [`Trusted`]: a manifest whose tree the signed policy endorses.

use std::collections::BTreeSet;
use std::sync::Arc;

use sigil_policy::{Ceilings, FolderAccess, PluginGrant, SecretConsumer, SecretGrant};
use sigil_proto::manifest::{Access, Checked, FilesystemTarget, Manifest, Spec};
use sigil_proto::v1;
use sigil_sandbox::profile::{Params, ended_hosts};
use sigil_types::{Code, Digest, HostPattern, Name, PluginName, ToolFacts, ToolName};

use crate::store::Installed;

/// State of a manifest that signed policy has endorsed, together with the tree that it belongs to.
///
/// INVARIANT: made in [`endorse`] (and its like for another policy) only. The launcher checks the same again, and does not take this type's word for it.
#[derive(Clone, Debug)]
pub struct Trusted {
    checked: Checked,
    text: Arc<str>,
    tree: Digest,
    policy: Digest,
    grant: PluginGrant,
    secrets: Vec<SecretGrant>,
    ended: Vec<HostPattern>,
}

/// Why a plugin is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEndorsed {
    /// The signed policy does not know it.
    #[error("the signed policy has no entry for plugin {0}; add [plugins.{0}] to ceilings.toml and sign it")]
    Unknown(PluginName),
    /// The signed policy endorses other trees.
    #[error(
        "the signed policy does not endorse this version of plugin {plugin} ({tree}); review it, add the digest to \
         plugins.{plugin}.trees and sign"
    )]
    Tree {
        /// Which plugin.
        plugin: PluginName,
        /// The digest of its tree.
        tree: Digest,
    },
}

impl NotEndorsed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unknown(_) => const { Code::new("host.plugin.policy.unknown") },
            Self::Tree { .. } => const { Code::new("host.plugin.tree.unendorsed") },
        }
    }
}

/// Makes the manifest of an installed plugin trusted, if the signed policy with these `ceilings` and digest endorses it.
///
/// # Errors
/// [`NotEndorsed`].
pub fn endorse(installed: Installed, ceilings: &Ceilings, policy: Digest) -> Result<Manifest<Trusted>, NotEndorsed> {
    let Installed { manifest, text, tree, .. } = installed;
    let grant = grant(&manifest.spec().name, tree, ceilings)?;
    let (secrets, ended) = (secrets(&manifest.spec().name, ceilings), ended_hosts(manifest.spec(), ceilings));
    Ok(manifest.advance(|checked| Trusted { checked, text: text.into(), tree, policy, grant, secrets, ended }))
}

/// The same plugin under another policy.
pub(crate) fn endorse_again(
    manifest: &Manifest<Trusted>,
    ceilings: &Ceilings,
    policy: Digest,
) -> Result<Manifest<Trusted>, NotEndorsed> {
    let known = manifest.state();
    let grant = grant(&known.spec().name, known.tree, ceilings)?;
    let (secrets, ended) = (secrets(&known.spec().name, ceilings), ended_hosts(known.spec(), ceilings));
    Ok(manifest.clone().advance(|known| Trusted { policy, grant, secrets, ended, ..known }))
}

/// The secrets that signed policy gives to a plugin.
fn secrets(name: &PluginName, ceilings: &Ceilings) -> Vec<SecretGrant> {
    let consumer = SecretConsumer::Plugin(name.clone());
    ceilings.secrets.iter().filter(|grant| grant.consumer == consumer).cloned().collect()
}

fn grant(name: &PluginName, tree: Digest, ceilings: &Ceilings) -> Result<PluginGrant, NotEndorsed> {
    let grant = ceilings.plugins.get(name).ok_or_else(|| NotEndorsed::Unknown(name.clone()))?;
    if !grant.trees.contains(&tree) {
        return Err(NotEndorsed::Tree { plugin: name.clone(), tree });
    }
    Ok(grant.clone())
}

impl Trusted {
    /// What the manifest says.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        self.checked.spec()
    }

    /// The manifest's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digest of the plugin's tree.
    #[must_use]
    pub const fn tree(&self) -> Digest {
        self.tree
    }

    /// The digest of the policy that endorses it.
    #[must_use]
    pub const fn policy(&self) -> Digest {
        self.policy
    }

    /// The hosts whose TLS is ended for it.
    pub(crate) fn ended(&self) -> &[HostPattern] {
        &self.ended
    }

    /// The hosts that a secret of the vault may go to for it, if signed policy gives it that secret.
    pub(crate) fn secret_hosts(&self, secret: &Name) -> Option<&BTreeSet<HostPattern>> {
        self.secrets.iter().find(|grant| grant.name == *secret).map(|grant| &grant.hosts)
    }

    /// The facts of a tool: those that the launcher found in the enforced profile (signed exceptions for this very tree
    /// included), made stricter by what the manifest states.
    #[must_use]
    pub fn facts(&self, tool: &ToolName, enforced: &ToolFacts) -> ToolFacts {
        let declared = self.spec().tools.iter().find(|declared| declared.name == *tool);
        declared.map_or_else(|| enforced.clone(), |declared| declared.facts.tighten(enforced))
    }

    /// What the plugin is told of its folders: what it asked for and was granted, under the paths that it sees, which are
    /// the host's own. What it can really open, the sandbox decides.
    pub(crate) fn folders(&self, params: &Params) -> std::collections::HashMap<String, v1::Folders> {
        let mut told = std::collections::HashMap::new();
        for ask in &self.spec().execution.sandbox.filesystem {
            let FilesystemTarget::Param(name) = &ask.target else { continue };
            let granted = self.grant.folders.get(name).map_or(&[][..], Vec::as_slice);
            let mut folders = Vec::new();
            for grant in granted {
                let writable = ask.access == Access::Write && grant.access == FolderAccess::Write;
                let within = |path: &&std::path::PathBuf| path.starts_with(grant.path.as_path());
                match params.folders.get(name) {
                    None => folders.push(v1::Folder { path: grant.path.to_string(), writable }),
                    Some(chosen) => folders.extend(
                        chosen
                            .iter()
                            .filter(within)
                            .map(|path| v1::Folder { path: path.display().to_string(), writable }),
                    ),
                }
            }
            told.insert(name.to_string(), v1::Folders { folders });
        }
        told
    }
}
