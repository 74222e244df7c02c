//! Section `agent`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits of the agent's turns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentSettings {
    /// Messages of a session that a model is shown, newest last.
    #[schemars(range(min = 1, max = 1000))]
    pub window: usize,
    /// Rounds of tool calls in one turn. When they are used up, the turn ends with an error.
    #[schemars(range(min = 0, max = 100))]
    pub tool_iterations: u32,
    /// Longest turn, in milliseconds, without the time that it waits for a human.
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub turn_timeout_ms: u64,
    /// Longest call of one tool, in milliseconds.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub tool_timeout_ms: u64,
    /// Time after which an unanswered approval counts as denied, in milliseconds.
    #[schemars(range(min = 1000, max = 604_800_000))]
    pub approval_timeout_ms: u64,
    /// Largest tool result that is read, in bytes; the rest is cut off and said to be.
    #[schemars(range(min = 1024, max = 16_777_216))]
    pub tool_result_bytes: usize,
    /// Tokens that a model may answer with in one call.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_output_tokens: u32,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            window: 20,
            tool_iterations: 5,
            turn_timeout_ms: 600_000,
            tool_timeout_ms: 60_000,
            approval_timeout_ms: 3_600_000,
            tool_result_bytes: 256 * 1024,
            max_output_tokens: 4096,
        }
    }
}
