//! Cases of the gateway store.

use std::collections::BTreeSet;

use serde_json::json;
use sigil_store::{
    GatewayStore, MemberRecord, NewToken, PluginSetting, StoreFailed, TokenState, UserRecord, WorkspaceRecord,
};
use sigil_types::{Digest, Role, TokenId, UserId};

use crate::common::at;

type Store = dyn GatewayStore;

fn user(id: &str, role: Role) -> UserRecord {
    let id: UserId = id.parse().unwrap();
    UserRecord { display_name: format!("{id} \u{202e}!"), id, role, created: at(0), disabled: None }
}

pub(crate) async fn people_and_workspaces(store: &Store) {
    let (ann, bob) = (user("ann", Role::Owner), user("bob", Role::Member));
    store.put_user(bob.clone()).await.unwrap();
    store.put_user(ann.clone()).await.unwrap();
    assert_eq!(store.users().await.unwrap(), [ann.clone(), bob.clone()]);
    store.put_user(UserRecord { disabled: Some(at(5)), created: at(99), ..bob.clone() }).await.unwrap();
    let kept = store.user(bob.id.clone()).await.unwrap().unwrap();
    assert_eq!((kept.disabled, kept.created), (Some(at(5)), at(0)), "since when stays");
    assert_eq!(store.user("eve".parse().unwrap()).await.unwrap(), None);

    let home = WorkspaceRecord { id: "home".parse().unwrap(), title: "Home".to_owned(), created: at(1) };
    store.put_workspace(home.clone()).await.unwrap();
    store.put_workspace(WorkspaceRecord { title: "At home".to_owned(), ..home.clone() }).await.unwrap();
    assert_eq!(store.workspaces().await.unwrap()[0].title, "At home");

    let member = |user: &str, role| MemberRecord { workspace: home.id.clone(), user: user.parse().unwrap(), role };
    store.put_member(member("bob", Role::Owner)).await.unwrap();
    store.put_member(member("bob", Role::Member)).await.unwrap();
    store.put_member(member("ann", Role::Owner)).await.unwrap();
    let both = [member("ann", Role::Owner), member("bob", Role::Member)];
    assert_eq!(store.members(home.id.clone()).await.unwrap(), both);
    assert_eq!(store.memberships(bob.id.clone()).await.unwrap(), both[1..]);
    let stranger = store.put_member(member("eve", Role::Member)).await;
    assert!(matches!(stranger, Err(StoreFailed::Absent { what: "user", .. })), "{stranger:?}");
    let nowhere = MemberRecord { workspace: "work".parse().unwrap(), ..member("ann", Role::Member) };
    let nowhere = store.put_member(nowhere).await;
    assert!(matches!(nowhere, Err(StoreFailed::Absent { what: "workspace", .. })), "{nowhere:?}");
    assert!(store.remove_member(home.id.clone(), bob.id.clone()).await.unwrap());
    assert!(!store.remove_member(home.id.clone(), bob.id.clone()).await.unwrap());
    assert!(store.memberships(bob.id).await.unwrap().is_empty());
}

pub(crate) async fn tokens(store: &Store) {
    store.put_user(user("ann", Role::Owner)).await.unwrap();
    let token = |secret: &str| NewToken {
        id: TokenId::generate(at(0)),
        user: "ann".parse().unwrap(),
        title: "phone".to_owned(),
        digest: Digest::of(secret.as_bytes()),
        scopes: BTreeSet::from(["chat".to_owned(), "admin:plugins".to_owned()]),
        created: at(0),
        expires: Some(at(100)),
    };
    let first = token("first");
    store.create_token(first.clone()).await.unwrap();
    let same_secret = store.create_token(token("first")).await;
    assert!(matches!(same_secret, Err(StoreFailed::Conflict { .. })), "{same_secret:?}");
    let strangers = store.create_token(NewToken { user: "eve".parse().unwrap(), ..token("second") }).await;
    assert!(matches!(strangers, Err(StoreFailed::Absent { .. })), "{strangers:?}");
    assert!(store.token_by_digest(Digest::of(b"guess")).await.unwrap().is_none());
    let found = store.token_by_digest(Digest::of(b"first")).await.unwrap().unwrap();
    assert_eq!(found.token, first);
    assert_eq!((found.state(at(99)), found.state(at(100))), (TokenState::Active, TokenState::Expired));

    let used = async || store.token_by_digest(first.digest).await.unwrap().unwrap().last_used;
    store.touch_token(first.id, at(1)).await.unwrap();
    store.touch_token(first.id, at(30_000)).await.unwrap();
    assert_eq!(used().await, Some(at(1)), "once a minute is enough");
    store.touch_token(first.id, at(60_001)).await.unwrap();
    assert_eq!(used().await, Some(at(60_001)));

    assert!(store.revoke_token(first.id, at(7)).await.unwrap());
    assert!(!store.revoke_token(first.id, at(8)).await.unwrap());
    let revoked = store.token_by_digest(first.digest).await.unwrap().unwrap();
    assert_eq!((revoked.state(at(9)), revoked.revoked), (TokenState::Revoked, Some(at(7))));
    let unknown = store.revoke_token(TokenId::generate(at(0)), at(9)).await;
    assert!(matches!(unknown, Err(StoreFailed::Absent { .. })), "{unknown:?}");
    store.create_token(NewToken { expires: None, ..token("third") }).await.unwrap();
    assert_eq!(store.tokens().await.unwrap().len(), 2);
    let lasting = store.token_by_digest(Digest::of(b"third")).await.unwrap().unwrap();
    assert_eq!(lasting.state(at(u64::MAX / 4)), TokenState::Active);
}

pub(crate) async fn settings_of_plugins_and_others(store: &Store) {
    let setting = |workspace: Option<&str>, enabled| PluginSetting {
        plugin: "files".parse().unwrap(),
        workspace: workspace.map(|workspace| workspace.parse().unwrap()),
        enabled,
        config: json!({ "root": "notes", "n": [1, 2.5, null] }),
        changed: at(1),
    };
    store.put_plugin(setting(Some("home"), true)).await.unwrap();
    store.put_plugin(setting(None, false)).await.unwrap();
    store.put_plugin(setting(Some("home"), false)).await.unwrap();
    assert_eq!(store.plugins().await.unwrap(), [setting(None, false), setting(Some("home"), false)]);
    assert!(store.remove_plugin("files".parse().unwrap(), None).await.unwrap());
    assert!(!store.remove_plugin("files".parse().unwrap(), None).await.unwrap());
    assert_eq!(store.plugins().await.unwrap(), [setting(Some("home"), false)]);

    let get = async || store.setting("policy.floor".to_owned()).await.unwrap();
    assert_eq!(get().await, None);
    store.put_setting("policy.floor".to_owned(), Some(json!(7))).await.unwrap();
    store.put_setting("policy.floor".to_owned(), Some(json!({ "version": 8 }))).await.unwrap();
    assert_eq!(get().await, Some(json!({ "version": 8 })));
    store.put_setting("policy.floor".to_owned(), None).await.unwrap();
    assert_eq!(get().await, None);
}
