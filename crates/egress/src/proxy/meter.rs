//! [`Meter`]: counts the bytes of one connection, and tells when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use super::ProxyLimits;

/// How a connection that was served came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Both sides had said all.
    Done,
    /// One side broke it off.
    Broken,
    /// No byte for too long.
    Idle,
    /// Open for too long.
    Total,
    /// Too many bytes in one direction.
    Size,
}

impl Ending {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Total => "total",
            Self::Size => "size",
        }
    }
}

/// From the plugin, or to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Byte counts of one connection, held against its limits.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Arc<ProxyLimits>,
    up: AtomicU64,
    down: AtomicU64,
}

impl Meter {
    pub(crate) const fn new(limits: Arc<ProxyLimits>) -> Self {
        Self { limits, up: AtomicU64::new(0), down: AtomicU64::new(0) }
    }

    pub(crate) fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    pub(crate) fn limits(&self) -> &ProxyLimits {
        &self.limits
    }

    /// Counts `bytes` before they are passed on.
    pub(crate) fn count(&self, direction: Direction, bytes: usize) -> Result<(), Ending> {
        let (counter, limit) = match direction {
            Direction::Up => (&self.up, self.limits.up),
            Direction::Down => (&self.down, self.limits.down),
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let before = counter.load(Ordering::Relaxed);
        if before.saturating_add(bytes) > limit {
            return Err(Ending::Size);
        }
        counter.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Passes bytes on until `from` ends or `most` bytes were passed.
    pub(crate) async fn pass(
        &self,
        direction: Direction,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        most: u64,
    ) -> Result<(), Ending> {
        let mut buffer = vec![0_u8; 16 * 1024];
        let mut from = from.take(most);
        loop {
            let count = from.read(&mut buffer).await.map_err(|_| Ending::Broken)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            self.count(direction, count)?;
            to.write_all(bytes).await.map_err(|_| Ending::Broken)?;
        }
    }

    /// Ends when the connection has been idle, or open, for too long. Idleness is noticed after one to two of its limits.
    pub(crate) async fn watch(&self) -> Ending {
        let idle = async {
            let mut last = (self.up(), self.down());
            loop {
                sleep(self.limits.idle).await;
                let now = (self.up(), self.down());
                if now == last {
                    return;
                }
                last = now;
            }
        };
        tokio::select! {
            () = idle => Ending::Idle,
            () = sleep(self.limits.total) => Ending::Total,
        }
    }
}
