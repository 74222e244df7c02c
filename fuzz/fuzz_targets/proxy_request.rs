//! Arbitrary bytes as a request to the plugins' proxy: what is understood is written anew with one meaning only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigil_egress::proxy::request::{Kind, MAX_HEAD, head_length, parse};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(length)) = head_length(bytes) else { return };
    assert!(length <= MAX_HEAD);
    let Ok(request) = parse(&bytes[..length]) else { return };
    assert_eq!(request.target.to_string().parse(), Ok(request.target.clone()), "one form of a target");
    let Kind::Plain(plain) = request.kind else { return };
    let head = plain.head(&request.target);
    assert_eq!(head_length(&head).map(|length| length == Some(head.len())), Ok(true), "one head, and nothing after it");
    let text = std::str::from_utf8(&head).expect("ASCII").to_ascii_lowercase();
    assert_eq!(text.matches("\r\nhost:").count(), 1);
    assert_eq!(text.matches("\r\nconnection:").count(), 1);
    assert!(text.matches("\r\ncontent-length:").count() <= 1);
    for framing in ["\r\ntransfer-encoding:", "\r\nupgrade:", "\r\nproxy-authorization:", "\r\n ", "\r\n\t"] {
        assert!(!text.contains(framing), "{framing:?}");
    }
    let mut storage = [httparse::EMPTY_HEADER; 128];
    assert!(httparse::Request::new(&mut storage).parse(&head).is_ok_and(|status| status.is_complete()));
});
