//! How a connection of a plugin begins: which protocol it speaks to the proxy, and what it asks for.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::request::{BadRequest, HeadScan, Kind, MAX_HEAD, Request, parse};
use super::socks::{self, BadSocks};
use crate::rules::Way;
use crate::{Refused, Told};

/// In what a plugin speaks to the proxy. Its first byte decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// HTTP/1, or nothing yet.
    Http,
    /// SOCKS 5, of which the greeting is not whole.
    Greeting,
    /// SOCKS 5, greeted.
    Socks,
}

impl Speech {
    /// What a plugin that speaks so is told of a refusal: one text for each kind, whatever the reason.
    pub(super) const fn answer(self, refused: Refused) -> &'static [u8] {
        match (self, refused, refused.told()) {
            (Self::Http, _, told) => told.bytes(),
            (Self::Greeting, ..) => socks::NO_METHOD,
            (Self::Socks, Refused::Socks(bad), _) => bad.told(),
            (Self::Socks, _, Told::Forbidden) => const { &socks::reply(2) },
            (Self::Socks, _, Told::Gateway) => const { &socks::reply(4) },
            (Self::Socks, _, Told::Busy) => const { &socks::reply(1) },
        }
    }

    /// What it is told when its tunnel stands.
    pub(super) const fn established(self) -> &'static [u8] {
        match self {
            Self::Http => b"HTTP/1.1 200 Connection Established\r\n\r\n",
            Self::Greeting | Self::Socks => const { &socks::reply(0) },
        }
    }
}

/// A request that was read, whichever way it came, and the bytes that came after it.
pub(super) struct Opening {
    pub(super) request: Request,
    pub(super) way: Way,
    pub(super) after: Vec<u8>,
}

/// Reads what is asked for. `None`: the plugin closed the connection without a byte.
pub(super) async fn read(stream: &mut TcpStream, speech: &mut Speech) -> Result<Option<Opening>, Refused> {
    let mut bytes = Vec::with_capacity(1024);
    if !fill(stream, &mut bytes, MAX_HEAD).await {
        return Ok(None);
    }
    if bytes.first() == Some(&socks::VERSION) {
        *speech = Speech::Greeting;
        return Ok(Some(socks5(stream, bytes, speech).await?));
    }
    Ok(Some(http(stream, bytes).await?))
}

async fn http(stream: &mut TcpStream, mut bytes: Vec<u8>) -> Result<Opening, BadRequest> {
    let mut scan = HeadScan::default();
    loop {
        if let Some(length) = scan.resume(&bytes)? {
            let after = bytes.split_off(length);
            let request = parse(&bytes)?;
            let way = if request.kind == Kind::Connect { Way::Tunnel } else { Way::Plain };
            return Ok(Opening { request, way, after });
        }
        if !fill(stream, &mut bytes, MAX_HEAD + 1).await {
            return Err(BadRequest::Head);
        }
    }
}

async fn socks5(stream: &mut TcpStream, mut bytes: Vec<u8>, speech: &mut Speech) -> Result<Opening, BadSocks> {
    let more = async |stream: &mut TcpStream, bytes: &mut Vec<u8>| {
        if fill(stream, bytes, MAX_HEAD).await { Ok(()) } else { Err(BadSocks::Incomplete) }
    };
    let length = loop {
        match socks::greeting(&bytes)? {
            Some(length) => break length,
            None => more(stream, &mut bytes).await?,
        }
    };
    bytes.drain(..length);
    *speech = Speech::Socks;
    stream.write_all(socks::NO_AUTHENTICATION).await.map_err(|_| BadSocks::Incomplete)?;
    loop {
        if let Some((target, length)) = socks::request(&bytes)? {
            let after = bytes.split_off(length);
            return Ok(Opening { request: Request { target, kind: Kind::Connect }, way: Way::Socks, after });
        }
        more(stream, &mut bytes).await?;
    }
}

/// Reads more bytes, so that there are at most `most`. `false` when nothing more comes, or may.
async fn fill(stream: &mut TcpStream, bytes: &mut Vec<u8>, most: usize) -> bool {
    let room = u64::try_from(most.saturating_sub(bytes.len())).unwrap_or(0);
    matches!(stream.take(room).read_buf(bytes).await, Ok(1..))
}
