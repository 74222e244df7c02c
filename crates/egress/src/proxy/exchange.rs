//! One plain HTTP request and its answer, each written anew; then the connection is over.

use sigil_types::HostPort;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::meter::{Direction, Ending, Meter};
use super::request::Plain;
use crate::Refused;

const MAX_ANSWER_HEAD: usize = 64 * 1024;
const MAX_ANSWER_FIELDS: usize = 256;
const MAX_INTERIM: usize = 8;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Sends the request to `server`, and its answer to `client`.
pub(super) async fn run(
    client: &mut TcpStream,
    mut server: TcpStream,
    early: Vec<u8>,
    plain: &Plain,
    target: &HostPort,
    meter: &Meter,
) -> Result<Ending, (Refused, bool)> {
    tokio::select! {
        outcome = exchange(client, &mut server, early, plain, target, meter) => outcome,
        ending = meter.watch() => Ok(ending),
    }
}

async fn exchange(
    client: &mut TcpStream,
    server: &mut TcpStream,
    early: Vec<u8>,
    plain: &Plain,
    target: &HostPort,
    meter: &Meter,
) -> Result<Ending, (Refused, bool)> {
    let answer = match ask(client, server, early, plain, target, meter).await {
        Ok(answer) => answer,
        Err(Failed::Ended(ending)) => return Ok(ending),
        Err(Failed::Refused(refused)) => return Err((refused, true)),
    };
    // From here on the answer has begun, and can only be cut off.
    let mut pass = async || -> Result<(), Ending> {
        let (head, body) = (answer.head.as_slice(), answer.body.as_slice());
        meter.count(Direction::Down, head.len() + body.len())?;
        client.write_all(head).await.map_err(|_| Ending::Broken)?;
        client.write_all(body).await.map_err(|_| Ending::Broken)?;
        meter.pass(Direction::Down, server, client, answer.remaining).await?;
        client.shutdown().await.map_err(|_| Ending::Broken)
    };
    Ok(pass().await.err().unwrap_or(Ending::Done))
}

enum Failed {
    Ended(Ending),
    Refused(Refused),
}

impl From<Ending> for Failed {
    fn from(ending: Ending) -> Self {
        Self::Ended(ending)
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Sends the request, and reads the head of its answer.
async fn ask(
    client: &mut TcpStream,
    server: &mut TcpStream,
    early: Vec<u8>,
    plain: &Plain,
    target: &HostPort,
    meter: &Meter,
) -> Result<Answer, Failed> {
    let head = plain.head(target);
    meter.count(Direction::Up, head.len() + early.len())?;
    server.write_all(&head).await.map_err(|_| Refused::Unreachable)?;
    server.write_all(&early).await.map_err(|_| Refused::Unreachable)?;
    let remaining = plain.body_length.saturating_sub(u64::try_from(early.len()).unwrap_or(u64::MAX));
    if remaining > 0 {
        if plain.expects_continue {
            client.write_all(CONTINUE).await.map_err(|_| Ending::Broken)?;
        }
        let before = meter.up();
        match meter.pass(Direction::Up, client, server, remaining).await {
            Ok(()) if meter.up() - before < remaining => return Err(Ending::Broken.into()),
            Err(Ending::Size) => return Err(Ending::Size.into()),
            // A server may answer and close before it has read the whole body.
            Ok(()) | Err(_) => {}
        }
    }
    read_answer(server, plain.method).await.map_err(Failed::from)
}

/// The head of an answer, written anew; the bytes of its body that came with it; and how many may follow.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    head: Vec<u8>,
    body: Vec<u8>,
    remaining: u64,
}

async fn read_answer(server: &mut TcpStream, method: &str) -> Result<Answer, Refused> {
    let mut bytes = Vec::with_capacity(4096);
    let mut interim = 0;
    loop {
        match parse(&bytes, method)? {
            Parsed::Final(answer) => return Ok(answer),
            Parsed::Interim(length) => {
                interim += 1;
                if interim > MAX_INTERIM {
                    return Err(Refused::Answer);
                }
                bytes.drain(..length);
                continue;
            }
            Parsed::Partial if bytes.len() > MAX_ANSWER_HEAD => return Err(Refused::Answer),
            Parsed::Partial => {}
        }
        match server.read_buf(&mut bytes).await {
            Ok(count) if count > 0 => {}
            _ => return Err(Refused::Answer),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Partial,
    /// A 1xx answer of this many bytes, which is not passed on.
    Interim(usize),
    Final(Answer),
}

fn parse(bytes: &[u8], method: &str) -> Result<Parsed, Refused> {
    let mut storage = vec![httparse::EMPTY_HEADER; MAX_ANSWER_FIELDS];
    let mut parsed = httparse::Response::new(&mut storage);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
        Err(_) => return Err(Refused::Answer),
    };
    let status = parsed.code.ok_or(Refused::Answer)?;
    match status {
        // 101: nobody asked for another protocol.
        0..=99 | 101 | 600.. => return Err(Refused::Answer),
        100..=199 => return Ok(Parsed::Interim(length)),
        _ => {}
    }
    let mut head = format!("HTTP/1.1 {status} \r\nConnection: close\r\n").into_bytes();
    let (mut content_length, mut chunked) = (None, false);
    for field in parsed.headers.iter() {
        let name = field.name.to_ascii_lowercase();
        match name.as_str() {
            "connection" | "keep-alive" | "proxy-connection" | "proxy-authenticate" | "trailer" | "upgrade" => continue,
            "content-length" => {
                let value = std::str::from_utf8(field.value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
                let value: u64 = value.and_then(|v| v.parse().ok()).ok_or(Refused::Answer)?;
                if content_length.replace(value).is_some() {
                    return Err(Refused::Answer);
                }
            }
            "transfer-encoding" if field.value.eq_ignore_ascii_case(b"chunked") && !chunked => chunked = true,
            "transfer-encoding" => return Err(Refused::Answer),
            _ => {}
        }
        head.extend_from_slice(field.name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(field.value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    if chunked && content_length.is_some() {
        return Err(Refused::Answer);
    }
    let most = match (method, status) {
        ("HEAD", _) | (_, 204 | 304) => 0,
        // Chunks are passed as they are; the server was asked to close after them.
        _ => content_length.unwrap_or(u64::MAX),
    };
    let mut body = bytes.get(length..).unwrap_or_default().to_vec();
    body.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    let remaining = most.saturating_sub(u64::try_from(body.len()).unwrap_or(u64::MAX));
    Ok(Parsed::Final(Answer { head, body, remaining }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(text: &str) -> Result<Parsed, Refused> {
        parse(text.as_bytes(), "GET")
    }

    #[test]
    fn an_answer_is_written_anew() {
        let parsed = answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nKeep-Alive: 5\r\nX-A: b\r\n\r\nabcdef");
        let head = b"HTTP/1.1 200 \r\nConnection: close\r\nContent-Length: 3\r\nX-A: b\r\n\r\n".to_vec();
        assert_eq!(parsed, Ok(Parsed::Final(Answer { head, body: b"abc".to_vec(), remaining: 0 })));
        let Ok(Parsed::Final(open)) = answer("HTTP/1.0 200 OK\r\n\r\nx") else { panic!("whole") };
        assert_eq!(open.remaining, u64::MAX - 1);
        assert!(matches!(answer("HTTP/1.1 100 Continue\r\n\r\n"), Ok(Parsed::Interim(25))));
        assert_eq!(answer("HTTP/1.1 200 OK\r\n"), Ok(Parsed::Partial));
    }

    #[test]
    fn an_answer_with_two_lengths_is_refused() {
        for bad in [
            "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "220 smtp.example\r\n",
        ] {
            assert_eq!(answer(bad), Err(Refused::Answer), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, "GET");
        }
    }
}
