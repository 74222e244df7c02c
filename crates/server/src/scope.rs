//! [`Scope`]: what a credential may be used for.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope of that name; there are: {}", Scope::ALL.map(Scope::as_str).join(", "))]
pub struct ParseScope;

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $owner_only:literal;)+) => {
        /// What a credential may be used for: `area:verb`. Unknown scopes grant nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Scope { $($(#[$doc])* $name),+ }

        impl Scope {
            /// All of them.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$name),+];

            /// The scope as text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }

            /// Whether it counts for owners only, whatever a token says.
            #[must_use]
            pub const fn is_owner_only(self) -> bool {
                match self { $(Self::$name => $owner_only),+ }
            }
        }

        impl FromStr for Scope {
            type Err = ParseScope;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text { $($word => Ok(Self::$name),)+ _ => Err(ParseScope) }
            }
        }
    };
}

scopes! {
    /// See state and health.
    StatusRead = "status:read", false;
    /// Read metrics.
    MetricsRead = "metrics:read", true;
    /// See sessions and their transcripts.
    SessionsRead = "sessions:read", false;
    /// Begin sessions.
    SessionsWrite = "sessions:write", false;
    /// Watch turns.
    TurnsRead = "turns:read", false;
    /// Send messages.
    TurnsWrite = "turns:write", false;
    /// See questions that wait for a human.
    ApprovalsRead = "approvals:read", true;
    /// Answer them.
    ApprovalsDecide = "approvals:decide", true;
    /// Read the audit log.
    AuditRead = "audit:read", true;
    /// See plugins and their sandboxes.
    AdminPlugins = "admin:plugins", true;
    /// Read the signed policy.
    PolicyRead = "policy:read", true;
    /// See the sandbox's state.
    SandboxRead = "sandbox:read", true;
    /// Try the scanner.
    ScanRun = "scan:run", false;
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_read_back() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert_eq!("*".parse::<Scope>(), Err(ParseScope));
    }
}
