//! Fifty launches of `/bin/true` at once: from the first request to the last end seen, against fifty of bubblewrap. The two
//! take turns.
//!
//! The lines that begin with `row: ` are read by `./task bench`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench, whose peer is started without a sandbox"
)]

#[path = "../tests/launch/world.rs"]
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
mod world;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use sigil_sandbox::client::ExitStatus;

use world::{World, manifest};

const CROWD: usize = 50;
const ROUNDS: usize = 10;

/// Milliseconds for a crowd, or nothing when one of it failed.
fn ours(world: &World) -> Option<f64> {
    let begun = Instant::now();
    let launched: Vec<_> = (0..CROWD).map(|_| world.launch()).collect();
    let ended = launched.iter().all(|one| ExitStatus::read(&one.exit).is_ok_and(|end| end == ExitStatus::Exited(0)));
    ended.then(|| begun.elapsed().as_secs_f64() * 1000.0)
}

fn bubblewrap() -> Option<f64> {
    let begun = Instant::now();
    let start = |_| {
        let mut command = Command::new("bwrap");
        command.args("--unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp --die-with-parent".split(' '));
        command.args(["--new-session", "/bin/true"]).env_clear().env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
    };
    let started: Vec<_> = (0..CROWD).map(start).collect::<Option<_>>()?;
    let ended: Vec<bool> = started.into_iter().map(|mut one| one.wait().is_ok_and(|status| status.success())).collect();
    ended.iter().all(|ended| *ended).then(|| begun.elapsed().as_secs_f64() * 1000.0)
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

fn main() -> ExitCode {
    let native = manifest("").replace("profile: shell", "profile: native");
    let mut world = World::with_program(&native, Path::new("/bin/true"));
    world.max_running = 2 * CROWD;
    world.start();
    world.endorse(|_| {});
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        mine.push(ours(&world));
        theirs.push(bubblewrap());
    }
    let failed = mine.iter().filter(|time| time.is_none()).count();
    let Some(value) = median(mine.into_iter().flatten().collect()) else {
        println!("no crowd came to its end");
        return ExitCode::FAILURE;
    };
    let mut row = serde_json::json!({
        "what": format!("{CROWD} launches at once"), "value": value, "unit": "ms",
        "note": format!("{failed} of {ROUNDS} crowds with a failure"),
    });
    if let (Some(theirs), Some(row)) = (median(theirs.into_iter().flatten().collect()), row.as_object_mut()) {
        row.insert("against".to_owned(), serde_json::json!([theirs, "bubblewrap"]));
        row.insert("limit".to_owned(), serde_json::json!(["ratio", 0.7]));
    }
    println!("row: {row}");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
