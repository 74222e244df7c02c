//! Setting up a Sigil: owner key, signed policy, trusted keys, plugins, configuration, first token. What `sigil init` and
//! `sigil demo` have in common; they differ in what they ask and where they put it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sigil_config::Folders;
use sigil_host::{PluginStore, Search};
use sigil_policy::sign::{KeyFile, SigningKey, Validity, sign};
use sigil_policy::{
    Ceilings, EgressIdentity, Endpoint, FolderGrant, HostRule, LocalAddress, Preset, ProviderGrant, SecretConsumer,
    SecretGrant, Source, TrustStore,
};
use sigil_server::{TokenKind, mint};
use sigil_store::sqlite::SqliteGateway;
use sigil_store::{GatewayStore, NewToken, UserRecord};
use sigil_types::{
    AddressClass, Clock, Host, HostPattern, Name, PluginName, ProviderName, Role, Secret, SystemClock, UserId,
};

use crate::wire::launcher::private_folder;

/// Days that a policy made here is valid.
const VALID_DAYS: u64 = 365;
/// Days that the first token is valid.
const TOKEN_DAYS: u64 = 90;

/// A provider to bind in the signed policy.
pub(crate) struct BoundProvider {
    pub(crate) name: ProviderName,
    /// Absent for one that is part of Sigil.
    pub(crate) endpoint: Option<Endpoint>,
}

/// What a plugin gets in the signed policy, beside its endorsement.
#[derive(Default)]
pub(crate) struct PluginRights {
    pub(crate) folders: BTreeMap<Name, Vec<FolderGrant>>,
    pub(crate) hosts: Vec<HostRule>,
    pub(crate) local: Vec<std::net::SocketAddr>,
}

/// Everything that is decided before a Sigil is set up.
pub(crate) struct Plan {
    pub(crate) folders: Folders,
    pub(crate) owner: UserId,
    pub(crate) preset: Preset,
    pub(crate) provider: Option<BoundProvider>,
    /// Secret in the vault, and the provider that may use it.
    pub(crate) vault_key: Option<Name>,
    /// Plugins to install and endorse, with their rights.
    pub(crate) plugins: BTreeMap<PluginName, PluginRights>,
    pub(crate) search: Search,
    /// Seals the owner's key; without one it lies open.
    pub(crate) passphrase: Option<Secret<String>>,
    /// Text of `sigil.yaml`.
    pub(crate) config: String,
}

/// What was made.
pub(crate) struct Made {
    pub(crate) key: PathBuf,
    pub(crate) config: PathBuf,
    /// Plugins that are endorsed.
    pub(crate) plugins: Vec<String>,
    /// Plugins that were wanted and not found.
    pub(crate) not_found: Vec<String>,
    /// The first token, to be shown once.
    pub(crate) token: Secret<String>,
}

/// Makes all of it. Refuses where a Sigil is set up already.
pub(crate) fn set_up(plan: Plan) -> anyhow::Result<Made> {
    let folders = &plan.folders;
    let config = folders.config.join("sigil.yaml");
    for present in [&config, &folders.policy] {
        if present.exists() {
            bail!(
                "a Sigil is set up here already: {} exists. Nothing was changed; use another --config and --data-dir, or \
                 move it away",
                present.display()
            );
        }
    }
    for folder in [&folders.config, &folders.keys(), &folders.data, &folders.plugins(), &folders.vault()] {
        private_folder(folder)?;
    }
    let key = SigningKey::generate().context("cannot make the owner's key")?;
    let key_path = folders.keys().join("owner.json");
    let key_file = match &plan.passphrase {
        Some(passphrase) => KeyFile::seal(&key, passphrase)?,
        None => KeyFile::plain(&key),
    };
    key_file.write(&key_path)?;

    let (endorsed, not_found) = install(&plan)?;
    let mut source = Source::embedded(plan.preset)?;
    source.edit_ceilings(|ceilings| edit(ceilings, &plan, &endorsed))?;
    source.write(&folders.config.join("policy")).context("cannot write the policy's source")?;
    let envelope = sign(&source, 1, Validity::days(SystemClock.now(), VALID_DAYS), &key)?;
    write_new(&folders.policy, &envelope, 0o644)?;

    let trust = TrustStore::of_one("owner".parse().context("the owner key's name")?, key.public());
    sigil_sandbox::launcher::write_trust(&folders.launcher, &trust)?;
    let token = first_token(folders, &plan.owner)?;
    write_new(&config, plan.config.as_bytes(), 0o600)?;
    let plugins = endorsed.keys().map(ToString::to_string).collect();
    Ok(Made { key: key_path, config, plugins, not_found, token })
}

/// Copies the plugins into the store; answers the digests of their trees.
fn install(plan: &Plan) -> anyhow::Result<(BTreeMap<PluginName, sigil_types::Digest>, Vec<String>)> {
    let store = PluginStore::open(plan.folders.plugins())?;
    let (mut endorsed, mut not_found) = (BTreeMap::new(), Vec::new());
    for name in plan.plugins.keys() {
        match plan.search.find(name) {
            None => not_found.push(name.to_string()),
            Some(folder) => {
                let installed = store.install(&folder).with_context(|| format!("cannot install plugin {name}"))?;
                endorsed.insert(name.clone(), installed.tree);
            }
        }
    }
    Ok((endorsed, not_found))
}

/// The signed ceilings: this owner, this provider, these plugins, and nothing more.
fn edit(ceilings: &mut Ceilings, plan: &Plan, endorsed: &BTreeMap<PluginName, sigil_types::Digest>) {
    ceilings.owners = BTreeSet::from([plan.owner.clone()]);
    if let Some(provider) = &plan.provider {
        bind(ceilings, provider, plan.vault_key.as_ref());
    }
    for (name, tree) in endorsed {
        let Some(rights) = plan.plugins.get(name) else { continue };
        let grant = ceilings.plugins.entry(name.clone()).or_default();
        grant.trees.insert(*tree);
        grant.folders.clone_from(&rights.folders);
        grant.hosts.clone_from(&rights.hosts);
        let who = EgressIdentity::Plugin(name.clone());
        let local = rights.local.iter().map(|address| LocalAddress { plugin: who.clone(), address: *address });
        ceilings.egress.local.extend(local);
    }
}

fn bind(ceilings: &mut Ceilings, provider: &BoundProvider, vault_key: Option<&Name>) {
    let grant = ProviderGrant { name: provider.name.clone(), endpoint: provider.endpoint.clone(), reader: None };
    ceilings.providers.push(grant);
    // The owner chose this vendor: its answers add no author of their own to a conversation.
    ceilings.trusted_providers.insert(provider.name.clone());
    let Some(endpoint) = &provider.endpoint else { return };
    if let Host::Address(ip) = &endpoint.at.host
        && matches!(AddressClass::of(*ip), AddressClass::Loopback | AddressClass::Private)
    {
        let address = std::net::SocketAddr::new(*ip, endpoint.at.port);
        ceilings.egress.local.push(LocalAddress { plugin: EgressIdentity::Host, address });
    }
    if let Some(name) = vault_key {
        ceilings.secrets.push(SecretGrant {
            name: name.clone(),
            consumer: SecretConsumer::Provider(provider.name.clone()),
            hosts: BTreeSet::from([HostPattern::Exact(endpoint.at.host.clone())]),
        });
    }
}

/// A token for the owner, with everything that an owner may do, so that the API can be used at once.
fn first_token(folders: &Folders, owner: &UserId) -> anyhow::Result<Secret<String>> {
    let now = SystemClock.now();
    let minted = mint(TokenKind::Personal, now).map_err(|_| anyhow::anyhow!("the system has no randomness to give"))?;
    let store = SqliteGateway::open(&folders.data)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let user = UserRecord {
            id: owner.clone(),
            display_name: owner.to_string(),
            role: Role::Owner,
            created: now,
            disabled: None,
        };
        store.put_user(user).await?;
        let token = NewToken {
            id: minted.id,
            user: owner.clone(),
            title: "made by sigil init".to_owned(),
            digest: minted.digest,
            scopes: sigil_server::Scope::ALL.iter().map(|scope| scope.as_str().to_owned()).collect(),
            created: now,
            expires: Some(now.plus_millis(TOKEN_DAYS * 86_400_000)),
        };
        store.create_token(token).await
    })?;
    Ok(minted.text)
}

/// Writes a file that must not be there yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
