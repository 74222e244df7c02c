//! Records as the API shows them.

use sigil_gate::Plan;
use sigil_server::api;
use sigil_store::{ApprovalRecord, ApprovalState, MessageRole, Part, SessionRecord, TurnRecord, TurnState};
use sigil_types::{Hop, Stage, TurnEvent, WorkspaceId};

use crate::cli::output::word;

pub(super) fn session(record: SessionRecord, workspace: &WorkspaceId) -> api::Session {
    api::Session {
        id: record.id,
        workspace: workspace.clone(),
        channel: record.channel,
        user: record.principal.user,
        created: record.created,
        archived: record.archived,
        messages: record.messages,
        label: record.label,
    }
}

/// A message of a transcript. What a tool said stays inside: only people's and the model's cleared words are shown.
pub(super) fn message(record: sigil_store::Message) -> api::Message {
    let (kind, tool) = match &record.part {
        Part::Text => ("text", None),
        Part::ToolCall { tool, .. } => ("tool_call", Some(tool.clone())),
        Part::ToolResult { tool, .. } => ("tool_result", Some(tool.clone())),
    };
    let shown = record.part == Part::Text && record.role != MessageRole::Tool;
    api::Message {
        seq: record.seq,
        turn: record.turn,
        role: word(record.role),
        kind: kind.to_owned(),
        tool,
        text: shown.then(|| record.content.into_inner()),
        label: record.label,
        at: record.at,
    }
}

/// What the model said in a turn that is over, as the event that it was.
pub(super) fn said(record: sigil_store::Message) -> Option<TurnEvent> {
    let shown = record.part == Part::Text && record.role == MessageRole::Assistant;
    shown.then(|| TurnEvent::Text { delta: record.content.into_inner() })
}

pub(super) fn turn(record: TurnRecord) -> api::Turn {
    api::Turn {
        id: record.inbound.turn,
        session: record.inbound.session,
        state: match record.state {
            TurnState::Accepted => api::TurnState::Accepted,
            TurnState::Running => api::TurnState::Running,
            TurnState::Finished => api::TurnState::Finished,
            TurnState::Interrupted => api::TurnState::Interrupted,
            TurnState::Failed => api::TurnState::Failed,
        },
        outcome: record.outcome,
        code: record.code,
        changed: record.changed,
    }
}

/// A question, if its plan reads: one that does not can only expire.
pub(super) fn approval(record: ApprovalRecord) -> Option<api::Approval> {
    let plan: Plan = serde_json::from_str(&record.asked.plan).ok()?;
    Some(api::Approval {
        id: record.asked.id,
        turn: record.asked.turn,
        session: record.session,
        state: match record.state {
            ApprovalState::Pending => api::ApprovalState::Pending,
            ApprovalState::Approved => api::ApprovalState::Approved,
            ApprovalState::Denied => api::ApprovalState::Denied,
            ApprovalState::Expired => api::ApprovalState::Expired,
        },
        destination: plan.destination,
        effect: word(plan.effect),
        content: plan.content,
        authors: plan.label.authors.iter().map(ToString::to_string).collect(),
        untrusted: plan.untrusted.iter().map(ToString::to_string).collect(),
        rules: plan.rules,
        why: plan.why,
        plan: record.asked.digest,
        asked: record.asked.at,
        expires: record.asked.expires,
        by: record.by.map(|by| by.user),
    })
}

pub(super) fn audit_event(stored: sigil_audit::Stored) -> api::AuditEvent {
    api::AuditEvent {
        seq: stored.seq,
        id: stored.id,
        at: stored.at,
        kind: stored.kind,
        actor: stored.actor,
        turn: stored.turn,
        session: stored.session,
        workspace: stored.workspace,
        data: stored.data,
        leaf: stored.leaf,
    }
}

/// The way out on which a text of `stage` is scanned.
pub(crate) const fn hop_of(stage: Stage) -> Hop {
    match stage {
        Stage::Input | Stage::Tool => Hop::ToProvider,
        Stage::Arguments => Hop::ToTool,
        Stage::Output => Hop::ToChannel,
        Stage::Memory => Hop::ToMemory,
    }
}
