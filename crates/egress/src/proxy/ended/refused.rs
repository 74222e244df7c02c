//! Why a request inside of TLS that is ended is not sent, or its answer not passed on.

use sigil_types::Code;

/// One text for each, whatever was asked: nothing of the request or its answer comes back in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotForwarded {
    /// TLS with the plugin was not established.
    #[error("the plugin's client did not agree on TLS; it may not trust the certificate in SSL_CERT_FILE")]
    Handshake,
    /// No certificate could be made.
    #[error("no certificate could be made for the host")]
    Certificate,
    /// Plain HTTP to a host whose TLS is ended.
    #[error("requests to this host are judged inside of TLS, and plain HTTP goes around that")]
    Plain,
    /// Not HTTP/1.1.
    #[error("the request is not HTTP/1.1")]
    Version,
    /// Not in origin form, or `Host` is not the host of the tunnel.
    #[error("the request names another host than the tunnel, or names it twice")]
    Authority,
    /// An upgrade.
    #[error("the request asks for another protocol")]
    Upgrade,
    /// A path with two readings.
    #[error("the path can be read in two ways: it has an encoded slash, `..`, `//`, a backslash, or is encoded twice")]
    Path,
    /// A method that is never sent.
    #[error("the method is not one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
    Method,
    /// No rule allows it.
    #[error("no rule allows this method on this path with this query")]
    Rule,
    /// A body where none may be.
    #[error("requests to this host carry no body")]
    Body,
    /// A credential that may not pass.
    #[error("the request carries a credential that is not the vault's, or any where none may pass")]
    Credential,
    /// No credential where one must be.
    #[error("requests to this host carry a credential of the vault, and this one has none")]
    NoCredential,
    /// A stand-in outside of a credential field, or within something else there.
    #[error("a credential's stand-in stands where it is not replaced")]
    SentinelPlace,
    /// A stand-in of somebody else, or towards a host that its secret is not for.
    #[error("the stand-in's credential is not for this host")]
    SentinelHost,
    /// Its secret cannot be had.
    #[error(
        "the credential is not in the vault, is not bound to this plugin and host, or is too short to be protected"
    )]
    Secret,
    /// The vault cannot be used.
    #[error("the vault cannot be used, and without it what comes back cannot be checked")]
    Vault,
    /// The audit log could not be written.
    #[error("the audit log could not be written")]
    Audit,
    /// The server's certificate is not believed, or it speaks no TLS.
    #[error("the host's own TLS could not be established: its certificate is not believed for its name")]
    Upstream,
    /// The answer is not HTTP/1.1, or the connection broke.
    #[error("the host did not give a well-formed HTTP/1.1 answer")]
    Answer,
    /// The answer is compressed, though nobody asked for that.
    #[error("the answer is encoded, so that secrets in it could not be found")]
    Encoded,
}

impl NotForwarded {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Handshake,
        Self::Certificate,
        Self::Plain,
        Self::Version,
        Self::Authority,
        Self::Upgrade,
        Self::Path,
        Self::Method,
        Self::Rule,
        Self::Body,
        Self::Credential,
        Self::NoCredential,
        Self::SentinelPlace,
        Self::SentinelHost,
        Self::Secret,
        Self::Vault,
        Self::Audit,
        Self::Upstream,
        Self::Answer,
        Self::Encoded,
    ];

    /// The stable code.
    #[must_use]
    pub const fn code(self) -> Code {
        Code::new(match self {
            Self::Handshake => "egress.ended.handshake.failed",
            Self::Certificate => "egress.ended.authority.failed",
            Self::Plain => "egress.ended.plain.denied",
            Self::Version => "egress.ended.version.refused",
            Self::Authority => "egress.ended.host.mismatch",
            Self::Upgrade => "egress.ended.upgrade.refused",
            Self::Path => "egress.ended.path.ambiguous",
            Self::Method => "egress.ended.method.refused",
            Self::Rule => "egress.ended.request.denied",
            Self::Body => "egress.ended.body.denied",
            Self::Credential => "egress.ended.credential.denied",
            Self::NoCredential => "egress.ended.credential.missing",
            Self::SentinelPlace => "egress.sentinel.place.denied",
            Self::SentinelHost => "egress.sentinel.host.denied",
            Self::Secret => "egress.sentinel.secret.absent",
            Self::Vault => "egress.sentinel.vault.failed",
            Self::Audit => "egress.audit.unavailable",
            Self::Upstream => "egress.ended.upstream.untrusted",
            Self::Answer => "egress.ended.answer.malformed",
            Self::Encoded => "egress.ended.answer.encoded",
        })
    }

    /// What the owner or the plugin's author can do.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Handshake => "Let the client read its certificates from SSL_CERT_FILE, which the sandbox has set.",
            Self::Certificate => "Restart the plugin; if that does not help, report it.",
            Self::Plain => "Use https for this host.",
            Self::Version | Self::Upgrade => "Use HTTP/1.1, without upgrades, for this host.",
            Self::Authority => "Send the path only, and `Host` once with the name of the tunnel.",
            Self::Path => "Send a plain path; decode it before, and write each character in one way.",
            Self::Method | Self::Rule | Self::Body => {
                "If the plugin should do this, allow it in `requests` of this host in its manifest and in `plugins.NAME.ended` of the signed policy."
            }
            Self::Credential | Self::NoCredential => {
                "Put the credential's stand-in into `Authorization` or another credential field, or change `credentials` of this host in the signed policy."
            }
            Self::SentinelPlace => {
                "Put the stand-in into `Authorization`, `X-Api-Key` or another credential field, alone or after a scheme such as `Bearer`; never into path, query or body."
            }
            Self::SentinelHost => {
                "Bind the secret to this host in the signed policy and in the vault, if it is meant for it."
            }
            Self::Secret => {
                "Keep the secret with `sigil secret set`, bound to this plugin and host, with at least 16 characters."
            }
            Self::Vault => "Check that the vault can be opened: `sigil doctor`.",
            Self::Audit => "Free disk space, or repair the audit log: `sigil audit verify`.",
            Self::Upstream | Self::Answer | Self::Encoded => {
                "Check the host's name, certificate and that it is up; a host that encodes answers unasked cannot be used with a secret."
            }
        }
    }

    /// The status of the answer.
    pub(super) const fn status(self) -> http::StatusCode {
        match self {
            Self::Upstream | Self::Answer | Self::Encoded => http::StatusCode::BAD_GATEWAY,
            Self::Vault | Self::Audit | Self::Certificate => http::StatusCode::SERVICE_UNAVAILABLE,
            _ => http::StatusCode::FORBIDDEN,
        }
    }

    /// Whether the connection can be answered by the proxy's own words of that kind.
    #[must_use]
    pub const fn is_denial(self) -> bool {
        matches!(self.status(), http::StatusCode::FORBIDDEN)
    }

    /// The body of the answer: the same for the same reason.
    pub(super) fn json(self) -> String {
        let error = serde_json::json!({ "code": self.code(), "message": self.to_string(), "hint": self.remedy() });
        serde_json::json!({ "error": error }).to_string()
    }
}
