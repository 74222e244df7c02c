//! [`Folders`]: where everything of one Sigil lies.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sigil_types::WorkspaceId;

/// Where everything of one Sigil lies. Pure names: nothing is created or checked here.
///
/// ```text
/// <data>/            gateway.db  audit.db  text.key  vault/  workspaces/<id>/  run/
/// <data>.launcher/   the launcher's own, which the gateway cannot write: trusted keys, policy floor, last signed head,
///                    plugins/, launches/
/// <config>/sigil.yaml  policy.dsse  keys/
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Folders {
    /// Data folder.
    pub data: PathBuf,
    /// The launcher's own folder, beside the data folder and never below it.
    pub launcher: PathBuf,
    /// Configuration folder, which the gateway may only read.
    pub config: PathBuf,
    /// The signed policy.
    pub policy: PathBuf,
    /// The Unix socket of the local command line.
    pub socket: PathBuf,
}

impl Folders {
    /// The gateway's database.
    #[must_use]
    pub fn gateway_db(&self) -> PathBuf {
        self.data.join("gateway.db")
    }

    /// The audit log.
    #[must_use]
    pub fn audit_db(&self) -> PathBuf {
        self.data.join("audit.db")
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> PathBuf {
        self.data.join("vault")
    }

    /// The folder of one workspace. Names cannot leave it: [`WorkspaceId`] is a safe path component.
    #[must_use]
    pub fn workspace(&self, id: &WorkspaceId) -> PathBuf {
        self.data.join("workspaces").join(id.as_str())
    }

    /// The store of installed plugins, which the gateway may only read.
    #[must_use]
    pub fn plugins(&self) -> PathBuf {
        self.launcher.join("plugins")
    }

    /// Where the private folders of running programs are.
    #[must_use]
    pub fn launches(&self) -> PathBuf {
        self.launcher.join("launches")
    }

    /// The keys that may sign the policy: the launcher's, read by the gateway only before it confines itself.
    #[must_use]
    pub fn trust(&self) -> PathBuf {
        self.launcher.join("trust.json")
    }

    /// The owner's signing keys, which `sigil start` never opens.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.config.join("keys")
    }

    /// The launcher's folder of a data folder.
    #[must_use]
    pub fn launcher_of(data: &Path) -> PathBuf {
        let mut name = data.as_os_str().to_owned();
        name.push(".launcher");
        PathBuf::from(name)
    }
}
