//! The host's own client: it reaches what signed policy names, by an address that was checked, and nothing else.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the plugin's side of the proxy, and servers")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Scripted, Server};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sigil_egress::{
    ClientLimits, HostRights, HttpClient, HttpRequest, Refused, RequestFailed, Resolver, Roots, Surroundings,
    SystemResolver,
};
use sigil_policy::Endpoint;
use sigil_types::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn endpoint(text: &str) -> Endpoint {
    text.parse().expect("an endpoint")
}

fn rights(endpoints: &[&Endpoint], local: &[SocketAddr]) -> HostRights {
    HostRights { endpoints: endpoints.iter().map(|endpoint| (*endpoint).clone()).collect(), local: local.to_vec() }
}

fn client(resolver: Arc<dyn Resolver>, roots: Roots, limits: ClientLimits, rights: HostRights) -> HttpClient {
    HttpClient::new(resolver, Surroundings::default(), roots, limits, rights)
}

fn plain(rights: HostRights, limits: ClientLimits) -> HttpClient {
    client(Arc::new(SystemResolver), Roots::Only(vec![]), limits, rights)
}

/// A TLS server for `localhost` that answers one request for each connection.
async fn tls_server() -> (SocketAddr, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["model.example".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecure").await;
            let _ = stream.shutdown().await;
        }
    });
    (at, certificate)
}

#[tokio::test]
async fn a_named_local_endpoint_is_reached() {
    let web = Server::web().await;
    let at = endpoint(&format!("http://{}", web.at));
    let client = plain(rights(&[&at], &[web.at]), ClientLimits::default());
    let request = HttpRequest::post_json(at, "/v1/chat", "{}")
        .expect("a request")
        .secret_header("authorization", "Bearer ", &Secret::new("key-123".into()))
        .expect("a header");
    assert!(!format!("{request:?}").contains("key-123"), "a secret is not shown");
    let response = client.send(request).await.expect("answered");
    assert_eq!((response.status(), response.header("x-from")), (200, Some("web")));
    assert_eq!(response.start(100).await.expect("read"), b"hello");
    let heard = web.heard();
    assert!(heard.starts_with("POST /v1/chat HTTP/1.1\r\n") && heard.contains("authorization: Bearer key-123\r\n"));
}

#[tokio::test]
async fn what_policy_does_not_name_is_not_reached() {
    let web = Server::web().await;
    let named = endpoint(&format!("http://{}", web.at));
    let send = async |client: &HttpClient, at: &Endpoint| {
        client.send(HttpRequest::get(at.clone(), "/").expect("a request")).await.expect_err("refused")
    };
    let unnamed = plain(rights(&[], &[web.at]), ClientLimits::default());
    assert!(matches!(send(&unnamed, &named).await, RequestFailed::Endpoint { .. }));
    let not_local = plain(rights(&[&named], &[]), ClientLimits::default());
    assert!(matches!(send(&not_local, &named).await, RequestFailed::Plain { .. }));
    // In clear to a name, even one that resolves to this machine: no key goes over a wire in clear.
    let name = endpoint(&format!("http://localhost:{}", web.at.port()));
    let by_name = plain(rights(&[&name], &[web.at]), ClientLimits::default());
    assert!(matches!(send(&by_name, &name).await, RequestFailed::Plain { .. }));
    let gateway = plain(rights(&[&named], &[web.at]), ClientLimits::default());
    gateway.replace_rights(HostRights::default());
    assert!(matches!(send(&gateway, &named).await, RequestFailed::Endpoint { .. }), "narrowing is immediate");
    for host in ["https://169.254.169.254", "https://10.0.0.1", "https://[::1]", "https://127.0.0.1"] {
        let at = endpoint(host);
        let client = plain(rights(&[&at], &[]), ClientLimits::default());
        let failed = send(&client, &at).await;
        assert!(matches!(failed, RequestFailed::Address { refused: Refused::Address { .. }, .. }), "{host}: {failed}");
    }
    assert_eq!(web.connections(), 0);
}

#[tokio::test]
async fn the_gateway_does_not_speak_to_itself() {
    let web = Server::web().await;
    let at = endpoint(&format!("http://{}", web.at));
    let surroundings = Surroundings::default();
    surroundings.add_listener(web.at);
    let rights = rights(&[&at], &[web.at]);
    let client =
        HttpClient::new(Arc::new(SystemResolver), surroundings, Roots::Machine, ClientLimits::default(), rights);
    let failed = client.send(HttpRequest::get(at, "/").expect("a request")).await.expect_err("refused");
    assert!(matches!(failed, RequestFailed::Address { refused: Refused::Gateway, .. }));
}

#[tokio::test]
async fn tls_is_checked_against_the_name_that_was_asked_for() {
    let (at, certificate) = tls_server().await;
    let right = endpoint(&format!("https://model.example:{}", at.port()));
    let wrong = endpoint(&format!("https://other.example:{}", at.port()));
    let resolver = Scripted::new(&[&["127.0.0.1"]]);
    let rights = rights(&[&right, &wrong], &[at]);
    let get = |at: &Endpoint| HttpRequest::get(at.clone(), "/").expect("a request");
    let trusting = client(resolver.clone(), Roots::Only(vec![certificate]), ClientLimits::default(), rights.clone());
    let response = trusting.send(get(&right)).await.expect("answered");
    assert_eq!(response.start(10).await.expect("read"), b"secure");
    let failed = trusting.send(get(&wrong)).await.expect_err("another name");
    assert!(matches!(failed, RequestFailed::Connect { .. }), "{failed:?}");
    let untrusting = client(resolver, Roots::Only(vec![]), ClientLimits::default(), rights);
    assert!(matches!(untrusting.send(get(&right)).await, Err(RequestFailed::Connect { .. })));
}

#[tokio::test]
async fn a_name_that_points_inside_is_not_dialled() {
    let (at, certificate) = tls_server().await;
    let model = endpoint(&format!("https://model.example:{}", at.port()));
    for answer in [&["127.0.0.1"][..], &["127.0.0.1", "127.0.0.2"], &["93.184.216.34", "10.0.0.1"]] {
        // The port is named for another address only.
        let local = SocketAddr::new("127.0.0.9".parse().expect("an address"), at.port());
        let roots = Roots::Only(vec![certificate.clone()]);
        let client = client(Scripted::new(&[answer]), roots, ClientLimits::default(), rights(&[&model], &[local]));
        let failed = client.send(HttpRequest::get(model.clone(), "/").expect("a request")).await.expect_err("refused");
        assert!(
            matches!(failed, RequestFailed::Address { refused: Refused::Address { .. }, .. }),
            "{answer:?}: {failed:?}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let inner = Server::web().await;
    let text = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", inner.at);
    let outer = Server::new(b"\r\n\r\n", Box::leak(text.into_boxed_str()).as_bytes()).await;
    let (to_outer, to_inner) = (endpoint(&format!("http://{}", outer.at)), endpoint(&format!("http://{}", inner.at)));
    let rights = rights(&[&to_outer, &to_inner], &[outer.at, inner.at]);
    let client = plain(rights, ClientLimits::default());
    let response = client.send(HttpRequest::get(to_outer, "/").expect("a request")).await.expect("answered");
    assert_eq!(response.status(), 302);
    assert_eq!(inner.connections(), 0);
}

#[tokio::test]
async fn time_and_size_are_limited() {
    let short = Duration::from_millis(60);
    let limits = ClientLimits { first_byte: short, idle: short, body: 4, ..ClientLimits::default() };
    let silent = Server::new(b"\r\n\r\n", b"").await;
    let stalling = Server::new(b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await;
    let cut = Server::new(b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabZZ").await;
    let large = Server::web().await;
    let ends = [silent.at, stalling.at, cut.at, large.at].map(|at| endpoint(&format!("http://{at}")));
    let client = plain(rights(&ends.iter().collect::<Vec<_>>(), &[silent.at, stalling.at, cut.at, large.at]), limits);
    let get = |at: &Endpoint| HttpRequest::get(at.clone(), "/").expect("a request");
    assert!(matches!(client.send(get(&ends[0])).await, Err(RequestFailed::Slow { .. })));
    let stalled = client.send(get(&ends[1])).await.expect("a head").start(10).await;
    assert!(matches!(stalled, Err(RequestFailed::Slow { .. })));
    let broken = client.send(get(&ends[2])).await.expect("a head").start(10).await;
    assert!(matches!(broken, Err(RequestFailed::Broken { .. })), "{broken:?}");
    let large = client.send(get(&ends[3])).await.expect("a head").start(10).await;
    assert!(matches!(large, Err(RequestFailed::Size { .. })));
}

#[test]
fn a_request_cannot_be_written_into_another() {
    let at = endpoint("https://a.example");
    for path in ["", "x", "//b.example/", "/a b", "/a\r\nX: y", "/a#b", "/\\b", "/ü"] {
        assert!(HttpRequest::get(at.clone(), path).is_err(), "{path:?}");
    }
    let request = HttpRequest::get(at, "/").expect("a request");
    let split = Secret::new("key\r\nHost: b.example".to_owned());
    let failed = request.secret_header("x-api-key", "", &split).expect_err("refused");
    assert!(!failed.to_string().contains("b.example"));
}
