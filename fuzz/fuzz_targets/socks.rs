//! Arbitrary bytes as SOCKS 5: what is understood has one form, stays within its bounds, and is cut at the same place however
//! much follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigil_egress::proxy::socks::{MAX_OPENING, VERSION, greeting, request};
use sigil_types::{Host, HostPort};

fuzz_target!(|bytes: &[u8]| {
    let rest = match greeting(bytes) {
        Ok(Some(length)) => {
            assert!((3..=257).contains(&length) && bytes[0] == VERSION && bytes[2..length].contains(&0));
            &bytes[length..]
        }
        Ok(None) => {
            assert!(bytes.len() < 257, "what is whole is decided");
            bytes
        }
        Err(_) => bytes,
    };
    for bytes in [rest, bytes] {
        match request(bytes) {
            Ok(Some((target, length))) => {
                assert!(length <= bytes.len() && length + 257 <= MAX_OPENING && target.port != 0);
                assert_eq!(target.to_string().parse::<HostPort>().as_ref(), Ok(&target), "one form of a target");
                assert!(bytes[..2] == [VERSION, 1], "CONNECT only");
                assert_eq!(request(&bytes[..length]), Ok(Some((target.clone(), length))), "what follows decides nothing");
                assert!(matches!(request(&bytes[..length - 1]), Ok(None)), "and no less is enough");
                assert_eq!(matches!(target.host, Host::Name(_)), bytes[3] == 3, "an address is never taken from a name");
            }
            Ok(None) => assert!(bytes.len() < 262, "what is whole is decided"),
            Err(_) => {}
        }
    }
});
