//! [`Approvals`]: turns that wait for a human, and how the answer reaches them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sigil_gate::{Answer, Plan};
use sigil_types::{ApprovalId, Code, Digest, Principal, Role, TurnId};
use tokio::sync::oneshot;

/// A question that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The turn that waits.
    pub turn: TurnId,
    /// What is asked.
    pub plan: Plan,
    /// The digest that an answer must name.
    pub digest: Digest,
}

struct Entry {
    waiting: Waiting,
    answer: oneshot::Sender<Answer>,
}

/// Why an answer is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerRefused {
    /// No such question waits: it never was, was answered, or ran out of time.
    #[error("no question {0} waits for an answer; `sigil approvals` lists those that do")]
    Unknown(ApprovalId),
    /// The plan that was looked at is not the plan that waits.
    #[error("the plan is not the one that you looked at; look at it again")]
    Changed,
    /// Only an owner answers.
    #[error("only an owner may answer; {0} is not one")]
    NotOwner(sigil_types::UserId),
}

impl AnswerRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unknown(_) => Code::new("approval.answer.unknown"),
            Self::Changed => Code::new("approval.answer.changed"),
            Self::NotOwner(_) => Code::new("approval.answer.forbidden"),
        }
    }
}

/// A question that was put. Dropping it withdraws the question: whatever ends its turn, nobody is asked in vain.
pub(crate) struct Asked {
    approvals: Approvals,
    approval: ApprovalId,
    pub(crate) answer: oneshot::Receiver<Answer>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.approvals.withdraw(self.approval);
    }
}

/// The questions that wait in this process. The store keeps their record; a restart denies what waited.
#[derive(Clone, Default)]
pub struct Approvals {
    entries: Arc<Mutex<BTreeMap<ApprovalId, Entry>>>,
}

impl std::fmt::Debug for Approvals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Approvals({} waiting)", self.waiting().len())
    }
}

impl Approvals {
    /// Puts a question, which waits as long as what is returned lives.
    pub(crate) fn ask(&self, turn: TurnId, plan: &Plan) -> Asked {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting { turn, plan: plan.clone(), digest: plan.digest() };
        let entry = Entry { waiting, answer: sender };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(plan.approval, entry);
        Asked { approvals: self.clone(), approval: plan.approval, answer: receiver }
    }

    fn withdraw(&self, approval: ApprovalId) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&approval);
    }

    /// All questions that wait, oldest first.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values().map(|entry| entry.waiting.clone()).collect()
    }

    /// Gives an owner's answer to the plan with the digest `plan`.
    ///
    /// # Errors
    /// When no such question waits, the plan is another, or the person is no owner.
    pub fn answer(
        &self,
        approval: ApprovalId,
        plan: Digest,
        approved: bool,
        by: Principal,
    ) -> Result<(), AnswerRefused> {
        if by.role != Role::Owner {
            return Err(AnswerRefused::NotOwner(by.user));
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get(&approval) {
            None => Err(AnswerRefused::Unknown(approval)),
            Some(entry) if entry.waiting.digest != plan => Err(AnswerRefused::Changed),
            Some(_) => {
                let entry = entries.remove(&approval).ok_or(AnswerRefused::Unknown(approval))?;
                entry.answer.send(Answer { plan, approved, by }).map_err(|_| AnswerRefused::Unknown(approval))
            }
        }
    }
}
