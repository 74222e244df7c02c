//! A small Sigil for tests: a signing key, a plugin store, signed policies, a launcher.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sigil_policy::sign::{SigningKey, Validity, sign};
use sigil_policy::{Bundle, Ceilings, Interpreter, PluginGrant, Preset, Source, TrustStore};
use sigil_sandbox::client::{ExitStatus, LaunchRefused, Launched, LauncherClient, Rpc};
use sigil_sandbox::launcher::wire::LaunchRequest;
use sigil_sandbox::launcher::{self, Launcher, LauncherConfig};
use sigil_sandbox::profile::Params;
use sigil_sandbox::tree;
use sigil_types::{Clock, Digest, InstanceId, SystemClock, Timestamp};

pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) key: SigningKey,
    pub(crate) launcher: Option<Launcher>,
    pub(crate) policy: Digest,
    pub(crate) tree: Digest,
    pub(crate) manifest: String,
    /// How many programs may run at once, from the next start of the launcher on.
    pub(crate) max_running: usize,
}

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// The manifest of the test plugin, with `extra` lines in its sandbox section.
pub(crate) fn manifest(extra: &str) -> String {
    format!(
        "manifest: 1\nname: probe\nversion: 0.1.0\ntype: tool\nengine: \">=0.1, <0.2\"\nlicense: Apache-2.0\n\
         description: A program of the tests.\ncapabilities: [tool.probe.*]\nexecution:\n  tier: process\n  transport: sdk\n  \
         command: [bin/probe, one, two]\n  sandbox:\n    profile: shell\n{extra}tools:\n  - {{ name: probe }}\n"
    )
}

/// The shell that reads the test plugin, as it is on this machine.
pub(crate) fn shell() -> Interpreter {
    let digest = Digest::of(&fs::read("/bin/sh").expect("a shell"));
    Interpreter { path: "/bin/sh".parse().expect("a path"), digest }
}

impl World {
    /// A launcher with a policy that endorses the plugin `probe`, a shell script.
    pub(crate) fn new(script: &str) -> Self {
        Self::with(&manifest(""), script, |_| {})
    }

    /// As [`World::new`], with a copy of the program at `program` in place of a script.
    pub(crate) fn with_program(manifest: &str, program: &Path) -> Self {
        let mut world = Self::unstarted(manifest, "true");
        let new = world.path("plugins/new");
        fs::rename(world.store(&world.tree), &new).expect("moved");
        fs::copy(program, new.join("bin/probe")).expect("a copy");
        world.tree = tree::hash(&new).expect("its digest").digest;
        fs::rename(&new, world.store(&world.tree)).expect("its place");
        world.start();
        world.endorse(|_| {});
        world
    }

    pub(crate) fn with(manifest: &str, script: &str, edit: impl FnOnce(&mut PluginGrant)) -> Self {
        let mut world = Self::unstarted(manifest, script);
        world.start();
        world.endorse(edit);
        world
    }

    pub(crate) fn endorse(&mut self, edit: impl FnOnce(&mut PluginGrant)) {
        let mut grant =
            PluginGrant { trees: BTreeSet::from([self.tree]), interpreters: vec![shell()], ..PluginGrant::default() };
        edit(&mut grant);
        self.set_policy(1, |ceilings| {
            ceilings.plugins.insert("probe".parse().expect("a name"), grant);
        })
        .expect("the policy is accepted");
    }

    pub(crate) fn unstarted(manifest: &str, script: &str) -> Self {
        let folder = tempfile::tempdir_in("/tmp").expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
        for name in ["plugins", "run", "granted"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let key = SigningKey::generate().expect("a key");
        let trust = TrustStore::of_one("owner".parse().expect("a name"), key.public());
        launcher::write_trust(&folder.path().join("launcher"), &trust).expect("the keys to trust");
        let mut world = Self {
            folder,
            key,
            launcher: None,
            policy: Digest::of(b""),
            tree: Digest::of(b""),
            manifest: manifest.to_owned(),
            max_running: 8,
        };
        world.tree = world.install(manifest, script);
        world
    }

    /// Puts a plugin into the store.
    pub(crate) fn install(&self, manifest: &str, script: &str) -> Digest {
        let new = self.path("plugins/new");
        fs::create_dir_all(new.join("bin")).expect("a folder");
        fs::write(new.join("plugin.yaml"), manifest).expect("the manifest");
        fs::write(new.join("bin/probe"), format!("#!/bin/sh\n{script}\n")).expect("the program");
        self.install_as_it_is()
    }

    /// Puts the folder `plugins/new` into the store, with this world's manifest where it has none.
    pub(crate) fn install_as_it_is(&self) -> Digest {
        let new = self.path("plugins/new");
        if !new.join("plugin.yaml").exists() {
            fs::write(new.join("plugin.yaml"), &self.manifest).expect("the manifest");
        }
        fs::set_permissions(new.join("bin/probe"), fs::Permissions::from_mode(0o755)).expect("its mode");
        let digest = tree::hash(&new).expect("its digest").digest;
        fs::rename(&new, self.store(&digest)).expect("its place");
        digest
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn store(&self, digest: &Digest) -> PathBuf {
        self.path("plugins").join(tree::folder_name(digest))
    }

    pub(crate) fn config(&self) -> LauncherConfig {
        LauncherConfig {
            state: self.path("launcher"),
            plugins: self.path("plugins"),
            run: self.path("run"),
            own: vec![self.path("launcher"), self.path("plugins"), self.path("run")],
            homes: Vec::new(),
            origin: "sigil/test".to_owned(),
            cgroup: None,
            max_running: self.max_running,
        }
    }

    /// Starts the launcher, in place of the one before.
    pub(crate) fn start(&mut self) {
        self.launcher = None;
        self.launcher = Some(launcher::fork(self.config()).unwrap_or_else(|error| panic!("{error}")));
    }

    pub(crate) fn client(&self) -> LauncherClient {
        self.launcher.as_ref().expect("a launcher").client()
    }

    pub(crate) fn envelope(&self, version: u64, validity: Validity, edit: impl FnOnce(&mut Ceilings)) -> String {
        let mut source = Source::embedded(Preset::Balanced).expect("the embedded policy");
        source.edit_ceilings(edit).expect("ceilings");
        let bytes = sign(&source, version, validity, &self.key).unwrap_or_else(|error| panic!("{error}"));
        String::from_utf8(bytes).expect("an envelope is text")
    }

    pub(crate) fn set_policy(&mut self, version: u64, edit: impl FnOnce(&mut Ceilings)) -> Result<(), LaunchRefused> {
        let envelope = self.envelope(version, Validity::days(now(), 30), edit);
        let (_, digest) = self.client().set_policy(&envelope)?;
        assert_eq!(digest, Bundle::parse(envelope.as_bytes()).expect("an envelope").digest());
        self.policy = digest;
        Ok(())
    }

    pub(crate) fn request(&self) -> LaunchRequest {
        LaunchRequest {
            plugin: "probe".parse().expect("a name"),
            instance: InstanceId::generate(now()),
            workspace: "home".parse().expect("a name"),
            policy: self.policy,
            manifest: self.manifest.clone(),
            tree: self.tree,
            params: Params::default(),
        }
    }

    pub(crate) fn launch(&self) -> Launched {
        self.client().launch(&self.request()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The code of the refusal of `request`.
    pub(crate) fn refusal(&self, request: &LaunchRequest) -> String {
        match self.client().launch(request) {
            Ok(launched) => panic!("launched {}", launched.id),
            Err(refused) => {
                println!("  {}: {refused}", refused.code());
                refused.code().to_string()
            }
        }
    }
}

pub(crate) fn read_all(fd: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(fd).read_to_string(&mut text).expect("its output");
    text
}

/// Lets a launched program run to its end: how it ended, what it printed, what it complained of.
pub(crate) fn finish(launched: Launched) -> (ExitStatus, String, String) {
    let Launched { rpc, stdout, stderr, exit, .. } = launched;
    let (out, err) = (read_all(stdout), read_all(stderr));
    assert!(matches!(rpc, Rpc::Socket(_)));
    (ExitStatus::read(&exit).expect("its status"), out, err)
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
}
