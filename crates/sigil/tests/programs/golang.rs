//! A static Go program, under `go`: nothing of the system is there but certificates and time zones.

use crate::install;
use crate::runner::{Runner, folder, text};
use crate::server::{self, HELLO};

pub fn program(runner: &Runner) -> Option<()> {
    let program = install::go()?;
    let program = text(&program);
    let work = folder();
    let go = || runner.sandbox("go");
    assert_eq!(go().run(&[program, "work"]).ok(), "5600\n");
    assert_eq!(go().write(work.path()).run(&[program, "files", text(work.path())]).ok(), "one! 3\n");
    assert_eq!(go().run(&[program, "child"]).ok(), "child: 5600\n");

    let address = server::serve(None);
    let fetched = go().reach(address).run(&[program, "fetch", &format!("http://{address}/hello")]);
    assert_eq!(fetched.ok(), format!("200 {HELLO}"));
    go().reach(address).run(&[program, "dial", &address.to_string()]).refused("permission denied");
    let ran = go().run(&[program, "dial", &address.to_string()]);
    ran.refused("operation not permitted");
    let elsewhere = format!("http://other.example:{}/hello", address.port());
    let answer = go().reach(address).run(&[program, "fetch", &elsewhere]).ok();
    assert!(answer.starts_with("403"), "{answer}");
    Some(())
}

#[test]
fn a_go_program_works_and_reaches_nothing_by_itself() {
    program(&Runner::plain());
}

#[test]
fn a_go_program_finds_no_libraries_and_no_files() {
    let Some(program) = install::go() else { return };
    // Not below /tmp, which every sandbox has for itself.
    let outside = tempfile::tempdir_in("/var/tmp").expect("a folder");
    crate::runner::open(outside.path());
    let runner = Runner::plain();
    runner.sandbox("go").run(&[text(&program), "files", text(outside.path())]).refused("read-only file system");
    assert!(!outside.path().join("made").exists());
    runner.sandbox("go").run(&["/usr/bin/true"]).refused("");
}
