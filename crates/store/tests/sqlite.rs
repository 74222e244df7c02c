//! What is SQLite's alone: files, their owners, damage, and a model of the inbox over reopenings.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{at, block_on, inbound, said, session};
use proptest::prelude::*;
use sigil_store::sqlite::{OpenStore, SqliteGateway, SqliteSessions};
use sigil_store::{MessageRole, SessionStore as _, StoreFailed, TurnEnd, TurnState};
use sigil_types::{Outcome, SessionId, TurnId, WorkspaceId};
use tempfile::tempdir;

fn open(data: &Path, workspace: &str) -> Result<SqliteSessions, OpenStore> {
    SqliteSessions::open(data, &workspace.parse().unwrap())
}

fn code<T>(opened: Result<T, OpenStore>) -> String {
    opened.err().unwrap().code().to_string()
}

#[test]
fn a_workspace_sees_nothing_of_another_even_when_files_are_swapped() {
    let data = tempdir().unwrap();
    let id = SessionId::generate(at(0));
    let home = open(data.path(), "home").unwrap();
    let work = open(data.path(), "work").unwrap();
    block_on(home.create_session(session(id))).unwrap();
    assert_eq!(block_on(work.session(id)).unwrap(), None);
    drop((home, work));
    let file = |workspace: &str| data.path().join("workspaces").join(workspace).join("sessions.db");
    fs::copy(file("home"), file("work")).unwrap();
    let refused = open(data.path(), "work").unwrap_err();
    assert!(matches!(&refused, OpenStore::Stranger { found, .. } if found == "workspace home"), "{refused}");
    fs::copy(file("home"), data.path().join("gateway.db")).unwrap();
    assert_eq!(code(SqliteGateway::open(data.path())), "store.database.open.form");
}

#[test]
fn files_are_their_owners_alone() {
    let data = tempdir().unwrap();
    let folder = data.path().join("fresh");
    let (home, gateway) = (open(&folder, "home").unwrap(), SqliteGateway::open(&folder).unwrap());
    block_on(home.create_session(session(SessionId::generate(at(0))))).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let workspace = folder.join("workspaces/home");
    assert_eq!((mode(&folder), mode(&workspace)), (0o700, 0o700));
    for file in fs::read_dir(&workspace).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert_eq!(mode(&folder.join("gateway.db")), 0o600);
    drop((home, gateway));
}

#[test]
fn a_store_has_one_process() {
    let data = tempdir().unwrap();
    let store = open(data.path(), "home").unwrap();
    assert_eq!(code(open(data.path(), "home")), "store.database.open.inuse");
    drop(store);
    drop(open(data.path(), "home").unwrap());
}

#[test]
fn read_only_damaged_and_later_files_are_refused() {
    let data = tempdir().unwrap();
    drop(SqliteGateway::open(data.path()).unwrap());
    let file = data.path().join("gateway.db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(code(SqliteGateway::open(data.path())), "store.database.open.readonly");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let later = SqliteGateway::open(data.path()).unwrap_err();
    assert!(matches!(later, OpenStore::Form { found: 99, known: 1, .. }), "{later}");
    fs::write(&file, b"this is no database, it only has the name of one").unwrap();
    assert_eq!(code(SqliteGateway::open(data.path())), "store.database.open.failed");
}

#[test]
fn what_does_not_read_back_is_named_and_changes_nothing_else() {
    let data = tempdir().unwrap();
    let file = data.path().join("workspaces/home/sessions.db");
    let store = open(data.path(), "home").unwrap();
    let id = SessionId::generate(at(0));
    block_on(store.create_session(session(id))).unwrap();
    block_on(store.append_messages(id, vec![said(MessageRole::User, "x"), said(MessageRole::User, "y")])).unwrap();
    rusqlite::Connection::open(&file).unwrap().execute("UPDATE message SET role = 'system' WHERE seq = 2", []).unwrap();
    let failed = block_on(store.window(id, 5)).unwrap_err();
    assert!(matches!(&failed, StoreFailed::Damaged { what: "message", reason } if reason.contains("role")), "{failed}");
    assert_eq!(block_on(store.messages(id, 0, 1)).unwrap().len(), 1);
    rusqlite::Connection::open(&file).unwrap().execute("DROP TABLE reply", []).unwrap();
    let failed = block_on(store.unsent()).unwrap_err();
    assert_eq!(failed.code().as_str(), "store.database.use.failed");
    assert!(failed.to_string().contains("sessions.db") && failed.to_string().contains("sigil doctor"), "{failed}");
    assert!(block_on(store.session(id)).unwrap().is_some(), "others go on");
}

#[test]
fn a_row_without_its_other_half_is_found() {
    let data = tempdir().unwrap();
    let store = open(data.path(), "home").unwrap();
    let id = SessionId::generate(at(0));
    block_on(store.create_session(session(id))).unwrap();
    block_on(store.accept(inbound(id, "m"))).unwrap();
    assert!(block_on(store.integrity()).unwrap().is_empty());
    let raw = rusqlite::Connection::open(data.path().join("workspaces/home/sessions.db")).unwrap();
    raw.execute_batch("PRAGMA foreign_keys = off; DELETE FROM session").unwrap();
    let wrong = block_on(store.integrity()).unwrap();
    assert!(wrong.len() == 1 && wrong[0].contains("`turn`"), "{wrong:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Accept(u8),
    Start(u8),
    Requeue(u8),
    End(u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u8..6).prop_map(Step::Accept),
        3 => (0_u8..6).prop_map(Step::Start),
        1 => (0_u8..6).prop_map(Step::Requeue),
        2 => (0_u8..6).prop_map(Step::End),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever is done in whatever order, over reopenings: the store and a map of what it should hold agree.
    #[test]
    fn the_inbox_behaves_as_a_map_of_keys(steps in steps()) {
        let data = tempdir().unwrap();
        let home: WorkspaceId = "home".parse().unwrap();
        let mut store = SqliteSessions::open(data.path(), &home).unwrap();
        let id = block_on(store.create_session(session(SessionId::generate(at(0))))).unwrap().id;
        let mut model: BTreeMap<u8, (TurnId, TurnState)> = BTreeMap::new();
        for step in steps {
            let move_to = |model: &mut BTreeMap<u8, (TurnId, TurnState)>, key: u8, from: &[TurnState], to| {
                let entry = model.get_mut(&key).filter(|(_, state)| from.contains(state));
                entry.map(|entry| { entry.1 = to; }).is_some()
            };
            let turn = |model: &BTreeMap<u8, (TurnId, TurnState)>, key: u8| {
                model.get(&key).map_or_else(|| TurnId::generate(at(0)), |(turn, _)| *turn)
            };
            match step {
                Step::Accept(key) => {
                    let accepted = block_on(store.accept(inbound(id, &key.to_string()))).unwrap();
                    let (known, record) = (model.contains_key(&key), accepted.turn);
                    let expected = model.entry(key).or_insert((record.inbound.turn, TurnState::Accepted));
                    prop_assert_eq!(accepted.fresh, !known);
                    prop_assert_eq!((record.inbound.turn, record.state), *expected);
                }
                Step::Start(key) => {
                    let done = block_on(store.start_turn(turn(&model, key), vec![], at(2))).is_ok();
                    prop_assert_eq!(done, move_to(&mut model, key, &[TurnState::Accepted], TurnState::Running));
                }
                Step::Requeue(key) => {
                    let done = block_on(store.requeue_turn(turn(&model, key), at(3))).is_ok();
                    prop_assert_eq!(done, move_to(&mut model, key, &[TurnState::Running], TurnState::Accepted));
                }
                Step::End(key) => {
                    let end = TurnEnd { outcome: Outcome::Completed, code: None, messages: vec![], reply: None, at: at(4) };
                    let done = block_on(store.end_turn(turn(&model, key), end)).is_ok();
                    let open = [TurnState::Accepted, TurnState::Running];
                    prop_assert_eq!(done, move_to(&mut model, key, &open, TurnState::Finished));
                }
                Step::Reopen => {
                    drop(store);
                    store = SqliteSessions::open(data.path(), &home).unwrap();
                }
            }
        }
        let mut kept: Vec<_> = block_on(store.turns(id, 100)).unwrap().into_iter()
            .map(|record| (record.inbound.turn, record.state)).collect();
        let mut expected: Vec<_> = model.into_values().collect();
        kept.sort();
        expected.sort();
        prop_assert_eq!(kept, expected);
    }
}
