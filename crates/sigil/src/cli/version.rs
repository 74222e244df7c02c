//! `sigil version`

use serde_json::json;

use super::complaint::Outcome;
use super::context::Context;
use super::exit::Exit;

pub(super) fn run(context: &Context) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let commit = option_env!("SIGIL_BUILD_COMMIT");
    if context.output.json {
        context.output.document(&json!({"version": version, "commit": commit, "profile": profile, "target": target}));
    } else {
        let commit = commit.map(|commit| format!(", {commit}")).unwrap_or_default();
        context.output.line(format!("sigil {version} ({profile}, {target}{commit})"));
    }
    Ok(Exit::Ok)
}
