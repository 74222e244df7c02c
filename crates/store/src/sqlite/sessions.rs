//! [`SqliteSessions`]: the session store in a workspace's `sessions.db`.

use std::path::Path;

use rusqlite::types::Value as Column;
use rusqlite::{OptionalExtension as _, params_from_iter};
use sigil_types::{ApprovalId, ChannelRef, Label, SessionId, Timestamp, TurnId, UserId, WorkspaceId};

use super::codec::{Columns, count, json, time, word};
use super::database::{Database, Db, OpResult, integrity};
use super::{OpenStore, approvals, schema, transcript, turns};
use crate::Answer;
use crate::failed::StoreFailed;
use crate::message::{Message, NewMessage};
use crate::session::{NewSession, SessionFilter, SessionRecord, SessionStore};
use crate::turn::{
    Accepted, ApprovalRecord, CallEnd, CallStart, Decision, Inbound, NewApproval, Reply, TurnEnd, TurnRecord,
    Unfinished,
};

/// The conversations of one workspace, in SQLite.
#[derive(Debug)]
pub struct SqliteSessions {
    workspace: WorkspaceId,
    database: Database,
}

impl SqliteSessions {
    /// Opens `workspaces/ID/sessions.db` under the data folder, making it when it is not there.
    ///
    /// # Errors
    /// When the file cannot be used, is in use, or belongs to another workspace.
    pub fn open(data: &Path, workspace: &WorkspaceId) -> Result<Self, OpenStore> {
        // INVARIANT: a workspace's name is one path component.
        let path = data.join("workspaces").join(workspace.as_str()).join("sessions.db");
        let database = Database::open(&path, &schema::SESSIONS, &format!("workspace {workspace}"))?;
        Ok(Self { workspace: workspace.clone(), database })
    }
}

impl SessionStore for SqliteSessions {
    fn workspace(&self) -> &WorkspaceId {
        &self.workspace
    }

    fn create_session(&self, new: NewSession) -> Answer<'_, SessionRecord> {
        self.database.run(move |db| create(db, new))
    }

    fn session(&self, id: SessionId) -> Answer<'_, Option<SessionRecord>> {
        self.database.run(move |db| find(db, id))
    }

    fn find_session(
        &self,
        channel: ChannelRef,
        conversation: String,
        user: UserId,
    ) -> Answer<'_, Option<SessionRecord>> {
        self.database.run(move |db| {
            let sql = format!(
                "{SELECT} WHERE archived IS NULL AND channel = ? AND conversation = ? AND user = ? ORDER BY place DESC LIMIT 1"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let mut rows = statement.query((channel.to_string(), conversation, user.as_str()))?;
            rows.next()?.map(record).transpose()
        })
    }

    fn sessions(&self, filter: SessionFilter) -> Answer<'_, Vec<SessionRecord>> {
        self.database.run(move |db| list(db, &filter))
    }

    fn raise_label(&self, session: SessionId, label: Label) -> Answer<'_, Label> {
        self.database.run(move |db| raise(db, session, &label))
    }

    fn archive_session(&self, session: SessionId, at: Timestamp) -> Answer<'_, SessionRecord> {
        self.database.run(move |db| {
            db.prepare_cached("UPDATE session SET archived = ? WHERE id = ? AND archived IS NULL")?
                .execute((time(at), session.to_string()))?;
            Ok(find(db, session)?.ok_or_else(|| StoreFailed::absent("session", session))?)
        })
    }

    fn append_messages(&self, session: SessionId, messages: Vec<NewMessage>) -> Answer<'_, u64> {
        self.database.run(move |db| transcript::append(db, session, messages))
    }

    fn messages(&self, session: SessionId, after: u64, limit: usize) -> Answer<'_, Vec<Message>> {
        self.database.run(move |db| transcript::after(db, session, after, limit))
    }

    fn window(&self, session: SessionId, count: usize) -> Answer<'_, Vec<Message>> {
        self.database.run(move |db| transcript::window(db, session, count))
    }

    fn accept(&self, inbound: Inbound) -> Answer<'_, Accepted> {
        self.database.run(move |db| turns::accept(db, inbound))
    }

    fn turn(&self, id: TurnId) -> Answer<'_, Option<TurnRecord>> {
        self.database.run(move |db| turns::find(db, id))
    }

    fn turns(&self, session: SessionId, limit: usize) -> Answer<'_, Vec<TurnRecord>> {
        self.database.run(move |db| turns::of_session(db, session, limit))
    }

    fn start_turn(&self, turn: TurnId, messages: Vec<NewMessage>, at: Timestamp) -> Answer<'_, ()> {
        self.database.run(move |db| turns::start(db, turn, messages, at))
    }

    fn start_call(&self, turn: TurnId, call: CallStart, messages: Vec<NewMessage>) -> Answer<'_, ()> {
        self.database.run(move |db| turns::start_call(db, turn, &call, messages))
    }

    fn finish_call(&self, turn: TurnId, end: CallEnd, messages: Vec<NewMessage>) -> Answer<'_, ()> {
        self.database.run(move |db| turns::finish_call(db, turn, &end, messages))
    }

    fn end_turn(&self, turn: TurnId, end: TurnEnd) -> Answer<'_, ()> {
        self.database.run(move |db| turns::end(db, turn, end))
    }

    fn unfinished(&self) -> Answer<'_, Vec<Unfinished>> {
        self.database.run(turns::unfinished)
    }

    fn requeue_turn(&self, turn: TurnId, at: Timestamp) -> Answer<'_, ()> {
        self.database.run(move |db| turns::requeue(db, turn, at))
    }

    fn unsent(&self) -> Answer<'_, Vec<Reply>> {
        self.database.run(turns::unsent)
    }

    fn reply(&self, turn: TurnId) -> Answer<'_, Option<Reply>> {
        self.database.run(move |db| turns::reply(db, turn))
    }

    fn mark_sent(&self, turn: TurnId, at: Timestamp) -> Answer<'_, bool> {
        self.database.run(move |db| turns::mark_sent(db, turn, at))
    }

    fn ask(&self, approval: NewApproval) -> Answer<'_, ()> {
        self.database.run(move |db| approvals::ask(db, &approval))
    }

    fn approval(&self, id: ApprovalId) -> Answer<'_, Option<ApprovalRecord>> {
        self.database.run(move |db| approvals::find(db, id))
    }

    fn approvals(&self, pending: bool, limit: usize) -> Answer<'_, Vec<ApprovalRecord>> {
        self.database.run(move |db| approvals::list(db, pending, limit))
    }

    fn decide(&self, id: ApprovalId, decision: Decision) -> Answer<'_, ApprovalRecord> {
        // An answer that comes too late marks the question expired and is refused: the mark must stay, so the refusal
        // is made outside the operation.
        let decided = self.database.run(move |db| approvals::decide(db, id, &decision));
        Box::pin(async move { decided.await? })
    }

    fn expire_approvals(&self, now: Timestamp) -> Answer<'_, Vec<ApprovalId>> {
        self.database.run(move |db| approvals::expire(db, now))
    }

    fn integrity(&self) -> Answer<'_, Vec<String>> {
        self.database.run(integrity)
    }
}

const SELECT: &str = "SELECT id, channel, conversation, user, role, label, created, archived, \
     (SELECT coalesce(max(seq), 0) FROM message WHERE message.session = session.id) AS messages FROM session";

fn record(row: &rusqlite::Row<'_>) -> OpResult<SessionRecord> {
    let columns = Columns { row, what: "session" };
    Ok(SessionRecord {
        id: columns.text("id")?,
        channel: ChannelRef(columns.text("channel")?),
        conversation: columns.string("conversation")?,
        principal: columns.principal()?,
        label: columns.json("label")?,
        created: columns.time("created")?,
        archived: columns.time_or_none("archived")?,
        messages: columns.number("messages")?,
    })
}

fn create(db: Db<'_>, new: NewSession) -> OpResult<SessionRecord> {
    if find(db, new.id)?.is_some() {
        return Err(StoreFailed::conflict("session", new.id).into());
    }
    db.prepare_cached(
        "INSERT INTO session (id, channel, conversation, user, role, label, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute((
        new.id.to_string(),
        new.channel.to_string(),
        &new.conversation,
        new.principal.user.as_str(),
        word(&new.principal.role)?,
        json(&new.label)?,
        time(new.at),
    ))?;
    let NewSession { id, channel, conversation, principal, label, at } = new;
    Ok(SessionRecord { id, channel, conversation, principal, label, created: at, archived: None, messages: 0 })
}

pub(crate) fn find(db: Db<'_>, id: SessionId) -> OpResult<Option<SessionRecord>> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE id = ?"))?;
    let mut rows = statement.query([id.to_string()])?;
    rows.next()?.map(record).transpose()
}

fn list(db: Db<'_>, filter: &SessionFilter) -> OpResult<Vec<SessionRecord>> {
    let mut sql = format!("{SELECT} WHERE 1");
    let mut values = Vec::new();
    if let Some(user) = &filter.user {
        sql.push_str(" AND user = ?");
        values.push(Column::Text(user.to_string()));
    }
    if !filter.archived {
        sql.push_str(" AND archived IS NULL");
    }
    if let Some(before) = &filter.before {
        sql.push_str(" AND place < (SELECT place FROM session WHERE id = ?)");
        values.push(Column::Text(before.to_string()));
    }
    sql.push_str(" ORDER BY place DESC LIMIT ?");
    values.push(Column::Integer(count(filter.limit)));
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        sessions.push(record(row)?);
    }
    Ok(sessions)
}

fn raise(db: Db<'_>, session: SessionId, label: &Label) -> OpResult<Label> {
    let mut statement = db.prepare_cached("SELECT label FROM session WHERE id = ?")?;
    let kept = statement
        .query_row([session.to_string()], |row| Ok(Columns { row, what: "session" }.json::<Label>("label")))
        .optional()?;
    let kept = kept.ok_or_else(|| StoreFailed::absent("session", session))??;
    let raised = kept.join(label);
    if raised != kept {
        db.prepare_cached("UPDATE session SET label = ? WHERE id = ?")?
            .execute((json(&raised)?, session.to_string()))?;
    }
    Ok(raised)
}
