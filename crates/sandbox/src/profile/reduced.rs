//! Posture `reduced`: from a profile that counts on namespaces to one that does without them.
//!
//! Without a mount namespace the program sees the host's own paths, so the plugin's tree keeps its place, what would be
//! made in a new root is not there, and the private temporary folder is a folder of the host, made for one launch. What
//! only namespaces could hold is refused instead of granted: hosts, a Unix listener.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;

use super::refused::CompileRefused;
use super::seccomp::FilterData;
use super::{Access, Bind, Layer, LinkRule, Network, Posture, ProcMode, Profile, Scratch, TREE, Tmpfs};

const TAKEN: &str = include_str!("../../../../sandbox-profiles/reduced.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Taken {
    take: Vec<Take>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Take {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "why")]
    _why: String,
    calls: Vec<String>,
}

/// The layers that are namespaces, or exist in one only.
const OF_NAMESPACES: [Layer; 8] = [
    Layer::UserNs,
    Layer::MountNs,
    Layer::PidNs,
    Layer::IpcNs,
    Layer::UtsNs,
    Layer::NetNs,
    Layer::CgroupNs,
    Layer::Proxy,
];

/// The folder that stands in for the private temporary one.
const TMP: &str = "/tmp";

/// The system calls that this posture takes away. If the embedded list could not be read, a filter would be left with
/// nothing; a test holds that it can.
fn taken() -> Option<&'static [String]> {
    static LIST: OnceLock<Option<Vec<String>>> = OnceLock::new();
    let list = LIST.get_or_init(|| {
        let list: Taken = toml::from_str(TAKEN).ok()?;
        Some(list.take.into_iter().flat_map(|take| take.calls).collect())
    });
    list.as_deref()
}

/// Turns `profile` into one of posture `reduced`, whose temporary folder is `scratch` on the host.
pub(super) fn reduce(profile: &mut Profile, scratch: &Path) -> Result<(), CompileRefused> {
    if profile.network != Network::None {
        return Err(CompileRefused::ReducedEgress);
    }
    profile.posture = Posture::Reduced;
    profile.namespaces.clear();
    profile.required.retain(|layer| !OF_NAMESPACES.contains(layer));
    profile.proc = ProcMode::None;
    profile.files.clear();
    let tmp = profile.tmpfs.iter().find(|tmpfs| tmpfs.path == Path::new(TMP));
    let (bytes, inodes) = tmp.map_or((0, 0), |tmpfs: &Tmpfs| (tmpfs.bytes, tmpfs.inodes));
    profile.tmpfs.clear();
    profile.scratch = Some(Scratch { path: scratch.to_owned(), bytes, inodes });

    let tree = profile.binds.iter().find(|bind| bind.target == Path::new(TREE)).map(|bind| bind.source.clone());
    for bind in &mut profile.binds {
        bind.target.clone_from(&bind.source);
    }
    profile.binds.push(Bind {
        source: scratch.to_owned(),
        target: scratch.to_owned(),
        access: Access::Scratch,
        optional: false,
        link: LinkRule::Refuse,
    });
    let exec = &mut profile.exec;
    if let Some(tree) = tree {
        exec.path = moved(&exec.path, TREE, &tree);
        if let Some(name) = exec.argv.first_mut() {
            *name = moved(Path::new(name), TREE, &tree).to_string_lossy().into_owned();
        }
    }
    exec.cwd = moved(&exec.cwd, TMP, scratch);
    for value in exec.env.values_mut() {
        if value == TMP {
            *value = scratch.to_string_lossy().into_owned();
        }
    }
    take_away(&mut profile.seccomp);
    Ok(())
}

/// `path`, if it lies below `from`, at the same place below `to`.
fn moved(path: &Path, from: &str, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

fn take_away(filter: &mut FilterData) {
    match taken() {
        Some(taken) => taken.iter().for_each(|call| {
            filter.allow.remove(call);
            filter.enosys.remove(call);
        }),
        None => filter.allow.clear(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::profile::base::{BaseProfile, Feature};
    use crate::profile::syscalls;

    #[test]
    fn what_is_taken_exists_and_is_gone() {
        let taken = taken().expect("well-formed");
        assert!(taken.iter().all(|call| syscalls::is_known(call)));
        for base in BaseProfile::names() {
            let features = BTreeSet::from([Feature::Proxy, Feature::UnixListener]);
            let mut filter = BaseProfile::load(base).expect("a profile").filter(&features);
            take_away(&mut filter);
            for call in ["socket", "connect", "chmod", "utimensat", "getxattr", "inotify_init1", "memfd_create"] {
                assert!(!filter.allow.contains_key(call), "{call}");
            }
            for call in ["read", "openat", "execveat", "kill"] {
                assert!(filter.allow.contains_key(call), "{call}");
            }
            assert_eq!(filter.allow.contains_key("socketpair"), base != "go", "a pair is no way to others");
            crate::profile::seccomp::compile(&filter).expect("compiles");
        }
    }

    #[test]
    fn a_path_moves_with_its_folder() {
        let to = Path::new("/srv/tree");
        assert_eq!(moved(Path::new("/plugin/bin/x"), "/plugin", to), Path::new("/srv/tree/bin/x"));
        assert_eq!(moved(Path::new("/plugin"), "/plugin", to).as_os_str(), "/srv/tree");
        assert_eq!(moved(Path::new("/plugins/x"), "/plugin", to), Path::new("/plugins/x"));
    }
}
