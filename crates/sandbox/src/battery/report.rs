//! What the battery says.

use serde::{Deserialize, Serialize};

use crate::profile::Layer;

/// What a run of the battery says. Nothing is `open` on a host that Sigil calls safe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatteryReport {
    /// How many different attempts were made.
    pub attempts: usize,
    /// How many of them were held under every profile.
    pub held: usize,
    /// How often an act that is granted was made and worked: a sandbox in which nothing works holds everything.
    pub granted: usize,
    /// The ones that get through under a profile where that is known and accepted, and why.
    pub accepted: Vec<Accepted>,
    /// The ones that got out: `fs.07 (native)`. Also what could not be judged, marks outside that changed, and acts that are
    /// granted and did not work.
    pub open: Vec<String>,
    /// Marks outside that changed, for the person who looks for the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Every attempt under every profile.
    pub rows: Vec<Row>,
}

/// An attempt that gets through under some profile, and why that is accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The attempt.
    pub id: String,
    /// The profile.
    pub profile: String,
    /// Why.
    pub why: String,
}

/// One attempt under one profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The attempt.
    pub id: String,
    /// Its group.
    pub group: String,
    /// What was tried.
    pub what: String,
    /// The profile: `native`, `native+proxy`, `shell+proxy`.
    pub profile: String,
    /// How it went.
    pub status: Status,
    /// What stopped it, or what it got: `EACCES`, `SIGSYS`, `nothing there`.
    pub outcome: String,
    /// The layers that stop it.
    pub layers: Vec<Layer>,
}

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was stopped, by one of the errors that count.
    Held,
    /// It got through, which is known and accepted under this profile.
    Accepted,
    /// It got out.
    Open,
    /// It could not be judged: it was not made, or was stopped by something else than what should stop it.
    Unclear,
}

impl BatteryReport {
    /// Sums the rows up.
    pub(super) fn of(rows: Vec<Row>, accepted: Vec<Accepted>, changed: Vec<String>) -> Self {
        let mut ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let always = |id: &&&str| rows.iter().filter(|row| row.id == **id).all(|row| row.status == Status::Held);
        let held = ids.iter().filter(always).count();
        let bad = |row: &&Row| matches!(row.status, Status::Open | Status::Unclear);
        let open = rows.iter().filter(bad).map(|row| format!("{} ({})", row.id, row.profile));
        let open: Vec<String> = open.chain(changed.iter().map(|mark| format!("mark: {mark}"))).collect();
        Self { attempts: ids.len(), held, granted: 0, accepted, open, changed, rows }
    }
}
