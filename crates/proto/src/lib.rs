//! The plugin protocol: the manifest's schema types, and the generated gRPC bindings.
//!
//! The contract is in `proto/`; what stands here is generated from it when the crate is built, without a system `protoc`.

pub mod manifest;

/// The version of the plugin protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// The most bytes that one gRPC message has, in both directions.
pub const MAX_MESSAGE: usize = 4 << 20;

/// Name of the environment variable that holds the number of the socket that an SDK plugin inherits.
pub const RPC_FD: &str = "SIGIL_RPC_FD";

/// The number of that socket: the plugin's standard input.
///
/// It is the one descriptor that a program can take over without unsafe code, in Rust and elsewhere, and a plugin has no
/// other use for it.
pub const RPC_FD_NUMBER: i32 = 0;

macro_rules! generated {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        #[allow(clippy::all, clippy::allow_attributes_without_reason, clippy::too_many_lines, missing_docs, unused_qualifications, unreachable_pub, reason = "generated; documented in proto/")]
        pub mod $name {
            tonic::include_proto!($package);
        }
    };
}

generated!(/** `sigil.plugin.v1`: what plugins of Sigil offer. */ v1, "sigil.plugin.v1");
generated!(/** `plugin`: what go-plugin's servers offer beside their own services. */ goplugin, "plugin");
generated!(/** `grpc.health.v1`: gRPC's own health service. */ health, "grpc.health.v1");

impl std::fmt::Debug for v1::InitRequest {
    /// Secrets by name only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InitRequest")
            .field("protocol", &self.protocol)
            .field("secrets", &self.secrets.keys().collect::<Vec<_>>())
            .field("folders", &self.folders)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_secret_is_not_printed() {
        let mut request = super::v1::InitRequest::default();
        request.secrets.insert("token".into(), "hunter2".into());
        let text = format!("{request:?}");
        assert!(text.contains("token") && !text.contains("hunter2"), "{text}");
    }
}
