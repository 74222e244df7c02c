//! The server's one trait, filled: every request of the API meets the part that answers it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use sigil_agent::{AnswerRefused, Message, SubmitFailed, may_see};
use sigil_audit::Filter;
use sigil_server::{Answer, Caller, Failure, FailureKind, Numbered, Operations, Page, PageRequest, api};
use sigil_store::{SessionFilter, SessionRecord, StoreFailed};
use sigil_types::{
    Action, ApprovalId, Code, EventId, Origin, PluginName, Principal, Role, SessionId, TurnEvent, TurnId, Untrusted,
    WorkspaceId,
};

use super::gateway::{Gateway, Room};
use super::{denials, views};

/// Answers requests with the parts of a running gateway.
#[derive(Clone)]
pub(crate) struct Wired(pub(crate) Arc<Gateway>);

fn store_failed(failed: &StoreFailed) -> Failure {
    let kind = match failed {
        StoreFailed::Absent { .. } => return Failure::not_found("record"),
        StoreFailed::Conflict { .. } | StoreFailed::State { .. } => FailureKind::Conflict,
        StoreFailed::Closed => FailureKind::Unavailable,
        StoreFailed::Database { .. } | StoreFailed::Damaged { .. } => FailureKind::Internal,
    };
    Failure::new(kind, failed.code(), "The store did not do it.", failed.to_string())
        .fix("Look at the disk and the data folder.", Some("sigil doctor"))
}

fn invalid(code: Code, what: &str, why: &str) -> Failure {
    Failure::new(FailureKind::Invalid, code, what, why)
}

impl Wired {
    /// The room in which `caller` may open a session: the one they name, if they are a member of it.
    fn room(&self, caller: &Caller, workspace: Option<&WorkspaceId>) -> Result<&Room, Failure> {
        let rooms = &self.0.rooms;
        let room = match workspace {
            Some(id) => rooms.get(id),
            None => rooms.values().find(|room| room.workspace.has_member(&caller.principal)),
        };
        room.filter(|room| room.workspace.has_member(&caller.principal)).ok_or_else(|| Failure::not_found("workspace"))
    }

    /// The session `id` and its room, if `caller` may see it. A session of others cannot be told from none.
    async fn find(&self, caller: &Caller, id: SessionId) -> Result<(&Room, SessionRecord), Failure> {
        for room in self.0.rooms.values() {
            let found = room.agent.store().session(id).await.map_err(|failed| store_failed(&failed))?;
            if let Some(session) = found
                && room.workspace.has_member(&caller.principal)
                && may_see(&caller.principal, &session)
            {
                return Ok((room, session));
            }
        }
        Err(Failure::not_found("session"))
    }

    async fn find_turn(&self, caller: &Caller, id: TurnId) -> Result<sigil_store::TurnRecord, Failure> {
        for room in self.0.rooms.values() {
            let found = room.agent.store().turn(id).await.map_err(|failed| store_failed(&failed))?;
            if let Some(turn) = found {
                self.find(caller, turn.inbound.session).await?;
                return Ok(turn);
            }
        }
        Err(Failure::not_found("turn"))
    }

    async fn list_sessions(&self, caller: &Caller, page: PageRequest) -> Result<Page<api::Session>, Failure> {
        let before = match page.cursor.as_deref().map(str::parse::<SessionId>) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => {
                let code = Code::new("server.page.cursor.invalid");
                return Err(invalid(
                    code,
                    "This cursor is not one.",
                    "A cursor is the `next_cursor` of the page before.",
                ));
            }
        };
        let limit = page.limit.clamp(1, 500);
        let mut items = Vec::new();
        for room in self.0.rooms.values().filter(|room| room.workspace.has_member(&caller.principal)) {
            let user = (caller.principal.role != Role::Owner).then(|| caller.principal.user.clone());
            let filter = SessionFilter { user, archived: true, before, limit: limit + 1 };
            let found = room.agent.store().sessions(filter).await.map_err(|failed| store_failed(&failed))?;
            items.extend(found.into_iter().map(|session| views::session(session, &room.id)));
        }
        items.sort_by_key(|session| std::cmp::Reverse(session.id));
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|session| session.id.to_string());
        Ok(Page { items, next })
    }

    async fn submit(
        &self,
        caller: &Caller,
        session: SessionId,
        turn: api::NewTurn,
        key: String,
    ) -> Result<api::TurnAccepted, Failure> {
        let (room, record) = self.find(caller, session).await?;
        if record.principal.user != caller.principal.user {
            return Err(Failure::not_found("session"));
        }
        // One person's keys are their own: another's cannot collide with them.
        let key = format!("{}:{key}", caller.principal.user);
        let origin = if caller.principal.role == Role::Owner { Origin::Owner } else { Origin::Member };
        let message = Message {
            session,
            principal: record.principal.clone(),
            key,
            text: Untrusted::new(origin, turn.text.clone()),
            typed: true,
        };
        let started = room.agent.submit(message).await.map_err(|failed| match &failed {
            SubmitFailed::NoSession(_) => Failure::not_found("session"),
            SubmitFailed::TooLarge { .. } => invalid(failed.code(), "The message is too large.", &failed.to_string()),
            SubmitFailed::Stopping => {
                Failure::new(FailureKind::Unavailable, failed.code(), "Sigil is stopping.", failed.to_string())
            }
            SubmitFailed::Store(store) => store_failed(store),
        })?;
        if !started.fresh {
            let first = self.find_turn(caller, started.turn).await?;
            if first.inbound.session != session || *first.inbound.content.inspect() != turn.text {
                return Err(Failure::idempotency_reused());
            }
        }
        Ok(api::TurnAccepted { turn: started.turn, session, fresh: started.fresh })
    }

    /// The events of a turn that this process does not remember: its words and its end, as the store has them.
    async fn past_events(&self, turn: sigil_store::TurnRecord, after: u64) -> Vec<Numbered> {
        let (id, session, at) = (turn.inbound.turn, turn.inbound.session, turn.changed);
        let mut events = vec![TurnEvent::Accepted { turn: id, session }];
        let mut message = None;
        for room in self.0.rooms.values() {
            // Where a turn did not complete, Sigil's own words about it are the reply: told now as they were then.
            if let Ok(Some(reply)) = room.agent.store().reply(id).await
                && *reply.content.origin() == Origin::System
            {
                message = Some(reply.content.into_inner());
            }
            let Ok(messages) = room.agent.store().window(session, 1024).await else { continue };
            events.extend(messages.into_iter().filter(|message| message.turn == Some(id)).filter_map(views::said));
        }
        if let Some(outcome) = turn.outcome {
            events.push(TurnEvent::Finished { outcome, code: turn.code, message });
        }
        let mut numbered: Vec<Numbered> =
            events.into_iter().zip(1..).map(|(event, seq)| Numbered { seq, at, event }).collect();
        // Whoever counts further than this watched an earlier process, which told more: the end is news to them all the
        // same, and a stream without it would be asked for again and again.
        if let Some(last) = numbered.last_mut()
            && matches!(last.event, TurnEvent::Finished { .. })
        {
            last.seq = last.seq.max(after.saturating_add(1));
        }
        numbered.retain(|numbered| numbered.seq > after);
        numbered
    }
}

impl Operations for Wired {
    fn ready(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(self.0.is_ready()))
    }

    fn status<'a>(&'a self, _: &'a Caller) -> Answer<'a, api::Status> {
        Box::pin(async { Ok(self.0.status()) })
    }

    fn metrics<'a>(&'a self, _: &'a Caller) -> Answer<'a, String> {
        Box::pin(async { Ok(self.0.metrics()) })
    }

    fn sessions<'a>(&'a self, caller: &'a Caller, page: PageRequest) -> Answer<'a, Page<api::Session>> {
        Box::pin(self.list_sessions(caller, page))
    }

    fn create_session<'a>(&'a self, caller: &'a Caller, new: api::NewSession) -> Answer<'a, api::Session> {
        Box::pin(async move {
            let room = self.room(caller, new.workspace.as_ref())?;
            let channel = self.0.channel.clone();
            let opened = room.agent.open_session(caller.principal.clone(), channel).await;
            opened.map(|session| views::session(session, &room.id)).map_err(|failed| store_failed(&failed))
        })
    }

    fn session<'a>(&'a self, caller: &'a Caller, id: SessionId) -> Answer<'a, api::Session> {
        Box::pin(async move {
            let (room, session) = self.find(caller, id).await?;
            Ok(views::session(session, &room.id))
        })
    }

    fn messages<'a>(&'a self, caller: &'a Caller, id: SessionId, page: PageRequest) -> Answer<'a, Page<api::Message>> {
        Box::pin(async move {
            let (room, _) = self.find(caller, id).await?;
            let after = page.cursor.as_deref().and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
            let limit = page.limit.clamp(1, 500);
            let found = room.agent.store().messages(id, after, limit + 1).await;
            let mut items: Vec<api::Message> =
                found.map_err(|failed| store_failed(&failed))?.into_iter().map(views::message).collect();
            let more = items.len() > limit;
            items.truncate(limit);
            let next = items.last().filter(|_| more).map(|message| message.seq.to_string());
            Ok(Page { items, next })
        })
    }

    fn start_turn<'a>(
        &'a self,
        caller: &'a Caller,
        session: SessionId,
        turn: api::NewTurn,
        key: String,
    ) -> Answer<'a, api::TurnAccepted> {
        Box::pin(self.submit(caller, session, turn, key))
    }

    fn turn<'a>(&'a self, caller: &'a Caller, id: TurnId) -> Answer<'a, api::Turn> {
        Box::pin(async move { Ok(views::turn(self.find_turn(caller, id).await?)) })
    }

    fn events<'a>(&'a self, caller: &'a Caller, id: TurnId, after: u64) -> Answer<'a, BoxStream<'static, Numbered>> {
        Box::pin(async move {
            let record = self.find_turn(caller, id).await?;
            // The hub counts from zero, the API from one: event number `after` of the API is the hub's `after - 1`.
            let since = usize::try_from(after).unwrap_or(usize::MAX);
            let Some(watcher) = self.0.hub.watch(id, since) else {
                let past = self.past_events(record, after).await;
                return Ok(futures_util::stream::iter(past).boxed());
            };
            let events = unfold(watcher, |mut watcher| async move {
                let (number, at, event) = watcher.next().await?;
                let seq = u64::try_from(number).unwrap_or(u64::MAX).saturating_add(1);
                Some((Numbered { seq, at, event }, watcher))
            });
            Ok(events.boxed())
        })
    }

    fn approvals<'a>(&'a self, caller: &'a Caller, resolved: bool) -> Answer<'a, Vec<api::Approval>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for room in self.0.rooms.values().filter(|room| room.workspace.has_member(&caller.principal)) {
                let found =
                    room.agent.store().approvals(!resolved, 500).await.map_err(|failed| store_failed(&failed))?;
                all.extend(found.into_iter().filter_map(views::approval));
            }
            all.sort_by_key(|approval| approval.asked);
            Ok(all)
        })
    }

    fn decide<'a>(&'a self, caller: &'a Caller, id: ApprovalId, decision: api::Decision) -> Answer<'a, api::Approval> {
        Box::pin(async move {
            let by = caller.principal.clone();
            self.0.approvals.answer(id, decision.plan, decision.approve, by).map_err(|refused| match refused {
                AnswerRefused::Unknown(_) => Failure::not_found("open question"),
                AnswerRefused::Changed => {
                    Failure::new(FailureKind::Conflict, refused.code(), "The plan has changed.", refused.to_string())
                        .fix("Look at it again, then decide.", Some("sigil approvals"))
                }
                AnswerRefused::NotOwner(_) => {
                    Failure::new(FailureKind::Denied, refused.code(), "Only an owner decides.", refused.to_string())
                }
            })?;
            for room in self.0.rooms.values() {
                let found = room.agent.store().approval(id).await.map_err(|failed| store_failed(&failed))?;
                if let Some(mut approval) = found.and_then(views::approval) {
                    // The turn writes the answer down as it goes on; what was just decided is said here already.
                    approval.state =
                        if decision.approve { api::ApprovalState::Approved } else { api::ApprovalState::Denied };
                    approval.by = Some(caller.principal.user.clone());
                    return Ok(approval);
                }
            }
            Err(Failure::not_found("question"))
        })
    }

    fn audit_events<'a>(&'a self, _: &'a Caller, query: api::AuditQuery) -> Answer<'a, Page<api::AuditEvent>> {
        Box::pin(async move {
            let limit = query.limit.unwrap_or(50).clamp(1, 500);
            let cursor = query.cursor.as_deref().and_then(|cursor| cursor.parse::<u64>().ok());
            let filter = Filter {
                kind: query.kind,
                turn: query.turn,
                session: query.session,
                since: query.since.unwrap_or(0).max(if query.oldest_first { cursor.unwrap_or(0) } else { 0 }),
                before: if query.oldest_first { None } else { cursor },
                limit: limit + 1,
                oldest_first: query.oldest_first,
            };
            let found = self.0.audit.query(&filter).map_err(|failed| {
                Failure::new(FailureKind::Internal, failed.code(), "The audit log cannot be read.", failed.to_string())
                    .fix("Check it.", Some("sigil audit verify"))
            })?;
            let mut items: Vec<api::AuditEvent> = found.into_iter().map(views::audit_event).collect();
            let more = items.len() > limit;
            items.truncate(limit);
            let next = items.last().filter(|_| more).map(|event| {
                let at = if query.oldest_first { event.seq.saturating_add(1) } else { event.seq };
                at.to_string()
            });
            Ok(Page { items, next })
        })
    }

    fn audit_checkpoint<'a>(&'a self, _: &'a Caller) -> Answer<'a, String> {
        Box::pin(async {
            let audit = self.0.audit.clone();
            // Signing asks the launcher, which answers in its own time: not on a thread of the runtime's.
            let signed = tokio::task::spawn_blocking(move || audit.sign_head()).await;
            match signed {
                Ok(Ok(head)) => Ok(head.note().to_owned()),
                Ok(Err(failed)) => Err(Failure::new(
                    FailureKind::Unavailable,
                    failed.code(),
                    "The head was not signed.",
                    failed.to_string(),
                )),
                Err(_) => Err(Failure::new(
                    FailureKind::Unavailable,
                    Code::new("audit.head.signer.stopped"),
                    "The head was not signed.",
                    "Sigil is stopping.",
                )),
            }
        })
    }

    fn plugins<'a>(&'a self, _: &'a Caller) -> Answer<'a, Vec<api::Plugin>> {
        Box::pin(async { Ok(self.0.plugin_list().await) })
    }

    fn plugin<'a>(&'a self, _: &'a Caller, name: PluginName) -> Answer<'a, api::PluginDetail> {
        Box::pin(async move { self.0.plugin_detail(&name).await.ok_or_else(|| Failure::not_found("plugin")) })
    }

    fn denials<'a>(&'a self, _: &'a Caller, name: PluginName) -> Answer<'a, api::Denials> {
        Box::pin(denials::of(&self.0, name))
    }

    fn policy<'a>(&'a self, _: &'a Caller) -> Answer<'a, api::Policy> {
        Box::pin(async { Ok(self.0.policy_view()) })
    }

    fn sandbox<'a>(&'a self, _: &'a Caller) -> Answer<'a, api::Sandbox> {
        Box::pin(async { Ok(self.0.sandbox_view().await) })
    }

    fn scan<'a>(&'a self, _: &'a Caller, request: api::ScanRequest) -> Answer<'a, api::ScanReport> {
        Box::pin(async move {
            let policy = self.0.gate.policy();
            let scanner = self.0.gate.scanner();
            let report = scanner.scan(request.stage, &request.text);
            let hop = views::hop_of(request.stage);
            let mut action = if report.truncated { Action::Block } else { Action::Allow };
            let mut findings = Vec::with_capacity(report.findings.len());
            for finding in report.findings {
                let (class, severity) = (finding.class.as_str(), finding.severity.as_str());
                action = action.max(policy.action(request.stage, request.origin, hop, class, severity));
                findings.push(api::ScanFinding {
                    rule: finding.rule,
                    class: class.to_owned(),
                    severity: severity.to_owned(),
                    start: finding.span.start,
                    end: finding.span.end,
                });
            }
            Ok(api::ScanReport { action, findings, rules: scanner.version() })
        })
    }

    fn refused(&self, source: String, code: Code, who: Option<&Principal>) -> Option<EventId> {
        let actor = who.map_or_else(|| "nobody".to_owned(), |who| who.user.to_string());
        let entry = sigil_audit::Entry::new(Code::new("server.request.refused"), actor)
            .data(serde_json::json!({ "code": code, "source": source }));
        let pending = self.0.audit.refusal(&source, entry);
        // A refusal is not an effect: it stands whether or not its row is written yet.
        (!matches!(pending.poll_now(), Some(Err(_)))).then(|| pending.id())
    }
}
