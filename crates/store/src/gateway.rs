//! [`GatewayStore`]: what is true for the whole gateway: people, workspaces, tokens and settings.

use std::collections::BTreeSet;

use serde_json::Value;
use sigil_types::{Digest, PluginName, Role, Timestamp, TokenId, UserId, WorkspaceId};

use crate::Answer;

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// Who: the stable id.
    pub id: UserId,
    /// What people call them. Never decides anything.
    pub display_name: String,
    /// Owner or member.
    pub role: Role,
    /// Since when.
    pub created: Timestamp,
    /// Since when they may do nothing.
    pub disabled: Option<Timestamp>,
}

/// A workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceRecord {
    /// Its name.
    pub id: WorkspaceId,
    /// What people call it.
    pub title: String,
    /// Since when.
    pub created: Timestamp,
}

/// A membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The person.
    pub user: UserId,
    /// What they are in it.
    pub role: Role,
}

/// An access token to keep. Its secret is not among what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its name.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserId,
    /// What it is for, in the owner's words.
    pub title: String,
    /// SHA-256 of the secret, which has at least 128 bits of randomness.
    pub digest: Digest,
    /// What it may be used for.
    pub scopes: BTreeSet<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// An access token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// The token.
    pub token: NewToken,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// When it was last used, to the minute or so.
    pub last_used: Option<Timestamp>,
}

/// Whether a token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum TokenState {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl TokenRecord {
    /// Whether the token counts at `now`.
    pub fn state(&self, now: Timestamp) -> TokenState {
        if self.revoked.is_some() {
            TokenState::Revoked
        } else if self.token.expires.is_some_and(|expires| expires <= now) {
            TokenState::Expired
        } else {
            TokenState::Active
        }
    }
}

/// The settings of a plugin in one workspace, or, without one, everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSetting {
    /// The plugin.
    pub plugin: PluginName,
    /// Where.
    pub workspace: Option<WorkspaceId>,
    /// Whether it runs there.
    pub enabled: bool,
    /// Its configuration; secrets only as references.
    pub config: Value,
    /// When this was last changed.
    pub changed: Timestamp,
}

/// What is true for the whole gateway. When a method's future has answered, what it wrote is durable.
pub trait GatewayStore: Send + Sync {
    /// Keeps a person, or changes name, role or `disabled` of the one with this id.
    fn put_user(&self, user: UserRecord) -> Answer<'_, ()>;

    /// The person `id`.
    fn user(&self, id: UserId) -> Answer<'_, Option<UserRecord>>;

    /// All people, by id.
    fn users(&self) -> Answer<'_, Vec<UserRecord>>;

    /// Keeps a workspace, or changes its title.
    fn put_workspace(&self, workspace: WorkspaceRecord) -> Answer<'_, ()>;

    /// All workspaces, by id.
    fn workspaces(&self) -> Answer<'_, Vec<WorkspaceRecord>>;

    /// Makes a person a member of a workspace, or changes what they are in it.
    ///
    /// # Errors
    /// `Absent` when there is no such person or workspace.
    fn put_member(&self, member: MemberRecord) -> Answer<'_, ()>;

    /// Ends a membership. Answers whether there was one.
    fn remove_member(&self, workspace: WorkspaceId, user: UserId) -> Answer<'_, bool>;

    /// The members of a workspace, by id.
    fn members(&self, workspace: WorkspaceId) -> Answer<'_, Vec<MemberRecord>>;

    /// The memberships of a person, by workspace.
    fn memberships(&self, user: UserId) -> Answer<'_, Vec<MemberRecord>>;

    /// Keeps a token.
    ///
    /// # Errors
    /// `Absent` when there is no such person, `Conflict` when id or digest is taken.
    fn create_token(&self, token: NewToken) -> Answer<'_, ()>;

    /// The token whose secret has this SHA-256, in whatever state.
    fn token_by_digest(&self, digest: Digest) -> Answer<'_, Option<TokenRecord>>;

    /// All tokens, newest first.
    fn tokens(&self) -> Answer<'_, Vec<TokenRecord>>;

    /// Revokes a token. Answers whether it was not revoked before.
    ///
    /// # Errors
    /// `Absent` when there is no such token.
    fn revoke_token(&self, id: TokenId, at: Timestamp) -> Answer<'_, bool>;

    /// Notes that a token was used. Written at most once a minute for a token.
    fn touch_token(&self, id: TokenId, at: Timestamp) -> Answer<'_, ()>;

    /// Keeps the settings of a plugin.
    fn put_plugin(&self, setting: PluginSetting) -> Answer<'_, ()>;

    /// The settings of all plugins, by name, those for everywhere first.
    fn plugins(&self) -> Answer<'_, Vec<PluginSetting>>;

    /// Forgets the settings of a plugin in one workspace, or those for everywhere. Answers whether there were any.
    fn remove_plugin(&self, plugin: PluginName, workspace: Option<WorkspaceId>) -> Answer<'_, bool>;

    /// The value of a setting.
    fn setting(&self, key: String) -> Answer<'_, Option<Value>>;

    /// Sets a setting; `None` removes it.
    fn put_setting(&self, key: String, value: Option<Value>) -> Answer<'_, ()>;

    /// Checks the database; answers what is wrong, one sentence each.
    fn integrity(&self) -> Answer<'_, Vec<String>>;
}
