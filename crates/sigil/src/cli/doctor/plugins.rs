//! The profiles of the plugins that signed policy lets start, for the battery to run under.

use std::path::PathBuf;

use sigil_config::Resolved;
use sigil_host::Search;
use sigil_policy::PluginGrant;
use sigil_sandbox::battery::Setting;
use sigil_sandbox::host::Reached;
use sigil_sandbox::profile::{Params, compile};
use sigil_sandbox::tree;
use sigil_types::PluginName;

use super::super::complaint::Complaint;
use super::super::context::Context;
use super::super::sandbox::{manifest, site, verified};
use super::{Check, Status};

/// A setting for each plugin that can be compiled; what cannot is a check. Without a policy there are none.
pub(super) fn settings(context: &Context, reached: Reached, checks: &mut Vec<Check>) -> Vec<Setting> {
    let Ok(resolved) = context.resolved() else { return Vec::new() };
    // That there is no valid policy is said among the checks of the set-up.
    let Ok(bundle) = verified(context, &resolved) else { return Vec::new() };
    let ceilings = bundle.ceilings();
    let mut settings = Vec::new();
    for (name, grant) in &ceilings.plugins {
        let compiled = folder(&resolved, name, grant).map(|folder| {
            let (manifest, site) = (manifest(&folder)?, site(&resolved.folders, &folder, reached)?);
            Ok::<_, Complaint>(compile(manifest.spec(), ceilings, &site, &Params::default())?)
        });
        let (detail, fix) = match compiled {
            Some(Ok(compiled)) => {
                settings.push(Setting::of_plugin(name.as_str(), compiled.profile));
                continue;
            }
            Some(Err(complaint)) => (format!("{name}: {}", complaint.what), format!("sigil sandbox explain {name}")),
            None => (format!("{name}: no tree that policy endorses is here"), "sigil plugin install FOLDER".to_owned()),
        };
        checks.push(Check { id: "sandbox.plugin", status: Status::Warn, detail, fix });
    }
    settings
}

/// Where an endorsed tree of the plugin is: in the store, or where plugins are looked up.
fn folder(resolved: &Resolved, name: &PluginName, grant: &PluginGrant) -> Option<PathBuf> {
    let stored = grant.trees.iter().map(|digest| resolved.folders.plugins().join(tree::folder_name(digest)));
    let found = stored.into_iter().find(|folder| folder.is_dir());
    found.or_else(|| {
        let search = Search { command_line: Vec::new(), configured: resolved.settings.plugins.dirs.clone() };
        let folder = search.find(name)?;
        let digest = tree::hash(&folder).ok()?.digest;
        grant.trees.contains(&digest).then_some(folder)
    })
}
