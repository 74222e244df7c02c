//! Messages of a session, in order.

use sigil_types::SessionId;

use super::codec::{Columns, count, json, time, word};
use super::database::{Db, OpResult};
use crate::failed::StoreFailed;
use crate::message::{Message, NewMessage};

/// Adds messages behind the last; answers the place of the last one then.
pub(crate) fn append(db: Db<'_>, session: SessionId, messages: Vec<NewMessage>) -> OpResult<u64> {
    let name = session.to_string();
    let known: bool = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM session WHERE id = ?)")?
        .query_row([&name], |row| row.get(0))?;
    if !known {
        return Err(StoreFailed::absent("session", session).into());
    }
    let mut seq: i64 = db
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM message WHERE session = ?")?
        .query_row([&name], |row| row.get(0))?;
    let mut insert = db.prepare_cached(
        "INSERT INTO message (session, seq, turn, role, part, origin, content, label, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for message in messages {
        if let Some(turn) = message.turn {
            let ours: bool = db
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM turn WHERE id = ? AND session = ?)")?
                .query_row((turn.to_string(), &name), |row| row.get(0))?;
            if !ours {
                return Err(StoreFailed::absent("turn", turn).into());
            }
        }
        seq += 1;
        insert.execute((
            &name,
            seq,
            message.turn.map(|turn| turn.to_string()),
            word(&message.role)?,
            json(&message.part)?,
            message.content.origin().as_str(),
            message.content.inspect(),
            json(&message.label)?,
            time(message.at),
        ))?;
    }
    Ok(u64::try_from(seq).unwrap_or(0))
}

pub(crate) fn after(db: Db<'_>, session: SessionId, after: u64, limit: usize) -> OpResult<Vec<Message>> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    read(db, "SELECT * FROM message WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?", session, after, limit)
}

pub(crate) fn window(db: Db<'_>, session: SessionId, size: usize) -> OpResult<Vec<Message>> {
    let newest = "SELECT * FROM message WHERE session = ? AND seq > ? ORDER BY seq DESC LIMIT ?";
    let mut messages = read(db, newest, session, 0, size)?;
    messages.reverse();
    Ok(messages)
}

fn read(db: Db<'_>, sql: &str, session: SessionId, after: i64, limit: usize) -> OpResult<Vec<Message>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query((session.to_string(), after, count(limit)))?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        let columns = Columns { row, what: "message" };
        messages.push(Message {
            seq: columns.number("seq")?,
            session,
            turn: columns.text_or_none("turn")?,
            role: columns.word("role")?,
            part: columns.json("part")?,
            content: columns.content()?,
            label: columns.json("label")?,
            at: columns.time("at")?,
        });
    }
    Ok(messages)
}
