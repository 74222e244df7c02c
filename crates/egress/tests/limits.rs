//! What one instance may use: connections, their rate, bytes of a connection, of a second and of a day; and what it holds
//! open is bounded, however it tries.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the plugin's side of the proxy, and servers")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Rig, Server, identity, quick, read_all, unpaced};
use sigil_egress::{Identity, ProxyLimits, SystemResolver, Told};
use sigil_policy::NetworkLimits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const FLOOD: &[u8] = &[b'z'; 64 * 1024];

fn limited(limits: NetworkLimits, local: SocketAddr) -> Rig {
    let identity = Identity { limits, ..identity(vec![], vec![local]) };
    Rig::new(identity, Arc::new(SystemResolver), quick())
}

#[tokio::test]
async fn a_days_bytes_are_shared_by_all_connections() {
    let server = Server::new(b"go", FLOOD).await;
    let rig = limited(NetworkLimits { down_bytes_per_day: 100_000, ..unpaced() }, server.at);
    let target = server.at.to_string();
    let mut heard = 0;
    for ending in ["done", "day"] {
        let (mut stream, status) = rig.connect(&target).await;
        assert_eq!(status, 200);
        stream.write_all(b"go").await.expect("written");
        if ending == "done" {
            let mut flood = vec![0; FLOOD.len()];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut flood).await.expect("the first fits");
            stream.shutdown().await.expect("shut down");
            heard += flood.len();
        }
        heard += read_all(&mut stream).await.len();
    }
    assert!(heard <= 100_000, "{heard}");
    let closed = rig.log.entries("egress.connection.close", 2).await;
    assert_eq!((&closed[0].data["ending"], &closed[1].data["ending"]), (&"done".into(), &"day".into()));
}

#[tokio::test]
async fn without_bytes_left_no_connection_begins() {
    let server = Server::new(b"go", FLOOD).await;
    let rig = limited(NetworkLimits { up_bytes_per_day: 2, ..unpaced() }, server.at);
    let target = server.at.to_string();
    let (mut stream, _) = rig.connect(&target).await;
    stream.write_all(b"go").await.expect("written");
    stream.shutdown().await.expect("shut down");
    assert_eq!(read_all(&mut stream).await.len(), FLOOD.len());
    assert_eq!(rig.connect(&target).await.1, 503);
    assert_eq!(rig.log.entries("egress.bytes.exhausted", 1).await.len(), 1);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn more_bytes_than_a_second_has_wait() {
    let server = Server::new(b"go", FLOOD).await;
    let total = Duration::from_millis(300);
    let rig = limited(NetworkLimits { bytes_per_second: 1024, total, ..unpaced() }, server.at);
    let (mut stream, _) = rig.connect(&server.at.to_string()).await;
    stream.write_all(b"go").await.expect("written");
    let heard = read_all(&mut stream).await.len();
    assert!((1024..8 * 1024).contains(&heard), "{heard} bytes: those ahead, and little more");
    assert_eq!(rig.log.entries("egress.connection.close", 1).await[0].data["ending"], "total");
}

#[tokio::test]
async fn connections_have_a_pace() {
    let server = Server::web().await;
    let rig = limited(NetworkLimits { connections_per_second: 1, ..NetworkLimits::default() }, server.at);
    let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", server.at);
    let mut busy = 0;
    for _ in 0..100 {
        busy += usize::from(rig.send(&request).await == Told::Busy.bytes());
    }
    // Ten at once, and one for each second that this test has taken.
    assert!((1..=90).contains(&busy), "{busy}");
    assert_eq!(server.connections(), 100 - busy);
}

#[tokio::test]
async fn ten_thousand_slow_connections_hold_no_more_than_their_number() {
    let server = Server::web().await;
    let limits = NetworkLimits { connections: 16, connections_per_second: 20_000, ..NetworkLimits::default() };
    let identity = Identity { limits, ..identity(vec![], vec![server.at]) };
    let slow = ProxyLimits { request: Duration::from_secs(3600), ..quick() };
    let rig = Rig::new(identity, Arc::new(SystemResolver), slow);
    let mut held = Vec::new();
    for nr in 0..16_u8 {
        let mut stream = TcpStream::connect(rig.at).await.expect("connected");
        // Some in HTTP, some in SOCKS, some say nothing at all.
        let opening: &[u8] = [&b"GET http://a"[..], &[5, 9], b""][usize::from(nr % 3)];
        stream.write_all(opening).await.expect("written");
        held.push(stream);
    }
    for _ in 16..10_000 {
        let mut stream = TcpStream::connect(rig.at).await.expect("connected");
        let answer = read_all(&mut stream).await;
        assert!(answer.is_empty() || answer == Told::Busy.bytes());
    }
    let stats = rig.handle.stats();
    assert_eq!((stats.accepted, stats.refused), (10_000, 10_000 - 16));
    // They are one entry with a count, not ten thousand.
    assert!(rig.log.entries("egress.connections.exhausted", 1).await.len() < 100);
    drop(held);
    let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", server.at);
    let mut answer = Vec::new();
    while !answer.starts_with(b"HTTP/1.1 200") {
        answer = rig.send(&request).await;
    }
    assert_eq!(server.connections(), 1, "and then it is served again");
}

#[tokio::test]
async fn a_server_or_plugin_that_stalls_does_not_hold_a_connection() {
    let short = Duration::from_millis(60);
    let silent = Server::new(b"never", b"").await;
    let rig = limited(NetworkLimits { idle: short, ..unpaced() }, silent.at);
    let at = silent.at;
    // No answer at all, a body that does not come, and an answer that nobody reads.
    rig.send(format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    rig.send(format!("POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nContent-Length: 9\r\n\r\nab")).await;
    let endings = rig.log.entries("egress.connection.close", 2).await;
    assert!(endings.iter().all(|entry| entry.data["ending"] == "idle"));
    let rig = limited(NetworkLimits { total: short, ..unpaced() }, silent.at);
    rig.send(format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    assert_eq!(rig.log.entries("egress.connection.close", 1).await[0].data["ending"], "total");
}
