//! `sigil sandbox profile`: what a plugin's profile says, for the launcher and for macOS.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs, unreachable_pub, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the binary under test is started as a process")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn sigil(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sigil"));
    command.args(["--data-dir", "data"]).args(arguments).current_dir(home).env_clear();
    command.env("HOME", home).env("XDG_CONFIG_HOME", home.join("config"));
    command.output().expect("it runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

const MANIFEST: &str = "manifest: 1\nname: probe\nversion: 0.1.0\ntype: tool\nengine: \">=0.1\"\nlicense: MIT\n\
    description: A sample.\ncapabilities: [tool.probe.*]\nexecution:\n  tier: process\n  transport: sdk\n  command: [probe]\n  \
    sandbox:\n    profile: native\n    filesystem:\n      - param: docs\n        access: write\n        reason: For a test.\n";

#[test]
fn a_plugin_s_profile_is_shown_in_both_forms() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    fs::create_dir(home.join("probe")).expect("made");
    fs::write(home.join("probe/plugin.yaml"), MANIFEST).expect("written");
    let init =
        "init --yes --no-passphrase --provider openai --base-url http://127.0.0.1:9/v1 --model m --api-key-env KEY";
    assert!(sigil(home, &init.split(' ').collect::<Vec<_>>()).status.success());
    let refused = sigil(home, &["sandbox", "profile", "probe", "--format", "seatbelt"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("sandbox.profile.plugin.unknown"), "{refused:?}");

    let tree = json(&sigil(home, &["--json", "plugin", "validate", "probe"]))["tree"].clone();
    let ceilings = home.join("config/sigil/policy/ceilings.toml");
    let mut text = fs::read_to_string(&ceilings).expect("read");
    text += &format!("[plugins.probe]\ntrees = [{tree}]\n[[plugins.probe.folders.docs]]\npath = \"/Users/a \\\"b\"\n");
    text += "access = \"write\"\nauthors = [\"owner:owner\"]\nreaders = [\"user:owner\"]\n";
    fs::write(&ceilings, text).expect("written");
    assert!(sigil(home, &["policy", "sign", "--source", "config/sigil/policy"]).status.success());

    let profile = json(&sigil(home, &["sandbox", "profile", "probe"]));
    let binds = profile["binds"].as_array().expect("binds");
    assert!(binds.iter().any(|bind| bind["source"] == "/Users/a \"b" && bind["access"] == "write"));

    let made = json(&sigil(home, &["--json", "sandbox", "profile", "probe", "--format", "seatbelt"]));
    let text = made["text"].as_str().expect("a text");
    assert!(text.contains("(version 1)\n(deny default)\n") && !text.contains("Users"), "{text}");
    let parameters = made["parameters"].as_object().expect("parameters");
    assert!(parameters.values().any(|value| value == "/Users/a \"b"));
    assert_eq!(made["not_there"][0], "generated, never run on macOS");
    let plain = sigil(home, &["sandbox", "profile", "probe", "--format", "seatbelt"]);
    assert_eq!(String::from_utf8_lossy(&plain.stdout), text);
    let said = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert!(said.contains("/Users/a \"b") && said.contains("never run on macOS"), "{said}");
}
