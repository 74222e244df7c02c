//! A reply that is sent while the model still speaks.
//!
//! Two receipts: one durable before the first byte, one at the end with the hash of what went out; between them one for
//! each redaction. The scanner holds back what may still become a finding, the link filter what may still become a link,
//! so what is sent in pieces is what would have been sent as a whole.

use ring::digest::{Context, SHA256};
use serde_json::json;
use sigil_audit::{Entry, Pending, Receipt};
use sigil_scan::StreamScanner;
use sigil_types::{
    Action, Code, Digest, EventId, Hop as HopWord, Label, Origin, Stage, TurnId, Untrusted, WorkspaceId,
};

use crate::assemble::link_filter;
use crate::body::ChannelBody;
use crate::cleared::Permit;
use crate::door::{Door, Sink};
use crate::gate::log_failed;
use crate::hop::ToChannel;
use crate::links::LinkFilter;
use crate::screen::{Rules, Screening};
use crate::{Cleared, Gate, Refused, Session};

/// The gate's answer to a reply that wants to be streamed.
#[must_use = "a verdict says whether the reply may be sent"]
#[derive(Debug)]
pub enum StreamVerdict {
    /// It may be sent, piece by piece.
    Open(Box<ClearedStream>),
    /// It may not.
    Refused(Box<Refused>),
}

/// What one push came to.
#[derive(Debug)]
pub struct Piece {
    /// The receipt that covers it.
    pub receipt: EventId,
    /// The next piece for the door; absent while everything is held back.
    pub cleared: Option<Cleared<ToChannel>>,
    /// Rules that redacted or flagged something in it.
    pub rules: Vec<Code>,
}

/// Why a stream ends before the model has finished.
#[derive(Debug)]
pub struct Stopped {
    /// Why, as a refusal.
    pub refused: Box<Refused>,
}

/// An open reply.
pub struct ClearedStream {
    gate: Gate,
    sink: Sink,
    rules: Rules,
    generation: u64,
    epoch: u64,
    turn: TurnId,
    open: Receipt,
    label: Label,
    scanner: StreamScanner,
    links: Option<LinkFilter>,
    sent: Context,
    bytes: u64,
    redactions: u64,
    /// The closing entry as far as it is known, and whether it was appended.
    closing: Entry,
    closed: bool,
    workspace: WorkspaceId,
}

impl std::fmt::Debug for ClearedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClearedStream({}, {})", self.turn, self.open.id())
    }
}

impl Gate {
    /// Opens a streamed reply: labels, policy and a durable opening receipt, before the first byte.
    pub async fn clear_stream(&self, session: &Session, door: &Door<ToChannel>, turn: TurnId) -> StreamVerdict {
        let mut case = self.open_case(session, &door.sink, HopWord::ToChannel);
        self.label(&mut case);
        if let Err(refused) = self.rule_stream(&case) {
            return StreamVerdict::Refused(refused);
        }
        let screening = Screening::new(&self.core, &case.rules, session, &door.sink, HopWord::ToChannel);
        let links = link_filter(&screening);
        let closing = self.entry("gate.to_channel.closed", session).turn(turn);
        let workspace = session.context().workspace.clone();
        let entry = self.entry("gate.to_channel.opened", session).turn(turn).data(json!({
            "destination": door.sink.destination.to_string(), "label": case.label,
            "policy": case.rules.now.digest(), "generation": case.generation, "links_filtered": links.is_some(),
        }));
        match self.core.audit.append(entry).await {
            Ok(open) => StreamVerdict::Open(Box::new(ClearedStream {
                gate: self.clone(),
                sink: door.sink.clone(),
                generation: case.generation,
                epoch: session.opened_in(),
                turn,
                open,
                scanner: self.core.scanner.stream(Stage::Output),
                links,
                sent: Context::new(&SHA256),
                bytes: 0,
                redactions: 0,
                label: case.label,
                rules: case.rules,
                closing,
                closed: false,
                workspace,
            })),
            Err(failed) => StreamVerdict::Refused(log_failed(&case, &failed)),
        }
    }
}

impl Drop for ClearedStream {
    /// However a reply ends, the log says what of it went out. Nobody waits for this entry: nothing follows it.
    fn drop(&mut self) {
        if !self.closed {
            drop(self.close(true));
        }
    }
}

impl ClearedStream {
    /// The receipt that was durable before the first byte.
    #[must_use]
    pub const fn receipt(&self) -> EventId {
        self.open.id()
    }

    /// Takes the model's next words and returns what may be sent of them.
    ///
    /// # Errors
    /// When something in it must not go out at all, when the session's label has risen, or when the log cannot be
    /// written. The stream is over then.
    pub async fn push(&mut self, session: &Session, words: Untrusted<String>) -> Result<Piece, Stopped> {
        if session.label() != self.label {
            return Err(self.stop(session, LABEL_ROSE, Vec::new()));
        }
        let released = self.scanner.push(words.inspect());
        let (text, rules) = self.settle(session, &released.text, &released.findings).await?;
        let text = match &mut self.links {
            Some(links) => links.push(&text),
            None => text,
        };
        Ok(self.piece(session, text, rules))
    }

    /// Sends what was held back and closes the reply: the closing receipt is durable before this returns.
    ///
    /// # Errors
    /// As [`ClearedStream::push`].
    pub async fn finish(mut self, session: &Session) -> Result<(Piece, Receipt), Stopped> {
        let scanner = std::mem::replace(&mut self.scanner, self.gate.core.scanner.stream(Stage::Output));
        let released = scanner.finish();
        let (text, rules) = self.settle(session, &released.text, &released.findings).await?;
        let text = match self.links.take() {
            None => text,
            Some(mut links) => {
                let mut out = links.push(&text);
                let (rest, rewritten) = links.finish();
                self.redactions += u64::try_from(rewritten).unwrap_or(u64::MAX);
                out.push_str(&rest);
                out
            }
        };
        let piece = self.piece(session, text, rules);
        match self.close(false).await {
            Ok(receipt) => Ok((piece, receipt)),
            Err(failed) => {
                let case = self.gate.open_case(session, &self.sink, HopWord::ToChannel);
                Err(Stopped { refused: log_failed(&case, &failed) })
            }
        }
    }

    /// Appends the closing entry: how much went out, and the reference to it. A reply that is `cut` was stopped, refused or
    /// given up before its end.
    fn close(&mut self, cut: bool) -> Pending {
        self.closed = true;
        let mut digest = [0; 32];
        digest.copy_from_slice(self.sent.clone().finish().as_ref());
        let mut data = json!({
            "open": self.open.id(), "bytes": self.bytes, "redactions": self.redactions,
            "text": self.gate.core.text_ref(&self.workspace, Digest::from_bytes(digest).as_bytes()),
        });
        if cut && let Some(data) = data.as_object_mut() {
            data.insert("cut".to_owned(), true.into());
        }
        self.gate.core.audit.append(self.closing.clone().data(data))
    }

    /// Applies the table to what the scanner released, with a durable receipt for each piece that loses something.
    async fn settle(
        &mut self,
        session: &Session,
        text: &str,
        findings: &[sigil_scan::Finding],
    ) -> Result<(String, Vec<Code>), Stopped> {
        let mut rules = Vec::new();
        let mut redact = Vec::new();
        for finding in findings {
            match self.rules.action(Stage::Output, Origin::Model, HopWord::ToChannel, finding) {
                Action::Allow => {}
                Action::Flag => rules.push(finding.rule.clone()),
                Action::Redact => {
                    rules.push(finding.rule.clone());
                    redact.push(finding);
                }
                Action::Block => return Err(self.stop(session, STREAM_BLOCKED, vec![finding.rule.clone()])),
            }
        }
        if redact.is_empty() {
            return Ok((text.to_owned(), rules));
        }
        self.redactions += u64::try_from(redact.len()).unwrap_or(u64::MAX);
        let entry = self.gate.entry("gate.to_channel.redacted", session).turn(self.turn).data(json!({
            "open": self.open.id(), "rules": rules, "count": redact.len(),
        }));
        if let Err(failed) = self.gate.core.audit.append(entry).await {
            let case = self.gate.open_case(session, &self.sink, HopWord::ToChannel);
            return Err(Stopped { refused: log_failed(&case, &failed) });
        }
        Ok((sigil_scan::redact(text, redact), rules))
    }

    fn piece(&mut self, session: &Session, text: String, rules: Vec<Code>) -> Piece {
        if text.is_empty() {
            return Piece { receipt: self.open.id(), cleared: None, rules };
        }
        self.sent.update(text.as_bytes());
        self.bytes += u64::try_from(text.len()).unwrap_or(u64::MAX);
        let permit = Permit {
            destination: self.sink.destination.clone(),
            principal: session.context().principal.clone(),
            session: session.id(),
            generation: self.generation,
            epoch: self.epoch,
            deadline: self.gate.core.now().plus_millis(60_000),
        };
        let body = ChannelBody::Delta { turn: self.turn, text };
        let cleared = Cleared::mint(body, permit, self.open, rules.clone());
        Piece { receipt: self.open.id(), cleared: Some(cleared), rules }
    }

    fn stop(&self, session: &Session, code: Code, rules: Vec<Code>) -> Stopped {
        let case = self.gate.open_case(session, &self.sink, HopWord::ToChannel);
        Stopped { refused: self.gate.refuse(&case, code, rules) }
    }
}

const LABEL_ROSE: Code = Code::new("gate.stream.label.rose");
const STREAM_BLOCKED: Code = Code::new("gate.scan.blocked");
