//! One suite for every backend: each case runs against a fresh store of every kind.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;
mod suite;

use std::sync::Arc;

use sigil_store::sqlite::{SqliteGateway, SqliteSessions};
use sigil_store::{GatewayStore, SessionStore};
use tempfile::{TempDir, tempdir};

/// A fresh session store, and what keeps its files.
fn sessions() -> (TempDir, Arc<dyn SessionStore>) {
    let folder = tempdir().unwrap();
    let store = SqliteSessions::open(folder.path(), &"home".parse().unwrap()).unwrap();
    (folder, Arc::new(store))
}

fn gateway() -> (TempDir, Arc<dyn GatewayStore>) {
    let folder = tempdir().unwrap();
    let store = SqliteGateway::open(folder.path()).unwrap();
    (folder, Arc::new(store))
}

macro_rules! cases {
    ($make:ident: $($case:ident),+ $(,)?) => {$(
        #[test]
        fn $case() {
            let (_folder, store) = $make();
            common::block_on(suite::$case(&*store));
            assert_eq!(common::block_on(store.integrity()).unwrap(), [""; 0]);
        }
    )+};
}

cases!(sessions:
    sessions_begin_are_listed_and_archived,
    a_label_only_rises,
    content_is_kept_exactly,
    the_window_is_the_end_of_the_transcript,
    a_message_is_accepted_once,
    a_turn_goes_its_way_once,
    a_call_is_marked_before_and_after,
    the_end_of_a_turn_is_one_step,
    what_was_under_way_is_found_again,
    a_reply_is_sent_once,
    an_approval_is_answered_once_for_its_plan,
    an_approval_that_is_late_is_no,
    many_at_once_keep_their_order,
);

cases!(gateway:
    people_and_workspaces,
    tokens,
    settings_of_plugins_and_others,
);
