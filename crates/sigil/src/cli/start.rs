//! `sigil start` and `sigil demo`: the launcher first, then the runtime, then the rest.

use std::time::Duration;

use serde_json::json;
use sigil_config::{LogFormat, Resolved};
use sigil_types::Code;
use tokio::signal::unix::{SignalKind, signal};

use super::args::StartArgs;
use super::complaint::{Complaint, Outcome};
use super::context::Context;
use super::exit::Exit;
use super::output::Paint;
use crate::wire::{self, opened::Opened};

/// Runs the demo's scenes.
pub(super) fn demo(context: &Context) -> Outcome {
    let held = crate::demo::run(context.output.json)?;
    Ok(if held { Exit::Ok } else { Exit::Failed })
}

/// Runs the gateway until it is told to stop.
pub(super) fn run(context: &Context, args: &StartArgs) -> Outcome {
    let mut flags = Vec::new();
    if let Some(listen) = &args.listen {
        flags.push(("--listen", "gateway.listen", json!(listen)));
    }
    if args.no_listen {
        flags.push(("--no-listen", "gateway.listen", json!(null)));
    }
    if context.output.verbose > 0 {
        flags.push(("-v", "log.level", json!(if context.output.verbose > 1 { "trace" } else { "debug" })));
    }
    let mut resolved = context.resolved_with(flags)?;
    let more = args.plugin_dir.iter().cloned();
    resolved.settings.plugins.dirs.splice(0..0, more);
    log(&resolved)?;
    for note in &resolved.notes {
        tracing::warn!(code = %note.code, "{}", note.text);
    }
    // No thread may exist before this line: the launcher is forked from a process of one.
    let launcher = wire::launcher::fork_launcher(&resolved)?;
    let opened = wire::opened::open(resolved, launcher, &[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Complaint::new(Code::new("cli.runtime.start.failed"), format!("cannot start the runtime: {error}"))
    })?;
    let outcome = runtime.block_on(serve(context, opened));
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}

async fn serve(context: &Context, opened: Opened) -> Outcome {
    let unusable = |error: std::io::Error| {
        Complaint::new(Code::new("cli.runtime.start.failed"), format!("cannot listen for signals: {error}"))
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(unusable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unusable)?;
    let socket = opened.socket().to_owned();
    let mut running = wire::start::start(opened, false).await?;
    if let Err(error) = sigil_sandbox::give_back_memory() {
        tracing::debug!(%error, "no memory was given back after the start");
    }
    let output = &context.output;
    if output.json {
        output.document(&json!({"ready": true, "socket": socket, "address": running.address}));
    } else {
        output.note(format!("{} on {}", output.paint_error(Paint::Green, "Sigil is ready"), socket.display()));
        running
            .address
            .iter()
            .for_each(|address| output.note(format!("  http://{address}/api/v1/status  (with a token)")));
        output.note("  sigil chat \"hello\"    ·    Ctrl-C stops it");
    }
    tokio::select! {
        ended = running.ended() => {
            ended?;
            return Err(Complaint::new(Code::new("cli.gateway.stopped"), "the gateway stopped by itself"));
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    output.note("stopping: turns finish first; again stops at once");
    tokio::select! {
        stopped = running.shut_down() => stopped?,
        _ = terminate.recv() => return Ok(Exit::Interrupted),
        _ = interrupt.recv() => return Ok(Exit::Interrupted),
    }
    Ok(Exit::Ok)
}

fn log(resolved: &Resolved) -> Result<(), Complaint> {
    let log = &resolved.settings.log;
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(log.level.as_str()).with_writer(std::io::stderr).with_target(false);
    let set = match log.format {
        LogFormat::Json => subscriber.json().try_init(),
        LogFormat::Text => subscriber.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
    };
    set.map_err(|error| Complaint::new(Code::new("cli.gateway.start.failed"), format!("cannot write a log: {error}")))
}
