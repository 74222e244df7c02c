//! What no limit of the kernel holds is watched: memory of all processes together, their number, time, disk.

use std::os::fd::AsFd;

use sigil_policy::{Posture as Floor, SandboxLimits};
use sigil_sandbox::client::{ExitStatus, Rpc};
use sigil_sandbox::launcher::Excess;

use crate::harness::Test;
use crate::restricted::{Lack, inside};
use crate::world::{World, manifest};

pub(crate) const TESTS: &[Test] = &[
    ("memory_of_all_processes_together_is_watched", || {
        memory("memory_of_all_processes_together_is_watched", Lack::Nothing)
    }),
    ("memory_is_watched_without_namespaces", || memory("memory_is_watched_without_namespaces", Lack::Namespaces)),
    ("processes_are_counted_without_namespaces", processes),
    ("a_program_lives_no_longer_than_it_may", wall_clock),
    ("folders_grow_no_more_than_they_may_in_all_launches_together", disk),
    ("the_temporary_folder_on_the_host_is_watched", scratch),
    ("what_runs_is_told_with_what_it_uses", usage),
];

/// A program under these limits; `folder` is granted to write.
fn world(script: &str, folder: bool, limits: impl FnOnce(&mut SandboxLimits)) -> World {
    let ask = "    filesystem:\n      - param: docs\n        access: write\n        reason: For a test.\n";
    let mut world = World::unstarted(&manifest(if folder { ask } else { "" }), "true");
    let granted = world.path("granted").display().to_string();
    // Whoever runs the program: without id-mapped mounts its user is another.
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&granted, all).expect("its mode");
    world.tree = world.install(&world.manifest, &script.replace("GRANTED", &granted));
    world.start();
    let grant =
        if folder { format!("[[folders.docs]]\npath = \"{granted}\"\naccess = \"write\"\n") } else { String::new() };
    let (tree, sh) = (world.tree, crate::world::shell());
    let sh = format!("interpreters = [{{ path = \"{}\", digest = \"{}\" }}]", sh.path, sh.digest);
    let toml = format!("trees = [\"{tree}\"]\n{sh}\n{grant}");
    world
        .set_policy(1, |ceilings| {
            ceilings.posture = Floor::Reduced;
            limits(&mut ceilings.sandbox);
            ceilings.plugins.insert("probe".parse().expect("a name"), toml::from_str(&toml).expect("a grant"));
        })
        .expect("accepted");
    world
}

/// Waits for its end, which must be for this.
fn ends_for(world: &World, excess: Excess) {
    let launched = world.launch();
    let status = ExitStatus::read(&launched.exit).expect("its status");
    let ended = world.client().status().expect("a status").ended;
    let found = ended.iter().find(|ended| ended.launch == launched.id).map(|ended| ended.excess);
    assert_eq!((status, found), (ExitStatus::Killed, Some(excess)));
}

fn memory(name: &str, lack: Lack) {
    if inside(name, lack) {
        // Each has a third less than a process may have.
        let one = "cat /dev/zero | tail -c 40000000 > /dev/null & ";
        let world = world(&format!("{} wait", one.repeat(3)), false, |limits| limits.memory_bytes = 64 << 20);
        let expected = world.client().status().expect("a status").host.cgroup.limits();
        if expected {
            println!("skipped: here a control group holds it");
        } else {
            ends_for(&world, Excess::Memory);
        }
    }
}

fn processes() {
    if inside("processes_are_counted_without_namespaces", Lack::Namespaces) {
        let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep 1000 & done; wait";
        // Under root the kernel counts them, as their user is theirs alone: then the shell cannot start them all, and ends.
        let world = world(script, false, |limits| limits.processes = 10);
        if rustix::process::geteuid().is_root() {
            let launched = world.launch();
            assert_eq!(ExitStatus::read(&launched.exit).expect("its status"), ExitStatus::Exited(2));
        } else {
            ends_for(&world, Excess::Processes);
        }
    }
}

fn wall_clock() {
    let world = world("trap '' TERM; while :; do sleep 1000; done", false, |limits| limits.wall_seconds = 1);
    ends_for(&world, Excess::WallClock);
}

fn disk() {
    let script = "cat GRANTED/before > /dev/null; while read line; do \
                  head -c 300000 /dev/zero > GRANTED/new-$line; echo wrote; done";
    let mut world = world(script, true, |limits| limits.disk_bytes = 1_000_000);
    std::fs::write(world.path("granted/before"), vec![1; 5_000_000]).expect("what was there before");
    let write = |world: &mut World, names: &[&str]| {
        let launched = world.launch();
        let Rpc::Socket(socket) = &launched.rpc else { panic!("a socket") };
        // Until it was looked at once, nothing is known of what was there.
        let known = grows(world, 0).expect("it waits for its input");
        let mut out = std::io::BufReader::new(std::fs::File::from(launched.stdout.try_clone().expect("a copy")));
        for name in names {
            let _ = rustix::io::write(socket.as_fd(), format!("{name}\n").as_bytes());
            let mut line = String::new();
            let _ = std::io::BufRead::read_line(&mut out, &mut line);
        }
        let held = grows(world, known + names.len() as u64 * 300_000).is_some();
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        let status = ExitStatus::read(&launched.exit).expect("its status");
        let ended = world.client().status().expect("a status").ended;
        let why = ended.iter().find(|ended| ended.launch == launched.id).map(|ended| ended.excess);
        assert_eq!(held, why.is_none());
        // What it left is counted when its end was seen.
        while !world.client().status().expect("a status").running.is_empty() {}
        (status, why)
    };
    assert_eq!(write(&mut world, &["a", "b"]).1, None, "within the limit");
    assert_eq!(write(&mut world, &["c"]).1, None, "within what is left of it");
    let last = write(&mut world, &["d"]);
    assert_eq!(last, (ExitStatus::Killed, Some(Excess::Disk)), "who is started again does not start anew");
}

/// Waits until the launcher has seen that the folders of the one program that runs grew so much, or has ended it.
fn grows(world: &World, bytes: u64) -> Option<u64> {
    loop {
        let status = world.client().status().expect("a status");
        let one = status.usage.first()?;
        let grown = one.usage.disk_grown_bytes;
        if grown >= Some(bytes) {
            return grown.filter(|_| status.ended.iter().all(|ended| ended.launch != one.launch));
        }
        std::thread::yield_now();
    }
}

fn scratch() {
    if inside("the_temporary_folder_on_the_host_is_watched", Lack::Namespaces) {
        let script = "for i in 1 2 3 4 5; do head -c 300000 /dev/zero > $TMPDIR/$i; done; sleep 1000";
        let world = world(script, false, |limits| limits.tmp_bytes = 1 << 20);
        ends_for(&world, Excess::Scratch);
        while !world.client().status().expect("a status").running.is_empty() {}
        assert_eq!(std::fs::read_dir(world.path("run")).expect("the folder").count(), 0, "and removed");
    }
}

fn usage() {
    let world = World::new("cat /dev/zero | tail -c 20000000 > /dev/null");
    let launched = world.launch();
    loop {
        let status = world.client().status().expect("a status");
        let [one] = &status.usage[..] else { panic!("{:?}", status.usage) };
        assert_eq!((one.launch, one.plugin.as_str()), (launched.id, "probe"));
        if one.usage.memory_bytes.is_some_and(|bytes| bytes > 15_000_000) && one.usage.processes >= Some(3) {
            break;
        }
        std::thread::yield_now();
    }
    world.client().kill(launched.id).expect("killed");
}
