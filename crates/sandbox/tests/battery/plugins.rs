//! The profiles of plugins, compiled as the launcher compiles them.

use std::collections::BTreeSet;

use sigil_policy::{Ceilings, PluginGrant, Preset, Source};
use sigil_proto::manifest::{Manifest, Unchecked};
use sigil_sandbox::battery::Setting;
use sigil_sandbox::host::Reached;
use sigil_sandbox::profile::{NeverGrant, Params, Site, compile};
use sigil_types::Digest;

/// One with hosts to reach, and one that serves on a socket of its own.
pub(crate) fn settings() -> Vec<Setting> {
    let hosts = "    network:\n      hosts:\n        - host: example.org\n          ports: [443]\n          reason: For a test.\n";
    let go = "go-plugin\n  handshake: { cookie_key: PROBE_COOKIE, cookie_value: crumbs, protocol: 1 }";
    vec![setting("reaches", "sdk", hosts), setting("serves", go, "")]
}

fn setting(name: &str, transport: &str, asks: &str) -> Setting {
    let text = format!(
        "manifest: 1\nname: {name}\nversion: 0.1.0\ntype: tool\nengine: \">=0.1, <0.2\"\nlicense: Apache-2.0\n\
         description: A program of the tests.\ncapabilities: [tool.{name}.*]\nexecution:\n  tier: process\n  \
         transport: {transport}\n  command: [bin/probe]\n  sandbox:\n    profile: native\n{asks}\
         tools:\n  - {{ name: probe }}\n"
    );
    let manifest = Manifest::<Unchecked>::parse(text.as_bytes()).expect("a manifest").validate().expect("a valid one");
    let tree_digest = Digest::of(b"a tree");
    let rule = toml::from_str("host = \"example.org\"\nports = [443]\n").expect("a rule");
    let grant = PluginGrant { trees: BTreeSet::from([tree_digest]), hosts: vec![rule], ..PluginGrant::default() };
    let site = Site {
        tree: "/srv/tree".into(),
        tree_digest,
        never: NeverGrant::default(),
        host_uid: 65_534,
        host_gid: 65_534,
        private: Some("/srv/private".into()),
        reached: Reached::Standard,
    };
    let mut profile = None;
    let mut policy = Source::embedded(Preset::Balanced).expect("the embedded policy");
    let with_grant = |ceilings: &mut Ceilings| {
        ceilings.plugins.insert(name.parse().expect("a name"), grant);
        profile = Some(compile(manifest.spec(), ceilings, &site, &Params::default()).expect("a profile").profile);
    };
    policy.edit_ceilings(with_grant).expect("ceilings");
    Setting::of_plugin(name, profile.expect("it was called"))
}
