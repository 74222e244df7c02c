//! `sigil sandbox denials PLUGIN`, and how denials are shown.

use sigil_sandbox::denials::{Denial, Evidence, Proposal, flags};
use sigil_server::api;
use sigil_types::PluginName;

use super::client::{Client, runtime};
use super::complaint::Outcome;
use super::context::Context;
use super::exit::Exit;
use super::output::{Output, Paint, word};
use super::safe;

/// Shows what a plugin of the running gateway was refused.
pub(super) fn run(context: &Context, plugin: &PluginName) -> Outcome {
    let client = Client::new(&context.resolved()?.folders.socket);
    let denials: api::Denials = runtime()?.block_on(client.get(&format!("/api/v1/plugins/{plugin}/denials")))?;
    let output = &context.output;
    if output.json {
        output.document(&denials);
        return Ok(Exit::Ok);
    }
    if denials.items.is_empty() {
        output.line(
            "Nothing was refused so far: the plugin made no system call and asked for no host beyond its rights.",
        );
    }
    for denial in &denials.items {
        let row = Row {
            what: &denial.what,
            why: &format!("{}: {}", denial.layer, denial.why),
            count: denial.count,
            last: Some(denial.last.to_string()),
            hint: denial.evidence == "hint",
            grant: denial.proposal.as_ref().map(|proposal| (proposal.words.as_str(), "")),
            never: denial.never.as_deref(),
        };
        row.show(output, false);
    }
    if denials.not_kept > 0 {
        output.line(format!("{} more were only counted: there were too many kinds", denials.not_kept));
    }
    for (text, place) in [(&denials.manifest, "plugin.yaml"), (&denials.policy, "ceilings.toml, to be signed")] {
        if let Some(text) = text {
            output.line(output.paint(Paint::Bold, &format!("The least that would change it, in {place}:")));
            output.piece(&safe::block(text));
        }
    }
    denials.gaps.iter().for_each(|gap| output.note(format!("not recorded: {}", safe::line(gap))));
    Ok(Exit::Ok)
}

/// One denial, as it is shown.
struct Row<'a> {
    what: &'a str,
    why: &'a str,
    count: u64,
    last: Option<String>,
    hint: bool,
    /// In words, and as it is typed.
    grant: Option<(&'a str, &'a str)>,
    never: Option<&'a str>,
}

impl Row<'_> {
    fn show(&self, output: &Output, aside: bool) {
        let line = |text: String| if aside { output.error_line(text) } else { output.line(text) };
        let paint = |paint, text: &str| if aside { output.paint_error(paint, text) } else { output.paint(paint, text) };
        let times = if self.count == 1 { "once".to_owned() } else { format!("{} times", self.count) };
        let last = self.last.as_ref().map(|last| format!(", last {last}")).unwrap_or_default();
        let mark = if self.hint { " (hint: the program's own word, matched with the rules)" } else { "" };
        line(format!("{}  {times}{last}{mark}", paint(Paint::Bold, &safe::line(self.what))));
        line(format!("    why   {}", safe::line(self.why)));
        match (self.grant, self.never) {
            (Some((words, typed)), _) => {
                let words = paint(Paint::Green, &safe::line(words));
                line(format!("    grant {words}   {}", safe::line(typed)).trim_end().to_owned());
            }
            (None, Some(never)) => line(format!("    grant none: {}", safe::line(never))),
            (None, None) => {}
        }
    }
}

/// Writes `denials` of a command for a person, to standard error: standard output belongs to the command.
pub(super) fn show(output: &Output, denials: &[Denial]) {
    for denial in denials {
        let grant = denial.proposal.as_ref().map(|proposal| (proposal.to_string(), flags([proposal]).join(" ")));
        let row = Row {
            what: &denial.what,
            why: &format!("{}: {}", word(denial.layer), denial.why),
            count: denial.count,
            last: None,
            hint: denial.evidence == Evidence::Hint,
            grant: grant.as_ref().map(|(words, typed)| (words.as_str(), typed.as_str())),
            never: denial.never.as_deref(),
        };
        row.show(output, true);
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
