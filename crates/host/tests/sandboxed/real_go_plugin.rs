//! The second transport against HashiCorp's own go-plugin: a program in Go that knows nothing of this host.
//!
//! It is built by the test, from `tests/goplugin/main.go` and bindings that are generated from `proto/`, with the Go,
//! `protoc` and Go packages of the system; nothing is fetched. Where one of those is missing, the tests say which and
//! are skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sigil_host::LogStream;

use crate::go_plugin::{gopher, printed};
use crate::harness::Test;
use crate::world::{self, PLAIN, Wish, World};

pub(crate) const TESTS: &[Test] = &[
    ("a_real_go_plugin_lives_in_the_sandbox", lives),
    ("a_real_go_plugin_that_dies_is_started_again", dies),
    ("a_real_go_plugin_s_output_is_read_from_its_own_stream", prints),
];

/// Where Debian's packages put Go sources.
const SYSTEM: &str = "/usr/share/gocode";

/// Names a folder with the sources of another go-plugin than the system's.
const OTHER: &str = "SIGIL_GO_PLUGIN_DIR";

/// What has to be there, and the Debian package that it is in.
const PROGRAMS: [(&str, &str); 4] = [
    ("go", "golang-go"),
    ("protoc", "protobuf-compiler"),
    ("protoc-gen-go", "protoc-gen-go"),
    ("protoc-gen-go-grpc", "protoc-gen-go-grpc"),
];
const SOURCES: [(&str, &str); 4] = [
    ("github.com/hashicorp/go-plugin", "golang-github-hashicorp-go-plugin-dev"),
    ("google.golang.org/grpc", "golang-google-grpc-dev"),
    ("google.golang.org/protobuf", "golang-google-protobuf-dev"),
    // Of 1.3, which Debian's gRPC is content with, this file is absent; it cannot read what protoc-gen-go generates.
    ("github.com/golang/protobuf/proto/wire.go", "golang-github-golang-protobuf-1-5-dev"),
];

/// How the plugin is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    /// Without C: one static program.
    Static,
    /// With the system's C library, as Go does by itself where there is a C compiler.
    Dynamic,
    /// Statically, with a go-plugin that streams the output of its program.
    Streaming,
}

fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// The Debian packages that are missing here.
fn missing() -> Vec<&'static str> {
    let programs = PROGRAMS.iter().filter(|(name, _)| !on_path(name));
    let sources = SOURCES.iter().filter(|(name, _)| !Path::new(SYSTEM).join("src").join(name).exists());
    programs.chain(sources).map(|(_, package)| *package).collect()
}

fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Builds the plugin in `folder`, with go-plugin as it is in `other` or else the system's.
fn build(folder: &Path, how: Build, other: Option<&Path>) -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (sources, program) = (folder.join("src"), folder.join("bin/gopher"));
    let main = sources.join("gopher");
    fs::create_dir_all(&main).expect("a folder");
    fs::copy(crate_folder.join("tests/goplugin/main.go"), main.join("main.go")).expect("copied");
    if let Some(other) = other {
        let place = sources.join("github.com/hashicorp");
        fs::create_dir_all(&place).expect("a folder");
        std::os::unix::fs::symlink(other, place.join("go-plugin")).expect("linked");
    }
    let files = ["sigil/plugin/v1/plugin.proto", "sigil/plugin/v1/tool.proto"];
    let mut protoc = Command::new("protoc");
    protoc.arg("-I").arg(crate_folder.join("../../proto"));
    for generator in ["go", "go-grpc"] {
        protoc.arg(format!("--{generator}_out={}", sources.display()));
        protoc.args(files.map(|file| format!("--{generator}_opt=M{file}=sigil.test/pb")));
    }
    run(protoc.args(files));
    // Compiling gRPC takes half a minute: what was compiled before is kept with what Cargo has compiled.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-build");
    let path = std::env::join_paths([folder, Path::new(SYSTEM)]).expect("paths");
    run(Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg("gopher")
        .env("GOPATH", path)
        .env("GOCACHE", cache)
        .env("GOENV", "off")
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", if how == Build::Dynamic && on_path("gcc") { "1" } else { "0" }));
    program
}

/// Runs `test` with the plugin, built with the system's go-plugin or with the one that the environment names. Without
/// what is needed to build it, the test is skipped.
fn with<F: Future<Output = ()>>(how: Build, test: impl FnOnce(World) -> F) {
    let missing = missing();
    if !missing.is_empty() {
        println!("skipped: no real go-plugin program can be built; apt-get install {}", missing.join(" "));
        return;
    }
    let other = std::env::var_os(OTHER).map(PathBuf::from).filter(|folder| folder.join("grpc_stdio.go").is_file());
    if how == Build::Streaming && other.is_none() {
        println!("skipped: {OTHER} does not name the sources of go-plugin 1.2 or later, which streams its output");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), how, other.as_deref());
    // What is static is of the family `go`; what needs the system's C library is `native`.
    let family = if how == Build::Dynamic { "profile: native" } else { "profile: go" };
    let own = [(gopher("gopher", &[]).replace("profile: native", family), program)];
    world::run(&Wish { plugins: &[], own: &own, ceilings: PLAIN, demo: false }, test);
}

fn lives() {
    with(Build::Static, async |world| {
        let instance = world.start("gopher").await;
        assert_eq!(world.ok("gopher.echo", json!({ "a": 1 })).await, r#"echo {"a":1}"#);
        assert_eq!(world.ok("gopher.work", json!({})).await, "allocated 200 MiB");
        confined(&world.ok("gopher.whoami", json!({})).await);

        let first = instance.status().launch;
        let begin = std::time::Instant::now();
        instance.restart().await;
        println!("restarted in {:?}", begin.elapsed());
        assert_ne!(instance.status().launch, first);
        assert_eq!(world.ok("gopher.echo", json!({})).await, "echo {}");

        let begin = std::time::Instant::now();
        instance.stop().await;
        println!("stopped in {:?}", begin.elapsed());
        assert_eq!(instance.status().state, "stopped");
        world.nothing_runs().await;
        let (lines, _) = instance.logs().snapshot();
        assert!(lines.iter().any(|line| line.text.contains("plugin address")), "its own log: {lines:?}");
    });
}

/// The plugin's own account of where it is.
fn confined(account: &str) {
    println!("{account}");
    let account: Value = serde_json::from_str(account).expect("JSON");
    let expected = json!({
        "uid": 65532,
        "gid": 65532,
        "cwd": "/tmp",
        "temp": "/tmp",
        "host": "sandbox",
        "pid": 2,
        "shadow": "no such file or directory",
        "home": "no such file or directory",
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&account[name], value, "{name}");
    }
    for refused in ["tcp", "listen", "unix", "shell"] {
        assert_ne!(account[refused], "done", "{refused}");
    }
}

fn dies() {
    with(Build::Dynamic, async |world| {
        let instance = world.start("gopher").await;
        let failed = world.call("gopher.panic", json!({})).await.expect_err("it died");
        assert_eq!((failed.code.as_str(), failed.retryable), ("host.call.connection.lost", false));
        world.recorded_times("host.plugin.start.ready", 2).await;
        assert_eq!(world.ok("gopher.echo", json!({})).await, "echo {}");
        // Go writes why to the descriptor itself, whatever go-plugin has put in the place of the stream.
        let (lines, _) = instance.logs().snapshot();
        assert!(lines.iter().any(|line| line.text == "panic: as I was told"), "{lines:?}");
    });
}

fn prints() {
    with(Build::Streaming, async |world| {
        let instance = world.start("gopher").await;
        assert_eq!(world.ok("gopher.print", json!({})).await, "printed");
        printed(&instance, LogStream::Stdout, "printed to standard output \u{fffd}[31m").await;
        printed(&instance, LogStream::Stderr, "printed to standard error").await;
        instance.stop().await;
    });
}
