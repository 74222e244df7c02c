//! The forms on the wire: what clients send and get, also for the client in this repository.
//!
//! Keys are snake case, times RFC 3339 with milliseconds, sizes bytes; empty lists are `[]`. Clients must tolerate new
//! keys and new words in answers; requests with unknown keys are refused.

mod approval;
mod audit;
mod denial;
mod event;
mod list;
mod plugin;
mod policy;
mod scan;
mod session;
mod status;
mod turn;

pub use approval::{Approval, ApprovalState, Decision};
pub use audit::{AuditEvent, AuditQuery};
pub use denial::{Denial, Denials, Proposal};
pub use event::Envelope;
pub(crate) use event::TurnEventData;
pub use list::{ApprovalList, AuditEventList, MessageList, PluginList, SessionList};
pub use plugin::{Plugin, PluginDetail, PluginState, PluginTool, PluginUse};
pub use policy::{Layer, Policy, Sandbox, Signer};
pub use scan::{ScanFinding, ScanReport, ScanRequest};
pub use session::{Message, NewSession, Session};
pub use status::{Component, Health, Status};
pub use turn::{NewTurn, Turn, TurnAccepted, TurnState};
