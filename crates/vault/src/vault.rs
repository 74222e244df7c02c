//! [`Vault`]: secrets under one key, each handed out only for what it is bound to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sigil_types::{Code, Host, HostPattern, Name, Secret, Timestamp};
use zeroize::Zeroizing;

use crate::binding::{Asker, Binding, Consumer};
use crate::file::{self, FileRefused};
use crate::key::{Master, Unlock};
use crate::sealed::{self, Header};

/// Largest secret in bytes.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
const FILE: &str = "secrets.vault";
const LOCK: &str = "secrets.lock";

/// Why the vault cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultFailed {
    /// One of its files is not used.
    #[error(transparent)]
    File(#[from] FileRefused),
    /// The file is not a vault.
    #[error("the vault's file cannot be read: {0}")]
    Form(&'static str),
    /// The key is another one.
    #[error("this is not the key or passphrase that the vault was made with")]
    WrongKey,
    /// The key fits, the content does not.
    #[error("the vault's file was changed by somebody else than Sigil, or is damaged: put back a copy that you trust")]
    Tampered,
    /// It is unlocked in another way.
    #[error("the vault needs {needs}")]
    OtherUnlock {
        /// What it needs.
        needs: &'static str,
    },
    /// The key file holds no key.
    #[error("{path} holds no key: expected 32 bytes in base64")]
    KeyFile {
        /// Which file.
        path: PathBuf,
    },
    /// The passphrase is too short.
    #[error("a passphrase has at least 8 characters; four words are better")]
    ShortPassphrase,
    /// The secret cannot be kept.
    #[error("a secret has 1 to {MAX_SECRET_BYTES} bytes")]
    Size,
    /// There is one with another binding.
    #[error("the secret `{name}` is bound to {bound}: remove it first to bind it anew")]
    Bound {
        /// The secret.
        name: Name,
        /// Its consumer.
        bound: Consumer,
    },
    /// No randomness.
    #[error("the operating system gave no randomness")]
    Random,
    /// The cryptography library refused.
    #[error("the cryptography library refused an operation that cannot fail")]
    Crypto,
}

impl VaultFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::File(file) => file.code(),
            Self::Form(_) => Code::new("vault.file.form.invalid"),
            Self::WrongKey => Code::new("vault.unlock.key.wrong"),
            Self::Tampered => Code::new("vault.file.content.tampered"),
            Self::OtherUnlock { .. } => Code::new("vault.unlock.method.wrong"),
            Self::KeyFile { .. } => Code::new("vault.unlock.keyfile.invalid"),
            Self::ShortPassphrase => Code::new("vault.unlock.passphrase.short"),
            Self::Size => Code::new("vault.secret.size.invalid"),
            Self::Bound { .. } => Code::new("vault.secret.put.bound"),
            Self::Random => Code::new("vault.system.random.absent"),
            Self::Crypto => Code::new("vault.system.crypto.failed"),
        }
    }
}

/// Why a secret is not handed out.
#[derive(Debug, thiserror::Error)]
pub enum UseRefused {
    /// There is none of this name.
    #[error("there is no secret `{name}`: make it with `sigil secret set {name}`")]
    Absent {
        /// The name.
        name: Name,
    },
    /// It is another consumer's.
    #[error("the secret `{name}` is not for {asked}: it is bound to {bound}")]
    Consumer {
        /// The secret.
        name: Name,
        /// Who asked.
        asked: Consumer,
        /// Whose it is.
        bound: Consumer,
    },
    /// It is another workspace's.
    #[error("the secret `{name}` is bound to another workspace")]
    Workspace {
        /// The secret.
        name: Name,
    },
    /// It is not for this host.
    #[error("the secret `{name}` is not bound to {host}: it would be told to somebody it is not for")]
    Host {
        /// The secret.
        name: Name,
        /// Where it would have gone.
        host: String,
    },
    /// The vault cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultFailed),
}

impl UseRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Absent { .. } => Code::new("vault.secret.use.absent"),
            Self::Consumer { .. } => Code::new("vault.secret.use.consumer"),
            Self::Workspace { .. } => Code::new("vault.secret.use.workspace"),
            Self::Host { .. } => Code::new("vault.secret.use.host"),
            Self::Vault(vault) => vault.code(),
        }
    }
}

/// What may be shown of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretInfo {
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub binding: Binding,
    /// When it was made.
    pub created: Timestamp,
    /// When its value last changed.
    pub changed: Timestamp,
}

/// The secrets of one Sigil, in one encrypted file.
///
/// Holds the master key only. Each use reads and decrypts the file, and a change made by another process is seen at once.
pub struct Vault {
    folder: PathBuf,
    master: Master,
}

/// One secret in memory, for as long as an operation lasts.
struct Item {
    value: Secret<String>,
    binding: Binding,
    created: Timestamp,
    changed: Timestamp,
}

type Items = BTreeMap<Name, Item>;

/// One secret as it is encrypted. The value is base64, which JSON never escapes, so that reading borrows it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<'a> {
    name: Name,
    #[serde(borrow)]
    value: Cow<'a, str>,
    binding: Binding,
    created: Timestamp,
    changed: Timestamp,
}

impl Vault {
    /// Opens the vault in `folder`. When there is none, makes an empty one, and the key file when that is not there either.
    ///
    /// # Errors
    /// When others can use its files, the key is not the one it was made with, or its file was changed.
    pub fn open(folder: &Path, unlock: &Unlock) -> Result<Self, VaultFailed> {
        file::claim_folder(folder)?;
        let _changing = lock(folder)?;
        let master = match read_file(folder) {
            Ok(bytes) => Master::of_existing(unlock, Header::read(&bytes)?.0.derivation)?,
            Err(refused) if refused.is_absent() => {
                let master = Master::create(unlock)?;
                file::create(&folder.join(FILE), &sealed::seal(&master, b"[]")?)?;
                master
            }
            Err(refused) => return Err(refused.into()),
        };
        let vault = Self { folder: folder.to_owned(), master };
        vault.load()?;
        Ok(vault)
    }

    /// Keeps `value` under `name` for what `binding` says. A secret of this name gets the new value if its binding is the same.
    ///
    /// # Errors
    /// `Bound` when there is one with another binding; otherwise when the file cannot be read or written.
    pub fn put(&self, name: &Name, value: Secret<String>, binding: Binding, now: Timestamp) -> Result<(), VaultFailed> {
        if value.expose().is_empty() || value.expose().len() > MAX_SECRET_BYTES {
            return Err(VaultFailed::Size);
        }
        self.change(|items| {
            let known = items.get(name);
            if let Some(known) = known.filter(|known| known.binding != binding) {
                return Err(VaultFailed::Bound { name: name.clone(), bound: known.binding.consumer.clone() });
            }
            let created = known.map_or(now, |known| known.created);
            items.insert(name.clone(), Item { value, binding, created, changed: now });
            Ok(())
        })
    }

    /// Forgets the secret `name`. Answers whether there was one.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn remove(&self, name: &Name) -> Result<bool, VaultFailed> {
        self.change(|items| Ok(items.remove(name).is_some()))
    }

    /// What may be shown of all secrets, by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self) -> Result<Vec<SecretInfo>, VaultFailed> {
        let info = |(name, item): (Name, Item)| {
            let Item { binding, created, changed, .. } = item;
            SecretInfo { name, binding, created, changed }
        };
        Ok(self.load()?.into_iter().map(info).collect())
    }

    /// The secret `name`, for `asker` to send to `host`.
    ///
    /// # Errors
    /// When there is none, or it is bound to another consumer, workspace or host.
    pub fn use_for(&self, name: &Name, asker: Asker<'_>, host: &Host) -> Result<Secret<String>, UseRefused> {
        let item = self.item_for(name, asker)?;
        if !item.binding.covers_host(host) {
            return Err(UseRefused::Host { name: name.clone(), host: host.to_string() });
        }
        Ok(item.value)
    }

    /// The secret `name`, for `asker` to hold itself: a plugin that gets it when it starts. `reachable` are the hosts that the
    /// plugin's profile lets it reach; all must be among those that the secret is bound to.
    ///
    /// # Errors
    /// When there is none, it is bound to another consumer or workspace, or the plugin could tell it to another host.
    pub fn hand_out(
        &self,
        name: &Name,
        asker: Asker<'_>,
        reachable: &[HostPattern],
    ) -> Result<Secret<String>, UseRefused> {
        let item = self.item_for(name, asker)?;
        if !item.binding.covers_all(reachable) {
            let host = "every host that the plugin can reach".to_owned();
            return Err(UseRefused::Host { name: name.clone(), host });
        }
        Ok(item.value)
    }

    fn item_for(&self, name: &Name, asker: Asker<'_>) -> Result<Item, UseRefused> {
        let item = self.load()?.remove(name).ok_or_else(|| UseRefused::Absent { name: name.clone() })?;
        if !item.binding.is_for(asker) {
            let (asked, bound) = (asker.consumer.clone(), item.binding.consumer.clone());
            return Err(UseRefused::Consumer { name: name.clone(), asked, bound });
        }
        if !item.binding.covers_workspace(asker) {
            return Err(UseRefused::Workspace { name: name.clone() });
        }
        Ok(item)
    }

    /// Reads, changes and replaces the file, alone among all processes.
    fn change<T>(&self, change: impl FnOnce(&mut Items) -> Result<T, VaultFailed>) -> Result<T, VaultFailed> {
        let _changing = lock(&self.folder)?;
        let mut items = self.load()?;
        let answer = change(&mut items)?;
        let content = encode(&items)?;
        file::replace(&self.folder.join(FILE), &sealed::seal(&self.master, &content)?)?;
        Ok(answer)
    }

    fn load(&self) -> Result<Items, VaultFailed> {
        let content = sealed::open(&self.master, &read_file(&self.folder)?)?;
        let sealed: Vec<Sealed<'_>> =
            serde_json::from_slice(&content).map_err(|_| VaultFailed::Form("its content is of another form"))?;
        sealed.into_iter().map(decode).collect()
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.folder.display())
    }
}

fn read_file(folder: &Path) -> Result<Zeroizing<Vec<u8>>, FileRefused> {
    file::read(&folder.join(FILE), MAX_FILE_BYTES)
}

/// Waits until nobody else changes the vault. Ends when the file is dropped.
fn lock(folder: &Path) -> Result<File, FileRefused> {
    let path = folder.join(LOCK);
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    opened.and_then(|file| file.lock().map(|()| file)).map_err(|source| FileRefused::System { path, source })
}

fn encode(items: &Items) -> Result<Zeroizing<Vec<u8>>, VaultFailed> {
    let values: Vec<Zeroizing<String>> =
        items.values().map(|item| Zeroizing::new(BASE64.encode(item.value.expose()))).collect();
    let rows: Vec<Sealed<'_>> = items
        .iter()
        .zip(&values)
        .map(|((name, item), value)| Sealed {
            name: name.clone(),
            value: Cow::Borrowed(value),
            binding: item.binding.clone(),
            created: item.created,
            changed: item.changed,
        })
        .collect();
    // Measured first, so that the buffer never moves and leaves a copy behind.
    let mut length = Length(0);
    serde_json::to_writer(&mut length, &rows).map_err(|_| VaultFailed::Crypto)?;
    let mut content = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *content, &rows).map_err(|_| VaultFailed::Crypto)?;
    Ok(content)
}

fn decode(sealed: Sealed<'_>) -> Result<(Name, Item), VaultFailed> {
    const FORM: VaultFailed = VaultFailed::Form("a secret in it is of another form");
    let value = Secret::new(BASE64.decode(sealed.value.as_bytes()).map_err(|_| FORM)?);
    let text = std::str::from_utf8(value.expose()).map_err(|_| FORM)?;
    let Sealed { name, binding, created, changed, .. } = sealed;
    Ok((name, Item { value: Secret::new(text.to_owned()), binding, created, changed }))
}

/// Counts what is written to it.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
