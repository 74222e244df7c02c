//! [`Meter`]: counts the bytes of one connection, and tells when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sigil_policy::NetworkLimits;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use super::{Instance, Proxy, ProxyLimits};

/// Passed on at once. Larger ones gain little on loopback; a slow instance gets smaller ones, so that it never waits long.
const CHUNK: u64 = 64 * 1024;

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
    /// The instance's bytes for the day are used up.
    Day,
}

impl Ending {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Total => "total",
            Self::Size => "size",
            Self::Day => "day",
        }
    }
}

/// From the plugin, or to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Byte counts of one connection, held against its limits and its instance's.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Arc<ProxyLimits>,
    instance: Arc<Instance>,
    up: AtomicU64,
    down: AtomicU64,
}

impl Meter {
    pub(super) fn new(proxy: &Proxy, instance: &Arc<Instance>) -> Self {
        let (limits, instance) = (Arc::clone(&proxy.limits), Arc::clone(instance));
        Self { limits, instance, up: AtomicU64::new(0), down: AtomicU64::new(0) }
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

    fn caps(&self) -> &NetworkLimits {
        &self.instance.limits
    }

    /// Counts `bytes` before they are passed on.
    pub(crate) fn count(&self, direction: Direction, bytes: usize) -> Result<(), Ending> {
        let (counter, limit) = match direction {
            Direction::Up => (&self.up, self.caps().up_bytes),
            Direction::Down => (&self.down, self.caps().down_bytes),
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let before = counter.load(Ordering::Relaxed);
        if before.saturating_add(bytes) > limit {
            return Err(Ending::Size);
        }
        if !self.instance.ledger.take(direction, bytes) {
            return Err(Ending::Day);
        }
        counter.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// How long to wait after `bytes` were passed, so that the instance keeps its pace.
    pub(crate) fn wait(&self, direction: Direction, bytes: usize) -> Duration {
        self.instance.ledger.wait(direction, u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    /// Passes bytes on until `from` ends or `most` bytes were passed.
    pub(crate) async fn pass(
        &self,
        direction: Direction,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        most: u64,
    ) -> Result<(), Ending> {
        let chunk = self.caps().bytes_per_second.clamp(1024, CHUNK);
        let mut buffer = vec![0_u8; usize::try_from(chunk).unwrap_or(1024)];
        let mut from = from.take(most);
        loop {
            let count = from.read(&mut buffer).await.map_err(|_| Ending::Broken)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            self.count(direction, count)?;
            to.write_all(bytes).await.map_err(|_| Ending::Broken)?;
            let wait = self.wait(direction, count);
            if !wait.is_zero() {
                sleep(wait).await;
            }
        }
    }

    /// Ends when the connection has been idle, or open, for too long. Idleness is noticed after one to two of its limits.
    pub(crate) async fn watch(&self) -> Ending {
        let idle = async {
            let mut last = (self.up(), self.down());
            loop {
                sleep(self.caps().idle).await;
                let now = (self.up(), self.down());
                if now == last {
                    return;
                }
                last = now;
            }
        };
        tokio::select! {
            () = idle => Ending::Idle,
            () = sleep(self.caps().total) => Ending::Total,
        }
    }
}
