//! Launching `/bin/true`: through a warm launcher in the full sandbox (profile `native`, request to exit seen; with the next
//! sandbox standing ready, as it does 5 ms after a launch of the same program, and without), against
//! bubblewrap, birdcage (`crates/sandbox/peers`) and no sandbox at all. All in one run, taking turns, so that a busy moment hits all alike.
//!
//! `SIGIL_BENCH_ROUNDS` sets how often each is measured (200); `SIGIL_BENCH_PEERS` names the built program of the peers. The lines that begin with `row: ` are read by `./task bench`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench, whose peers are started without a sandbox"
)]

#[path = "../tests/launch/world.rs"]
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
mod world;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use sigil_sandbox::client::ExitStatus;

use world::{World, manifest};

/// Before the launcher could make the next sandbox ready: as the first launch of a plugin.
const AT_ONCE: &str = "server, nothing stands ready";

/// A launch of `/bin/true` to its end: whether it ended as it should.
type Launch<'a> = Box<dyn FnMut() -> bool + 'a>;

/// Microseconds: the least, the median, the 95th percentile.
struct Times {
    min: u128,
    median: u128,
    p95: u128,
}

impl Times {
    fn of(mut times: Vec<u128>) -> Option<Self> {
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).copied();
        Some(Self { min: at(0)?, median: at(50)?, p95: at(95)? })
    }
}

/// The peer that runs for the whole bench, as the launcher does, and launches once for each line that it is sent.
struct Birdcage {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Birdcage {
    fn start() -> Option<Self> {
        let program = std::env::var("SIGIL_BENCH_PEERS").ok()?;
        let mut peer = command(&program, &[]);
        let mut child = peer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let answers = BufReader::new(child.stdout.take()?);
        Some(Self { child, answers })
    }

    fn launch(&mut self) -> bool {
        let asked = self.child.stdin.as_mut().is_some_and(|stdin| stdin.write_all(b"\n").is_ok());
        let mut answer = String::new();
        asked && self.answers.read_line(&mut answer).is_ok() && answer.trim().parse::<u128>().is_ok()
    }
}

impl Drop for Birdcage {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    // No more than a sandboxed program gets: what cargo sets makes the loader search.
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn main() -> ExitCode {
    let rounds = std::env::var("SIGIL_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200_usize);
    let native = manifest("").replace("profile: shell", "profile: native");
    let world = World::with_program(&native, Path::new("/bin/true"));
    let request = world.request();
    let client = world.client();

    let mut plain = command("/bin/true", &[]);
    let mut bubblewrap = command(
        "bwrap",
        &[
            "--unshare-all",
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "--die-with-parent",
            "--new-session",
            "/bin/true",
        ],
    );
    let succeeds = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    let server = || {
        let launched = client.launch(&request).unwrap_or_else(|error| panic!("{error}"));
        ExitStatus::read(&launched.exit).expect("its status") == ExitStatus::Exited(0)
    };
    let mut birdcage = Birdcage::start();
    let mut launches: [(&str, Launch<'_>); 5] = [
        ("no sandbox (posix_spawn)", Box::new(move || succeeds(&mut plain))),
        ("bubblewrap", Box::new(move || succeeds(&mut bubblewrap))),
        ("birdcage", Box::new(move || birdcage.as_mut().is_some_and(Birdcage::launch))),
        ("server", Box::new(server)),
        (AT_ONCE, Box::new(server)),
    ];
    let mut taken = [const { Vec::new() }; 5];
    for round in 0..rounds + 5 {
        for ((name, launch), taken) in launches.iter_mut().zip(&mut taken) {
            // What the one before leaves to the kernel to take down, and what a launcher does while nobody waits, is over.
            if *name != AT_ONCE {
                std::thread::sleep(Duration::from_millis(15));
            }
            let begun = Instant::now();
            if launch() && round >= 5 {
                taken.push(begun.elapsed().as_micros());
            }
        }
    }
    let [plain, bubblewrap, birdcage, server, at_once] = taken.map(Times::of);
    println!("{:<28} {:>8} {:>8} {:>8}  µs, {rounds} rounds", "launch of /bin/true", "min", "median", "p95");
    for ((name, _), times) in launches.iter().zip([&plain, &bubblewrap, &birdcage, &server, &at_once]) {
        match times {
            Some(Times { min, median, p95 }) => println!("{name:<28} {min:>8} {median:>8} {p95:>8}"),
            None => println!("{name:<28} not on this machine"),
        }
    }
    let (Some(server), Some(at_once)) = (server, at_once) else {
        println!("the launcher started nothing");
        return ExitCode::FAILURE;
    };
    rows(&server, &at_once, bubblewrap.as_ref(), birdcage.as_ref());
    ExitCode::SUCCESS
}

/// Prints the rows for the table.
fn rows(server: &Times, at_once: &Times, bubblewrap: Option<&Times>, birdcage: Option<&Times>) {
    let ms = |micros: u128| f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1000.0;
    let note = |theirs: &Times| {
        let (least, slow) = (ms(server.min) / ms(theirs.min), ms(server.p95) / ms(theirs.p95));
        let first = ms(at_once.median) / ms(theirs.median);
        format!("by minimum {least:.2}, by 95th percentile {slow:.2}; {first:.2} when nothing stands ready")
    };
    let row = |what: &str, peer: &str, theirs: Option<&Times>, limit: f64, absent: &str| {
        let mut row = serde_json::json!({ "what": what, "value": ms(server.median), "unit": "ms", "note": absent });
        if let (Some(theirs), Some(row)) = (theirs, row.as_object_mut()) {
            row.insert("against".to_owned(), serde_json::json!([ms(theirs.median), peer]));
            row.insert("limit".to_owned(), serde_json::json!(["ratio", limit]));
            row.insert("note".to_owned(), note(theirs).into());
        }
        println!("row: {row}");
    };
    let absent = "bubblewrap is not installed (apt-get install bubblewrap)";
    row("launch of /bin/true, server, request to exit", "bubblewrap", bubblewrap, 0.5, absent);
    let absent = "not built: cargo build --release in crates/sandbox/peers";
    row("the same", "birdcage", birdcage, 0.7, absent);
}
