//! The oracle of the first claim: no text goes to a model, a tool or a chat without a screened receipt written first.
//!
//! Recording stand-ins take the place of all destinations. Whatever reaches one, its receipt is read back from the disk at
//! that moment, and must name this destination and this session and refer to these bytes. The log runs out of space at a
//! random point of the conversation.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::fakes::Delivery;
use common::scripts::{Line, line, script};
use common::{Plan, Road, TEXT_KEY, WORKSPACE, policy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sigil_policy::{Policy, Preset};
use sigil_types::{Digest, EventId};

/// How the log refers to a text: an HMAC under a key of the workspace. Computed here anew, from its description.
fn text_ref(text: &[u8]) -> String {
    let hmac = |key: &[u8], data: &[u8]| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        <[u8; 32]>::try_from(ring::hmac::sign(&key, data).as_ref()).unwrap()
    };
    Digest::from_bytes(hmac(&hmac(&TEXT_KEY, WORKSPACE.as_bytes()), text)).to_string()
}

/// What is wrong with a delivery, if anything is.
fn complaint(delivery: &Delivery) -> Option<String> {
    let Some(entry) = &delivery.entry else { return Some("its receipt was not on the disk".to_owned()) };
    let kind = match delivery.destination.split(':').next() {
        _ if delivery.piece => "gate.to_channel.opened",
        Some("provider") => "gate.to_provider.cleared",
        Some("tool") => "gate.to_tool.cleared",
        _ => "gate.to_channel.cleared",
    };
    let reference = entry.data["text"].as_str().unwrap_or_default();
    if entry.kind.as_str() != kind {
        return Some(format!("its receipt is a {}", entry.kind));
    }
    if entry.data["destination"] != delivery.destination.as_str() || entry.session != Some(delivery.session) {
        return Some("its receipt is for another destination or session".to_owned());
    }
    if !delivery.piece && reference != text_ref(delivery.text.as_bytes()) {
        return Some("its receipt is for other bytes".to_owned());
    }
    None
}

/// What is wrong with the streams: each that was closed must have closed over exactly the bytes that went out.
fn stream_complaints(road: &Road) -> Vec<String> {
    let mut sent: BTreeMap<EventId, Vec<u8>> = BTreeMap::new();
    for piece in road.seen.all().iter().filter(|delivery| delivery.piece) {
        sent.entry(piece.receipt).or_default().extend(piece.text.as_bytes());
    }
    let mut complaints = Vec::new();
    for closed in road.entries().iter().filter(|entry| entry.kind.as_str() == "gate.to_channel.closed") {
        let open: EventId = closed.data["open"].as_str().unwrap().parse().unwrap();
        let bytes = sent.remove(&open).unwrap_or_default();
        if closed.data["text"] != text_ref(Digest::of(&bytes).as_bytes()).as_str() {
            complaints.push(format!("{open} closed over other bytes than {:?}", String::from_utf8_lossy(&bytes)));
        }
    }
    if road.audit.failure().is_none() {
        complaints.extend(sent.keys().map(|open| format!("{open} was never closed")));
    }
    complaints
}

#[derive(Clone, Debug)]
struct Case {
    /// Pages of the log; it is written in full soon, or not at all.
    pages: Option<u32>,
    approve: bool,
    messages: Vec<(Vec<Line>, bool)>,
    page: Vec<Line>,
}

fn case() -> impl Strategy<Value = Case> {
    let pages = prop_oneof![1 => Just(None), 3 => (8_u32..14).prop_map(Some)];
    let messages = vec((vec(line(), 1..6), prop::bool::weighted(0.8)), 1..5);
    (pages, any::<bool>(), messages, vec(line(), 0..4)).prop_map(|(pages, approve, messages, page)| Case {
        pages,
        approve,
        messages,
        page,
    })
}

/// Runs `case` and answers the road with all that happened on it.
fn run(policy: &Arc<Policy>, case: &Case) -> Road {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let audit = sigil_audit::Options { max_pages: case.pages, ..sigil_audit::Options::default() };
    let road = Road::new(Plan { audit, ..Plan::of(policy.clone()) });
    road.seen.read_back.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        let session = road.open("ann", "cli").await;
        road.seen.answer(session.id, "fetch.get", &[script(&case.page)]);
        for (lines, typed) in &case.messages {
            road.say(&session, &script(lines), *typed, case.approve).await;
        }
    });
    road
}

#[test]
fn what_reaches_anybody_has_a_receipt_that_was_written_before() {
    let policy = policy(Preset::Balanced, 1, |_| {});
    let (arrived, failed) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { 60 };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let property = |case: Case| {
        let road = run(&policy, &case);
        let deliveries = road.seen.all();
        let complaints: Vec<_> = deliveries.iter().filter_map(|d| complaint(d).map(|why| (why, d.clone()))).collect();
        prop_assert!(complaints.is_empty(), "{:?}", complaints);
        prop_assert_eq!(stream_complaints(&road), Vec::<String>::new());
        arrived.set(arrived.get() + deliveries.len());
        failed.set(failed.get() + usize::from(road.audit.failure().is_some()));
        Ok(())
    };
    if let Err(found) = TestRunner::new(config).run(&case(), property) {
        panic!("{found}");
    }
    assert!(arrived.get() > 100 && failed.get() > 0, "{} deliveries, {} failures", arrived.get(), failed.get());
}

#[test]
fn the_oracle_sees_what_it_is_for() {
    let policy = policy(Preset::Balanced, 1, |_| {});
    let said = vec![Line::Call("mail.send", 1), Line::Then, Line::Say("hello")];
    let case = Case { pages: None, approve: false, messages: vec![(said, true)], page: Vec::new() };
    let road = run(&policy, &case);
    let deliveries = road.seen.all();
    let mail = deliveries.iter().find(|delivery| delivery.destination == "tool:mail.send").unwrap();
    assert_eq!(complaint(mail), None);
    let other = Delivery { text: "{\"n\":2}".to_owned(), ..mail.clone() };
    assert!(complaint(&other).unwrap().contains("other bytes"));
    let other = Delivery { destination: "tool:notes.write".to_owned(), ..mail.clone() };
    assert!(complaint(&other).unwrap().contains("another destination"));
    let other = Delivery { entry: None, ..mail.clone() };
    assert!(complaint(&other).unwrap().contains("not on the disk"));
    // A byte that went out beside what the stream was closed over.
    let piece = deliveries.iter().find(|delivery| delivery.piece).unwrap().clone();
    road.seen.deliveries.lock().unwrap().push(Delivery { text: "!".to_owned(), ..piece });
    assert!(stream_complaints(&road)[0].contains("other bytes"));
}
