//! The plugin store: each plugin's file tree in a folder that is named by its digest.
//!
//! It is written by `sigil plugin install` and at start, before the gateway confines itself; a running gateway cannot write
//! it. Nothing in it is trusted for being there: the launcher hashes a tree again at every launch.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sigil_proto::manifest::{self, Checked, Manifest, ManifestRefused, ParseManifest};
use sigil_sandbox::tree::{self, HashTree};
use sigil_types::{Code, Digest, Name, PluginName};

/// Why a plugin was not installed or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailed {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no manifest.
    #[error("{0} has no plugin.yaml: it is not a plugin")]
    NotAPlugin(PathBuf),
    /// The manifest cannot be read.
    #[error("{path}: {source}")]
    Manifest {
        /// Of which folder.
        path: PathBuf,
        /// Why not.
        source: ParseManifest,
    },
    /// The manifest has mistakes.
    #[error("{path}: {source}")]
    Mistakes {
        /// Of which folder.
        path: PathBuf,
        /// All of them.
        source: ManifestRefused,
    },
    /// The program that the manifest names is not there.
    #[error("{path} names the program {program}, which is not in its folder or cannot be executed; run `./task build`")]
    NoProgram {
        /// The plugin's folder.
        path: PathBuf,
        /// What the manifest says.
        program: String,
    },
    /// The tree cannot be hashed.
    #[error(transparent)]
    Tree(#[from] HashTree),
    /// The tree changed while it was copied.
    #[error("{0} changed while it was copied; install it again when nobody writes to it")]
    Changed(PathBuf),
    /// What the store has under a digest has another one.
    #[error("{0} in the plugin store is damaged; remove it and install the plugin again")]
    Damaged(PathBuf),
}

impl StoreFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Io { .. } => const { Code::new("host.store.file.unusable") },
            Self::NotAPlugin(_) => const { Code::new("host.store.manifest.missing") },
            Self::Manifest { source, .. } => source.code(),
            Self::Mistakes { source, .. } => source.code(),
            Self::NoProgram { .. } => const { Code::new("host.store.program.missing") },
            Self::Tree(error) => error.code(),
            Self::Changed(_) => const { Code::new("host.store.tree.changed") },
            Self::Damaged(_) => const { Code::new("host.store.tree.damaged") },
        }
    }
}

/// A plugin in the store.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Its manifest.
    pub manifest: Manifest<Checked>,
    /// The manifest's text, which is part of the tree.
    pub text: String,
    /// The digest of its tree.
    pub tree: Digest,
    /// Where it stands.
    pub folder: PathBuf,
}

impl Installed {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.manifest.spec().name
    }
}

/// The plugin store.
#[derive(Clone, Debug)]
pub struct PluginStore {
    root: PathBuf,
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> StoreFailed {
    let path = path.to_path_buf();
    move |source| StoreFailed::Io { path, source }
}

impl PluginStore {
    /// The store in the folder `root`, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreFailed> {
        let root = root.into();
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&root).map_err(io_at(&root))?;
        Ok(Self { root })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Copies the plugin in the folder `source` into the store. A tree that is there already stays as it is.
    ///
    /// # Errors
    /// [`StoreFailed`]; then nothing is added.
    pub fn install(&self, source: &Path) -> Result<Installed, StoreFailed> {
        // Checked before anything is copied, so that what is refused leaves nothing behind.
        read_plugin(source)?;
        let tree = tree::hash(source)?.digest;
        let folder = self.root.join(tree::folder_name(&tree));
        if !folder.exists() {
            let draft = self.root.join(format!(".draft-{}-{}", std::process::id(), tree.short()));
            let placed = copy_tree(source, &draft).and_then(|()| {
                if tree::hash(&draft)?.digest != tree {
                    return Err(StoreFailed::Changed(source.to_path_buf()));
                }
                fs::rename(&draft, &folder).map_err(io_at(&folder))
            });
            if let Err(failed) = placed {
                // The draft is of no use; the error that matters is the first one.
                let _ = fs::remove_dir_all(&draft);
                return Err(failed);
            }
        }
        self.get(&tree)?.ok_or(StoreFailed::Damaged(folder))
    }

    /// The plugin whose tree has this digest, which is computed again.
    ///
    /// # Errors
    /// [`StoreFailed`] when it is there, and is not what it was.
    pub fn get(&self, tree: &Digest) -> Result<Option<Installed>, StoreFailed> {
        let folder = self.root.join(tree::folder_name(tree));
        if !folder.exists() {
            return Ok(None);
        }
        if tree::hash(&folder)?.digest != *tree {
            return Err(StoreFailed::Damaged(folder));
        }
        let (manifest, text) = read_plugin(&folder)?;
        Ok(Some(Installed { manifest, text, tree: *tree, folder }))
    }

    /// Everything in the store, by name and version, and what of it is damaged.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn list(&self) -> Result<Vec<Result<Installed, StoreFailed>>, StoreFailed> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(io_at(&self.root))? {
            let name = entry.map_err(io_at(&self.root))?.file_name();
            let digest = name.to_str().and_then(|name| name.replacen('-', ":", 1).parse::<Digest>().ok());
            let Some(digest) = digest else { continue };
            match self.get(&digest) {
                Ok(None) => {}
                Ok(Some(installed)) => found.push(Ok(installed)),
                Err(failed) => found.push(Err(failed)),
            }
        }
        found.sort_by_key(|plugin| match plugin {
            Ok(plugin) => Some((plugin.name().clone(), plugin.manifest.spec().version.clone())),
            Err(_) => None,
        });
        Ok(found)
    }

    /// Removes a tree. That it is not there is not an error.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, tree: &Digest) -> Result<(), StoreFailed> {
        let folder = self.root.join(tree::folder_name(tree));
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(&folder)(error)),
            _ => Ok(()),
        }
    }
}

/// Reads and checks the manifest in a plugin's folder, and that its program is there.
fn read_plugin(folder: &Path) -> Result<(Manifest<Checked>, String), StoreFailed> {
    let path = folder.join(manifest::FILE_NAME);
    let bytes = match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_file() && meta.len() <= manifest::MAX_BYTES as u64 => {
            fs::read(&path).map_err(io_at(&path))?
        }
        Ok(meta) if meta.is_file() => {
            let size = ParseManifest::Size(usize::try_from(meta.len()).unwrap_or(usize::MAX));
            return Err(StoreFailed::Manifest { path, source: size });
        }
        _ => return Err(StoreFailed::NotAPlugin(folder.to_path_buf())),
    };
    let parsed = Manifest::parse(&bytes).map_err(|source| StoreFailed::Manifest { path: path.clone(), source })?;
    let checked = parsed.validate().map_err(|source| StoreFailed::Mistakes { path: path.clone(), source })?;
    let program = checked.spec().execution.command.first().map_or("", String::as_str);
    let executable =
        fs::metadata(folder.join(program)).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if !executable {
        return Err(StoreFailed::NoProgram { path: folder.to_path_buf(), program: program.to_owned() });
    }
    // `parse` has accepted the bytes as UTF-8.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok((checked, text))
}

/// Copies folders, files and links; other things the hash has refused already, and refuses again afterwards.
fn copy_tree(from: &Path, to: &Path) -> Result<(), StoreFailed> {
    fs::DirBuilder::new().mode(0o755).create(to).map_err(io_at(to))?;
    for entry in fs::read_dir(from).map_err(io_at(from))? {
        let entry = entry.map_err(io_at(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = fs::symlink_metadata(&source).map_err(io_at(&source))?;
        if meta.is_dir() {
            copy_tree(&source, &target)?;
        } else if meta.is_symlink() {
            let leads = fs::read_link(&source).map_err(io_at(&source))?;
            std::os::unix::fs::symlink(leads, &target).map_err(io_at(&target))?;
        } else if meta.is_file() {
            let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            let mut read = fs::File::open(&source).map_err(io_at(&source))?;
            let mut options = fs::OpenOptions::new();
            let mut write = options.write(true).create_new(true).mode(mode).open(&target).map_err(io_at(&target))?;
            io::copy(&mut read, &mut write).map_err(io_at(&target))?;
            // The umask may have taken from the mode; whether it can be executed is part of the digest.
            write.set_permissions(fs::Permissions::from_mode(mode)).map_err(io_at(&target))?;
        }
    }
    Ok(())
}

/// Where plugins are looked for, in order: folders named on the command line, in the configuration, and what was installed
/// with Sigil itself.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// `--plugin-dir`, each a plugin or a folder of plugins.
    pub command_line: Vec<PathBuf>,
    /// From the configuration, likewise.
    pub configured: Vec<PathBuf>,
}

impl Search {
    /// The folder of the plugin `name`: the first that there is.
    #[must_use]
    pub fn find(&self, name: &PluginName) -> Option<PathBuf> {
        let beside = beside_executable();
        let roots = self.command_line.iter().chain(&self.configured).chain(&beside);
        let mut candidates = roots.flat_map(|root| [root.join(name.as_str()), root.clone()]);
        candidates.find(|folder| read_name(folder).is_some_and(|found| found.as_str() == name.as_str()))
    }

    /// The names of all plugins that are found, each with its folder: the first of a name wins.
    #[must_use]
    pub fn all(&self) -> Vec<(Name, PathBuf)> {
        let mut found: Vec<(Name, PathBuf)> = Vec::new();
        let beside = beside_executable();
        for root in self.command_line.iter().chain(&self.configured).chain(&beside) {
            let below = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut folders: Vec<PathBuf> = std::iter::once(root.clone()).chain(below).collect();
            folders.sort();
            for folder in folders {
                if let Some(name) = read_name(&folder)
                    && !found.iter().any(|(known, _)| *known == name)
                {
                    found.push((name, folder));
                }
            }
        }
        found
    }
}

/// `<exe>/../lib/sigil/plugins`.
fn beside_executable() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    Some(executable.parent()?.parent()?.join("lib/sigil/plugins"))
}

/// The name in a folder's manifest, for looking it up only: installing checks the whole.
fn read_name(folder: &Path) -> Option<Name> {
    let (manifest, _) = read_plugin(folder).ok()?;
    manifest.spec().name.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "manifest: 1\nname: sample\nversion: 0.1.0\ntype: tool\nengine: '>=0.1'\nlicense: MIT\n\
        description: A sample.\ncapabilities: []\nexecution:\n  tier: process\n  transport: sdk\n  command: [bin/sample]\n  \
        sandbox: { profile: native }\n";

    fn plugin(manifest: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("bin")).expect("made");
        fs::write(folder.path().join("plugin.yaml"), manifest).expect("written");
        fs::write(folder.path().join("bin/sample"), "#!/bin/true").expect("written");
        fs::set_permissions(folder.path().join("bin/sample"), fs::Permissions::from_mode(0o700)).expect("set");
        folder
    }

    #[test]
    fn a_tree_is_stored_under_its_digest_once() {
        let source = plugin(MANIFEST);
        let root = tempfile::tempdir().expect("a folder");
        let store = PluginStore::open(root.path().join("plugins")).expect("a store");
        let first = store.install(source.path()).expect("installed");
        let again = store.install(source.path()).expect("installed again");
        assert_eq!((first.tree, first.name().as_str()), (again.tree, "sample"));
        assert_eq!(store.list().expect("listed").len(), 1);
        assert_eq!(fs::read_dir(store.root()).expect("listed").count(), 1, "no draft is left");

        fs::write(source.path().join("bin/sample"), "#!/bin/false").expect("written");
        let other = store.install(source.path()).expect("installed");
        assert_ne!(other.tree, first.tree);
        assert_eq!(store.list().expect("listed").len(), 2);
        store.remove(&first.tree).expect("removed");
        assert!(store.get(&first.tree).expect("looked up").is_none());
    }

    #[test]
    fn a_damaged_tree_is_found_out() {
        let source = plugin(MANIFEST);
        let root = tempfile::tempdir().expect("a folder");
        let store = PluginStore::open(root.path()).expect("a store");
        let installed = store.install(source.path()).expect("installed");
        fs::write(installed.folder.join("bin/sample"), "#!/bin/evil").expect("written");
        assert!(matches!(store.get(&installed.tree), Err(StoreFailed::Damaged(_))));
        assert!(matches!(store.install(source.path()), Err(StoreFailed::Damaged(_))));
    }

    #[test]
    fn what_is_not_a_plugin_is_refused_and_leaves_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let store = PluginStore::open(root.path()).expect("a store");
        let empty = tempfile::tempdir().expect("a folder");
        assert!(matches!(store.install(empty.path()), Err(StoreFailed::NotAPlugin(_))));
        let wrong = plugin("manifest: 1");
        assert!(matches!(store.install(wrong.path()), Err(StoreFailed::Mistakes { .. })));
        let missing = plugin(MANIFEST);
        fs::remove_file(missing.path().join("bin/sample")).expect("removed");
        assert!(matches!(store.install(missing.path()), Err(StoreFailed::NoProgram { .. })));
        let leading_out = plugin(MANIFEST);
        std::os::unix::fs::symlink("/etc", leading_out.path().join("etc")).expect("linked");
        assert!(matches!(store.install(leading_out.path()), Err(StoreFailed::Tree(_))));
        assert_eq!(fs::read_dir(root.path()).expect("listed").count(), 0);
    }

    #[test]
    fn the_first_folder_wins() {
        let (one, two) = (plugin(MANIFEST), plugin(MANIFEST));
        let name: PluginName = "sample".parse().expect("a name");
        let search = Search { command_line: vec![one.path().into()], configured: vec![two.path().into()] };
        assert_eq!(search.find(&name).as_deref(), Some(one.path()));
        assert_eq!(search.all().iter().filter(|(found, _)| found.as_str() == "sample").count(), 1);
        let search = Search { configured: vec![two.path().into()], ..Search::default() };
        assert_eq!(search.find(&name).as_deref(), Some(two.path()));
    }
}
