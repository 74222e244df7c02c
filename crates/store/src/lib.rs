//! Storage: what a Sigil keeps of conversations, people and settings, and the SQLite files behind it.
//!
//! Callers hold `dyn` [`SessionStore`] and [`GatewayStore`]; only the binary's wiring names a backend. A session store is
//! opened for one workspace and has no way to name another. What a write's future answered is on the disk.

mod failed;
mod gateway;
mod message;
mod session;
pub mod sqlite;
mod turn;

use std::pin::Pin;

pub use failed::StoreFailed;
pub use gateway::{
    GatewayStore, MemberRecord, NewToken, PluginSetting, TokenRecord, TokenState, UserRecord, WorkspaceRecord,
};
pub use message::{Message, MessageRole, NewMessage, Part};
pub use session::{NewSession, SessionFilter, SessionRecord, SessionStore};
pub use turn::{
    Accepted, ApprovalRecord, ApprovalState, CallEnd, CallStart, Decision, Inbound, NewApproval, NewReply, Reply,
    ToolCallRecord, TurnEnd, TurnRecord, TurnState, Unfinished,
};

/// A future that can be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a store's method answers.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreFailed>>;
