//! The client of the gateway's Unix socket: HTTP/1.1, one connection a request. The kernel tells the gateway who asks.

use std::path::{Path, PathBuf};

use eventsource_stream::{Event, Eventsource};
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use sigil_server::Problem;
use sigil_types::Code;
use tokio::net::UnixStream;

use super::complaint::Complaint;
use super::exit::Exit;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// A client of one gateway.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the gateway that listens on `socket`.
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for `path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Complaint> {
        decode(self.send(Method::GET, path, None, &[]).await?).await
    }

    /// Sends `body` to `path`.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
        headers: &[(&'static str, &str)],
    ) -> Result<T, Complaint> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        decode(self.send(Method::POST, path, Some(body), headers).await?).await
    }

    /// The events of the stream at `path` after number `after`.
    pub(crate) async fn events(
        &self,
        path: &str,
        after: u64,
    ) -> Result<impl Stream<Item = Result<Event, String>> + Unpin + Send + use<>, Complaint> {
        let after = after.to_string();
        let response = self.send(Method::GET, path, None, &[("last-event-id", &after)]).await?;
        let events = response.into_body().into_data_stream().eventsource();
        Ok(events.map(|event| event.map_err(|error| error.to_string())).boxed())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&'static str, &str)],
    ) -> Result<Response<Incoming>, Complaint> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.down(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|error| self.broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = collect(response).await?;
        Err(serde_json::from_slice::<Problem>(&bytes).map_or_else(|_| strange(status), Complaint::from))
    }

    fn down(&self, error: &std::io::Error) -> Complaint {
        let code = Code::new("cli.gateway.unreachable");
        let down = Complaint::new(code, "the gateway does not answer").exit(Exit::GatewayDown);
        let socket = self.socket.display();
        match error.kind() {
            // Sockets are removed by those who stop in order.
            std::io::ErrorKind::ConnectionRefused => down
                .why(format!("nobody listens on {socket} any more: the gateway was killed, or it crashed"))
                .fix("run it again; what was accepted is kept, and goes on", Some("sigil start")),
            std::io::ErrorKind::NotFound => down
                .why(format!("there is no {socket}: it does not run, or runs with another data folder"))
                .fix("run it; `sigil init` first where nothing is set up", Some("sigil start")),
            _ => down.why(format!("{socket}: {error}")).fix("look at who may use the socket", None),
        }
    }

    fn broken(&self, error: &dyn std::error::Error) -> Complaint {
        Complaint::new(Code::new("cli.gateway.connection.lost"), "the connection to the gateway broke off")
            .exit(Exit::GatewayDown)
            .why(format!("{}: {error}", self.socket.display()))
    }
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, Complaint> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| {
        let code = Code::new("cli.gateway.connection.lost");
        Complaint::new(code, "the gateway's answer ended early").exit(Exit::GatewayDown).why(error)
    })
}

async fn decode<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Complaint> {
    let bytes = collect(response).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let code = Code::new("cli.gateway.answer.unknown");
        Complaint::new(code, "the gateway's answer has a form that this program does not know")
            .why(error)
            .fix("use the same version of both", Some("sigil version"))
    })
}

fn strange(status: StatusCode) -> Complaint {
    Complaint::new(Code::new("cli.gateway.answer.unknown"), format!("the gateway answered {status} without a reason"))
}

/// A runtime of this thread alone.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Complaint> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Complaint::new(Code::new("cli.runtime.start.failed"), format!("cannot start the runtime: {error}"))
    })
}
