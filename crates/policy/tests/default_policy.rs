//! The default policy, under every preset: it compiles without a warning, its own decision tests hold, and each of its
//! rules is needed by one of them.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use sigil_policy::{Preset, Source};

fn embedded(preset: Preset) -> Source {
    Source::embedded(preset).expect("the embedded policy")
}

#[test]
fn every_preset_holds_its_own_decision_tests() {
    for preset in Preset::ALL {
        let report = embedded(*preset).test().expect("compiles");
        assert_eq!(report.failures, [], "{preset}");
        assert_eq!(report.warnings, [""; 0], "{preset}");
        assert!(report.passed >= 20, "{preset}: {}", report.passed);
    }
}

#[test]
fn every_preset_names_itself_and_starts_with_nobody() {
    for preset in Preset::ALL {
        let ceilings = embedded(*preset).ceilings().expect("valid");
        assert_eq!(ceilings.preset.as_str(), preset.as_str());
        assert!(ceilings.owners.is_empty() && ceilings.plugins.is_empty() && ceilings.providers.is_empty());
        assert!(ceilings.egress.local.is_empty() && ceilings.secrets.is_empty());
        assert!(ceilings.exposure.listen.iter().all(std::net::IpAddr::is_loopback));
    }
}

/// Deletes each rule of each preset in turn: some decision test has to notice.
#[test]
fn no_rule_can_be_deleted_unnoticed() {
    for preset in Preset::ALL {
        let source = embedded(*preset);
        let cedar: Vec<(String, String)> = source
            .files()
            .filter(|(path, _)| path.ends_with(".cedar"))
            .map(|(path, text)| (path.to_owned(), text.to_owned()))
            .collect();
        for (path, text) in cedar {
            let rules: Vec<&str> = text.split("@id(").collect();
            for at in 1..rules.len() {
                let mut kept = rules.clone();
                let deleted = kept.remove(at);
                let kept = kept.join("@id(");
                let mut changed = source.clone();
                changed.set_file(&path, &kept).expect("a policy file");
                let noticed = changed.test().map_or(true, |report| !report.is_ok());
                let provider = deleted.starts_with("\"policy.provider.bound\"");
                assert!(noticed || provider, "{preset}: nobody notices that {deleted} is gone");
            }
        }
    }
}

#[test]
fn a_bound_provider_is_called() {
    let mut source = embedded(Preset::Balanced);
    source
        .edit_ceilings(|ceilings| {
            let grant = toml::from_str("name = \"peer\"\nendpoint = \"https://api.example.com\"").expect("a grant");
            ceilings.providers.push(grant);
        })
        .expect("valid");
    let test = "[[authorize]]\nname = \"bound\"\nhop = \"to_provider\"\nid = \"peer\"\nexpect = \"EXPECT\"\n";
    source.set_file("tests.toml", &test.replace("EXPECT", "allow")).expect("a policy file");
    assert!(source.test().expect("compiles").is_ok());
    let cedar = source.file("base.cedar").expect("there").replace("when { resource.bound }", "when { false }");
    source.set_file("base.cedar", &cedar).expect("a policy file");
    assert!(source.test().map_or(true, |report| !report.is_ok()));
}

#[test]
fn edited_ceilings_keep_their_explanations() {
    let mut source = embedded(Preset::Strict);
    source.edit_ceilings(|ceilings| ceilings.budgets.asks_per_turn = 1).expect("valid");
    let text = source.file("ceilings.toml").expect("there");
    assert!(text.contains("# What a session may spend.\n[budgets]"), "{text}");
    assert_eq!(source.ceilings().expect("valid").budgets.asks_per_turn, 1);
}

#[test]
fn a_source_goes_to_a_folder_and_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = embedded(Preset::Balanced);
    source.write(folder.path()).expect("written");
    std::fs::write(folder.path().join("README.md"), "words").expect("written");
    assert_eq!(Source::load(folder.path(), None).expect("read"), source);
    let refused = Source::load(folder.path(), Some(Preset::Strict)).expect_err("no presets here");
    assert_eq!(refused.code().as_str(), "policy.source.preset.unknown");
    std::fs::write(folder.path().join("notes.txt"), "words").expect("written");
    let refused = Source::load(folder.path(), None).expect_err("a stray file");
    assert_eq!(refused.code().as_str(), "policy.source.file.stray");
}

#[test]
fn the_tree_that_is_embedded_is_the_one_on_disk() {
    let tree = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy");
    for preset in Preset::ALL {
        let (on_disk, embedded) = (Source::load(&tree, Some(*preset)).expect("read"), embedded(*preset));
        let paths = |source: &Source| source.files().map(|(path, _)| path.to_owned()).collect::<Vec<_>>();
        assert_eq!(paths(&on_disk), paths(&embedded), "{preset}");
        for (path, text) in on_disk.files() {
            assert_eq!(embedded.file(path), Some(text), "{preset}: {path}");
        }
    }
    assert_eq!(Source::load(&tree, None).expect_err("presets").code().as_str(), "policy.source.preset.missing");
}

#[test]
fn the_example_rule_of_the_readme_holds() {
    let readme = include_str!("../../../policy/README.md");
    let (_, rest) = readme.split_once("```cedar\n").expect("an example");
    let (rule, _) = rest.split_once("```").expect("its end");
    let mut source = embedded(Preset::Balanced);
    source.set_file("site.cedar", rule).expect("a policy file");
    let tests = "[[authorize]]\nname = \"intranet\"\nhop = \"to_tool\"\nid = \"fetch.get\"\ncapability = \"tool.fetch.get\"\n\
                 facts = { host = \"wiki.corp.example\" }\nexpect = \"deny\"\nrules = [\"site.fetch.intranet\"]\n\
                 [[authorize]]\nname = \"owner\"\nrole = \"owner\"\nhop = \"to_tool\"\nid = \"fetch.get\"\n\
                 capability = \"tool.fetch.get\"\nfacts = { host = \"wiki.corp.example\" }\nexpect = \"allow\"\n";
    source.set_file("tests.toml", tests).expect("a policy file");
    let report = source.test().expect("compiles");
    assert_eq!((report.failures, report.warnings.len()), (vec![], 0));
}
