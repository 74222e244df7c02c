//! Turns: inbox, tool calls, outbox.

use rusqlite::Row;
use sigil_types::{ChannelRef, SessionId, Timestamp, TurnId};

use super::codec::{Columns, count, json, time, word};
use super::database::{Db, OpResult};
use super::{sessions, transcript};
use crate::failed::StoreFailed;
use crate::message::NewMessage;
use crate::turn::{
    Accepted, CallEnd, CallStart, Inbound, NewReply, Reply, ToolCallRecord, TurnEnd, TurnRecord, TurnState, Unfinished,
};

pub(crate) fn accept(db: Db<'_>, inbound: Inbound) -> OpResult<Accepted> {
    let mut first = db.prepare_cached("SELECT * FROM turn WHERE channel = ? AND key = ?")?;
    let mut rows = first.query((inbound.channel.to_string(), &inbound.key))?;
    if let Some(row) = rows.next()? {
        return Ok(Accepted { turn: record(row)?, fresh: false });
    }
    if sessions::find(db, inbound.session)?.is_none() {
        return Err(StoreFailed::absent("session", inbound.session).into());
    }
    if find(db, inbound.turn)?.is_some() {
        return Err(StoreFailed::conflict("turn", inbound.turn).into());
    }
    db.prepare_cached(
        "INSERT INTO turn (id, session, channel, key, user, role, origin, content, label, at, state, changed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'accepted', ?10)",
    )?
    .execute((
        inbound.turn.to_string(),
        inbound.session.to_string(),
        inbound.channel.to_string(),
        &inbound.key,
        inbound.principal.user.as_str(),
        word(&inbound.principal.role)?,
        inbound.content.origin().as_str(),
        inbound.content.inspect(),
        json(&inbound.label)?,
        time(inbound.at),
    ))?;
    let changed = inbound.at;
    let turn = TurnRecord { inbound, state: TurnState::Accepted, outcome: None, code: None, changed };
    Ok(Accepted { turn, fresh: true })
}

fn record(row: &Row<'_>) -> OpResult<TurnRecord> {
    let columns = Columns { row, what: "turn" };
    Ok(TurnRecord {
        inbound: Inbound {
            turn: columns.text("id")?,
            session: columns.text("session")?,
            key: columns.string("key")?,
            channel: ChannelRef(columns.text("channel")?),
            principal: columns.principal()?,
            content: columns.content()?,
            label: columns.json("label")?,
            at: columns.time("at")?,
        },
        state: columns.word("state")?,
        outcome: columns.word_or_none("outcome")?,
        code: columns.text_or_none("code")?,
        changed: columns.time("changed")?,
    })
}

pub(crate) fn find(db: Db<'_>, id: TurnId) -> OpResult<Option<TurnRecord>> {
    let mut statement = db.prepare_cached("SELECT * FROM turn WHERE id = ?")?;
    let mut rows = statement.query([id.to_string()])?;
    rows.next()?.map(record).transpose()
}

pub(crate) fn of_session(db: Db<'_>, session: SessionId, limit: usize) -> OpResult<Vec<TurnRecord>> {
    let mut statement = db.prepare_cached("SELECT * FROM turn WHERE session = ? ORDER BY place DESC LIMIT ?")?;
    let mut rows = statement.query((session.to_string(), count(limit)))?;
    let mut turns = Vec::new();
    while let Some(row) = rows.next()? {
        turns.push(record(row)?);
    }
    Ok(turns)
}

/// The session of `turn`, if the turn is in one of `states`.
fn in_state(db: Db<'_>, turn: TurnId, states: &[TurnState], wanted: &'static str) -> OpResult<SessionId> {
    let mut statement = db.prepare_cached("SELECT session, state FROM turn WHERE id = ?")?;
    let mut rows = statement.query([turn.to_string()])?;
    let row = rows.next()?.ok_or_else(|| StoreFailed::absent("turn", turn))?;
    let columns = Columns { row, what: "turn" };
    let state: TurnState = columns.word("state")?;
    if states.contains(&state) {
        columns.text("session")
    } else {
        Err(StoreFailed::State { what: "turn", id: turn.to_string(), is: word(&state)?, wanted }.into())
    }
}

fn set_state(db: Db<'_>, turn: TurnId, state: TurnState, at: Timestamp) -> OpResult<()> {
    db.prepare_cached("UPDATE turn SET state = ?, changed = ? WHERE id = ?")?.execute((
        word(&state)?,
        time(at),
        turn.to_string(),
    ))?;
    Ok(())
}

/// Adds `messages`; those without a turn of their own are this turn's.
fn add(db: Db<'_>, session: SessionId, turn: TurnId, mut messages: Vec<NewMessage>) -> OpResult<()> {
    if messages.is_empty() {
        return Ok(());
    }
    for message in &mut messages {
        message.turn.get_or_insert(turn);
    }
    transcript::append(db, session, messages).map(drop)
}

pub(crate) fn start(db: Db<'_>, turn: TurnId, messages: Vec<NewMessage>, at: Timestamp) -> OpResult<()> {
    let session = in_state(db, turn, &[TurnState::Accepted], "only a turn in the inbox can be started")?;
    set_state(db, turn, TurnState::Running, at)?;
    add(db, session, turn, messages)
}

pub(crate) fn start_call(db: Db<'_>, turn: TurnId, call: &CallStart, messages: Vec<NewMessage>) -> OpResult<()> {
    let session = in_state(db, turn, &[TurnState::Running], "only a running turn makes calls")?;
    let added = db
        .prepare_cached(
            "INSERT OR IGNORE INTO call (turn, call, place, tool, effect, receipt, started)
             VALUES (?1, ?2, (SELECT count(*) FROM call WHERE turn = ?1), ?3, ?4, ?5, ?6)",
        )?
        .execute((
            turn.to_string(),
            &call.call,
            call.tool.as_str(),
            word(&call.effect)?,
            call.receipt.to_string(),
            time(call.at),
        ))?;
    if added == 0 {
        return Err(StoreFailed::conflict("tool call", &call.call).into());
    }
    add(db, session, turn, messages)
}

pub(crate) fn finish_call(db: Db<'_>, turn: TurnId, end: &CallEnd, messages: Vec<NewMessage>) -> OpResult<()> {
    let session = in_state(db, turn, &[TurnState::Running], "only a running turn's calls come back")?;
    let known = calls(db, turn)?.into_iter().find(|known| known.start.call == end.call);
    let known = known.ok_or_else(|| StoreFailed::absent("tool call", &end.call))?;
    if known.end.is_some() {
        let (id, is) = (end.call.clone(), "finished".to_owned());
        return Err(StoreFailed::State { what: "tool call", id, is, wanted: "a call comes back once" }.into());
    }
    db.prepare_cached("UPDATE call SET ok = ?, ended = ? WHERE turn = ? AND call = ?")?.execute((
        end.ok,
        time(end.at),
        turn.to_string(),
        &end.call,
    ))?;
    add(db, session, turn, messages)
}

pub(crate) fn end(db: Db<'_>, turn: TurnId, end: TurnEnd) -> OpResult<()> {
    let open = [TurnState::Accepted, TurnState::Running];
    let session = in_state(db, turn, &open, "a turn ends once")?;
    let name = turn.to_string();
    db.prepare_cached("UPDATE turn SET state = ?, outcome = ?, code = ?, changed = ? WHERE id = ?")?.execute((
        word(&TurnState::from(end.outcome))?,
        word(&end.outcome)?,
        end.code.as_ref().map(ToString::to_string),
        time(end.at),
        &name,
    ))?;
    db.prepare_cached("UPDATE approval SET state = 'expired', resolved = ? WHERE turn = ? AND state = 'pending'")?
        .execute((time(end.at), &name))?;
    add(db, session, turn, end.messages)?;
    if let Some(NewReply { channel, content, label }) = end.reply {
        db.prepare_cached("INSERT INTO reply (turn, channel, origin, content, label, at) VALUES (?, ?, ?, ?, ?, ?)")?
            .execute((
            &name,
            channel.to_string(),
            content.origin().as_str(),
            content.inspect(),
            json(&label)?,
            time(end.at),
        ))?;
    }
    Ok(())
}

fn calls(db: Db<'_>, turn: TurnId) -> OpResult<Vec<ToolCallRecord>> {
    let mut statement = db.prepare_cached("SELECT * FROM call WHERE turn = ? ORDER BY place")?;
    let mut rows = statement.query([turn.to_string()])?;
    let mut calls = Vec::new();
    while let Some(row) = rows.next()? {
        let columns = Columns { row, what: "tool call" };
        let start = CallStart {
            call: columns.string("call")?,
            tool: columns.text("tool")?,
            effect: columns.word("effect")?,
            receipt: columns.text("receipt")?,
            at: columns.time("started")?,
        };
        let end = match columns.time_or_none("ended")? {
            Some(at) => Some(CallEnd { call: start.call.clone(), ok: columns.flag("ok")?, at }),
            None => None,
        };
        calls.push(ToolCallRecord { start, end });
    }
    Ok(calls)
}

pub(crate) fn unfinished(db: Db<'_>) -> OpResult<Vec<Unfinished>> {
    let mut statement =
        db.prepare_cached("SELECT * FROM turn WHERE state IN ('accepted', 'running') ORDER BY place")?;
    let mut rows = statement.query([])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let turn = record(row)?;
        let calls = calls(db, turn.inbound.turn)?;
        open.push(Unfinished { turn, calls });
    }
    Ok(open)
}

pub(crate) fn requeue(db: Db<'_>, turn: TurnId, at: Timestamp) -> OpResult<()> {
    in_state(db, turn, &[TurnState::Running], "only a running turn goes back to the inbox")?;
    if calls(db, turn)?.iter().any(ToolCallRecord::is_in_doubt) {
        let (id, is) = (turn.to_string(), "in doubt".to_owned());
        let wanted = "a call with an effect began and never came back; the turn ends interrupted";
        return Err(StoreFailed::State { what: "turn", id, is, wanted }.into());
    }
    set_state(db, turn, TurnState::Accepted, at)
}

const REPLY: &str = "SELECT reply.*, turn.session AS session FROM reply JOIN turn ON turn.id = reply.turn";

fn reply_record(row: &Row<'_>) -> OpResult<Reply> {
    let columns = Columns { row, what: "reply" };
    Ok(Reply {
        turn: columns.text("turn")?,
        session: columns.text("session")?,
        channel: ChannelRef(columns.text("channel")?),
        content: columns.content()?,
        label: columns.json("label")?,
        at: columns.time("at")?,
        sent: columns.time_or_none("sent")?,
    })
}

pub(crate) fn unsent(db: Db<'_>) -> OpResult<Vec<Reply>> {
    let mut statement = db.prepare_cached(&format!("{REPLY} WHERE reply.sent IS NULL ORDER BY reply.place"))?;
    let mut rows = statement.query([])?;
    let mut replies = Vec::new();
    while let Some(row) = rows.next()? {
        replies.push(reply_record(row)?);
    }
    Ok(replies)
}

pub(crate) fn reply(db: Db<'_>, turn: TurnId) -> OpResult<Option<Reply>> {
    let mut statement = db.prepare_cached(&format!("{REPLY} WHERE reply.turn = ?"))?;
    let mut rows = statement.query([turn.to_string()])?;
    rows.next()?.map(reply_record).transpose()
}

pub(crate) fn mark_sent(db: Db<'_>, turn: TurnId, at: Timestamp) -> OpResult<bool> {
    let marked = db
        .prepare_cached("UPDATE reply SET sent = ? WHERE turn = ? AND sent IS NULL")?
        .execute((time(at), turn.to_string()))?;
    if marked == 0 && reply(db, turn)?.is_none() {
        return Err(StoreFailed::absent("reply", turn).into());
    }
    Ok(marked > 0)
}
