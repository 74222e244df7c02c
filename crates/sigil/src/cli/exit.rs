//! Exit codes. A small, stable contract.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Policy, the scanner or a person said no.
    Denied = 3,
    /// No credential that counts.
    Unauthenticated = 4,
    /// There is no such thing.
    NotFound = 5,
    /// It is in another state than was expected.
    Conflict = 6,
    /// The gateway does not answer.
    GatewayDown = 7,
    /// Finished, and there are findings.
    Findings = 8,
    /// Something signed or hashed does not hold.
    Integrity = 9,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The exit code for a problem that the gateway answered.
    pub(crate) fn of_problem(status: u16, code: &str) -> Self {
        match status {
            401 => Self::Unauthenticated,
            403 if code.starts_with("server.auth.") => Self::Unauthenticated,
            403 => Self::Denied,
            404 => Self::NotFound,
            409 | 412 => Self::Conflict,
            _ => Self::Failed,
        }
    }

    /// The exit code that belongs to an error code, where the code's meaning decides it.
    pub(crate) fn of_code(code: &str) -> Self {
        const INTEGRITY: &[&str] =
            &["policy.bundle.", "policy.envelope.", "policy.trust.", "audit.entry.read.damaged", "host.store.tree."];
        if INTEGRITY.iter().any(|prefix| code.starts_with(prefix)) { Self::Integrity } else { Self::Failed }
    }
}
