//! What a Mac has in the place of a base profile's files: the commented data of `sandbox-profiles/macos.toml`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;

use crate::profile::base::LoadBase;
use crate::profile::{Access, Bind};

const MACOS: &str = include_str!("../../../../sandbox-profiles/macos.toml");

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MacOs {
    link: Vec<Link>,
    path: Vec<SystemPath>,
    service: Vec<Service>,
    pub(super) sysctl: Vec<Sysctl>,
}

/// A symbolic link that is on every Mac.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    path: PathBuf,
    to: PathBuf,
}

/// A file or folder of the system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SystemPath {
    pub(super) path: PathBuf,
    pub(super) access: Access,
    /// Only itself, and nothing below it.
    #[serde(default)]
    pub(super) only: bool,
    instead_of: PathBuf,
    why: String,
}

/// A service that may be looked up by its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) name: String,
    instead_of: PathBuf,
    why: String,
}

/// Values of the kernel that may be read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sysctl {
    pub(super) names: Vec<String>,
    #[serde(default)]
    pub(super) prefixes: Vec<String>,
    why: String,
}

impl MacOs {
    /// The data. Read once in a process.
    pub(super) fn load() -> Result<&'static Self, LoadBase> {
        static LOADED: OnceLock<Result<MacOs, LoadBase>> = OnceLock::new();
        let loaded = LOADED.get_or_init(|| {
            let malformed = |why: String| LoadBase::Malformed { file: "macos".to_owned(), why };
            let read: Self = toml::from_str(MACOS).map_err(|why| malformed(why.to_string()))?;
            if read.reasons().any(|why| why.trim().is_empty()) {
                return Err(malformed("an entry does not say why".to_owned()));
            }
            Ok(read)
        });
        loaded.as_ref().map_err(Clone::clone)
    }

    fn reasons(&self) -> impl Iterator<Item = &str> {
        let paths = self.path.iter().map(|path| path.why.as_str());
        let services = self.service.iter().map(|service| service.why.as_str());
        paths.chain(services).chain(self.sysctl.iter().map(|sysctl| sysctl.why.as_str()))
    }

    /// What takes the place of the system's files that a profile has.
    pub(super) fn paths<'a>(&'a self, system: &'a [&Bind]) -> impl Iterator<Item = &'a SystemPath> {
        self.path.iter().filter(|path| covered(system, &path.instead_of, path.access))
    }

    /// The services that a profile with these files of the system gets.
    pub(super) fn services<'a>(&'a self, system: &'a [&Bind]) -> impl Iterator<Item = &'a Service> {
        self.service.iter().filter(|service| covered(system, &service.instead_of, Access::Exec))
    }

    /// The name of `path` after following the links that are on every Mac.
    pub(super) fn resolved(&self, path: &Path) -> PathBuf {
        let inside = |link: &&Link| path.starts_with(&link.path);
        self.link.iter().find(inside).map_or_else(
            || path.to_owned(),
            |link| path.strip_prefix(&link.path).map_or_else(|_| path.to_owned(), |rest| joined(&link.to, rest)),
        )
    }

    /// The links.
    pub(super) fn links(&self) -> impl Iterator<Item = &Path> {
        self.link.iter().map(|link| link.path.as_path())
    }

    /// Every path that may stand in a profile as it is: those of this file, and what leads to them.
    pub(super) fn known(&self) -> BTreeSet<&Path> {
        let links = self.link.iter().flat_map(|link| [link.path.as_path(), link.to.as_path()]);
        links.chain(self.path.iter().map(|path| path.path.as_path())).flat_map(Path::ancestors).collect()
    }
}

/// `rest` below `folder`; `folder` itself when there is no rest, without a slash at its end.
pub(super) fn joined(folder: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { folder.to_owned() } else { folder.join(rest) }
}

/// Whether `system` gives `path` with `access`.
fn covered(system: &[&Bind], path: &Path, access: Access) -> bool {
    system.iter().any(|bind| path.starts_with(&bind.target) && bind.access >= access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_is_whole_and_stands_in_for_something() {
        let data = MacOs::load().expect("well-formed");
        let bases: Vec<_> = crate::profile::base::BaseProfile::names()
            .map(|name| crate::profile::base::BaseProfile::load(name).expect("well-formed"))
            .collect();
        for path in &data.path {
            assert!(path.access <= Access::Exec, "nothing of the system is writable: {}", path.path.display());
            assert!(path.path.is_absolute() && data.resolved(&path.path) == path.path, "{}", path.path.display());
            assert!(path.path != Path::new("/") || path.only, "never all of the root");
            let stands = |bind: &crate::profile::base::BaseBind| path.instead_of.starts_with(&bind.path);
            assert!(bases.iter().any(|base| base.bind.iter().any(stands)), "{}", path.path.display());
        }
    }

    #[test]
    fn links_are_followed_as_the_kernel_does() {
        let data = MacOs::load().expect("well-formed");
        for (path, to) in
            [("/tmp/x", "/private/tmp/x"), ("/tmp", "/private/tmp"), ("/tmpx", "/tmpx"), ("/Users/a", "/Users/a")]
        {
            assert_eq!(data.resolved(Path::new(path)), Path::new(to));
        }
    }
}
