//! [`Refused`]: why something did not go through, as data. Words are made of it in one place, for the owner only.

use sigil_types::{Code, EventId, Hop};

use crate::gate::Case;

/// The one text that a model or a plugin is told about a refusal. It never varies, so it carries nothing.
pub const REFUSAL_FOR_MODELS: &str = "Sigil refused this. The owner can see why; do not try again.";

/// The one text that stands in a prompt for a tool result that was withheld.
pub const WITHHELD_RESULT: &str = "[Sigil withheld this tool result.]";

/// The gate's refusal. The reasons are for the owner; models and plugins get [`REFUSAL_FOR_MODELS`].
#[derive(Debug, Clone)]
pub struct Refused {
    /// What was refused, stable: `gate.scan.blocked`, `gate.policy.denied`, `gate.budget.exceeded`, …
    pub code: Code,
    /// On which way out.
    pub hop: Hop,
    /// The rules that decided, strongest first.
    pub rules: Vec<Code>,
    /// One sentence for the owner: why.
    pub why: String,
    /// One sentence for the owner: what to do.
    pub fix: String,
    /// The audit entry; absent only when the audit log itself could not be written.
    pub receipt: Option<EventId>,
}

/// Why a human is asked, for the owner.
pub(crate) fn why_asked(case: &Case<'_>) -> String {
    let who: Vec<String> = case.untrusted.iter().map(ToString::to_string).collect();
    if !case.integrity {
        return format!(
            "This conversation has taken in text by {}, who may not cause this by themselves.",
            who.join(", ")
        );
    }
    if !case.flow {
        return "This would show something to people who may not read all of what this conversation has read."
            .to_owned();
    }
    "A rule of the signed policy wants a human to decide.".to_owned()
}

/// Why it was refused, and what to do, for the owner.
pub(crate) fn explain(case: &Case<'_>, code: &Code, rules: &[Code]) -> (String, String) {
    let named = || rules.iter().map(Code::as_str).collect::<Vec<_>>().join(", ");
    let why = match code.as_str() {
        "gate.scan.blocked" => format!("The scanner found: {}.", named()),
        "gate.label.forbidden" => why_asked(case),
        "policy.bundle.expired" => "The signed policy has expired.".to_owned(),
        "gate.approval.denied" => "The answer was no.".to_owned(),
        "gate.approval.stale" => "The answer came too late, or something changed after it was asked.".to_owned(),
        _ if rules.is_empty() => format!("Nothing in the signed policy allows {} for this.", case.sink.destination),
        _ => format!("The signed policy forbids it: {}.", named()),
    };
    let fix = match code.area() {
        "policy" if code.as_str() == "policy.bundle.expired" => {
            "Sign it again: `sigil policy sign`, then restart Sigil."
        }
        "gate" if code.as_str() == "gate.scan.blocked" => {
            "Say it without that text; `sigil explain RULE` tells what a rule looks for."
        }
        "gate" if code.as_str().starts_with("gate.approval") => "Ask again; approvals stand in `sigil approvals`.",
        _ => {
            "`sigil policy show` lists what is allowed; changing it needs the owner's signature (`sigil policy sign`)."
        }
    };
    (why, fix.to_owned())
}
