//! Arbitrary bytes as the start of a tunnel: the name that is found does not depend on how the bytes were cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigil_egress::proxy::hello::{HelloReader, MAX_HELLO};

fuzz_target!(|bytes: &[u8]| {
    let whole = HelloReader::default().push(bytes);
    let mut reader = HelloReader::default();
    let mut found = Ok(None);
    for byte in bytes {
        found = reader.push(&[*byte]);
        if !matches!(found, Ok(None)) {
            break;
        }
    }
    match (whole, found) {
        (Ok(Some(whole)), Ok(Some(found))) => assert_eq!(whole, found),
        (Ok(None), Ok(None)) => {}
        // Cut into bytes, a bad record is seen earlier or later, but it is seen.
        (Err(_), Err(_)) => {}
        (whole, found) => panic!("{whole:?} whole, {found:?} in bytes, of at most {MAX_HELLO}"),
    }
});
