//! A small Sigil: a signed policy, a launcher, a log, a gate, a plugin host, and plugins that were built before.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sigil_audit::{AuditLog, Filter};
use sigil_egress::{Proxy, ProxyLimits, Surroundings, SystemResolver};
use sigil_gate::port::{Budget, OverBudget, PortFailed, Tool, ToolAnswer};
use sigil_gate::{Answer, Door, Gate, GateParts, Session, SessionContext, ToTool, ToolDraft, Verdict};
use sigil_host::{HostParts, Instance, PluginHost, PluginStore, Start, StartRefused, Trusted, endorse};
use sigil_policy::sign::{SigningKey, Validity, sign};
use sigil_policy::{Bundle, Ceilings, Interpreter, PluginGrant, Preset, Source, TrustStore, Verified};
use sigil_proto::manifest::Manifest;
use sigil_sandbox::launcher::{self, Launcher, LauncherConfig};
use sigil_scan::Scanner;
use sigil_types::{
    CapabilitySet, ChannelRef, Clock, Digest, Label, Origin, PluginName, Principal, Reader, Readers, Role, SessionId,
    SystemClock, TurnId, Untrusted, Usage, WorkspaceId,
};

/// What a test wants of its world.
pub(crate) struct Wish<'a> {
    /// The plugins to install: folder of the manifest, name of the binary.
    pub(crate) plugins: &'a [&'a str],
    /// Plugins that the test makes itself: manifest and program of each.
    pub(crate) own: &'a [(String, PathBuf)],
    /// Edits the ceilings, once the plugins and the folder of the test are known.
    pub(crate) ceilings: &'a dyn Fn(&Path, &mut Ceilings),
    pub(crate) demo: bool,
}

pub(crate) const PLAIN: &dyn Fn(&Path, &mut Ceilings) = &|_, _| {};

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) host: PluginHost,
    pub(crate) audit: AuditLog,
    pub(crate) launcher: Launcher,
    pub(crate) gate: Gate,
    pub(crate) ceilings: Ceilings,
    pub(crate) policy: Digest,
    store: PluginStore,
    trees: Vec<Digest>,
    key: SigningKey,
}

/// Forks the launcher while there is one thread, then runs `test` in a runtime.
pub(crate) fn run<F: Future<Output = ()>>(wish: &Wish<'_>, test: impl FnOnce(World) -> F) {
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    for name in ["run", "granted", "parts"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    let store = PluginStore::open(folder.path().join("plugins")).expect("a store");
    let mut trees: Vec<Digest> = wish.plugins.iter().map(|name| install(&store, folder.path(), name)).collect();
    for (number, (manifest, program)) in wish.own.iter().enumerate() {
        let parts = folder.path().join(format!("parts/own-{number}"));
        assemble(&parts, manifest, program);
        trees.push(store.install(&parts).unwrap_or_else(|error| panic!("{error}")).tree);
    }
    let key = SigningKey::generate().expect("a key");
    let trust = TrustStore::of_one("owner".parse().expect("a name"), key.public());
    launcher::write_trust(&folder.path().join("launcher"), &trust).expect("the keys to trust");
    let own = ["launcher", "plugins", "run"].map(|name| folder.path().join(name));
    let launcher = launcher::fork(LauncherConfig {
        state: folder.path().join("launcher"),
        plugins: folder.path().join("plugins"),
        run: folder.path().join("run"),
        own: own.to_vec(),
        homes: Vec::new(),
        cgroup: None,
        origin: "sigil/test".to_owned(),
        max_running: 8,
    })
    .unwrap_or_else(|error| panic!("{error}"));

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let world = World::new(folder, store, trees, key, launcher, wish);
        let host = world.host.clone();
        test(world).await;
        host.shutdown().await;
    });
}

/// Installs a first-party plugin: its manifest, and its program as it was built.
fn install(store: &PluginStore, folder: &Path, name: &str) -> Digest {
    let parts = folder.join("parts").join(name);
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(name).join("plugin.yaml");
    assemble(&parts, &fs::read_to_string(manifest).expect("the manifest"), &binary(&format!("sigil-plugin-{name}")));
    store.install(&parts).unwrap_or_else(|error| panic!("{error}")).tree
}

/// Makes a plugin's folder from a manifest and a program.
pub(crate) fn assemble(folder: &Path, manifest: &str, program: &Path) {
    fs::create_dir_all(folder.join("bin")).expect("a folder");
    fs::write(folder.join("plugin.yaml"), manifest).expect("written");
    fs::copy(program, folder.join("bin").join(program.file_name().expect("a name"))).expect("copied");
}

/// A program of this workspace. Cargo does not build other packages' programs for tests.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this program");
    let built = test.parent().and_then(Path::parent).expect("the target folder").join(name);
    assert!(built.is_file(), "{} is missing: run `./task build` first, it builds the plugins", built.display());
    built
}

struct Free;

impl Budget for Free {
    fn admit(&self, _: &Session, _: u64) -> Result<(), OverBudget> {
        Ok(())
    }

    fn spent(&self, _: &Session, _: Usage) {}
}

impl World {
    fn new(
        folder: tempfile::TempDir,
        store: PluginStore,
        trees: Vec<Digest>,
        key: SigningKey,
        launcher: Launcher,
        wish: &Wish<'_>,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ceilings = |ceilings: &mut Ceilings| {
            ceilings.owners = ["ann".parse().expect("a name")].into();
            for tree in &trees {
                let name = store.get(tree).expect("read").expect("installed").name().clone();
                let digest = Digest::of(&fs::read("/bin/sh").expect("a shell"));
                let interpreters = vec![Interpreter { path: "/bin/sh".parse().expect("a path"), digest }];
                let grant = PluginGrant { trees: BTreeSet::from([*tree]), interpreters, ..PluginGrant::default() };
                ceilings.plugins.insert(name, grant);
            }
            (wish.ceilings)(&folder.path().join("granted"), ceilings);
        };
        let (bundle, policy) = signed(&key, &launcher, 1, ceilings);
        let audit = AuditLog::open(&folder.path().join("audit.db"), Arc::new(launcher.client()), Arc::clone(&clock));
        let audit = audit.expect("a log");
        let ceilings = bundle.ceilings().clone();
        let proxy =
            Proxy::new(audit.clone(), Arc::new(SystemResolver), Surroundings::default(), ProxyLimits::default());
        let host = PluginHost::new(HostParts {
            launcher: launcher.client(),
            proxy,
            audit: audit.clone(),
            clock: Arc::clone(&clock),
            ceilings: Arc::new(ceilings.clone()),
            demo: wish.demo,
        });
        let gate = Gate::new(GateParts {
            // What it would find is not looked at here.
            scanner: Scanner::from_packs(&[]).expect("no rules"),
            policy: Arc::new(bundle.compile().expect("compiled")),
            audit: audit.clone(),
            budget: Arc::new(Free),
            clock,
            text_key: [7; 32],
        });
        Self { folder, host, audit, launcher, gate, ceilings, policy, store, trees, key }
    }

    /// Has the launcher and the host go over to a policy of version `version`, edited.
    pub(crate) async fn apply(&self, version: u64, edit: impl Fn(&mut Ceilings)) -> Vec<String> {
        let all = |ceilings: &mut Ceilings| {
            *ceilings = self.ceilings.clone();
            edit(ceilings);
        };
        let (bundle, policy) = signed(&self.key, &self.launcher, version, all);
        let refused = self.host.apply_policy(bundle.ceilings(), policy).await;
        refused.into_iter().map(|(name, _, why)| format!("{name}: {}", why.code())).collect()
    }

    /// Until the launcher has nothing to care for any more.
    pub(crate) async fn nothing_runs(&self) {
        loop {
            let launcher = self.launcher.client();
            let asked = tokio::task::spawn_blocking(move || launcher.status()).await.expect("joined");
            if asked.expect("a status").running.is_empty() {
                return;
            }
        }
    }

    /// Another host, which records in `audit`.
    pub(crate) fn host_with(&self, audit: AuditLog) -> PluginHost {
        PluginHost::new(HostParts {
            launcher: self.launcher.client(),
            proxy: Proxy::new(audit.clone(), Arc::new(SystemResolver), Surroundings::default(), ProxyLimits::default()),
            audit,
            clock: Arc::new(SystemClock),
            ceilings: Arc::new(self.ceilings.clone()),
            demo: false,
        })
    }

    pub(crate) fn granted(&self) -> PathBuf {
        self.folder.path().join("granted")
    }

    /// The installed plugin `name`, trusted.
    pub(crate) fn trusted(&self, name: &str) -> Manifest<Trusted> {
        let mut installed = self.trees.iter().map(|tree| self.store.get(tree).expect("read").expect("installed"));
        let plugin = installed.find(|plugin| plugin.name().as_str() == name).expect("a plugin of this name");
        endorse(plugin, &self.ceilings, self.policy).expect("endorsed")
    }

    pub(crate) async fn try_start(&self, name: &str) -> Result<Instance, StartRefused> {
        self.host.start(Start::new(self.trusted(name), workspace())).await
    }

    pub(crate) async fn start(&self, name: &str) -> Instance {
        self.try_start(name).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn session(&self) -> Session {
        let all = CapabilitySet { allow: ["*".parse().expect("a pattern")].into(), deny: BTreeSet::new() };
        self.gate.session(SessionContext {
            id: SessionId::generate(SystemClock.now()),
            workspace: workspace(),
            principal: Principal { user: "ann".parse().expect("a name"), role: Role::Owner },
            channel: ChannelRef("cli".parse().expect("a name")),
            audience: Readers::from_iter([Reader::User("ann".parse().expect("a name"))]),
            label: Label::bottom(),
            workspace_grants: all.clone(),
            user_grants: all,
        })
    }

    /// The tool with this name.
    pub(crate) fn door(&self, tool: &str) -> Door<ToTool> {
        let tools = self.host.tools(&workspace());
        let port = tools.into_iter().find(|port| port.name().as_str() == tool).expect("the tool");
        self.gate.tool_door(port)
    }

    /// Calls a tool through the gate; what would be held for a human is approved.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Result<ToolAnswer, PortFailed> {
        let (session, door) = (self.session(), self.door(tool));
        let draft = ToolDraft {
            call: "c1".to_owned(),
            turn: TurnId::generate(SystemClock.now()),
            arguments: Untrusted::new(Origin::Owner, arguments.to_string()),
        };
        let mut verdict = self.gate.clear(&session, &door, draft).await;
        if let Verdict::Held(held) = verdict {
            let by = session.context().principal.clone();
            let yes = Answer { plan: held.plan().digest(), approved: true, by };
            verdict = self.gate.resume(&session, *held, &yes).await;
        }
        let Verdict::Cleared(cleared) = verdict else { panic!("{verdict:?}") };
        door.call(&session, cleared).await.answer.map(Untrusted::into_inner)
    }

    /// As [`World::call`], for a tool that does what it is asked.
    pub(crate) async fn ok(&self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(answer.ok, "{}", answer.content);
        answer.content
    }

    /// As [`World::call`], for a tool that says why not.
    pub(crate) async fn not_ok(&self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(!answer.ok, "{}", answer.content);
        answer.content
    }

    /// The kinds of the host's entries in the log, oldest first.
    pub(crate) fn recorded(&self) -> Vec<String> {
        let limit = sigil_audit::MAX_LIMIT;
        let filter = Filter { kind: Some("host".to_owned()), limit, oldest_first: true, ..Filter::default() };
        self.audit.query(&filter).expect("read").into_iter().map(|entry| entry.kind.to_string()).collect()
    }

    /// Waits until the log has an entry of `kind` for the `count`th time.
    pub(crate) async fn recorded_times(&self, kind: &str, count: usize) {
        loop {
            let size = self.audit.size();
            if self.recorded().iter().filter(|found| *found == kind).count() >= count {
                return;
            }
            self.audit.grown(size).await;
        }
    }
}

/// Signs a policy with edited ceilings, and gives it to the launcher.
fn signed(
    key: &SigningKey,
    launcher: &Launcher,
    version: u64,
    edit: impl FnOnce(&mut Ceilings),
) -> (Bundle<Verified>, Digest) {
    let mut source = Source::embedded(Preset::Balanced).expect("embedded");
    source.edit_ceilings(edit).expect("edited");
    let now = SystemClock.now();
    let envelope = sign(&source, version, Validity::days(now, 30), key).expect("signed");
    let trust = TrustStore::of_one("owner".parse().expect("a name"), key.public());
    let bundle = Bundle::parse(&envelope).expect("parsed").verify(&trust, now, 0).expect("verified");
    let (_, policy) = launcher.client().set_policy(std::str::from_utf8(&envelope).expect("text")).expect("accepted");
    (bundle, policy)
}

pub(crate) fn workspace() -> WorkspaceId {
    "home".parse().expect("a name")
}

pub(crate) fn name(text: &str) -> PluginName {
    text.parse().expect("a name")
}
