//! Not a test: with `SIGIL_MEASURE=N` set, this program measures N launches of `/bin/true` and prints a table, instead of
//! testing. `./task bench` has the comparison with other sandboxes.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use sigil_sandbox::client::ExitStatus;
use sigil_sandbox::confine::{Prepared, Streams};

use crate::confined::profile;
use crate::world::{World, manifest};

type Case<'a> = (&'static str, Box<dyn FnMut() -> bool + 'a>);

pub(crate) fn measure() -> Option<ExitCode> {
    let rounds: usize = std::env::var("SIGIL_MEASURE").ok()?.parse().ok()?;
    let null = File::open("/dev/null").expect("/dev/null");
    let world = World::with_program(
        &manifest("").replace("profile: shell", "profile: native"),
        std::path::Path::new("/usr/bin/true"),
    );
    let request = world.request();
    let prepared = Prepared::new(profile("native", &["/plugin/bin/probe"]), Vec::new());
    drop(prepared);
    let confined = Prepared::new(profile("shell", &["/usr/bin/true"]), Vec::new()).expect("prepared");
    let mut bubblewrap = Command::new("bwrap");
    bubblewrap.args(["--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    bubblewrap.args(["--die-with-parent", "--new-session", "/bin/true"]).stdin(Stdio::null());
    let mut plain = Command::new("/bin/true");
    plain.stdin(Stdio::null());
    let mut cases: Vec<Case<'_>> = vec![
        ("plain posix_spawn", Box::new(move || plain.status().is_ok())),
        ("bubblewrap", Box::new(move || bubblewrap.status().is_ok_and(|status| status.success()))),
        (
            "server: request to exit seen",
            Box::new(|| {
                let launched = world.client().launch(&request).expect("launched");
                ExitStatus::read(&launched.exit).expect("its status") == ExitStatus::Exited(0)
            }),
        ),
        (
            "confined: fork to exit seen",
            Box::new(|| {
                let streams = Streams { stdin: Some(null.as_fd()), stdout: None, stderr: None };
                confined.start(&streams).expect("started").wait().expect("its end") == 0
            }),
        ),
    ];
    let mut times = vec![Vec::new(); cases.len()];
    for round in 0..rounds + 5 {
        for ((_, run), times) in cases.iter_mut().zip(&mut times) {
            let start = Instant::now();
            if run() && round >= 5 {
                times.push(start.elapsed().as_micros());
            }
        }
    }
    println!("{:<32} {:>8} {:>8} {:>8}  (µs)", "case", "min", "median", "p95");
    for ((name, _), times) in cases.iter().zip(&mut times) {
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).copied();
        match (at(0), at(50), at(95)) {
            (Some(min), Some(median), Some(p95)) => println!("{name:<32} {min:>8} {median:>8} {p95:>8}"),
            _ => println!("{name:<32} not on this machine"),
        }
    }
    Some(ExitCode::SUCCESS)
}
