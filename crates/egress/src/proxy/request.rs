//! The proxy's request parser: strict where HTTP is lenient, because two readings of one request are a way out.
//!
//! `httparse` splits the head; everything that decides where bytes go is decided here, and the head that is sent on is
//! written anew from what was understood. Sources: RFC 9110, RFC 9112 (sections 3, 5, 6, 11), RFC 3986.

use sigil_types::{Code, Host, HostPort};

/// The most bytes that a request head may have, blank line included.
pub const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 96;
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Fields between two neighbours only (RFC 9110, 7.6.1), and proxy fields, which are ours.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
];

/// What a plugin asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where to, as parsed by the one host parser: this value is judged, resolved and dialled.
    pub target: HostPort,
    /// Which way.
    pub kind: Kind,
}

/// The two ways through the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `CONNECT host:port`: a tunnel.
    Connect,
    /// A plain request in absolute form.
    Plain(Plain),
}

/// A plain request, ready to be written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// One of the methods that are let through.
    pub method: &'static str,
    /// Path and query, starting with `/`.
    pub path: String,
    /// End-to-end fields, in their order; no `Host`.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Bytes of the body that follows.
    pub body_length: u64,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// The head is too long, has too many fields, or the connection ended within it.
    #[error("the request head is over 16 KiB, has over 96 fields, or is incomplete")]
    Head,
    /// A bare CR or LF, NUL, another control character, or a byte that is not ASCII.
    #[error("the request head contains a bare line feed, a control character or a byte that is not ASCII")]
    Byte,
    /// A field that continues on the next line (RFC 9112, 5.2).
    #[error("a field is folded over two lines")]
    Fold,
    /// Not a request line and fields.
    #[error("the request line or a field is malformed")]
    Syntax,
    /// Another version than HTTP/1.0 or HTTP/1.1.
    #[error("the HTTP version is not 1.0 or 1.1")]
    Version,
    /// A method that the proxy does not know or never sends on.
    #[error("the method is not one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT")]
    Method,
    /// Not `host:port`, or not `http://host[:port]/path`.
    #[error("the target is not `host:port` (CONNECT) or `http://host/path` (plain), or its host is not a valid host")]
    Target,
    /// A path that a server may take for another one.
    #[error("the path has a `.` or `..` segment, an encoded slash or control character, or an encoding that is none")]
    Path,
    /// No `Host`, two of them, or one that is not the target.
    #[error("`Host` is missing, repeated, or names another host than the target")]
    Host,
    /// `Content-Length` repeated, or not a plain number.
    #[error("`Content-Length` is repeated or is not a number")]
    Length,
    /// `Transfer-Encoding` in a request, or any body on CONNECT.
    #[error("the request has a `Transfer-Encoding`, or a body where none may be")]
    Body,
    /// h2c, WebSocket, or another protocol asked for by `Upgrade`.
    #[error("the request asks to change the protocol")]
    Upgrade,
    /// An `Expect` other than `100-continue`, or a `Connection` that names a field which frames the message.
    #[error("`Expect` or `Connection` asks for what the proxy does not do")]
    Connection,
    /// More bytes than the request says it has.
    #[error("bytes follow the end of the request")]
    Trailing,
}

impl BadRequest {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> Code {
        Code::new(match self {
            Self::Head => "egress.request.head.refused",
            Self::Byte => "egress.request.byte.refused",
            Self::Fold => "egress.request.fold.refused",
            Self::Syntax => "egress.request.syntax.refused",
            Self::Version => "egress.request.version.refused",
            Self::Method => "egress.request.method.refused",
            Self::Target => "egress.request.target.refused",
            Self::Path => "egress.request.path.refused",
            Self::Host => "egress.request.host.refused",
            Self::Length => "egress.request.length.refused",
            Self::Body => "egress.request.body.refused",
            Self::Upgrade => "egress.request.upgrade.refused",
            Self::Connection => "egress.request.connection.refused",
            Self::Trailing => "egress.request.trailing.refused",
        })
    }
}

/// Finds the end of a head that comes in pieces, and looks at each byte once.
#[derive(Debug, Default)]
pub struct HeadScan {
    at: usize,
    previous: u8,
    /// The line that `at` is in has a character.
    in_line: bool,
}

impl HeadScan {
    /// Looks at what was added to `bytes` since the last time. Returns the head's length, blank line included, once it is
    /// there.
    ///
    /// # Errors
    /// [`BadRequest::Byte`] as soon as a byte is there that no head has, [`BadRequest::Head`] when it is too long.
    pub fn resume(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadRequest> {
        for &byte in bytes.get(self.at..).unwrap_or_default() {
            if self.at >= MAX_HEAD {
                return Err(BadRequest::Head);
            }
            self.at += 1;
            match (self.previous, byte) {
                (b'\r', b'\n') if !self.in_line => return Ok(Some(self.at)),
                (b'\r', b'\n') => self.in_line = false,
                (b'\r', _) | (_, b'\n') => return Err(BadRequest::Byte),
                (_, b'\r') => {}
                (_, b'\t' | b' '..=b'~') => self.in_line = true,
                _ => return Err(BadRequest::Byte),
            }
            self.previous = byte;
        }
        Ok(None)
    }
}

/// The length of the head at the start of `bytes`, blank line included, once it is there.
///
/// # Errors
/// As [`HeadScan::resume`].
pub fn head_length(bytes: &[u8]) -> Result<Option<usize>, BadRequest> {
    HeadScan::default().resume(bytes)
}

/// Reads one request head, blank line included.
///
/// # Errors
/// The first thing that makes the head ambiguous, malformed or unwanted.
pub fn parse(head: &[u8]) -> Result<Request, BadRequest> {
    if head_length(head)? != Some(head.len()) {
        return Err(BadRequest::Head);
    }
    if head.starts_with(b"\r\n") {
        return Err(BadRequest::Syntax);
    }
    if head.windows(3).any(|w| matches!(w, [b'\r', b'\n', b' ' | b'\t'])) {
        return Err(BadRequest::Fold);
    }
    let mut storage = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut storage);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(BadRequest::Head),
        Err(httparse::Error::Version) => return Err(BadRequest::Version),
        Err(httparse::Error::TooManyHeaders) => return Err(BadRequest::Head),
        Err(_) => return Err(BadRequest::Syntax),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(BadRequest::Syntax);
    };
    let fields = Fields::read(parsed.headers, version)?;
    if method == "CONNECT" { connect(target, &fields) } else { plain(method, target, fields) }
}

fn connect(target: &str, fields: &Fields) -> Result<Request, BadRequest> {
    let target: HostPort = target.parse().map_err(|_| BadRequest::Target)?;
    if let Some(host) = &fields.host {
        // Some clients leave the port out of `Host` on CONNECT. It decides nothing here; the target does.
        let same = match host.parse::<HostPort>() {
            Ok(with_port) => with_port == target,
            Err(_) => host.parse::<Host>().is_ok_and(|host| host == target.host),
        };
        if !same {
            return Err(BadRequest::Host);
        }
    }
    if fields.length.is_some_and(|length| length != 0) || fields.expects_continue {
        return Err(BadRequest::Body);
    }
    Ok(Request { target, kind: Kind::Connect })
}

fn plain(method: &str, target: &str, fields: Fields) -> Result<Request, BadRequest> {
    let method = METHODS.into_iter().find(|known| *known == method).ok_or(BadRequest::Method)?;
    let rest = target.strip_prefix("http://").ok_or(BadRequest::Target)?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).ok_or(BadRequest::Target)?;
    let target = authority_of(authority)?;
    if path.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'#' | b'\\' | b'"' | b'<' | b'>')) {
        return Err(BadRequest::Target);
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if !has_one_reading(&path) {
        return Err(BadRequest::Path);
    }
    match &fields.host {
        Some(host) if authority_of(host).is_ok_and(|host| host == target) => {}
        None => {}
        Some(_) => return Err(BadRequest::Host),
    }
    Ok(Request {
        target,
        kind: Kind::Plain(Plain {
            method,
            path,
            body_length: fields.length.unwrap_or(0),
            expects_continue: fields.expects_continue,
            fields: fields.end_to_end,
        }),
    })
}

/// Whether every server takes the path of `target` for the same: what is before the query has no dot segments, however
/// encoded, no encoded slash, backslash, dot or control character, and no `%` that encodes nothing (RFC 3986, 2.1, 5.2.4).
fn has_one_reading(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let mut rest = path.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let digit = |offset: usize| rest.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        match (digit(1), digit(2)) {
            (Some(0..=1), Some(_)) | (Some(2), Some(14 | 15)) | (Some(5), Some(12)) | (Some(7), Some(15)) => {
                return false;
            }
            (Some(_), Some(_)) => rest = rest.get(at + 3..).unwrap_or_default(),
            _ => return false,
        }
    }
    !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Reads `host[:port]`; port 80 where none is written.
fn authority_of(text: &str) -> Result<HostPort, BadRequest> {
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let parsed =
        if has_port { text.parse::<HostPort>() } else { text.parse::<Host>().map(|host| HostPort { host, port: 80 }) };
    parsed.map_err(|_| BadRequest::Target)
}

/// The fields of a request, sorted into those that frame it and those that are sent on.
struct Fields {
    host: Option<String>,
    length: Option<u64>,
    expects_continue: bool,
    end_to_end: Vec<(String, Vec<u8>)>,
}

impl Fields {
    fn read(headers: &[httparse::Header<'_>], version: u8) -> Result<Self, BadRequest> {
        let mut fields = Self { host: None, length: None, expects_continue: false, end_to_end: Vec::new() };
        let mut nominated: Vec<String> = Vec::new();
        for header in headers {
            let name = header.name.to_ascii_lowercase();
            let value = std::str::from_utf8(header.value).map_err(|_| BadRequest::Byte)?.trim_matches([' ', '\t']);
            match name.as_str() {
                "host" if fields.host.is_some() => return Err(BadRequest::Host),
                "host" => fields.host = Some(value.to_owned()),
                "content-length" if fields.length.is_some() => return Err(BadRequest::Length),
                "content-length" => fields.length = Some(length(value)?),
                "transfer-encoding" => return Err(BadRequest::Body),
                "upgrade" | "http2-settings" => return Err(BadRequest::Upgrade),
                "expect" if value.eq_ignore_ascii_case("100-continue") => fields.expects_continue = true,
                "expect" => return Err(BadRequest::Connection),
                "connection" | "proxy-connection" => {
                    nominated.extend(value.split(',').map(|t| t.trim_matches([' ', '\t']).to_ascii_lowercase()));
                }
                _ => {}
            }
            if !HOP_BY_HOP.contains(&name.as_str()) && name != "content-length" {
                fields.end_to_end.push((header.name.to_owned(), value.as_bytes().to_vec()));
            }
        }
        if fields.host.is_none() && version == 1 {
            return Err(BadRequest::Host);
        }
        if nominated.iter().any(|name| name == "upgrade") {
            return Err(BadRequest::Upgrade);
        }
        if nominated.iter().any(|name| matches!(name.as_str(), "host" | "content-length" | "transfer-encoding")) {
            return Err(BadRequest::Connection);
        }
        fields.end_to_end.retain(|(name, _)| !nominated.iter().any(|n| name.eq_ignore_ascii_case(n)));
        Ok(fields)
    }
}

fn length(value: &str) -> Result<u64, BadRequest> {
    if value.is_empty() || value.len() > 18 || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadRequest::Length);
    }
    value.parse().map_err(|_| BadRequest::Length)
}

impl Plain {
    /// Whether a credential's stand-in is in its head. It is never replaced outside of TLS.
    pub(super) fn holds_sentinel(&self) -> bool {
        use super::ended::sentinel::{stands_in, stands_in_encoded};
        stands_in_encoded(&self.path) || self.fields.iter().any(|(_, value)| stands_in(value))
    }

    /// The head to send to `target`: origin form, our own `Host` and framing, one request for the connection.
    #[must_use]
    pub fn head(&self, target: &HostPort) -> Vec<u8> {
        let host = if target.port == 80 { target.host.to_string() } else { target.to_string() };
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", self.method, self.path);
        if self.body_length > 0 || matches!(self.method, "POST" | "PUT" | "PATCH") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body_length));
        }
        let mut head = head.into_bytes();
        for (name, value) in &self.fields {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Request, BadRequest> {
        parse(text.as_bytes())
    }

    #[test]
    fn a_tunnel_is_read() {
        let request = read("CONNECT Example.COM:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n").expect("valid");
        assert_eq!((request.target.to_string().as_str(), &request.kind), ("example.com:443", &Kind::Connect));
        assert!(read("CONNECT a.com:443 HTTP/1.0\r\n\r\n").is_ok(), "older Python clients send no Host");
        assert!(read("CONNECT a.com:443 HTTP/1.1\r\nHost: a.com\r\nProxy-Connection: keep-alive\r\n\r\n").is_ok());
    }

    #[test]
    fn a_plain_request_is_written_anew() {
        let request = read(
            "POST http://a.com/x?y=1 HTTP/1.1\r\nHost: a.com\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\n\
             Proxy-Authorization: Basic eA==\r\nTE: trailers\r\nKeep-Alive: 5\r\nAccept: */*\r\nContent-Length: 3\r\n\r\n",
        )
        .expect("valid");
        let Kind::Plain(plain) = request.kind else { panic!("plain") };
        assert_eq!(
            String::from_utf8(plain.head(&request.target)).expect("ascii"),
            "POST /x?y=1 HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\nContent-Length: 3\r\nAccept: */*\r\n\r\n"
        );
        let bare = read("GET http://a.com:8080?q HTTP/1.1\r\nHost: a.com:8080\r\n\r\n").expect("valid");
        let Kind::Plain(plain) = bare.kind else { panic!("plain") };
        assert!(plain.head(&bare.target).starts_with(b"GET /?q HTTP/1.1\r\nHost: a.com:8080\r\n"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        use BadRequest as B;
        let get = "GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n";
        let cases: &[(String, B)] = &[
            (format!("{get}Host: b.com\r\n\r\n"), B::Host),
            (format!("{get}Host: a.com\r\n\r\n"), B::Host),
            ("GET http://a.com/ HTTP/1.1\r\nHost: b.com\r\n\r\n".into(), B::Host),
            ("GET http://a.com/ HTTP/1.1\r\nHost: a.com:81\r\n\r\n".into(), B::Host),
            ("GET http://a.com/ HTTP/1.1\r\n\r\n".into(), B::Host),
            ("GET http://a.com/ HTTP/1.1\r\nHost:\r\n\r\n".into(), B::Host),
            ("CONNECT a.com:443 HTTP/1.1\r\nHost: b.com:443\r\n\r\n".into(), B::Host),
            ("CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:444\r\n\r\n".into(), B::Host),
            (format!("{get}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), B::Body),
            (format!("{get}Transfer-Encoding: chunked\r\n\r\n"), B::Body),
            (format!("{get}Transfer-Encoding : chunked\r\n\r\n"), B::Syntax),
            (format!("{get}Content-Length: 1\r\nContent-Length: 1\r\n\r\n"), B::Length),
            (format!("{get}Content-Length: 1, 1\r\n\r\n"), B::Length),
            (format!("{get}Content-Length: +1\r\n\r\n"), B::Length),
            (format!("{get}Content-Length: 0x1\r\n\r\n"), B::Length),
            (format!("{get}Content-Length: 99999999999999999999\r\n\r\n"), B::Length),
            ("CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\nContent-Length: 5\r\n\r\n".into(), B::Body),
            (format!("{get}X: a\nY: b\r\n\r\n"), B::Byte),
            (format!("{get}X: a\rY: b\r\n\r\n"), B::Byte),
            (format!("{get}X: a\0b\r\n\r\n"), B::Byte),
            (format!("{get}X: \x7f\r\n\r\n"), B::Byte),
            (format!("{get}X: é\r\n\r\n"), B::Byte),
            (format!("{get}X: a\r\n b\r\n\r\n"), B::Fold),
            (format!("{get}X: a\r\n\tb\r\n\r\n"), B::Fold),
            ("\r\nGET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Head),
            ("GET http://a.com/ HTTP/2.0\r\nHost: a.com\r\n\r\n".into(), B::Version),
            ("GET http://a.com/ HTTP/1.2\r\nHost: a.com\r\n\r\n".into(), B::Version),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), B::Head),
            ("GET http://a.com/\r\n\r\n".into(), B::Syntax),
            ("GET  http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Syntax),
            ("TRACE http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Method),
            ("get http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Method),
            ("GET /path HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("GET https://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("GET ftp://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("GET HTTP://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("OPTIONS * HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("GET http://a.com/#f HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("GET http://a.com\\@b.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("GET http://u:p@a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("GET http://a.com%2f@b.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("GET http:///x HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("CONNECT a.com%2f.b.com:443 HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("CONNECT a.com:443/x HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("CONNECT u@a.com:443 HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("CONNECT evil.com:443.a.com HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("CONNECT a.com HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("CONNECT :443 HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            ("CONNECT http://a.com:443 HTTP/1.1\r\nHost: a.com\r\n\r\n".into(), B::Target),
            (format!("CONNECT {}.com:443 HTTP/1.1\r\nHost: a.com\r\n\r\n", "a.".repeat(150)), B::Target),
            (format!("{get}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"), B::Upgrade),
            (format!("{get}Upgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n"), B::Upgrade),
            (format!("{get}Connection: upgrade\r\n\r\n"), B::Upgrade),
            (format!("{get}Connection: Host\r\n\r\n"), B::Connection),
            (format!("{get}Connection: content-length\r\nContent-Length: 1\r\n\r\n"), B::Connection),
            (format!("{get}Expect: 200-maybe\r\n\r\n"), B::Connection),
            (format!("{get}X: {}\r\n\r\n", "a".repeat(MAX_HEAD)), B::Head),
            (format!("{get}{}\r\n", "X: a\r\n".repeat(100)), B::Head),
            (get.into(), B::Head),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), Err(*expected), "{text:?}");
        }
    }

    #[test]
    fn every_literal_trick_is_no_target() {
        for host in [
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "1.2.3.4.5",
            "[fe80::1%eth0]",
            "[fe80::1%25eth0]",
            "a.com.",
            "xn--",
            "a_b.com",
            "::1",
            "[::1",
            "a..com",
        ] {
            let text = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n");
            assert_eq!(read(&text), Err(BadRequest::Target), "{host}");
        }
        // Wide digits and the ideographic dot are not ASCII, so they do not even reach the host parser.
        assert_eq!(read("CONNECT １２７。０。０。１:443 HTTP/1.1\r\n\r\n"), Err(BadRequest::Byte));
    }

    proptest! {
        /// What was understood, written as a request again, is understood as the same.
        #[test]
        fn writing_and_reading_agree(
            host in "([a-z]{1,5}\\.){1,2}[a-z]{2,3}", port in 1_u16..,
            path in "/[a-zA-Z0-9/]{0,20}(\\?[a-zA-Z0-9/?=&%.]{0,20})?", name in "X-[a-z]{1,8}", value in "[ -~]{0,20}",
        ) {
            let text = format!("GET http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n{name}: {value}\r\n\r\n");
            let request = read(&text).expect("valid");
            let Kind::Plain(plain) = &request.kind else { panic!("plain") };
            let head = String::from_utf8(plain.head(&request.target)).expect("ascii");
            let line = head.lines().next().expect("a line");
            prop_assert_eq!(line, format!("GET {path} HTTP/1.1"));
            prop_assert_eq!(head_length(head.as_bytes()), Ok(Some(head.len())));
        }

        /// Whatever comes, a head that is sent on has one `Host`, at most one length, and nothing that frames otherwise.
        #[test]
        fn a_rewritten_head_has_one_meaning(
            lines in prop::collection::vec("(Host|Content-Length|Transfer-Encoding|Connection|Upgrade|X-a)(:| :)[ a-z0-9,.:]{0,9}", 0..6)
        ) {
            let mut text = String::from("POST http://a.com/ HTTP/1.1\r\n");
            for line in &lines { text.push_str(line); text.push_str("\r\n"); }
            text.push_str("\r\n");
            if let Ok(Request { target, kind: Kind::Plain(plain) }) = read(&text) {
                let head = String::from_utf8(plain.head(&target)).expect("ascii").to_ascii_lowercase();
                prop_assert_eq!(head.matches("\r\nhost:").count(), 1);
                prop_assert_eq!(head.matches("\r\ncontent-length:").count(), 1);
                prop_assert!(!head.contains("\r\ntransfer-encoding") && !head.contains("\r\nupgrade"));
            }
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = head_length(&bytes);
        }
    }
}
