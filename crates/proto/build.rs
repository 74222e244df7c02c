//! Generates the gRPC bindings from `proto/`, without a system `protoc`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Of this run, not of the script's compilation: two work trees may share one target folder.
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let files = [
        "sigil/plugin/v1/plugin.proto",
        "sigil/plugin/v1/tool.proto",
        "goplugin/plugin.proto",
        "grpc/health/v1/health.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    let descriptors = protox::compile(files, [&root])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .skip_debug(["sigil.plugin.v1.InitRequest"])
        .compile_fds(descriptors)?;
    Ok(())
}
