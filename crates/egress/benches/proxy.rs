//! Bytes and connections through the plugins' proxy, with its audit log on disk, against the same over loopback without a
//! proxy, and through tinyproxy and squid where they are installed. All take turns, so that a busy moment hits all alike.
//!
//! `SIGIL_BENCH_ROUNDS` sets how often each is measured (5), `SIGIL_BENCH_MIB` how much is sent each time (256). Lines that
//! begin with `row: ` are read by `./task bench`.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench, whose client, server and peers are plain sockets"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sigil_audit::{AuditLog, LocalSigner, SigningKey};
use sigil_egress::{Identity, Proxy, ProxyHandle, ProxyLimits, Surroundings, SystemResolver};
use sigil_policy::NetworkLimits;
use sigil_types::{InstanceId, SystemClock, Timestamp};

/// Clients at the same time, and connections of each, in one measurement of connections.
const CLIENTS: usize = 32;
const EACH: usize = 25;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A server that sends as many bytes as it is asked for (eight bytes, big-endian), and closes.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accepted");
            std::thread::spawn(move || {
                let mut wanted = [0; 8];
                if stream.read_exact(&mut wanted).is_err() {
                    return;
                }
                let mut left = u64::from_be_bytes(wanted);
                let chunk = vec![b'x'; 256 * 1024];
                while left > 0 {
                    let size = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
                    if stream.write_all(chunk.get(..size).expect("no more than it has")).is_err() {
                        return;
                    }
                    left -= u64::try_from(size).expect("small");
                }
            });
        }
    });
    at
}

/// The proxy as the gateway runs it, for one instance that may reach `origin` and has no pace.
fn ours(origin: SocketAddr, folder: &Path) -> (SocketAddr, ProxyHandle, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let key = SigningKey::from_pkcs8("bench/audit", &SigningKey::generate().expect("a key")).expect("a key");
    let signer = Arc::new(LocalSigner::new(key, None));
    let audit = AuditLog::open(&folder.join("audit.db"), signer, Arc::new(SystemClock)).expect("a log");
    let most = u64::MAX >> 1;
    let limits = NetworkLimits {
        connections: 1024,
        connections_per_second: 1_000_000,
        up_bytes: most,
        down_bytes: most,
        up_bytes_per_day: most,
        down_bytes_per_day: most,
        bytes_per_second: most,
        ..NetworkLimits::default()
    };
    let identity = Identity {
        plugin: "bench".parse().expect("a name"),
        instance: InstanceId::generate(Timestamp::from_millis(1)),
        workspace: None,
        rules: Vec::new(),
        local: vec![origin],
        limits,
    };
    let proxy = Proxy::new(audit, Arc::new(SystemResolver), Surroundings::default(), ProxyLimits::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let handle = {
        let _inside = runtime.enter();
        proxy.serve(listener.into(), identity).expect("served")
    };
    (at, handle, runtime)
}

/// Another proxy, as a process that ends with the bench.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `program` with this configuration, in which `PORT` stands for its port. `None` when it is not installed.
fn peer(program: &str, arguments: &[&str], config: &str, folder: &Path) -> Option<(SocketAddr, Peer)> {
    let at = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let file = folder.join(format!("{program}.conf"));
    std::fs::write(&file, config.replace("PORT", &at.port().to_string())).expect("written");
    let found =
        ["/usr/sbin", "/usr/bin"].iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists());
    let child = Command::new(found?)
        .args(arguments)
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect(program);
    let peer = Peer(child);
    let begun = Instant::now();
    while TcpStream::connect(at).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{program} does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    Some((at, peer))
}

/// One way to the origin.
#[derive(Clone)]
struct Road {
    name: &'static str,
    proxy: Option<SocketAddr>,
    /// Seconds for a MiB, and for a connection, of each round.
    bytes: Vec<f64>,
    connections: Vec<f64>,
}

impl Road {
    fn open(&self, origin: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(self.proxy.unwrap_or(origin)).expect("connected");
        stream.set_nodelay(true).expect("set");
        if self.proxy.is_some() {
            write!(stream, "CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\n").expect("written");
            let mut head = Vec::new();
            let mut piece = [0; 1024];
            while !head.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut piece).expect("an answer");
                head.extend_from_slice(piece.get(..count).filter(|piece| !piece.is_empty()).expect("a whole head"));
            }
            assert!(head.starts_with(b"HTTP/1.") && head.get(8..12) == Some(b" 200"), "{}", self.name);
        }
        stream
    }

    fn ask(&self, origin: SocketAddr, wanted: u64) {
        let mut stream = self.open(origin);
        stream.write_all(&wanted.to_be_bytes()).expect("written");
        let mut buffer = vec![0; 256 * 1024];
        let mut got = 0;
        while got < wanted {
            let count = stream.read(&mut buffer).expect("read");
            assert!(count > 0, "{}: {got} of {wanted} bytes", self.name);
            got += u64::try_from(count).expect("small");
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn measure(&mut self, origin: SocketAddr, mib: u64) {
        let begun = Instant::now();
        self.ask(origin, mib << 20);
        self.bytes.push(begun.elapsed().as_secs_f64() / mib as f64);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| (0..EACH).for_each(|_| self.ask(origin, 1)));
            }
        });
        self.connections.push(begun.elapsed().as_secs_f64() / (CLIENTS * EACH) as f64);
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    let (rounds, mib) = (setting("SIGIL_BENCH_ROUNDS", 5), setting("SIGIL_BENCH_MIB", 256));
    let folder = tempfile::tempdir().expect("a folder");
    let origin = origin();
    let (at, _handle, _runtime) = ours(origin, folder.path());
    let tinyproxy =
        "Port PORT\nListen 127.0.0.1\nAllow 127.0.0.1\nMaxClients 512\nTimeout 600\nLogFile \"/dev/null\"\n";
    let squid = "http_port 127.0.0.1:PORT\nhttp_access allow all\ncache deny all\naccess_log none\ncache_log /dev/null\n\
                 pid_filename none\nmax_filedescriptors 4096\nshutdown_lifetime 0 seconds\n";
    let peers = [
        ("tinyproxy", peer("tinyproxy", &["-d", "-c"], tinyproxy, folder.path())),
        ("squid", peer("squid", &["-N", "-f"], squid, folder.path())),
    ];
    let road = |name, proxy| Road { name, proxy, bytes: Vec::new(), connections: Vec::new() };
    let mut roads = vec![road("direct", None), road("sigil", Some(at))];
    roads.extend(peers.iter().filter_map(|(name, peer)| peer.as_ref().map(|(at, _)| road(name, Some(*at)))));
    for road in &roads {
        road.clone().measure(origin, 8.min(mib));
    }
    for _ in 0..rounds {
        for road in &mut roads {
            road.measure(origin, mib);
        }
    }
    println!("{:<12} {:>12} {:>16}   median of {rounds}", "", "MiB/s", "connections/s");
    for road in &roads {
        let (bytes, connections) = (median(road.bytes.clone()), median(road.connections.clone()));
        println!("{:<12} {:>12.0} {:>16.0}", road.name, 1.0 / bytes, 1.0 / connections);
    }
    for (what, of) in [
        ("egress: a MiB through the proxy", (|road: &Road| median(road.bytes.clone())) as fn(&Road) -> f64),
        ("egress: a connection through the proxy", |road| median(road.connections.clone())),
    ] {
        let figure = |name: &str| roads.iter().find(|road| road.name == name).map(|road| of(road) * 1000.0);
        // Half of what is possible without a proxy is twice its time.
        for (name, limit) in [("direct", 2.0), ("tinyproxy", 1.0), ("squid", 1.0)] {
            match (figure("sigil"), figure(name)) {
                (Some(ours), Some(theirs)) => {
                    let row = serde_json::json!({
                        "what": what, "value": ours, "unit": "ms", "against": [theirs, name], "limit": ["ratio", limit],
                    });
                    println!("row: {row}");
                }
                _ => println!("{what}: not compared, {name} is not installed (apt-get install {name})"),
            }
        }
    }
}
