//! The checks of the set-up: configuration, policy, keys, gateway.

use sigil_policy::sign::{KeyFile, Protection};
use sigil_policy::{Bundle, TrustStore, Unverified};
use sigil_server::api;

use super::super::client::{Client, runtime};
use super::super::context::Context;
use super::{Check, Status};

/// Configuration, policy, keys, gateway.
pub(super) fn set_up(context: &Context, checks: &mut Vec<Check>) {
    let mut add =
        |id, status, detail: String, fix: &str| checks.push(Check { id, status, detail, fix: fix.to_owned() });
    let resolved = match context.resolved() {
        Ok(resolved) => resolved,
        Err(complaint) => {
            add("config.valid", Status::Fail, complaint.what.clone(), "sigil config validate");
            return;
        }
    };
    let file = resolved.file.as_ref().map_or_else(|| "no file; defaults".to_owned(), |file| file.display().to_string());
    add("config.valid", Status::Pass, file, "");
    for note in &resolved.notes {
        add("config.note", Status::Warn, note.text.clone(), "sigil config show --sources");
    }
    let folders = &resolved.folders;
    let verified = std::fs::read(folders.trust())
        .map_err(|error| format!("{}: {error}", folders.trust().display()))
        .and_then(|trust| {
            let trust = TrustStore::parse(&trust).map_err(|error| error.to_string())?;
            let envelope =
                std::fs::read(&folders.policy).map_err(|error| format!("{}: {error}", folders.policy.display()))?;
            let bundle =
                Bundle::<Unverified>::parse(&envelope).and_then(|bundle| bundle.verify(&trust, context.now(), 0));
            bundle.map_err(|error| error.to_string())
        });
    match verified {
        Ok(bundle) => {
            let days = bundle.expires().millis_since(context.now()) / 86_400_000;
            let detail = format!("version {}, valid for {days} days more", bundle.version());
            let soon = days < 30;
            let fix = if soon { "sigil policy sign" } else { "" };
            add("policy.signed", if soon { Status::Warn } else { Status::Pass }, detail, fix);
        }
        Err(why) if resolved.file.is_none() => {
            add("policy.signed", Status::Skip, format!("not set up: {why}"), "sigil init")
        }
        Err(why) => add("policy.signed", Status::Fail, why, "sigil policy verify"),
    }
    let key = folders.keys().join("owner.json");
    match KeyFile::read(&key).map(|file| file.protection()) {
        Ok(Protection::Passphrase) => add("policy.key", Status::Pass, "the owner's key is encrypted".to_owned(), ""),
        Ok(Protection::None) => {
            let detail = format!("{} is not encrypted: whoever reads it can sign", key.display());
            add(
                "policy.key",
                Status::Warn,
                detail,
                "move it to another machine, or make one with a passphrase: sigil policy keygen",
            );
        }
        Err(_) if !key.exists() => {
            add("policy.key", Status::Pass, "the owner's key is not on this machine".to_owned(), "")
        }
        Err(error) => add("policy.key", Status::Fail, error.to_string(), "chmod 600 on the key file"),
    }
    let status = runtime()
        .and_then(|runtime| runtime.block_on(Client::new(&folders.socket).get::<api::Status>("/api/v1/status")));
    match status {
        Ok(status) => {
            add(
                "gateway.running",
                Status::Pass,
                format!("ready: {}, audit log of {} entries", status.ready, status.audit_size),
                "",
            );
            let part = |part: &&api::Component| matches!(part.health, api::Health::Degraded | api::Health::Failed);
            for part in status.components.iter().filter(part) {
                let failed = part.health == api::Health::Failed;
                let status = if failed { Status::Fail } else { Status::Warn };
                add("gateway.component", status, format!("{}: {}", part.name, part.detail), "sigil status");
            }
        }
        Err(_) => add("gateway.running", Status::Skip, "the gateway does not run".to_owned(), "sigil start"),
    }
}
