//! TLS of the host's client: rustls with ring, and the machine's own certificates.
//!
//! The operating system's store is used, not a bundled list: the owner's own CA works, and one that the owner removed does
//! not. Reading it takes milliseconds, so it is read at the first `https` request, or when told to.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::RequestFailed;

/// Which certificates servers are checked against.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// Those of this machine.
    #[default]
    Machine,
    /// These only.
    Only(Vec<CertificateDer<'static>>),
}

pub(crate) struct Tls {
    roots: Roots,
    config: OnceLock<ClientConfig>,
}

impl Tls {
    pub(crate) const fn new(roots: Roots) -> Self {
        Self { roots, config: OnceLock::new() }
    }

    /// The configuration, made when first asked for. A failure is not kept: the certificates may be installed meanwhile.
    pub(crate) fn config(&self) -> Result<ClientConfig, RequestFailed> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let config = self.make().map_err(|error| RequestFailed::Tls { reason: error.to_string() })?;
        Ok(self.config.get_or_init(|| config).clone())
    }

    fn make(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        match &self.roots {
            Roots::Machine => {
                let verifier: Arc<dyn ServerCertVerifier> =
                    Arc::new(rustls_platform_verifier::Verifier::new(Arc::clone(&provider))?);
                // `dangerous` is rustls' name for every verifier but its own; this one is the operating system's.
                let builder = builder(provider)?.dangerous().with_custom_certificate_verifier(verifier);
                Ok(builder.with_no_client_auth())
            }
            Roots::Only(certificates) => {
                let mut store = RootCertStore::empty();
                for certificate in certificates {
                    store.add(certificate.clone())?;
                }
                Ok(builder(provider)?.with_root_certificates(store).with_no_client_auth())
            }
        }
    }
}

/// A configuration that trusts nobody, for endpoints without TLS.
pub(super) fn unused() -> Result<ClientConfig, RequestFailed> {
    let builder = builder(Arc::new(rustls::crypto::ring::default_provider()))
        .map_err(|error| RequestFailed::Tls { reason: error.to_string() })?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}
