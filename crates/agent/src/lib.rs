//! The agent: sessions, lanes, and the turn.
//!
//! Read `turn.rs` first. An [`Agent`] serves one workspace. It holds no provider, tool or channel, only the gate's doors
//! to them; whatever it wants to send, it has cleared first.

mod agent;
mod approvals;
mod budget;
mod calls;
mod hub;
mod journal;
mod lanes;
mod reply;
mod schema;
mod transcript;
mod turn;
mod work_time;
mod workspace;

pub use agent::{Agent, AgentParts, AgentSettings, Message, Recovered, SubmitFailed, Submitted, may_see};
pub use approvals::{AnswerRefused, Approvals, Waiting};
pub use budget::TokenBudget;
pub use hub::{Hub, Watcher};
pub use workspace::{ModelRoute, Workspace};
