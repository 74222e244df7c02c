//! Under what the battery runs: the profiles that programs really get.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sigil_policy::HostRule;

use super::probe::PROBE;
use super::run::{BatteryFailed, UNPRIVILEGED, outside_ids};
use super::stage::Stage;
use crate::profile::{
    self, Access, Bind, CommandAsk, Exec, Layer, Limits, LinkRule, Network, NeverGrant, Posture, Profile, TREE, Wish,
    compile_command,
};

/// The base profiles under which the battery runs by itself. The families of interpreters and engines allow only the calls
/// that their own programs make, which are not all of those that the probe needs; the rest of them is `native`.
const BASES: [&str; 2] = ["native", "shell"];

/// Under what the battery runs: a base profile with or without a proxy, or the compiled profile of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    base: String,
    proxy: bool,
    /// With how much of the sandbox: `reduced`, or what is more.
    posture: Posture,
    /// A plugin's name, and its profile as the launcher would compile it.
    compiled: Option<(String, Box<Profile>)>,
}

impl Setting {
    /// The base profile `base` in posture `standard`, with a proxy or without a network.
    #[must_use]
    pub fn of_base(base: &str, proxy: bool) -> Self {
        Self { base: base.to_owned(), proxy, posture: Posture::Standard, compiled: None }
    }

    /// The base profiles of the battery, with and without a proxy.
    #[must_use]
    pub fn all() -> Vec<Self> {
        BASES.into_iter().flat_map(|base| [false, true].map(|proxy| Self::of_base(base, proxy))).collect()
    }

    /// The base profiles of the battery in posture `reduced`, in which there is no proxy.
    #[must_use]
    pub fn reduced() -> Vec<Self> {
        let reduced = |base| Self { posture: Posture::Reduced, ..Self::of_base(base, false) };
        BASES.into_iter().map(reduced).collect()
    }

    /// The profile of the plugin `name`, as compiled: the probe stands in for its program, and gets a tree, a folder to read
    /// and one to write beside what the plugin has. Where it has a control group, the probe has none.
    #[must_use]
    pub fn of_plugin(name: &str, profile: Profile) -> Self {
        let proxy = matches!(profile.network, Network::Proxy(_));
        Self {
            base: profile.name.clone(),
            proxy,
            posture: Posture::Standard,
            compiled: Some((name.to_owned(), Box::new(profile))),
        }
    }

    /// `native`, `native+proxy`, `shell reduced`, `plugin:files`.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.compiled {
            Some((plugin, _)) => format!("plugin:{plugin}"),
            None if self.is_reduced() => format!("{} reduced", self.base),
            None => format!("{}{}", self.base, if self.proxy { "+proxy" } else { "" }),
        }
    }

    /// The name of the base profile.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether there is a proxy, so that the filter lets sockets be made.
    #[must_use]
    pub const fn has_proxy(&self) -> bool {
        self.proxy
    }

    /// Whether it is in posture `reduced`.
    pub(super) fn is_reduced(&self) -> bool {
        self.posture == Posture::Reduced
    }

    /// Whether it is a plugin's.
    pub(super) const fn is_plugin(&self) -> bool {
        self.compiled.is_some()
    }

    /// Whether the table of what is accepted means this by `under`.
    pub(super) fn is(&self, under: &str) -> bool {
        let serves = || self.compiled.as_ref().is_some_and(|(_, profile)| profile.binds.iter().any(is_private));
        match under {
            GO_PLUGIN => serves(),
            REDUCED => self.is_reduced(),
            REDUCED_USER => self.is_reduced() && !rustix::process::geteuid().is_root(),
            base => self.base == base,
        }
    }

    /// The profile of the probe: a real one, with a folder to read, one to write, and a tree.
    pub(super) fn profile(&self, stage: &Stage) -> Result<Profile, BatteryFailed> {
        let scene = &stage.scene;
        let exec =
            |env, cwd| Exec { path: PathBuf::from(TREE).join("program"), argv: vec![PROBE.to_owned()], env, cwd };
        // The guards of a folder that may be written are the compiler's: they come with the command's profile.
        let hosts = if self.proxy { vec![(proxied_host()?, "--allow-host".to_owned())] } else { Vec::new() };
        let ask = CommandAsk {
            profile: self.base.clone(),
            files: vec![Wish::new(scene.read_only(), Access::Read), Wish::new(scene.writable(), Access::Write)],
            masks: Vec::new(),
            hosts,
            exec: exec(BTreeMap::new(), "/tmp".into()),
            never: NeverGrant::default(),
            host_ids: outside_ids().unwrap_or((UNPRIVILEGED, UNPRIVILEGED)),
            posture: None,
            limits: Limits::default(),
            terminal: false,
        };
        let of_command = compile_command(ask)?.profile;
        let tree = Bind {
            source: scene.root.join("tree"),
            target: TREE.into(),
            access: Access::Exec,
            optional: false,
            link: LinkRule::Refuse,
        };
        let Some((_, compiled)) = &self.compiled else {
            let mut profile = of_command;
            profile.binds.push(tree);
            if self.is_reduced() {
                profile::reduce(&mut profile, &scene.scratch())?;
            }
            return Ok(profile);
        };
        let mut profile = Profile::clone(compiled);
        profile.exec = exec(profile.exec.env.clone(), profile.exec.cwd.clone());
        profile.identity = of_command.identity;
        profile.posture = of_command.posture;
        profile.required.remove(&Layer::Cgroup);
        for private in profile.binds.iter_mut().filter(|bind| is_private(bind)) {
            private.source = scene.root.join("private");
        }
        let of_scene = of_command.binds.into_iter().filter(|bind| bind.source.starts_with(&scene.root));
        profile.binds.retain(|bind| bind.target != Path::new(TREE));
        profile.binds.extend(of_scene.chain([tree]));
        Ok(profile)
    }
}

/// What the table of what is accepted calls programs that serve on a Unix socket in a folder of their own.
pub(super) const GO_PLUGIN: &str = "go-plugin";

/// The same, where Landlock and the filter stand alone.
pub(super) const REDUCED: &str = "reduced";

/// The same, for an ordinary user, who has no user of its own to give to the program.
pub(super) const REDUCED_USER: &str = "reduced, not root";

/// Whether `bind` is the host's folder that stands in for the program's private file system in memory.
fn is_private(bind: &Bind) -> bool {
    bind.access == Access::Scratch && bind.target == Path::new("/tmp")
}

fn proxied_host() -> Result<HostRule, BatteryFailed> {
    let host = "proxied.example".parse().map_err(|error| BatteryFailed::Probe(format!("{error}")))?;
    Ok(HostRule { host, ports: BTreeSet::from([443]) })
}
