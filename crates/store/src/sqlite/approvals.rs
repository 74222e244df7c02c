//! Questions for a human.

use rusqlite::Row;
use sigil_types::{ApprovalId, Principal, Timestamp};

use super::codec::{Columns, count, json, time, word};
use super::database::{Db, OpResult};
use super::turns;
use crate::failed::StoreFailed;
use crate::turn::{ApprovalRecord, ApprovalState, Decision, NewApproval};

const SELECT: &str = "SELECT approval.*, turn.session AS session FROM approval JOIN turn ON turn.id = approval.turn";

pub(crate) fn ask(db: Db<'_>, new: &NewApproval) -> OpResult<()> {
    let turn = turns::find(db, new.turn)?.ok_or_else(|| StoreFailed::absent("turn", new.turn))?;
    if turn.state.is_over() {
        let (id, is) = (new.turn.to_string(), word(&turn.state)?);
        return Err(StoreFailed::State { what: "turn", id, is, wanted: "a turn that is over asks nothing" }.into());
    }
    let added = db
        .prepare_cached(
            "INSERT OR IGNORE INTO approval (id, turn, plan, digest, label, at, expires, state)
             VALUES (?, ?, ?, ?, ?, ?, ?, 'pending')",
        )?
        .execute((
            new.id.to_string(),
            new.turn.to_string(),
            &new.plan,
            new.digest.to_string(),
            json(&new.label)?,
            time(new.at),
            time(new.expires),
        ))?;
    if added == 0 { Err(StoreFailed::conflict("approval", new.id).into()) } else { Ok(()) }
}

fn record(row: &Row<'_>) -> OpResult<ApprovalRecord> {
    let columns = Columns { row, what: "approval" };
    let by: Option<Principal> = match columns.text_or_none("user")? {
        Some(user) => Some(Principal { user, role: columns.word("role")? }),
        None => None,
    };
    Ok(ApprovalRecord {
        asked: NewApproval {
            id: columns.text("id")?,
            turn: columns.text("turn")?,
            plan: columns.string("plan")?,
            digest: columns.text("digest")?,
            label: columns.json("label")?,
            at: columns.time("at")?,
            expires: columns.time("expires")?,
        },
        session: columns.text("session")?,
        state: columns.word("state")?,
        by,
        resolved: columns.time_or_none("resolved")?,
    })
}

pub(crate) fn find(db: Db<'_>, id: ApprovalId) -> OpResult<Option<ApprovalRecord>> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE approval.id = ?"))?;
    let mut rows = statement.query([id.to_string()])?;
    rows.next()?.map(record).transpose()
}

pub(crate) fn list(db: Db<'_>, pending: bool, limit: usize) -> OpResult<Vec<ApprovalRecord>> {
    let only = if pending { " WHERE approval.state = 'pending'" } else { "" };
    let mut statement = db.prepare_cached(&format!("{SELECT}{only} ORDER BY approval.place DESC LIMIT ?"))?;
    let mut rows = statement.query([count(limit)])?;
    let mut approvals = Vec::new();
    while let Some(row) = rows.next()? {
        approvals.push(record(row)?);
    }
    Ok(approvals)
}

/// Answers a question. The outer result is the operation's; the inner one says no while keeping the mark `expired`.
pub(crate) fn decide(db: Db<'_>, id: ApprovalId, decision: &Decision) -> OpResult<Result<ApprovalRecord, StoreFailed>> {
    let known = find(db, id)?.ok_or_else(|| StoreFailed::absent("approval", id))?;
    let refused = |is: String, wanted| StoreFailed::State { what: "approval", id: id.to_string(), is, wanted };
    if known.state != ApprovalState::Pending {
        return Err(refused(word(&known.state)?, "a question is answered once").into());
    }
    if known.asked.expires <= decision.at {
        resolve(db, id, ApprovalState::Expired, None, decision.at)?;
        return Ok(Err(refused("expired".to_owned(), "the answer came too late, which counts as no")));
    }
    if known.asked.digest != decision.digest {
        return Err(refused("about another plan".to_owned(), "look at the plan again and answer that one").into());
    }
    let state = if decision.approved { ApprovalState::Approved } else { ApprovalState::Denied };
    resolve(db, id, state, Some(&decision.by), decision.at)?;
    Ok(Ok(ApprovalRecord { state, by: Some(decision.by.clone()), resolved: Some(decision.at), ..known }))
}

fn resolve(db: Db<'_>, id: ApprovalId, state: ApprovalState, by: Option<&Principal>, at: Timestamp) -> OpResult<()> {
    let role = by.map(|by| word(&by.role)).transpose()?;
    db.prepare_cached("UPDATE approval SET state = ?, user = ?, role = ?, resolved = ? WHERE id = ?")?.execute((
        word(&state)?,
        by.map(|by| by.user.as_str()),
        role,
        time(at),
        id.to_string(),
    ))?;
    Ok(())
}

pub(crate) fn expire(db: Db<'_>, now: Timestamp) -> OpResult<Vec<ApprovalId>> {
    let due: Vec<ApprovalId> = list(db, true, usize::MAX)?
        .into_iter()
        .filter(|approval| approval.asked.expires <= now)
        .map(|approval| approval.asked.id)
        .collect();
    for id in &due {
        resolve(db, *id, ApprovalState::Expired, None, now)?;
    }
    Ok(due)
}
