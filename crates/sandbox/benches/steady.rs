//! What a confined program pays for its system calls: opening, reading and closing a file, getppid, and a byte through a pipe,
//! inside the full sandbox (profile `native`), against the same Landlock rules and filter put on by hand without anything
//! else, and against nothing. The same program does the work each time; the three take turns.
//!
//! The lines that begin with `row: ` are read by `./task bench`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench, which starts itself without a sandbox to compare"
)]

#[path = "../tests/launch/world.rs"]
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use landlock::{ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope};
use sigil_sandbox::profile::base::BaseProfile;
use sigil_sandbox::profile::seccomp;

use world::{World, finish, manifest};

/// What is opened: it exists in every sandbox.
const FILE: &str = "/etc/ld.so.cache";
/// How often each is done in one go.
const TIMES: u32 = 20_000;
/// How many goes, of which the least counts.
const GOES: usize = 5;
/// The variable that tells this program to confine itself by hand first.
const BY_HAND: &str = "SIGIL_BENCH_BY_HAND";
/// The variable that tells this program to do the work and nothing else.
const WORK: &str = "SIGIL_BENCH_WORK";

/// Nanoseconds for each kind of work.
type Costs = BTreeMap<String, f64>;

fn least(mut act: impl FnMut()) -> f64 {
    let go = |act: &mut dyn FnMut()| {
        let begun = Instant::now();
        (0..TIMES).for_each(|_| act());
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
    };
    (0..GOES).map(|_| go(&mut act)).fold(f64::MAX, f64::min)
}

fn work() -> Costs {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let (read, write) = rustix::pipe::pipe().expect("a pipe");
    let mut byte = [0];
    let getppid = least(|| {
        std::hint::black_box(rustix::process::getppid());
    });
    let open = least(|| {
        let file = openat(CWD, FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("opened");
        rustix::io::read(&file, &mut byte).expect("read");
    });
    let pipe = least(|| {
        rustix::io::write(&write, b"x").expect("written");
        rustix::io::read(&read, &mut byte).expect("read");
    });
    Costs::from([("getppid".to_owned(), getppid), ("open, read, close".to_owned(), open), ("pipe".to_owned(), pipe)])
}

/// The layers that cost something at each call, as anybody would put them on.
fn confine_by_hand() {
    let fs = AccessFs::from_all(ABI::V5);
    let base = BaseProfile::load("native").expect("the base profile");
    let mut ruleset = Ruleset::default()
        .handle_access(fs)
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .expect("a ruleset");
    for bind in base.bind.iter().filter(|bind| bind.path.exists()) {
        let rights = if bind.path.is_dir() { AccessFs::from_read(ABI::V5) } else { AccessFs::ReadFile.into() };
        let path = PathFd::new(&bind.path).expect("opened");
        ruleset = ruleset.add_rule(PathBeneath::new(path, rights)).expect("a rule");
    }
    rustix::thread::set_no_new_privs(true).expect("no new privileges");
    ruleset.restrict_self().expect("restricted");
    for filter in seccomp::compile(&base.filter(&BTreeSet::new())).expect("compiled") {
        seccompiler::apply_filter(&filter).expect("filtered");
    }
}

fn costs(text: &str) -> Costs {
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Does the work in a process of its own.
fn outside(by_hand: bool) -> Costs {
    let mut own = Command::new(std::env::current_exe().expect("this program"));
    own.env_clear().env(WORK, "1");
    if by_hand {
        own.env(BY_HAND, "1");
    }
    let done = own.output().expect("started");
    costs(&String::from_utf8_lossy(&done.stdout))
}

fn main() -> ExitCode {
    // In the sandbox it is the plugin's program, and its environment is the sandbox's.
    if std::env::var_os(WORK).is_some() || Path::new("/plugin/bin").exists() {
        if std::env::var_os(BY_HAND).is_some() {
            confine_by_hand();
        }
        println!("{}", serde_json::to_string(&work()).expect("figures"));
        return ExitCode::SUCCESS;
    }
    let native = manifest("").replace("profile: shell", "profile: native");
    let world = World::with_program(&native, &std::env::current_exe().expect("this program"));
    let mut least: [Costs; 3] = Default::default();
    for _ in 0..5 {
        let (_, inside, complaint) = finish(world.launch());
        assert!(!inside.is_empty(), "{complaint}");
        for (least, costs) in least.iter_mut().zip([costs(&inside), outside(true), outside(false)]) {
            for (what, cost) in costs {
                let known = least.entry(what).or_insert(cost);
                *known = known.min(cost);
            }
        }
    }
    let [inside, by_hand, plain] = &least;
    for (what, cost) in inside {
        let of = |costs: &Costs| costs.get(what).copied().unwrap_or(f64::NAN);
        let (hand, none) = (of(by_hand), of(plain));
        let row = serde_json::json!({
            "what": format!("{what}, inside"), "value": cost, "unit": "ns", "against": [hand, "Landlock + seccomp by hand"],
            // As dear as the layers alone; a tenth is what two processes of the same program differ by.
            "limit": ["ratio", 1.1], "note": format!("{none:.0} ns unconfined: {:.2} x", cost / none),
        });
        println!("row: {row}");
    }
    ExitCode::SUCCESS
}
