//! The SQLite backend: one file and one thread for each database.
//!
//! `gateway.db` lies in the data folder, each workspace's `sessions.db` in `workspaces/ID/`. A file belongs to one process
//! at a time and to one workspace for ever; its owner alone can read it.

mod approvals;
mod codec;
mod database;
mod gateway;
mod schema;
mod sessions;
mod transcript;
mod turns;

use std::path::PathBuf;

pub use gateway::SqliteGateway;
pub use sessions::SqliteSessions;
use sigil_types::Code;

/// Why a database could not be opened. Without its stores Sigil does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenStore {
    /// File or folder cannot be made or opened.
    #[error("the store {path} cannot be opened: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is marked read-only.
    #[error("the store {path} is read-only: make it writable for its owner (chmod u+w)")]
    ReadOnly {
        /// Which file.
        path: PathBuf,
    },
    /// Somebody else has it open.
    #[error("the store {path} is in use by another process: one Sigil at a time")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The database refused.
    #[error("the store {path} cannot be opened: {source}")]
    Database {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// It is no store of this kind, or a later Sigil's.
    #[error("the store {path} has form {found}, but this Sigil knows forms up to {known}: use the Sigil that wrote it")]
    Form {
        /// Which file.
        path: PathBuf,
        /// The form found.
        found: i64,
        /// The newest form known.
        known: i64,
    },
    /// The file belongs to something else than what it was opened as.
    #[error("the store {path} belongs to {found}, not to {wanted}: put the right file back")]
    Stranger {
        /// Which file.
        path: PathBuf,
        /// What it says that it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
}

impl OpenStore {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::File { .. } => Code::new("store.database.open.file"),
            Self::ReadOnly { .. } => Code::new("store.database.open.readonly"),
            Self::InUse { .. } => Code::new("store.database.open.inuse"),
            Self::Database { .. } => Code::new("store.database.open.failed"),
            Self::Form { .. } => Code::new("store.database.open.form"),
            Self::Stranger { .. } => Code::new("store.database.open.stranger"),
        }
    }
}
