//! Holding the ancestors of what is less than its surroundings.
//!
//! A part of a writable folder that is to read only is held by its mount, which hides a *name*. Whoever may rename the folder
//! above that name makes another of the same name beside it, and the mount moves away with the old one. So each folder
//! between the two is a mount of its own, with the same access: the kernel does not rename mounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Access, Bind, LinkRule};

/// Adds what must be mounted so that no read-only part of a writable folder can be moved away.
pub(super) fn pin(binds: &mut BTreeMap<PathBuf, Bind>) {
    let parts: Vec<PathBuf> =
        binds.values().filter(|bind| !writable(bind.access)).map(|bind| bind.target.clone()).collect();
    for part in parts {
        hold(binds, &part);
    }
}

/// Adds what must be mounted so that nothing can be put in the place of `part`, where it lies in what may be changed.
pub(super) fn hold(binds: &mut BTreeMap<PathBuf, Bind>, part: &Path) {
    let around = part.ancestors().skip(1).find_map(|folder| binds.get(folder)).cloned();
    // What stands in a folder that may not be changed stays; and the way to it must not become writable.
    let Some(around) = around.filter(|around| writable(around.access)) else { return };
    for folder in part.ancestors().skip(1).take_while(|folder| *folder != around.target) {
        let Ok(below) = folder.strip_prefix(&around.target) else { break };
        binds.entry(folder.to_owned()).or_insert_with(|| Bind {
            source: around.source.join(below),
            target: folder.to_owned(),
            access: around.access,
            optional: true,
            link: LinkRule::Refuse,
        });
    }
}

const fn writable(access: Access) -> bool {
    matches!(access, Access::Write | Access::Scratch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_between_a_writable_one_and_a_read_only_part_are_mounts() {
        let bind = |path: &str, access| {
            let path = PathBuf::from(path);
            (path.clone(), Bind { source: path.clone(), target: path, access, optional: false, link: LinkRule::Refuse })
        };
        let mut binds = BTreeMap::from([
            bind("/srv/w", Access::Write),
            bind("/srv/w/.git/hooks", Access::Read),
            bind("/srv/w/.envrc", Access::Read),
            bind("/srv/w/a/b/c", Access::Read),
            bind("/srv/w/a/b/c/d/e", Access::Write),
            bind("/srv/w/r", Access::Read),
            bind("/srv/w/r/e/f", Access::Exec),
            bind("/srv/other/x/y", Access::Read),
        ]);
        let before = binds.clone();
        pin(&mut binds);
        let added: Vec<&str> = binds
            .iter()
            .filter(|(path, _)| !before.contains_key(*path))
            .filter_map(|(path, _)| path.to_str())
            .collect();
        assert_eq!(added, ["/srv/w/.git", "/srv/w/a", "/srv/w/a/b"]);
        assert!(added.iter().all(|path| binds[Path::new(path)].access == Access::Write));
    }
}
