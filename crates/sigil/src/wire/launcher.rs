//! Before the runtime: folders, and the launcher.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sigil_config::Resolved;
use sigil_sandbox::launcher::{self, Launcher, LauncherConfig};

/// Programs that may run in the sandbox at once.
const MAX_RUNNING: usize = 64;

/// Makes the folders of this Sigil and forks the launcher. To be called from `main`, before any thread exists and before
/// anything from outside is read.
pub(crate) fn fork_launcher(resolved: &Resolved) -> anyhow::Result<Launcher> {
    let folders = &resolved.folders;
    for folder in [&folders.data, &folders.vault(), &folders.launcher, &folders.plugins(), &folders.launches()] {
        private_folder(folder)?;
    }
    let config = LauncherConfig {
        state: folders.launcher.clone(),
        plugins: folders.plugins(),
        run: folders.launches(),
        own: vec![folders.data.clone(), folders.config.clone(), folders.launcher.clone()],
        homes: homes(),
        origin: format!("sigil/{}", host_name()),
        cgroup: resolved.settings.plugins.cgroup.clone(),
        max_running: MAX_RUNNING,
    };
    Ok(launcher::fork(config)?)
}

/// Makes a folder that only its owner can enter.
pub(crate) fn private_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))?;
    let mode = std::fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?.permissions();
    if mode.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot close the folder {} to others", path.display()))?;
    }
    Ok(())
}

/// The folders of people on this machine: never granted as a whole.
fn homes() -> Vec<PathBuf> {
    let mut homes = vec![PathBuf::from("/root"), PathBuf::from("/home")];
    homes.extend(
        std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute() && home != Path::new("/")),
    );
    if let Ok(entries) = std::fs::read_dir("/home") {
        homes.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
    }
    homes.sort();
    homes.dedup();
    homes
}

/// The machine's name, as far as the origin of audit heads needs it: letters, digits, dots and hyphens.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let clean: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
    if clean.is_empty() { "host".to_owned() } else { clean }
}
