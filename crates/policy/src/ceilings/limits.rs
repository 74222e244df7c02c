//! Numbers: what a program in the sandbox and what a session may use.

use std::fmt;
use std::time::Duration;

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
    /// How long it may live, in seconds; zero for no limit.
    #[serde(default)]
    pub wall_seconds: u64,
    /// How much the folders that it may write may grow while it lives, all together, in bytes.
    #[serde(default = "disk_bytes")]
    pub disk_bytes: u64,
    /// Time for one tool call, in seconds.
    pub call_seconds: u64,
    /// What it may use of the network, where it may reach hosts at all.
    #[serde(default)]
    pub network: NetworkLimits,
}

/// What one sandboxed program may use of the network, through the egress proxy. Each number is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkLimits {
    /// Connections at the same time.
    pub connections: u32,
    /// Connections in a second, over time; ten times as many at once. Each served one is two audit entries.
    pub connections_per_second: u32,
    /// Bytes from the program in one connection.
    pub up_bytes: u64,
    /// Bytes to the program in one connection.
    pub down_bytes: u64,
    /// Bytes from the program over all its connections, which come back evenly over a day.
    pub up_bytes_per_day: u64,
    /// Bytes to the program over all its connections, which come back evenly over a day.
    pub down_bytes_per_day: u64,
    /// Bytes in a second over all its connections, in each direction. More are not lost: they wait.
    pub bytes_per_second: u64,
    /// How long a connection may be without a byte in either direction.
    #[serde(rename = "idle_seconds", with = "seconds")]
    pub idle: Duration,
    /// How long a connection may last.
    #[serde(rename = "total_seconds", with = "seconds")]
    pub total: Duration,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            connections_per_second: 20,
            up_bytes: 256 << 20,
            down_bytes: 1 << 30,
            up_bytes_per_day: 2 << 30,
            down_bytes_per_day: 16 << 30,
            bytes_per_second: 128 << 20,
            idle: Duration::from_secs(120),
            total: Duration::from_secs(3600),
        }
    }
}

impl NetworkLimits {
    /// Whether no number is zero, which would say nothing that leaving the hosts out does not say.
    pub(crate) fn is_usable(&self) -> bool {
        self.connections > 0
            && self.connections_per_second > 0
            && [self.up_bytes, self.down_bytes, self.up_bytes_per_day, self.down_bytes_per_day, self.bytes_per_second]
                .iter()
                .all(|bytes| *bytes > 0)
            && !self.idle.is_zero()
            && !self.total.is_zero()
    }
}

mod seconds {
    //! A duration as whole seconds.

    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(duration.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }
}

/// For a policy that was signed before the limit existed: 1 GiB.
const fn disk_bytes() -> u64 {
    1 << 30
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
