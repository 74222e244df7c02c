//! The second transport: a program that speaks go-plugin's handshake and serves on its own Unix socket.
//!
//! The program is this very test, started with another argument: it behaves as go-plugin's server does (cookie, line on
//! standard output, health service named `plugin`, a controller that stops before it answers).

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use sigil_proto::goplugin::Empty;
use sigil_proto::goplugin::grpc_controller_server::{GrpcController, GrpcControllerServer};
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
];

/// The argument that makes this program a plugin.
pub(crate) const AS_PLUGIN: &str = "as-go-plugin";

const COOKIE: (&str, &str) = ("SIGIL_TEST_PLUGIN", "d602bf8f470bc67ca7faa0386276bbdd");

fn own(how: &str) -> [(String, PathBuf); 1] {
    let program = std::env::current_exe().expect("this program");
    let file = program.file_name().expect("a name").to_str().expect("text");
    let manifest = format!(
        "manifest: 1\nname: gopher\nversion: 1.2.3\ntype: tool\nengine: '>=0.1'\nlicense: MIT\ndescription: For a test.\n\
         capabilities: [tool.gopher.*]\nexecution:\n  tier: process\n  transport: go-plugin\n  handshake: {{ cookie_key: {}, \
         cookie_value: {}, protocol: 1 }}\n  command: [bin/{file}, {AS_PLUGIN}, {how}]\n  sandbox: {{ profile: native }}\n",
        COOKIE.0, COOKIE.1
    );
    [(manifest, program)]
}

fn speaks() {
    world::run(&Wish { plugins: &[], own: &own("plain"), ceilings: PLAIN, demo: false }, async |world| {
        let instance = world.start("gopher").await;
        assert_eq!(world.ok("gopher.echo", json!({ "a": 1 })).await, r#"echo {"a":1}"#);
        let begin = std::time::Instant::now();
        instance.stop().await;
        assert_eq!(instance.status().state, "stopped");
        println!("stopped in {:?}", begin.elapsed());
        let (lines, _) = instance.logs().snapshot();
        assert!(lines.iter().any(|line| line.text == "after the handshake"), "{lines:?}");
        assert!(!lines.iter().any(|line| line.text.contains("|unix|")), "the handshake is no log line");
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
    assert_eq!(refused("link"), "host.handshake.address.refused");
}

fn certificate() {
    assert_eq!(refused("certificate"), "host.handshake.feature.refused");
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
impl Health for Gopher {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let known = request.into_inner().service == "plugin";
        let status = if known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }
}
