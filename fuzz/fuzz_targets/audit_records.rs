//! Arbitrary bytes as audit records of Landlock: whatever they are, what is read is bounded and plain.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigil_sandbox::denials::records::{ACCESS, DOMAIN, Domains, Record};

fuzz_target!(|bytes: &[u8]| {
    let mut domains = Domains::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        for kind in [ACCESS, DOMAIN, 0] {
            let Some(record) = Record::parse(kind, line) else { continue };
            assert_eq!(Record::parse(kind, line), Some(record.clone()), "read the same twice");
            if let Record::Access { blockers, path, .. } = &record {
                assert!(blockers.bytes().all(|byte| byte.is_ascii_graphic()));
                assert!(path.as_ref().is_none_or(|path| path.len() <= 3 * line.len()));
            }
            assert!(domains.take(record).len() <= 64);
        }
    }
});
