//! HTTP as a plugin can have it: through the egress proxy, which is the only network there is.
//!
//! Blocking, HTTP/1.1, GET, one request per connection. The proxy decides about every connection; a refusal is an answer
//! with status 403 from it. Name resolution is the proxy's: a plugin has no resolver.

mod url;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub use url::{ParseUrl, Scheme, Url};

/// More header bytes than this are refused.
const MAX_HEAD: usize = 64 * 1024;

/// More headers than this are refused.
const MAX_HEADERS: usize = 128;

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpFailed {
    /// The sandbox has no network.
    #[error("this plugin has no network: its manifest or the signed policy names no host")]
    NoNetwork,
    /// The proxy said no.
    #[error("the connection was refused by Sigil's egress proxy (status {status}): {reason}")]
    Refused {
        /// The proxy's status.
        status: u16,
        /// What it said, at most 200 characters.
        reason: String,
    },
    /// The connection failed, or took too long.
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    /// The answer is not HTTP/1.
    #[error("the answer is not HTTP: {0}")]
    Malformed(&'static str),
    /// The address is of no use here.
    #[error("not an address that can be fetched: {0}")]
    Url(#[from] ParseUrl),
    /// `https` was asked of a function that has no TLS.
    #[error("this plugin speaks plain http only")]
    NoTls,
}

/// What one request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes of the answer's body; the rest is not read.
    pub body: usize,
    /// The most time for everything.
    pub time: Duration,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers: names in lower case, values with anything but visible ASCII and blanks replaced.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
    /// Whether there was more of it.
    pub truncated: bool,
}

impl Response {
    /// The first header with this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The egress proxy of this instance.
#[derive(Clone, Copy, Debug)]
pub struct Proxy(SocketAddr);

impl Proxy {
    /// The proxy that the sandbox names in `HTTP_PROXY`.
    ///
    /// # Errors
    /// [`HttpFailed::NoNetwork`] when it names none.
    pub fn from_env() -> Result<Self, HttpFailed> {
        let value = std::env::var("HTTP_PROXY").map_err(|_| HttpFailed::NoNetwork)?;
        let address = value.strip_prefix("http://").unwrap_or(&value).trim_end_matches('/');
        address.parse().map(Self).map_err(|_| HttpFailed::NoNetwork)
    }

    /// A connection to the proxy itself.
    fn dial(self, deadline: Instant) -> Result<Timed, HttpFailed> {
        #[expect(clippy::disallowed_methods, reason = "the egress proxy is the one address that a plugin can dial")]
        let stream = TcpStream::connect_timeout(&self.0, left(deadline)?)?;
        stream.set_nodelay(true)?;
        Ok(Timed { stream, deadline })
    }

    /// A connection to `host` and `port` through the proxy (CONNECT), for TLS inside the plugin.
    ///
    /// # Errors
    /// [`HttpFailed`] when the proxy refuses or cannot be reached in `time`.
    pub fn tunnel(self, url: &Url, time: Duration) -> Result<Timed, HttpFailed> {
        let mut stream = self.dial(Instant::now() + time)?;
        let authority = url.authority();
        write!(stream, "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")?;
        let (head, _) = Head::read(&mut stream)?;
        if head.status == 200 {
            return Ok(stream);
        }
        Err(refused(&head))
    }

    /// Gets a plain `http` address.
    ///
    /// # Errors
    /// [`HttpFailed`], [`HttpFailed::NoTls`] for any other scheme.
    pub fn get(self, url: &Url, limits: Limits) -> Result<Response, HttpFailed> {
        if url.scheme() != Scheme::Http {
            return Err(HttpFailed::NoTls);
        }
        let stream = self.dial(Instant::now() + limits.time)?;
        get_over(stream, &url.to_string(), url, limits)
    }
}

/// Gets a plain `http` address through the proxy of this instance.
///
/// # Errors
/// [`HttpFailed`].
pub fn get(address: &str, limits: Limits) -> Result<Response, HttpFailed> {
    Proxy::from_env()?.get(&address.parse()?, limits)
}

/// Sends one GET over an open connection and reads the answer. `target` is the request target: the whole address to a
/// proxy, the path to an origin server.
///
/// # Errors
/// [`HttpFailed`] when the connection breaks or what comes back is not HTTP/1.
pub fn get_over(
    mut stream: impl Read + Write,
    target: &str,
    url: &Url,
    limits: Limits,
) -> Result<Response, HttpFailed> {
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: sigil-plugin\r\nAccept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n",
        url.host_header()
    )?;
    stream.flush()?;
    loop {
        let (head, rest) = Head::read(&mut stream)?;
        // Interim answers (RFC 9110, 15.2) come before the final one; none was asked for, so none has a body.
        if !(100..200).contains(&head.status) {
            return head.body(rest, &mut stream, limits.body);
        }
        if !rest.is_empty() || head.status == 101 {
            return Err(HttpFailed::Malformed("an interim answer that nobody asked for"));
        }
    }
}

fn refused(head: &Head) -> HttpFailed {
    let reason = head.header("x-sigil-reason").unwrap_or("the host is not allowed for this plugin");
    HttpFailed::Refused { status: head.status, reason: reason.chars().take(200).collect() }
}

/// A connection with one deadline for everything.
#[derive(Debug)]
pub struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Status line and headers.
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head, and returns what was read past it.
    fn read(stream: &mut impl Read) -> Result<(Self, Vec<u8>), HttpFailed> {
        let mut bytes = Vec::with_capacity(4096);
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err(HttpFailed::Malformed("the connection ended before the answer's headers did"));
            }
            bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if let Some((head, length)) = Self::parse(&bytes)? {
                return Ok((head, bytes.split_off(length)));
            }
            if bytes.len() > MAX_HEAD {
                return Err(HttpFailed::Malformed("headers of more than 64 KiB"));
            }
        }
    }

    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HttpFailed> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut slots);
        let parsed = response.parse(bytes).map_err(|_| HttpFailed::Malformed("its headers cannot be read"))?;
        let httparse::Status::Complete(length) = parsed else { return Ok(None) };
        let visible = |value: &[u8]| {
            value.iter().map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '?' }).collect()
        };
        let headers =
            response.headers.iter().map(|header| (header.name.to_ascii_lowercase(), visible(header.value))).collect();
        Ok(Some((Self { status: response.code.unwrap_or(0), headers }, length)))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads the body, of which `rest` has been read already.
    fn body(self, rest: Vec<u8>, stream: &mut impl Read, max: usize) -> Result<Response, HttpFailed> {
        let stream = &mut io::Cursor::new(rest).chain(stream);
        let chunked = self.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        if self.header("transfer-encoding").is_some() && !chunked {
            return Err(HttpFailed::Malformed("a transfer coding other than chunked"));
        }
        let (body, truncated) = if matches!(self.status, 204 | 304) {
            (Vec::new(), false)
        } else if chunked {
            read_chunked(stream, max)?
        } else if let Some(length) = self.header("content-length") {
            let length = length.parse().map_err(|_| HttpFailed::Malformed("a content length that is no number"))?;
            read_exactly(stream, length, max)?
        } else {
            read_to_end(stream, max)?
        };
        Ok(Response { status: self.status, headers: self.headers, body, truncated })
    }
}

fn read_exactly(stream: &mut impl Read, length: u64, max: usize) -> Result<(Vec<u8>, bool), HttpFailed> {
    let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(max);
    let mut body = Vec::with_capacity(wanted.min(64 * 1024));
    stream.take(u64::try_from(wanted).unwrap_or(u64::MAX)).read_to_end(&mut body)?;
    if body.len() < wanted {
        return Err(HttpFailed::Malformed("the connection ended before the body did"));
    }
    Ok((body, length > u64::try_from(wanted).unwrap_or(u64::MAX)))
}

fn read_to_end(stream: &mut impl Read, max: usize) -> Result<(Vec<u8>, bool), HttpFailed> {
    let mut body = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    match stream.take(limit).read_to_end(&mut body) {
        Ok(_) => {}
        // TLS peers that close without saying so: without a length, that is how the answer ends.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error.into()),
    }
    let truncated = body.len() > max;
    body.truncate(max);
    Ok((body, truncated))
}

/// RFC 9112, 7.1. Extensions and trailers are read and dropped.
fn read_chunked(stream: &mut impl Read, max: usize) -> Result<(Vec<u8>, bool), HttpFailed> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let plain = !digits.is_empty() && digits.len() <= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let size = usize::from_str_radix(digits, 16).ok().filter(|_| plain);
        let size = size.ok_or(HttpFailed::Malformed("a chunk whose size is no number"))?;
        if size == 0 {
            return Ok((body, false));
        }
        let wanted = size.min(max - body.len());
        let before = body.len();
        stream.take(u64::try_from(wanted).unwrap_or(u64::MAX)).read_to_end(&mut body)?;
        if body.len() - before < wanted {
            return Err(HttpFailed::Malformed("the connection ended before the body did"));
        }
        if wanted < size {
            return Ok((body, true));
        }
        if !read_line(stream)?.is_empty() {
            return Err(HttpFailed::Malformed("a chunk that is longer than it said"));
        }
    }
}

/// A line of at most 4 KiB, without its CRLF.
fn read_line(stream: &mut impl Read) -> Result<String, HttpFailed> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() <= 4096 {
        stream.read_exact(&mut byte)?;
        if byte == *b"\n" {
            let text = line.strip_suffix(b"\r").ok_or(HttpFailed::Malformed("a line that ends without CR"))?;
            return Ok(String::from_utf8_lossy(text).into_owned());
        }
        line.extend_from_slice(&byte);
    }
    Err(HttpFailed::Malformed("a line of more than 4 KiB"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A peer that says `answer` in pieces of `piece` bytes, whatever it hears.
    struct Peer<'a> {
        answer: &'a [u8],
        piece: usize,
        heard: Vec<u8>,
    }

    impl Read for Peer<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.piece.min(buffer.len()).min(self.answer.len());
            let (now, later) = self.answer.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.answer = later;
            Ok(count)
        }
    }

    impl Write for Peer<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ask(answer: &[u8], piece: usize, max: usize) -> Result<Response, HttpFailed> {
        let url: Url = "http://example.org/x?y".parse().expect("a URL");
        let limits = Limits { body: max, time: Duration::from_secs(1) };
        let mut peer = Peer { answer, piece, heard: Vec::new() };
        let response = get_over(&mut peer, "/x?y", &url, limits);
        assert!(peer.heard.starts_with(b"GET /x?y HTTP/1.1\r\nHost: example.org\r\n"));
        response
    }

    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";

    #[test]
    fn an_answer_is_the_same_however_it_is_cut() {
        for piece in 1..CHUNKED.len() {
            assert_eq!(ask(CHUNKED, piece, 100).expect("an answer").body, b"hello world");
        }
        let sized = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more";
        assert_eq!(ask(sized, 7, 100).expect("an answer").body, b"hello");
        let until_close = b"HTTP/1.0 404 Not Found\r\n\r\nhello";
        let response = ask(until_close, 3, 100).expect("an answer");
        assert_eq!((response.status, response.body.as_slice()), (404, &b"hello"[..]));
    }

    #[test]
    fn a_long_body_is_cut_and_says_so() {
        for answer in [
            CHUNKED,
            b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
            b"HTTP/1.1 200 OK\r\n\r\nhello world",
        ] {
            let response = ask(answer, 9, 7).expect("an answer");
            assert_eq!((response.body.as_slice(), response.truncated), (&b"hello w"[..], true));
        }
    }

    #[test]
    fn half_an_answer_is_none() {
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello more\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            b"HTTP/1.1 101 Switching\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n",
        ] {
            assert!(ask(bad, 4096, 100).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200), piece in 1_usize..50) {
            let _ = ask(&tail, piece, 64);
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            answer.extend(tail);
            if let Ok(response) = ask(&answer, piece, 64) {
                prop_assert!(response.body.len() <= 64);
            }
        }
    }
}
