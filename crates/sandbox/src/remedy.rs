//! What to do where this host lacks a layer: files to write and commands to give, ready to paste.
//!
//! Whether a layer can be had is tried, never read from a setting. Settings are read here, to tell *why* it cannot.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::doctor::{LayerStatus, State};
use crate::profile::Layer;

/// One version of Landlock's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LandlockVersion {
    /// The version.
    pub abi: u32,
    /// The kernel that brought it.
    pub kernel: &'static str,
    /// What it adds.
    pub adds: &'static str,
    /// What is so without it.
    pub without: &'static str,
}

const fn version(abi: u32, kernel: &'static str, adds: &'static str, without: &'static str) -> LandlockVersion {
    LandlockVersion { abi, kernel, adds, without }
}

/// Every version that profiles know something of, oldest first.
pub const LANDLOCK: [LandlockVersion; 7] = [
    version(1, "5.13", "reading, writing, executing, making, removing", "no posture"),
    version(2, "5.19", "moving and linking between granted folders", "no posture"),
    version(3, "6.2", "truncating", "no posture: what is read-only could be emptied"),
    version(4, "6.7", "TCP ports", "the network namespace and seccomp hold it alone"),
    version(5, "6.10", "commands of devices", "seccomp holds it alone; there are five harmless devices"),
    version(6, "6.12", "signals and abstract sockets", "no `strict`; the process and network namespaces hold it alone"),
    version(7, "6.15", "records of what was refused", "refused files are explained less exactly"),
];

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remedy {
    /// What it is about: `apparmor.userns`, `cgroup.delegate`.
    pub id: String,
    /// Why, in a sentence.
    pub why: String,
    /// The file to write, and its whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<(PathBuf, String)>,
    /// The commands to give then, as root.
    pub commands: Vec<String>,
}

/// What can be read of this host, to tell why a layer cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clues {
    /// Whether AppArmor takes the rights in new user namespaces away from programs without a profile (Ubuntu 23.10 and later).
    pub apparmor_restricts: bool,
    /// `user.max_user_namespaces`.
    pub most_user_namespaces: Option<u64>,
    /// Debian's older switch, `kernel.unprivileged_userns_clone`.
    pub unprivileged_clone: Option<u64>,
    /// Whether this looks like the inside of a container.
    pub container: bool,
    /// Whether `landlock` is among the kernel's security modules; `None` when that cannot be read.
    pub landlock_on: Option<bool>,
    /// Whether control groups are of version 2 alone.
    pub unified_cgroups: bool,
    /// This program.
    pub program: PathBuf,
    /// Whether others than root could put another program in its place.
    pub program_is_open: bool,
    /// Whether root asks.
    pub root: bool,
}

impl Clues {
    /// Reads them.
    #[must_use]
    pub fn look() -> Self {
        let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let program = fs::read_link("/proc/self/exe").unwrap_or_default();
        let container = ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists());
        let modules = fs::read_to_string("/sys/kernel/security/lsm").ok();
        Self {
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1),
            most_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            unprivileged_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            container,
            landlock_on: modules.map(|text| text.trim().split(',').any(|module| module == "landlock")),
            unified_cgroups: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            program_is_open: is_open(&program),
            program,
            root: rustix::process::geteuid().is_root(),
        }
    }
}

/// Whether somebody other than root may change the file, or what stands at its path.
fn is_open(program: &Path) -> bool {
    let open = |path: &Path| fs::metadata(path).map_or(true, |meta| meta.uid() != 0 || meta.mode() & 0o022 != 0);
    program.ancestors().any(open)
}

/// What to do about the layers that are not there, the first thing first.
#[must_use]
pub fn remedies(layers: &[LayerStatus], abi: u32, clues: &Clues) -> Vec<Remedy> {
    let lacks = |layer: Layer| layers.iter().any(|status| status.name == layer && status.status != State::Applied);
    let mut all = Vec::new();
    if [Layer::UserNs, Layer::MountNs, Layer::NetNs].into_iter().any(lacks) {
        all.push(user_namespaces(clues));
    }
    if abi < 3 {
        all.push(landlock(abi, clues));
    }
    if lacks(Layer::Seccomp) {
        let why = "the system call filter cannot be installed; no posture goes without it".to_owned();
        let kernel =
            "use a kernel that was built with CONFIG_SECCOMP_FILTER; in a container, allow seccomp(2)".to_owned();
        all.push(Remedy { id: "seccomp.missing".into(), why, file: None, commands: vec![kernel] });
    }
    // Only where something can be done about it.
    if layers.iter().any(|layer| layer.name == Layer::Cgroup && layer.status != State::Applied && !layer.fix.is_empty())
    {
        all.push(control_groups(clues));
    }
    all
}

fn user_namespaces(clues: &Clues) -> Remedy {
    let remedy = |id: &str, why: &str, file, commands: &[&str]| Remedy {
        id: id.to_owned(),
        why: why.to_owned(),
        file,
        commands: commands.iter().map(|command| (*command).to_owned()).collect(),
    };
    if clues.most_user_namespaces == Some(0) {
        let file = (PathBuf::from("/etc/sysctl.d/60-sigil.conf"), "user.max_user_namespaces = 16384\n".to_owned());
        return remedy("sysctl.userns", "user.max_user_namespaces is 0 here", Some(file), &["sysctl --system"]);
    }
    if clues.unprivileged_clone == Some(0) {
        let file = (PathBuf::from("/etc/sysctl.d/60-sigil.conf"), "kernel.unprivileged_userns_clone = 1\n".to_owned());
        return remedy("sysctl.userns", "only root may make user namespaces here", Some(file), &["sysctl --system"]);
    }
    if clues.container {
        let why = "the container's own filter refuses namespaces or mounts; allow them to it, not to the host";
        let command = "add --security-opt seccomp=FILE with unshare, clone, mount, umount2, pivot_root, open_tree, \
                       move_mount, fsopen, fsconfig, fsmount, mount_setattr and landlock_* allowed";
        return remedy("container.filter", why, None, &[command]);
    }
    if clues.apparmor_restricts {
        let why = "AppArmor takes every right away in the user namespaces of programs that have no profile";
        return match apparmor_profile(&clues.program) {
            Some(_) if clues.program_is_open => remedy(
                "apparmor.userns",
                &format!("{why}; others than root can write {}, so it gets none", clues.program.display()),
                None,
                &["install sigil where only root can write, such as /usr/bin, and run sigil doctor from there"],
            ),
            Some(text) => {
                let file = (PathBuf::from("/etc/apparmor.d/sigil"), text);
                remedy("apparmor.userns", why, Some(file), &["apparmor_parser -r /etc/apparmor.d/sigil"])
            }
            None => {
                remedy("apparmor.userns", why, None, &["install sigil at a path of letters, digits, `-`, `_`, `.`"])
            }
        };
    }
    let command = "use a kernel that was built with CONFIG_USER_NS, and allow them to this user";
    remedy("userns.missing", "user namespaces cannot be made, or give no rights", None, &[command])
}

/// A profile that lets `program` make user namespaces, and takes nothing from it. `None` when its path has characters that
/// mean something to AppArmor.
#[must_use]
pub fn apparmor_profile(program: &Path) -> Option<String> {
    let path = program.to_str()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    if !path.starts_with('/') || !path.chars().all(plain) {
        return None;
    }
    Some(format!(
        "abi <abi/4.0>,\ninclude <tunables/global>\n\nprofile sigil {path} flags=(unconfined) {{\n  userns,\n\n  \
         include if exists <local/sigil>\n}}\n"
    ))
}

fn landlock(abi: u32, clues: &Clues) -> Remedy {
    let why = format!("Landlock {abi} is there, and 3 is the least (kernel {})", kernel_of(3));
    let command = if clues.landlock_on == Some(false) {
        "put landlock into the kernel's command line: lsm=landlock,… with the modules that /sys/kernel/security/lsm names"
    } else {
        "use a kernel of 6.2 or later that was built with CONFIG_SECURITY_LANDLOCK"
    };
    Remedy { id: "landlock.old".into(), why, file: None, commands: vec![command.to_owned()] }
}

fn kernel_of(abi: u32) -> &'static str {
    LANDLOCK.iter().find(|version| version.abi == abi).map_or("unknown", |version| version.kernel)
}

fn control_groups(clues: &Clues) -> Remedy {
    let id = "cgroup.delegate".to_owned();
    if !clues.unified_cgroups {
        let why = "control groups are of version 1 here, or of both; posture strict needs version 2 alone".to_owned();
        let commands =
            vec!["add to the kernel's command line: systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all".into()];
        return Remedy { id, why, file: None, commands };
    }
    let text = "[Service]\nDelegate=cpu memory pids\n".to_owned();
    let (file, commands): (&str, &[&str]) = if clues.root {
        ("/etc/systemd/system/sigil.service.d/delegate.conf", &["systemctl daemon-reload", "systemctl restart sigil"])
    } else {
        ("/etc/systemd/system/user@.service.d/delegate.conf", &["systemctl daemon-reload", "log out, and in again"])
    };
    Remedy {
        id,
        why: "no control group with limits is given to this user; posture strict needs one".to_owned(),
        file: Some((PathBuf::from(file), text)),
        commands: commands.iter().map(|command| (*command).to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clues() -> Clues {
        Clues {
            apparmor_restricts: false,
            most_user_namespaces: Some(1000),
            unprivileged_clone: None,
            container: false,
            landlock_on: Some(true),
            unified_cgroups: true,
            program: "/usr/bin/sigil".into(),
            program_is_open: false,
            root: false,
        }
    }

    fn layer(name: Layer, fix: &str) -> LayerStatus {
        LayerStatus { name, status: State::Refused, detail: String::new(), fix: fix.to_owned() }
    }

    fn only(layers: &[LayerStatus], abi: u32, clues: &Clues) -> Remedy {
        let mut all = remedies(layers, abi, clues);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn each_gap_has_its_remedy() {
        let no_userns = [layer(Layer::UserNs, "x"), layer(Layer::MountNs, "x")];
        let said = only(&no_userns, 7, &Clues { apparmor_restricts: true, ..clues() });
        let (file, text) = said.file.expect("a profile");
        assert_eq!(file, Path::new("/etc/apparmor.d/sigil"));
        assert!(text.contains("profile sigil /usr/bin/sigil flags=(unconfined) {\n  userns,\n"), "{text}");
        let zero = only(&no_userns, 7, &Clues { most_user_namespaces: Some(0), ..clues() });
        assert!(zero.file.is_some_and(|(_, text)| text.starts_with("user.max_user_namespaces")));
        let inside = Clues { container: true, ..clues() };
        assert_eq!(only(&no_userns, 7, &inside).id, "container.filter");
        assert_eq!(only(&no_userns, 7, &clues()).id, "userns.missing");
        assert_eq!(only(&[], 2, &clues()).id, "landlock.old");
        let off = only(&[], 0, &Clues { landlock_on: Some(false), ..clues() });
        assert!(off.commands.concat().contains("lsm=landlock"), "{off:?}");
        let group = only(&[layer(Layer::Cgroup, "delegate")], 7, &clues());
        assert!(group.file.is_some_and(|(_, text)| text.contains("Delegate=")));
        assert!(remedies(&[layer(Layer::Cgroup, "")], 7, &clues()).is_empty(), "nothing can be done about it");
    }

    #[test]
    fn no_profile_is_printed_for_a_path_that_others_can_write_or_that_means_more_than_itself() {
        let no_userns = [layer(Layer::UserNs, "x")];
        let restricts = Clues { apparmor_restricts: true, ..clues() };
        let open = only(&no_userns, 7, &Clues { program_is_open: true, ..restricts.clone() });
        assert!(open.file.is_none() && open.commands.concat().contains("/usr/bin"), "{open:?}");
        for path in ["/home/*/sigil", "/opt/a b/sigil", "/opt/{x}", "/x,\n  capability sys_admin,", "sigil", ""] {
            assert_eq!(apparmor_profile(Path::new(path)), None, "{path}");
            assert!(only(&no_userns, 7, &Clues { program: path.into(), ..restricts.clone() }).file.is_none());
        }
    }
}
