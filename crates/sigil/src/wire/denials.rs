//! What a plugin was refused: its present launch from the launcher, former ones and hosts from the audit log.

use sigil_audit::{AuditLog, Filter};
use sigil_sandbox::denials::{Denial, Ledger, Proposal, Subject, explain, flags, manifest, policy};
use sigil_sandbox::people;
use sigil_sandbox::profile::NeverGrant;
use sigil_server::{Failure, FailureKind, api};
use sigil_types::PluginName;

use super::gateway::Gateway;
use crate::cli::output::word;
use crate::refusals;

/// Former launches that are looked at.
const LAUNCHES: usize = 200;

/// What `name` was refused. It need not run, but it must be known: here, or in the log.
pub(super) async fn of(gateway: &Gateway, name: PluginName) -> Result<api::Denials, Failure> {
    let instances: Vec<_> = gateway
        .host
        .list()
        .into_iter()
        .filter(|status| status.plugin == name)
        .filter_map(|status| gateway.host.instance(&status.plugin, &status.workspace))
        .collect();
    let profile = instances.first().map_or("native", |instance| instance.base_profile()).to_owned();
    let (mut ledger, mut gaps, mut files) = (Ledger::default(), Vec::new(), !instances.is_empty());
    for instance in &instances {
        match instance.denials().await {
            Ok((present, read)) => {
                ledger.merge(present);
                files &= read;
            }
            Err(error) => gaps.push(format!("refused system calls of the present launch: {error}")),
        }
    }
    let audit = gateway.audit.clone();
    let asked = name.clone();
    let read = tokio::task::spawn_blocking(move || {
        let former = former(&audit, asked.as_str())?;
        Ok::<_, sigil_audit::ReadFailed>((former, refusals::of(&audit, asked.as_str())?))
    });
    let failed = |why: String| {
        let code = sigil_types::Code::new("audit.log.read.failed");
        Failure::new(FailureKind::Unavailable, code, "The denials cannot be read.", why)
    };
    let (former, hosts) =
        read.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    let unknown = instances.is_empty() && former.is_none() && hosts.is_empty();
    if unknown && !gateway.missing.iter().any(|part| part.what == format!("plugin {name}")) {
        return Err(Failure::not_found("plugin"));
    }
    ledger.merge(former.unwrap_or_default());
    if !files {
        gaps.push(
            "files that the plugin looked for in vain: that takes the kernel's audit records (Linux 6.15, audit switched on, \
             Sigil run by root). `sigil sandbox learn` shows them for a command"
                .to_owned(),
        );
    }
    let folders = &gateway.resolved.folders;
    let never = NeverGrant {
        own: vec![folders.data.clone(), folders.config.clone(), folders.launcher.clone()],
        homes: people::homes(),
    };
    let found = explain(&ledger, &hosts, &Subject { profile: &profile, never: &never, command: false });
    let proposals: Vec<Proposal> = found.iter().filter_map(|denial| denial.proposal.clone()).collect();
    Ok(api::Denials {
        items: found.iter().map(|denial| view(denial, name.as_str())).collect(),
        not_kept: ledger.beyond,
        gaps,
        manifest: manifest(&proposals),
        policy: policy(name.as_str(), &proposals),
        plugin: name,
    })
}

/// What former launches of a plugin were refused; `None` when the log knows of none.
fn former(audit: &AuditLog, plugin: &str) -> Result<Option<Ledger>, sigil_audit::ReadFailed> {
    let filter = Filter { kind: Some("host.plugin.calls.refused".to_owned()), limit: LAUNCHES, ..Filter::default() };
    let actor = format!("plugin:{plugin}");
    let mut all = None;
    for entry in audit.query(&filter)?.iter().filter(|entry| entry.actor == actor) {
        let refused = entry.data.get("refused").cloned().and_then(|data| serde_json::from_value::<Ledger>(data).ok());
        all.get_or_insert_with(Ledger::default).merge(refused.unwrap_or_default());
    }
    Ok(all)
}

fn view(denial: &Denial, plugin: &str) -> api::Denial {
    let proposal = denial.proposal.as_ref().map(|proposal| api::Proposal {
        words: proposal.to_string(),
        options: flags([proposal]).join(" "),
        manifest: manifest([proposal]),
        policy: policy(plugin, [proposal]),
    });
    api::Denial {
        what: denial.what.clone(),
        why: denial.why.clone(),
        layer: denial.layer.to_string(),
        evidence: word(denial.evidence),
        count: denial.count,
        first: denial.first,
        last: denial.last,
        proposal,
        never: denial.never.clone(),
    }
}
