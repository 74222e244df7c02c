//! [`StoreFailed`]: why a store did not do what it was asked.

use std::sync::Arc;

use sigil_types::Code;

/// Why a store did not do what it was asked. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailed {
    /// No such thing, in this workspace at least.
    #[error("there is no {what} `{id}`")]
    Absent {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        id: String,
    },
    /// There is one already, and it is another.
    #[error("there is a {what} `{id}` already")]
    Conflict {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        id: String,
    },
    /// It is not in a state in which this can be done.
    #[error("the {what} `{id}` is {is}: {wanted}")]
    State {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        id: String,
        /// The state that it is in.
        is: String,
        /// What would have been needed.
        wanted: &'static str,
    },
    /// The database refused: full disk, lost permission, damage.
    #[error("the store cannot be used: {reason}. Look at disk space and permissions of {file}, and run `sigil doctor`")]
    Database {
        /// The file.
        file: Arc<str>,
        /// What the database said; never content.
        reason: Arc<str>,
    },
    /// A row does not read back.
    #[error("the store holds a damaged {what}: {reason}")]
    Damaged {
        /// The kind of thing.
        what: &'static str,
        /// Why it does not read.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Absent { .. } => Code::new("store.record.find.absent"),
            Self::Conflict { .. } => Code::new("store.record.write.conflict"),
            Self::State { .. } => Code::new("store.record.write.state"),
            Self::Database { .. } => Code::new("store.database.use.failed"),
            Self::Damaged { .. } => Code::new("store.record.read.damaged"),
            Self::Closed => Code::new("store.database.use.closed"),
        }
    }

    pub(crate) fn absent(what: &'static str, id: impl ToString) -> Self {
        Self::Absent { what, id: id.to_string() }
    }

    pub(crate) fn conflict(what: &'static str, id: impl ToString) -> Self {
        Self::Conflict { what, id: id.to_string() }
    }
}
