//! Arbitrary bytes as a policy envelope, as its payload, and as each of its files. None panics; none that a key did not
//! sign is verified; and ceilings that were read can be written and read again.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use sigil_policy::sign::KeyFile;
use sigil_policy::{Bundle, Preset, PublicKey, Source, TrustStore, Unverified};
use sigil_types::Timestamp;

static TRUST: LazyLock<TrustStore> =
    LazyLock::new(|| TrustStore::of_one("owner".parse().expect("a name"), PublicKey::from_bytes([7; 32])));
static SOURCE: LazyLock<Source> = LazyLock::new(|| Source::embedded(Preset::Balanced).expect("the embedded policy"));

fn envelope(bytes: &[u8]) {
    let Ok(bundle) = Bundle::<Unverified>::parse(bytes) else { return };
    let _ = bundle.summary();
    let _ = bundle.test();
    assert!(bundle.verify(&TRUST, Timestamp::from_millis(1_800_000_000_000), 0).is_err());
}

fn payload(bytes: &[u8]) {
    let text = format!(
        "{{\"payloadType\":\"application/vnd.sigil.policy.v1+json\",\"payload\":\"{}\",\"signatures\":[]}}\n",
        STANDARD.encode(bytes)
    );
    envelope(text.as_bytes());
    assert!(Bundle::<Unverified>::parse(text.as_bytes()).is_ok(), "this is the form in which envelopes are written");
}

fn file(path: &str, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut source = SOURCE.clone();
    source.set_file(path, text).expect("a file of a policy");
    let _ = source.test();
    if let Ok(ceilings) = source.ceilings() {
        let written = ceilings.to_toml().expect("what was read can be written");
        assert_eq!(sigil_policy::Ceilings::parse(&written).expect("its own form"), ceilings);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    match first {
        b'{' => envelope(bytes),
        b'p' => payload(rest),
        b's' => file("scan.toml", rest),
        b'c' => file("ceilings.toml", rest),
        b't' => file("tests.toml", rest),
        b'r' => file("base.cedar", rest),
        b'm' => file("schema.cedarschema", rest),
        _ => {
            let _ = TrustStore::parse(rest);
            let _ = std::str::from_utf8(rest).map(KeyFile::parse);
        }
    }
});
