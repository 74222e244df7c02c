//! [`RuleSet`]: whether the rules of a profile cover where a program looks.
//!
//! What a program names is matched as text with the rules, and then with what is on this machine: a path that exists nowhere
//! was not refused by anybody. The answer explains; mounts and Landlock decide, and have decided when it is given.

use std::path::{Component, Path, PathBuf};

use super::Need;
use crate::profile::{Access, ProcMode, Profile};

/// The rules of a profile on files, to match looks with.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// What is mounted from the host: where it appears, what it is there, and what may be done.
    binds: Vec<(PathBuf, PathBuf, Access)>,
    /// Private folders in memory.
    private: Vec<PathBuf>,
    /// Files that exist only inside.
    own: Vec<PathBuf>,
    /// What `/dev` has inside.
    devices: Vec<PathBuf>,
    proc: bool,
}

/// What covers a path.
enum Cover<'a> {
    /// A file or folder of the host.
    Bind(&'a (PathBuf, PathBuf, Access)),
    /// A private folder.
    Private,
    /// Something that exists only inside.
    Own,
    /// Nothing, but something below it does.
    Above,
    Nothing,
}

impl RuleSet {
    /// The rules of `profile`.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        // Beside the nodes the links that every program has there, to its own descriptors.
        let names = profile.devices.iter().map(|device| device.name()).chain(["fd", "stdin", "stdout", "stderr"]);
        Self {
            binds: profile.binds.iter().map(|bind| (bind.target.clone(), bind.source.clone(), bind.access)).collect(),
            private: profile.tmpfs.iter().map(|tmpfs| tmpfs.path.clone()).collect(),
            own: profile.files.iter().map(|file| file.path.clone()).collect(),
            devices: names.map(|name| Path::new("/dev").join(name)).collect(),
            proc: profile.proc == ProcMode::Pids,
        }
    }

    /// Where a look for `path` met no rule: the path on the host, with links resolved. `None` when the rules cover it, or
    /// when nothing is there.
    #[must_use]
    pub fn refuses(&self, path: &Path, need: Need) -> Option<PathBuf> {
        let path = plain(path)?;
        if need != Need::Execute && self.devices.iter().any(|device| path.starts_with(device)) {
            return None;
        }
        match self.cover(&path) {
            Cover::Own if need <= Need::Read => None,
            Cover::Own => Some(path),
            Cover::Private if need == Need::Execute => Some(path),
            Cover::Private => None,
            Cover::Bind((target, source, access)) => {
                let rest = path.strip_prefix(target).unwrap_or(Path::new(""));
                let on_host = if rest.as_os_str().is_empty() { source.clone() } else { source.join(rest) };
                let real = real(&on_host, need)?;
                // A link in a granted folder may lead out of it: what it leads to is what is not there.
                let followed = if real == on_host { Some(*access) } else { self.of_host(&real) };
                match followed {
                    Some(access) if suffices(access, need) => None,
                    Some(_) | None => Some(real),
                }
            }
            Cover::Above if need == Need::Look => None,
            Cover::Above => Some(path),
            Cover::Nothing if self.proc && is_own_process(&path) => None,
            Cover::Nothing => real(&path, need),
        }
    }

    fn cover(&self, path: &Path) -> Cover<'_> {
        if self.own.iter().any(|own| own == path) {
            return Cover::Own;
        }
        let bind = self.binds.iter().filter(|(target, ..)| path.starts_with(target)).max_by_key(|(t, ..)| depth(t));
        let private = self.private.iter().filter(|folder| path.starts_with(folder)).max_by_key(|folder| depth(folder));
        match (bind, private) {
            (Some(bind), Some(folder)) if depth(&bind.0) < depth(folder) => Cover::Private,
            (Some(bind), _) => Cover::Bind(bind),
            (None, Some(_)) => Cover::Private,
            (None, None) => {
                let targets = self
                    .binds
                    .iter()
                    .map(|(target, ..)| target)
                    .chain(&self.private)
                    .chain(&self.own)
                    .chain(&self.devices);
                if targets.into_iter().any(|target| target.starts_with(path)) { Cover::Above } else { Cover::Nothing }
            }
        }
    }

    /// What may be done with a path of the host, wherever it appears inside.
    fn of_host(&self, path: &Path) -> Option<Access> {
        let covering = self.binds.iter().filter(|(_, source, _)| path.starts_with(source));
        covering.max_by_key(|(_, source, _)| depth(source)).map(|(.., access)| *access)
    }
}

fn depth(path: &Path) -> usize {
    path.components().count()
}

const fn suffices(access: Access, need: Need) -> bool {
    match need {
        Need::Look | Need::Read => true,
        Need::Execute => matches!(access, Access::Exec),
        Need::Write => matches!(access, Access::Write | Access::Scratch),
    }
}

/// Its own and other processes' folders below `/proc`, of which a program sees its own.
fn is_own_process(path: &Path) -> bool {
    let Ok(rest) = path.strip_prefix("/proc") else { return false };
    match rest.iter().next().and_then(|name| name.to_str()) {
        None => true,
        Some("self" | "thread-self") => true,
        Some(name) => name.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// An absolute path without `.` and `..`, by its text.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::from("/");
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return None;
    }
    for component in components {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(plain)
}

/// The path on this machine with links resolved; `None` when nothing is there that could be had. What is to be written need
/// not exist, only the folder that it is to be in.
fn real(path: &Path, need: Need) -> Option<PathBuf> {
    match std::fs::canonicalize(path) {
        Ok(real) => Some(real),
        Err(_) if need == Need::Write => Some(std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?)),
        // A person who may not look there cannot grant it either.
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(folder: &Path) -> RuleSet {
        let at = |name: &str| folder.join(name);
        RuleSet {
            binds: vec![
                ("/usr".into(), "/usr".into(), Access::Exec),
                (at("read"), at("read"), Access::Read),
                (at("write"), at("write"), Access::Write),
                ("/plugin".into(), at("tree"), Access::Exec),
            ],
            private: vec!["/tmp/private".into()],
            own: vec!["/etc/passwd".into()],
            devices: vec!["/dev/null".into(), "/dev/fd".into()],
            proc: true,
        }
    }

    #[test]
    fn what_the_rules_cover_is_no_denial() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        for name in ["read", "write", "tree", "secret"] {
            std::fs::create_dir(folder.join(name)).unwrap();
            std::fs::write(folder.join(name).join("a"), "a").unwrap();
        }
        std::os::unix::fs::symlink(folder.join("secret/a"), folder.join("read/out")).unwrap();
        std::os::unix::fs::symlink(folder.join("write/a"), folder.join("read/in")).unwrap();
        let rules = rules(&folder);
        let at = |name: &str| folder.join(name);
        for (path, need) in [
            (at("read/a"), Need::Read),
            (at("read/none"), Need::Read),
            (at("read/../read/./a"), Need::Read),
            (at("read/in"), Need::Read),
            (at("write/new"), Need::Write),
            (folder.clone(), Need::Look),
            ("/".into(), Need::Look),
            ("/tmp/private/x".into(), Need::Write),
            ("/etc/passwd".into(), Need::Read),
            ("/dev/null".into(), Need::Write),
            ("/dev/fd/3".into(), Need::Read),
            ("/dev".into(), Need::Look),
            ("/proc/self/maps".into(), Need::Read),
            ("/proc/1".into(), Need::Look),
            ("/plugin/a".into(), Need::Execute),
            ("/no/such/path".into(), Need::Read),
            ("/no/such/path".into(), Need::Write),
            ("relative".into(), Need::Read),
        ] {
            assert_eq!(rules.refuses(&path, need), None, "{need:?} {}", path.display());
        }
        for (path, need, real) in [
            (at("secret/a"), Need::Read, at("secret/a")),
            (at("secret/new"), Need::Write, at("secret/new")),
            (at("read/../secret/a"), Need::Look, at("secret/a")),
            (at("read/a"), Need::Write, at("read/a")),
            (at("read/new"), Need::Write, at("read/new")),
            (at("read/a"), Need::Execute, at("read/a")),
            (at("read/out"), Need::Read, at("secret/a")),
            (at("read/in"), Need::Execute, at("write/a")),
            (folder.clone(), Need::Read, folder.clone()),
            ("/tmp/private/x".into(), Need::Execute, "/tmp/private/x".into()),
            ("/etc/passwd".into(), Need::Write, "/etc/passwd".into()),
            ("/proc/meminfo".into(), Need::Read, "/proc/meminfo".into()),
        ] {
            assert_eq!(rules.refuses(&path, need), Some(real), "{need:?} {}", path.display());
        }
    }
}
