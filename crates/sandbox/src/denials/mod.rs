//! What a program was refused, counted and explained, with the narrowest grant that would change it.
//!
//! Three sources. **Calls** that the system call filter refuses come from its listener: number and arguments are the
//! kernel's own word. **Files** come from the kernel's audit records where there are any, or in learn mode from watching
//! where a program looks: a path is then what its memory said at that moment, which it may change, so it is a *hint* and
//! decides nothing. **Hosts** come from the egress proxy, which has refused them itself.
//!
//! Everything is bounded: at most [`MOST`] different things for a program, each with a count; what goes beyond is counted
//! together. Nothing here allows anything, now or later: a proposal is text for a person.

mod calls;
mod explain;
pub mod learn;
mod ledger;
mod looks;
mod proposal;
mod recorder;
pub mod records;

use serde::{Deserialize, Serialize};
use sigil_types::Timestamp;

pub use calls::Telling;
pub use explain::{Denial, Evidence, HostRefused, Subject, explain};
pub use ledger::{Ledger, MOST};
pub use looks::RuleSet;
pub use proposal::{Proposal, flags, least, manifest, policy, quoted};
pub use recorder::Recorder;

/// One thing that was refused, as often as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sighting {
    /// What.
    pub what: Sight,
    /// How often.
    pub count: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sight {
    /// The system call filter refused a call.
    Call {
        /// The name of the call, or its number when it has no name here.
        call: String,
        /// The arguments that its rules look at, and 0 for the others: six numbers.
        args: [u64; 6],
        /// What it failed with (errno(3)).
        errno: u32,
        /// The path that it named, as its memory said: a hint.
        path: Option<String>,
    },
    /// The program looked for a file that is there and that its rules do not cover: a hint.
    File {
        /// Where it looked, with links resolved.
        path: String,
        /// For what.
        need: Need,
    },
    /// The program tried to connect by itself, past the proxy: a hint.
    Connection {
        /// The address.
        to: String,
    },
    /// The kernel's audit record of an access that Landlock refused.
    Audited {
        /// What refused it, such as `fs.read_file`.
        blockers: String,
        /// The path, where the record has one.
        path: Option<String>,
    },
}

/// What a program wants of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// To know whether it is there.
    Look,
    /// To read or list it.
    Read,
    /// To execute it.
    Execute,
    /// To write, make, rename or remove it.
    Write,
}
