//! Secrets on their way from where they lie to the one place of use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use sigil_config::Folders;
use sigil_egress::BoxFuture;
use sigil_egress::ended::{SecretSource, VaultUnavailable};
use sigil_provider::BaseUrl;
use sigil_types::{Host, Name, PluginName, ProviderName, Secret, WorkspaceId};
use sigil_vault::{Asker, Consumer, SecretRef, Unlock, UseRefused, Vault};

/// The file with the vault's key: beside the configuration, away from the data that it opens.
pub(crate) fn vault_key_file(folders: &Folders) -> PathBuf {
    folders.keys().join("vault.key")
}

/// Opens the vault with its key file.
pub(crate) fn open_vault(folders: &Folders) -> anyhow::Result<Vault> {
    Vault::open(&folders.vault(), &Unlock::KeyFile(vault_key_file(folders))).context("the vault cannot be opened")
}

/// The key of a model provider, for the one host of its base URL.
pub(super) fn provider_key(
    folders: &Folders,
    provider: &ProviderName,
    reference: &str,
    base_url: &BaseUrl,
) -> anyhow::Result<Secret<String>> {
    let reference: SecretRef = reference.parse().context("api_key")?;
    let vault = match reference {
        SecretRef::Vault(_) => Some(open_vault(folders)?),
        SecretRef::Env(_) | SecretRef::File(_) => None,
    };
    let consumer = Consumer::Provider(provider.clone());
    let asker = Asker { consumer: &consumer, workspace: None };
    reference.resolve(vault.as_ref(), asker, &base_url.endpoint().at.host).context("api_key")
}

/// The vault, as plugins' credentials come from it.
#[derive(Debug)]
struct Credentials(Arc<Vault>);

/// The vault for plugins that have credentials in it.
pub(super) fn credentials(folders: &Folders) -> anyhow::Result<Arc<dyn SecretSource>> {
    Ok(Arc::new(Credentials(Arc::new(open_vault(folders)?))))
}

impl SecretSource for Credentials {
    fn secret<'a>(
        &'a self,
        name: &'a Name,
        plugin: &'a PluginName,
        workspace: Option<&'a WorkspaceId>,
        host: &'a Host,
    ) -> BoxFuture<'a, Result<Option<Secret<String>>, VaultUnavailable>> {
        let vault = Arc::clone(&self.0);
        let (name, consumer) = (name.clone(), Consumer::Plugin(plugin.clone()));
        let (workspace, host) = (workspace.cloned(), host.clone());
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || {
                vault.use_for(&name, Asker { consumer: &consumer, workspace: workspace.as_ref() }, &host)
            });
            match asked.await.map_err(|_| VaultUnavailable)? {
                Ok(secret) => Ok(Some(secret)),
                Err(UseRefused::Vault(error)) => {
                    tracing::error!(%error, "wire.credentials");
                    Err(VaultUnavailable)
                }
                Err(_) => Ok(None),
            }
        })
    }
}

/// The key under which the audit log refers to texts. Made at the first start.
pub(super) fn text_key(data: &Path) -> anyhow::Result<[u8; 32]> {
    let path = data.join("text.key");
    if let Ok(bytes) = std::fs::read(&path) {
        return <[u8; 32]>::try_from(bytes.as_slice()).with_context(|| {
            format!("{} has {} bytes instead of 32; restore it from a backup", path.display(), bytes.len())
        });
    }
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| anyhow::anyhow!("the system has no randomness to give"))?;
    crate::setup::write_new(&path, &key, 0o600)?;
    Ok(key)
}
