//! [`HttpRequest`]: a request of the host, as data.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use sigil_policy::Endpoint;
use sigil_types::Secret;

/// Why a request cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHttpRequest {
    /// The path does not start with `/`, or has a character that belongs in no path.
    #[error("a request path starts with `/` and has visible ASCII characters only, without `#` and `\\`")]
    Path,
    /// A field name or value that HTTP does not allow. The value is not shown: it may be a secret.
    #[error("the header `{name}` has a character that HTTP does not allow; look for a line break in a key")]
    Header {
        /// Which.
        name: String,
    },
}

/// A request of the host to an endpoint.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    endpoint: Endpoint,
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl HttpRequest {
    /// A `POST` of JSON to `path` at `endpoint`.
    ///
    /// # Errors
    /// [`BadHttpRequest::Path`].
    pub fn post_json(endpoint: Endpoint, path: &str, body: impl Into<Bytes>) -> Result<Self, BadHttpRequest> {
        let request = Self::new(endpoint, Method::POST, path, body.into())?;
        request.header("content-type", "application/json")
    }

    /// A `GET` of `path` at `endpoint`.
    ///
    /// # Errors
    /// [`BadHttpRequest::Path`].
    pub fn get(endpoint: Endpoint, path: &str) -> Result<Self, BadHttpRequest> {
        Self::new(endpoint, Method::GET, path, Bytes::new())
    }

    fn new(endpoint: Endpoint, method: Method, path: &str, body: Bytes) -> Result<Self, BadHttpRequest> {
        let plain = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'\\'));
        if !path.starts_with('/') || path.starts_with("//") || !plain {
            return Err(BadHttpRequest::Path);
        }
        Ok(Self { endpoint, method, path: path.to_owned(), headers: Vec::new(), body })
    }

    /// The same request with a header.
    ///
    /// # Errors
    /// [`BadHttpRequest::Header`].
    pub fn header(self, name: &str, value: &str) -> Result<Self, BadHttpRequest> {
        self.with(name, value, false)
    }

    /// The same request with a secret header, made of `prefix` and `value`; no log shows it.
    ///
    /// # Errors
    /// [`BadHttpRequest::Header`].
    pub fn secret_header(self, name: &str, prefix: &str, value: &Secret<String>) -> Result<Self, BadHttpRequest> {
        let whole = Secret::new(format!("{prefix}{}", value.expose()));
        self.with(name, whole.expose(), true)
    }

    fn with(mut self, name: &str, value: &str, secret: bool) -> Result<Self, BadHttpRequest> {
        let bad = || BadHttpRequest::Header { name: name.to_owned() };
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
        value.set_sensitive(secret);
        self.headers.push((header, value));
        Ok(self)
    }

    /// Where to.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn build(self, client: &reqwest::Client) -> Result<reqwest::Request, BadHttpRequest> {
        let url = reqwest::Url::parse(&format!("{}{}", self.endpoint, self.path)).map_err(|_| BadHttpRequest::Path)?;
        // The URL parser is another reader of the same text. It must have read what we read.
        let same = url.host_str() == Some(&self.endpoint.at.host.to_string())
            && url.port_or_known_default() == Some(self.endpoint.at.port)
            && url.username().is_empty()
            && url.password().is_none();
        if !same {
            return Err(BadHttpRequest::Path);
        }
        let mut request = client.request(self.method, url);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(self.body).build().map_err(|_| BadHttpRequest::Path)
    }
}
