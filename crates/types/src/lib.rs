//! The words of Sigil: the types that every other crate speaks in.
//!
//! Nothing here does input or output. What is here is either a *proof carrier* ([`Untrusted`], [`Secret`]), a *name*
//! ([`id`], [`Code`], [`Digest`], [`Host`]), or a *label* ([`Label`], [`ToolFacts`]).

mod capability;
mod code;
mod digest;
mod ended;
mod event;
mod facts;
mod host;
mod id;
mod label;
mod nearest;
mod principal;
mod secret;
mod stage;
mod time;
mod untrusted;

pub use capability::{Capability, CapabilityPattern, CapabilitySet, ParseCapabilityError};
pub use code::{Code, ParseCodeError};
pub use digest::{Digest, ParseDigestError};
pub use ended::{
    Credentials, EndedHost, FieldName, MAX_PATH, Method, ParseFieldName, ParseMethod, ParsePathRule, ParseUrlPath,
    PathRule, RequestRule, UrlPath,
};
pub use event::{Outcome, TurnEvent, Usage, VerdictKind};
pub use facts::{Effect, ToolFacts};
pub use host::{AddressClass, Host, HostName, HostPattern, HostPort, ParseHostError};
pub use id::{
    ApprovalId, EventId, InstanceId, LaunchId, Name, ParseIdError, PluginName, ProviderName, RequestId, SessionId,
    SkillName, TokenId, ToolName, TurnId, UserId, WorkspaceId,
};
pub use label::{Author, Authors, Label, MAX_NAMED_AUTHORS, ParseLabelError, Reader, Readers};
pub use nearest::nearest;
pub use principal::{ChannelRef, Principal, Role};
pub use secret::Secret;
pub use stage::{Action, Hop, Origin, Stage};
pub use time::{Clock, SystemClock, Timestamp};
pub use untrusted::Untrusted;
