//! Sessions and their transcripts.

use serde::{Deserialize, Serialize};
use sigil_types::{ChannelRef, Label, SessionId, Timestamp, TurnId, UserId, WorkspaceId};
use utoipa::ToSchema;

/// A session to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewSession {
    /// The workspace; without it the caller's own.
    #[schema(value_type = Option<String>)]
    pub workspace: Option<WorkspaceId>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Its name, `ss_…`.
    #[schema(value_type = String)]
    pub id: SessionId,
    /// The workspace.
    #[schema(value_type = String)]
    pub workspace: WorkspaceId,
    /// The channel it takes place in.
    #[schema(value_type = String)]
    pub channel: ChannelRef,
    /// Whose it is.
    #[schema(value_type = String)]
    pub user: UserId,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it was archived.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub archived: Option<Timestamp>,
    /// Number of messages.
    pub messages: u64,
    /// Authors and readers of everything that was ever in it.
    #[schema(value_type = Object)]
    pub label: Label,
}

/// A message of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Its place in the session, counted from 1.
    pub seq: u64,
    /// The turn that it belongs to.
    #[schema(value_type = Option<String>)]
    pub turn: Option<TurnId>,
    /// `user`, `assistant` or `tool`.
    pub role: String,
    /// `text`, `tool_call` or `tool_result`.
    pub kind: String,
    /// The tool, where there is one.
    pub tool: Option<String>,
    /// The words, as far as they were cleared for the caller; `null` when they were not.
    pub text: Option<String>,
    /// Authors and readers.
    #[schema(value_type = Object)]
    pub label: Label,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}
