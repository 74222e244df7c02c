//! From what a person says to what the compiler takes: paths are resolved, here and once, and it is looked whether what is
//! denied can be denied.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::symlink_metadata;
use std::path::{Component, Path, PathBuf};

use super::RunFailed;
use super::options::{Given, PathRule};
use crate::profile::{Access, GUARDED, Mask, MaskKind, Never, NeverGrant, Relation, Source, Wish};

/// What is granted and what of it is taken back, resolved.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) files: Vec<Wish>,
    pub(super) masks: Vec<Mask>,
    /// Files that tools run commands from and that are not there, in folders that may be changed: what is not there cannot be
    /// covered, so it is looked again afterwards.
    pub(super) absent: Vec<PathBuf>,
    /// What has no effect.
    pub(super) notes: Vec<String>,
    /// Where it is said that everything is granted about which nothing is said.
    by_default: Option<String>,
}

/// Names that the settings of Anthropic's sandbox runtime keep from being changed wherever they stand.
const RUN_BY_TOOLS: [&str; 14] = [
    ".gitconfig",
    ".gitmodules",
    ".bashrc",
    ".bash_profile",
    ".zshrc",
    ".zprofile",
    ".profile",
    ".ripgreprc",
    ".mcp.json",
    ".vscode",
    ".idea",
    ".claude/commands",
    ".claude/agents",
    ".git/hooks",
];

/// Resolves `given`. With `depth`, files that tools run commands from are looked for so deep below writable folders, too.
///
/// `own` is where the sandbox has something of its own.
pub(super) fn resolve(
    given: &[Given],
    never: &NeverGrant,
    own: &[PathBuf],
    depth: Option<u8>,
) -> Result<Wishes, RunFailed> {
    let mut wishes = Wishes::default();
    for one in given {
        match one.rule {
            PathRule::Grant(access) => {
                let path = canonical(&one.path)?;
                wishes.grant(path, access, &one.from, never, false);
            }
            PathRule::GrantCovered(access) => match canonical(&one.path) {
                Ok(path) if path == Path::new("/") && access != Access::Write => {
                    wishes.everything(&path, &Everything { access, from: &one.from, own }, never);
                }
                // The private one is writable anyway.
                Ok(path) if path == Path::new("/tmp") && access == Access::Write => {}
                Ok(path) => wishes.grant(path, access, &one.from, never, true),
                Err(RunFailed::Path { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    wishes.notes.push(format!("{} ({}) is not there", one.path.display(), one.from));
                }
                Err(error) => return Err(error),
            },
            PathRule::Mask(_) | PathRule::MaskIfThere(_) => {}
        }
    }
    for one in given {
        let (kind, must_be_there) = match one.rule {
            PathRule::Mask(kind) => (kind, true),
            PathRule::MaskIfThere(kind) => (kind, false),
            _ => continue,
        };
        wishes.take_back(&one.path, kind, &one.from, must_be_there)?;
    }
    wishes.settle(given);
    wishes.guard(depth);
    Ok(wishes)
}

/// All of this machine that may be had.
struct Everything<'a> {
    access: Access,
    from: &'a str,
    /// Where the sandbox has something of its own.
    own: &'a [PathBuf],
}

impl Wishes {
    fn grant(&mut self, path: PathBuf, access: Access, from: &str, never: &NeverGrant, whole: bool) {
        let holds = match never.check(&path, access) {
            Err(Never::Place { relation: Relation::Holds, .. }) => true,
            Err(Never::Home { .. }) => whole,
            _ => false,
        };
        // What may be changed is never covered: a protected place that is not there yet could be made.
        let covered = holds && matches!(access, Access::Read | Access::Exec);
        if covered {
            for (place, what) in never.inside(&path) {
                // Through a link the place is where it leads.
                let Ok(place) = std::fs::canonicalize(place) else { continue };
                let mask = Mask { path: place, kind: MaskKind::Hidden, from: Source::Sigil { why: what.to_owned() } };
                // A link that leads out of what is never granted changes nothing.
                if !self.masks.contains(&mask) && mask.path != path {
                    self.masks.push(mask);
                }
            }
        }
        self.files.push(Wish { path, access, from: from.to_owned(), covered });
    }

    /// What stands in `folder`, one by one where the sandbox has something of its own in it. Links are left out.
    fn everything(&mut self, folder: &Path, ask: &Everything<'_>, never: &NeverGrant) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let plain = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_file()));
        let mut paths: Vec<PathBuf> = plain.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let refused = matches!(
                never.check(&path, ask.access),
                Err(Never::Place { relation: Relation::Same | Relation::Below, .. } | Never::Name { .. } | Never::Form)
            );
            if refused || ask.own.contains(&path) {
                continue;
            }
            if ask.own.iter().any(|own| own.starts_with(&path)) {
                self.everything(&path, ask, never);
            } else {
                self.by_default = Some(ask.from.to_owned());
                self.grant(path, ask.access, ask.from, never, true);
            }
        }
    }

    fn take_back(&mut self, path: &Path, kind: MaskKind, from: &str, must_be_there: bool) -> Result<(), RunFailed> {
        let failed = |source| RunFailed::Path { path: path.to_path_buf(), source };
        let absolute = std::path::absolute(path).map_err(failed)?;
        let Followed { path: real, links, missing } = follow(&absolute).map_err(failed)?;
        if let Some(link) = links.iter().find(|link| self.files.iter().any(|wish| link.starts_with(&wish.path))) {
            return Err(RunFailed::DenyThroughLink { path: path.to_path_buf(), link: link.clone() });
        }
        if missing && self.is_writable(&real) {
            return Err(RunFailed::DenyMissing { path: path.to_path_buf() });
        }
        if missing && must_be_there {
            return Err(failed(std::io::Error::from_raw_os_error(libc::ENOENT)));
        }
        if missing {
            self.notes.push(format!("{} ({from}) is not there", path.display()));
            return Ok(());
        }
        self.masks.push(Mask { path: real, kind, from: Source::Command { option: from.to_owned() } });
        Ok(())
    }

    /// Of a default and what is said, the latter counts; of reading that is denied and that is allowed for the same path, the
    /// latter, as settings mean it.
    fn settle(&mut self, given: &[Given]) {
        let hidden = |mask: &Mask, path: &Path| mask.kind == MaskKind::Hidden && mask.path == path;
        let all = self.masks.iter().any(|mask| hidden(mask, Path::new("/")));
        self.masks.retain(|mask| !hidden(mask, Path::new("/")));
        let (by_default, masks) = (&self.by_default, &self.masks);
        self.files.retain(|wish| {
            let default = by_default.as_ref() == Some(&wish.from);
            !(default && (all || masks.iter().any(|mask| hidden(mask, &wish.path))))
        });
        let again = |mask: &Mask| self.files.iter().any(|wish| hidden(mask, &wish.path) && wish.access == Access::Exec);
        let allowed = given.iter().any(|one| one.rule == PathRule::GrantCovered(Access::Exec));
        self.masks.retain(|mask| !(allowed && again(mask)));
    }

    /// Whether `path` lies below a folder that may be changed.
    fn is_writable(&self, path: &Path) -> bool {
        let above = |wish: &&Wish| path != wish.path && path.starts_with(&wish.path);
        let closest = self.files.iter().filter(above).max_by_key(|wish| (wish.path.components().count(), wish.access));
        closest.is_some_and(|wish| wish.access == Access::Write)
    }

    /// Keeps from being changed what tools run commands from.
    fn guard(&mut self, depth: Option<u8>) {
        let roots = self.files.iter().filter(|wish| wish.access == Access::Write).map(|wish| wish.path.clone());
        for root in roots.collect::<Vec<_>>() {
            if !root.is_dir() {
                continue;
            }
            let missing = GUARDED.iter().map(|name| root.join(name)).filter(|path| symlink_metadata(path).is_err());
            self.absent.extend(missing);
            let mut found = Vec::new();
            // Of a work tree elsewhere: it names the folder whose hooks are run.
            found.extend(Some(root.join(".git")).filter(|git| git.is_file()));
            if let Some(depth) = depth {
                search(&root, depth, &mut found);
            }
            for path in found {
                let why = "commands that tools run".to_owned();
                self.masks.push(Mask { path, kind: MaskKind::ReadOnly, from: Source::Sigil { why } });
            }
        }
    }
}

/// Looks for what tools run commands from, in `folder` and so many folders below. No link is followed.
fn search(folder: &Path, depth: u8, found: &mut Vec<PathBuf>) {
    for name in RUN_BY_TOOLS.into_iter().chain([".git/config"]) {
        let path = folder.join(name);
        // What is a link, or lies behind one, is covered where it leads, if that can be changed at all.
        let plain = symlink_metadata(&path).is_ok_and(|found| !found.is_symlink());
        if plain && std::fs::canonicalize(&path).is_ok_and(|real| real == path) {
            found.push(path);
        }
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let skip = [".git", "node_modules"].iter().any(|name| entry.file_name() == *name);
        if !skip && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&entry.path(), depth, found);
        }
    }
}

/// Where a path leads.
struct Followed {
    /// Without any link; what is missing stands at its end.
    path: PathBuf,
    /// The links on the way, each by its own path without any link.
    links: Vec<PathBuf>,
    /// Whether there is nothing.
    missing: bool,
}

/// Follows the absolute `path` part by part.
fn follow(path: &Path) -> std::io::Result<Followed> {
    const MOST: usize = 40;
    let mut rest: Vec<OsString> = parts(path);
    let (mut here, mut links, mut missing) = (PathBuf::from("/"), Vec::new(), false);
    while let Some(part) = rest.pop() {
        if part == ".." {
            here.pop();
            continue;
        }
        here.push(&part);
        match symlink_metadata(&here) {
            _ if missing => {}
            Ok(found) if found.is_symlink() => {
                let to = std::fs::read_link(&here)?;
                links.push(here.clone());
                if links.len() > MOST {
                    return Err(std::io::Error::from_raw_os_error(libc::ELOOP));
                }
                here =
                    if to.is_absolute() { "/".into() } else { here.parent().unwrap_or(Path::new("/")).to_path_buf() };
                rest.extend(parts(&to));
            }
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => missing = true,
            Err(error) => return Err(error),
        }
    }
    Ok(Followed { path: here, links, missing })
}

/// The names of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

pub(super) fn canonical(path: &Path) -> Result<PathBuf, RunFailed> {
    std::fs::canonicalize(path).map_err(|source| RunFailed::Path { path: path.to_path_buf(), source })
}

/// The environment: what `given` names, with the value there or the one of this process.
pub(super) fn environment(given: &[String]) -> Result<BTreeMap<String, String>, RunFailed> {
    let mut env = BTreeMap::new();
    if let Ok(terminal) = std::env::var("TERM") {
        env.insert("TERM".to_owned(), terminal);
    }
    for variable in given {
        let (name, value) =
            variable.split_once('=').map_or((variable.as_str(), None), |(name, value)| (name, Some(value)));
        let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(named) || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(RunFailed::Variable(name.to_owned()));
        }
        let value = match value {
            Some(value) => value.to_owned(),
            // What is not there is not passed on.
            None => match std::env::var(name) {
                Ok(value) => value,
                Err(std::env::VarError::NotPresent) => continue,
                Err(std::env::VarError::NotUnicode(_)) => return Err(RunFailed::Encoding),
            },
        };
        env.insert(name.to_owned(), value);
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn given(path: &Path, rule: PathRule) -> Given {
        Given { path: path.to_path_buf(), rule, from: "test".to_owned() }
    }

    #[test]
    fn links_are_followed_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("a", root.join("l")).unwrap();
        symlink(root.join("l/b"), root.join("m")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let followed = follow(&root.join("m/../b/./new/x")).unwrap();
        assert_eq!(followed.path, root.join("a/b/new/x"));
        assert_eq!(followed.links, [root.join("m"), root.join("l")]);
        assert!(followed.missing);
        assert!(!follow(&root.join("m")).unwrap().missing);
        assert!(follow(&root.join("loop")).is_err());
    }

    #[test]
    fn what_cannot_be_denied_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::create_dir_all(root.join("w/in")).unwrap();
        std::fs::create_dir(root.join("r")).unwrap();
        symlink("in", root.join("w/link")).unwrap();
        symlink("../w", root.join("r/link")).unwrap();
        let never = NeverGrant::default();
        let with = |path: &str, rule| {
            let grants = [
                given(&root.join("w"), PathRule::Grant(Access::Write)),
                given(&root.join("r"), PathRule::Grant(Access::Read)),
            ];
            let all = grants.into_iter().chain([given(&root.join(path), rule)]).collect::<Vec<_>>();
            resolve(&all, &never, &[], None)
        };
        let (mask, lax) = (PathRule::Mask(MaskKind::Hidden), PathRule::MaskIfThere(MaskKind::ReadOnly));
        for rule in [mask, lax] {
            assert!(matches!(with("w/in/new", rule), Err(RunFailed::DenyMissing { .. })));
            assert!(matches!(with("w/link", rule), Err(RunFailed::DenyThroughLink { .. })));
            assert!(matches!(with("w/link/x", rule), Err(RunFailed::DenyThroughLink { .. })));
            assert!(matches!(with("r/link", rule), Err(RunFailed::DenyThroughLink { .. })));
            assert_eq!(with("w/in", rule).unwrap().masks.len(), 1);
        }
        assert!(matches!(with("r/new", mask), Err(RunFailed::Path { .. })));
        let noted = with("r/new", lax).unwrap();
        assert_eq!((noted.masks.len(), noted.notes.len()), (0, 1));
        assert_eq!(noted.absent.len(), GUARDED.len());
    }

    #[test]
    fn protected_places_in_what_is_read_are_covered() {
        let folder = tempfile::tempdir().unwrap();
        let home = std::fs::canonicalize(folder.path()).unwrap();
        for name in [".ssh", ".config/autostart", ".config/app", "keys"] {
            std::fs::create_dir_all(home.join(name)).unwrap();
        }
        symlink(home.join("keys"), home.join(".gnupg")).unwrap();
        let never = NeverGrant { own: Vec::new(), homes: vec![home.clone()] };
        let masks = |path: &Path, rule| {
            let wishes = resolve(&[given(path, rule)], &never, &[], None).unwrap();
            (wishes.files[0].covered, wishes.masks.into_iter().map(|mask| mask.path).collect::<Vec<_>>())
        };
        let (covered, found) = masks(&home, PathRule::GrantCovered(Access::Exec));
        assert!(covered);
        for name in [".ssh", ".config/autostart", "keys"] {
            assert!(found.contains(&home.join(name)), "{name}: {found:?}");
        }
        assert_eq!(
            masks(&home.join(".config"), PathRule::Grant(Access::Read)),
            (true, vec![home.join(".config/autostart")])
        );
        assert!(!masks(&home, PathRule::Grant(Access::Read)).0, "a whole home folder is not granted by an option");
        assert!(!masks(&home.join(".config"), PathRule::Grant(Access::Write)).0, "what may be changed is not covered");
    }

    #[test]
    fn variables_have_names() {
        let env = environment(&["A_1=x=y".to_owned(), "NO_SUCH_VARIABLE_HERE".to_owned(), "B=".to_owned()]).unwrap();
        assert_eq!(env.get("A_1").map(String::as_str), Some("x=y"));
        assert_eq!(env.get("B").map(String::as_str), Some(""));
        assert!(!env.contains_key("NO_SUCH_VARIABLE_HERE"));
        for bad in ["=x", "1A=x", "A B=x", "A-B", ""] {
            assert!(environment(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
