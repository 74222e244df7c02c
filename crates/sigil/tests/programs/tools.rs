//! Single tools under `native`: no shell and no other program is there beside them.

use crate::runner::{Runner, folder, installed, open, path, text};

pub fn ripgrep(runner: &Runner) -> Option<()> {
    installed(&["rg"]).then_some(())?;
    let tree = folder();
    for at in 0..40 {
        let folder = tree.path().join(format!("d{}", at % 7));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("f{at}.txt")), format!("line {at}\nneedle {at}\n")).expect("a file");
    }
    let found = runner.sandbox("native").read(tree.path()).run(&[&path("rg"), "-c", "needle", text(tree.path())]).ok();
    assert_eq!(found.lines().count(), 40);
    let mapped = [&path("rg"), "--mmap", "--threads", "1", "-o", "needle 7$", text(tree.path())];
    let found = runner.sandbox("native").read(tree.path()).run(&mapped).ok();
    assert!(found.ends_with("f7.txt:needle 7\n"), "{found}");
    Some(())
}

pub fn sqlite(runner: &Runner) -> Option<()> {
    installed(&["sqlite3"]).then_some(())?;
    let folder = folder();
    let base = folder.path().join("base.db");
    let script = "pragma journal_mode = wal; create table t (n integer, w text);
        with recursive c (x) as (select 1 union all select x + 1 from c where x < 5000)
          insert into t select x, hex(randomblob(20)) from c;
        create index i on t (w); begin; update t set w = 'same' where n % 2; commit;
        select count(distinct w), sum(n) from t; pragma integrity_check; vacuum; pragma mmap_size = 1000000;
        select count(*) from t;";
    let sandbox = || runner.sandbox("native").write(folder.path());
    let out = sandbox().run(&[&path("sqlite3"), text(&base), script]).ok();
    assert_eq!(out, "wal\n2501|12502500\nok\n1000000\n5000\n");
    sandbox().run(&[&path("sqlite3"), text(&base), "select writefile('/tmp/../etc/x', 'x') is null; .shell id"]);
    Some(())
}

pub fn imagemagick(runner: &Runner) -> Option<()> {
    installed(&["convert"]).then_some(())?;
    let folder = folder();
    let settings = std::path::Path::new("/etc/ImageMagick-6");
    let sandbox = || if settings.exists() { runner.sandbox("native").read(settings) } else { runner.sandbox("native") };
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let (large, small) = (at("large.png"), at("small.jpg"));
    let make = [&path("convert"), "-size", "300x200", "gradient:red-blue", "-blur", "0x3", &large];
    sandbox().write(folder.path()).run(&make).ok();
    sandbox().write(folder.path()).run(&[&path("convert"), &large, "-resize", "50%", &small]).ok();
    let said = sandbox().read(folder.path()).run(&[&path("identify"), &small]).ok();
    assert!(said.contains("JPEG 150x100"), "{said}");
    Some(())
}

/// The small tools that plugins and people start by themselves, one by one.
pub fn small_tools(runner: &Runner) -> Option<()> {
    let folder = folder();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let (from, to, below) = (at("from"), at("to"), at("below"));
    std::fs::write(&from, "b\na\n".repeat(5000)).expect("a file");
    std::fs::create_dir(&below).expect("a folder");
    open(&folder.path().join("below"));
    for command in [
        &["/usr/bin/cp", &from, &to][..],
        &["/usr/bin/sort", "--parallel=2", "-o", &to, &from],
        &["/usr/bin/touch", "-d", "@1", &to],
        &["/usr/bin/chmod", "600", &to],
        &["/usr/bin/truncate", "-s", "100", &to],
        &["/usr/bin/ln", "-s", "to", &at("link")],
        &["/usr/bin/readlink", &at("link")],
        &["/usr/bin/mv", &to, &at("below/moved")],
        &["/usr/bin/ls", "-lR", &below],
        &["/usr/bin/find", &below, "-delete"],
        &["/usr/bin/dd", &format!("if={from}"), &format!("of={}", at("copy")), "bs=100", "conv=fsync"],
        &["/usr/bin/tail", "-n", "1", &from],
        &["/usr/bin/df", &from],
        &["/usr/bin/sleep", "0.01"],
        &["/usr/bin/timeout", "5", "/usr/bin/timeout", "--version"],
        &["/usr/bin/env", "-C", "/tmp", "/usr/bin/env"],
        &["/usr/bin/date"],
        &["/usr/bin/uname"],
        &["/usr/bin/nproc"],
        &["/usr/bin/openssl", "rand", "-hex", "8"],
    ] {
        if std::path::Path::new(command[0]).exists() {
            runner.sandbox("native").write(folder.path()).run(command).ok();
        }
    }
    Some(())
}

#[test]
fn ripgrep_searches_what_it_may_read() {
    ripgrep(&Runner::plain());
}

#[test]
fn ripgrep_sees_nothing_else() {
    if !installed(&["rg"]) {
        return;
    }
    let (tree, outside) = (folder(), folder());
    std::fs::write(outside.path().join("f"), "needle").expect("a file");
    let search = [&path("rg"), "needle", text(outside.path())];
    Runner::plain().sandbox("native").read(tree.path()).run(&search).refused("No such file");
    // Preprocessors are other programs, of which there are none.
    let with = [&path("rg"), "--pre", "/usr/bin/cat", "needle", text(tree.path())];
    std::fs::write(tree.path().join("f"), "needle").expect("a file");
    Runner::plain().sandbox("native").read(tree.path()).run(&with).refused("No such file");
}

#[test]
fn sqlite_keeps_a_database() {
    sqlite(&Runner::plain());
}

#[test]
fn sqlite_writes_nowhere_else_and_starts_nothing() {
    if !installed(&["sqlite3"]) {
        return;
    }
    let (granted, outside) = (folder(), folder());
    let run = |sql: &str| {
        Runner::plain().sandbox("native").write(granted.path()).input(sql).run(&[&path("sqlite3"), "-bail", ":memory:"])
    };
    run(&format!(".output {}/x", text(outside.path()))).refused("cannot open");
    // The status that system(3) gives when there is no shell: 127 in its upper byte.
    assert!(run(".shell id").err.contains("32512"));
    assert_eq!(std::fs::read_dir(outside.path()).expect("a folder").count(), 0);
}

#[test]
fn imagemagick_converts_pictures() {
    imagemagick(&Runner::plain());
}

#[test]
fn imagemagick_reads_only_what_was_granted() {
    if !installed(&["convert"]) {
        return;
    }
    let (granted, outside) = (folder(), folder());
    std::fs::write(outside.path().join("words"), "secret words").expect("a file");
    let words = format!("text:{}", text(&outside.path().join("words")));
    let picture = text(&granted.path().join("x.png")).to_owned();
    let ran = Runner::plain().sandbox("native").write(granted.path()).run(&[&path("convert"), &words, &picture]);
    assert!(ran.code != 0 && !granted.path().join("x.png").exists(), "{ran:?}");
}

#[test]
fn small_tools_work_one_by_one() {
    small_tools(&Runner::plain());
}
