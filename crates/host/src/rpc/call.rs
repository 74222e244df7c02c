//! One tool call: a stream of pieces with an end, read under a deadline and a cap.

use std::time::Duration;

use sigil_proto::v1::{CallRequest, call_event};

use super::{Client, RpcFailed, within};

/// A result that is longer than this is not read to its end: its size is then not known either.
const MAX_READ: u64 = 64 << 20;

/// What is called.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Names the call in the plugin's logs.
    pub(crate) id: String,
    /// The tool's own name.
    pub(crate) tool: String,
    /// The arguments as JSON text.
    pub(crate) arguments: String,
    /// How long it may take.
    pub(crate) time: Duration,
    /// The most bytes that are kept of the result.
    pub(crate) cap: usize,
}

/// What a tool answered, as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether the tool did what it was asked.
    pub(crate) ok: bool,
    /// The first bytes of the result, at most the cap.
    pub(crate) content: Vec<u8>,
    /// Bytes of the whole result.
    pub(crate) bytes: u64,
    /// What the tool says that the result is.
    pub(crate) media_type: String,
}

impl Client {
    /// Calls a tool. Never repeats anything.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, RpcFailed> {
        let time = call.time;
        within(time, self.call_untimed(call)).await
    }

    async fn call_untimed(&self, call: Call) -> Result<Answer, RpcFailed> {
        let deadline_ms = u32::try_from(call.time.as_millis()).unwrap_or(u32::MAX);
        let request = CallRequest { call_id: call.id, tool: call.tool, arguments_json: call.arguments, deadline_ms };
        let mut stream = self.tools.clone().call(request).await?.into_inner();
        let mut content = Vec::new();
        let mut bytes = 0_u64;
        let mut keep = |piece: &[u8]| {
            bytes = bytes.saturating_add(piece.len() as u64);
            let room = call.cap - content.len();
            content.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
            bytes
        };
        while let Some(event) = stream.message().await? {
            match event.event {
                Some(call_event::Event::Chunk(chunk)) => {
                    if keep(&chunk.content) > MAX_READ {
                        return Err(RpcFailed::Protocol("a result of more than 64 MiB"));
                    }
                }
                Some(call_event::Event::Done(done)) => {
                    keep(&done.content);
                    return Ok(Answer { ok: done.ok, content, bytes, media_type: done.media_type });
                }
                None => return Err(RpcFailed::Protocol("an event that is neither chunk nor end")),
            }
        }
        Err(RpcFailed::Protocol("a result without its end"))
    }
}
