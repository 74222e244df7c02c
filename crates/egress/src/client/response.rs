//! [`HttpResponse`]: an answer, read piece by piece, with a limit on time and size.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use sigil_policy::Endpoint;
use tokio::time::timeout;

use super::RequestFailed;

/// An answer whose body is still to be read. Its content is as untrusted as anything from outside.
#[derive(Debug)]
pub struct HttpResponse {
    endpoint: Endpoint,
    inner: reqwest::Response,
    idle: Duration,
    limit: u64,
    read: u64,
}

impl HttpResponse {
    pub(super) const fn new(endpoint: Endpoint, inner: reqwest::Response, idle: Duration, limit: u64) -> Self {
        Self { endpoint, inner, idle, limit, read: 0 }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    /// A header's value, where it is visible ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Who answered.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The next piece of the body; `None` at its regular end.
    ///
    /// # Errors
    /// [`RequestFailed::Slow`], [`RequestFailed::Broken`] or [`RequestFailed::Size`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RequestFailed> {
        let chunk = match timeout(self.idle, self.inner.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => {
                let reason = error.source().map_or_else(|| "no reason given".to_owned(), ToString::to_string);
                return Err(RequestFailed::Broken { endpoint: self.endpoint.clone(), reason });
            }
            Err(_) => return Err(RequestFailed::Slow { endpoint: self.endpoint.clone(), within: self.idle }),
        };
        let length = chunk.as_ref().map_or(0, Bytes::len);
        self.read = self.read.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if self.read > self.limit {
            return Err(RequestFailed::Size { endpoint: self.endpoint.clone(), limit: self.limit });
        }
        Ok(chunk)
    }

    /// The start of the body, at most `most` bytes; what follows is not read.
    ///
    /// # Errors
    /// As [`HttpResponse::chunk`].
    pub async fn start(mut self, most: usize) -> Result<Vec<u8>, RequestFailed> {
        let mut bytes = Vec::new();
        while bytes.len() < most {
            let Some(chunk) = self.chunk().await? else { break };
            bytes.extend_from_slice(&chunk);
        }
        bytes.truncate(most);
        Ok(bytes)
    }
}
