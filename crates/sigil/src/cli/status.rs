//! `sigil status`

use sigil_server::api;

use super::client::{Client, runtime};
use super::complaint::Outcome;
use super::context::Context;
use super::exit::Exit;
use super::output::{Output, Paint};
use super::safe;

pub(super) fn run(context: &Context) -> Outcome {
    let client = Client::new(&context.resolved()?.folders.socket);
    let status: api::Status = runtime()?.block_on(client.get("/api/v1/status"))?;
    let output = &context.output;
    if output.json {
        output.document(&status);
    } else {
        let ready =
            if status.ready { output.paint(Paint::Green, "ready") } else { output.paint(Paint::Red, "not ready") };
        let (version, pid, uptime) = (safe::line(&status.version), status.pid, duration(status.uptime_ms));
        output.line(format!("Sigil {version} · pid {pid} · up {uptime} · {ready}"));
        let policy = status.policy_version.map_or_else(|| "none".to_owned(), |version| format!("version {version}"));
        output.line(format!("  sandbox    {}", safe::line(&status.posture)));
        output.line(format!("  policy     {policy}"));
        output.line(format!(
            "  turns      {} running, {} waiting for you",
            status.turns_running, status.approvals_pending
        ));
        output.line(format!("  audit log  {} entries", status.audit_size));
        for part in &status.components {
            let (name, detail) = (safe::line(&part.name), safe::line(&part.detail));
            output.line(format!("  {} {name:<20} {detail}", health(output, part.health)));
        }
        if status.approvals_pending > 0 {
            output.note("next: sigil approvals");
        }
    }
    Ok(if status.health == api::Health::Failed { Exit::Failed } else { Exit::Ok })
}

fn health(output: &Output, health: api::Health) -> String {
    match health {
        api::Health::Ok => output.paint(Paint::Green, "✓ ok      "),
        api::Health::Degraded => output.paint(Paint::Yellow, "! degraded"),
        api::Health::Failed => output.paint(Paint::Red, "✗ failed  "),
        api::Health::Off => output.paint(Paint::Dim, "– off     "),
    }
}

/// Milliseconds in words: `3 d 4 h`, `12 min`, `8 s`.
fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
