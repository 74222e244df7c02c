//! The second transport: a program that speaks go-plugin's handshake and serves on its own Unix socket.
//!
//! The program is this very test, started with another argument: it behaves as go-plugin's server does (cookie, line on
//! standard output, health service named `plugin`, a controller that stops before it answers, a stream of its output).
//! The library itself is spoken to in `real_go_plugin`; here is what it would never do.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use sigil_host::{Instance, LogStream};
use sigil_policy::Ceilings;
use sigil_proto::goplugin::grpc_controller_server::{GrpcController, GrpcControllerServer};
use sigil_proto::goplugin::grpc_stdio_server::{GrpcStdio, GrpcStdioServer};
use sigil_proto::goplugin::{Empty, StdioData};
use sigil_proto::health::health_check_response::ServingStatus;
use sigil_proto::health::health_server::{Health, HealthServer};
use sigil_proto::health::{HealthCheckRequest, HealthCheckResponse};
use sigil_proto::v1::plugin_server::{Plugin, PluginServer};
use sigil_proto::v1::tool_plugin_server::{ToolPlugin, ToolPluginServer};
use sigil_proto::v1::{
    CallEvent, CallRequest, Chunk, DescribeRequest, DescribeResponse, Done, HealthRequest, HealthResponse, InitRequest,
    InitResponse, ShutdownRequest, ShutdownResponse, ToolDescription, call_event,
};
use tonic::{Request, Response, Status};

use crate::harness::Test;
use crate::world::{self, PLAIN, Wish};

pub(crate) const TESTS: &[Test] = &[
    ("a_go_plugin_program_is_spoken_to_over_its_socket", speaks),
    ("a_go_plugin_address_that_leads_out_is_refused", leads_out),
    ("a_go_plugin_certificate_is_refused", certificate),
    ("a_go_plugin_socket_that_somebody_else_serves_is_refused", foreign),
    ("a_go_plugin_stream_of_output_is_bounded", floods),
    ("a_go_plugin_with_folders_and_a_network_is_refused", sockets_in_reach),
];

/// The argument that makes this program a plugin.
pub(crate) const AS_PLUGIN: &str = "as-go-plugin";

const COOKIE: (&str, &str) = ("SIGIL_TEST_PLUGIN", "d602bf8f470bc67ca7faa0386276bbdd");

/// The manifest of a go-plugin program `file` that is started with `arguments`.
pub(crate) fn gopher(file: &str, arguments: &[&str]) -> String {
    let command = [&[format!("bin/{file}").as_str()], arguments].concat().join(", ");
    format!(
        "manifest: 1\nname: gopher\nversion: 1.2.3\ntype: tool\nengine: '>=0.1'\nlicense: MIT\n\
         description: For a test.\ncapabilities: [tool.gopher.*]\nexecution:\n  tier: process\n  \
         transport: go-plugin\n  handshake: {{ cookie_key: {}, cookie_value: {}, protocol: 1 }}\n  \
         command: [{command}]\n  sandbox: {{ profile: native }}\n",
        COOKIE.0, COOKIE.1
    )
}

fn own(how: &str) -> [(String, PathBuf); 1] {
    let program = std::env::current_exe().expect("this program");
    let file = program.file_name().expect("a name").to_str().expect("text");
    [(gopher(file, &[AS_PLUGIN, how]), program)]
}

fn speaks() {
    world::run(&Wish { plugins: &[], own: &own("plain"), ceilings: PLAIN, demo: false }, async |world| {
        let instance = world.start("gopher").await;
        assert_eq!(world.ok("gopher.echo", json!({ "a": 1 })).await, r#"echo {"a":1}"#);
        printed(&instance, LogStream::Stdout, "streamed to standard output").await;
        printed(&instance, LogStream::Stderr, "streamed to standard error \u{fffd}[31m").await;
        let begin = std::time::Instant::now();
        instance.stop().await;
        assert_eq!(instance.status().state, "stopped");
        println!("stopped in {:?}", begin.elapsed());
        let (lines, _) = instance.logs().snapshot();
        assert!(lines.iter().any(|line| line.text == "after the handshake"), "{lines:?}");
        assert!(!lines.iter().any(|line| line.text.contains("|unix|")), "the handshake is no log line");
        assert!(!lines.iter().any(|line| line.text.contains("nowhere")), "a stream that there is not");
    });
}

/// Waits until the plugin's log has a line.
pub(crate) async fn printed(instance: &Instance, stream: LogStream, text: &str) {
    let begin = std::time::Instant::now();
    loop {
        let (lines, _) = instance.logs().snapshot();
        if lines.iter().any(|line| line.stream == stream && line.text == text) {
            return;
        }
        assert!(begin.elapsed().as_secs() < 10, "`{text}` is not in {lines:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn floods() {
    world::run(&Wish { plugins: &[], own: &own("flood"), ceilings: PLAIN, demo: false }, async |world| {
        let instance = world.start("gopher").await;
        printed(&instance, LogStream::Stdout, "the last that is read").await;
        let (lines, dropped) = instance.logs().snapshot();
        assert!(dropped > 0 && lines.iter().map(|line| line.text.len()).sum::<usize>() <= 256 * 1024);
        // A piece that is too large ends the stream, and nothing else.
        assert_eq!(world.ok("gopher.echo", json!({})).await, "echo {}");
        let (lines, _) = instance.logs().snapshot();
        assert!(!lines.iter().any(|line| line.text.contains("too large")), "{lines:?}");
        assert_eq!(instance.status().state, "running");
    });
}

fn refused(how: &str) -> String {
    let code = std::sync::Mutex::new(String::new());
    world::run(&Wish { plugins: &[], own: &own(how), ceilings: PLAIN, demo: false }, async |world| {
        let refused = world.try_start("gopher").await.expect_err("refused");
        *code.lock().expect("one thread") = refused.code().to_string();
        world.nothing_runs().await;
    });
    code.into_inner().expect("one thread")
}

fn leads_out() {
    assert_eq!(refused("link"), "sandbox.connect.socket.unusable");
}

fn certificate() {
    assert_eq!(refused("certificate"), "host.handshake.feature.refused");
}

/// A process outside the sandbox makes a socket in the launch's folder, and the plugin names it as its own.
fn foreign() {
    world::run(&Wish { plugins: &[], own: &own("foreign"), ceilings: PLAIN, demo: false }, async |world| {
        let run = world.folder.path().join("run");
        let listener = tokio::spawn(async move {
            loop {
                if let Some(Ok(launch)) = std::fs::read_dir(&run).expect("the folder").next() {
                    return tokio::net::UnixListener::bind(launch.path().join("foreign")).expect("bound");
                }
                tokio::task::yield_now().await;
            }
        });
        let refused = world.try_start("gopher").await.expect_err("refused");
        assert_eq!(refused.code().as_str(), "sandbox.connect.peer.other", "{refused}");
        // What it was connected to was told nothing.
        let (stream, _) = listener.await.expect("joined").accept().await.expect("accepted");
        assert_eq!(stream.try_read(&mut [0; 1]).expect("its end"), 0);
        world.nothing_runs().await;
    });
}

/// With both it could call the sockets of others that lie in its folders.
fn sockets_in_reach() {
    let asks = "sandbox:\n    profile: native\n    filesystem:\n      - param: work\n        access: read\n        \
                reason: For a test.\n    network:\n      hosts:\n        - host: example.org\n          \
                ports: [443]\n          reason: For a test.\n";
    let [(manifest, program)] = own("plain");
    let own = [(manifest.replace("sandbox: { profile: native }\n", asks), program)];
    let grants = |granted: &Path, ceilings: &mut Ceilings| {
        let grant = ceilings.plugins.get_mut(&world::name("gopher")).expect("the plugin");
        let more = format!(
            "[[hosts]]\nhost = \"example.org\"\nports = [443]\n[[folders.work]]\npath = \"{}\"\naccess = \"read\"\n\
             readers = \"everyone\"\nauthors = [\"owner:ann\"]\n",
            granted.display()
        );
        let trees = std::mem::take(&mut grant.trees);
        *grant = toml::from_str(&format!("trees = [\"{}\"]\n{more}", trees.first().expect("a tree"))).expect("a grant");
    };
    world::run(&Wish { plugins: &[], own: &own, ceilings: &grants, demo: false }, async |world| {
        let refused = world.try_start("gopher").await.expect_err("refused");
        assert_eq!(refused.code().as_str(), "sandbox.profile.sockets.in-reach", "{refused}");
    });
}

/// Is the plugin.
pub(crate) fn be_one() -> ExitCode {
    if std::env::var(COOKIE.0).as_deref() != Ok(COOKIE.1) {
        eprintln!("This binary is a plugin.");
        return ExitCode::FAILURE;
    }
    let how = std::env::args().nth(2).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind("/tmp/plugin4711").expect("bound");
        let name = match how.as_str() {
            "link" => {
                std::os::unix::fs::symlink("plugin4711", "/tmp/near").expect("linked");
                "near"
            }
            "foreign" => {
                while !Path::new("/tmp/foreign").exists() {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                "foreign"
            }
            _ => "plugin4711",
        };
        let certificate = if how == "certificate" { "MIICMTCC" } else { "" };
        println!("1|1|unix|/tmp/{name}|grpc|{certificate}\nafter the handshake");
        let incoming = futures_util::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        tonic::transport::Server::builder()
            .add_service(PluginServer::new(Gopher))
            .add_service(ToolPluginServer::new(Gopher))
            .add_service(GrpcControllerServer::new(Gopher))
            .add_service(HealthServer::new(Gopher))
            .add_service(GrpcStdioServer::new(Gopher))
            .serve_with_incoming(incoming)
            .await
            .expect("served");
    });
    ExitCode::SUCCESS
}

struct Gopher;

#[tonic::async_trait]
impl Plugin for Gopher {
    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        Ok(Response::new(InitResponse { name: "gopher".into(), version: "1.2.3".into() }))
    }

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthResponse>, Status> {
        Err(Status::unimplemented("go-plugin has its own"))
    }

    async fn shutdown(&self, _: Request<ShutdownRequest>) -> Result<Response<ShutdownResponse>, Status> {
        Err(Status::unimplemented("go-plugin has its own"))
    }
}

#[tonic::async_trait]
impl ToolPlugin for Gopher {
    type CallStream = futures_util::stream::BoxStream<'static, Result<CallEvent, Status>>;

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let echo = ToolDescription {
            name: "echo".into(),
            description: "Says it again.".into(),
            arguments_schema_json: r#"{"type":"object"}"#.into(),
        };
        Ok(Response::new(DescribeResponse { tools: vec![echo] }))
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<Self::CallStream>, Status> {
        let chunk = call_event::Event::Chunk(Chunk { content: b"echo ".to_vec() });
        let content = request.into_inner().arguments_json.into_bytes();
        let done = call_event::Event::Done(Done { ok: true, content, media_type: String::new() });
        let events = [chunk, done].map(|event| Ok(CallEvent { event: Some(event) }));
        Ok(Response::new(Box::pin(futures_util::stream::iter(events))))
    }
}

#[tonic::async_trait]
impl GrpcController for Gopher {
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        std::process::exit(0)
    }
}

#[tonic::async_trait]
impl GrpcStdio for Gopher {
    type StreamStdioStream = futures_util::stream::BoxStream<'static, Result<StdioData, Status>>;

    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        let piece = |channel, data: &[u8]| Ok(StdioData { channel, data: data.to_vec() });
        let pieces = if std::env::args().nth(2).as_deref() == Some("flood") {
            let mut pieces = vec![piece(1, format!("{}\n", "x".repeat(1000)).as_bytes()); 600];
            pieces.push(piece(1, b"the last that is read\n"));
            pieces.push(piece(1, format!("too large {}\n", "x".repeat(100_000)).as_bytes()));
            pieces
        } else {
            vec![
                piece(1, b"streamed to st"),
                piece(2, b"streamed to standard error \x1b[31m\r\n"),
                piece(7, b"nowhere\n"),
                piece(1, b"andard output\n"),
            ]
        };
        Ok(Response::new(Box::pin(futures_util::stream::iter(pieces))))
    }
}

#[tonic::async_trait]
impl Health for Gopher {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let known = request.into_inner().service == "plugin";
        let status = if known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }
}
