//! Between rows and domain types: text forms out, checked parses in.

use std::fmt::Display;
use std::str::FromStr;

use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sigil_types::{Principal, Timestamp, Untrusted};

use super::database::OpResult;
use crate::failed::StoreFailed;

/// Reads columns of a row by name; `what` names the kind of row where one does not read.
pub(crate) struct Columns<'r, 's> {
    pub(crate) row: &'r Row<'s>,
    pub(crate) what: &'static str,
}

impl Columns<'_, '_> {
    fn damaged(&self, column: &str, reason: impl Display) -> StoreFailed {
        StoreFailed::Damaged { what: self.what, reason: format!("column `{column}`: {reason}") }
    }

    pub(crate) fn string(&self, column: &str) -> OpResult<String> {
        Ok(self.row.get(column)?)
    }

    pub(crate) fn flag(&self, column: &str) -> OpResult<bool> {
        Ok(self.row.get(column)?)
    }

    /// A type that is written as its text.
    pub(crate) fn text<T: FromStr<Err: Display>>(&self, column: &str) -> OpResult<T> {
        let text: String = self.row.get(column)?;
        Ok(text.parse().map_err(|error| self.damaged(column, error))?)
    }

    /// The same, where it may be absent.
    pub(crate) fn text_or_none<T: FromStr<Err: Display>>(&self, column: &str) -> OpResult<Option<T>> {
        let text: Option<String> = self.row.get(column)?;
        Ok(text.map(|text| text.parse().map_err(|error| self.damaged(column, error))).transpose()?)
    }

    /// A type that is written as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> OpResult<T> {
        let text: String = self.row.get(column)?;
        Ok(serde_json::from_str(&text).map_err(|error| self.damaged(column, error))?)
    }

    /// An enum of unit variants, which is written as its word.
    pub(crate) fn word<T: DeserializeOwned>(&self, column: &str) -> OpResult<T> {
        let word: String = self.row.get(column)?;
        Ok(serde_json::from_value(word.into()).map_err(|error| self.damaged(column, error))?)
    }

    /// The same, where it may be absent.
    pub(crate) fn word_or_none<T: DeserializeOwned>(&self, column: &str) -> OpResult<Option<T>> {
        let word: Option<String> = self.row.get(column)?;
        Ok(word
            .map(|word| serde_json::from_value(word.into()).map_err(|error| self.damaged(column, error)))
            .transpose()?)
    }

    pub(crate) fn number(&self, column: &str) -> OpResult<u64> {
        let number: i64 = self.row.get(column)?;
        Ok(u64::try_from(number).map_err(|error| self.damaged(column, error))?)
    }

    pub(crate) fn time(&self, column: &str) -> OpResult<Timestamp> {
        self.number(column).map(Timestamp::from_millis)
    }

    pub(crate) fn time_or_none(&self, column: &str) -> OpResult<Option<Timestamp>> {
        let present: Option<i64> = self.row.get(column)?;
        present.map(|_| self.time(column)).transpose()
    }

    /// The columns `user` and `role`.
    pub(crate) fn principal(&self) -> OpResult<Principal> {
        Ok(Principal { user: self.text("user")?, role: self.word("role")? })
    }

    /// The columns `origin` and `content`.
    pub(crate) fn content(&self) -> OpResult<Untrusted<String>> {
        Ok(Untrusted::new(self.word("origin")?, self.row.get("content")?))
    }
}

/// A time as SQLite holds it.
pub(crate) fn time(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

/// A count as SQLite holds it.
pub(crate) fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A type as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> OpResult<String> {
    let damaged = |error: serde_json::Error| StoreFailed::Damaged { what: "value", reason: error.to_string() };
    Ok(serde_json::to_string(value).map_err(damaged)?)
}

/// An enum of unit variants as its word.
pub(crate) fn word<T: Serialize>(value: &T) -> OpResult<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(StoreFailed::Damaged { what: "value", reason: "it has no word".to_owned() }.into()),
    }
}
