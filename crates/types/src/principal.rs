//! Who acts, and where a conversation takes place.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Author, Name, UserId};

/// What a person is to this Sigil.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Speaks and is answered; owns nothing.
    Member,
    /// Answers for this Sigil: approves, signs, configures.
    Owner,
}

/// A person who acts, by stable id, never by display name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Principal {
    /// Who.
    pub user: UserId,
    /// As what.
    pub role: Role,
}

impl Principal {
    /// This person as the author of what they write.
    #[must_use]
    pub fn author(&self) -> Author {
        match self.role {
            Role::Owner => Author::Owner(self.user.clone()),
            Role::Member => Author::Member(self.user.clone()),
        }
    }
}

/// A channel instance: `cli`, `web`, or a channel plugin's configured instance such as `telegram-home`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelRef(pub Name);

impl fmt::Display for ChannelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
