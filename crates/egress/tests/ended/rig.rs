//! A host with TLS of its own, a proxy that ends TLS to it, and clients as plugins have them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Output;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sigil_egress::ended::{Ended, InstanceCa, SecretSource, Sentinel, VaultUnavailable};
use sigil_egress::{BoxFuture, Proxy, ProxyHandle, Roots, Surroundings};
use sigil_types::{EndedHost, Host, HostPattern, Name, PluginName, Secret, WorkspaceId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::common::{Log, Scripted, identity, listener, quick, rule};

pub const HOST: &str = "api.example.com";
pub const SECRET: &str = "ghp_A1b2C3d4E5f6/G7+h8I9&j0";

/// What a host answers: pieces that are sent one by one.
pub type Answer = Arc<dyn Fn(&str, &[u8]) -> Vec<Vec<u8>> + Send + Sync>;

/// A host of the internet, on this machine.
pub struct Upstream {
    pub at: SocketAddr,
    pub root: CertificateDer<'static>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// A host whose certificate is for `name`.
    pub async fn new(name: &str, answer: Answer) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = authority.self_signed(&key).expect("signed").der().clone();
        let leaf_key = KeyPair::generate().expect("a key");
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        let leaf = leaf.signed_by(&leaf_key, &Issuer::from_params(&authority, &key)).expect("signed").der().clone();
        let encoded = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialized_der().to_vec()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![leaf], encoded);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("a configuration")));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("bound");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, hearing, answer) = (acceptor.clone(), Arc::clone(&hearing), Arc::clone(&answer));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    converse(stream, &hearing, &answer).await;
                });
            }
        });
        Self { at, root, heard }
    }

    /// Answers everything with its own request.
    pub async fn echo() -> Self {
        Self::new(HOST, Arc::new(|head, body| vec![ok(&[head.as_bytes(), body].concat())])).await
    }

    /// All requests that came, head and body.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("not poisoned").clone()
    }
}

pub fn ok(body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

async fn converse(mut stream: tokio_rustls::server::TlsStream<TcpStream>, heard: &Mutex<Vec<String>>, answer: &Answer) {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
        let field = |name: &str| {
            let found =
                head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
            found.map(|(_, value)| value.to_owned())
        };
        let whole = |bytes: &[u8]| match field("content-length") {
            Some(length) => bytes.len() >= end + length.parse::<usize>().expect("a number"),
            None => field("transfer-encoding").is_none() || bytes.ends_with(b"0\r\n\r\n"),
        };
        while !whole(&bytes) {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                break;
            }
        }
        let body = bytes.split_off(end);
        heard.lock().expect("not poisoned").push(format!("{head}{}", String::from_utf8_lossy(&body)));
        for piece in answer(&head, &body) {
            if stream.write_all(&piece).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
        bytes.clear();
    }
}

/// A vault with one secret, bound to one host.
#[derive(Debug)]
pub struct OneSecret {
    pub host: HostPattern,
    pub value: Result<Option<&'static str>, VaultUnavailable>,
}

impl SecretSource for OneSecret {
    fn secret<'a>(
        &'a self,
        name: &'a Name,
        plugin: &'a PluginName,
        _: Option<&'a WorkspaceId>,
        host: &'a Host,
    ) -> BoxFuture<'a, Result<Option<Secret<String>>, VaultUnavailable>> {
        assert_eq!((name.as_str(), plugin.as_str()), ("token", "fetch"));
        let fits = self.host.covers(host);
        Box::pin(async move { Ok(self.value?.filter(|_| fits).map(|value| Secret::new(value.to_owned()))) })
    }
}

/// A plugin's proxy that ends TLS, and what the plugin has.
pub struct Ending {
    pub log: Log,
    pub handle: ProxyHandle,
    pub at: SocketAddr,
    pub sentinel: String,
    pub port: u16,
    pub bundle: PathBuf,
    folder: tempfile::TempDir,
}

impl Ending {
    /// TLS to `HOST` is ended, under the rules in `more` (JSON).
    pub fn new(upstream: &Upstream, more: &str) -> Self {
        let source = OneSecret { host: HOST.parse().expect("a pattern"), value: Ok(Some(SECRET)) };
        Self::with(upstream, more, vec![upstream.root.clone()], source)
    }

    pub fn with(upstream: &Upstream, more: &str, roots: Vec<CertificateDer<'static>>, source: OneSecret) -> Self {
        let log = Log::new();
        let port = upstream.at.port();
        let hosts = [HOST, "other.example.org"];
        let rules: Vec<EndedHost> = hosts
            .iter()
            .map(|host| serde_json::from_str(&format!(r#"{{"host":"{host}"{more}}}"#)).expect("a rule"))
            .collect();
        let ca = Arc::new(InstanceCa::new(rules.iter().map(|rule| rule.host.clone()).collect()).expect("made"));
        let folder = tempfile::tempdir().expect("a folder");
        let bundle = folder.path().join("bundle.pem");
        std::fs::write(&bundle, pem(ca.certificate())).expect("written");
        let sentinel = Sentinel::generate("token".parse().expect("a name"), [HOST.parse().expect("a pattern")].into());
        let sentinel = sentinel.expect("randomness");
        let text = sentinel.text().to_owned();
        let ended = Ended::new(ca, rules).with_secrets(vec![sentinel], Arc::new(source));
        let resolver = Scripted::new(&[&["127.0.0.1"]]);
        let proxy =
            Proxy::new(log.log.clone(), resolver, Surroundings::default(), quick()).with_roots(Roots::Only(roots));
        let (fd, at) = listener();
        let rules = [hosts[0], hosts[1], "opaque.example.net"].map(|host| rule(host, &[port])).to_vec();
        let handle = proxy.serve_ended(fd, identity(rules, vec![upstream.at]), Some(ended)).expect("served");
        Self { log, handle, at, sentinel: text, port, bundle, folder }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.port)
    }

    /// Runs Debian's curl as a plugin would, and returns status and body.
    pub async fn curl(&self, path: &str, arguments: &[&str]) -> (u16, String) {
        let url = self.url(path);
        let arguments = [&["-sS", "--path-as-is", "-w", "\n%{http_code}", url.as_str()], arguments].concat();
        let output = self.run("curl", &arguments).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
        (status.parse().unwrap_or(0), format!("{body}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Runs a program with the environment of the sandbox.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = std::process::Command::new(program);
        command.args(arguments).current_dir(self.folder.path());
        for name in ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"] {
            command.env(name, &self.bundle);
        }
        command.env("HTTPS_PROXY", format!("http://{}", self.at)).env("https_proxy", format!("http://{}", self.at));
        tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("the program is installed")
    }

    /// The code of a refusal in an answer's JSON.
    pub fn code(body: &str) -> String {
        let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        value["error"]["code"].as_str().unwrap_or(body).to_owned()
    }
}

pub fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ascii")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
