//! What the gate and its doors share: the rules in force, the clock, the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sigil_audit::AuditLog;
use sigil_policy::Policy;
use sigil_scan::Scanner;
use sigil_types::{Author, Clock, Digest, ProviderName, Timestamp, ToolName, WorkspaceId};

use crate::cache::ScanCache;
use crate::port::Budget;

pub(crate) struct Core {
    pub(crate) scanner: Scanner,
    pub(crate) scans: ScanCache,
    pub(crate) audit: AuditLog,
    pub(crate) budget: Arc<dyn Budget>,
    clock: Arc<dyn Clock>,
    /// The latest moment that anything trustworthy has named. The clock may not be behind it.
    floor: AtomicU64,
    policy: RwLock<Arc<Policy>>,
    generation: AtomicU64,
    epoch: AtomicU64,
    /// Tools whose results hold nobody's words but their own and their caller's.
    own_words: RwLock<std::collections::BTreeSet<ToolName>>,
    text_key: ring::hmac::Key,
}

impl Core {
    pub(crate) fn new(
        scanner: Scanner,
        policy: Arc<Policy>,
        audit: AuditLog,
        budget: Arc<dyn Budget>,
        clock: Arc<dyn Clock>,
        text_key: &[u8; 32],
    ) -> Self {
        Self {
            scanner,
            scans: ScanCache::default(),
            audit,
            budget,
            clock,
            floor: AtomicU64::new(policy.not_before().as_millis()),
            policy: RwLock::new(policy),
            generation: AtomicU64::new(1),
            epoch: AtomicU64::new(0),
            own_words: RwLock::default(),
            text_key: ring::hmac::Key::new(ring::hmac::HMAC_SHA256, text_key),
        }
    }

    /// The present moment: the clock's, but never before a moment that was seen already.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.clock.now().as_millis();
        Timestamp::from_millis(self.floor.fetch_max(now, Ordering::Relaxed).max(now))
    }

    pub(crate) fn see(&self, moment: Timestamp) {
        self.floor.fetch_max(moment.as_millis(), Ordering::Relaxed);
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_policy(&self, policy: Arc<Policy>) {
        self.see(policy.not_before());
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        *current = policy;
        // Under the lock, so that nobody reads the new policy with the old generation.
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn stop_everything(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn register_tool(&self, tool: ToolName, own_words: bool) {
        let mut tools = self.own_words.write().unwrap_or_else(PoisonError::into_inner);
        if own_words {
            tools.insert(tool);
        } else {
            tools.remove(&tool);
        }
    }

    pub(crate) fn trusts_provider(&self, provider: &ProviderName) -> bool {
        self.policy().ceilings().trusted_providers.contains(provider)
    }

    /// Whether `author` may cause effects by itself (line 12): an owner, the acting person, a tool whose results hold
    /// nobody else's words.
    pub(crate) fn trusts(&self, author: &Author, acting: &Author) -> bool {
        match author {
            Author::Owner(_) => true,
            Author::Tool(tool) => self.own_words.read().unwrap_or_else(PoisonError::into_inner).contains(tool),
            Author::Provider(provider) => self.trusts_provider(provider),
            // Skills are endorsed by digest; none is loaded yet, so none is endorsed.
            Author::Skill(_) | Author::World => false,
            Author::Member(_) => author == acting,
        }
    }

    /// How the log refers to a text: an HMAC under a key of the workspace, so that nobody can confirm a guess.
    pub(crate) fn text_ref(&self, workspace: &WorkspaceId, text: &[u8]) -> Digest {
        let own = ring::hmac::sign(&self.text_key, workspace.as_str().as_bytes());
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, own.as_ref());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(ring::hmac::sign(&key, text).as_ref());
        Digest::from_bytes(bytes)
    }
}
