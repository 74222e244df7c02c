//! bash scripts, under `shell`.

use crate::runner::{Runner, folder, installed, open, text};

pub fn script(runner: &Runner) -> Option<()> {
    installed(&["bash"]).then_some(())?;
    let work = folder();
    std::fs::create_dir(work.path().join("in")).expect("a folder");
    for (name, words) in [("in/a", "pear\napple\n"), ("in/b", "fig\napple\n")] {
        std::fs::write(work.path().join(name), words).expect("a file");
    }
    open(&work.path().join("in"));
    let script = "set -eu
        sorted() { sort -u \"$@\"; }
        for file in in/*; do wc -l < \"$file\"; done | paste -sd+ | { read -r sum; echo \"lines: $((sum))\"; }
        sorted in/a in/b | tee out/words | grep -c .
        diff <(sorted in/a) <(sorted in/b) || true
        tar -C in -czf out/in.tar.gz . && mkdir out/x && tar -C out/x -xzf out/in.tar.gz && ls -l out/x | wc -l
        find out -name a -newer in/a -o -name b | sort
        sed -i s/fig/plum/ out/x/b && cp -a out/x/b out/y && cat out/y && rm -r out/x
        sync -f out/y; (sleep 0.01; echo later) & wait; trap 'echo bye' EXIT; date -u -d @0 +%Y";
    std::fs::create_dir(work.path().join("out")).expect("a folder");
    open(&work.path().join("out"));
    let ran = runner
        .sandbox("shell")
        .read(&work.path().join("in"))
        .write(&work.path().join("out"))
        .folder(&work.path().join("in"))
        .run(&["bash", "-c", &format!("cd {}; {script}", text(work.path()))]);
    let out = ran.ok();
    let words: Vec<&str> = out.lines().collect();
    assert_eq!(words[..2], ["lines: 4", "3"], "{out}");
    assert!(words.ends_with(&["plum", "apple", "later", "1970", "bye"]), "{out}");
    assert_eq!(std::fs::read_to_string(work.path().join("out/words")).expect("written"), "apple\nfig\npear\n");
    Some(())
}

#[test]
fn a_script_works_on_what_it_was_given() {
    script(&Runner::plain());
}

#[test]
fn a_script_finds_no_people_and_no_network() {
    if !installed(&["bash"]) {
        return;
    }
    let outside = folder();
    let sandbox = || Runner::plain().sandbox("shell").run(&["bash", "-c", "true"]).ok();
    sandbox();
    let runner = Runner::plain();
    let attempt = |script: &str| runner.sandbox("shell").run(&["bash", "-c", script]);
    attempt(&format!("echo x > {}/x", text(outside.path()))).refused("No such file");
    attempt("cat /etc/shadow").refused("No such file");
    attempt("ls /home /root").refused("No such file");
    attempt("exec 3<>/dev/tcp/127.0.0.1/22").refused("not permitted");
    attempt("kill -0 1 && kill -9 1; ps 2>/dev/null | grep -q sigil").refused("");
}
