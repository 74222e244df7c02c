//! [`SessionStore`]: the conversations of one workspace.

use sigil_types::{ApprovalId, ChannelRef, Label, Principal, SessionId, Timestamp, TurnId, UserId, WorkspaceId};

use crate::Answer;
use crate::message::{Message, NewMessage};
use crate::turn::{
    Accepted, ApprovalRecord, CallEnd, CallStart, Decision, Inbound, NewApproval, Reply, TurnEnd, TurnRecord,
    Unfinished,
};

/// A conversation to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// Its name.
    pub id: SessionId,
    /// The channel it takes place in.
    pub channel: ChannelRef,
    /// Which conversation of that channel: the platform's chat id; empty where a channel has one only.
    pub conversation: String,
    /// Whose it is.
    pub principal: Principal,
    /// What it loads to begin with, joined. Never lower than that.
    pub label: Label,
    /// When.
    pub at: Timestamp,
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its name.
    pub id: SessionId,
    /// The channel it takes place in.
    pub channel: ChannelRef,
    /// Which conversation of that channel.
    pub conversation: String,
    /// Whose it is.
    pub principal: Principal,
    /// The join of all that was ever in it. It only rises.
    pub label: Label,
    /// When it began.
    pub created: Timestamp,
    /// When it was archived.
    pub archived: Option<Timestamp>,
    /// Number of messages.
    pub messages: u64,
}

/// Which sessions to list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFilter {
    /// Only this person's.
    pub user: Option<UserId>,
    /// Archived ones too.
    pub archived: bool,
    /// Only those before this one in the list: the way to the next page.
    pub before: Option<SessionId>,
    /// At most this many.
    pub limit: usize,
}

impl Default for SessionFilter {
    fn default() -> Self {
        Self { user: None, archived: false, before: None, limit: 100 }
    }
}

/// The conversations of one workspace: sessions, transcript, inbox, outbox, tool calls and approvals.
///
/// A handle is opened for one workspace. No method takes a workspace, so a handle cannot name another. When a method's
/// future has answered, what it wrote is durable.
pub trait SessionStore: Send + Sync {
    /// The workspace that this handle was opened for.
    fn workspace(&self) -> &WorkspaceId;

    /// Begins a conversation.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    fn create_session(&self, new: NewSession) -> Answer<'_, SessionRecord>;

    /// The conversation `id`.
    fn session(&self, id: SessionId) -> Answer<'_, Option<SessionRecord>>;

    /// The newest conversation of `user` in `conversation` of `channel` that is not archived.
    fn find_session(
        &self,
        channel: ChannelRef,
        conversation: String,
        user: UserId,
    ) -> Answer<'_, Option<SessionRecord>>;

    /// The conversations that `filter` asks for.
    fn sessions(&self, filter: SessionFilter) -> Answer<'_, Vec<SessionRecord>>;

    /// Joins `label` into the session's and answers the result. A session's label only rises.
    ///
    /// # Errors
    /// `Absent` when there is no such session.
    fn raise_label(&self, session: SessionId, label: Label) -> Answer<'_, Label>;

    /// Archives a conversation; again is nothing new.
    ///
    /// # Errors
    /// `Absent` when there is no such session.
    fn archive_session(&self, session: SessionId, at: Timestamp) -> Answer<'_, SessionRecord>;

    /// Adds `messages` to the transcript, all or none, and answers the place of the last.
    ///
    /// # Errors
    /// `Absent` when there is no such session, or a message's turn is not one of it.
    fn append_messages(&self, session: SessionId, messages: Vec<NewMessage>) -> Answer<'_, u64>;

    /// Messages after place `after`, oldest first, at most `limit`.
    fn messages(&self, session: SessionId, after: u64, limit: usize) -> Answer<'_, Vec<Message>>;

    /// The last `count` messages, oldest first: the active window.
    fn window(&self, session: SessionId, count: usize) -> Answer<'_, Vec<Message>>;

    /// Takes a message into the inbox. The same key on the same channel finds the first one, whatever else it says.
    ///
    /// # Errors
    /// `Absent` when there is no such session.
    fn accept(&self, inbound: Inbound) -> Answer<'_, Accepted>;

    /// The turn `id`.
    fn turn(&self, id: TurnId) -> Answer<'_, Option<TurnRecord>>;

    /// The turns of `session`, newest first, at most `limit`.
    fn turns(&self, session: SessionId, limit: usize) -> Answer<'_, Vec<TurnRecord>>;

    /// Marks an accepted turn as running. Adds `messages` to the transcript in the same step.
    ///
    /// # Errors
    /// `State` when it is not in the inbox any more, so that no turn runs twice; `Absent` when there is none.
    fn start_turn(&self, turn: TurnId, messages: Vec<NewMessage>, at: Timestamp) -> Answer<'_, ()>;

    /// Marks that a call is about to be made, and adds `messages` (the model's wish) in the same step.
    ///
    /// # Errors
    /// `State` when the turn is not running, `Conflict` when the turn made this call already.
    fn start_call(&self, turn: TurnId, call: CallStart, messages: Vec<NewMessage>) -> Answer<'_, ()>;

    /// Marks that a call came back, and adds `messages` (its result) in the same step.
    ///
    /// # Errors
    /// `Absent` when the call was not started, `State` when it came back already.
    fn finish_call(&self, turn: TurnId, end: CallEnd, messages: Vec<NewMessage>) -> Answer<'_, ()>;

    /// Ends a turn: state, messages and reply in one step. Its open questions expire.
    ///
    /// # Errors
    /// `State` when it is over already.
    fn end_turn(&self, turn: TurnId, end: TurnEnd) -> Answer<'_, ()>;

    /// The turns that are not over, oldest first, with their calls: what a start after a crash has to deal with.
    fn unfinished(&self) -> Answer<'_, Vec<Unfinished>>;

    /// Puts a running turn back into the inbox, to be run again from its transcript.
    ///
    /// # Errors
    /// `State` when it is not running, or one of its calls is in doubt: that is never repeated.
    fn requeue_turn(&self, turn: TurnId, at: Timestamp) -> Answer<'_, ()>;

    /// Replies that no channel took yet, oldest first.
    fn unsent(&self) -> Answer<'_, Vec<Reply>>;

    /// The reply of `turn`.
    fn reply(&self, turn: TurnId) -> Answer<'_, Option<Reply>>;

    /// Marks a reply as taken by its channel. Answers whether it was not marked before.
    ///
    /// # Errors
    /// `Absent` when the turn has no reply.
    fn mark_sent(&self, turn: TurnId, at: Timestamp) -> Answer<'_, bool>;

    /// Keeps a question for a human.
    ///
    /// # Errors
    /// `State` when the turn is over, `Conflict` when the id is taken.
    fn ask(&self, approval: NewApproval) -> Answer<'_, ()>;

    /// The question `id`.
    fn approval(&self, id: ApprovalId) -> Answer<'_, Option<ApprovalRecord>>;

    /// Questions, newest first, at most `limit`; only those that wait when `pending`.
    fn approvals(&self, pending: bool, limit: usize) -> Answer<'_, Vec<ApprovalRecord>>;

    /// Answers a question, once.
    ///
    /// # Errors
    /// `State` when it is answered already, its time is over (it is then marked so), or the answer names another plan.
    fn decide(&self, id: ApprovalId, decision: Decision) -> Answer<'_, ApprovalRecord>;

    /// Marks the questions whose time is over at `now`, and answers which.
    fn expire_approvals(&self, now: Timestamp) -> Answer<'_, Vec<ApprovalId>>;

    /// Checks the database; answers what is wrong, one sentence each.
    fn integrity(&self) -> Answer<'_, Vec<String>>;
}
