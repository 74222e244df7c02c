//! [`Proposal`]: the narrowest grant that would change a denial, as text for a person. Nothing applies it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sigil_types::HostPort;

/// A grant that would change a denial. Making one grants nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Proposal {
    /// Another base profile, whose filter allows the call.
    Profile(String),
    /// Reading a file or folder.
    Read(PathBuf),
    /// Reading and executing one.
    Execute(PathBuf),
    /// Reading and changing one.
    Write(PathBuf),
    /// Reaching a host and port.
    Host(String),
}

impl Proposal {
    /// As options of `sigil sandbox run`.
    #[must_use]
    pub fn options(&self) -> [String; 2] {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        match self {
            Self::Profile(name) => ["--profile".to_owned(), name.clone()],
            Self::Read(what) => ["--read".to_owned(), path(what)],
            Self::Execute(what) => ["--exec".to_owned(), path(what)],
            Self::Write(what) => ["--write".to_owned(), path(what)],
            Self::Host(target) => ["--allow-host".to_owned(), target.clone()],
        }
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(name) => write!(f, "use the base profile {name}"),
            Self::Read(path) => write!(f, "read {}", path.display()),
            Self::Execute(path) => write!(f, "read and execute {}", path.display()),
            Self::Write(path) => write!(f, "read and change {}", path.display()),
            Self::Host(target) => write!(f, "reach {target}"),
        }
    }
}

/// `proposals` without those that others among them cover: what may be changed may be read.
#[must_use]
pub fn least(proposals: &[Proposal]) -> Vec<Proposal> {
    let covers = |one: &Proposal, other: &Proposal| match (one, other) {
        (Proposal::Write(folder) | Proposal::Execute(folder) | Proposal::Read(folder), Proposal::Read(path))
        | (Proposal::Write(folder), Proposal::Write(path))
        | (Proposal::Execute(folder), Proposal::Execute(path)) => one != other && path.starts_with(folder),
        _ => false,
    };
    proposals.iter().filter(|one| !proposals.iter().any(|other| covers(other, one))).cloned().collect()
}

/// Several proposals as options of `sigil sandbox run`, in the words of a shell.
#[must_use]
pub fn flags<'a>(proposals: impl IntoIterator<Item = &'a Proposal>) -> Vec<String> {
    let words = proposals.into_iter().flat_map(Proposal::options);
    words.map(|word| quoted(&word)).collect()
}

/// `word` as one word of a shell (sh(1)).
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,@%+=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// What a plugin's `plugin.yaml` would say, as far as a manifest can say it. JSON's texts are YAML's, too.
#[must_use]
pub fn manifest<'a>(proposals: impl IntoIterator<Item = &'a Proposal>) -> Option<String> {
    let (mut files, mut hosts, mut profile) = (String::new(), String::new(), None);
    let text = |text: &str| serde_json::to_string(text).unwrap_or_default();
    for proposal in proposals {
        let (path, access) = match proposal {
            Proposal::Profile(name) => {
                profile = Some(name);
                continue;
            }
            Proposal::Host(target) => {
                let Some((rule, port)) = host_of(target) else { continue };
                hosts += &format!(
                    "        - host: {}\n          ports: [{port}]\n          reason: {}\n",
                    text(&rule),
                    text("Say why; it was refused.")
                );
                continue;
            }
            Proposal::Read(path) => (path, "read"),
            Proposal::Write(path) => (path, "write"),
            // A manifest has no such wish for files of the machine: what a plugin executes is in its tree.
            Proposal::Execute(_) => continue,
        };
        files += &format!(
            "      - path: {}\n        access: {access}\n        reason: {}\n",
            text(&path.to_string_lossy()),
            text("Say why; it was refused.")
        );
    }
    let mut yaml = String::new();
    if let Some(name) = profile {
        yaml += &format!("    profile: {name}\n");
    }
    if !files.is_empty() {
        yaml += &format!("    filesystem:\n{files}");
    }
    if !hosts.is_empty() {
        yaml += &format!("    network:\n      hosts:\n{hosts}");
    }
    (!yaml.is_empty()).then(|| format!("execution:\n  sandbox:\n{yaml}"))
}

/// What the signed policy's `ceilings.toml` would say for `plugin`: a manifest is a wish, and policy grants.
#[must_use]
pub fn policy<'a>(plugin: &str, proposals: impl IntoIterator<Item = &'a Proposal>) -> Option<String> {
    let mut toml = String::new();
    let mut hosts: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    let text = |text: &str| toml::Value::from(text).to_string();
    for proposal in proposals {
        let (path, access) = match proposal {
            Proposal::Read(path) => (path, "read"),
            Proposal::Write(path) => (path, "write"),
            Proposal::Host(target) => {
                if let Some((host, port)) = host_of(target) {
                    hosts.entry(host).or_default().insert(port);
                }
                continue;
            }
            Proposal::Profile(_) | Proposal::Execute(_) => continue,
        };
        let path = text(&path.to_string_lossy());
        toml += &format!("[[plugins.{plugin}.folders.proposed]]\npath = {path}\naccess = \"{access}\"\n");
    }
    for (host, ports) in hosts {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        toml += &format!("[[plugins.{plugin}.hosts]]\nhost = {}\nports = [{}]\n", text(&host), ports.join(", "));
    }
    (!toml.is_empty()).then_some(toml)
}

fn host_of(target: &str) -> Option<(String, u16)> {
    let target: HostPort = target.parse().ok()?;
    Some((target.host.to_string(), target.port))
}

#[cfg(test)]
mod tests {
    use sigil_proto::manifest::{Access, FilesystemTarget, Manifest};

    use super::*;

    fn some() -> Vec<Proposal> {
        vec![
            Proposal::Profile("shell".into()),
            Proposal::Read("/srv/it's \"odd\"".into()),
            Proposal::Write("/srv/out".into()),
            Proposal::Host("api.example.org:443".into()),
            Proposal::Host("[2001:db8::7]:8443".into()),
        ]
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a real shell says what a shell reads")]
    fn options_are_what_a_shell_reads_back() {
        let line = flags(&some()).join(" ");
        let script = format!("for word in {line}; do printf '%s\\n' \"$word\"; done");
        let ran = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let words: Vec<String> = some().iter().flat_map(Proposal::options).collect();
        assert_eq!(String::from_utf8(ran.stdout).unwrap().lines().collect::<Vec<_>>(), words);
    }

    #[test]
    fn what_is_covered_is_left_out() {
        let (read, write) = (Proposal::Read("/a/b".into()), Proposal::Write("/a".into()));
        assert_eq!(least(&[read.clone(), write.clone()]), std::slice::from_ref(&write));
        assert_eq!(least(&[read.clone(), Proposal::Read("/a".into())]), [Proposal::Read("/a".into())]);
        let apart = [Proposal::Write("/a/b".into()), Proposal::Read("/a".into()), Proposal::Read("/ab".into())];
        assert_eq!(least(&apart), apart);
        assert_eq!(least(&[read.clone(), Proposal::Write("/a/b".into())]), [Proposal::Write("/a/b".into())]);
    }

    #[test]
    fn the_fragment_is_a_manifest_s() {
        let head = "manifest: 1\nname: probe\nversion: 0.1.0\ntype: tool\nengine: \">=0.1, <0.2\"\nlicense: Apache-2.0\n\
                    description: x\ncapabilities: [tool.probe.*]\ntools:\n  - { name: probe }\n";
        let fragment = manifest(&some()).unwrap();
        let fragment =
            fragment.replacen("  sandbox:", "  tier: process\n  transport: sdk\n  command: [bin/x]\n  sandbox:", 1);
        let manifest = Manifest::parse(format!("{head}{fragment}").as_bytes()).unwrap().validate().unwrap();
        let sandbox = &manifest.spec().execution.sandbox;
        assert_eq!(sandbox.profile.as_str(), "shell");
        assert_eq!(sandbox.filesystem[0].target, FilesystemTarget::Path("/srv/it's \"odd\"".into()));
        assert_eq!((sandbox.filesystem.len(), sandbox.filesystem[1].access), (2, Access::Write));
        assert_eq!(sandbox.network.len(), 2);
        assert_eq!(super::manifest([&Proposal::Execute("/x".into())]), None);
    }

    #[test]
    fn the_policy_fragment_is_a_grant_of_the_ceilings() {
        #[derive(Deserialize)]
        struct Part {
            plugins: BTreeMap<String, sigil_policy::PluginGrant>,
        }
        let part: Part = toml::from_str(&policy("probe", &some()).unwrap()).unwrap();
        let grant = &part.plugins["probe"];
        assert_eq!((grant.hosts.len(), grant.folders.values().flatten().count()), (2, 2));
        assert_eq!(policy("probe", []), None);
    }
}
