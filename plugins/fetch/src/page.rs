//! One page: redirects, TLS, limits.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use sigil_sdk::http::{HttpFailed, Limits, Proxy, Response, Scheme, Url, get_over};
use sigil_sdk::{Context, ToolFailed};

/// The most redirects that are followed; each goes through the proxy as a connection of its own.
const MAX_REDIRECTS: usize = 5;

/// The most bytes of a page.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// A page as text.
pub(crate) struct Page {
    pub(crate) url: Url,
    pub(crate) status: u16,
    pub(crate) media_type: String,
    pub(crate) text: String,
    pub(crate) truncated: bool,
}

impl Page {
    pub(crate) fn is_html(&self) -> bool {
        matches!(self.media_type.as_str(), "text/html" | "application/xhtml+xml")
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    extra_roots: String,
}

/// Gets an address, and what it redirects to.
pub(crate) fn fetch(context: &Context, address: &str) -> Result<Page, ToolFailed> {
    let proxy = Proxy::from_env().map_err(failed)?;
    let mut url: Url = address.parse().map_err(|error| failed(HttpFailed::Url(error)))?;
    let deadline = Instant::now() + context.time_left().min(Duration::from_secs(25));
    for _ in 0..=MAX_REDIRECTS {
        let limits = Limits { body: MAX_BODY, time: deadline.saturating_duration_since(Instant::now()) };
        let response = match url.scheme() {
            Scheme::Http => proxy.get(&url, limits).map_err(failed)?,
            Scheme::Https => get_tls(context, proxy, &url, limits)?,
        };
        let location = response.header("location").filter(|_| matches!(response.status, 301 | 302 | 303 | 307 | 308));
        match location {
            None => return page(url, response),
            Some(location) => {
                let next = url
                    .join(location)
                    .map_err(|error| ToolFailed(format!("{url} redirects to what cannot be fetched: {error}")))?;
                if url.scheme() == Scheme::Https && next.scheme() == Scheme::Http {
                    return Err(ToolFailed(format!("{url} redirects from https to plain http; that is not followed")));
                }
                url = next;
            }
        }
    }
    Err(ToolFailed(format!("more than {MAX_REDIRECTS} redirects")))
}

fn failed(error: HttpFailed) -> ToolFailed {
    ToolFailed(error.to_string())
}

fn page(url: Url, response: Response) -> Result<Page, ToolFailed> {
    let content_type = response.header("content-type").unwrap_or("application/octet-stream").to_ascii_lowercase();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
    let textual = media_type.starts_with("text/")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
        || matches!(
            media_type.as_str(),
            "application/json" | "application/xml" | "application/javascript" | "application/yaml"
        );
    if !textual {
        return Err(ToolFailed(format!("{url} is {media_type}, not text")));
    }
    let latin1 = content_type.contains("charset=iso-8859-1") || content_type.contains("charset=windows-1252");
    let text = if latin1 {
        response.body.iter().map(|byte| char::from(*byte)).collect()
    } else {
        String::from_utf8_lossy(&response.body).into_owned()
    };
    Ok(Page { url, status: response.status, media_type, text, truncated: response.truncated })
}

fn get_tls(context: &Context, proxy: Proxy, url: &Url, limits: Limits) -> Result<Response, ToolFailed> {
    let config = tls(context)?;
    let name = ServerName::try_from(url.host().to_string().trim_matches(['[', ']']).to_owned())
        .map_err(|_| ToolFailed(format!("{} is no name that a certificate can have", url.host())))?;
    let stream = proxy.tunnel(url, limits.time).map_err(failed)?;
    let session = rustls::ClientConnection::new(config, name).map_err(|error| ToolFailed(format!("TLS: {error}")))?;
    let stream = rustls::StreamOwned::new(session, stream);
    get_over(stream, url.path(), url, limits).map_err(failed)
}

/// The TLS settings: Mozilla's certificate authorities, those of the configuration, and those of the sandbox. Made once.
fn tls(context: &Context) -> Result<Arc<rustls::ClientConfig>, ToolFailed> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let settings: Config = context.config().map_err(|error| ToolFailed(format!("the configuration: {error}")))?;
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in CertificateDer::pem_slice_iter(settings.extra_roots.as_bytes()) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|der| roots.add(der).map_err(|error| error.to_string()));
        added.map_err(|error| ToolFailed(format!("`extra_roots` in the configuration: {error}")))?;
    }
    // Where the sandbox says whom to trust beside, because TLS to some hosts is ended there.
    if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
        let unread = |error: &dyn std::fmt::Display| ToolFailed(format!("the certificates in SSL_CERT_FILE: {error}"));
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unread(&error))? {
            roots.add(certificate.map_err(|error| unread(&error))?).map_err(|error| unread(&error))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ToolFailed(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}
