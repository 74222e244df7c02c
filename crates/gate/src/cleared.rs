//! [`Cleared`]: content that the gate has let through, for one hop, one destination, once.

use std::fmt;

use sigil_audit::Receipt;
use sigil_types::{Code, Principal, SessionId, Timestamp};

use crate::hop::{Destination, Hop};

/// What a clearance is good for. A [`Door`](crate::Door) compares every field before it delivers.
#[derive(Debug)]
pub(crate) struct Permit {
    /// Where to.
    pub(crate) destination: Destination,
    /// On whose behalf.
    pub(crate) principal: Principal,
    /// In which session.
    pub(crate) session: SessionId,
    /// Under which policy.
    pub(crate) generation: u64,
    /// Before which panic stop.
    pub(crate) epoch: u64,
    /// Until when.
    pub(crate) deadline: Timestamp,
}

/// Content that may take the hop `H`, once.
///
/// INVARIANT: made in [`Cleared::mint`] only, which only this crate can call, and only after scan, labels, policy, budget
/// and a durable receipt. It has no `Clone`, `Deserialize`, `Default`, `From` or `DerefMut`, and a port consumes it.
#[must_use = "cleared content is meant to be delivered through its door"]
pub struct Cleared<H: Hop> {
    body: H::Body,
    permit: Permit,
    receipt: Receipt,
    findings: Vec<Code>,
}

impl<H: Hop> Cleared<H> {
    /// The one place where a clearance is made.
    pub(crate) const fn mint(body: H::Body, permit: Permit, receipt: Receipt, findings: Vec<Code>) -> Self {
        Self { body, permit, receipt, findings }
    }

    /// Rules that flagged or redacted something in it, strongest first.
    pub fn findings(&self) -> &[Code] {
        &self.findings
    }

    /// What was cleared.
    pub const fn body(&self) -> &H::Body {
        &self.body
    }

    /// Takes out what was cleared: the last step, at the port.
    pub fn into_body(self) -> H::Body {
        self.body
    }

    /// The durable audit entry that says why.
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The session that it belongs to.
    pub const fn session(&self) -> SessionId {
        self.permit.session
    }

    /// On whose behalf.
    pub const fn principal(&self) -> &Principal {
        &self.permit.principal
    }

    /// Where it may go.
    pub const fn destination(&self) -> &Destination {
        &self.permit.destination
    }

    pub(crate) const fn permit(&self) -> &Permit {
        &self.permit
    }
}

impl<H: Hop> fmt::Debug for Cleared<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cleared<{}>({}, {})", H::WORD, self.permit.destination, self.receipt.id())
    }
}
