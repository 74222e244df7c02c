//! [`Workspace`]: what a workspace has, as the agent sees it. Filled where the parts are put together.

use sigil_gate::port::PortFailed;
use sigil_gate::{Destination, Door, ToChannel, ToProvider, ToTool};
use sigil_types::{CapabilitySet, ChannelRef, Principal, Readers, WorkspaceId};

/// A model at a provider.
#[derive(Clone, Debug)]
pub struct ModelRoute {
    /// The way to the provider.
    pub door: Door<ToProvider>,
    /// The model's name there.
    pub model: String,
    /// Sampling temperature; zero is sent as zero.
    pub temperature: Option<f32>,
    /// The most tokens that an answer may have.
    pub max_tokens: Option<u32>,
}

/// A workspace: doors, grants and members. Asked anew at every step, so that changes take effect at once.
pub trait Workspace: Send + Sync {
    /// Its id.
    fn id(&self) -> &WorkspaceId;

    /// The models to ask, in order; those known to be down are left out.
    fn providers(&self) -> Vec<ModelRoute>;

    /// Told when a provider failed before its first event.
    fn provider_failed(&self, provider: &Destination, failed: &PortFailed);

    /// Told when a provider answered.
    fn provider_answered(&self, provider: &Destination);

    /// The tools that its sessions may use.
    fn tools(&self) -> Vec<Door<ToTool>>;

    /// The way to a channel instance.
    fn channel(&self, channel: &ChannelRef) -> Option<Door<ToChannel>>;

    /// Who reads what is said to `principal` in `channel`.
    fn audience(&self, channel: &ChannelRef, principal: &Principal) -> Readers;

    /// What the workspace grants its sessions.
    fn grants(&self) -> CapabilitySet;

    /// What `principal` is granted.
    fn user_grants(&self, principal: &Principal) -> CapabilitySet;
}
