//! Questions for a human.

use serde::{Deserialize, Serialize};
use sigil_types::{ApprovalId, Code, Digest, SessionId, Timestamp, TurnId, UserId};
use utoipa::ToSchema;

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// It waits.
    Pending,
    /// Yes.
    Approved,
    /// No.
    Denied,
    /// Nobody answered in time: no.
    Expired,
}

/// A question for a human.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// Its name, `ap_…`.
    #[schema(value_type = String)]
    pub id: ApprovalId,
    /// The turn that waits.
    #[schema(value_type = String)]
    pub turn: TurnId,
    /// Its session.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// What became of it.
    pub state: ApprovalState,
    /// Where it would go, such as `tool:fetch.get`.
    pub destination: String,
    /// What it can change there: `none`, `local` or `external`.
    pub effect: String,
    /// Exactly what would be sent.
    pub content: String,
    /// Everybody who has influenced the session.
    pub authors: Vec<String>,
    /// Those among them who may not cause this by themselves.
    pub untrusted: Vec<String>,
    /// The rules that ask.
    #[schema(value_type = Vec<String>)]
    pub rules: Vec<Code>,
    /// Why a human is asked.
    pub why: String,
    /// Digest of the plan, which an answer must name.
    #[schema(value_type = String)]
    pub plan: Digest,
    /// When it was asked.
    #[schema(value_type = String, format = DateTime)]
    pub asked: Timestamp,
    /// After this moment the answer is no.
    #[schema(value_type = String, format = DateTime)]
    pub expires: Timestamp,
    /// Who answered.
    #[schema(value_type = Option<String>)]
    pub by: Option<UserId>,
}

/// An answer to a question. It holds once, for this plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Yes or no.
    pub approve: bool,
    /// Digest of the plan that was looked at.
    #[schema(value_type = String)]
    pub plan: Digest,
}
