//! Secrets at rest, and the references by which configuration names them.
//!
//! One encrypted file holds all secrets. Each is bound, when it is made, to the consumer, the workspace and the hosts that it
//! is for, and is handed out for nothing else. The file is read anew for every use, so no secret stays in memory between uses.

mod binding;
mod file;
mod key;
mod reference;
mod sealed;
mod vault;

pub use binding::{Asker, Binding, Consumer, ParseConsumer};
pub use file::{FileRefused, read_secret_file};
pub use key::Unlock;
pub use reference::{ParseSecretRef, ResolveRefused, SecretRef};
pub use vault::{MAX_SECRET_BYTES, SecretInfo, UseRefused, Vault, VaultFailed};
