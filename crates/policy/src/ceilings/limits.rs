//! Numbers: what a program in the sandbox and what a session may use.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much of the sandbox must be there, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Posture {
    /// Landlock and seccomp, without user namespaces.
    Reduced,
    /// Namespaces, Landlock 3 or later, and seccomp.
    Standard,
    /// Standard, with control group limits and Landlock 6 or later.
    Strict,
}

impl Posture {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reduced => "reduced",
            Self::Standard => "standard",
            Self::Strict => "strict",
        }
    }
}

impl fmt::Display for Posture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What one sandboxed program may use at most. A manifest may ask for less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxLimits {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Open files.
    pub open_files: u64,
    /// Size of one file that it writes, in bytes.
    pub file_bytes: u64,
    /// Size of its private temporary folder, in bytes.
    pub tmp_bytes: u64,
    /// Processor time over its whole life, in seconds; zero for no limit.
    pub cpu_seconds: u64,
    /// Hundredths of one processor.
    pub cpu_percent: u64,
    /// Time for one tool call, in seconds.
    pub call_seconds: u64,
}

/// What a session may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// Tokens, prompt and answer, of one turn.
    pub tokens_per_turn: u64,
    /// Tokens of one session.
    pub tokens_per_session: u64,
    /// Tokens of all sessions of a workspace in a day (UTC).
    pub tokens_per_day: u64,
    /// Model calls of one turn: the first, and one after each round of tool calls.
    pub model_calls_per_turn: u32,
    /// Tool calls of one turn.
    pub tool_calls_per_turn: u32,
    /// Questions to a human in one turn.
    pub asks_per_turn: u32,
    /// Time for one turn, in seconds, without the time that a human takes to answer.
    pub turn_seconds: u64,
    /// Size of a tool's result before it is cut, in bytes.
    pub tool_result_bytes: u64,
}
