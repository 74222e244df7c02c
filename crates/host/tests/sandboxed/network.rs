//! The plugin `fetch`, through the egress proxy.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;
use sigil_policy::{Ceilings, EgressIdentity, LocalAddress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::Test;
use crate::world::{self, Wish, name};

pub(crate) const TESTS: &[Test] = &[("fetch_reaches_what_signed_policy_names_and_nothing_else", fetch)];

/// The port of the test's server. Chosen before the policy is signed, so it is fixed; another program may have it.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn fetch() {
    let port = free_port();
    let local = SocketAddr::from(([127, 0, 0, 1], port));
    let ceilings = move |_: &Path, ceilings: &mut Ceilings| {
        ceilings.egress.local.push(LocalAddress { plugin: EgressIdentity::Plugin(name("fetch")), address: local });
    };
    let wish = Wish { plugins: &["fetch"], own: &[], ceilings: &ceilings, demo: false };
    world::run(&wish, async |world| {
        let listener = TcpListener::bind(local).await.expect("the port");
        let other = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let elsewhere = other.local_addr().expect("an address");
        tokio::spawn(serve(listener, elsewhere));
        world.start("fetch").await;

        let page = world.ok("fetch.get", json!({ "url": format!("http://{local}/page") })).await;
        assert!(page.starts_with("200 ") && page.ends_with("Hello & welcome\n\nSecond line"), "{page}");
        let moved = world.ok("fetch.get", json!({ "url": format!("http://{local}/moved") })).await;
        assert!(moved.contains("/page (text/html)"), "{moved}");
        let raw = world.ok("fetch.get", json!({ "url": format!("http://{local}/page"), "raw": true })).await;
        assert!(raw.contains("<p>"), "{raw}");
        let cut = world.ok("fetch.get", json!({ "url": format!("http://{local}/page"), "max_chars": 5 })).await;
        assert!(cut.contains("Hello\n… cut here"), "{cut}");

        // Each hop is judged: a redirect leads nowhere that the first address could not have led.
        for refused in [
            format!("http://{local}/away"),
            format!("http://{elsewhere}/"),
            "http://169.254.169.254/latest/meta-data".into(),
            "http://example.org/".into(),
        ] {
            let answer = world.call("fetch.get", json!({ "url": refused })).await.expect("an answer");
            assert!(!answer.ok || answer.content.starts_with("403 "), "{refused}: {}", answer.content);
        }
        for bad in [
            "file:///etc/passwd",
            &format!("http://{local}/loop"),
            &format!("http://{local}/binary"),
            "https://127.0.0.1/",
        ] {
            world.not_ok("fetch.get", json!({ "url": bad })).await;
        }
        let status = world.host.list();
        let [accepted, refused, ..] = status[0].egress.expect("a proxy");
        assert!(accepted >= 8 && refused >= 4, "{accepted} {refused}");
    });
}

async fn serve(listener: TcpListener, elsewhere: SocketAddr) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.unwrap_or(0);
            let line = String::from_utf8_lossy(&request[..count]).lines().next().unwrap_or_default().to_owned();
            let path = line.split(' ').nth(1).unwrap_or_default();
            let page =
                "<html><body><h1>Hello &amp; welcome</h1><p>Second line</p><script>evil()</script></body></html>";
            let answer = match path {
                "/page" => format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\r\n{page}",
                    page.len()
                ),
                "/moved" => "HTTP/1.1 302 Found\r\nLocation: page\r\nContent-Length: 0\r\n\r\n".into(),
                "/loop" => "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n".into(),
                "/away" => format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n"),
                _ => "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1\r\n\r\nx".into(),
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}
