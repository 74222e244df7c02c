//! Arbitrary text as settings of Anthropic's sandbox runtime: they are refused, or no denied domain is among the allowed ones.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sigil_sandbox::run::settings::parse;

fuzz_target!(|text: &str| {
    if let Ok(settings) = parse(text, Path::new("/folder/settings.json"), Path::new("/here")) {
        assert!(settings.gets.paths.iter().all(|given| given.path.is_absolute()));
        assert!(settings.gets.hosts.iter().all(|(rule, _)| !rule.ports.is_empty() && !rule.ports.contains(&0)));
        assert!(settings.depth <= 10);
    }
});
