//! Arbitrary bytes as a request to the launcher: what is understood is exactly one request, and means the same when it is
//! written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigil_sandbox::launcher::wire::Request;

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = Request::parse(bytes) else { return };
    let written = serde_json::to_vec(&request).expect("a request can be written");
    assert_eq!(Request::parse(&written).expect("its own form is read"), request);
    if let Request::Launch(launch) = &request {
        // Names become paths and Cedar ids: nothing in them leads anywhere.
        for name in [launch.plugin.as_str(), launch.workspace.as_str()] {
            assert!(!name.contains(['/', '\0', '.']) && !name.is_empty());
        }
    }
});
