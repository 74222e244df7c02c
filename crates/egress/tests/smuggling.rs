//! One row for each way to say two things in one request: all are refused by the real proxy, on a real socket, before
//! anything is resolved or dialled, and with the reason in the log.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the plugin's side of the proxy, and servers")]

mod common;

use common::{Rig, Scripted, Server, identity, quick, rule};
use sigil_egress::Told;

/// What is sent, and the code of the refusal. `@` stands for the server's authority, which is allowed; `!` before the code for
/// a request that must reach the server unchanged in meaning: the controls.
const ROWS: &[(&str, &str, &str)] = &[
    // Two lengths, or none that is certain (RFC 9112, 6.3).
    (
        "CL.TE",
        "POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        "body",
    ),
    (
        "TE.CL",
        "POST http://@/ HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n",
        "body",
    ),
    ("TE alone", "POST http://@/ HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "body"),
    ("TE of another name", "POST http://@/ HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: xchunked\r\n\r\n", "body"),
    ("TE in odd case", "POST http://@/ HTTP/1.1\r\nHost: @\r\ntRANSFER-eNCODING: chunked\r\n\r\n", "body"),
    (
        "TE twice",
        "POST http://@/ HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
        "body",
    ),
    (
        "TE with a space before the colon",
        "POST http://@/ HTTP/1.1\r\nHost: @\r\nTransfer-Encoding : chunked\r\n\r\n",
        "syntax",
    ),
    ("TE with a vertical tab", "POST http://@/ HTTP/1.1\r\nHost: @\r\nTransfer-Encoding:\x0bchunked\r\n\r\n", "byte"),
    (
        "chunk extension",
        "POST http://@/ HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n1;x=\"\r\n\"\r\na\r\n0\r\n\r\n",
        "body",
    ),
    (
        "two equal lengths",
        "POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "length",
    ),
    ("two lengths", "POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "length"),
    ("a list of lengths", "POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: 1, 2\r\n\r\nab", "length"),
    ("a signed length", "POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: +1\r\n\r\na", "length"),
    ("a negative length", "POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: -1\r\n\r\na", "length"),
    ("a hexadecimal length", "POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: 0x1\r\n\r\na", "length"),
    ("an empty length", "POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length:\r\n\r\na", "length"),
    ("a huge length", "POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: 99999999999999999999\r\n\r\na", "length"),
    ("a body on CONNECT", "CONNECT @ HTTP/1.1\r\nHost: @\r\nContent-Length: 4\r\n\r\nGET ", "body"),
    ("chunks on CONNECT", "CONNECT @ HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "body"),
    (
        "a second request behind the first",
        "GET http://@/ HTTP/1.1\r\nHost: @\r\n\r\nGET http://@/2 HTTP/1.1\r\nHost: @\r\n\r\n",
        "trailing",
    ),
    ("a body that nothing announces", "POST http://@/ HTTP/1.1\r\nHost: @\r\n\r\nbody", "trailing"),
    (
        "a length that the connection hides",
        "POST http://@/ HTTP/1.1\r\nHost: @\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\na",
        "connection",
    ),
    // Line ends and characters (RFC 9112, 2.2; RFC 9110, 5.5).
    ("bare LF after the request line", "GET http://@/ HTTP/1.1\nHost: @\r\n\r\n", "byte"),
    ("bare LF in a field", "GET http://@/ HTTP/1.1\r\nHost: @\r\nX: a\nHost: evil.example\r\n\r\n", "byte"),
    ("bare LF at the end", "GET http://@/ HTTP/1.1\r\nHost: @\r\n\n", "byte"),
    ("bare CR", "GET http://@/ HTTP/1.1\r\nHost: @\r\nX: a\rHost: evil.example\r\n\r\n", "byte"),
    ("CR CR LF", "GET http://@/ HTTP/1.1\r\nHost: @\r\r\n\r\n", "byte"),
    ("obs-fold with a space", "GET http://@/ HTTP/1.1\r\nHost: @\r\nX: a\r\n Host: evil.example\r\n\r\n", "fold"),
    ("obs-fold with a tab", "GET http://@/ HTTP/1.1\r\nHost: @\r\nX: a\r\n\tb\r\n\r\n", "fold"),
    ("a folded first field", "GET http://@/ HTTP/1.1\r\n Host: @\r\nHost: @\r\n\r\n", "fold"),
    ("NUL in a field", "GET http://@/ HTTP/1.1\r\nHost: @\r\nX: a\0b\r\n\r\n", "byte"),
    ("NUL in the target", "GET http://@/\0 HTTP/1.1\r\nHost: @\r\n\r\n", "byte"),
    ("NUL in the host", "CONNECT allowed.example\0.evil.example:443 HTTP/1.1\r\nHost: @\r\n\r\n", "byte"),
    ("not ASCII", "GET http://@/é HTTP/1.1\r\nHost: @\r\n\r\n", "byte"),
    ("DEL", "GET http://@/ HTTP/1.1\r\nHost: @\r\nX: \x7f\r\n\r\n", "byte"),
    ("a line before the request", "\r\nGET http://@/ HTTP/1.1\r\nHost: @\r\n\r\n", "syntax"),
    ("no name before the colon", "GET http://@/ HTTP/1.1\r\nHost: @\r\n: x\r\n\r\n", "syntax"),
    ("a field without a colon", "GET http://@/ HTTP/1.1\r\nHost: @\r\nX\r\n\r\n", "syntax"),
    // The request line (RFC 9112, 3).
    ("two spaces", "GET  http://@/ HTTP/1.1\r\nHost: @\r\n\r\n", "syntax"),
    ("a space in the target", "GET http://@/a b HTTP/1.1\r\nHost: @\r\n\r\n", "version"),
    ("a tab for a space", "GET\thttp://@/ HTTP/1.1\r\nHost: @\r\n\r\n", "syntax"),
    ("no version", "GET http://@/\r\nHost: @\r\n\r\n", "syntax"),
    ("HTTP/0.9", "GET http://@/ HTTP/0.9\r\nHost: @\r\n\r\n", "version"),
    ("HTTP/1.2", "GET http://@/ HTTP/1.2\r\nHost: @\r\n\r\n", "version"),
    ("HTTP/9.9", "GET http://@/ HTTP/9.9\r\nHost: @\r\n\r\n", "version"),
    ("HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "version"),
    ("lower-case version", "GET http://@/ http/1.1\r\nHost: @\r\n\r\n", "version"),
    ("TRACE", "TRACE http://@/ HTTP/1.1\r\nHost: @\r\n\r\n", "method"),
    ("lower-case method", "get http://@/ HTTP/1.1\r\nHost: @\r\n\r\n", "method"),
    ("an invented method", "SMUGGLE http://@/ HTTP/1.1\r\nHost: @\r\n\r\n", "method"),
    ("origin form", "GET / HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("asterisk form", "OPTIONS * HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("https in plain", "GET https://@/ HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("upper-case scheme", "GET HTTP://@/ HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    (
        "an address of a proxy in the target",
        "GET http://@/http://evil.example HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "host",
    ),
    // The authority (RFC 9110, 7.2; RFC 3986, 3.2).
    ("two Hosts", "GET http://@/ HTTP/1.1\r\nHost: @\r\nHost: evil.example\r\n\r\n", "host"),
    ("two equal Hosts", "GET http://@/ HTTP/1.1\r\nHost: @\r\nHost: @\r\n\r\n", "host"),
    ("another Host", "GET http://@/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", "host"),
    ("another Host on CONNECT", "CONNECT @ HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", "host"),
    ("no Host", "GET http://@/ HTTP/1.1\r\n\r\n", "host"),
    ("an empty Host", "GET http://@/ HTTP/1.1\r\nHost:\r\n\r\n", "host"),
    ("a list of Hosts", "GET http://@/ HTTP/1.1\r\nHost: @, evil.example\r\n\r\n", "host"),
    ("Host named hop-by-hop", "GET http://@/ HTTP/1.1\r\nHost: @\r\nConnection: Host\r\n\r\n", "connection"),
    ("user information", "GET http://user@@/ HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("user and password", "GET http://allowed.example:443@@/ HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("user information on CONNECT", "CONNECT user@@ HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("a port that is a name", "CONNECT evil.example:443.allowed.example HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("two ports", "CONNECT allowed.example:443:80 HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("a path on CONNECT", "CONNECT @/x HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("a scheme on CONNECT", "CONNECT http://@ HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("an empty host", "CONNECT :443 HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("an empty authority", "GET http:///x HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("an encoded slash in the host", "GET http://@%2f/ HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("an encoded at-sign in the host", "GET http://allowed.example%40@/ HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("a backslash after the host", "GET http://@\\evil.example/ HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("a backslash in the path", "GET http://@/a\\b HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("a fragment", "GET http://@/#x HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("a fragment that is a host", "GET http://@#evil.example/ HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("port 0", "CONNECT allowed.example:0 HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("port 65536", "CONNECT allowed.example:65536 HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("a port with a zero before it", "CONNECT allowed.example:0443 HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    ("a trailing dot", "CONNECT allowed.example.:443 HTTP/1.1\r\nHost: @\r\n\r\n", "target"),
    // The path (RFC 3986, 5.2.4).
    ("dot dot", "GET http://@/a/../b HTTP/1.1\r\nHost: @\r\n\r\n", "path"),
    ("dot dot at the end", "GET http://@/a/.. HTTP/1.1\r\nHost: @\r\n\r\n", "path"),
    ("dot", "GET http://@/./b HTTP/1.1\r\nHost: @\r\n\r\n", "path"),
    ("encoded dots", "GET http://@/a/%2e%2E/b HTTP/1.1\r\nHost: @\r\n\r\n", "path"),
    ("an encoded slash", "GET http://@/a%2Fb HTTP/1.1\r\nHost: @\r\n\r\n", "path"),
    ("an encoded backslash", "GET http://@/a%5cb HTTP/1.1\r\nHost: @\r\n\r\n", "path"),
    ("an encoded NUL", "GET http://@/a%00b HTTP/1.1\r\nHost: @\r\n\r\n", "path"),
    ("encoded CR LF", "GET http://@/a%0d%0aHost:%20evil.example HTTP/1.1\r\nHost: @\r\n\r\n", "path"),
    ("half an encoding", "GET http://@/a%2 HTTP/1.1\r\nHost: @\r\n\r\n", "path"),
    ("an encoding that is none", "GET http://@/a%zz HTTP/1.1\r\nHost: @\r\n\r\n", "path"),
    // Other protocols.
    (
        "h2c",
        "GET http://@/ HTTP/1.1\r\nHost: @\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
        "upgrade",
    ),
    ("h2c without Connection", "GET http://@/ HTTP/1.1\r\nHost: @\r\nUpgrade: h2c\r\n\r\n", "upgrade"),
    (
        "WebSocket",
        "GET http://@/ HTTP/1.1\r\nHost: @\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "upgrade",
    ),
    ("upgrade on CONNECT", "CONNECT @ HTTP/1.1\r\nHost: @\r\nUpgrade: h2c\r\n\r\n", "upgrade"),
    ("Connection: upgrade alone", "GET http://@/ HTTP/1.1\r\nHost: @\r\nConnection: upgrade\r\n\r\n", "upgrade"),
    ("another expectation", "GET http://@/ HTTP/1.1\r\nHost: @\r\nExpect: 200-ok\r\n\r\n", "connection"),
    ("SOCKS 4", "\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "byte"),
    ("a TLS record", "\x16\x03\x01\x00\x05hello", "byte"),
    // Controls: what is like the above and means one thing.
    (
        "a plain GET",
        "GET http://@/a/b?c=../d&e=%2f%00 HTTP/1.1\r\nHost: @\r\n\r\n",
        "!GET /a/b?c=../d&e=%2f%00 HTTP/1.1\r\n",
    ),
    (
        "dots that are names",
        "GET http://@/...a/.b/c..?%20 HTTP/1.1\r\nHost: @\r\n\r\n",
        "!GET /...a/.b/c..?%20 HTTP/1.1\r\n",
    ),
    (
        "fields of one hop",
        "GET http://@/ HTTP/1.1\r\nHost: @\r\nConnection: close, x-secret\r\nX-Secret: 1\r\nTE: trailers\r\n\r\n",
        "!GET / HTTP/1.1\r\n",
    ),
    (
        "a body of its length",
        "POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: 2\r\n\r\nab",
        "!POST / HTTP/1.1\r\n",
    ),
];

#[tokio::test]
async fn every_form_with_two_readings_is_refused() {
    let web = Server::web().await;
    let resolver = Scripted::new(&[&["127.0.0.1"]]);
    let rules = vec![rule("allowed.example", &[443, 80, web.at.port()]), rule("evil.example", &[443])];
    let (mut refused, mut reached, mut other) = (0, 0, Vec::new());
    for (what, text, expected) in ROWS {
        // A log for each row: that is how its reason is found.
        let rig = Rig::new(identity(rules.clone(), vec![web.at]), resolver.clone(), quick());
        let at = web.at.to_string();
        // `@@` is an at-sign before the authority.
        let request = text.replace("@@", "\u{1}@").replace('@', &at).replace('\u{1}', "@");
        let answer = rig.send(&request).await;
        if let Some(line) = expected.strip_prefix('!') {
            reached += 1;
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{what}");
            let heard = web.heard.lock().expect("not poisoned");
            let last = String::from_utf8_lossy(heard.last().expect("it came"));
            assert!(last.starts_with(line), "{what}: {last}");
            assert!(!last.to_ascii_lowercase().contains("x-secret") && !last.contains("TE:"), "{what}: {last}");
        } else {
            refused += 1;
            assert_eq!(answer, Told::Forbidden.bytes(), "{what}");
            let found = &rig.log.entries("egress", 1).await[0];
            if found.kind.as_str() != format!("egress.request.{expected}.refused") {
                other.push(format!("{what}: {}, not {expected}", found.kind));
            }
        }
        assert_eq!(web.connections(), reached, "{what}");
    }
    assert!(other.is_empty(), "refused, and for another reason: {other:#?}");
    assert_eq!(resolver.asked(), 0, "and nothing was looked up");
    assert_eq!((refused + reached, reached), (ROWS.len(), 4));
}

/// What is too long, whatever is in it.
#[tokio::test]
async fn what_is_too_large_is_refused_when_it_is_too_large() {
    let web = Server::web().await;
    let at = web.at;
    let get = format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n");
    for (what, request, code) in [
        ("one huge field", format!("{get}X: {}\r\n\r\n", "a".repeat(1 << 20)), "head"),
        ("a huge field that never ends", format!("{get}X: {}", "a".repeat(1 << 20)), "head"),
        ("a huge target", format!("GET http://{at}/{} HTTP/1.1\r\nHost: {at}\r\n\r\n", "a".repeat(20_000)), "head"),
        ("many fields", format!("{get}{}\r\n", "X: a\r\n".repeat(97)), "head"),
        ("a host of 300 characters", format!("CONNECT {}:443 HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(300)), "target"),
        (
            "a name of 254 characters",
            format!("CONNECT {}aa:443 HTTP/1.1\r\nHost: a\r\n\r\n", "a.".repeat(126)),
            "target",
        ),
        ("half a head", get.clone(), "head"),
    ] {
        let rig = Rig::local(vec![], vec![at]);
        let mut stream = tokio::net::TcpStream::connect(rig.at).await.expect("connected");
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
        common::read_all(&mut stream).await;
        let found = &rig.log.entries("egress", 1).await[0];
        assert_eq!(found.kind.as_str(), format!("egress.request.{code}.refused"), "{what}");
    }
    assert_eq!(web.connections(), 0);
}
