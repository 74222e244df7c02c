//! curl and wget under `native`, through the proxy.

use crate::runner::{Runner, folder, installed, path, text};
use crate::server::{self, HELLO};

pub fn curl(runner: &Runner) -> Option<()> {
    installed(&["curl"]).then_some(())?;
    let address = server::serve(None);
    let url = format!("http://{address}/hello");
    let curl = |arguments: &[&str]| {
        let command: Vec<String> =
            [path("curl")].into_iter().chain(arguments.iter().map(|a| (*a).to_owned())).collect();
        runner.sandbox("native").reach(address).run(&command)
    };
    assert_eq!(curl(&["-sS", &url]).ok(), HELLO);
    assert_eq!(curl(&["-sS", "--proxytunnel", &url]).ok(), HELLO, "through a tunnel");
    assert_eq!(curl(&["-sS", "--data", "words", &format!("http://{address}/echo")]).ok(), "words");
    Some(())
}

pub fn wget(runner: &Runner) -> Option<()> {
    installed(&["wget"]).then_some(())?;
    let address = server::serve(None);
    let folder = folder();
    let to = folder.path().join("page");
    let command = [&path("wget"), "-q", "-O", text(&to), &format!("http://{address}/hello")];
    runner.sandbox("native").reach(address).write(folder.path()).run(&command).ok();
    assert_eq!(std::fs::read_to_string(&to).expect("written"), HELLO);
    Some(())
}

#[test]
fn curl_fetches_through_the_proxy() {
    curl(&Runner::plain());
}

#[test]
fn curl_reaches_nothing_else() {
    if !installed(&["curl"]) {
        return;
    }
    let (named, other) = (server::serve(None), server::serve(None));
    let run = |arguments: &[&str]| {
        let command: Vec<String> =
            [path("curl")].into_iter().chain(arguments.iter().map(|a| (*a).to_owned())).collect();
        Runner::plain().sandbox("native").reach(named).run(&command)
    };
    let url = format!("http://{other}/hello");
    run(&["-sSf", &url]).refused("403");
    run(&["-sSf", "--proxytunnel", &url]).refused("403");
    // Past the proxy there is nobody: this loopback is the program's own.
    run(&["-sS", "--noproxy", "*", &format!("http://{named}/hello")]).refused("connect");
    let command = [&path("curl"), "-sS", "--noproxy", "*", &url];
    Runner::plain().sandbox("native").run(&command).refused("");
}

#[test]
fn wget_fetches_through_the_proxy() {
    wget(&Runner::plain());
}

#[test]
fn wget_reaches_nothing_else() {
    if !installed(&["wget"]) {
        return;
    }
    let (named, other) = (server::serve(None), server::serve(None));
    let command = [&path("wget"), "-q", "-S", "-O", "-", &format!("http://{other}/hello")];
    Runner::plain().sandbox("native").reach(named).run(&command).refused("403");
}
