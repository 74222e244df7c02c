//! The commands of `docs/recipes/` are such as `sigil sandbox run` understands, and every page is in the list.

use std::ffi::OsString;
use std::path::Path;

use sigil_sandbox::profile::base::BaseProfile;
use sigil_sandbox::run::Options;

#[test]
fn every_command_of_the_recipes_is_understood() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes");
    let index = std::fs::read_to_string(folder.join("index.md")).expect("the list");
    let mut commands = 0;
    for entry in std::fs::read_dir(&folder).expect("the recipes").flatten() {
        let name = entry.file_name().into_string().expect("text");
        assert!(name == "index.md" || index.contains(&format!("({name})")), "{name} is not in the list");
        let page = std::fs::read_to_string(entry.path()).expect("a page").replace("\\\n", " ");
        for line in page.lines().filter_map(|line| line.strip_prefix("sigil sandbox run ")) {
            let words = line.split_whitespace().map(|word| OsString::from(word.trim_matches(['\'', '"'])));
            let options = Options::parse(words).unwrap_or_else(|error| panic!("{name}: {line}: {error}"));
            let options = options.unwrap_or_else(|| panic!("{name}: {line} asks for help"));
            BaseProfile::load(options.gets.profile.as_deref().unwrap_or("shell"))
                .unwrap_or_else(|error| panic!("{name}: {line}: {error}"));
            commands += 1;
        }
    }
    assert!(commands >= 12, "only {commands} commands were found");
}
