//! What the gateway opens and reads before it confines itself, and the confinement.
//!
//! After [`open`] the process can open its data folder, the plugin store and what the resolver reads, and nothing else: not
//! its own configuration, not the owner's keys, not the launcher's folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use sigil_config::{ProviderSettings, Resolved};
use sigil_egress::ended::SecretSource;
use sigil_policy::TrustStore;
use sigil_provider::BaseUrl;
use sigil_sandbox::client::LauncherClient;
use sigil_sandbox::confine::{Confined, Keep, Kept, confine_gateway};
use sigil_sandbox::launcher::Launcher;
use sigil_server::Listeners;
use sigil_types::{ProviderName, Secret};

use super::{launcher::private_folder, secrets};

/// Variables by which an owner names certificates of his own (openssl(1)).
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// A gateway that is confined, with everything that it will need and could not open any more.
pub(crate) struct Opened {
    pub(super) resolved: Resolved,
    pub(super) launcher: Launcher,
    pub(super) listeners: Listeners,
    /// The keys that may sign policy.
    pub(super) trust: TrustStore,
    /// The signed policy, not verified yet.
    pub(super) envelope: Vec<u8>,
    /// Where each model provider is, and its key; or why that cannot be had.
    pub(super) endpoints: BTreeMap<ProviderName, anyhow::Result<ProviderEndpoint>>,
    /// The vault for plugins that have credentials in it, or why it cannot be opened; nothing when none has.
    pub(super) credentials: Option<anyhow::Result<Arc<dyn SecretSource>>>,
    pub(super) confined: Confined,
}

impl Opened {
    /// A handle of its launcher.
    pub(crate) fn launcher(&self) -> LauncherClient {
        self.launcher.client()
    }

    /// Where the local command line reaches it.
    pub(crate) fn socket(&self) -> &Path {
        &self.resolved.folders.socket
    }
}

/// A model provider's address and key.
pub(super) struct ProviderEndpoint {
    pub(super) base_url: BaseUrl,
    pub(super) key: Option<Secret<String>>,
}

/// Opens what the gateway needs, and confines the calling process for good. To be called before it has a second thread.
/// `more` are folders that it keeps to write beside its own.
pub(crate) fn open(resolved: Resolved, launcher: Launcher, more: &[&Path]) -> anyhow::Result<Opened> {
    let folders = &resolved.folders;
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}; `sigil init` makes it", path.display()))
    };
    let trust = TrustStore::parse(&read(&folders.trust())?).context("the keys to trust cannot be used")?;
    let envelope = read(&folders.policy)?;
    let endpoint = |settings: &ProviderSettings| Some((settings.name.clone(), endpoint(&resolved, settings)?));
    let endpoints = resolved.settings.providers.iter().filter_map(endpoint).collect();
    let plugins = &resolved.settings.plugins;
    let wants = |name| plugins.settings.get(name).is_some_and(|own| !own.credentials.is_empty());
    let credentials = plugins.enabled.iter().any(wants).then(|| secrets::credentials(folders));
    private_folder(&folders.data.join("workspaces"))?;
    let listeners = Listeners::bind(resolved.settings.gateway.listen, Some(&folders.socket))?;

    let keep = |path: &Path, keep| Kept { path: path.to_owned(), keep };
    let mut kept = vec![keep(&folders.data, Keep::Write), keep(&folders.plugins(), Keep::Read)];
    // The usual folder of the socket holds nothing else. In one that the owner has chosen, the socket's file stays behind:
    // the right to remove it would be one to remove whatever lies below.
    let usual = folders.socket.parent().filter(|_| resolved.settings.gateway.socket.is_none());
    kept.extend(usual.map(|folder| keep(folder, Keep::Remove)));
    kept.extend(more.iter().map(|folder| keep(folder, Keep::Write)));
    let certificates = CERTIFICATES.into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    kept.extend(certificates.filter(|path| path.exists()).map(|path| keep(&path, Keep::Read)));
    let confined = confine_gateway(&kept)?;
    Ok(Opened { resolved, launcher, listeners, trust, envelope, endpoints, credentials, confined })
}

/// Where a provider is; nothing for one that is no server.
fn endpoint(resolved: &Resolved, settings: &ProviderSettings) -> Option<anyhow::Result<ProviderEndpoint>> {
    let default = settings.kind.default_base_url()?;
    let endpoint = || {
        let base_url: BaseUrl = settings.base_url.as_deref().unwrap_or(default).parse()?;
        let key = settings
            .api_key
            .as_ref()
            .map(|reference| secrets::provider_key(&resolved.folders, &settings.name, &reference.0, &base_url));
        Ok(ProviderEndpoint { base_url, key: key.transpose()? })
    };
    Some(endpoint())
}
