//! Arbitrary bytes as a `plugin.yaml`: it is refused or it is checked, and a refusal names at least one mistake.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigil_proto::manifest::Manifest;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        match manifest.validate() {
            Ok(checked) => assert!(!checked.spec().execution.command.is_empty()),
            Err(refused) => assert!(!refused.problems.is_empty()),
        }
    }
});
