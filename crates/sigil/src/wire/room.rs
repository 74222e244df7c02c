//! A workspace as the agent sees it.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use sigil_agent::{Agent, ModelRoute, Workspace};
use sigil_gate::port::PortFailed;
use sigil_gate::{Destination, Door, ToChannel, ToTool};
use sigil_provider::Health;
use sigil_types::{CapabilitySet, ChannelRef, Principal, ProviderName, Reader, Readers, Role, UserId, WorkspaceId};

/// A workspace and its agent.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) id: WorkspaceId,
    pub(crate) workspace: Arc<RoomWorkspace>,
    pub(crate) agent: Agent,
}

/// What a workspace has.
pub(crate) struct RoomWorkspace {
    pub(super) id: WorkspaceId,
    pub(super) members: BTreeSet<UserId>,
    pub(super) grants: CapabilitySet,
    pub(super) routes: Vec<(ProviderName, ModelRoute)>,
    pub(super) health: Arc<Health>,
    pub(super) channel: (ChannelRef, Door<ToChannel>),
    pub(super) tools: RwLock<Vec<Door<ToTool>>>,
}

impl std::fmt::Debug for RoomWorkspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RoomWorkspace({})", self.id)
    }
}

impl RoomWorkspace {
    /// Owners belong to every workspace; others must be listed.
    pub(crate) fn has_member(&self, who: &Principal) -> bool {
        who.role == Role::Owner || self.members.contains(&who.user)
    }

    pub(super) fn set_tools(&self, tools: Vec<Door<ToTool>>) {
        *self.tools.write().unwrap_or_else(PoisonError::into_inner) = tools;
    }
}

impl Workspace for RoomWorkspace {
    fn id(&self) -> &WorkspaceId {
        &self.id
    }

    fn providers(&self) -> Vec<ModelRoute> {
        let up = self.health.available(self.routes.clone(), |(name, _)| name);
        up.into_iter().map(|(_, route)| route).collect()
    }

    fn provider_failed(&self, provider: &Destination, _: &PortFailed) {
        if let Destination::Provider(name) = provider {
            self.health.failed(name);
        }
    }

    fn provider_answered(&self, provider: &Destination) {
        if let Destination::Provider(name) = provider {
            self.health.answered(name);
        }
    }

    fn tools(&self) -> Vec<Door<ToTool>> {
        self.tools.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn channel(&self, channel: &ChannelRef) -> Option<Door<ToChannel>> {
        (*channel == self.channel.0).then(|| self.channel.1.clone())
    }

    /// A direct conversation: its person, and nobody else. The local channel has no platform that reads along.
    fn audience(&self, _: &ChannelRef, principal: &Principal) -> Readers {
        Readers::from_iter([Reader::User(principal.user.clone())])
    }

    fn grants(&self) -> CapabilitySet {
        self.grants.clone()
    }

    /// Members have what their workspace grants; nothing narrower is configured per person yet, and nothing wider can be.
    fn user_grants(&self, principal: &Principal) -> CapabilitySet {
        if self.has_member(principal) { self.grants.clone() } else { CapabilitySet::default() }
    }
}
