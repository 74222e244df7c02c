//! A CONNECT tunnel: nothing reaches the server before the ClientHello has named it.

use sigil_types::Host;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::hello::{BadHello, ClientHello, HelloReader};
use super::meter::{Direction, Ending, Meter};
use crate::Refused;

/// Runs a tunnel to its end. `established` tells the plugin that it stands; `named` is the host that the ClientHello must name; `None` for opaque bytes.
pub(super) async fn run(
    client: &mut TcpStream,
    mut server: TcpStream,
    established: &[u8],
    early: Vec<u8>,
    named: Option<&Host>,
    meter: &Meter,
) -> Result<Ending, (Refused, bool)> {
    if client.write_all(established).await.is_err() {
        return Ok(Ending::Broken);
    }
    let first = match named {
        None => early,
        Some(host) => match timeout(meter.limits().hello, hello(client, early, host)).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Ok(Ending::Done),
            // HTTP is over on this connection: it can only be closed.
            Ok(Err(refused)) => return Err((refused, false)),
            Err(_) => return Err((Refused::Slow, false)),
        },
    };
    if let Err(ending) = meter.count(Direction::Up, first.len()) {
        return Ok(ending);
    }
    if server.write_all(&first).await.is_err() {
        return Ok(Ending::Broken);
    }
    drop(first);
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        meter.pass(Direction::Up, &mut from_client, &mut to_server, u64::MAX).await?;
        to_server.shutdown().await.map_err(|_| Ending::Broken)
    };
    let down = async {
        meter.pass(Direction::Down, &mut from_server, &mut to_client, u64::MAX).await?;
        to_client.shutdown().await.map_err(|_| Ending::Broken)
    };
    tokio::select! {
        both = async { tokio::try_join!(up, down) } => Ok(both.err().unwrap_or(Ending::Done)),
        ending = meter.watch() => Ok(ending),
    }
}

/// Reads the ClientHello and compares its name. Returns all bytes read; `None` when the plugin closed without any.
async fn hello(client: &mut TcpStream, early: Vec<u8>, host: &Host) -> Result<Option<Vec<u8>>, Refused> {
    let mut reader = HelloReader::default();
    let mut found = reader.push(&early)?;
    let mut empty = early.is_empty();
    let mut buffer = vec![0_u8; 4096];
    loop {
        if let Some(ClientHello { server_name }) = found {
            return match (host, server_name) {
                (Host::Name(host), Some(name)) if name == *host => Ok(Some(reader.into_bytes())),
                (Host::Name(_), None) => Err(Refused::NoServerName),
                // An address is never sent as a server name (RFC 6066, 3), so another name is meant.
                (Host::Address(_), None) => Ok(Some(reader.into_bytes())),
                (_, Some(_)) => Err(Refused::OtherServerName),
            };
        }
        let count = client.read(&mut buffer).await.map_err(|_| BadHello::Malformed)?;
        match buffer.get(..count) {
            Some([]) | None if empty => return Ok(None),
            Some([]) | None => return Err(BadHello::Malformed.into()),
            Some(bytes) => found = reader.push(bytes)?,
        }
        empty = false;
    }
}
