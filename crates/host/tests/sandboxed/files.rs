//! The plugin `files`.

use std::fs;
use std::path::Path;

use serde_json::json;
use sigil_gate::port::Tool;
use sigil_policy::Ceilings;
use sigil_types::Effect;

use crate::harness::Test;
use crate::world::{self, Wish, World, workspace};

pub(crate) const TESTS: &[Test] = &[
    ("files_lists_reads_searches_and_writes_in_granted_folders", all_tools),
    ("files_leaves_its_folders_by_no_path_and_no_link", no_way_out),
    ("files_writes_nothing_in_a_read_only_folder", read_only),
    ("files_cuts_long_answers", long_answers),
];

fn grants(granted: &Path, ceilings: &mut Ceilings) {
    for name in ["work", "docs"] {
        fs::create_dir(granted.join(name)).expect("a folder");
    }
    let folder = |name: &str, access: &str| {
        format!(
            "[[folders.folders]]\npath = \"{}\"\naccess = \"{access}\"\nreaders = \"everyone\"\nauthors = [\"owner:ann\"]\n",
            granted.join(name).display()
        )
    };
    let plugin = ceilings.plugins.get_mut(&world::name("files")).expect("the plugin");
    let text = format!(
        "trees = [\"{}\"]\n{}{}",
        plugin.trees.first().expect("a tree"),
        folder("work", "write"),
        folder("docs", "read")
    );
    *plugin = toml::from_str(&text).expect("a grant");
}

const WISH: Wish<'static> = Wish { plugins: &["files"], own: &[], ceilings: &grants, demo: false };

async fn started(world: &World) -> (String, String) {
    world.start("files").await;
    let granted = world.granted();
    (granted.join("work").display().to_string(), granted.join("docs").display().to_string())
}

fn all_tools() {
    world::run(&WISH, async |world| {
        let (work, docs) = started(&world).await;
        fs::write(format!("{docs}/a.txt"), "first\nsecond Needle\n").expect("written");
        fs::create_dir(format!("{docs}/sub")).expect("made");
        fs::write(format!("{docs}/sub/b.txt"), "a needle in the hay\n").expect("written");

        let folders = world.ok("files.list", json!({})).await;
        assert!(
            folders.contains(&format!("{work} (read and write)")) && folders.contains(&format!("{docs} (read only)")),
            "{folders}"
        );
        let listed = world.ok("files.list", json!({ "path": docs })).await;
        assert!(listed.contains("a.txt") && listed.contains("folder") && listed.lines().count() == 2, "{listed}");
        assert_eq!(world.ok("files.read", json!({ "path": format!("{docs}/a.txt") })).await, "first\nsecond Needle\n");
        let found = world.ok("files.search", json!({ "text": "needle", "ignore_case": true })).await;
        assert_eq!(found.lines().count(), 2, "{found}");
        assert!(found.contains(&format!("{docs}/a.txt:2: second Needle")), "{found}");
        assert!(world.ok("files.search", json!({ "text": "absent" })).await.contains("nothing found"));

        let path = format!("{work}/new.txt");
        world.ok("files.write", json!({ "path": path, "content": "one" })).await;
        let again = world.not_ok("files.write", json!({ "path": path, "content": "two" })).await;
        assert!(again.contains("exists already"), "{again}");
        world.ok("files.write", json!({ "path": path, "content": "two", "mode": "replace" })).await;
        world.ok("files.write", json!({ "path": path, "content": "three", "mode": "append" })).await;
        assert_eq!(fs::read_to_string(&path).expect("read"), "twothree");

        // What it can do follows from its enforced sandbox, and its manifest.
        let effects: Vec<Effect> = world.host.tools(&workspace()).iter().map(|tool| tool.facts().effect).collect();
        assert_eq!(effects, [Effect::Local; 4]);
        assert!(world.recorded().starts_with(
            &["host.plugin.start.begun", "host.plugin.start.launched", "host.plugin.start.ready"].map(String::from)
        ));
    });
}

fn no_way_out() {
    world::run(&WISH, async |world| {
        let (work, docs) = started(&world).await;
        let outside = world.folder.path().join("secret.txt");
        fs::write(&outside, "secret").expect("written");
        std::os::unix::fs::symlink(&outside, format!("{docs}/link")).expect("linked");
        std::os::unix::fs::symlink("/etc", format!("{docs}/etc")).expect("linked");
        rustix::fs::mkfifoat(rustix::fs::CWD, format!("{docs}/fifo"), rustix::fs::Mode::from_raw_mode(0o666))
            .expect("made");
        for path in [
            outside.display().to_string(),
            "/etc/passwd".into(),
            "relative".into(),
            format!("{docs}/../../secret.txt"),
            format!("{docs}/link"),
            format!("{docs}/etc/passwd"),
            format!("{docs}/fifo"),
            format!("{docs}\u{0}x"),
            docs.clone(),
            "/proc/1/environ".into(),
        ] {
            let refusal = world.not_ok("files.read", json!({ "path": path })).await;
            assert!(!refusal.contains("secret\n"), "{path}: {refusal}");
        }
        for path in [format!("{work}/../x"), format!("{docs}/etc/x"), "/tmp/x".into()] {
            world.not_ok("files.write", json!({ "path": path, "content": "x" })).await;
        }
        assert!(world.ok("files.search", json!({ "text": "secret" })).await.contains("nothing found"));
    });
}

fn read_only() {
    world::run(&WISH, async |world| {
        let (_, docs) = started(&world).await;
        fs::write(format!("{docs}/a.txt"), "old").expect("written");
        for mode in ["create", "replace", "append"] {
            let refusal = world
                .not_ok("files.write", json!({ "path": format!("{docs}/a.txt"), "content": "new", "mode": mode }))
                .await;
            assert!(refusal.contains("reading only"), "{refusal}");
        }
        assert_eq!(fs::read_to_string(format!("{docs}/a.txt")).expect("read"), "old");
    });
}

fn long_answers() {
    world::run(&WISH, async |world| {
        let (_, docs) = started(&world).await;
        fs::write(format!("{docs}/long.txt"), "ä".repeat(300_000)).expect("written");
        fs::write(format!("{docs}/binary"), [0, 1, 2]).expect("written");
        let path = format!("{docs}/long.txt");
        let first = world.ok("files.read", json!({ "path": path, "length": 101 })).await;
        assert!(first.contains("599899 of 600000 bytes follow; read on with offset 101"), "{first}");
        let last = world.ok("files.read", json!({ "path": path, "offset": 599_998 })).await;
        assert_eq!(last, "ä");
        assert!(world.not_ok("files.read", json!({ "path": format!("{docs}/binary") })).await.contains("not text"));
    });
}
