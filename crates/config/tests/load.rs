//! The contract of `load`: layers, discovery, all mistakes at once, folders.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sigil_config::{ConfigRefused, Inputs, Resolved, Settings, load};

struct Place {
    root: tempfile::TempDir,
    inputs: Inputs,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["home", "work", "etc"] {
            make(&root.path().join(folder));
        }
        let environment = BTreeMap::from([("HOME".to_owned(), root.path().join("home").display().to_string())]);
        let inputs = Inputs {
            config: None,
            flags: Vec::new(),
            environment,
            working_dir: root.path().join("work"),
            system_dir: root.path().join("etc"),
            uid: rustix::process::geteuid().as_raw(),
        };
        Self { root, inputs }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        make(path.parent().expect("a parent"));
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
    }

    fn set(&mut self, name: &str, value: &str) {
        self.inputs.environment.insert(name.to_owned(), value.to_owned());
    }

    fn load(&self) -> Result<Resolved, ConfigRefused> {
        load(&self.inputs)
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.root.path().join(path), fs::Permissions::from_mode(mode)).expect("mode");
    }
}

fn make(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("mode");
}

#[test]
fn nothing_at_all_is_fine() {
    let resolved = Place::new().load().expect("defaults");
    assert_eq!(resolved.settings, Settings::default());
    assert_eq!(resolved.settings.agent.tool_iterations, 5);
    assert!(resolved.sources.values().all(|source| source.to_string() == "default"));
    assert_eq!(resolved.file, None);
}

#[test]
fn flag_over_environment_over_file_over_default() {
    let mut place = Place::new();
    place.write("work/sigil.yaml", "agent:\n  window: 30\n  tool_iterations: 7\nlog:\n  level: warn\n");
    place.set("SIGIL_AGENT__WINDOW", "40");
    place.set("SIGIL_LOG__LEVEL", "debug");
    place.inputs.flags.push(("--log-level".to_owned(), "log.level".to_owned(), "trace".into()));
    let resolved = place.load().expect("a configuration");
    assert_eq!(resolved.settings.log.level.as_str(), "trace");
    assert_eq!(resolved.settings.agent.window, 40);
    assert_eq!(resolved.settings.agent.tool_iterations, 7);
    assert_eq!(resolved.settings.agent.tool_timeout_ms, 60_000);
    let source = |key: &str| resolved.sources.get(key).map(ToString::to_string).unwrap_or_default();
    assert_eq!(source("log.level"), "--log-level");
    assert_eq!(source("agent.window"), "SIGIL_AGENT__WINDOW");
    assert!(source("agent.tool_iterations").ends_with("work/sigil.yaml:3"), "{}", source("agent.tool_iterations"));
    assert_eq!(source("agent.tool_timeout_ms"), "default");
}

#[test]
fn every_mistake_at_once_with_source_key_reason_and_remedy() {
    let mut place = Place::new();
    place.write(
        "work/sigil.yaml",
        concat!(
            "gatewy:\n  listen: 127.0.0.1:1\n",
            "gateway:\n  listen: 0.0.0.0:8080\n  limits:\n    body_bytes: many\n",
            "agent:\n  window: 0\n",
            "providers:\n  - name: A B\n    kind: antropic\n    models: []\n    api_key: sk-ant-very-secret-value\n",
            "workspaces:\n  Home!: {}\n  home:\n    capabilities:\n      allow: ['tool..x']\n",
        ),
    );
    place.set("SIGIL_LOG__LEVLE", "debug");
    let refused = place.load().expect_err("mistakes");
    let found: Vec<(String, String)> = refused.mistakes.iter().map(|m| (m.key.clone(), m.code.to_string())).collect();
    let has = |key: &str, code: &str| found.iter().any(|(k, c)| k == key && c == code);
    assert!(has("gatewy", "config.key.unknown"), "{found:?}");
    assert!(has("gateway.listen", "config.value.invalid"), "{found:?}");
    assert!(has("gateway.limits.body_bytes", "config.value.type"), "{found:?}");
    assert!(has("agent.window", "config.value.invalid"), "{found:?}");
    assert!(has("providers[0].name", "config.value.invalid"), "{found:?}");
    assert!(has("providers[0].kind", "config.value.invalid"), "{found:?}");
    assert!(has("providers[0].models", "config.value.invalid"), "{found:?}");
    assert!(has("providers[0].api_key", "config.value.invalid"), "{found:?}");
    assert!(has("workspaces", "config.value.invalid"), "{found:?}");
    assert!(has("workspaces.home.capabilities.allow[0]", "config.value.invalid"), "{found:?}");
    assert!(has("log.levle", "config.key.unknown"), "{found:?}");
    assert_eq!(refused.mistakes.len(), 11, "{refused}");
    for mistake in &refused.mistakes {
        assert!(!mistake.reason.is_empty() && !mistake.remedy.is_empty() && !mistake.source.is_empty(), "{mistake}");
        assert_ne!(mistake.source, "default", "{mistake}");
    }
    let text = refused.to_string();
    assert!(!text.contains("very-secret"), "a refusal repeats no value: {text}");
    assert!(text.contains("did you mean `gateway`?") && text.contains("did you mean `anthropic`?"), "{text}");
    assert!(text.contains("SIGIL_LOG__LEVLE: log.levle"), "{text}");
    assert!(text.contains("sigil.yaml:4: gateway.listen"), "{text}");
}

#[test]
fn what_no_single_field_says_is_checked_too() {
    let place = Place::new();
    place.write(
        "work/sigil.yaml",
        concat!(
            "providers:\n  - {name: a, kind: openai, models: [m]}\n  - {name: a, kind: rehearsal, models: [m], base_url: 'http://x.y'}\n",
            "workspaces:\n  home: {provider: b}\n",
            "plugins:\n  settings:\n    files: {workspaces: [away]}\n",
        ),
    );
    let refused = place.load().expect_err("mistakes");
    assert_eq!(refused.mistakes.len(), 4, "{refused}");
}

#[test]
fn the_working_directory_counts_only_when_nobody_else_can_write_it() {
    let place = Place::new();
    place.write("work/sigil.yaml", "agent: {window: 3}\n");
    place.write("home/.config/sigil/sigil.yaml", "agent: {window: 4}\n");
    let resolved = place.load().expect("a configuration");
    assert_eq!(resolved.settings.agent.window, 3);
    assert!(resolved.notes.iter().any(|note| note.code.as_str() == "config.file.discovered"));

    for (path, mode) in [("work/sigil.yaml", 0o664), ("work", 0o777)] {
        place.mode("work/sigil.yaml", 0o644);
        place.mode("work", 0o755);
        place.mode(path, mode);
        let resolved = place.load().expect("a configuration");
        assert_eq!(resolved.settings.agent.window, 4, "{path} {mode:o}");
        assert!(resolved.notes.iter().any(|note| note.code.as_str() == "config.file.ignored"), "{path} {mode:o}");
    }
}

#[test]
fn the_users_own_file_is_refused_when_others_may_write_it() {
    let place = Place::new();
    place.write("home/.config/sigil/sigil.yaml", "agent: {window: 4}\n");
    place.mode("home/.config/sigil/sigil.yaml", 0o666);
    assert_eq!(place.load().expect_err("exposed").code().as_str(), "config.file.exposed");
}

#[test]
fn a_named_file_wins_and_must_exist() {
    let mut place = Place::new();
    place.write("work/sigil.yaml", "agent: {window: 3}\n");
    place.write("other.yaml", "agent: {window: 9}\n");
    place.inputs.config = Some(place.root.path().join("other.yaml"));
    let resolved = place.load().expect("a configuration");
    assert_eq!(resolved.settings.agent.window, 9);
    assert_eq!(resolved.folders.policy, place.root.path().join("policy.dsse"));
    place.inputs.config = Some(place.root.path().join("none.yaml"));
    assert_eq!(place.load().expect_err("missing").code().as_str(), "config.file.missing");
}

#[test]
fn the_machine_s_file_is_the_last_resort() {
    let place = Place::new();
    place.write("etc/sigil.yaml", "agent: {window: 6}\n");
    assert_eq!(place.load().expect("a configuration").settings.agent.window, 6);
}

#[test]
fn folders_follow_user_and_flags() {
    let mut place = Place::new();
    place.inputs.uid = 0;
    let folders = place.load().expect("defaults").folders;
    assert_eq!(folders.data, Path::new("/var/lib/sigil"));
    assert_eq!(folders.launcher, Path::new("/var/lib/sigil.launcher"));
    assert_eq!(folders.config, place.inputs.system_dir);

    place.inputs.uid = 1000;
    place.set("XDG_RUNTIME_DIR", "/run/user/1000");
    let folders = place.load().expect("defaults").folders;
    assert_eq!(folders.data, place.root.path().join("home/.local/share/sigil"));
    assert_eq!(folders.socket, Path::new("/run/user/1000/sigil/sigil.sock"));
    assert_eq!(folders.policy, place.root.path().join("home/.config/sigil/policy.dsse"));

    place.inputs.flags.push(("--data-dir".to_owned(), "gateway.data_dir".to_owned(), "mine/".into()));
    let folders = place.load().expect("defaults").folders;
    assert_eq!(folders.data, place.root.path().join("work/mine"));
    assert_eq!(folders.socket, place.root.path().join("work/mine/run/sigil.sock"));
    assert!(!folders.launcher.starts_with(&folders.data));
}
