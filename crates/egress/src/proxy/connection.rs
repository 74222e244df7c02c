//! One connection of a plugin, from its first byte to its last.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sigil_types::HostPort;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ended::{self, Here, NotForwarded, Start};
use super::meter::Meter;
use super::opening::{self, Opening, Speech};
use super::request::{BadRequest, Kind};
use super::{Instance, Proxy, exchange, record, tunnel};
use crate::Refused;
use crate::resolve::Checked;
use crate::rules::{Identity, Way};

/// What was asked for, for the owner's log.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) target: HostPort,
    pub(super) way: Way,
}

/// One accepted connection of a plugin.
pub(super) struct Connection {
    proxy: Proxy,
    identity: Arc<Identity>,
    instance: Arc<Instance>,
    stream: TcpStream,
    speech: Speech,
    asked: Option<Asked>,
}

impl Connection {
    pub(super) fn new(proxy: Proxy, instance: Arc<Instance>, stream: TcpStream) -> Self {
        let identity = instance.identity();
        Self { proxy, identity, instance, stream, speech: Speech::Http, asked: None }
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        let outcome = self.serve().await;
        if let Err((refused, answerable)) = outcome {
            self.note(refused);
            if answerable {
                let answer = self.speech.answer(refused);
                let _ = timeout(self.proxy.limits.connect, farewell(&mut self.stream, answer)).await;
            }
        }
    }

    /// Answers that there are too many, without waiting for anything: not even for the byte that tells the protocol.
    pub(super) fn turn_away(self) {
        self.note(Refused::Connections);
        let _ = self.stream.try_write(Refused::Connections.told().bytes());
    }

    fn note(&self, refused: Refused) {
        self.instance.counters.refused.fetch_add(1, Ordering::Relaxed);
        record::refusal(&self.proxy.audit, &self.identity, self.asked.as_ref(), refused);
    }

    /// The road of one connection. With the refusal comes whether an answer can still be sent.
    async fn serve(&mut self) -> Result<(), (Refused, bool)> {
        let refuse = |refused| (refused, true);
        let opening = timeout(self.proxy.limits.request, opening::read(&mut self.stream, &mut self.speech)).await;
        let Some(Opening { request, way, after }) = opening.unwrap_or(Err(Refused::Slow)).map_err(refuse)? else {
            return Ok(());
        };
        let asked = Asked { target: request.target.clone(), way };
        self.asked = Some(asked.clone());
        let covered = self.identity.judge(&request.target, way).map_err(refuse)?;
        if let Kind::Plain(plain) = &request.kind
            && u64::try_from(after.len()).unwrap_or(u64::MAX) > plain.body_length
        {
            return Err(refuse(BadRequest::Trailing.into()));
        }
        let instance = Arc::clone(&self.instance);
        let ended = instance.ended.as_ref().and_then(|ended| Some((ended, ended.rule(&request.target.host)?)));
        if let Kind::Plain(plain) = &request.kind {
            if ended.is_some() {
                return Err(refuse(Refused::Ended(NotForwarded::Plain)));
            }
            if plain.holds_sentinel() {
                return Err(refuse(Refused::Ended(NotForwarded::SentinelPlace)));
            }
        }
        if !self.instance.ledger.has_any() {
            return Err(refuse(Refused::Allowance));
        }
        let identity = Arc::clone(&self.identity);
        let named = |address| identity.names_locally(address);
        let checked = self.proxy.lookup.check(&request.target, named).await.map_err(refuse)?;
        let meter = Arc::new(Meter::new(&self.proxy, &self.instance));
        let mut open = record::Open::write(&self.proxy.audit, &self.identity, &asked, &checked, Arc::clone(&meter))
            .await
            .map_err(refuse)?;
        let outcome = match dial(&checked, self.proxy.limits.connect).await {
            Err(refused) => Err((refused, true)),
            Ok(server) => match (&request.kind, ended) {
                (Kind::Connect, Some(ended)) => {
                    let here = Here {
                        audit: &self.proxy.audit,
                        identity: &identity,
                        refused: &instance.counters.refused,
                        asked: &asked,
                        roots: &self.proxy.roots,
                    };
                    let start = Start { established: self.speech.established(), early: after };
                    ended::run(&here, ended, (&mut self.stream, server), start, &meter).await
                }
                (Kind::Connect, None) => {
                    let allowed = (!covered.opaque).then_some(&request.target.host);
                    tunnel::run(&mut self.stream, server, self.speech.established(), after, allowed, &meter).await
                }
                (Kind::Plain(plain), _) => {
                    exchange::run(&mut self.stream, server, after, plain, &request.target, &meter).await
                }
            },
        };
        self.instance.counters.up.fetch_add(meter.up(), Ordering::Relaxed);
        self.instance.counters.down.fetch_add(meter.down(), Ordering::Relaxed);
        match outcome {
            Ok(ending) => {
                open.end(ending.as_str());
                Ok(())
            }
            Err((refused, answerable)) => {
                open.end("refused");
                Err((refused, answerable))
            }
        }
    }
}

/// Connects to a checked address, in order, each within `limit`.
async fn dial(checked: &Checked, limit: Duration) -> Result<TcpStream, Refused> {
    for address in checked.iter() {
        if let Ok(Ok(stream)) = timeout(limit, crate::connect(address)).await {
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
    }
    Err(Refused::Unreachable)
}

/// Sends a last answer, and reads a little of what is still coming, so that closing does not destroy the answer.
async fn farewell(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(256 * 1024);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(drop)
}
