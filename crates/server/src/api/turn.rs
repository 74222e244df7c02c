//! Turns.

use serde::{Deserialize, Serialize};
use sigil_types::{Code, Outcome, SessionId, Timestamp, TurnId};
use utoipa::ToSchema;

/// A message to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTurn {
    /// The words. 1 byte to 256 KiB.
    #[schema(min_length = 1, max_length = 262_144)]
    pub text: String,
}

/// The message is durable and will be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnAccepted {
    /// The turn that answers it, `tn_…`.
    #[schema(value_type = String)]
    pub turn: TurnId,
    /// Its session.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// `false` when the same idempotency key had started it before.
    pub fresh: bool,
}

/// How far a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TurnState {
    /// In the inbox.
    Accepted,
    /// At work.
    Running,
    /// Answered, refused or stopped.
    Finished,
    /// The gateway died during a call with an effect; it is not repeated.
    Interrupted,
    /// Broken off by an error.
    Failed,
}

/// A turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Turn {
    /// Its name.
    #[schema(value_type = String)]
    pub id: TurnId,
    /// Its session.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// How far it is.
    pub state: TurnState,
    /// How it ended: `completed`, `refused`, `stopped`, `interrupted` or `failed`.
    #[schema(value_type = Option<String>)]
    pub outcome: Option<Outcome>,
    /// Why, where it did not complete.
    #[schema(value_type = Option<String>)]
    pub code: Option<Code>,
    /// When its state last changed.
    #[schema(value_type = String, format = DateTime)]
    pub changed: Timestamp,
}
