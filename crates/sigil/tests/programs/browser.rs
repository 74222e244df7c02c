//! Headless Chromium under `chromium`, without its own sandbox, which needs calls that no profile allows.

use crate::runner::{Ran, Runner, Sandbox, folder, installed, path, text};
use crate::server;

/// Its own program, not Debian's script around it, which needs a shell.
const CHROMIUM: &str = "chromium";

fn program() -> String {
    let own = "/usr/lib/chromium/chromium";
    if std::path::Path::new(own).exists() { own.to_owned() } else { path(CHROMIUM) }
}

fn browse(sandbox: Sandbox<'_>, arguments: &[&str]) -> Ran {
    let own = ["--headless", "--no-sandbox", "--no-zygote", "--disable-gpu"].map(str::to_owned);
    let command = [program()].into_iter().chain(own).chain(arguments.iter().map(|argument| (*argument).to_owned()));
    sandbox.run(&command.collect::<Vec<_>>())
}

pub fn local_page(runner: &Runner) -> Option<()> {
    installed(&[CHROMIUM]).then_some(())?;
    let (pages, pictures) = (folder(), folder());
    let page = pages.path().join("page.html");
    let words = "<p id=t></p><script>document.getElementById('t').textContent = 'made of ' + 6 * 7</script>";
    std::fs::write(&page, words).expect("a page");
    let url = format!("file://{}", text(&page));
    let dom = browse(runner.sandbox("chromium").read(&page), &["--dump-dom", &url]).ok();
    assert!(dom.contains("<p id=\"t\">made of 42</p>"), "{dom}");

    let picture = pictures.path().join("page.png");
    let sandbox = runner.sandbox("chromium").read(&page).write(pictures.path());
    browse(sandbox, &[&format!("--screenshot={}", text(&picture)), "--window-size=300,200", &url]).ok();
    let bytes = std::fs::read(&picture).expect("a picture");
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 500);
    Some(())
}

pub fn served_page(runner: &Runner) -> Option<()> {
    installed(&[CHROMIUM]).then_some(())?;
    let address = server::serve(None);
    let sandbox = runner.sandbox("chromium").reach(address);
    let proxy = ["--proxy-server=http://127.0.0.1:3128", "--proxy-bypass-list=<-loopback>", "--dump-dom"];
    let dom = browse(sandbox, &[&proxy[..], &[&format!("http://{address}/page")]].concat()).ok();
    assert!(dom.contains("made of 42"), "{dom}");
    Some(())
}

#[test]
fn a_local_page_becomes_a_picture() {
    local_page(&Runner::plain());
}

#[test]
fn a_served_page_comes_through_the_proxy() {
    served_page(&Runner::plain());
}

#[test]
fn the_browser_reads_no_other_file_and_has_files_or_a_network() {
    if !installed(&[CHROMIUM]) {
        return;
    }
    let (pages, outside) = (folder(), folder());
    std::fs::write(outside.path().join("page.html"), "secret words").expect("a page");
    let url = format!("file://{}", text(&outside.path().join("page.html")));
    let runner = Runner::plain();
    let ran = browse(runner.sandbox("chromium").read(pages.path()), &["--dump-dom", &url]);
    assert!(!ran.out.contains("secret words"), "{ran:?}");
    let address = server::serve(None);
    let ran = browse(runner.sandbox("chromium").read(pages.path()).reach(address), &["--version"]);
    ran.refused("Unix socket");
}
