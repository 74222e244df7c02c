//! What of the wishes of a manifest the signed policy grants: files and hosts, by intersection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sigil_policy::{Ceilings, EgressIdentity, FolderAccess, FolderGrant, HostRule, PluginGrant};
use sigil_proto::manifest::{self, FilesystemAsk, FilesystemTarget, NetworkAsk, NetworkTarget, Spec};
use sigil_types::{HostPattern, Label, Name};

use super::Access;
use super::compile::{Egress, Params, Site};
use super::explain::{Explanation, RuleKind, Source};
use super::refused::CompileRefused;

/// One file or folder that is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// Where.
    pub(super) path: PathBuf,
    /// What for.
    pub(super) access: Access,
    /// The label of what is in it.
    pub(super) label: Label,
}

/// The files and folders that `spec` asks for and `grant` has, narrowed to what `params` chose.
pub(super) fn files(
    spec: &Spec,
    grant: &PluginGrant,
    site: &Site,
    params: &Params,
    explanation: &mut Explanation,
) -> Result<Vec<Granted>, CompileRefused> {
    let asks = &spec.execution.sandbox.filesystem;
    let asked = |name: &Name| asks.iter().any(|ask| ask.target == FilesystemTarget::Param(name.clone()));
    if let Some(name) = params.folders.keys().find(|name| !asked(name)) {
        return Err(CompileRefused::UnknownParameter { plugin: spec.name.clone(), name: name.clone() });
    }
    let mut granted: BTreeMap<PathBuf, Granted> = BTreeMap::new();
    for (at, ask) in asks.iter().enumerate() {
        let asked =
            Source::Manifest { field: format!("execution.sandbox.filesystem[{at}]"), reason: ask.reason.clone() };
        for (found, from) in matches(spec, ask, grant, site, params, &asked, explanation)? {
            site.never.check(&found.path, found.access).map_err(|why| CompileRefused::NeverGranted {
                path: found.path.clone(),
                from: from.last().unwrap_or(&asked).to_string(),
                why,
            })?;
            explanation.rule(RuleKind::Files, describe(found.access, &found.path), from);
            granted
                .entry(found.path.clone())
                .and_modify(|known| {
                    // Both were granted, each by itself, so the wider one is; what is in it has both labels.
                    known.access = known.access.max(found.access);
                    known.label = known.label.join(&found.label);
                })
                .or_insert(found);
        }
    }
    Ok(granted.into_values().collect())
}

type Match = (Granted, Vec<Source>);

/// What of `grant` one wish meets.
fn matches(
    spec: &Spec,
    ask: &FilesystemAsk,
    grant: &PluginGrant,
    site: &Site,
    params: &Params,
    asked: &Source,
    explanation: &mut Explanation,
) -> Result<Vec<Match>, CompileRefused> {
    let wanted = match ask.access {
        manifest::Access::Read => Access::Read,
        manifest::Access::Write => Access::Write,
    };
    let key = |name: &Name, at: usize| Source::Policy { key: format!("plugins.{}.folders.{name}[{at}]", spec.name) };
    let mut found: Vec<Match> = Vec::new();
    let what = match &ask.target {
        FilesystemTarget::Param(name) => {
            let folders = grant.folders.get(name).map_or(&[][..], Vec::as_slice);
            match params.folders.get(name) {
                None => {
                    for (at, folder) in folders.iter().enumerate() {
                        found.push((give(folder.path.as_path(), folder, wanted), vec![asked.clone(), key(name, at)]));
                    }
                }
                Some(chosen) => {
                    for path in chosen {
                        let beyond = || CompileRefused::BeyondGrant { name: name.clone(), path: path.clone() };
                        site.never.check(path, Access::Read).map_err(|why| CompileRefused::NeverGranted {
                            path: path.clone(),
                            from: format!("launch parameter {name}"),
                            why,
                        })?;
                        let (at, folder) = closest(folders, path).ok_or_else(beyond)?;
                        let launch = Source::Launch { parameter: name.to_string() };
                        found.push((give(path, folder, wanted), vec![asked.clone(), key(name, at), launch]));
                    }
                }
            }
            format!("{} the folders `{name}`", verb(wanted))
        }
        FilesystemTarget::Path(path) => {
            site.never.check(path, wanted).map_err(|why| CompileRefused::NeverGranted {
                path: path.clone(),
                from: asked.to_string(),
                why,
            })?;
            for (name, folders) in &grant.folders {
                for (at, folder) in folders.iter().enumerate() {
                    let theirs = folder.path.as_path();
                    let both = if path.starts_with(theirs) { path } else { theirs };
                    if both.starts_with(path) {
                        found.push((give(both, folder, wanted), vec![asked.clone(), key(name, at)]));
                    }
                }
            }
            describe(wanted, path)
        }
    };
    if found.is_empty() {
        explanation.strike(
            what,
            asked.clone(),
            format!("the signed policy grants plugin {} no such folder", spec.name),
        );
    }
    for (lowered, _) in found.iter().filter(|(found, _)| found.access < wanted) {
        let path = lowered.path.display();
        explanation.strike(format!("write {path}"), asked.clone(), "the signed policy grants reading only");
    }
    Ok(found)
}

/// The grant that covers `path` most closely.
fn closest<'a>(folders: &'a [FolderGrant], path: &Path) -> Option<(usize, &'a FolderGrant)> {
    let covering = folders.iter().enumerate().filter(|(_, folder)| path.starts_with(folder.path.as_path()));
    covering.max_by_key(|(_, folder)| folder.path.as_str().len())
}

fn give(path: &Path, folder: &FolderGrant, wanted: Access) -> Granted {
    let theirs = match folder.access {
        FolderAccess::Read => Access::Read,
        FolderAccess::Write => Access::Write,
    };
    Granted { path: path.to_owned(), access: wanted.min(theirs), label: folder.label() }
}

const fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Exec => "execute",
        Access::Write | Access::Scratch => "write",
    }
}

pub(super) fn describe(access: Access, path: &Path) -> String {
    format!("{} {}", verb(access), path.display())
}

/// The hosts that `spec` asks for and the signed policy grants, and the local addresses that it gives to this plugin.
pub(super) fn hosts(spec: &Spec, grant: &PluginGrant, ceilings: &Ceilings, explanation: &mut Explanation) -> Egress {
    let mut egress = Egress::default();
    let identity = EgressIdentity::Plugin(spec.name.clone());
    for (at, ask) in spec.execution.sandbox.network.iter().enumerate() {
        let asked =
            Source::Manifest { field: format!("execution.sandbox.network.hosts[{at}]"), reason: ask.reason.clone() };
        let (mut any, mut whole) = (false, false);
        for (nr, rule) in grant.hosts.iter().enumerate() {
            let Some(both) = intersect(ask, rule) else { continue };
            any = true;
            whole |= ask.ports == both.ports && matches!(&ask.target, NetworkTarget::Host(host) if *host == both.host);
            let key = Source::Policy { key: format!("plugins.{}.hosts[{nr}]", spec.name) };
            explanation.rule(RuleKind::Network, describe_host(&both), vec![asked.clone(), key]);
            if !egress.hosts.contains(&both) {
                egress.hosts.push(both);
            }
        }
        for address in ceilings.local_addresses(&identity).filter(|address| wants_local(ask, address)) {
            any = true;
            let key = Source::Policy { key: "egress.local".into() };
            explanation.rule(RuleKind::Network, format!("reach {address}"), vec![asked.clone(), key]);
            egress.local.insert(address);
        }
        match &ask.target {
            NetworkTarget::Host(host) if any && !whole => {
                let why = format!("the signed policy grants plugin {} a part of it only", spec.name);
                explanation.strike(
                    describe_host(&HostRule { host: host.clone(), ports: ask.ports.clone() }),
                    asked,
                    why,
                );
            }
            _ if any => {}
            target => {
                let what = match target {
                    NetworkTarget::Host(host) => format!("reach {host}"),
                    NetworkTarget::Param(name) => format!("reach the hosts `{name}`"),
                };
                let why = format!("the signed policy grants plugin {} no such host and port", spec.name);
                explanation.strike(what, asked, why);
            }
        }
    }
    super::ended::hosts(spec, grant, &mut egress, explanation);
    egress
}

pub(super) fn describe_host(rule: &HostRule) -> String {
    let ports = rule.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    format!("reach {}:{ports}", rule.host)
}

/// What both a wish and a rule cover.
fn intersect(ask: &NetworkAsk, rule: &HostRule) -> Option<HostRule> {
    let host: &HostPattern = match &ask.target {
        NetworkTarget::Param(_) => &rule.host,
        NetworkTarget::Host(host) if rule.host.contains(host) => host,
        NetworkTarget::Host(host) if host.contains(&rule.host) => &rule.host,
        NetworkTarget::Host(_) => return None,
    };
    let ports: BTreeSet<u16> = ask.ports.intersection(&rule.ports).copied().collect();
    (!ports.is_empty()).then(|| HostRule { host: host.clone(), ports })
}

/// Whether a wish covers a local address that signed policy gives to this plugin. A parameter stands for whatever policy
/// names, the port of such an address included, because no author can know it.
fn wants_local(ask: &NetworkAsk, address: &SocketAddr) -> bool {
    match &ask.target {
        NetworkTarget::Param(_) => true,
        NetworkTarget::Host(host) => {
            host.covers(&sigil_types::Host::Address(address.ip())) && ask.ports.contains(&address.port())
        }
    }
}
