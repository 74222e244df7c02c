//! What is right, computed from what the test made: plain data, and no function of what is tested.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sigil_types::{Digest, InstanceId, Timestamp};

use crate::launcher::wire::LaunchRequest;
use crate::profile::Params;

/// A plugin in the store.
pub(super) struct Plugin {
    /// As policies name it.
    pub(super) name: &'static str,
    /// As its manifest names itself.
    pub(super) says: &'static str,
    pub(super) manifest: String,
    pub(super) tree: Digest,
    pub(super) profile: &'static str,
    /// Whether it asks for the folders `docs` (to write) and `more` (to read), and for hosts.
    pub(super) asks: bool,
    /// What reads its program.
    pub(super) script: Option<&'static str>,
    /// Whether the store still has what was installed.
    pub(super) intact: bool,
}

/// What a policy gives to one plugin.
#[derive(Clone, Default)]
pub(super) struct Grant {
    pub(super) trees: Vec<Digest>,
    /// The parameter, the folder, whether it may be written.
    pub(super) folders: Vec<(&'static str, PathBuf, bool)>,
    pub(super) hosts: Vec<&'static str>,
    pub(super) interpreters: Vec<(&'static str, Digest)>,
}

impl Grant {
    pub(super) fn to_toml(&self, name: &str) -> String {
        let trees: Vec<String> = self.trees.iter().map(|tree| format!("\"{tree}\"")).collect();
        let mut text = format!("[{name}]\ntrees = [{}]\n", trees.join(", "));
        for (path, digest) in &self.interpreters {
            let _ = writeln!(text, "interpreters = [{{ path = \"{path}\", digest = \"{digest}\" }}]");
        }
        let hosts: Vec<String> =
            self.hosts.iter().map(|host| format!("{{ host = \"{host}\", ports = [443] }}")).collect();
        let _ = writeln!(text, "hosts = [{}]", hosts.join(", "));
        for (param, path, write) in &self.folders {
            let access = if *write { "write" } else { "read" };
            let _ = writeln!(text, "[[{name}.folders.{param}]]\npath = \"{}\"\naccess = \"{access}\"", path.display());
        }
        text
    }
}

/// A signed policy.
pub(super) struct PolicyTruth {
    pub(super) envelope: String,
    pub(super) digest: Digest,
    pub(super) version: u64,
    pub(super) not_before: u64,
    pub(super) expires: u64,
    /// Whether the owner's key has signed it.
    pub(super) owners: bool,
    pub(super) grants: BTreeMap<&'static str, Grant>,
}

#[derive(Default)]
pub(super) struct Truth {
    pub(super) home: PathBuf,
    pub(super) plugins: Vec<Plugin>,
    pub(super) policies: Vec<PolicyTruth>,
    /// Which policy is in force.
    pub(super) current: Option<usize>,
    pub(super) floor: u64,
}

impl Truth {
    pub(super) fn in_force(&self) -> Option<&PolicyTruth> {
        self.policies.get(self.current?)
    }

    /// What becomes of an envelope at `now`: its digest when it is in force from now on.
    pub(super) fn accept(&mut self, envelope: &str, now: u64) -> Option<Digest> {
        let found = self.policies.iter().position(|policy| policy.envelope == envelope)?;
        let policy = &self.policies[found];
        if !policy.owners || policy.version < self.floor || now < policy.not_before || now >= policy.expires {
            return None;
        }
        (self.current, self.floor) = (Some(found), policy.version);
        Some(policy.digest)
    }

    /// Whether `request` may be launched at `now`, and why not.
    pub(super) fn permits(&self, request: &LaunchRequest, now: u64) -> Result<(), String> {
        let policy = self.in_force().ok_or("no policy is in force")?;
        if now < policy.not_before || now >= policy.expires || request.policy != policy.digest {
            return Err("not the policy in force, or not now".to_owned());
        }
        let grant = policy.grants.get(request.plugin.as_str()).ok_or("not a plugin of the policy")?;
        if !grant.trees.contains(&request.tree) {
            return Err("another tree".to_owned());
        }
        let plugin = self.plugins.iter().find(|plugin| plugin.tree == request.tree).ok_or("not in the store")?;
        if !plugin.intact || plugin.manifest != request.manifest || plugin.says != request.plugin.as_str() {
            return Err("not the files that were endorsed for it".to_owned());
        }
        if let Some(shell) = plugin.script {
            let digest = Digest::of(&std::fs::read(shell).expect("the shell"));
            if !grant.interpreters.contains(&(shell, digest)) {
                return Err("another interpreter".to_owned());
            }
        }
        for (name, paths) in &request.params.folders {
            if !plugin.asks || !["docs", "more"].contains(&name.as_str()) {
                return Err(format!("no parameter {name}"));
            }
            for path in paths {
                let mut granted = grant
                    .folders
                    .iter()
                    .filter(|(known, folder, _)| *known == name.as_str() && path.starts_with(folder));
                // `docs` is asked for to be written, `more` to be read.
                let (_, _, write) = granted.next().ok_or_else(|| format!("{path:?} is not granted as {name}"))?;
                self.plain(path, *write && name.as_str() == "docs")?;
            }
        }
        Ok(())
    }

    /// Whether a path has its one form and leads through nothing that is protected by its name.
    fn plain(&self, path: &Path, write: bool) -> Result<(), String> {
        let text = path.to_str().ok_or("not UTF-8")?;
        let mut parts = text.split('/');
        let rooted = parts.next() == Some("");
        let fine = |part: &str| {
            let protected = [".ssh", ".bashrc", "docker.sock"].contains(&part) || (write && part == ".git");
            !part.is_empty() && part != "." && part != ".." && !protected && !part.chars().any(char::is_control)
        };
        if rooted && parts.all(fine) && text.len() <= 4095 { Ok(()) } else { Err(format!("{path:?} is not plain")) }
    }

    /// A request as an honest gateway makes it.
    pub(super) fn request(&self, plugin: &Plugin, policy: &PolicyTruth) -> LaunchRequest {
        LaunchRequest {
            plugin: plugin.name.parse().expect("a name"),
            instance: InstanceId::generate(Timestamp::from_millis(1_900_000_000_000)),
            workspace: "home".parse().expect("a name"),
            policy: policy.digest,
            manifest: plugin.manifest.clone(),
            tree: plugin.tree,
            params: Params::default(),
        }
    }
}
