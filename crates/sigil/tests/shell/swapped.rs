//! What changes while a command starts or runs.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cases::End;
use crate::world::{User, World};

#[test]
fn a_folder_that_becomes_a_link_uncovers_nothing() {
    let world = World::new(User::Self_);
    // `r/p` is by turns a folder with a secret and a link to another one.
    fs::create_dir_all(world.path("r/p")).expect("a folder");
    fs::create_dir_all(world.path("r/q")).expect("a folder");
    fs::write(world.path("r/p/x"), "SECRET\n").expect("a file");
    fs::write(world.path("r/q/x"), "other\n").expect("a file");
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::rename(world.path("r/p"), world.path("r/kept")).expect("put aside");
                symlink("q", world.path("r/p")).expect("a link");
                fs::remove_file(world.path("r/p")).expect("removed");
                fs::rename(world.path("r/kept"), world.path("r/p")).expect("put back");
            }
        });
        let options = ["--read", "@/r", "--deny", "@/r/p/x", "--", "sh", "-c", "cat @/r/p/x @/r/kept/x"];
        let options = options.map(|word| world.fill(word));
        let seen: Vec<_> = (0..60).map(|_| world.run(&options, "")).collect();
        done.store(true, Ordering::Relaxed);
        seen
    });
    for ran in &seen {
        assert!(!ran.out.contains("SECRET"), "{} {}", ran.out, ran.err);
    }
    let refused = seen.iter().filter(|ran| ran.end == End::Code(126)).count();
    let covered = seen.iter().filter(|ran| ran.end == End::Code(1)).count();
    assert!(refused > 0 && covered > 0, "{refused} starts met a link, {covered} a folder");
}

#[test]
fn a_denied_file_that_is_replaced_from_outside_ends_the_command() {
    let world = World::new(User::Self_);
    let script = world.fill("echo ready; while :; do cat @/r/.env; done 2>/dev/null");
    let options = ["--read", "@/r", "--deny", "@/r/.env", "--", "sh", "-c", &script].map(|word| world.fill(word));
    let mut child = world.command(&options).spawn().expect("started");
    let mut out = child.stdout.take().expect("its output");
    out.read_exact(&mut [0; 6]).expect("ready");
    fs::write(world.path("r/.env.new"), "replaced\n").expect("a file");
    fs::rename(world.path("r/.env.new"), world.path("r/.env")).expect("replaced");
    let mut err = String::new();
    child.stderr.take().expect("its complaints").read_to_string(&mut err).expect("its end");
    assert_eq!(End::of(child.wait().expect("its end")), End::Code(126), "{err}");
    assert!(err.contains("replaced from outside"), "{err}");
}
