//! [`Session`]: one conversation as the gate sees it: who, where, and a label that only rises.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sigil_policy::Policy;
use sigil_types::{CapabilitySet, ChannelRef, Label, Principal, Readers, SessionId, WorkspaceId};

/// What a session is opened with.
#[derive(Clone, Debug)]
pub struct SessionContext {
    /// Its id.
    pub id: SessionId,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Who acts in it.
    pub principal: Principal,
    /// The channel instance that it takes place in.
    pub channel: ChannelRef,
    /// Everybody who sees replies: the chat's members, and the platform behind the channel.
    pub audience: Readers,
    /// The label that was stored for it; [`Label::bottom`] for a new one.
    pub label: Label,
    /// What the workspace grants.
    pub workspace_grants: CapabilitySet,
    /// What the user is granted.
    pub user_grants: CapabilitySet,
}

/// A conversation.
///
/// INVARIANT: its label `K` is the join of all parts ever in it. Only this crate raises it, nothing lowers it, and
/// whoever stores sessions stores it before an effect that it allows.
pub struct Session {
    context: SessionContext,
    opened_under: Arc<Policy>,
    opened_in: u64,
    label: Mutex<Label>,
    typed_links: Mutex<BTreeSet<String>>,
}

/// A poisoned lock still holds a label that only ever rose.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Links that people typed, kept per session; more are treated as not typed.
const MAX_TYPED_LINKS: usize = 256;

impl Session {
    pub(crate) fn new(context: SessionContext, opened_under: Arc<Policy>, opened_in: u64) -> Self {
        let label = Mutex::new(context.label.clone());
        Self { context, opened_under, opened_in, label, typed_links: Mutex::default() }
    }

    /// The policy that was in force when it was opened.
    pub(crate) const fn opened_under(&self) -> &Arc<Policy> {
        &self.opened_under
    }

    /// The panic epoch in which it was opened. What it wants is good for that one only, so a panic stop ends its turn.
    pub(crate) const fn opened_in(&self) -> u64 {
        self.opened_in
    }

    /// What it was opened with. Its `label` is the one at that time; see [`Session::label`].
    #[must_use]
    pub const fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.context.id
    }

    /// The label `K` as it stands.
    #[must_use]
    pub fn label(&self) -> Label {
        lock(&self.label).clone()
    }

    /// Whether everybody who sees this session's replies may read all that it has read.
    #[must_use]
    pub fn audience_may_read(&self) -> bool {
        self.context.audience.is_subset(&lock(&self.label).readers)
    }

    /// Joins `label` into `K` and returns the new `K`.
    pub(crate) fn raise(&self, label: &Label) -> Label {
        let mut mine = lock(&self.label);
        *mine = mine.join(label);
        mine.clone()
    }

    /// Remembers that a trusted author typed `link`.
    pub(crate) fn add_typed_link(&self, link: &str) {
        let mut links = lock(&self.typed_links);
        if links.len() < MAX_TYPED_LINKS {
            links.insert(link.to_owned());
        }
    }

    pub(crate) fn typed_links(&self) -> BTreeSet<String> {
        lock(&self.typed_links).clone()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({}, {})", self.context.id, self.context.workspace)
    }
}
