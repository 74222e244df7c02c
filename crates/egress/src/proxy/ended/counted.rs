//! A connection whose bytes are counted against the limits of its [`Meter`], and slowed down to its pace.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::proxy::meter::{Direction, Ending, Meter};

/// The connection to the host. Reading and writing fail once too much has passed; why is told beside.
pub(super) struct Counted {
    stream: TcpStream,
    meter: Arc<Meter>,
    over: Arc<OnceLock<Ending>>,
    up: Pause,
    down: Pause,
}

/// A wait before the next bytes in one direction.
type Pause = Option<Pin<Box<Sleep>>>;

impl Counted {
    pub(super) const fn new(stream: TcpStream, meter: Arc<Meter>, over: Arc<OnceLock<Ending>>) -> Self {
        Self { stream, meter, over, up: None, down: None }
    }

    fn count(&self, direction: Direction, bytes: usize) -> io::Result<Pause> {
        match self.meter.count(direction, bytes) {
            Ok(()) => {
                let wait = self.meter.wait(direction, bytes);
                Ok((!wait.is_zero()).then(|| Box::pin(sleep(wait))))
            }
            Err(ending) => {
                let _ = self.over.set(ending);
                Err(io::ErrorKind::QuotaExceeded.into())
            }
        }
    }
}

fn poll_pause(pause: &mut Pause, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(waiting) = pause {
        ready!(waiting.as_mut().poll(cx));
        *pause = None;
    }
    Poll::Ready(())
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(poll_pause(&mut self.down, cx));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.down = self.count(Direction::Down, buffer.filled().len() - before)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(poll_pause(&mut self.up, cx));
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.up = self.count(Direction::Up, written)?;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
