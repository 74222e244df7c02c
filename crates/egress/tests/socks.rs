//! SOCKS 5 over real sockets: the same verdicts, the same audit entries, and nothing but CONNECT.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the plugin's side of the proxy, and servers")]

mod common;

use std::time::Duration;

use common::{Rig, Scripted, Server, client_hello, identity, quick, read_all, rule};
use sigil_egress::ProxyLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const GREETING: &[u8] = &[5, 1, 0];
const GREETED: &[u8] = &[5, 0];

fn reply(code: u8) -> Vec<u8> {
    vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

fn named(host: &[u8], port: u16) -> Vec<u8> {
    let length = u8::try_from(host.len()).expect("short");
    [&[5, 1, 0, 3, length], host, &port.to_be_bytes()].concat()
}

async fn take<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.expect("an answer");
    bytes
}

#[tokio::test]
async fn a_tunnel_stands_for_each_address_type() {
    let server = Server::new(b"ping", b"pong").await;
    let port = server.at.port();
    let rules = vec![rule("allowed.example", &[port])];
    let rig = Rig::new(identity(rules, vec![server.at]), Scripted::new(&[&["127.0.0.1"]]), quick());
    let address = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port.to_be_bytes()].concat();
    let mapped =
        [&[5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1][..], &port.to_be_bytes()].concat();
    for (request, first) in [
        (named(b"Allowed.EXAMPLE", port), client_hello(Some("allowed.example"))),
        (address, Vec::new()),
        (mapped, Vec::new()),
    ] {
        // A byte at a time, and then all at once, before any answer.
        for piece in [1, 4096] {
            let mut stream = TcpStream::connect(rig.at).await.expect("connected");
            stream.set_nodelay(true).expect("set");
            for part in [GREETING, &request, &first, b"ping"].concat().chunks(piece) {
                stream.write_all(part).await.expect("written");
            }
            assert_eq!(take::<2>(&mut stream).await, GREETED);
            assert_eq!(take::<10>(&mut stream).await, reply(0)[..]);
            assert_eq!(&take::<4>(&mut stream).await, b"pong");
        }
    }
    let opened = rig.log.entries("egress.connection.open", 6).await;
    assert_eq!(opened[0].data["way"], "socks5");
    assert_eq!(opened[0].data["target"], format!("allowed.example:{port}"));
    assert_eq!(rig.log.entries("egress.connection.close", 6).await.len(), 6);
}

#[tokio::test]
async fn what_is_not_connect_without_authentication_is_refused_with_its_code() {
    let web = Server::web().await;
    let resolver = Scripted::new(&[&["127.0.0.1"]]);
    let port = web.at.port();
    let rules = vec![rule("allowed.example", &[port]), rule("127.0.0.1", &[port])];
    let rig = Rig::new(identity(rules, vec![web.at]), resolver.clone(), quick());
    let greeted = |rest: &[u8]| [GREETING, rest].concat();
    let v4 = |command: u8, kind: u8| [&[5, command, 0, kind, 127, 0, 0, 1][..], &port.to_be_bytes()].concat();
    let rows: Vec<(&str, Vec<u8>, Vec<u8>, &str)> = vec![
        ("user name and password only", vec![5, 1, 2], vec![5, 0xff], "egress.socks.methods.refused"),
        ("no methods at all", vec![5, 0], vec![5, 0xff], "egress.socks.methods.refused"),
        ("half a greeting", vec![5, 9, 0], vec![5, 0xff], "egress.socks.incomplete.refused"),
        ("half a request", greeted(&[5, 1, 0, 1, 127]), reply(1), "egress.socks.incomplete.refused"),
        ("BIND", greeted(&v4(2, 1)), reply(7), "egress.socks.command.refused"),
        ("UDP ASSOCIATE", greeted(&v4(3, 1)), reply(7), "egress.socks.command.refused"),
        ("an address type of its own", greeted(&v4(1, 9)), reply(8), "egress.socks.type.refused"),
        ("version 4 within", greeted(&[4, 1, 0, 80, 127, 0, 0, 1, 0]), reply(1), "egress.socks.version.refused"),
        ("a reserved byte", greeted(&[5, 1, 7, 1, 127, 0, 0, 1, 0, 80]), reply(1), "egress.socks.version.refused"),
        ("port 0", greeted(&[5, 1, 0, 1, 127, 0, 0, 1, 0, 0]), reply(1), "egress.socks.port.refused"),
        ("an empty name", greeted(&named(b"", port)), reply(1), "egress.socks.name.refused"),
        (
            "a name with NUL",
            greeted(&named(b"evil.example\0.allowed.example", port)),
            reply(1),
            "egress.socks.name.refused",
        ),
        ("an address as a name", greeted(&named(b"127.0.0.1", port)), reply(1), "egress.socks.name.refused"),
        ("a number as a name", greeted(&named(b"2130706433", port)), reply(1), "egress.socks.name.refused"),
        ("a trailing dot", greeted(&named(b"allowed.example.", port)), reply(1), "egress.socks.name.refused"),
        ("255 bytes", greeted(&named(&[b'a'; 255], port)), reply(1), "egress.socks.name.refused"),
        ("another host", greeted(&named(b"denied.example", port)), reply(2), "egress.host.denied"),
        ("another port", greeted(&named(b"allowed.example", 22)), reply(2), "egress.port.denied"),
        ("loopback that is not named", greeted(&[5, 1, 0, 1, 127, 0, 0, 2, 0, 80]), reply(2), "egress.address.denied"),
    ];
    for (what, bytes, answer, code) in rows {
        let mut stream = TcpStream::connect(rig.at).await.expect("connected");
        stream.write_all(&bytes).await.expect("written");
        stream.shutdown().await.expect("shut down");
        let heard = read_all(&mut stream).await;
        let expected = if answer == [5, 0xff] { answer } else { [GREETED, &answer].concat() };
        assert_eq!(heard, expected, "{what}");
        // Waits for it: refusals of one kind may be one entry with a count.
        rig.log.entries(code, 1).await;
    }
    assert_eq!((web.connections(), resolver.asked()), (0, 0), "nothing was looked up or dialled");
}

#[tokio::test]
async fn a_socks_tunnel_is_held_to_its_name() {
    let server = Server::new(b"x", b"y").await;
    let port = server.at.port();
    let rules = vec![rule("allowed.example", &[port])];
    let rig = Rig::new(identity(rules, vec![server.at]), Scripted::new(&[&["127.0.0.1"]]), quick());
    for (first, code) in [
        (client_hello(Some("evil.example")), "egress.tunnel.name.mismatch"),
        (client_hello(None), "egress.tunnel.name.missing"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "egress.tunnel.tls.missing"),
    ] {
        let heard = rig.send([GREETING, &named(b"allowed.example", port), &first].concat()).await;
        assert_eq!(heard, [GREETED, &reply(0)].concat());
        assert_eq!(rig.log.entries(code, 1).await.len(), 1, "{code}");
    }
    assert_eq!(server.heard(), "", "not one byte");
}

#[tokio::test]
async fn what_cannot_be_reached_or_waited_for_is_told_so() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let limits = ProxyLimits { request: Duration::from_millis(60), ..quick() };
    let rules = vec![rule("gone.example", &[])];
    let rig = Rig::new(identity(rules, vec![closed]), Scripted::new(&[]), limits);
    let greeted = [GREETED, &reply(4)].concat();
    assert_eq!(rig.send([GREETING, &named(b"gone.example", 443)].concat()).await, greeted);
    let address = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &closed.port().to_be_bytes()].concat();
    assert_eq!(rig.send([GREETING, &address].concat()).await, greeted);
    assert_eq!(rig.send([5]).await, [5, 0xff], "half a greeting");
    assert_eq!(rig.send([GREETING, &[5, 1]].concat()).await, [GREETED, &reply(2)].concat(), "half a request");
}
