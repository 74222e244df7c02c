//! Killed at any point: what was accepted is kept, once; what was answered stays answered; nothing is half done.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the child is this test, started again to be killed")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{at, block_on, by_owner, cli, inbound, said, session};
use sigil_store::sqlite::SqliteSessions;
use sigil_store::{CallEnd, CallStart, MessageRole, NewReply, SessionStore, TurnEnd};
use sigil_types::{Effect, EventId, Origin, Outcome, SessionId, Untrusted};
use tempfile::tempdir;

const FOLDER: &str = "STORE_CRASH_FOLDER";

fn open(data: &Path) -> SqliteSessions {
    SqliteSessions::open(data, &"home".parse().unwrap()).unwrap()
}

fn say(line: String) {
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// The child: a gateway in small. Settles what a crash left, then answers messages, each of which is delivered twice.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = open(Path::new(&folder));
    block_on(work(&store));
}

async fn work(store: &dyn SessionStore) {
    for open in store.unfinished().await.unwrap() {
        let turn = open.turn.inbound.turn;
        if !open.may_go_on() {
            let end = TurnEnd { outcome: Outcome::Interrupted, code: None, messages: vec![], reply: None, at: at(5) };
            store.end_turn(turn, end).await.unwrap();
        } else if open.turn.state == sigil_store::TurnState::Running {
            store.requeue_turn(turn, at(5)).await.unwrap();
        }
    }
    let found = store.find_session(cli(), String::new(), "ann".parse().unwrap()).await.unwrap();
    let id = match found {
        Some(found) => found.id,
        None => store.create_session(session(SessionId::generate(at(0)))).await.unwrap().id,
    };
    let before = store.turns(id, usize::MAX >> 1).await.unwrap().len();
    for number in before / 2.. {
        let key = number.to_string();
        let turn = store.accept(inbound(id, &key)).await.unwrap().turn.inbound.turn;
        say(format!("accepted {key} {turn}\n"));
        assert_eq!(store.accept(inbound(id, &key)).await.unwrap().turn.inbound.turn, turn);
        if store.start_turn(turn, vec![said(MessageRole::User, &key)], at(6)).await.is_err() {
            continue;
        }
        let (call, tool) = ("c".to_owned(), "files.write".parse().unwrap());
        let start = CallStart { call, tool, effect: Effect::Local, receipt: EventId::generate(at(6)), at: at(6) };
        if store.start_call(turn, start, vec![]).await.is_ok() {
            say(format!("effect {key} {turn}\n"));
            let back = CallEnd { call: "c".to_owned(), ok: true, at: at(7) };
            store.finish_call(turn, back, vec![said(MessageRole::Tool, &key)]).await.unwrap();
        }
        let content = Untrusted::new(Origin::Model, format!("reply {key}"));
        let reply = Some(NewReply { channel: cli(), content, label: by_owner() });
        let messages = vec![said(MessageRole::Assistant, &key)];
        let end = TurnEnd { outcome: Outcome::Completed, code: None, messages, reply, at: at(8) };
        store.end_turn(turn, end).await.unwrap();
        say(format!("replied {key} {turn}\n"));
        store.mark_sent(turn, at(9)).await.unwrap();
    }
}

#[test]
fn nothing_accepted_is_lost_or_answered_twice_by_a_kill() {
    let folder = tempdir().unwrap();
    // By key: the turn, and how often its effect and its reply were made.
    let mut seen: BTreeMap<String, (String, u32, u32)> = BTreeMap::new();
    for round in 0..20_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        // A different point in every round: between any two steps, and during opening.
        let patience = [1, 2, 3, 4, 5, 6, 7, 12, 23, 61][round % 10] + round / 10;
        let mut said = 0;
        for line in lines.lines() {
            let line = line.unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            // The test harness may put its own words before ours.
            let Some(at) = words.iter().position(|word| matches!(*word, "accepted" | "effect" | "replied")) else {
                continue;
            };
            let (key, turn) = (words[at + 1].to_owned(), words[at + 2].to_owned());
            let entry = seen.entry(key).or_insert_with(|| (turn.clone(), 0, 0));
            assert_eq!(entry.0, turn, "a message has one turn for ever");
            entry.1 += u32::from(words[at] == "effect");
            entry.2 += u32::from(words[at] == "replied");
            said += 1;
            if said == patience {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();

        let store = open(folder.path());
        assert!(block_on(store.integrity()).unwrap().is_empty(), "round {round}");
        for (key, (turn, effects, replies)) in &seen {
            let turn = turn.parse().unwrap();
            let kept = block_on(store.turn(turn)).unwrap();
            let kept = kept.unwrap_or_else(|| panic!("message {key} is lost in round {round}"));
            assert_eq!(kept.inbound.key, *key);
            assert!(*effects <= 1 && *replies <= 1, "message {key} had {effects} effects and {replies} replies");
            let reply = block_on(store.reply(turn)).unwrap();
            assert!(*replies == 0 || reply.is_some(), "the reply to {key} is lost in round {round}");
            assert!(reply.is_none() || kept.state.is_over(), "state and reply are one step");
        }
        let session = block_on(store.sessions(Default::default())).unwrap().pop();
        if let Some(session) = session {
            let turns = block_on(store.turns(session.id, 10_000)).unwrap();
            let mut keys: Vec<_> = turns.iter().map(|turn| turn.inbound.key.clone()).collect();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), turns.len(), "no message has two turns");
            assert!(turns.iter().all(|turn| turn.changed >= at(1)));
        }
    }
    assert!(seen.len() > 20 && seen.values().filter(|(_, _, replies)| *replies == 1).count() > 10, "{}", seen.len());
}
