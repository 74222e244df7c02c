//! The plugins' proxy over real sockets: what is allowed gets through unchanged, and nothing else gets anywhere.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the plugin's side of the proxy, and servers")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Log, Rig, Scripted, Server, client_hello, identity, listener, quick, read_all, rule, unpaced};
use sigil_audit::Options;
use sigil_egress::{Identity, ProxyLimits, SystemResolver, Told};
use sigil_policy::NetworkLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn forbidden() -> Vec<u8> {
    Told::Forbidden.bytes().to_vec()
}

#[tokio::test]
async fn a_plain_request_goes_through_written_anew() {
    let web = Server::web().await;
    let rig = Rig::local(vec![], vec![web.at]);
    let answer = rig
        .send(format!(
            "GET http://{0}/page?q=1 HTTP/1.1\r\nHost: {0}\r\nProxy-Authorization: Basic eA==\r\nConnection: keep-alive\r\n\
             Accept: text/html\r\n\r\n",
            web.at
        ))
        .await;
    assert_eq!(
        String::from_utf8_lossy(&answer),
        "HTTP/1.1 200 \r\nConnection: close\r\nContent-Length: 5\r\nX-From: web\r\n\r\nhello"
    );
    let heard = format!("GET /page?q=1 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept: text/html\r\n\r\n", web.at);
    assert_eq!(web.heard(), heard);

    let close = &rig.log.entries("egress.connection.close", 1).await[0];
    let open = &rig.log.entries("egress.connection.open", 1).await[0];
    assert!(open.seq < close.seq);
    assert_eq!(close.data["open"], open.id.to_string());
    assert_eq!(close.data["ending"], "done");
    assert_eq!(open.data["addresses"][0], web.at.to_string());
    assert_eq!((open.actor.as_str(), open.workspace.as_ref().map(|w| w.as_str())), ("plugin:fetch", Some("home")));
    assert_eq!(rig.handle.stats().down, u64::try_from(answer.len()).expect("small"));
}

#[tokio::test]
async fn a_body_goes_through_to_its_length_and_no_further() {
    let web = Server::new(b"12345", b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let rig = Rig::local(vec![], vec![web.at]);
    let head = format!("POST http://{0}/ HTTP/1.1\r\nHost: {0}\r\nContent-Length: 5\r\n", web.at);
    let mut stream = TcpStream::connect(rig.at).await.expect("connected");
    stream.write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).await.expect("written");
    assert_eq!(common::read_status(&mut stream).await, 100);
    stream.write_all(b"12345GET http://evil.example/ HTTP/1.1\r\n\r\n").await.expect("written");
    assert!(read_all(&mut stream).await.starts_with(b"HTTP/1.1 204 \r\n"));
    assert!(web.heard().ends_with("\r\n\r\n12345"), "{}", web.heard());
    // Bytes beyond the length in the same packet as the head are a second request hidden behind the first.
    assert_eq!(rig.send(format!("{head}\r\n12345GET / HTTP/1.1\r\n\r\n")).await, forbidden());
    assert_eq!(web.connections(), 1);
}

#[tokio::test]
async fn a_tunnel_carries_what_its_host_is_named_for() {
    let server = Server::new(b"ping", b"pong").await;
    let resolver = Scripted::new(&[&["127.0.0.1"]]);
    let port = server.at.port();
    let rig = Rig::new(identity(vec![rule("allowed.example", &[port])], vec![server.at]), resolver.clone(), quick());
    let (mut stream, status) = rig.connect(&format!("allowed.example:{port}")).await;
    assert_eq!(status, 200);
    let hello = client_hello(Some("allowed.example"));
    for byte in &hello {
        stream.write_all(&[*byte]).await.expect("written");
    }
    stream.write_all(b"ping").await.expect("written");
    let mut pong = [0; 4];
    stream.read_exact(&mut pong).await.expect("answered");
    assert_eq!(&pong, b"pong");
    drop(stream);
    assert_eq!(server.heard.lock().expect("not poisoned")[0], [hello.as_slice(), b"ping"].concat());
    assert_eq!(resolver.asked(), 1);
    assert_eq!(rig.log.entries("egress.connection.close", 1).await[0].data["down"], 4);
}

#[tokio::test]
async fn nothing_reaches_the_server_of_another_name() {
    let server = Server::new(b"x", b"y").await;
    let port = server.at.port();
    let rules = vec![rule("allowed.example", &[port]), rule("*.allowed.example", &[port])];
    let target = format!("allowed.example:{port}");
    let mut split = client_hello(Some("evil.example"));
    split.truncate(20);
    for (first, code) in [
        (client_hello(Some("evil.example")), "egress.tunnel.name.mismatch"),
        (client_hello(Some("sub.allowed.example")), "egress.tunnel.name.mismatch"),
        (client_hello(None), "egress.tunnel.name.missing"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "egress.tunnel.tls.missing"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "egress.tunnel.tls.missing"),
        (split, "egress.tunnel.hello.malformed"),
    ] {
        let rig = Rig::new(identity(rules.clone(), vec![server.at]), Scripted::new(&[&["127.0.0.1"]]), quick());
        let (mut stream, status) = rig.connect(&target).await;
        assert_eq!(status, 200);
        stream.write_all(&first).await.expect("written");
        stream.shutdown().await.expect("shut down");
        assert_eq!(read_all(&mut stream).await, b"");
        assert_eq!(rig.log.entries(code, 1).await.len(), 1, "{code}");
        assert_eq!(rig.log.entries("egress.connection.close", 1).await[0].data["ending"], "refused");
    }
    assert_eq!(server.heard(), "", "not one byte");
}

#[tokio::test]
async fn what_no_rule_covers_is_refused_before_it_is_resolved() {
    let resolver = Scripted::new(&[&["93.184.216.34"]]);
    let rules = vec![rule("allowed.example", &[]), rule("*.below.example", &[8443])];
    let rig = Rig::new(identity(rules, vec![]), resolver.clone(), quick());
    for target in [
        "denied.example:443",
        "allowed.example:80",
        "allowed.example:22",
        "allowed.example:25",
        "allowed.example:6379",
        "x.allowed.example:443",
        "allowed.example.evil.example:443",
        "below.example:8443",
        "x.below.example:443",
        "secret-data.evil.example:443",
        "metadata.google.internal:80",
    ] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        assert_eq!(rig.send(request).await, forbidden(), "{target}");
    }
    assert_eq!(rig.send("GET http://denied.example/ HTTP/1.1\r\nHost: denied.example\r\n\r\n").await, forbidden());
    assert_eq!(resolver.asked(), 0, "a denied name is never looked up");
    let denied = &rig.log.entries("egress.host.denied", 1).await[0];
    assert_eq!(denied.data["target"], "denied.example:443");
    assert!(denied.data["remedy"].as_str().expect("text").contains("signed policy"));
    assert!(!rig.log.entries("egress.port.denied", 1).await.is_empty());
    assert_eq!(rig.handle.stats().refused, 12);
}

#[tokio::test]
async fn every_spelling_of_a_local_address_is_refused() {
    let canary = Server::web().await;
    let port = canary.at.port();
    let resolver = Scripted::new(&[&["127.0.0.1"]]);
    let rules = vec![rule("allowed.example", &[port]), rule("127.0.0.1", &[port]), rule("localhost", &[port])];
    let rig = Rig::new(identity(rules, vec![]), resolver, quick());
    for host in [
        "127.0.0.1",
        "127.0.0.2",
        "0.0.0.0",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1%eth0]",
        "[fe80::1]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
        "10.0.0.1",
        "192.168.1.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "allowed.example",
        "allowed.example@127.0.0.1",
        "127.0.0.1#allowed.example",
        "allowed.example\t",
    ] {
        for request in [
            format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"),
            format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"),
        ] {
            assert_eq!(rig.send(&request).await, forbidden(), "{request:?}");
        }
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_answer_gets_nowhere_new() {
    let server = Server::web().await;
    let elsewhere = std::net::TcpListener::bind(("127.0.0.2", server.at.port())).expect("the same port");
    elsewhere.set_nonblocking(true).expect("non-blocking");
    let resolver = Scripted::new(&[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1", "10.0.0.1"], &["::ffff:127.0.0.2"]]);
    let port = server.at.port();
    let rules = vec![rule("rebind.example", &[port])];
    let rig = Rig::new(identity(rules, vec![server.at]), resolver.clone(), quick());
    let request = format!("GET http://rebind.example:{port}/ HTTP/1.1\r\nHost: rebind.example:{port}\r\n\r\n");
    assert!(rig.send(&request).await.starts_with(b"HTTP/1.1 200"));
    for _ in 0..3 {
        assert_eq!(rig.send(&request).await, forbidden());
    }
    assert_eq!(resolver.asked(), 4, "once for each connection");
    assert_eq!(server.connections(), 1);
    assert!(elsewhere.accept().is_err(), "nobody came");
}

#[tokio::test]
async fn requests_with_two_readings_are_refused() {
    let web = Server::web().await;
    let rig = Rig::local(vec![], vec![web.at]);
    let at = web.at;
    let get = format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n");
    for request in [
        format!("{get}Host: evil.example\r\n\r\n"),
        format!("GET http://{at}/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"),
        format!("{get}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{get}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{get}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        format!("{get}X: a\nHost: evil.example\r\n\r\n"),
        format!("{get}X: a\r\n folded\r\n\r\n"),
        format!("{get}X: \0\r\n\r\n"),
        format!("{get}\r\nGET http://{at}/second HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET http://{at}/ HTTP/9.9\r\nHost: {at}\r\n\r\n"),
        format!("{get}Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n\r\n"),
        format!("{get}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        format!("GET http://user@{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET http://{at}%2f/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET http://{at}/#x HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("{get}X: {}\r\n\r\n", "a".repeat(20_000)),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
    ] {
        assert_eq!(rig.send(&request).await, forbidden(), "{:?}", request.get(..120.min(request.len())));
    }
    assert_eq!(web.connections(), 0);
}

#[tokio::test]
async fn the_gateway_itself_is_never_reached() {
    let web = Server::web().await;
    let rig = Rig::local(vec![], vec![web.at]);
    rig.surroundings.add_listener(SocketAddr::new("0.0.0.0".parse().expect("an address"), web.at.port()));
    let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", web.at);
    assert_eq!(rig.send(request).await, forbidden());
    assert_eq!(rig.log.entries("egress.address.gateway.denied", 1).await.len(), 1);
    assert_eq!(web.connections(), 0);
}

#[tokio::test]
async fn the_listener_is_the_identity() {
    let web = Server::web().await;
    let rig = Rig::local(vec![], vec![web.at]);
    let (fd, at) = listener();
    let _other = rig.proxy.serve(fd, identity(vec![], vec![])).expect("served");
    let request =
        format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\nProxy-Authorization: Basic ZmV0Y2g=\r\n\r\n", web.at);
    assert!(rig.send(&request).await.starts_with(b"HTTP/1.1 200"));
    let mut stream = TcpStream::connect(at).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("written");
    assert_eq!(read_all(&mut stream).await, forbidden());

    rig.handle.replace_rules(vec![], vec![]);
    assert_eq!(rig.send(&request).await, forbidden(), "narrowing is immediate");
}

#[tokio::test]
async fn caps_end_a_connection() {
    let limits = NetworkLimits { up_bytes: 500, down_bytes: 64, ..unpaced() };
    let flood: &[u8] = &[b'z'; 4096];
    let server = Server::new(b"go", flood).await;
    let identity = Identity { limits, ..identity(vec![], vec![server.at]) };
    let rig = Rig::new(identity, Arc::new(SystemResolver), quick());
    let (mut stream, status) = rig.connect(&server.at.to_string()).await;
    assert_eq!(status, 200);
    stream.write_all(b"go").await.expect("written");
    assert!(read_all(&mut stream).await.len() <= 64);
    assert_eq!(rig.log.entries("egress.connection.close", 1).await[0].data["ending"], "size");
    let (mut stream, _) = rig.connect(&server.at.to_string()).await;
    let _ = stream.write_all(&[b'y'; 501]).await;
    read_all(&mut stream).await;
    assert!(!server.heard().contains('y'));
}

#[tokio::test]
async fn waiting_has_an_end() {
    let short = Duration::from_millis(60);
    let limits = ProxyLimits { request: short, hello: short, ..quick() };
    let server = Server::new(b"never", b"").await;
    let port = server.at.port();
    let rules = vec![rule("allowed.example", &[port])];
    let idle = NetworkLimits { idle: short, ..unpaced() };
    let identity = Identity { limits: idle, ..identity(rules, vec![server.at]) };
    let rig = Rig::new(identity, Scripted::new(&[&["127.0.0.1"]]), limits);
    assert_eq!(rig.send("CONNECT slow").await, forbidden(), "half a request");
    let (mut stream, _) = rig.connect(&format!("allowed.example:{port}")).await;
    assert_eq!(read_all(&mut stream).await, b"", "no ClientHello");
    let (mut stream, _) = rig.connect(&server.at.to_string()).await;
    assert_eq!(read_all(&mut stream).await, b"", "an idle tunnel");
    let endings = rig.log.entries("egress.connection.close", 2).await;
    assert_eq!((&endings[0].data["ending"], &endings[1].data["ending"]), (&"refused".into(), &"idle".into()));
}

#[tokio::test]
async fn an_identity_has_a_bounded_number_of_connections() {
    let limits = NetworkLimits { connections: 2, ..unpaced() };
    let server = Server::new(b"x", b"y").await;
    let identity = Identity { limits, ..identity(vec![], vec![server.at]) };
    let rig = Rig::new(identity, Arc::new(SystemResolver), quick());
    let target = server.at.to_string();
    let (first, _) = rig.connect(&target).await;
    let (_second, _) = rig.connect(&target).await;
    let (_, status) = rig.connect(&target).await;
    assert_eq!(status, 503);
    drop(first);
    rig.log.entries("egress.connection.close", 1).await;
    let mut status = 503;
    while status == 503 {
        status = rig.connect(&target).await.1;
    }
    assert_eq!(status, 200, "a slot is free again");
}

#[tokio::test]
async fn dropping_the_handle_ends_everything() {
    let server = Server::new(b"x", b"y").await;
    let rig = Rig::local(vec![], vec![server.at]);
    let (mut stream, _) = rig.connect(&server.at.to_string()).await;
    drop(rig.handle);
    assert_eq!(read_all(&mut stream).await, b"");
    assert_eq!(rig.log.entries("egress.connection.close", 1).await[0].data["ending"], "stopped");
    assert!(TcpStream::connect(rig.at).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn without_a_log_nothing_is_dialled() {
    let web = Server::web().await;
    let log = Log::with(Options { max_pages: Some(24), ..Options::default() });
    let entry = || {
        sigil_audit::Entry::new(sigil_types::Code::new("test.fill"), "test")
            .data(serde_json::Value::String("x".repeat(32 * 1024)))
    };
    while log.log.append(entry()).await.is_ok() {}
    let rig = Rig::with_log(log, identity(vec![], vec![web.at]), Arc::new(SystemResolver), quick());
    let answer = rig.send(format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", web.at)).await;
    assert_eq!(answer, Told::Busy.bytes());
    assert_eq!(web.connections(), 0, "no audit, no action");
}

#[tokio::test]
async fn what_is_allowed_and_fails_is_told_apart_from_what_is_denied() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound")
    };
    let odd = Server::new(b"\r\n\r\n", b"220 smtp.example ESMTP\r\n").await;
    let rig = Rig::local(vec![], vec![closed, odd.at]);
    for at in [closed, odd.at] {
        let answer = rig.send(format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        assert_eq!(answer, Told::Gateway.bytes());
    }
    let rig = Rig::new(identity(vec![rule("gone.example", &[])], vec![]), Scripted::new(&[]), quick());
    assert_eq!(rig.connect("gone.example:443").await.1, 502);
}

#[tokio::test]
async fn a_redirect_and_a_relay_get_the_same_verdict_as_anybody() {
    let inside = Server::web().await;
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", inside.at);
    let web = Server::new(b"\r\n\r\n", answer.leak().as_bytes()).await;
    let rig = Rig::local(vec![], vec![web.at]);
    let get = |at: SocketAddr, more: &str| format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{more}\r\n");
    // The proxy follows nothing: the client reads where it is sent, and asks for that.
    let answer = String::from_utf8(rig.send(get(web.at, "")).await).expect("ascii");
    assert!(answer.starts_with("HTTP/1.1 302 ") && answer.contains(&inside.at.to_string()), "{answer}");
    assert_eq!(rig.send(get(inside.at, "")).await, forbidden());
    // Whoever passes a request on inside the sandbox comes by the same listener; what it says of itself changes nothing.
    let relayed =
        "Via: 1.1 relay\r\nForwarded: for=127.0.0.1;host=allowed.example\r\nX-Forwarded-Host: allowed.example\r\n";
    assert_eq!(rig.send(get(inside.at, relayed)).await, forbidden());
    let connect = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n{relayed}\r\n", inside.at);
    assert_eq!(rig.send(connect).await, forbidden());
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn an_answer_with_two_readings_is_not_passed_on() {
    for answer in [
        &b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\nhello",
        b"HTTP/0.9 200\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let server = Server::new(b"\r\n\r\n", answer).await;
        let rig = Rig::local(vec![], vec![server.at]);
        let heard = rig.send(format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", server.at)).await;
        assert_eq!(heard, Told::Gateway.bytes(), "{:?}", String::from_utf8_lossy(answer));
        assert_eq!(rig.log.entries("egress.answer.malformed", 1).await.len(), 1);
    }
}
