//! [`SqliteGateway`]: the gateway store in `gateway.db`.

use std::path::Path;

use rusqlite::{OptionalExtension as _, Params, Row};
use serde_json::Value;
use sigil_types::{Digest, PluginName, Timestamp, TokenId, UserId, WorkspaceId};

use super::codec::{Columns, json, time, word};
use super::database::{Database, Db, OpResult, integrity};
use super::{OpenStore, schema};
use crate::Answer;
use crate::failed::StoreFailed;
use crate::gateway::{GatewayStore, MemberRecord, NewToken, PluginSetting, TokenRecord, UserRecord, WorkspaceRecord};

/// A token's use is written at most this often.
const TOUCH_MILLIS: u64 = 60_000;

/// What is true for the whole gateway, in SQLite.
#[derive(Debug)]
pub struct SqliteGateway {
    database: Database,
}

impl SqliteGateway {
    /// Opens `gateway.db` in the data folder, making it when it is not there.
    ///
    /// # Errors
    /// When the file cannot be used or is in use.
    pub fn open(data: &Path) -> Result<Self, OpenStore> {
        Ok(Self { database: Database::open(&data.join("gateway.db"), &schema::GATEWAY, "the gateway")? })
    }
}

impl GatewayStore for SqliteGateway {
    fn put_user(&self, user: UserRecord) -> Answer<'_, ()> {
        self.database.run(move |db| {
            db.prepare_cached(
                "INSERT INTO user (id, display_name, role, created, disabled) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (id) DO UPDATE SET display_name = excluded.display_name, role = excluded.role,
                 disabled = excluded.disabled",
            )?
            .execute((
                user.id.as_str(),
                &user.display_name,
                word(&user.role)?,
                time(user.created),
                user.disabled.map(time),
            ))?;
            Ok(())
        })
    }

    fn user(&self, id: UserId) -> Answer<'_, Option<UserRecord>> {
        self.database.run(move |db| Ok(query(db, "SELECT * FROM user WHERE id = ?", [id.as_str()], user_record)?.pop()))
    }

    fn users(&self) -> Answer<'_, Vec<UserRecord>> {
        self.database.run(|db| query(db, "SELECT * FROM user ORDER BY id", [], user_record))
    }

    fn put_workspace(&self, workspace: WorkspaceRecord) -> Answer<'_, ()> {
        self.database.run(move |db| {
            db.prepare_cached(
                "INSERT INTO workspace (id, title, created) VALUES (?, ?, ?)
                 ON CONFLICT (id) DO UPDATE SET title = excluded.title",
            )?
            .execute((workspace.id.as_str(), &workspace.title, time(workspace.created)))?;
            Ok(())
        })
    }

    fn workspaces(&self) -> Answer<'_, Vec<WorkspaceRecord>> {
        self.database.run(|db| {
            query(db, "SELECT * FROM workspace ORDER BY id", [], |row| {
                let columns = Columns { row, what: "workspace" };
                let (id, title) = (columns.text("id")?, columns.string("title")?);
                Ok(WorkspaceRecord { id, title, created: columns.time("created")? })
            })
        })
    }

    fn put_member(&self, member: MemberRecord) -> Answer<'_, ()> {
        self.database.run(move |db| {
            known(db, "SELECT 1 FROM user WHERE id = ?", "user", member.user.as_str())?;
            known(db, "SELECT 1 FROM workspace WHERE id = ?", "workspace", member.workspace.as_str())?;
            db.prepare_cached(
                "INSERT INTO member (workspace, user, role) VALUES (?, ?, ?)
                 ON CONFLICT (workspace, user) DO UPDATE SET role = excluded.role",
            )?
            .execute((member.workspace.as_str(), member.user.as_str(), word(&member.role)?))?;
            Ok(())
        })
    }

    fn remove_member(&self, workspace: WorkspaceId, user: UserId) -> Answer<'_, bool> {
        self.database.run(move |db| {
            let mut delete = db.prepare_cached("DELETE FROM member WHERE workspace = ? AND user = ?")?;
            Ok(delete.execute((workspace.as_str(), user.as_str()))? > 0)
        })
    }

    fn members(&self, workspace: WorkspaceId) -> Answer<'_, Vec<MemberRecord>> {
        self.database.run(move |db| {
            let sql = "SELECT * FROM member WHERE workspace = ? ORDER BY user";
            query(db, sql, [workspace.as_str()], member_record)
        })
    }

    fn memberships(&self, user: UserId) -> Answer<'_, Vec<MemberRecord>> {
        self.database.run(move |db| {
            let sql = "SELECT * FROM member WHERE user = ? ORDER BY workspace";
            query(db, sql, [user.as_str()], member_record)
        })
    }

    fn create_token(&self, token: NewToken) -> Answer<'_, ()> {
        self.database.run(move |db| create_token(db, &token))
    }

    fn token_by_digest(&self, digest: Digest) -> Answer<'_, Option<TokenRecord>> {
        self.database.run(move |db| {
            Ok(query(db, "SELECT * FROM token WHERE digest = ?", [digest.to_string()], token_record)?.pop())
        })
    }

    fn tokens(&self) -> Answer<'_, Vec<TokenRecord>> {
        self.database.run(|db| query(db, "SELECT * FROM token ORDER BY id DESC", [], token_record))
    }

    fn revoke_token(&self, id: TokenId, at: Timestamp) -> Answer<'_, bool> {
        self.database.run(move |db| {
            known(db, "SELECT 1 FROM token WHERE id = ?", "token", &id.to_string())?;
            let mut revoke = db.prepare_cached("UPDATE token SET revoked = ? WHERE id = ? AND revoked IS NULL")?;
            Ok(revoke.execute((time(at), id.to_string()))? > 0)
        })
    }

    fn touch_token(&self, id: TokenId, at: Timestamp) -> Answer<'_, ()> {
        self.database.run(move |db| {
            let before = Timestamp::from_millis(at.as_millis().saturating_sub(TOUCH_MILLIS));
            db.prepare_cached("UPDATE token SET last_used = ? WHERE id = ? AND coalesce(last_used, 0) <= ?")?
                .execute((time(at), id.to_string(), time(before)))?;
            Ok(())
        })
    }

    fn put_plugin(&self, setting: PluginSetting) -> Answer<'_, ()> {
        self.database.run(move |db| {
            db.prepare_cached(
                "INSERT INTO plugin (plugin, workspace, enabled, config, changed) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (plugin, workspace) DO UPDATE SET enabled = excluded.enabled, config = excluded.config,
                 changed = excluded.changed",
            )?
            .execute((
                setting.plugin.as_str(),
                setting.workspace.as_ref().map_or("", WorkspaceId::as_str),
                setting.enabled,
                json(&setting.config)?,
                time(setting.changed),
            ))?;
            Ok(())
        })
    }

    fn plugins(&self) -> Answer<'_, Vec<PluginSetting>> {
        self.database.run(|db| {
            query(db, "SELECT * FROM plugin ORDER BY plugin, workspace", [], |row| {
                let columns = Columns { row, what: "plugin setting" };
                let everywhere = columns.string("workspace")?.is_empty();
                Ok(PluginSetting {
                    plugin: columns.text("plugin")?,
                    workspace: if everywhere { None } else { Some(columns.text("workspace")?) },
                    enabled: columns.flag("enabled")?,
                    config: columns.json("config")?,
                    changed: columns.time("changed")?,
                })
            })
        })
    }

    fn remove_plugin(&self, plugin: PluginName, workspace: Option<WorkspaceId>) -> Answer<'_, bool> {
        self.database.run(move |db| {
            let workspace = workspace.as_ref().map_or("", WorkspaceId::as_str);
            let mut delete = db.prepare_cached("DELETE FROM plugin WHERE plugin = ? AND workspace = ?")?;
            Ok(delete.execute((plugin.as_str(), workspace))? > 0)
        })
    }

    fn setting(&self, key: String) -> Answer<'_, Option<Value>> {
        self.database.run(move |db| {
            let sql = "SELECT value FROM setting WHERE key = ?";
            Ok(query(db, sql, [&key], |row| Columns { row, what: "setting" }.json("value"))?.pop())
        })
    }

    fn put_setting(&self, key: String, value: Option<Value>) -> Answer<'_, ()> {
        self.database.run(move |db| {
            match value {
                Some(value) => db
                    .prepare_cached(
                        "INSERT INTO setting (key, value) VALUES (?, ?)
                         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    )?
                    .execute((&key, json(&value)?))?,
                None => db.prepare_cached("DELETE FROM setting WHERE key = ?")?.execute([&key])?,
            };
            Ok(())
        })
    }

    fn integrity(&self) -> Answer<'_, Vec<String>> {
        self.database.run(integrity)
    }
}

fn query<T>(
    db: Db<'_>,
    sql: &str,
    parameters: impl Params,
    record: impl Fn(&Row<'_>) -> OpResult<T>,
) -> OpResult<Vec<T>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(record(row)?);
    }
    Ok(records)
}

/// Fails with `Absent` when `sql` finds nothing for `id`.
fn known(db: Db<'_>, sql: &str, what: &'static str, id: &str) -> OpResult<()> {
    let found = db.prepare_cached(sql)?.query_row([id], |_| Ok(())).optional()?;
    Ok(found.ok_or_else(|| StoreFailed::absent(what, id))?)
}

fn user_record(row: &Row<'_>) -> OpResult<UserRecord> {
    let columns = Columns { row, what: "user" };
    Ok(UserRecord {
        id: columns.text("id")?,
        display_name: columns.string("display_name")?,
        role: columns.word("role")?,
        created: columns.time("created")?,
        disabled: columns.time_or_none("disabled")?,
    })
}

fn member_record(row: &Row<'_>) -> OpResult<MemberRecord> {
    let columns = Columns { row, what: "member" };
    Ok(MemberRecord { workspace: columns.text("workspace")?, user: columns.text("user")?, role: columns.word("role")? })
}

fn create_token(db: Db<'_>, token: &NewToken) -> OpResult<()> {
    known(db, "SELECT 1 FROM user WHERE id = ?", "user", token.user.as_str())?;
    let added = db
        .prepare_cached(
            "INSERT OR IGNORE INTO token (id, user, title, digest, scopes, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute((
            token.id.to_string(),
            token.user.as_str(),
            &token.title,
            token.digest.to_string(),
            json(&token.scopes)?,
            time(token.created),
            token.expires.map(time),
        ))?;
    if added == 0 { Err(StoreFailed::conflict("token", token.id).into()) } else { Ok(()) }
}

fn token_record(row: &Row<'_>) -> OpResult<TokenRecord> {
    let columns = Columns { row, what: "token" };
    Ok(TokenRecord {
        token: NewToken {
            id: columns.text("id")?,
            user: columns.text("user")?,
            title: columns.string("title")?,
            digest: columns.text("digest")?,
            scopes: columns.json("scopes")?,
            created: columns.time("created")?,
            expires: columns.time_or_none("expires")?,
        },
        revoked: columns.time_or_none("revoked")?,
        last_used: columns.time_or_none("last_used")?,
    })
}
