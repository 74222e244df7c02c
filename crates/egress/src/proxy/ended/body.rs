//! Bodies on their way: what goes up is searched for stand-ins, what comes down is freed of secrets.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::scrub::{Patterns, Scrubber};
use super::sentinel::Finder;

/// Why a body was cut off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// A credential's stand-in is in it.
    #[error("a credential's stand-in is in the body")]
    Sentinel,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
}

/// A request's body. It ends with an error at the first stand-in; trailers are left out.
#[derive(Debug)]
pub(super) struct Up {
    inner: Incoming,
    finder: Finder,
    found: Arc<AtomicBool>,
}

impl Up {
    /// `found` is set when a stand-in was found.
    pub(super) fn new(inner: Incoming, found: Arc<AtomicBool>) -> Self {
        Self { inner, finder: Finder::default(), found }
    }
}

impl Body for Up {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else { return Poll::Ready(None) };
            let Ok(data) = frame?.into_data() else { continue };
            if self.finder.push(&data) {
                self.found.store(true, Ordering::Release);
                return Poll::Ready(Some(Err(Cut::Sentinel)));
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body, without secrets; trailers are left out.
#[derive(Debug)]
pub(super) struct Down {
    inner: Incoming,
    scrubber: Option<Scrubber<Arc<Patterns>>>,
    ended: bool,
}

impl Down {
    pub(super) fn new(inner: Incoming, patterns: &Arc<Patterns>) -> Self {
        let scrubber = (!patterns.is_empty()).then(|| Scrubber::new(Arc::clone(patterns)));
        Self { inner, scrubber, ended: false }
    }
}

impl Body for Down {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else {
                self.ended = true;
                let rest = self.scrubber.as_mut().map(Scrubber::finish).unwrap_or_default();
                if rest.is_empty() {
                    return Poll::Ready(None);
                }
                return Poll::Ready(Some(Ok(Frame::data(rest.into()))));
            };
            let Ok(data) = frame?.into_data() else { continue };
            let clean = match self.scrubber.as_mut() {
                Some(scrubber) => scrubber.push(&data).into(),
                None => data,
            };
            if !clean.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(clean))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && self.scrubber.as_ref().is_none_or(|scrubber| !scrubber.holds())
    }

    fn size_hint(&self) -> SizeHint {
        // What is held back is still to come; lengths stay as they were.
        match self.scrubber.as_ref().is_some_and(Scrubber::holds) {
            true => SizeHint::default(),
            false => self.inner.size_hint(),
        }
    }
}
