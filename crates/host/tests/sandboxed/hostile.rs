//! The plugin `adversary`, and programs that do not speak the protocol.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sigil_audit::Filter;
use sigil_host::{PluginStore, Start, endorse};
use sigil_sandbox::denials::Sight;

use crate::harness::Test;
use crate::world::{self, PLAIN, Wish, workspace};

pub(crate) const TESTS: &[Test] = &[
    ("the_adversary_runs_in_a_demonstration_only", demo_only),
    ("no_attempt_of_the_adversary_succeeds", attack),
    ("what_a_plugin_was_refused_is_known_and_recorded", refused),
    ("an_oversize_result_is_cut_and_says_so", flood),
    ("terminal_escapes_reach_neither_log_nor_answer", scribble),
    ("an_unendorsed_tree_is_refused_by_host_and_launcher", unendorsed),
    ("garbage_on_the_socket_is_a_failed_start", garbage),
    ("another_protocol_on_the_socket_is_a_failed_start", another_protocol),
    ("a_program_that_ends_is_a_failed_start", ends),
    ("a_program_that_closes_its_socket_is_a_failed_start", closes),
    ("a_plugin_that_calls_itself_otherwise_is_refused", other_name),
];

const ADVERSARY: Wish<'static> = Wish { plugins: &["adversary"], own: &[], ceilings: PLAIN, demo: true };

fn demo_only() {
    world::run(&Wish { demo: false, ..ADVERSARY }, async |world| {
        let refused = world.try_start("adversary").await.expect_err("not a demonstration");
        assert_eq!(refused.code().as_str(), "host.plugin.start.demo-only");
        assert!(world.recorded().is_empty(), "nothing was started");
    });
}

fn attack() {
    world::run(&ADVERSARY, async |world| {
        world.start("adversary").await;
        let report: Value = serde_json::from_str(&world.ok("adversary.attack", json!({})).await).expect("JSON");
        for result in report["results"].as_array().expect("results") {
            let (errno, detail) = (result["errno"].as_str().unwrap_or("-"), result["detail"].as_str().unwrap_or("-"));
            println!("{:<22} held {:<5} {errno:<14} {detail}", result["id"].as_str().unwrap_or("?"), result["held"]);
        }
        let open: Vec<&Value> =
            report["results"].as_array().expect("results").iter().filter(|result| result["held"] != true).collect();
        assert!(open.is_empty(), "{open:#?}");
        assert!(report["attempts"].as_u64().is_some_and(|attempts| attempts >= 40));
    });
}

fn refused() {
    world::run(&ADVERSARY, async |world| {
        let instance = world.start("adversary").await;
        assert!(instance.denials().await.expect("told").0.is_empty(), "it has done nothing yet");
        world.ok("adversary.attack", json!({})).await;
        let (ledger, _) = instance.denials().await.expect("told");
        let calls: BTreeSet<&str> = ledger
            .seen()
            .iter()
            .filter_map(|sighting| match &sighting.what {
                Sight::Call { call, .. } => Some(call.as_str()),
                _ => None,
            })
            .collect();
        assert!(["ptrace", "mount", "unshare"].iter().all(|call| calls.contains(call)), "{calls:?}");
        instance.stop().await;
        assert!(instance.denials().await.expect("told").0.is_empty(), "it does not run");
        world.recorded_times("host.plugin.calls.refused", 1).await;
        let filter = Filter { kind: Some("host.plugin.calls.refused".to_owned()), ..Filter::default() };
        let entries = world.audit.query(&filter).expect("read");
        let [entry] = &entries[..] else { panic!("one entry for a launch: {entries:?}") };
        let text = entry.data.to_string();
        assert!(text.contains("ptrace") && !text.contains("/proc"), "calls, and not the plugin's words: {text}");
    });
}

fn flood() {
    world::run(&ADVERSARY, async |world| {
        world.start("adversary").await;
        let cap = usize::try_from(world.ceilings.budgets.tool_result_bytes).expect("a size");
        let answer = world.call("adversary.flood", json!({ "bytes": 20 << 20 })).await.expect("an answer");
        assert_eq!(answer.bytes, 20 << 20);
        let notice = format!("\n… cut by Sigil: the first {cap} of {} bytes", 20 << 20);
        assert_eq!(answer.content.len(), cap + notice.len());
        assert!(answer.content.ends_with(&notice));
        assert_eq!(world.ok("adversary.flood", json!({ "bytes": cap })).await.len(), cap, "exactly the limit is whole");
    });
}

fn scribble() {
    world::run(&ADVERSARY, async |world| {
        let instance = world.start("adversary").await;
        let answer = world.ok("adversary.scribble", json!({})).await;
        instance.stop().await;
        let (lines, _) = instance.logs().snapshot();
        let text: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert!(text.iter().any(|line| line.contains("approved by owner")), "{text:?}");
        for shown in text.into_iter().chain([answer.as_str()]) {
            assert!(!shown.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
        }
    });
}

fn unendorsed() {
    world::run(&ADVERSARY, async |world| {
        let parts = world.folder.path().join("parts/other");
        let manifest =
            fs::read_to_string(world.folder.path().join("parts/adversary/plugin.yaml")).expect("the manifest");
        world::assemble(&parts, &manifest, &world::binary("sigil-plugin-adversary"));
        fs::write(parts.join("extra"), "more").expect("written");
        let store = PluginStore::open(world.folder.path().join("plugins")).expect("the store");
        let other = store.install(&parts).expect("installed");
        let refused = endorse(other.clone(), &world.ceilings, world.policy).expect_err("not endorsed");
        assert_eq!(refused.code().as_str(), "host.plugin.tree.unendorsed");
        // A gateway that lies to itself is refused by the launcher.
        let mut lying = world.ceilings.clone();
        lying.plugins.entry(world::name("adversary")).or_default().trees = BTreeSet::from([other.tree]);
        let trusted = endorse(other, &lying, world.policy).expect("endorsed by a lie");
        let refused = world.host.start(Start::new(trusted, workspace())).await.expect_err("refused");
        assert_eq!(refused.code().as_str(), "sandbox.profile.tree.not-endorsed", "{refused}");
    });
}

/// A program that is a shell script.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("script");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path
}

fn manifest(name: &str, program: &str, profile: &str) -> String {
    format!(
        "manifest: 1\nname: {name}\nversion: 0.1.0\ntype: tool\nengine: '>=0.1'\nlicense: MIT\ndescription: For a test.\n\
         capabilities: [tool.{name}.*]\nexecution:\n  tier: process\n  transport: sdk\n  command: [bin/{program}]\n  \
         sandbox: {{ profile: {profile} }}\n"
    )
}

/// A script that does `noise` where a plugin would speak does not start, and nothing of it is left.
fn does_not_speak(noise: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let own = [(manifest("noise", "script", "shell"), script(folder.path(), noise))];
    world::run(&Wish { plugins: &[], own: &own, ceilings: PLAIN, demo: false }, async |world| {
        let refused = world.try_start("noise").await.expect_err("it does not speak");
        assert_eq!(refused.code().as_str(), "host.plugin.protocol.bad", "{refused}");
        world.nothing_runs().await;
    });
}

fn garbage() {
    does_not_speak("head -c 100000 /dev/urandom >&0; cat >/dev/null");
}

fn another_protocol() {
    does_not_speak("printf 'HTTP/1.1 200 OK\\r\\n\\r\\n' >&0; cat >/dev/null");
}

fn ends() {
    does_not_speak("exit 3");
}

fn closes() {
    does_not_speak("exec 0<&-; sleep 1000");
}

fn other_name() {
    let own = [(manifest("other", "sigil-plugin-files", "native"), world::binary("sigil-plugin-files"))];
    world::run(&Wish { plugins: &[], own: &own, ceilings: PLAIN, demo: false }, async |world| {
        let refused = world.try_start("other").await.expect_err("it is `files`");
        assert_eq!(refused.code().as_str(), "host.plugin.identity.other");
    });
}
