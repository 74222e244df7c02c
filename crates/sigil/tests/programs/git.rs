//! git under `shell`: a clone by the smart protocol, through the proxy, and a commit.

use std::path::Path;
use std::process::Command;

use crate::runner::{Runner, folder, installed, text};
use crate::server;

fn repository(at: &Path) {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(at).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(arguments);
        assert!(git.status().expect("git").success(), "{arguments:?}");
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    std::fs::write(at.join("README"), "words\n").expect("a file");
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "first"]);
}

pub fn clone(runner: &Runner) -> Option<()> {
    installed(&["git"]).then_some(())?;
    let (source, target) = (folder(), folder());
    repository(source.path());
    let address = server::serve(Some(source.path()));
    let script = format!(
        "cd {} && git clone --quiet http://{address}/repository copy && cd copy && cat README && echo more >> README &&
         git -c user.name=t -c user.email=t@example.org commit --quiet -am second && git log --oneline | wc -l &&
         git status --short && git diff --stat HEAD~1 && git gc --quiet && git fsck",
        text(target.path())
    );
    let ran = runner.sandbox("shell").reach(address).write(target.path()).run(&["sh", "-c", &script]);
    let out = ran.ok();
    assert!(out.starts_with("words\n2\n") && out.contains("1 file changed"), "{out}");
    assert!(target.path().join("copy/.git/HEAD").exists());
    Some(())
}

#[test]
fn git_clones_through_the_proxy() {
    clone(&Runner::plain());
}

#[test]
fn git_reaches_no_other_server_and_leaves_no_hooks() {
    if !installed(&["git"]) {
        return;
    }
    let (source, target) = (folder(), folder());
    repository(source.path());
    let (named, other) = (server::serve(None), server::serve(Some(source.path())));
    let clone = format!("cd {} && git clone http://{other}/repository copy", text(target.path()));
    let runner = Runner::plain();
    let sandbox = || runner.sandbox("shell").reach(named);
    sandbox().write(target.path()).run(&["sh", "-c", &clone]).refused("403");
    // In a repository that was there before, what others would run stays as it is.
    repository(target.path());
    assert!(Command::new("chmod").args(["-R", "a+rwX"]).arg(target.path()).status().expect("chmod").success());
    let hook = format!("echo evil > {}/.git/hooks/pre-commit", text(target.path()));
    sandbox().write(target.path()).run(&["sh", "-c", &hook]).refused("Read-only file system");
    let commit = format!(
        "cd {} && echo more >> README && git -c safe.directory='*' -c user.name=t -c user.email=t@example.org commit -am more",
        text(target.path())
    );
    let ran = sandbox().write(target.path()).run(&["sh", "-c", &commit]);
    assert!(ran.ok().contains("1 file changed"));
}
