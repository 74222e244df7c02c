//! The server name in a TLS ClientHello, read without ending TLS.
//!
//! A tunnel to `allowed.example` whose ClientHello names another host would reach that other host at any shared front. So the
//! name must be there and must be the host of the CONNECT. Sources: RFC 8446 (4.1.2, 5.1), RFC 6066 (3), RFC 9849.

use sigil_types::HostName;

/// The most bytes that a ClientHello message may have. Real ones, with post-quantum keys, have about 2 KiB.
pub const MAX_HELLO: usize = 16 * 1024;
const MAX_RECORD: usize = 16 * 1024;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
const ENCRYPTED_SNI: u16 = 0xffce;

/// Why the first bytes of a tunnel are not a ClientHello whose name can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHello {
    /// Not a TLS handshake record.
    #[error("the tunnel does not begin with a TLS handshake")]
    NotTls,
    /// A TLS record or message that is malformed, or over 16 KiB.
    #[error("the TLS ClientHello is malformed or over 16 KiB")]
    Malformed,
    /// The name is encrypted (ECH or ESNI), so what it is cannot be known.
    #[error("the TLS ClientHello hides the server's name (encrypted ClientHello)")]
    Hidden,
}

/// What a ClientHello says of its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The name in `server_name`, lower case; `None` when the extension is absent.
    pub server_name: Option<HostName>,
}

/// Puts a ClientHello together from however many pieces and records it comes in.
#[derive(Debug, Default)]
pub struct HelloReader {
    raw: Vec<u8>,
    read: usize,
    message: Vec<u8>,
}

impl HelloReader {
    /// Takes the next bytes of the tunnel; returns the ClientHello once it is whole.
    ///
    /// # Errors
    /// [`BadHello`], as soon as it can be told.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<ClientHello>, BadHello> {
        self.raw.extend_from_slice(bytes);
        loop {
            let rest = self.raw.get(self.read..).unwrap_or_default();
            if rest.first().is_some_and(|kind| *kind != HANDSHAKE) || rest.get(1).is_some_and(|major| *major != 3) {
                return Err(if self.read == 0 { BadHello::NotTls } else { BadHello::Malformed });
            }
            let [_, _, _, high, low, body @ ..] = rest else { return Ok(None) };
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if length == 0 || length > MAX_RECORD {
                return Err(BadHello::Malformed);
            }
            let Some(fragment) = body.get(..length) else { return Ok(None) };
            self.message.extend_from_slice(fragment);
            self.read += 5 + length;
            if let Some(hello) = self.whole()? {
                return Ok(Some(hello));
            }
        }
    }

    /// All bytes taken so far, to be sent on as they came.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.raw
    }

    fn whole(&self) -> Result<Option<ClientHello>, BadHello> {
        if self.message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(BadHello::Malformed);
        }
        let [_, a, b, c, body @ ..] = self.message.as_slice() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).map_err(|_| BadHello::Malformed)?;
        if length > MAX_HELLO {
            return Err(BadHello::Malformed);
        }
        match body.len().cmp(&length) {
            std::cmp::Ordering::Less => Ok(None),
            std::cmp::Ordering::Equal => parse(body).map(Some),
            // Another message in the record of the ClientHello: no client does that.
            std::cmp::Ordering::Greater => Err(BadHello::Malformed),
        }
    }
}

/// Walks over length-prefixed fields.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadHello> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadHello::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, BadHello> {
        self.take(1)?.first().copied().ok_or(BadHello::Malformed)
    }

    fn u16(&mut self) -> Result<u16, BadHello> {
        match self.take(2)? {
            [high, low] => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err(BadHello::Malformed),
        }
    }

    fn short(&mut self) -> Result<&'a [u8], BadHello> {
        let length = usize::from(self.u8()?);
        self.take(length)
    }

    fn long(&mut self) -> Result<&'a [u8], BadHello> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }

    fn end(&self) -> Result<(), BadHello> {
        if self.0.is_empty() { Ok(()) } else { Err(BadHello::Malformed) }
    }
}

fn parse(body: &[u8]) -> Result<ClientHello, BadHello> {
    let mut cursor = Cursor(body);
    cursor.take(2 + 32)?; // legacy_version, random
    cursor.short()?; // legacy_session_id
    cursor.long()?; // cipher_suites
    cursor.short()?; // legacy_compression_methods
    if cursor.0.is_empty() {
        return Ok(ClientHello { server_name: None });
    }
    let mut extensions = Cursor(cursor.long()?);
    cursor.end()?;
    let mut seen = Vec::new();
    let mut server_name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.long()?;
        if seen.contains(&kind) {
            return Err(BadHello::Malformed);
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => server_name = Some(name(data)?),
            ENCRYPTED_CLIENT_HELLO | ENCRYPTED_SNI => return Err(BadHello::Hidden),
            _ => {}
        }
    }
    Ok(ClientHello { server_name })
}

/// Reads a `server_name` extension: a list of exactly one `host_name`.
fn name(data: &[u8]) -> Result<HostName, BadHello> {
    let mut outer = Cursor(data);
    let mut list = Cursor(outer.long()?);
    outer.end()?;
    if list.u8()? != 0 {
        return Err(BadHello::Malformed);
    }
    let name = list.long()?;
    list.end()?;
    if !name.is_ascii() {
        return Err(BadHello::Malformed);
    }
    std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).ok_or(BadHello::Malformed)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A ClientHello message (handshake header included) with these extensions.
    fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, data) in extensions {
            list.extend_from_slice(&kind.to_be_bytes());
            list.extend_from_slice(&u16::try_from(data.len()).expect("short").to_be_bytes());
            list.extend_from_slice(data);
        }
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.push(0);
        body.extend_from_slice(&[0, 2, 0x13, 1, 1, 0]);
        body.extend_from_slice(&u16::try_from(list.len()).expect("short").to_be_bytes());
        body.extend_from_slice(&list);
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        [&[1, length[1], length[2], length[3]], body.as_slice()].concat()
    }

    fn server_name(name: &str) -> (u16, Vec<u8>) {
        let length = u16::try_from(name.len()).expect("short");
        let mut data = (length + 3).to_be_bytes().to_vec();
        data.push(0);
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(name.as_bytes());
        (SERVER_NAME, data)
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for part in message.chunks(size.max(1)) {
            out.extend_from_slice(&[HANDSHAKE, 3, 1]);
            out.extend_from_slice(&u16::try_from(part.len()).expect("short").to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }

    fn read(bytes: &[u8]) -> Result<Option<ClientHello>, BadHello> {
        HelloReader::default().push(bytes)
    }

    #[test]
    fn the_name_is_read_in_any_fragmentation() {
        let message = message(&[(10, vec![0, 2, 0, 29]), server_name("Allowed.Example")]);
        for size in [1, 2, 3, 7, 40, 4096] {
            let bytes = records(&message, size);
            let mut reader = HelloReader::default();
            let mut found = None;
            for byte in &bytes {
                assert_eq!(found, None);
                found = reader.push(&[*byte]).expect("well formed");
            }
            assert_eq!(found.expect("whole").server_name, Some("allowed.example".parse().expect("a name")));
            assert_eq!(reader.into_bytes(), bytes);
        }
    }

    #[test]
    fn what_hides_or_doubles_the_name_is_refused() {
        let hello = |extensions: &[(u16, Vec<u8>)]| read(&records(&message(extensions), 4096));
        assert_eq!(hello(&[]), Ok(Some(ClientHello { server_name: None })));
        assert_eq!(hello(&[server_name("a.com"), (0xfe0d, vec![0])]), Err(BadHello::Hidden));
        assert_eq!(hello(&[server_name("a.com"), (0xffce, vec![0])]), Err(BadHello::Hidden));
        assert_eq!(hello(&[server_name("a.com"), server_name("b.com")]), Err(BadHello::Malformed));
        assert_eq!(hello(&[server_name("a.com\0.b.com")]), Err(BadHello::Malformed));
        assert_eq!(hello(&[server_name("127.0.0.1")]), Err(BadHello::Malformed), "an address is no server name");
        assert_eq!(hello(&[server_name("")]), Err(BadHello::Malformed));
        let (kind, mut two) = server_name("a.com");
        two.extend_from_slice(&[0, 0, 1, b'b']);
        assert_eq!(hello(&[(kind, two)]), Err(BadHello::Malformed));
    }

    #[test]
    fn what_is_not_a_client_hello_is_refused() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Err(BadHello::NotTls));
        assert_eq!(read(b"SSH-2.0-x"), Err(BadHello::NotTls));
        assert_eq!(read(&[0x80, 0x2e, 1, 3, 1]), Err(BadHello::NotTls), "SSL 2");
        assert_eq!(read(&[22, 3, 1, 0, 0]), Err(BadHello::Malformed), "empty record");
        assert_eq!(read(&[22, 3, 1, 0xff, 0xff]), Err(BadHello::Malformed));
        assert_eq!(read(&[22, 3, 1, 0, 4, 2, 0, 0, 0]), Err(BadHello::Malformed), "a ServerHello");
        assert_eq!(read(&[22, 3, 1, 0, 4, 1, 0xff, 0, 0]), Err(BadHello::Malformed), "16 MiB announced");
        let mut coalesced = message(&[server_name("a.com")]);
        coalesced.extend_from_slice(&[1, 0, 0, 0]);
        assert_eq!(read(&records(&coalesced, 4096)), Err(BadHello::Malformed));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), tls in any::<bool>()) {
            if tls && bytes.len() > 9 {
                let length = u8::try_from((bytes.len() - 5).min(255)).expect("small");
                bytes[..9].copy_from_slice(&[22, 3, 1, 0, length, 1, 0, 0, length.saturating_sub(4)]);
            }
            let _ = read(&bytes);
        }
    }
}
