//! Labels: who influenced a piece of content, and who may read it.
//!
//! `L = (A, R)`. Joining two labels unites the authors and intersects the readers, so a label only rises: more people
//! may have influenced it, fewer may read it. Lines 1 to 3 of the trust model; the gate computes labels, never a plugin
//! or a client.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ChannelRef, HostPattern, ProviderName, SkillName, ToolName, UserId};

/// More named authors than this, and [`Author::World`] is added: nobody vouches for a crowd.
pub const MAX_NAMED_AUTHORS: usize = 16;

/// Why a text is not an author or reader.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct ParseLabelError(&'static str);

/// Somebody who may have influenced a piece of content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Author {
    /// An owner of this Sigil.
    Owner(UserId),
    /// Another known person.
    Member(UserId),
    /// A tool.
    Tool(ToolName),
    /// A skill.
    Skill(SkillName),
    /// A model provider.
    Provider(ProviderName),
    /// Anybody at all.
    World,
}

/// The authors of a piece of content.
///
/// INVARIANT: more than [`MAX_NAMED_AUTHORS`] names imply [`Author::World`]. In comparisons `World` absorbs every name;
/// names are kept beside it to explain.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authors(BTreeSet<Author>);

impl Authors {
    /// Nobody: signed configuration.
    pub const NONE: Self = Self(BTreeSet::new());

    /// Anybody at all.
    #[must_use]
    pub fn world() -> Self {
        Self(BTreeSet::from([Author::World]))
    }

    /// One author.
    #[must_use]
    pub fn one(author: Author) -> Self {
        Self(BTreeSet::from([author]))
    }

    /// Whether anybody at all may have influenced it.
    #[must_use]
    pub fn has_world(&self) -> bool {
        self.0.contains(&Author::World)
    }

    /// Whether all of `self` are among `other`, where `World` stands for everybody.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        other.has_world() || self.0.is_subset(&other.0)
    }

    /// Both together.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.0.union(&other.0).cloned().collect()
    }

    /// The authors by name, `World` last.
    pub fn iter(&self) -> impl Iterator<Item = &Author> {
        self.0.iter()
    }
}

impl FromIterator<Author> for Authors {
    fn from_iter<I: IntoIterator<Item = Author>>(authors: I) -> Self {
        let mut set: BTreeSet<Author> = authors.into_iter().collect();
        if set.iter().filter(|author| **author != Author::World).count() > MAX_NAMED_AUTHORS {
            set.insert(Author::World);
        }
        Self(set)
    }
}

/// Somebody who can read a piece of content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reader {
    /// A person.
    User(UserId),
    /// The vendor behind a model provider: it reads every prompt.
    Provider(ProviderName),
    /// The platform behind a channel: it reads every message.
    Platform(ChannelRef),
    /// Whoever runs the hosts that match.
    Host(HostPattern),
}

/// The readers of a piece of content: everyone, or a finite set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Readers {
    /// Anybody may read it.
    Everyone,
    /// Only these may.
    Only(BTreeSet<Reader>),
}

impl Readers {
    /// Nobody.
    pub const NOBODY: Self = Self::Only(BTreeSet::new());

    /// Whether everybody in `self` is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Everyone) => true,
            (Self::Everyone, Self::Only(_)) => false,
            (Self::Only(mine), Self::Only(theirs)) => mine.is_subset(theirs),
        }
    }

    /// Those who are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Everyone, readers) | (readers, Self::Everyone) => readers.clone(),
            (Self::Only(mine), Self::Only(theirs)) => Self::Only(mine.intersection(theirs).cloned().collect()),
        }
    }

    /// Those who are in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Everyone, _) | (_, Self::Everyone) => Self::Everyone,
            (Self::Only(mine), Self::Only(theirs)) => Self::Only(mine.union(theirs).cloned().collect()),
        }
    }
}

impl FromIterator<Reader> for Readers {
    fn from_iter<I: IntoIterator<Item = Reader>>(readers: I) -> Self {
        Self::Only(readers.into_iter().collect())
    }
}

/// A label `L = (A, R)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Who may have influenced it.
    pub authors: Authors,
    /// Who may read it.
    pub readers: Readers,
}

impl Label {
    /// Signed system text: influenced by nobody, readable by everyone.
    #[must_use]
    pub const fn bottom() -> Self {
        Self { authors: Authors::NONE, readers: Readers::Everyone }
    }

    /// What is known of unlabelled content: influenced by anybody, readable by nobody.
    #[must_use]
    pub fn top() -> Self {
        Self { authors: Authors::world(), readers: Readers::NOBODY }
    }

    /// Content written by `author`, readable by everyone.
    #[must_use]
    pub fn by(author: Author) -> Self {
        Self { authors: Authors::one(author), readers: Readers::Everyone }
    }

    /// The least label that is at least both: authors united, readers intersected.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self { authors: self.authors.union(&other.authors), readers: self.readers.intersection(&other.readers) }
    }

    /// Whether `self` is at most `other`: `A1 ⊆ A2` and `R1 ⊇ R2`.
    #[must_use]
    pub fn is_at_most(&self, other: &Self) -> bool {
        self.authors.is_subset(&other.authors) && other.readers.is_subset(&self.readers)
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(user) => write!(f, "owner:{user}"),
            Self::Member(user) => write!(f, "member:{user}"),
            Self::Tool(tool) => write!(f, "tool:{tool}"),
            Self::Skill(skill) => write!(f, "skill:{skill}"),
            Self::Provider(provider) => write!(f, "provider:{provider}"),
            Self::World => f.write_str("world"),
        }
    }
}

impl FromStr for Author {
    type Err = ParseLabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: ParseLabelError =
            ParseLabelError("owner:NAME, member:NAME, tool:PLUGIN.TOOL, skill:NAME, provider:NAME or world");
        let parsed = match text.split_once(':') {
            None if text == "world" => Some(Self::World),
            Some(("owner", name)) => name.parse().ok().map(Self::Owner),
            Some(("member", name)) => name.parse().ok().map(Self::Member),
            Some(("tool", name)) => name.parse().ok().map(Self::Tool),
            Some(("skill", name)) => name.parse().ok().map(Self::Skill),
            Some(("provider", name)) => name.parse().ok().map(Self::Provider),
            _ => None,
        };
        parsed.ok_or(EXPECTED)
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user:{user}"),
            Self::Provider(provider) => write!(f, "provider:{provider}"),
            Self::Platform(channel) => write!(f, "platform:{channel}"),
            Self::Host(host) => write!(f, "host:{host}"),
        }
    }
}

impl FromStr for Reader {
    type Err = ParseLabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: ParseLabelError = ParseLabelError("user:NAME, provider:NAME, platform:NAME or host:PATTERN");
        let parsed = match text.split_once(':') {
            Some(("user", name)) => name.parse().ok().map(Self::User),
            Some(("provider", name)) => name.parse().ok().map(Self::Provider),
            Some(("platform", name)) => name.parse().ok().map(|name| Self::Platform(ChannelRef(name))),
            Some(("host", pattern)) => pattern.parse().ok().map(Self::Host),
            _ => None,
        };
        parsed.ok_or(EXPECTED)
    }
}

macro_rules! debug_as_display_with_serde {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
debug_as_display_with_serde!(Author, Reader);

impl Serialize for Authors {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'de> Deserialize<'de> for Authors {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Author>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// The wire form of [`Readers`]: the word `everyone`, or a list.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ReadersForm {
    Word(EveryoneWord),
    Only(BTreeSet<Reader>),
}

#[derive(Serialize, Deserialize)]
enum EveryoneWord {
    #[serde(rename = "everyone")]
    Everyone,
}

impl Serialize for Readers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Everyone => serializer.serialize_str("everyone"),
            Self::Only(readers) => serializer.collect_seq(readers),
        }
    }
}

impl<'de> Deserialize<'de> for Readers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match ReadersForm::deserialize(deserializer)? {
            ReadersForm::Word(EveryoneWord::Everyone) => Self::Everyone,
            ReadersForm::Only(readers) => Self::Only(readers),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn author() -> impl Strategy<Value = Author> {
        prop_oneof![
            1 => Just(Author::World),
            4 => "[a-d]".prop_map(|n| Author::Owner(n.parse().expect("a name"))),
            4 => "[a-z]".prop_map(|n| Author::Member(n.parse().expect("a name"))),
            2 => "[a-d]\\.[a-d]".prop_map(|n| Author::Tool(n.parse().expect("a tool"))),
        ]
    }

    fn label() -> impl Strategy<Value = Label> {
        let authors = prop::collection::vec(author(), 0..24).prop_map(Authors::from_iter);
        let reader = "[a-d]".prop_map(|n| Reader::User(n.parse().expect("a name")));
        let readers = prop_oneof![
            1 => Just(Readers::Everyone),
            3 => prop::collection::vec(reader, 0..4).prop_map(Readers::from_iter),
        ];
        (authors, readers).prop_map(|(authors, readers)| Label { authors, readers })
    }

    proptest! {
        #[test]
        fn join_is_associative_commutative_idempotent(a in label(), b in label(), c in label()) {
            prop_assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
            prop_assert_eq!(a.join(&b), b.join(&a));
            prop_assert_eq!(a.join(&a), a);
        }

        #[test]
        fn join_is_an_upper_bound_and_monotone(a in label(), b in label(), c in label()) {
            prop_assert!(a.is_at_most(&a.join(&b)));
            if a.is_at_most(&b) {
                prop_assert!(a.join(&c).is_at_most(&b.join(&c)));
            }
        }

        #[test]
        fn the_order_is_reflexive_and_transitive(a in label(), b in label(), c in label()) {
            prop_assert!(a.is_at_most(&a));
            if a.is_at_most(&b) && b.is_at_most(&c) {
                prop_assert!(a.is_at_most(&c));
            }
        }

        #[test]
        fn bottom_and_top_bound_every_label(a in label()) {
            prop_assert!(Label::bottom().is_at_most(&a));
            prop_assert!(a.is_at_most(&Label::top()));
            prop_assert_eq!(a.join(&Label::bottom()), a);
        }

        #[test]
        fn a_label_survives_its_json(a in label()) {
            let json = serde_json::to_string(&a).expect("serialises");
            prop_assert_eq!(serde_json::from_str::<Label>(&json).expect("reads back"), a);
        }
    }

    #[test]
    fn a_crowd_is_the_world() {
        let crowd: Authors =
            (0..=MAX_NAMED_AUTHORS).map(|n| Author::Member(format!("m{n}").parse().expect("a name"))).collect();
        assert!(crowd.has_world());
    }
}
