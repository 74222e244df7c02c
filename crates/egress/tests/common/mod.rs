//! What the tests of the proxy share: a real log, real sockets, a resolver that answers as it is told.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the plugin's side of the proxy")]

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sigil_audit::{AuditLog, Filter, LocalSigner, Options, SigningKey, Stored};
use sigil_egress::{
    BoxFuture, EgressRule, Identity, Proxy, ProxyHandle, ProxyLimits, Resolver, Surroundings, SystemResolver,
};
use sigil_policy::NetworkLimits;
use sigil_types::{HostName, InstanceId, SystemClock, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers with the next of its answers, and the last one ever after; counts.
#[derive(Debug, Default)]
pub struct Scripted {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    pub asked: AtomicUsize,
}

impl Scripted {
    pub fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().expect("an address")).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(parse).collect()), asked: AtomicUsize::new(0) })
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolver for Scripted {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().expect("not poisoned");
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

/// A log in a folder of its own.
pub struct Log {
    pub log: AuditLog,
    _folder: tempfile::TempDir,
}

impl Log {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = SigningKey::from_pkcs8("test/audit", &SigningKey::generate().expect("a key")).expect("a key");
        let signer = Arc::new(LocalSigner::new(key, None));
        let log = AuditLog::open_with(&folder.path().join("audit.db"), signer, Arc::new(SystemClock), options)
            .expect("a log");
        Self { log, _folder: folder }
    }

    /// All entries of a kind, oldest first, once there are `count` of them.
    pub async fn entries(&self, kind: &str, count: usize) -> Vec<Stored> {
        let filter = Filter { kind: Some(kind.into()), limit: 1000, oldest_first: true, ..Filter::default() };
        for _ in 0..2000 {
            let entries = self.log.query(&filter).expect("readable");
            if entries.len() >= count {
                return entries;
            }
            // The writer is another thread; give it the processor.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("fewer than {count} entries of kind {kind}");
    }
}

/// A plugin's proxy: what it is served with, and where.
pub struct Rig {
    pub log: Log,
    pub surroundings: Surroundings,
    pub proxy: Proxy,
    pub handle: ProxyHandle,
    pub at: SocketAddr,
}

pub fn quick() -> ProxyLimits {
    ProxyLimits { connect: Duration::from_secs(2), ..ProxyLimits::default() }
}

/// The default limits, without the pace: tests connect as fast as they can.
pub fn unpaced() -> NetworkLimits {
    NetworkLimits { connections_per_second: 10_000, ..NetworkLimits::default() }
}

pub fn rule(host: &str, ports: &[u16]) -> EgressRule {
    EgressRule { host: host.parse().expect("a pattern"), ports: ports.to_vec(), opaque: false }
}

pub fn identity(rules: Vec<EgressRule>, local: Vec<SocketAddr>) -> Identity {
    Identity {
        plugin: "fetch".parse().expect("a name"),
        instance: InstanceId::generate(Timestamp::from_millis(1)),
        workspace: Some("home".parse().expect("a name")),
        rules,
        local,
        limits: unpaced(),
    }
}

pub fn listener() -> (OwnedFd, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    (listener.into(), at)
}

impl Rig {
    pub fn new(identity: Identity, resolver: Arc<dyn Resolver>, limits: ProxyLimits) -> Self {
        Self::with_log(Log::new(), identity, resolver, limits)
    }

    pub fn with_log(log: Log, identity: Identity, resolver: Arc<dyn Resolver>, limits: ProxyLimits) -> Self {
        let surroundings = Surroundings::default();
        let proxy = Proxy::new(log.log.clone(), resolver, surroundings.clone(), limits);
        let (fd, at) = listener();
        let handle = proxy.serve(fd, identity).expect("served");
        Self { log, surroundings, proxy, handle, at }
    }

    pub fn local(rules: Vec<EgressRule>, local: Vec<SocketAddr>) -> Self {
        Self::new(identity(rules, local), Arc::new(SystemResolver), quick())
    }

    /// Sends `bytes` and reads until the proxy closes.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.at).await.expect("connected");
        let _ = stream.write_all(bytes.as_ref()).await;
        read_all(&mut stream).await
    }

    /// Sends a CONNECT and returns the stream and the status line's code.
    pub async fn connect(&self, target: &str) -> (TcpStream, u16) {
        let mut stream = TcpStream::connect(self.at).await.expect("connected");
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let status = read_status(&mut stream).await;
        (stream, status)
    }
}

/// Reads a head byte by byte, so that nothing of what follows is lost.
pub async fn read_status(stream: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    let text = String::from_utf8(head).expect("ascii");
    text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
}

/// Reads to the end; a reset counts as one.
pub async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

/// A server that answers each connection with `answer` once it has read `until`, and keeps what it read.
pub struct Server {
    pub at: SocketAddr,
    pub heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Server {
    pub async fn new(until: &'static [u8], answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("bound");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                let hearing = Arc::clone(&hearing);
                let index = {
                    let mut heard = hearing.lock().expect("not poisoned");
                    heard.push(Vec::new());
                    heard.len() - 1
                };
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    let mut answered = false;
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        let said = {
                            let mut heard = hearing.lock().expect("not poisoned");
                            heard[index].extend_from_slice(&buffer[..count]);
                            !answered && heard[index].windows(until.len()).any(|window| window == until)
                        };
                        if said {
                            answered = true;
                            let _ = stream.write_all(answer).await;
                        }
                    }
                });
            }
        });
        Self { at, heard }
    }

    pub async fn web() -> Self {
        Self::new(b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-From: web\r\n\r\nhello").await
    }

    pub fn connections(&self) -> usize {
        self.heard.lock().expect("not poisoned").len()
    }

    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("not poisoned").concat()).into_owned()
    }
}

/// A ClientHello record for `name`.
pub fn client_hello(name: Option<&str>) -> Vec<u8> {
    let mut extensions = vec![0, 10, 0, 4, 0, 2, 0, 29];
    if let Some(name) = name {
        let length = u16::try_from(name.len()).expect("short");
        extensions.extend_from_slice(&[0, 0]);
        extensions.extend_from_slice(&(length + 5).to_be_bytes());
        extensions.extend_from_slice(&(length + 3).to_be_bytes());
        extensions.push(0);
        extensions.extend_from_slice(&length.to_be_bytes());
        extensions.extend_from_slice(name.as_bytes());
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[9; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).expect("short").to_be_bytes());
    body.extend_from_slice(&extensions);
    let length = u16::try_from(body.len()).expect("short");
    let mut record = vec![22, 3, 1];
    record.extend_from_slice(&(length + 4).to_be_bytes());
    record.extend_from_slice(&[1, 0]);
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(&body);
    record
}
