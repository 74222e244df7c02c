//! The oath under hostile requests: whatever a gateway sends, only what signed policy allows is permitted, with no more than
//! policy grants; and everything that it allows is.
//!
//! The judgement is the real one, over real signatures, a real store and the launcher's real folder; only starting is left out.
//! What is right is computed beside it, from the data that the test itself made ([`Truth`]), not from the code under test.
//! `SIGIL_OATH_CASES` and `SIGIL_OATH_SEED` set how many and which; `./task test-oath` runs ten million.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use sigil_policy::sign::{SigningKey, Validity, sign};
use sigil_policy::{Bundle, Preset, Source, TrustStore, Verified};
use sigil_types::{Digest, Timestamp};

use super::LauncherConfig;
use super::judge::{self, Judged};
use super::state::{State, write_trust};
use super::wire::{LaunchRequest, Refusal, Request};
use crate::host::Reached;
use crate::profile::base::BaseProfile;
use crate::profile::{Access, Params};
use crate::tree;

mod dice;
mod truth;

use dice::Dice;
use truth::{Grant, Plugin, PolicyTruth, Truth};

/// A moment at which the test's policies are valid.
const NOW: u64 = 1_900_000_000_000;
const DAY: u64 = 86_400_000;

struct World {
    folder: tempfile::TempDir,
    config: LauncherConfig,
    state: State,
    policy: Option<Bundle<Verified>>,
    latest: u64,
    truth: Truth,
}

fn manifest(name: &str, profile: &str, sandbox: &str) -> String {
    format!(
        "manifest: 1\nname: {name}\nversion: 0.1.0\ntype: tool\nengine: \">=0.1\"\nlicense: MIT\ndescription: A sample.\n\
         capabilities: [tool.{name}.*]\nexecution:\n  tier: process\n  transport: sdk\n  command: [bin/tool, --own]\n  \
         sandbox:\n    profile: {profile}\n{sandbox}"
    )
}

const ASKS: &str = "    filesystem:\n      - { param: docs, access: write, reason: Test. }\n      \
    - { param: more, access: read, reason: Test. }\n    network:\n      hosts:\n        \
    - { host: api.example.com, ports: [443], reason: Test. }\n        - { host: other.example.org, ports: [443], reason: Test. }\n";

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["plugins", "run", "home/notes/deep", "home/read", "spare"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let config = LauncherConfig {
            state: at("launcher"),
            plugins: at("plugins"),
            run: at("run"),
            own: vec![at("launcher"), at("plugins"), at("run")],
            homes: vec![at("home")],
            origin: "sigil/test".to_owned(),
            cgroup: None,
            max_running: 8,
        };
        let (owner, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let trust = TrustStore::of_one("owner".parse().unwrap(), owner.public());
        write_trust(&config.state, &trust).unwrap();
        let state = State::load(&config.state, "sigil/test").unwrap();
        let mut truth = Truth { home: at("home"), ..Truth::default() };
        for (name, says, profile, asks, program) in [
            ("alpha", "alpha", "native", ASKS, "a program"),
            ("beta", "beta", "shell", "", "#!/bin/sh\necho beta\n"),
            ("gamma", "gamma", "native", ASKS, "another program"),
            // A tree whose manifest is that of another plugin.
            ("delta", "alpha", "native", "", "a third program"),
        ] {
            let manifest = manifest(says, profile, asks);
            let tree = install(&config.plugins, &manifest, program);
            let script = program.starts_with("#!").then_some("/bin/sh");
            truth.plugins.push(Plugin {
                name,
                says,
                manifest,
                tree,
                profile,
                asks: !asks.is_empty(),
                script,
                intact: true,
            });
        }
        truth.sign(&owner, &other);
        Self { folder, config, state, policy: None, latest: 0, truth }
    }

    /// A launcher that was never given a policy.
    fn fresh(&mut self) {
        let floor = self.config.state.join("policy.floor");
        fs::write(&floor, "0\n").unwrap();
        self.state = State::load(&self.config.state, "sigil/test").unwrap();
        (self.policy, self.truth.current, self.truth.floor, self.latest) = (None, None, 0, 0);
    }

    /// Changes what is in the store, or puts it right again.
    fn tamper(&mut self, dice: &mut Dice) {
        let number = dice.below(self.truth.plugins.len());
        let spare = self.folder.path().join("spare");
        let plugin = &mut self.truth.plugins[number];
        let place = self.config.plugins.join(tree::folder_name(&plugin.tree));
        if !plugin.intact {
            if fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_symlink()) {
                fs::remove_file(&place).unwrap();
            } else if place.exists() {
                fs::remove_dir_all(&place).unwrap();
            }
            let program = ["a program", "#!/bin/sh\necho beta\n", "another program", "a third program"][number];
            assert_eq!(install(&self.config.plugins, &plugin.manifest, program), plugin.tree);
            let _ = fs::remove_file(spare.join("other-name"));
            plugin.intact = true;
            return;
        }
        plugin.intact = false;
        let tool = place.join("bin/tool");
        match dice.below(9) {
            0 => fs::write(&tool, "a progran").unwrap(),
            1 => fs::write(place.join("extra"), "").unwrap(),
            2 => fs::remove_file(&tool).unwrap(),
            3 => fs::set_permissions(&tool, fs::Permissions::from_mode(0o644)).unwrap(),
            4 => fs::set_permissions(&tool, fs::Permissions::from_mode(0o777)).unwrap(),
            5 => fs::hard_link(&tool, spare.join("other-name")).or_else(|_| fs::remove_file(&tool)).unwrap(),
            6 => fs::write(place.join("plugin.yaml"), format!("{}\n", plugin.manifest)).unwrap(),
            7 => {
                // The very same tree, somewhere else.
                fs::remove_dir_all(&place).unwrap();
                let elsewhere = install(&spare, &plugin.manifest, "x");
                symlink(spare.join(tree::folder_name(&elsewhere)), &place).unwrap();
            }
            _ => {
                fs::rename(&tool, place.join("bin/real")).unwrap();
                symlink("real", &tool).unwrap();
            }
        }
    }

    /// What the launcher does with the body of one frame, up to starting.
    fn answer(&mut self, now: u64, body: &[u8]) -> Answer {
        let Ok(request) = Request::parse(body) else { return Answer::Malformed };
        self.latest = self.latest.max(now);
        let now = Timestamp::from_millis(self.latest);
        match request {
            Request::SetPolicy { envelope } => match judge::policy(&mut self.state, &envelope, now) {
                Ok(bundle) => {
                    let digest = bundle.digest();
                    self.policy = Some(bundle);
                    Answer::Policy(envelope, Some(digest))
                }
                Err(_) => Answer::Policy(envelope, None),
            },
            Request::Launch(request) => {
                let judged = judged(&self.config, self.policy.as_ref(), now, &request);
                Answer::Launch(request, judged.map(Box::new))
            }
            _ => Answer::Other,
        }
    }
}

enum Answer {
    Malformed,
    Policy(String, Option<Digest>),
    Launch(Box<LaunchRequest>, Result<Box<Judged>, Refusal>),
    Other,
}

fn judged(
    config: &LauncherConfig,
    policy: Option<&Bundle<Verified>>,
    now: Timestamp,
    request: &LaunchRequest,
) -> Result<Judged, Refusal> {
    let permit = judge::launch(config, policy, now, request)?;
    let spec = permit.spec()?;
    permit.compile(config, &spec, ((200_001, 200_001), Reached::Strict), None)
}

/// Puts a plugin into the store, as the installer does.
fn install(store: &Path, manifest: &str, program: &str) -> Digest {
    let new = store.join(".draft");
    fs::create_dir_all(new.join("bin")).unwrap();
    fs::write(new.join("plugin.yaml"), manifest).unwrap();
    fs::write(new.join("bin/tool"), program).unwrap();
    for (name, mode) in [("", 0o755), ("bin", 0o755), ("plugin.yaml", 0o644), ("bin/tool", 0o755)] {
        fs::set_permissions(new.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let digest = tree::hash(&new).unwrap().digest;
    let place = store.join(tree::folder_name(&digest));
    if place.exists() { fs::remove_dir_all(&new) } else { fs::rename(&new, &place) }.unwrap();
    digest
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    malformed: u64,
    policies: u64,
    refused: u64,
    permitted: u64,
}

fn run(cases: u64, seed: u64) -> Count {
    let mut world = World::new();
    let mut dice = Dice::new(seed);
    let mut count = Count::default();
    for case in 0..cases {
        if case % 4000 == 3999 {
            world.fresh();
        }
        if dice.one_in(300) {
            world.tamper(&mut dice);
        }
        let now = dice.moment();
        let body = dice.body(&world.truth);
        let told = || format!("case {case} of seed {seed}: {}", String::from_utf8_lossy(&body));
        match world.answer(now, &body) {
            Answer::Malformed => count.malformed += 1,
            Answer::Other => {}
            Answer::Policy(envelope, digest) => {
                let right = world.truth.accept(&envelope, world.latest);
                assert_eq!(digest, right, "{}", told());
                count.policies += u64::from(digest.is_some());
            }
            Answer::Launch(request, judged) => {
                let right = world.truth.permits(&request, world.latest);
                match judged {
                    Ok(judged) => {
                        assert!(right.is_ok(), "permitted, but {right:?}: {}", told());
                        world
                            .truth
                            .check(&world.config.plugins, &request, &judged)
                            .unwrap_or_else(|why| panic!("{why}: {}", told()));
                        count.permitted += 1;
                    }
                    Err(refused) => {
                        assert!(right.is_err(), "refused, but it is allowed: {refused}: {}", told());
                        count.refused += 1;
                    }
                }
            }
        }
    }
    count
}

#[test]
fn hostile_requests_yield_only_launches_that_signed_policy_allows() {
    let set = |name: &str, or: u64| std::env::var(name).ok().map_or(or, |text| text.parse().expect("a number"));
    let (cases, seed) = (set("SIGIL_OATH_CASES", 20_000), set("SIGIL_OATH_SEED", 1));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let begun = Instant::now();
    let counts: Vec<Count> = std::thread::scope(|scope| {
        let run = |thread| scope.spawn(move || run(cases.div_ceil(threads), seed + thread));
        let running: Vec<_> = (0..threads).map(run).collect();
        running.into_iter().map(|thread| thread.join().expect("it held")).collect()
    });
    let sum = |part: fn(&Count) -> u64| counts.iter().map(part).sum::<u64>();
    let (malformed, policies) = (sum(|count| count.malformed), sum(|count| count.policies));
    let (refused, permitted) = (sum(|count| count.refused), sum(|count| count.permitted));
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} requests in {seconds:.0} s ({:.0} a second): {malformed} no request, {policies} policies accepted, {refused} launches \
         refused, {permitted} permitted",
        cases.div_ceil(threads) * threads,
        cases as f64 / seconds
    );
    // Were everything refused, nothing would be shown.
    let least = cases / 100;
    assert!(malformed > least && refused > least && permitted > least && policies > 0, "{counts:?}");
}

#[test]
fn a_tree_that_is_swapped_meanwhile_is_refused_or_pinned() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut world = World::new();
    let signed = world.truth.policies[0].envelope.clone();
    let body = serde_json::to_vec(&Request::SetPolicy { envelope: signed }).unwrap();
    assert!(matches!(world.answer(NOW, &body), Answer::Policy(_, Some(_))));
    let request = world.truth.request(&world.truth.plugins[0], &world.truth.policies[0]);
    let place = world.config.plugins.join(tree::folder_name(&request.tree));
    let (aside, evil) = (world.folder.path().join("aside"), world.folder.path().join("evil"));
    fs::create_dir_all(evil.join("bin")).unwrap();
    fs::write(evil.join("plugin.yaml"), &request.manifest).unwrap();
    fs::write(evil.join("bin/tool"), "an evil program").unwrap();
    fs::set_permissions(evil.join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    let real = rustix::fs::stat(&place).unwrap();
    let ended = AtomicBool::new(false);
    let (mut refused, mut permitted) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                fs::rename(&place, &aside).unwrap();
                symlink(&evil, &place).unwrap();
                fs::remove_file(&place).unwrap();
                fs::rename(&evil, &place).unwrap();
                fs::rename(&place, &evil).unwrap();
                fs::rename(&aside, &place).unwrap();
            }
        });
        for _ in 0..5_000 {
            match judged(&world.config, world.policy.as_ref(), Timestamp::from_millis(NOW), &request) {
                Ok(judged) => {
                    let pin = &judged.pins[0];
                    assert_eq!(
                        (pin.dev, pin.ino),
                        (real.st_dev, real.st_ino),
                        "what was hashed is what will be mounted"
                    );
                    permitted += 1;
                }
                Err(_) => refused += 1,
            }
            if refused > 50 && permitted > 50 {
                break;
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(refused > 0, "it was swapped, and seen");
}

/// What of the grant a launch may have.
fn chosen<'a>(grant: &'a Grant, params: &Params, name: &str) -> Vec<(&'a Path, PathBuf, bool)> {
    let granted = grant.folders.iter().filter(|(known, ..)| *known == name);
    let wanted = params.folders.iter().find(|(known, _)| known.as_str() == name).map(|(_, paths)| paths);
    granted
        .flat_map(|(_, path, write)| match wanted {
            None => vec![(path.as_path(), path.clone(), *write)],
            Some(paths) => {
                let inside = paths.iter().filter(|wanted| wanted.starts_with(path));
                inside.map(|wanted| (path.as_path(), wanted.clone(), *write)).collect()
            }
        })
        .collect()
}

impl Truth {
    /// Whether `judged` has no more than the policy in force gives to `request`.
    fn check(&self, store: &Path, request: &LaunchRequest, judged: &Judged) -> Result<(), String> {
        let plugin = self.plugins.iter().find(|plugin| plugin.tree == request.tree).ok_or("no such tree")?;
        let policy = self.in_force().ok_or("no policy")?;
        let grant = policy.grants.get(request.plugin.as_str()).ok_or("no grant")?;
        let profile = &judged.compiled.profile;
        let base = BaseProfile::load(plugin.profile).map_err(|error| error.to_string())?;
        let place = store.join(tree::folder_name(&plugin.tree));
        let folders: Vec<_> = ["docs", "more"].iter().flat_map(|name| chosen(grant, &request.params, name)).collect();
        for bind in &profile.binds {
            let of_base = || base.bind.iter().any(|known| known.path == bind.target && known.access == bind.access);
            let same = bind.source == bind.target;
            let granted = || {
                plugin.asks
                    && folders.iter().any(|(_, chosen, write)| {
                        bind.source.starts_with(chosen)
                            && (bind.access == Access::Read || (*write && bind.access == Access::Write))
                    })
            };
            let interprets = || {
                bind.access == Access::Exec
                    && plugin.script.is_some()
                    && fs::canonicalize("/bin/sh").is_ok_and(|sh| sh == bind.source)
            };
            let tree = bind.source == place && bind.target == Path::new("/plugin") && bind.access == Access::Exec;
            if !(tree || (same && (of_base() || granted() || interprets()))) {
                return Err(format!("{bind:?} is of nobody"));
            }
        }
        let argv = ["/plugin/bin/tool".to_owned(), "--own".to_owned()];
        if profile.exec.path != Path::new("/plugin/bin/tool") || profile.exec.argv != argv {
            return Err(format!("{:?} is executed", profile.exec));
        }
        let known = |name: &String| {
            base.env.contains_key(name) || name.to_uppercase().ends_with("_PROXY") || name == sigil_proto::RPC_FD
        };
        if !profile.exec.env.keys().all(known) {
            return Err(format!("{:?} in the environment", profile.exec.env));
        }
        let hosts: Vec<String> = judged.compiled.egress.hosts.iter().map(|rule| rule.host.to_string()).collect();
        if !hosts.iter().all(|host| plugin.asks && grant.hosts.contains(&host.as_str()))
            || !judged.compiled.egress.local.is_empty()
        {
            return Err(format!("{hosts:?} can be reached"));
        }
        let identity = profile.identity;
        let whole = profile.ablated.is_empty() && base.required.is_subset(&profile.required);
        if !whole || [identity.uid, identity.gid, identity.host_uid, identity.host_gid].contains(&0) {
            return Err("a layer is missing".to_owned());
        }
        if judged.pins.first().is_none_or(|pin| pin.source != place)
            || plugin.script.is_some() != judged.interpreter.is_some()
        {
            return Err("what was verified is not pinned".to_owned());
        }
        Ok(())
    }

    /// The policies, signed. Each has its digest, its version, its time, and what it grants.
    fn sign(&mut self, owner: &SigningKey, other: &SigningKey) {
        let sh = Digest::of(&fs::read("/bin/sh").unwrap());
        let tree =
            |name: &str| self.plugins.iter().find(|plugin| plugin.name == name).map(|plugin| plugin.tree).unwrap();
        let (notes, read) = (self.home.join("notes"), self.home.join("read"));
        let full = Grant {
            trees: vec![tree("alpha")],
            folders: vec![("docs", notes.clone(), true), ("more", read.clone(), false)],
            hosts: vec!["api.example.com"],
            interpreters: Vec::new(),
        };
        let script =
            |digest| Grant { trees: vec![tree("beta")], interpreters: vec![("/bin/sh", digest)], ..Grant::default() };
        let narrow = Grant {
            trees: vec![tree("alpha")],
            folders: vec![("docs", notes.join("deep"), false)],
            ..Grant::default()
        };
        let gamma = Grant { trees: vec![tree("gamma"), tree("alpha")], ..full.clone() };
        let delta = Grant { trees: vec![tree("delta")], ..Grant::default() };
        let valid = (NOW - DAY, NOW + 30 * DAY);
        let table = [
            (1, valid, true, vec![("alpha", full.clone()), ("beta", script(sh))]),
            (2, valid, true, vec![("alpha", narrow), ("delta", delta)]),
            (
                3,
                valid,
                true,
                vec![("alpha", full.clone()), ("gamma", gamma.clone()), ("beta", script(Digest::of(b"another shell")))],
            ),
            (4, (NOW - DAY, NOW + 5 * DAY), true, vec![("gamma", gamma.clone()), ("beta", script(sh))]),
            (5, valid, true, Vec::new()),
            (6, (NOW + 20 * DAY, NOW + 30 * DAY), true, vec![("alpha", full.clone())]),
            (7, (NOW - 9 * DAY, NOW - DAY), true, vec![("alpha", full.clone())]),
            (8, valid, false, vec![("alpha", full.clone()), ("beta", script(sh))]),
            (9, valid, true, vec![("alpha", full), ("gamma", gamma), ("beta", script(sh))]),
        ];
        for (version, (not_before, expires), owners, grants) in table {
            let grants: BTreeMap<&'static str, Grant> = grants.into_iter().collect();
            let mut source = Source::embedded(Preset::Balanced).unwrap();
            let text: String = grants.iter().map(|(name, grant)| grant.to_toml(name)).collect();
            let plugins: BTreeMap<_, _> = toml::from_str(&text).unwrap();
            source.edit_ceilings(|ceilings| ceilings.plugins = plugins).unwrap();
            let validity =
                Validity { not_before: Timestamp::from_millis(not_before), expires: Timestamp::from_millis(expires) };
            let bytes = sign(&source, version, validity, if owners { owner } else { other }).unwrap();
            let digest = Bundle::parse(&bytes).unwrap().digest();
            let envelope = String::from_utf8(bytes).unwrap();
            self.policies.push(PolicyTruth { envelope, digest, version, not_before, expires, owners, grants });
        }
    }
}
