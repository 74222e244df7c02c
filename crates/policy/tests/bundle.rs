//! The bundle: what is signed comes back whole, and everything else is refused, each case by its own code.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use proptest::prelude::*;
use sigil_policy::sign::{SigningKey, Validity, add_signature, sign};
use sigil_policy::{Bundle, BundleRefused, Preset, PublicKey, Source, TrustStore, TrustedKey, Unverified, Verified};
use sigil_types::{Digest, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const DAY: u64 = 86_400_000;

fn key() -> SigningKey {
    SigningKey::generate().expect("randomness")
}

fn trusted(name: &str, key: &SigningKey) -> TrustedKey {
    TrustedKey { name: name.parse().expect("a name"), key: key.public(), revoked: false }
}

fn trust(threshold: usize, keys: &[(&str, &SigningKey)]) -> TrustStore {
    TrustStore::new(threshold, keys.iter().map(|(name, key)| trusted(name, key)).collect()).expect("valid")
}

fn source() -> Source {
    Source::embedded(Preset::Balanced).expect("the embedded policy")
}

/// A source of a few hundred bytes, so that every byte of its envelope can be tried.
fn small_source() -> Source {
    let ceilings = source().ceilings().expect("valid").to_toml().expect("writes");
    let files = [
        ("ceilings.toml", ceilings.as_str()),
        ("scan.toml", ""),
        ("schema.cedarschema", source().file("schema.cedarschema").expect("there")),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()));
    Source::from_files(files).expect("a policy")
}

fn envelope(version: u64, key: &SigningKey) -> Vec<u8> {
    sign(&source(), version, Validity::days(NOW, 30), key).expect("signed")
}

fn open(bytes: &[u8], trust: &TrustStore, now: Timestamp, floor: u64) -> Result<Bundle<Verified>, BundleRefused> {
    Bundle::<Unverified>::parse(bytes)?.verify(trust, now, floor)
}

fn code(result: Result<Bundle<Verified>, BundleRefused>) -> String {
    let refused = result.expect_err("refused");
    assert!(!refused.fix().is_empty() && !refused.to_string().is_empty());
    refused.code().to_string()
}

#[test]
fn what_is_signed_comes_back_whole() {
    let owner = key();
    let bytes = envelope(7, &owner);
    let bundle = open(&bytes, &trust(1, &[("owner", &owner)]), NOW, 7).expect("verified");
    assert_eq!((bundle.version(), bundle.not_before(), bundle.expires()), (7, NOW, NOW.plus_millis(30 * DAY)));
    assert_eq!(bundle.signers().iter().map(|signer| signer.name.as_str()).collect::<Vec<_>>(), ["owner"]);
    assert!(bundle.files().eq(source().files()));
    assert_eq!(bundle.ceilings(), &source().ceilings().expect("valid"));
    let policy = bundle.compile().expect("compiles");
    assert_eq!((policy.version(), policy.digest()), (7, bundle.digest()));
    assert!(bundle.test().expect("runs").is_ok());
    let unverified = Bundle::<Unverified>::parse(&bytes).expect("an envelope");
    assert_eq!(unverified.digest(), bundle.digest());
    assert!(unverified.test().expect("runs").is_ok());
}

#[test]
fn a_bundle_is_shown_and_says_whether_anybody_vouches_for_it() {
    let owner = key();
    let bytes = envelope(7, &owner);
    let claimed = Bundle::<Unverified>::parse(&bytes).expect("an envelope").summary().expect("readable");
    assert!(!claimed.verified && claimed.to_string().contains("NOT VERIFIED"));
    let shown = open(&bytes, &trust(1, &[("owner", &owner)]), NOW, 0).expect("verified").summary();
    assert!(shown.verified && shown.to_string().contains("signed by owner"));
    assert_eq!((&shown.files, shown.digest), (&claimed.files, claimed.digest));
    let json = serde_json::to_value(&claimed).expect("JSON");
    assert_eq!(json["signers"][0]["key"], owner.public().id().to_string());
    assert_eq!(json["version"], 7);
}

#[test]
fn an_unsigned_bundle_is_refused() {
    let owner = key();
    let mut value: serde_json::Value = serde_json::from_slice(&envelope(1, &owner)).expect("JSON");
    value["signatures"] = serde_json::json!([]);
    let text = [
        format!("{{\"payloadType\":{},\"payload\":{},", value["payloadType"], value["payload"]),
        "\"signatures\":[]}\n".to_owned(),
    ]
    .concat();
    assert_eq!(code(open(text.as_bytes(), &trust(1, &[("owner", &owner)]), NOW, 0)), "policy.bundle.unsigned");
}

#[test]
fn a_changed_payload_is_refused() {
    use base64::Engine as _;
    let owner = key();
    let text = String::from_utf8(envelope(1, &owner)).expect("JSON");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let payload = value["payload"].as_str().expect("text");
    let engine = base64::engine::general_purpose::STANDARD;
    let decoded = String::from_utf8(engine.decode(payload).expect("base64")).expect("JSON");
    let changed = decoded.replacen("\"version\":1", "\"version\":9", 1);
    assert_ne!(changed, decoded);
    let text = text.replace(payload, &engine.encode(changed));
    assert_eq!(code(open(text.as_bytes(), &trust(1, &[("owner", &owner)]), NOW, 0)), "policy.bundle.tampered");
}

#[test]
fn a_bundle_outside_its_validity_is_refused() {
    let owner = key();
    let (bytes, trust) = (envelope(1, &owner), trust(1, &[("owner", &owner)]));
    let at = |now| open(&bytes, &trust, now, 0);
    assert_eq!(code(at(Timestamp::from_millis(NOW.as_millis() - 1))), "policy.bundle.early");
    assert_eq!(code(at(Timestamp::default())), "policy.bundle.early");
    assert!(at(NOW).is_ok() && at(NOW.plus_millis(30 * DAY - 1)).is_ok());
    assert_eq!(code(at(NOW.plus_millis(30 * DAY))), "policy.bundle.expired");
}

#[test]
fn an_unknown_and_a_revoked_key_are_refused() {
    let (owner, other) = (key(), key());
    let bytes = envelope(1, &other);
    assert_eq!(code(open(&bytes, &trust(1, &[("owner", &owner)]), NOW, 0)), "policy.bundle.key.unknown");
    let revoked = TrustedKey { revoked: true, ..trusted("other", &other) };
    let store = TrustStore::new(1, vec![trusted("owner", &owner), revoked]).expect("valid");
    assert_eq!(code(open(&bytes, &store, NOW, 0)), "policy.bundle.key.unknown");
}

#[test]
fn a_signature_of_another_that_claims_a_trusted_key_is_tampering() {
    let (owner, other) = (key(), key());
    let text = String::from_utf8(envelope(1, &other)).expect("JSON");
    let forged = text.replace(&other.public().id().to_string(), &owner.public().id().to_string());
    assert_eq!(code(open(forged.as_bytes(), &trust(1, &[("owner", &owner)]), NOW, 0)), "policy.bundle.tampered");
}

#[test]
fn an_older_version_is_refused() {
    let owner = key();
    let (bytes, trust) = (envelope(6, &owner), trust(1, &[("owner", &owner)]));
    assert_eq!(code(open(&bytes, &trust, NOW, 7)), "policy.bundle.rollback");
    assert!(open(&bytes, &trust, NOW, 6).is_ok(), "the version in force may be loaded again");
}

#[test]
fn garbage_is_refused() {
    let owner = key();
    let trust = trust(1, &[("owner", &owner)]);
    for bytes in [&b""[..], b"{}", b"\0", b"[]", &vec![b'a'; sigil_policy::MAX_ENVELOPE_BYTES + 1]] {
        assert_eq!(code(open(bytes, &trust, NOW, 0)), "policy.bundle.malformed");
    }
}

#[test]
fn distinct_keys_are_counted() {
    let (a, b, c) = (key(), key(), key());
    let one = envelope(1, &a);
    let two = add_signature(&one, &b).expect("signed");
    let store = trust(2, &[("a", &a), ("b", &b), ("c", &c)]);
    assert_eq!(code(open(&one, &store, NOW, 0)), "policy.bundle.signatures.few");
    let bundle = open(&two, &store, NOW, 0).expect("two of three");
    assert_eq!(bundle.signers().len(), 2);
    assert_eq!(bundle.digest(), Bundle::<Unverified>::parse(&one).expect("an envelope").digest());

    // The same key twice, however it is written, is one key.
    assert_eq!(add_signature(&one, &a).expect_err("doubled").code().as_str(), "policy.sign.key.doubled");
    let text = String::from_utf8(one).expect("JSON");
    let (head, list) = text.split_once("\"signatures\":[").expect("a list");
    let signature = list.strip_suffix("]}\n").expect("the end");
    let doubled = format!("{head}\"signatures\":[{signature},{signature}]}}\n");
    assert_eq!(code(open(doubled.as_bytes(), &store, NOW, 0)), "policy.bundle.signatures.few");

    // A signer that this trust document does not know neither helps nor hurts.
    let stranger = add_signature(&two, &key()).expect("signed");
    assert_eq!(open(&stranger, &store, NOW, 0).expect("verified").signers().len(), 2);
    assert_eq!(
        code(open(&stranger, &trust(3, &[("a", &a), ("b", &b), ("c", &c)]), NOW, 0)),
        "policy.bundle.signatures.few"
    );
}

#[test]
fn nothing_is_signed_that_would_not_be_accepted() {
    let owner = key();
    let refused = |edit: &dyn Fn(&mut Source)| {
        let mut source = source();
        edit(&mut source);
        sign(&source, 1, Validity::days(NOW, 1), &owner).expect_err("refused").code().to_string()
    };
    let set = |path: &'static str, text: &'static str| {
        move |source: &mut Source| source.set_file(path, text).expect("a path")
    };
    assert_eq!(refused(&set("more.cedar", "permit(principal, action);")), "policy.bundle.cedar.invalid");
    assert_eq!(refused(&set("scan.toml", "x = 1")), "policy.bundle.scan.invalid");
    assert_eq!(refused(&set("ceilings.toml", "x = 1")), "policy.bundle.ceilings.invalid");
    assert_eq!(refused(&set("tests.toml", "x = 1")), "policy.bundle.tests.invalid");
    assert_eq!(refused(&set("scan.toml", "")), "policy.sign.tests.failed");
    assert_eq!(refused(&|source| source.remove_file("schema.cedarschema")), "policy.bundle.cedar.invalid");
    let odd = "@id(\"policy.never.applies\") forbid(principal, action, resource) when { 1 == 2 };";
    assert_eq!(refused(&|source| source.set_file("more.cedar", odd).expect("a path")), "policy.sign.cedar.odd");
    let backwards = Validity { not_before: NOW, expires: NOW };
    let refused = sign(&source(), 1, backwards, &owner).expect_err("refused");
    assert_eq!(refused.code().as_str(), "policy.bundle.malformed");
    let refused = sign(&source(), 0, Validity::days(NOW, 1), &owner).expect_err("refused");
    assert_eq!(refused.code().as_str(), "policy.bundle.malformed");
}

/// Every byte of an envelope, flipped in one bit each: refused.
#[test]
fn no_byte_can_be_flipped() {
    let owner = key();
    let bytes = sign(&small_source(), 1, Validity::days(NOW, 1), &owner).expect("signed");
    let trust = trust(1, &[("owner", &owner)]);
    assert!(open(&bytes, &trust, NOW, 0).is_ok());
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(open(&flipped, &trust, NOW, 0).is_err(), "byte {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_change_survives(at in any::<prop::sample::Index>(), mask in 1_u8.., cut in any::<bool>()) {
        use std::sync::LazyLock;
        static SIGNED: LazyLock<(Vec<u8>, PublicKey)> = LazyLock::new(|| {
            let owner = key();
            (envelope(1, &owner), owner.public())
        });
        let (bytes, public) = &*SIGNED;
        let trust = TrustStore::of_one("owner".parse().expect("a name"), *public);
        let at = at.index(bytes.len());
        let mut changed = bytes.clone();
        if cut { changed.truncate(at) } else { changed[at] ^= mask }
        prop_assert!(open(&changed, &trust, NOW, 0).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(Bundle::<Unverified>::parse(&bytes).is_err());
        prop_assert!(TrustStore::parse(&bytes).is_err());
    }
}

#[test]
fn a_key_is_named_by_the_digest_of_its_bytes() {
    let owner = key();
    assert_eq!(owner.public().id(), Digest::of(owner.public().as_bytes()));
    assert_eq!(owner.public().to_string().parse::<PublicKey>().expect("its own form"), owner.public());
}
