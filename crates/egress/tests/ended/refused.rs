//! What does not get through.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sigil_egress::ended::NotForwarded;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::common::{read_all, read_status};
use crate::rig::{Ending, HOST, OneSecret, SECRET, Upstream, ok};

const RULES: &str = r#","requests":[[{"methods":["GET","POST"],"paths":["/v1/*","/exact"],"query":["page"]}]]"#;

/// Sends bytes as they are, inside of TLS with `name`, and returns all that comes.
async fn raw(ending: &Ending, name: &str, protocols: &[&str], bytes: &[u8]) -> Result<String, std::io::Error> {
    let mut stream = tokio::net::TcpStream::connect(ending.at).await?;
    let connect = format!("CONNECT {HOST}:{0} HTTP/1.1\r\nHost: {HOST}:{0}\r\n\r\n", ending.port);
    stream.write_all(connect.as_bytes()).await?;
    assert_eq!(read_status(&mut stream).await, 200);
    let pem = std::fs::read_to_string(&ending.bundle)?;
    let mut roots = RootCertStore::empty();
    use base64::Engine as _;
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(lines).expect("base64");
    roots.add(CertificateDer::from(der)).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn each_rule_refuses_with_its_own_code_and_an_entry() {
    let upstream = Upstream::echo().await;
    let ending = Ending::new(&upstream, RULES);
    for (path, arguments, code) in [
        ("/v2/x", &[][..], "egress.ended.request.denied"),
        ("/exact/", &[], "egress.ended.request.denied"),
        ("/v1/x", &["-X", "DELETE"], "egress.ended.request.denied"),
        ("/v1/x?token=1", &[], "egress.ended.request.denied"),
        ("/v1/x", &["-X", "TRACE"], "egress.ended.method.refused"),
        ("/v1/x", &["-X", "PROPFIND"], "egress.ended.method.refused"),
        ("/v1/../v2", &[], "egress.ended.path.ambiguous"),
        ("/v1/%2e%2e/v2", &[], "egress.ended.path.ambiguous"),
        ("/v1%2fx", &[], "egress.ended.path.ambiguous"),
        ("/v1//x", &[], "egress.ended.path.ambiguous"),
        ("/v1/%252e%252e/v2", &[], "egress.ended.path.ambiguous"),
        ("/v1/..;/v2", &[], "egress.ended.path.ambiguous"),
        ("/v1/x", &["-H", "Host: other.example.org"], "egress.ended.host.mismatch"),
        ("/v1/x", &["-H", "Connection: Upgrade", "-H", "Upgrade: h2c"], "egress.ended.upgrade.refused"),
        ("/v1/x", &["-H", "Upgrade: websocket"], "egress.ended.upgrade.refused"),
    ] {
        let (status, answer) = ending.curl(path, arguments).await;
        assert_eq!((status, Ending::code(&answer).as_str()), (403, code), "{path} {arguments:?}");
        assert!(!ending.log.entries(code, 1).await.is_empty(), "{code}");
    }
    assert!(upstream.heard().is_empty(), "{:?}", upstream.heard());
    let (status, _) = ending.curl("/exact?page=1", &["-d", "x"]).await;
    assert_eq!((status, upstream.heard().len()), (200, 1), "what is allowed still passes");
    assert_eq!(ending.handle.stats().refused, 15);
}

#[tokio::test]
async fn requests_with_two_readings_are_refused() {
    let upstream = Upstream::echo().await;
    let ending = Ending::new(&upstream, "");
    let host = format!("{HOST}:{}", ending.port);
    for (request, code) in [
        (format!("GET https://other.example.org/ HTTP/1.1\r\nHost: {host}\r\n\r\n"), "egress.ended.host.mismatch"),
        (format!("GET https://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"), "egress.ended.host.mismatch"),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"), "egress.ended.host.mismatch"),
        (format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), "egress.ended.host.mismatch"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "egress.ended.host.mismatch"),
        (format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n"), "egress.ended.version.refused"),
        (format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n"), "egress.ended.path.ambiguous"),
    ] {
        let answer = raw(&ending, HOST, &[], request.as_bytes()).await.expect("TLS");
        assert_eq!(Ending::code(body(&answer)), code, "{request}");
    }
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        format!("GET / HTTP/1.1\nHost: {host}\n X: folded\n\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip\r\n\r\n"),
        format!("GET /a b HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ] {
        let answer = raw(&ending, HOST, &[], request.as_bytes()).await.expect("TLS");
        assert!(!answer.starts_with("HTTP/1.1 200"), "{request}: {answer}");
    }
    assert!(upstream.heard().is_empty(), "{:?}", upstream.heard());
    // A length and chunks at once: the chunks count, and only they are sent on.
    let both = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n0\r\n\r\n"
    );
    raw(&ending, HOST, &[], both.as_bytes()).await.expect("TLS");
    for heard in upstream.heard() {
        assert!(!heard.to_lowercase().contains("content-length"), "{heard}");
    }
}

#[tokio::test]
async fn the_client_hello_names_the_tunnels_host() {
    let upstream = Upstream::echo().await;
    let ending = Ending::new(&upstream, "");
    assert!(raw(&ending, "other.example.org", &[], b"").await.is_err());
    assert_eq!(ending.log.entries("egress.tunnel.name.mismatch", 1).await.len(), 1);
    assert!(raw(&ending, "127.0.0.1", &[], b"").await.is_err(), "no name at all");
    assert_eq!(ending.log.entries("egress.tunnel.name.missing", 1).await.len(), 1);
    assert!(raw(&ending, HOST, &["h2"], b"").await.is_err(), "HTTP/2 only");
    assert_eq!(ending.log.entries("egress.ended.handshake.failed", 1).await.len(), 1);
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}:{}\r\nConnection: close\r\n\r\n", ending.port);
    let both = raw(&ending, HOST, &["h2", "http/1.1"], request.as_bytes()).await.expect("TLS");
    assert!(both.starts_with("HTTP/1.1 200"), "{both}");
    // No TLS at all.
    let (mut stream, _) = {
        let mut stream = tokio::net::TcpStream::connect(ending.at).await.expect("connected");
        let connect = format!("CONNECT {HOST}:{0} HTTP/1.1\r\nHost: {HOST}:{0}\r\n\r\n", ending.port);
        stream.write_all(connect.as_bytes()).await.expect("written");
        (read_status(&mut stream).await == 200).then_some((stream, ())).expect("a tunnel")
    };
    stream.write_all(request.as_bytes()).await.expect("written");
    assert!(!String::from_utf8_lossy(&read_all(&mut stream).await).contains("200"));
    assert_eq!(upstream.heard().len(), 1);
}

#[tokio::test]
async fn the_hosts_own_certificate_is_checked() {
    let wrong = Upstream::new("other.example.org", Arc::new(|_, _| vec![ok(b"evil")])).await;
    let ending = Ending::new(&wrong, "");
    let (status, answer) = ending.curl("/", &[]).await;
    assert_eq!((status, Ending::code(&answer).as_str()), (502, "egress.ended.upstream.untrusted"));
    let upstream = Upstream::echo().await;
    let source = OneSecret { host: HOST.parse().expect("a pattern"), value: Ok(Some(SECRET)) };
    let unknown = Ending::with(&upstream, "", vec![wrong.root.clone()], source);
    let (status, answer) = unknown.curl("/", &[]).await;
    assert_eq!((status, Ending::code(&answer).as_str()), (502, "egress.ended.upstream.untrusted"));
    assert!(upstream.heard().is_empty() && wrong.heard().is_empty());
}

#[tokio::test]
async fn plain_http_does_not_go_around() {
    let upstream = Upstream::echo().await;
    let ending = Ending::new(&upstream, "");
    let plain = async |request: String| {
        let mut stream = tokio::net::TcpStream::connect(ending.at).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("written");
        String::from_utf8_lossy(&read_all(&mut stream).await).into_owned()
    };
    let at = format!("{HOST}:{}", ending.port);
    assert!(plain(format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n")).await.starts_with("HTTP/1.1 403"));
    assert_eq!(ending.log.entries("egress.ended.plain.denied", 1).await.len(), 1);
    let at = format!("opaque.example.net:{}", ending.port);
    let sentinel = &ending.sentinel;
    for request in [
        format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {sentinel}\r\n\r\n"),
        format!("GET http://{at}/?t={sentinel} HTTP/1.1\r\nHost: {at}\r\n\r\n"),
    ] {
        assert!(plain(request).await.starts_with("HTTP/1.1 403"));
    }
    assert!(!ending.log.entries("egress.sentinel.place.denied", 1).await.is_empty());
}

#[tokio::test]
async fn where_nothing_but_reading_is_allowed_nothing_else_passes() {
    let upstream = Upstream::echo().await;
    let none = r#","requests":[[{"methods":["GET","HEAD"],"paths":["/*"]}]],"credentials":"none""#;
    let ending = Ending::new(&upstream, none);
    let bearer = format!("Authorization: Bearer {}", ending.sentinel);
    for (arguments, code) in [
        (&["-H", "Authorization: Bearer own"][..], "egress.ended.credential.denied"),
        (&["-H", bearer.as_str()], "egress.ended.credential.denied"),
        (&["-H", "Cookie: a=b"], "egress.ended.credential.denied"),
        (&["-u", "a:b"], "egress.ended.credential.denied"),
        (&["-X", "GET", "-d", "body"], "egress.ended.body.denied"),
        (&["-d", "body"], "egress.ended.request.denied"),
    ] {
        let (status, answer) = ending.curl("/", arguments).await;
        assert_eq!((status, Ending::code(&answer).as_str()), (403, code), "{arguments:?}");
    }
    let (status, answer) = ending.curl("/", &["-H", "X-Own-Key: 1"]).await;
    assert!(status == 200 && !answer.to_lowercase().contains("x-own-key"), "{answer}");
}

#[test]
fn every_refusal_has_a_code_of_its_own_and_says_what_to_do() {
    let codes: std::collections::BTreeSet<String> =
        NotForwarded::ALL.iter().map(|why| why.code().to_string()).collect();
    assert_eq!(codes.len(), NotForwarded::ALL.len());
    assert!(NotForwarded::ALL.iter().all(|why| !why.remedy().is_empty() && !why.to_string().is_empty()));
}
