//! The audit log.

use serde::{Deserialize, Serialize};
use sigil_types::{Code, Digest, EventId, SessionId, Timestamp, TurnId, WorkspaceId};
use utoipa::{IntoParams, ToSchema};

/// Which entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only kinds that are this, or begin with this and a dot.
    pub kind: Option<String>,
    /// Only of this turn.
    #[param(value_type = Option<String>)]
    pub turn: Option<TurnId>,
    /// Only of this session.
    #[param(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// Only entries with this number or a later one.
    pub since: Option<u64>,
    /// Oldest first instead of newest first.
    pub oldest_first: bool,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// At most this many, 1 to 500; 50 without it.
    pub limit: Option<usize>,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEvent {
    /// Its place, counted from 0.
    pub seq: u64,
    /// Its name, `ev_…`.
    #[schema(value_type = String)]
    pub id: EventId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What happened.
    #[schema(value_type = String)]
    pub kind: Code,
    /// Who acted.
    pub actor: String,
    /// In which turn.
    #[schema(value_type = Option<String>)]
    pub turn: Option<TurnId>,
    /// In which session.
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// In which workspace.
    #[schema(value_type = Option<String>)]
    pub workspace: Option<WorkspaceId>,
    /// Metadata and digests.
    pub data: serde_json::Value,
    /// Leaf hash (RFC 6962).
    #[schema(value_type = String)]
    pub leaf: Digest,
}
