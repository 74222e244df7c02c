//! Starting, ending, being killed, hanging.

use serde_json::json;
use sigil_host::Start;
use sigil_types::Digest;

use crate::harness::Test;
use crate::world::{self, PLAIN, Wish, name, workspace};

pub(crate) const TESTS: &[Test] = &[
    ("a_killed_plugin_is_started_again", killed),
    ("a_plugin_that_dies_in_a_call_fails_that_call_only", dies_in_a_call),
    ("a_plugin_that_dies_again_and_again_is_given_up", crash_loop),
    ("a_call_that_hangs_ends_in_time", hangs),
    ("a_stopped_plugin_ends_and_can_be_started_anew", stops),
    ("changed_definitions_are_refused", definitions),
    ("another_policy_is_gone_over_to", another_policy),
    ("without_a_log_nothing_starts", no_log),
    ("a_start_is_fast", fast),
];

const FILES: Wish<'static> = Wish { plugins: &["files"], own: &[], ceilings: PLAIN, demo: false };
const ADVERSARY: Wish<'static> = Wish { plugins: &["adversary"], own: &[], ceilings: PLAIN, demo: true };

fn killed() {
    world::run(&FILES, async |world| {
        let instance = world.start("files").await;
        let first = instance.status().launch.expect("a launch");
        let launcher = world.launcher.client();
        tokio::task::spawn_blocking(move || launcher.kill(first)).await.expect("joined").expect("killed");
        world.recorded_times("host.plugin.start.ready", 2).await;
        // A call waits for a start that is under way.
        assert!(world.ok("files.list", json!({})).await.contains("no folder is granted"));
        let second = instance.status();
        assert_ne!(second.launch, Some(first));
        assert_eq!(second.state, "running");
        let kinds = world.recorded();
        let expected = [
            "start.begun",
            "start.launched",
            "start.ready",
            "process.ended",
            "restart.waiting",
            "start.begun",
            "start.launched",
            "start.ready",
        ];
        assert_eq!(kinds, expected.map(|kind| format!("host.plugin.{kind}")));
    });
}

fn dies_in_a_call() {
    world::run(&ADVERSARY, async |world| {
        world.start("adversary").await;
        let failed = world.call("adversary.crash", json!({})).await.expect_err("it died");
        assert_eq!((failed.code.as_str(), failed.retryable), ("host.call.connection.lost", false));
        world.recorded_times("host.plugin.start.ready", 2).await;
        assert_eq!(world.ok("adversary.flood", json!({ "bytes": 3 })).await, "AAA");
    });
}

fn crash_loop() {
    world::run(&ADVERSARY, async |world| {
        let instance = world.start("adversary").await;
        for end in 1..=6 {
            assert!(world.call("adversary.crash", json!({})).await.is_err());
            world.recorded_times("host.plugin.process.ended", end).await;
        }
        world.recorded_times("host.plugin.stop.done", 1).await;
        let failed = world.call("adversary.flood", json!({ "bytes": 3 })).await.expect_err("it is stopped");
        assert_eq!((failed.code.as_str(), failed.retryable), ("host.call.plugin.stopped", false));
        assert_eq!(instance.status().state, "stopped");
        // The owner may try again.
        instance.restart().await;
        assert_eq!(world.ok("adversary.flood", json!({ "bytes": 3 })).await, "AAA");
    });
}

fn hangs() {
    world::run(&ADVERSARY, async |world| {
        world.start("adversary").await;
        let failed = world.call("adversary.hang", json!({})).await.expect_err("it hangs");
        assert_eq!((failed.code.as_str(), failed.retryable), ("host.call.time.exceeded", false));
        assert_eq!(world.ok("adversary.flood", json!({ "bytes": 3 })).await, "AAA", "others are answered meanwhile");
        let hang = || world.call("adversary.hang", json!({}));
        let (a, b, c) = tokio::join!(hang(), hang(), hang());
        assert!(a.is_err() && b.is_err() && c.is_err());
        // Four calls that it may still be busy with: it is started anew.
        world.recorded_times("host.plugin.process.unhealthy", 1).await;
        world.recorded_times("host.plugin.start.ready", 2).await;
    });
}

fn stops() {
    world::run(&FILES, async |world| {
        let instance = world.start("files").await;
        assert_eq!(world.try_start("files").await.expect_err("twice").code().as_str(), "host.plugin.start.twice");
        assert!(world.host.stop(&name("files"), &workspace()).await);
        assert_eq!(instance.status().state, "stopped");
        world.nothing_runs().await;
        assert!(!world.host.stop(&name("files"), &workspace()).await);
        assert!(world.host.tools(&workspace()).is_empty());
        world.start("files").await;
        assert_eq!(world.host.tools(&workspace()).len(), 4);
    });
}

fn definitions() {
    world::run(&FILES, async |world| {
        let digest = world.start("files").await.status().definitions.expect("a digest");
        world.host.stop(&name("files"), &workspace()).await;
        let start =
            |definitions| Start { definitions: Some(definitions), ..Start::new(world.trusted("files"), workspace()) };
        let refused = world.host.start(start(Digest::of(b"others"))).await.expect_err("others were agreed to");
        assert_eq!(refused.code().as_str(), "host.plugin.definitions.changed");
        assert!(world.host.list().is_empty());
        world.host.start(start(digest)).await.expect("the same");
    });
}

fn another_policy() {
    world::run(&FILES, async |world| {
        let first = world.start("files").await.status().launch;
        assert!(world.apply(2, |_| {}).await.is_empty());
        let again = world.host.instance(&name("files"), &workspace()).expect("it runs").status();
        assert!(again.state == "running" && again.launch != first);
        // Narrowing is immediate: what is no longer endorsed runs no longer.
        let refused = world.apply(3, |ceilings| ceilings.plugins.clear()).await;
        assert_eq!(refused, ["files: host.plugin.policy.unknown"]);
        assert!(world.host.list().is_empty());
        world.nothing_runs().await;
    });
}

fn no_log() {
    world::run(&FILES, async |world| {
        // A log that cannot be written any more: its file is replaced under it.
        let full = sigil_audit::Options { max_pages: Some(24), ..sigil_audit::Options::default() };
        let pkcs8 = sigil_audit::SigningKey::generate().expect("a key");
        let key = sigil_audit::SigningKey::from_pkcs8("test", &pkcs8).expect("its form");
        let signer = std::sync::Arc::new(sigil_audit::LocalSigner::new(key, None));
        let path = world.folder.path().join("full.db");
        let log = sigil_audit::AuditLog::open_with(&path, signer, std::sync::Arc::new(sigil_types::SystemClock), full)
            .expect("a log");
        let filling = || {
            let data = json!({ "filling": "x".repeat(4096) });
            sigil_audit::Entry::new(sigil_types::Code::new("test.log.filling"), "test").data(data)
        };
        while log.append(filling()).await.is_ok() {}
        let host = world.host_with(log);
        let refused = host.start(Start::new(world.trusted("files"), workspace())).await.expect_err("no log");
        assert!(refused.code().as_str().starts_with("audit."), "{refused}");
        world.nothing_runs().await;
    });
}

/// Not a limit, a figure: what a start takes, from the launch to the answer of `Describe`.
fn fast() {
    world::run(&FILES, async |world| {
        let mut times = Vec::new();
        for _ in 0..20 {
            let begin = std::time::Instant::now();
            world.start("files").await;
            times.push(begin.elapsed());
            world.host.stop(&name("files"), &workspace()).await;
        }
        times.sort();
        println!("start: median {:?}, fastest {:?}, slowest {:?}", times[10], times[0], times[19]);
        world.recorded_times("host.plugin.start.ready", 20).await;
    });
}
