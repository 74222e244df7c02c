//! `sigil demo`: a throw-away Sigil with the real gateway, gate, launcher and plugins, and a model that follows a script.
//!
//! Every scene asserts what it shows: one that does not hold makes the whole demo fail.

mod page;
mod scenes;
mod show;
mod stage;

use std::time::Instant;

use anyhow::Context as _;

use crate::wire;
use show::Show;
use stage::Stage;

/// Runs the demo. To be called from `main`, before any thread exists: it forks the launcher. Answers whether every scene
/// held.
pub(crate) fn run(json: bool) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let stage = Stage::build()?;
    let launcher = wire::launcher::fork_launcher(&stage.resolved.folders)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut show = Show::new(json);
        show.opening(&stage);
        let held = scenes::play(&stage, launcher, &mut show, begun).await.context("the demo could not go on")?;
        show.closing(&stage, begun.elapsed());
        Ok(held)
    })
}
