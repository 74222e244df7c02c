//! `sigil demo`: a throw-away Sigil with the real gateway, gate, launcher and plugins, and a model that follows a script.
//!
//! Every scene asserts what it shows: one that does not hold makes the whole demo fail.

mod page;
mod scenes;
mod show;
mod stage;

use std::mem::ManuallyDrop;
use std::time::Instant;

use anyhow::Context as _;
use sigil_sandbox::client::ExitStatus;
use sigil_sandbox::confine::apart;

use crate::wire;
use show::Show;
use stage::Stage;

/// Runs the demo. To be called from `main`, before any thread exists: it forks the launcher, and the gateway confines itself,
/// in a process of its own, because this one removes the demo's folder afterwards. Answers, in both, whether every scene held.
pub(crate) fn run(json: bool) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let stage = Stage::build()?;
    if let Some(ended) = apart()? {
        return Ok(ended == ExitStatus::Exited(0));
    }
    play(&ManuallyDrop::new(stage), json, begun)
}

fn play(stage: &Stage, json: bool, begun: Instant) -> anyhow::Result<bool> {
    let launcher = wire::launcher::fork_launcher(&stage.resolved)?;
    let opened = wire::opened::open(stage.resolved.clone(), launcher, &[stage.root()])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut show = Show::new(json);
        show.opening(stage);
        let held = scenes::play(stage, opened, &mut show, begun).await.context("the demo could not go on")?;
        show.closing(stage, begun.elapsed());
        Ok(held)
    })
}
