//! Starting a plugin: from the wish to the answer of its first calls, through launcher, sandbox, log and host, against a
//! plain spawn of the same program that is asked the same over the same kind of connection. The two take turns, so that a
//! busy moment hits both alike.
//!
//! `SIGIL_BENCH_ROUNDS` sets how often each is measured (100). The line that begins with `row: ` is read by `./task bench`.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench, whose peer is started without a sandbox"
)]

#[path = "../src/rpc/channel.rs"]
mod channel;
#[path = "../tests/sandboxed/world.rs"]
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
mod world;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use channel::Channel;
use sigil_proto::v1::plugin_client::PluginClient;
use sigil_proto::v1::tool_plugin_client::ToolPluginClient;
use sigil_proto::v1::{DescribeRequest, InitRequest};
use sigil_proto::{PROTOCOL, RPC_FD, RPC_FD_NUMBER};

use world::{PLAIN, Wish, binary, name, workspace};

/// What the connection says when it cannot be opened.
#[derive(Debug)]
enum RpcFailed {
    Closed,
}

const PLUGIN: &str = "files";

/// Spawns the plugin without a sandbox, and makes the calls that the host makes.
async fn plain() -> Duration {
    let program = binary(&format!("sigil-plugin-{PLUGIN}"));
    let begun = Instant::now();
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut child = Command::new(program)
        .env_clear()
        .env(RPC_FD, RPC_FD_NUMBER.to_string())
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("spawned");
    ours.set_nonblocking(true).expect("its mode");
    let stream = tokio::net::UnixStream::from_std(ours).expect("a socket");
    let (channel, connection) = Channel::open(stream).await.unwrap_or_else(|RpcFailed::Closed| panic!("no connection"));
    let origin = http::Uri::from_static("http://plugin");
    let init = InitRequest { protocol: PROTOCOL, config_json: "null".to_owned(), ..InitRequest::default() };
    PluginClient::with_origin(channel.clone(), origin.clone()).init(init).await.expect("Init");
    ToolPluginClient::with_origin(channel, origin).describe(DescribeRequest {}).await.expect("Describe");
    let taken = begun.elapsed();
    drop(connection);
    child.kill().expect("killed");
    child.wait().expect("its end");
    taken
}

fn ms(mut times: Vec<Duration>, share: usize) -> f64 {
    times.sort_unstable();
    times.get(times.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

fn main() {
    let rounds = std::env::var("SIGIL_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_usize);
    world::run(&Wish { plugins: &[PLUGIN], own: &[], ceilings: PLAIN, demo: false }, async |world| {
        let (mut guarded, mut at_once, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        let start = async || {
            let begun = Instant::now();
            world.start(PLUGIN).await;
            let taken = begun.elapsed();
            world.host.stop(&name(PLUGIN), &workspace()).await;
            taken
        };
        for round in 0..rounds + 3 {
            // What the one before leaves to be taken down, and what the launcher does while nobody waits, is over.
            let settle = || tokio::time::sleep(Duration::from_millis(15));
            settle().await;
            let taken = start().await;
            let again = start().await;
            settle().await;
            let spawned = plain().await;
            if round >= 3 {
                guarded.push(taken);
                at_once.push(again);
                bare.push(spawned);
            }
        }
        println!("start of plugin `{PLUGIN}`, {rounds} rounds          p5      median   p95  ms");
        let rows = [
            ("in the sandbox, through the host", &guarded),
            ("the same, no sandbox stands ready", &at_once),
            ("plain spawn, same calls", &bare),
        ];
        for (what, times) in rows {
            let at = |share| ms(times.clone(), share);
            println!("{what:<40} {:>8.2} {:>8.2} {:>8.2}", at(5), at(50), at(95));
        }
        let (through, cold, spawned) = (ms(guarded, 50), ms(at_once, 50), ms(bare, 50));
        let row = serde_json::json!({
            "what": "plugin start to first calls answered, added", "value": through - spawned, "unit": "ms",
            "limit": ["value", 5], "note": format!(
                "{through:.2} ms in the sandbox, {spawned:.2} ms plain spawn; {:.2} ms added when none stands ready",
                cold - spawned
            ),
        });
        println!("row: {row}");
    });
}
