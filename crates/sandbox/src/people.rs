//! The folders of people on this machine, which are never granted as a whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The home folders of root, of everybody with an id from 1000 on (passwd(5)), and of whoever runs this.
///
/// A machine whose people are not in `/etc/passwd` (LDAP and the like) has its own home folder from `$HOME` only.
#[must_use]
pub fn homes() -> Vec<PathBuf> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let own = std::env::var_os("HOME").map(PathBuf::from);
    let homes: BTreeSet<PathBuf> = of_passwd(&passwd).chain(own).filter(|home| is_home(home)).collect();
    homes.into_iter().collect()
}

fn of_passwd(text: &str) -> impl Iterator<Item = PathBuf> + '_ {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(2);
        let uid: u32 = fields.next()?.parse().ok()?;
        let home = fields.nth(2)?;
        (uid == 0 || (1000..65534).contains(&uid)).then(|| PathBuf::from(home))
    })
}

/// Some accounts name the root folder, or one that does not exist, for want of a home.
fn is_home(path: &Path) -> bool {
    path.is_absolute() && path != Path::new("/") && path.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_root_and_ids_from_1000_on() {
        let text = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/usr/sbin:/bin/false\nann:x:1000:1000:Ann,,,:/home/ann:/bin/sh\n\
                    nobody:x:65534:65534::/nonexistent:/bin/false\nbroken line\n";
        let homes: Vec<PathBuf> = of_passwd(text).collect();
        assert_eq!(homes, [Path::new("/root"), Path::new("/home/ann")]);
        assert!(!is_home(Path::new("/")) && !is_home(Path::new("relative")) && !is_home(Path::new("/nonexistent")));
    }
}
