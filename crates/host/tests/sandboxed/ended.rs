//! TLS that is ended by consent, the whole road: manifest, signed policy, launcher, sandbox, plugin, proxy, host.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use sigil_egress::ended::{SecretSource, VaultUnavailable};
use sigil_egress::{BoxFuture, Proxy, ProxyLimits, Roots, Surroundings, SystemResolver};
use sigil_host::{HostParts, PluginHost, Start, StartRefused};
use sigil_policy::{Ceilings, EgressIdentity, EndedGrant, LocalAddress, SecretConsumer, SecretGrant};
use sigil_types::{Host, Name, PluginName, Secret, SystemClock, WorkspaceId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::Test;
use crate::world::{self, Wish, World, name};

pub(crate) const TESTS: &[Test] = &[
    ("tls_is_ended_for_a_plugin_by_two_consents_and_each_request_is_judged", ended),
    ("credentials_need_signed_policy_a_vault_and_a_host_whose_tls_is_ended", credentials),
];

/// A host on this machine, whose certificate is for its address.
struct Site {
    at: SocketAddr,
    root: CertificateDer<'static>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Site {
    async fn new(at: SocketAddr) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let (key, leaf_key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let root = authority.self_signed(&key).expect("signed").der().clone();
        let mut leaf = CertificateParams::new(vec![at.ip().to_string()]).expect("a name");
        leaf.distinguished_name = DistinguishedName::new();
        let leaf = leaf.signed_by(&leaf_key, &Issuer::from_params(&authority, &key)).expect("signed").der().clone();
        let encoded = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialized_der().to_vec()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![leaf], encoded);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("a configuration")));
        let listener = TcpListener::bind(at).await.expect("the port");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, hearing) = (acceptor.clone(), Arc::clone(&hearing));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut request = vec![0; 8192];
                    let count = stream.read(&mut request).await.unwrap_or(0);
                    hearing.lock().expect("held").push(String::from_utf8_lossy(&request[..count]).into_owned());
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { at, root, heard }
    }
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// The manifest of `fetch`, with its consent.
fn manifest() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/fetch/plugin.yaml");
    let text = std::fs::read_to_string(path).expect("the manifest");
    let consent =
        "ports: [80, 443]\n          tls: ended\n          requests: [{ methods: [GET], paths: [/pages/*] }]\n";
    let secret = "  properties:\n    token: { type: string, secret: true }\n";
    let with = text.replacen("ports: [80, 443]\n", consent, 1).replacen("  properties:\n", secret, 1);
    assert!(with.contains("tls: ended") && with.contains("token:"), "{with}");
    with
}

fn reach(ceilings: &mut Ceilings, at: SocketAddr) {
    ceilings.egress.local.push(LocalAddress { plugin: EgressIdentity::Plugin(name("fetch")), address: at });
}

fn end(ceilings: &mut Ceilings, at: SocketAddr) {
    let text = format!("{{\"host\":\"{}\",\"strip_headers\":[\"user-agent\"]}}", at.ip());
    let grant: EndedGrant = serde_json::from_str(&text).expect("a grant");
    ceilings.plugins.get_mut(&name("fetch")).expect("the plugin").ended.push(grant);
}

/// The world's host, with a proxy that believes `root`.
fn believing(world: &World, root: &CertificateDer<'static>) -> PluginHost {
    let proxy =
        Proxy::new(world.audit.clone(), Arc::new(SystemResolver), Surroundings::default(), ProxyLimits::default());
    PluginHost::new(HostParts {
        launcher: world.launcher.client(),
        proxy: proxy.with_roots(Roots::Only(vec![root.clone()])),
        audit: world.audit.clone(),
        clock: Arc::new(SystemClock),
        ceilings: Arc::new(world.ceilings.clone()),
        demo: false,
    })
}

fn ended() {
    let at = free();
    let ceilings = move |_: &Path, ceilings: &mut Ceilings| {
        reach(ceilings, at);
        end(ceilings, at);
    };
    let own = [(manifest(), world::binary("sigil-plugin-fetch"))];
    let wish = Wish { plugins: &[], own: &own, ceilings: &ceilings, demo: false };
    world::run(&wish, async |mut world| {
        let site = Site::new(at).await;
        world.host = believing(&world, &site.root);
        world.start("fetch").await;
        let url = |path: &str| json!({ "url": format!("https://{}{path}", site.at) });
        let page = world.ok("fetch.get", url("/pages/one")).await;
        assert!(page.starts_with("200 ") && page.ends_with("hello"), "{page}");
        let heard = site.heard.lock().expect("held").clone();
        assert!(heard[0].starts_with("GET /pages/one HTTP/1.1\r\n"), "{heard:?}");
        assert!(!heard[0].to_lowercase().contains("user-agent"), "the policy has it taken out: {heard:?}");
        for refused in ["/other", "/pages/%2e%2e/other", "/pages%2fone"] {
            let answer = world.call("fetch.get", url(refused)).await.expect("an answer");
            assert!(!answer.ok || answer.content.starts_with("403 "), "{refused}: {}", answer.content);
        }
        let plain = world.call("fetch.get", json!({ "url": format!("http://{}/pages/one", site.at) })).await;
        assert!(plain.is_ok_and(|answer| !answer.ok || answer.content.starts_with("403 ")), "plain HTTP goes around");
        assert_eq!(site.heard.lock().expect("held").len(), 1);
        world.host.shutdown().await;
    });
}

#[derive(Debug)]
struct Empty;

impl SecretSource for Empty {
    fn secret<'a>(
        &'a self,
        _: &'a Name,
        _: &'a PluginName,
        _: Option<&'a WorkspaceId>,
        _: &'a Host,
    ) -> BoxFuture<'a, Result<Option<Secret<String>>, VaultUnavailable>> {
        Box::pin(async { Ok(None) })
    }
}

fn credentials() {
    let at = free();
    let ceilings = move |_: &Path, ceilings: &mut Ceilings| {
        reach(ceilings, at);
        end(ceilings, at);
        for (secret, host) in [("token", at.ip().to_string()), ("elsewhere", "api.example.org".to_owned())] {
            ceilings.secrets.push(SecretGrant {
                name: secret.parse().expect("a name"),
                consumer: SecretConsumer::Plugin(name("fetch")),
                hosts: [host.parse().expect("a pattern")].into(),
            });
        }
    };
    let own = [(manifest(), world::binary("sigil-plugin-fetch"))];
    let wish = Wish { plugins: &[], own: &own, ceilings: &ceilings, demo: false };
    world::run(&wish, async |world| {
        let start = async |host: &PluginHost, secret: &str| {
            let credentials = [("token".to_owned(), secret.parse().expect("a name"))].into();
            host.start(Start { credentials, ..Start::new(world.trusted("fetch"), world::workspace()) }).await
        };
        let code = |refused: Result<_, StartRefused>| refused.map(drop).expect_err("refused").code().to_string();
        assert_eq!(code(start(&world.host, "token").await), "host.plugin.credential.no-vault");
        let host = world.host.clone().with_vault(Arc::new(Empty));
        assert_eq!(code(start(&host, "other").await), "host.plugin.credential.not-granted");
        assert_eq!(code(start(&host, "elsewhere").await), "host.plugin.credential.not-ended");
        start(&host, "token").await.unwrap_or_else(|error| panic!("{error}"));
    });
}
