//! How denials and proposals are shown.

use sigil_sandbox::denials::{Denial, Evidence, Proposal, flags};

use super::output::{Output, Paint, word};
use super::safe;

/// Writes `denials` for a person: each with its reason, its count, and what would change it. To standard error with
/// `aside`, where standard output belongs to a command.
pub(super) fn show(output: &Output, denials: &[Denial], aside: bool) {
    let line = |text: String| if aside { output.error_line(text) } else { output.line(text) };
    let paint = |paint, text: &str| if aside { output.paint_error(paint, text) } else { output.paint(paint, text) };
    for denial in denials {
        let times = if denial.count == 1 { "once".to_owned() } else { format!("{} times", denial.count) };
        let mark = match denial.evidence {
            Evidence::Exact => "",
            Evidence::Hint => " (hint: the program's own word, matched with the rules)",
        };
        line(format!("{}  {times}{mark}", paint(Paint::Bold, &safe::line(&denial.what))));
        line(format!("    why   {}: {}", word(denial.layer), safe::line(&denial.why)));
        match (&denial.proposal, &denial.never) {
            (Some(proposal), _) => {
                let options = safe::line(&flags([proposal]).join(" "));
                line(format!("    grant {}   {}", paint(Paint::Green, &safe::line(&proposal.to_string())), options));
            }
            (None, Some(never)) => line(format!("    grant none: {}", safe::line(never))),
            (None, None) => {}
        }
    }
}

/// The different proposals of `denials`, in their order.
pub(super) fn proposals(denials: &[Denial]) -> Vec<Proposal> {
    let mut found: Vec<Proposal> = Vec::new();
    for proposal in denials.iter().filter_map(|denial| denial.proposal.as_ref()) {
        if !found.contains(proposal) {
            found.push(proposal.clone());
        }
    }
    found
}
