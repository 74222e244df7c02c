//! Arbitrary text as a profile file of `sigil sandbox run`: it is refused with a place in it, or what it says can be written and
//! read again as the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sigil_sandbox::run::file::{parse, write};

fuzz_target!(|text: &str| {
    let path = Path::new("/folder/file.toml");
    match parse(text, path) {
        Ok(gets) => {
            let again = write(&gets).expect("what was read can be written");
            let again = parse(&again, path).expect("what was written can be read");
            assert_eq!(again.paths.len(), gets.paths.len());
            assert_eq!((again.env, again.limits, again.wall), (gets.env, gets.limits, gets.wall));
        }
        Err(refused) => assert!(refused.line > 0 && refused.column > 0 && !refused.why.is_empty()),
    }
});
