//! Arbitrary text as a host: what is accepted has one form, reads back as itself, and is no address in disguise.
#![no_main]

use std::net::ToSocketAddrs;

use libfuzzer_sys::fuzz_target;
use sigil_types::{Host, HostPattern, HostPort};

fuzz_target!(|text: &str| {
    if let Ok(host) = text.parse::<Host>() {
        let written = host.to_string();
        assert_eq!(written.parse::<Host>().as_ref(), Ok(&host));
        if let Host::Name(name) = &host {
            assert!(name.as_str().is_ascii() && name.as_str().len() <= 253);
            assert!(!name.as_str().bytes().any(|b| b.is_ascii_uppercase() || b <= b' ' || b == 0x7f));
            assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
            // A form that the system's own reader takes for a number would be resolved without asking anybody.
            let last = name.as_str().rsplit('.').next().unwrap_or_default();
            assert!(!last.bytes().all(|b| b.is_ascii_digit()));
        }
        assert!(HostPattern::Exact(host.clone()).covers(&host));
    }
    if let Ok(target) = text.parse::<HostPort>() {
        assert_eq!(target.to_string().parse::<HostPort>().as_ref(), Ok(&target));
        if let Host::Address(ip) = target.host {
            let mut read = (ip, target.port).to_socket_addrs().expect("an address needs no resolver");
            assert_eq!(read.next().map(|address| address.ip()), Some(ip));
        }
    }
    if let Ok(pattern) = text.parse::<HostPattern>() {
        assert_eq!(pattern.to_string().parse::<HostPattern>().as_ref(), Ok(&pattern));
    }
});
