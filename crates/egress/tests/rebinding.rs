//! Names that change, mix or hide their addresses, with the real resolver against a DNS server of the test's own.
//!
//! The system's resolver asks port 53 of what `/etc/resolv.conf` names. So the test runs itself again in a network and a mount
//! namespace of its own, where it is the name server, and where no other one can be reached.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "servers of the test")]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};

use common::{Rig, Server, identity, quick, rule};
use sigil_egress::{SystemResolver, Told};

const INSIDE: &str = "SIGIL_TEST_NAME_SERVER";

/// A name server that answers `name` with the next of its answers, and with the last one ever after. TTL 0.
struct NameServer {
    names: BTreeMap<&'static str, Vec<&'static [Record]>>,
    /// Each question, as `name type`.
    asked: Mutex<Vec<String>>,
}

#[derive(Clone, Copy)]
enum Record {
    Address(&'static str),
    /// An alias, and the address of what it stands for.
    Alias(&'static str, &'static str),
}

use Record::{Address, Alias};

/// One answer after the other, each with its records.
type Answers = &'static [&'static [Record]];

const PUBLIC: &str = "93.184.216.34";
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

impl NameServer {
    /// Answers on port 53 for as long as the process lives.
    fn start(names: &[(&'static str, Answers)]) -> Arc<Self> {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("the name server's port, in a namespace of its own");
        let names = names.iter().map(|(name, answers)| (*name, answers.to_vec())).collect();
        let server = Arc::new(Self { names, asked: Mutex::new(Vec::new()) });
        let serving = Arc::clone(&server);
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let _ = socket.send_to(&serving.answer(&query[..length]), from);
            }
        });
        server
    }

    /// How often this name was asked for, by `A`.
    fn asked(&self, name: &str) -> usize {
        let wanted = format!("{name} {A}");
        self.asked.lock().expect("not poisoned").iter().filter(|question| **question == wanted).count()
    }

    /// The answer to one question (RFC 1035, 4.1).
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let (mut name, mut at) = (Vec::new(), 12);
        while query[at] != 0 {
            let length = usize::from(query[at]);
            name.push(String::from_utf8_lossy(&query[at + 1..at + 1 + length]).to_ascii_lowercase());
            at += 1 + length;
        }
        let name = name.join(".");
        let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
        let question = &query[12..at + 5];
        let nth = {
            let mut asked = self.asked.lock().expect("not poisoned");
            asked.push(format!("{name} {kind}"));
            asked.iter().filter(|question| **question == format!("{name} {kind}")).count() - 1
        };
        let answers = self.names.get(name.as_str());
        let records = answers.map_or(&[][..], |answers| answers[nth.min(answers.len() - 1)]);
        let resources: Vec<Vec<u8>> = records.iter().flat_map(|record| record.resources(kind)).collect();
        let status: u16 = if answers.is_some() { 0x8580 } else { 0x8583 };
        let count = u16::try_from(resources.len()).expect("few");
        let header = [1, count, 0, 0].map(u16::to_be_bytes).concat();
        [&query[..2], &status.to_be_bytes(), &header, question, &resources.concat()].concat()
    }
}

impl Record {
    fn resources(self, kind: u16) -> Vec<Vec<u8>> {
        let address = |owner: &[u8], text: &str| match text.parse().expect("an address") {
            IpAddr::V4(ip) if kind == A => Some(resource(owner, A, &ip.octets())),
            IpAddr::V6(ip) if kind == AAAA => Some(resource(owner, AAAA, &ip.octets())),
            _ => None,
        };
        // The name of the question, at its place.
        let asked = &[0xc0, 12];
        match self {
            Address(text) => address(asked, text).into_iter().collect(),
            Alias(name, text) => {
                let name = encoded(name);
                [Some(resource(asked, CNAME, &name)), address(&name, text)].into_iter().flatten().collect()
            }
        }
    }
}

fn encoded(name: &str) -> Vec<u8> {
    let part = |part: &str| [&[u8::try_from(part.len()).expect("short")], part.as_bytes()].concat();
    [name.split('.').flat_map(part).collect(), vec![0]].concat()
}

fn resource(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("short").to_be_bytes();
    [owner, &kind.to_be_bytes(), &[0, 1], &[0; 4], &length, data].concat()
}

#[test]
fn names_that_change_or_mix_their_addresses_get_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    // A search domain, and more dots asked for than any name has: what a hostile network can configure.
    let resolv =
        write("resolv.conf", "nameserver 127.0.0.1\nsearch evil.example\noptions ndots:9 timeout:2 attempts:2\n");
    let switch = write("nsswitch.conf", "hosts: files dns\n");
    let hosts = write("hosts", "127.0.0.1 localhost\n10.9.8.7 listed.example\n");
    let script = "ip link set lo up && mount --bind \"$1\" /etc/resolv.conf && mount --bind \"$2\" /etc/nsswitch.conf && \
                  mount --bind \"$3\" /etc/hosts && exec \"$4\" --exact inside_a_namespace --ignored --nocapture";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount", "sh", "-c", script, "sh"])
        .args([resolv, switch, hosts, std::env::current_exe().expect("this program")])
        .env(INSIDE, "1")
        .output()
        .expect("unshare of util-linux");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "needs user namespaces, ip and mount:\n{said}");
}

#[test]
#[ignore = "started by names_that_change_or_mix_their_addresses_get_nowhere"]
fn inside_a_namespace() {
    assert!(std::env::var_os(INSIDE).is_some(), "is run by the other test, in a namespace of its own");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(names());
}

async fn names() {
    // `true`: it is dialled, and cannot be reached, since nothing can from here. `false`: it is refused.
    let rows: &[(&'static str, Answers, &[bool])] = &[
        ("public.example", &[&[Address(PUBLIC)]], &[true, true]),
        ("flips.example", &[&[Address(PUBLIC)], &[Address("127.0.0.1")]], &[true, false, false]),
        ("flips-back.example", &[&[Address("127.0.0.1")], &[Address(PUBLIC)]], &[false, true]),
        ("mixed.example", &[&[Address(PUBLIC), Address("127.0.0.1")]], &[false]),
        ("mixed-first.example", &[&[Address("10.0.0.1"), Address(PUBLIC)]], &[false]),
        ("both.example", &[&[Address(PUBLIC), Address("::1")]], &[false]),
        ("mapped.example", &[&[Address(PUBLIC), Address("::ffff:127.0.0.1")]], &[false]),
        ("nat64.example", &[&[Address(PUBLIC), Address("64:ff9b::7f00:1")]], &[false]),
        ("only6.example", &[&[Address("::1")]], &[false]),
        ("alias.example", &[&[Alias("inside.example", "10.0.0.1")]], &[false]),
        ("alias-local.example", &[&[Alias("localhost.example", "127.0.0.1")]], &[false]),
        ("alias-fine.example", &[&[Alias("far.example", PUBLIC)]], &[true]),
        ("cloud.example", &[&[Address("169.254.169.254")]], &[false]),
        ("cloud6.example", &[&[Address("fd00:ec2::254")]], &[false]),
        ("nowhere.example", &[&[Address("0.0.0.0")]], &[false]),
        ("many.example", &[&[Address("224.0.0.1")]], &[false]),
        // In the hosts file.
        ("listed.example", &[&[Address(PUBLIC)]], &[false]),
    ];
    let scripts: Vec<_> = rows.iter().map(|(name, answers, _)| (*name, *answers)).collect();
    let dns = NameServer::start(&scripts);
    let canary = Server::web().await;
    let port = canary.at.port();
    let names = rows.iter().map(|(name, ..)| *name).chain(["gone.example"]);
    let rules = names.map(|name| rule(name, &[port])).collect();
    let rig = Rig::new(identity(rules, vec![]), Arc::new(SystemResolver), quick());
    let get = |name: &str| format!("GET http://{name}:{port}/ HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n");
    let mut dialled = 0;
    for (name, _, expected) in rows {
        for (nth, is_dialled) in expected.iter().enumerate() {
            let answer = rig.send(get(name)).await;
            let told = if *is_dialled { Told::Gateway } else { Told::Forbidden };
            assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(told.bytes()), "{name}, {nth}");
            dialled += usize::from(*is_dialled);
        }
        let in_file = *name == "listed.example";
        assert_eq!(dns.asked(name), if in_file { 0 } else { expected.len() }, "{name}: once for each connection");
    }
    // The log says what was dialled, and that is what the answer was; nobody came to the address that it changed to.
    let opened = rig.log.entries("egress.connection.open", dialled).await;
    assert_eq!(opened.len(), dialled);
    assert!(opened.iter().all(|entry| entry.data["addresses"] == serde_json::json!([format!("{PUBLIC}:{port}")])));
    assert_eq!(canary.connections(), 0);
    // What has no answer is not looked for below another name, and what is denied is not looked for at all.
    assert_eq!(rig.send(get("gone.example")).await, Told::Gateway.bytes());
    assert_eq!(rig.send(get("denied.example")).await, Told::Forbidden.bytes());
    let asked = dns.asked.lock().expect("not poisoned");
    assert!(asked.iter().any(|question| question.starts_with("gone.example ")));
    assert!(asked.iter().all(|question| !question.contains("evil") && !question.starts_with("denied")), "{asked:?}");
}
