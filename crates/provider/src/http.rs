//! [`HttpProvider`]: a provider at the other end of a network.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use sigil_egress::{HttpClient, HttpRequest, HttpResponse, RequestFailed};
use sigil_gate::port::{BoxFuture, ModelEvent, Pass, PortFailed, Provider};
use sigil_gate::{Cleared, ProviderBody, ToProvider};
use sigil_policy::Endpoint;
use sigil_types::{Host, Origin, ProviderName, Secret, Untrusted};
use tokio::time::{Instant, timeout, timeout_at};

use crate::base_url::BaseUrl;
use crate::failed::{Cause, ChatFailed, MAX_SAID, said};
use crate::wire::{AnswerReader, Ask, Wire};

/// The version of the Anthropic API that is spoken.
const ANTHROPIC_VERSION: &str = "2023-06-01";
/// How long the rest of a finished answer is waited for, so that its connection can be used again.
const DRAIN: Duration = Duration::from_secs(1);
const MAX_DRAIN: usize = 64 * 1024;

/// A stream of a model's events, as the port wants it.
pub(crate) type Events = BoxStream<'static, Result<Untrusted<ModelEvent>, PortFailed>>;

/// What a provider over HTTP needs to know.
#[derive(Debug, Clone)]
pub struct HttpProviderSettings {
    /// Its name in configuration, policy and labels.
    pub name: ProviderName,
    /// What it speaks.
    pub wire: Wire,
    /// Where.
    pub base_url: BaseUrl,
    /// Its key; none is sent when there is none.
    pub key: Option<Secret<String>>,
    /// From the request to the first event of the answer.
    pub first_event: Duration,
    /// Without a byte of the answer.
    pub idle: Duration,
}

impl Wire {
    /// The OpenAI form as the server at `endpoint` wants it.
    #[must_use]
    pub fn openai_at(endpoint: &Endpoint) -> Self {
        let own = matches!(&endpoint.at.host, Host::Name(name) if name.as_str() == "api.openai.com");
        Self::OpenAi { completion_tokens: own }
    }
}

/// A provider that is asked over HTTP, through egress.
pub struct HttpProvider {
    settings: HttpProviderSettings,
    client: HttpClient,
}

impl fmt::Debug for HttpProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProvider").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Provider for HttpProvider {
    fn name(&self) -> &ProviderName {
        &self.settings.name
    }

    fn chat(&self, prompt: Cleared<ToProvider>, _pass: Pass) -> BoxFuture<'_, Result<Events, PortFailed>> {
        Box::pin(async move {
            let failed = |failed: ChatFailed| failed.into_port(&self.settings.name, true);
            match prompt.into_body() {
                ProviderBody::Prompt(prompt) if prompt.provider == self.settings.name => {
                    self.ask(&Ask::from(&prompt)).await.map_err(failed)
                }
                _ => Err(failed(ChatFailed::Prompt)),
            }
        })
    }
}

impl HttpProvider {
    /// The provider that `settings` describe, over `client`.
    #[must_use]
    pub const fn new(client: HttpClient, settings: HttpProviderSettings) -> Self {
        Self { settings, client }
    }

    /// Asks, and waits for the first event: until then another provider may be asked instead.
    async fn ask(&self, ask: &Ask<'_>) -> Result<Events, ChatFailed> {
        let settings = &self.settings;
        let slow = || ChatFailed::Slow { within: settings.first_event };
        let deadline = Instant::now() + settings.first_event;
        let request = self.request(ask)?;
        let response = timeout_at(deadline, self.client.send(request)).await.map_err(|_| slow())??;
        let response = timeout_at(deadline, accepted(response)).await.map_err(|_| slow())??;
        let mut answer = Answer {
            response: Some(response),
            reader: AnswerReader::new(settings.wire),
            ready: VecDeque::new(),
            failed: None,
            name: settings.name.clone(),
            idle: settings.idle,
        };
        timeout_at(deadline, answer.fill()).await.map_err(|_| slow())??;
        Ok(stream::unfold(answer, Answer::next).boxed())
    }

    fn request(&self, ask: &Ask<'_>) -> Result<HttpRequest, ChatFailed> {
        let settings = &self.settings;
        let body = settings.wire.encode(ask)?;
        let bad = |bad| ChatFailed::from(RequestFailed::Request(bad));
        let endpoint = settings.base_url.endpoint().clone();
        let path = settings.base_url.path(settings.wire.resource());
        let mut request = HttpRequest::post_json(endpoint, &path, body)
            .and_then(|request| request.header("accept", "text/event-stream"))
            .map_err(bad)?;
        if settings.wire == Wire::Anthropic {
            request = request.header("anthropic-version", ANTHROPIC_VERSION).map_err(bad)?;
        }
        match (&settings.key, settings.wire) {
            (None, _) => Ok(request),
            (Some(key), Wire::Anthropic) => request.secret_header("x-api-key", "", key).map_err(bad),
            (Some(key), Wire::OpenAi { .. }) => request.secret_header("authorization", "Bearer ", key).map_err(bad),
        }
    }
}

/// Lets an answer through that is a stream; reads of any other what it says.
async fn accepted(response: HttpResponse) -> Result<HttpResponse, ChatFailed> {
    let status = response.status();
    if status == 200 {
        let is_stream = response
            .header("content-type")
            .and_then(|kind| kind.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"));
        return if is_stream { Ok(response) } else { Err(ChatFailed::NotAStream) };
    }
    // That the server refused is known; that its reasons broke off changes nothing.
    let body = response.start(MAX_SAID).await.unwrap_or_default();
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let word = |field: &str| error.get("error").and_then(|e| e.get(field)).and_then(|w| w.as_str()).unwrap_or_default();
    let by_status = Cause::of_status(status);
    let cause = match by_status {
        // The same status stands for a rate and for an empty account, and for any mistake and a long conversation.
        Cause::Rate | Cause::Request => match Cause::of_word(word("code"), Cause::of_word(word("type"), by_status)) {
            finer @ (Cause::Quota | Cause::TooLarge | Cause::NotFound) => finer,
            _ => by_status,
        },
        _ => by_status,
    };
    Err(ChatFailed::Reported { cause, status: Some(status), said: said(&body) })
}

/// An answer that is being read.
struct Answer {
    /// `None` once it is over, one way or the other.
    response: Option<HttpResponse>,
    reader: AnswerReader,
    ready: VecDeque<ModelEvent>,
    /// What is told after the events that came before it.
    failed: Option<ChatFailed>,
    name: ProviderName,
    idle: Duration,
}

impl Answer {
    /// Reads until an event is ready.
    async fn fill(&mut self) -> Result<(), ChatFailed> {
        while self.ready.is_empty() {
            if let Some(failed) = self.failed.take() {
                return Err(failed);
            }
            let Some(response) = self.response.as_mut() else { return Ok(()) };
            let chunk = match timeout(self.idle, response.chunk()).await {
                Ok(chunk) => chunk?,
                Err(_) => return Err(ChatFailed::Slow { within: self.idle }),
            };
            let Some(bytes) = chunk else { return self.reader.finish() };
            let mut events = Vec::new();
            let read = self.reader.push(&bytes, &mut events);
            self.ready.extend(events);
            match read {
                Err(failed) => {
                    self.response = None;
                    self.failed = Some(failed);
                }
                Ok(()) if self.reader.is_ended() => drain(self.response.take()),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    async fn next(mut self) -> Option<(Result<Untrusted<ModelEvent>, PortFailed>, Self)> {
        if let Err(failed) = self.fill().await {
            self.response = None;
            let failed = failed.into_port(&self.name, false);
            return Some((Err(failed), self));
        }
        let event = self.ready.pop_front()?;
        Some((Ok(Untrusted::new(Origin::Model, event)), self))
    }
}

/// Reads the few bytes after the end marker in the background: a connection that was read to its end serves again.
fn drain(response: Option<HttpResponse>) {
    if let Some(response) = response {
        tokio::spawn(async move { timeout(DRAIN, response.start(MAX_DRAIN)).await.map(drop) });
    }
}

#[cfg(test)]
mod tests;
