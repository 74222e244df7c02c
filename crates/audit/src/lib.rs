//! The audit log: append-only, a Merkle tree over its entries, signed heads, and an offline verifier.
//!
//! No audit, no action: whatever has an effect waits for the [`Receipt`] of its entry. The leaf that is hashed (RFC 6962)
//! is exactly the stored bytes of the entry; heads are C2SP tlog-checkpoints, signed by a witness that signs only what
//! extends its last head. [`verify()`] finds what was edited, removed, reordered, inserted or cut off.

pub mod checkpoint;
mod entry;
mod log;
pub mod merkle;
mod pending;
mod read;
mod refusal;
mod schema;
mod shared;
mod verify;
pub mod witness;
mod writer;

pub use checkpoint::{SignedHead, SigningKey, VerifyKey};
pub use entry::{Entry, MAX_ENTRY_BYTES, Stored, write_canonical};
pub use log::{AuditLog, Grown, HeadFailed, OpenLog, Options};
pub use pending::{AppendFailed, Pending, Receipt};
pub use read::{Filter, InclusionProof, MAX_LIMIT, ReadFailed, Reader};
pub use refusal::AGGREGATED;
pub use verify::{Fault, FaultKind, Report, VerifyKeys, verify};
pub use witness::{HeadSigner, HeadToSign, LocalSigner, SignRefused};
