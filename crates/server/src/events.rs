//! Event streams (server-sent events, WHATWG HTML section 9.2).
//!
//! ```text
//! retry: 2000                     once, at the start
//! id: 7 / event: text / data: …   an envelope; `id` is its number
//! : ka                            when nothing happened for a while
//! event: auth.expiring            a minute before the credential ends; the stream ends with it
//! event: gap                      when numbers are missing: {from, to}
//! ```

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::{HeaderName, HeaderValue, header};
use sigil_types::{TurnId, UserId};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::api::Envelope;
use crate::auth;
use crate::limits::Slot;
use crate::operations::{Caller, Numbered};
use crate::routes::App;

/// How long before a credential ends its stream says so.
const WARN_BEFORE: Duration = Duration::from_secs(60);

/// A stream on its way to one client.
struct Feed {
    app: Arc<App>,
    caller: Arc<Caller>,
    turn: TurnId,
    events: BoxStream<'static, Numbered>,
    last: u64,
    begun: bool,
    over: bool,
    pending: Option<Numbered>,
    alive: Interval,
    warn: Option<Instant>,
    end: Option<Instant>,
    closing: watch::Receiver<bool>,
    _slot: Slot<UserId>,
}

/// The answer that carries the events of `turn` after number `after`.
pub(crate) fn answer(
    app: &Arc<App>,
    caller: Arc<Caller>,
    turn: TurnId,
    after: u64,
    events: BoxStream<'static, Numbered>,
    slot: Slot<UserId>,
) -> Response {
    let left = caller.expires.map(|expires| Duration::from_millis(expires.millis_since(app.clock.now())));
    let end = left.map(|left| Instant::now() + left);
    let mut alive =
        tokio::time::interval_at(Instant::now() + app.settings.limits.keep_alive, app.settings.limits.keep_alive);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let feed = Feed {
        app: Arc::clone(app),
        caller,
        turn,
        events,
        last: after,
        begun: false,
        over: false,
        pending: None,
        alive,
        warn: end.map(|end| end.checked_sub(WARN_BEFORE).unwrap_or_else(Instant::now)),
        end,
        closing: app.closing.subscribe(),
        _slot: slot,
    };
    let chunks = stream::unfold(feed, |mut feed| async {
        let chunk = feed.next().await?;
        Some((Ok::<_, Infallible>(chunk), feed))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

enum Happened {
    Event(Numbered),
    Alive,
    Warn,
    Over,
}

impl Feed {
    async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            self.begun = true;
            return Some(Bytes::from_static(b"retry: 2000\n\n"));
        }
        loop {
            if self.over {
                return None;
            }
            if let Some(event) = self.pending.take() {
                return Some(self.write(&event));
            }
            match self.happens().await {
                Happened::Event(event) if event.seq <= self.last => {}
                Happened::Event(event) => {
                    if event.seq > self.last + 1 {
                        let gap = format!(
                            "event: gap\ndata: {{\"v\":1,\"topic\":\"turn\",\"type\":\"gap\",\"data\":{{\"from\":{},\"to\":{}}}}}\n\n",
                            self.last + 1,
                            event.seq - 1
                        );
                        self.pending = Some(event);
                        return Some(gap.into());
                    }
                    return Some(self.write(&event));
                }
                Happened::Alive if auth::still(&self.app, &self.caller).await => {
                    return Some(Bytes::from_static(b": ka\n\n"));
                }
                Happened::Alive | Happened::Over => self.over = true,
                Happened::Warn => {
                    self.warn = None;
                    return Some(Bytes::from_static(b"event: auth.expiring\ndata: {}\n\n"));
                }
            }
        }
    }

    async fn happens(&mut self) -> Happened {
        let at = |moment: Option<Instant>| async move {
            match moment {
                Some(moment) => tokio::time::sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.closing.wait_for(|closing| *closing) => Happened::Over,
            () = at(self.end) => Happened::Over,
            () = at(self.warn) => Happened::Warn,
            event = self.events.next() => event.map_or(Happened::Over, Happened::Event),
            _ = self.alive.tick() => Happened::Alive,
        }
    }

    fn write(&mut self, event: &Numbered) -> Bytes {
        self.last = event.seq;
        self.alive.reset();
        let envelope = Envelope::of(self.turn, event);
        // JSON has no line break outside of strings, and escapes those inside, so one `data:` line holds it.
        let data = serde_json::to_string(&envelope).unwrap_or_default();
        format!("id: {}\nevent: {}\ndata: {data}\n\n", event.seq, envelope.kind).into()
    }
}
