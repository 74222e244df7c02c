//! How a turn's events are shown as they come.

use sigil_types::{Code, Outcome as Ended, TurnEvent, VerdictKind};

use super::exit::Exit;
use super::output::{Output, Paint};
use super::safe;

/// Shows events. Model text goes to standard output, everything about it to standard error.
#[derive(Debug)]
pub(super) struct Transcript<'a> {
    output: &'a Output,
    /// Whether the last thing written was model text without a line break.
    open: bool,
    /// Whether people read the model's text where they read everything else.
    together: bool,
}

impl<'a> Transcript<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        Self { output, open: false, together: std::io::IsTerminal::is_terminal(&std::io::stdout()) }
    }

    /// Ends a line of model text, so that something else can be written.
    pub(super) fn close(&mut self) {
        if self.open {
            self.output.piece("\n");
            self.open = false;
        }
    }

    fn aside(&mut self, paint: Paint, text: &str) {
        // A pipe gets the model's text as it came; only a terminal needs a line to itself.
        if self.together {
            self.close();
        }
        self.output.note(self.output.paint_error(paint, text));
    }

    /// Shows one event; the end of the turn gives the exit code.
    pub(super) fn show(&mut self, event: &TurnEvent) -> Option<Exit> {
        match event {
            TurnEvent::Accepted { turn, session } if self.output.verbose > 0 => {
                self.aside(Paint::Dim, &format!("  turn {turn} in session {session}"));
            }
            TurnEvent::Text { delta } => {
                let text = safe::block(delta);
                self.open = !text.ends_with('\n') && (self.open || !text.is_empty());
                self.output.piece(&text);
            }
            TurnEvent::Verdict { hop, verdict, receipt, rules } => {
                let rules = list(rules);
                match verdict {
                    VerdictKind::Refused => self.aside(Paint::Red, &format!("  ✗ refused {hop}: {rules} ({receipt})")),
                    VerdictKind::Held => self.aside(Paint::Yellow, &format!("  … held {hop}: {rules} ({receipt})")),
                    VerdictKind::Cleared if !rules.is_empty() => {
                        self.aside(Paint::Yellow, &format!("  ! flagged {hop}: {rules} ({receipt})"));
                    }
                    VerdictKind::Cleared if self.output.verbose > 0 => {
                        self.aside(Paint::Dim, &format!("  ✓ cleared {hop} ({receipt})"));
                    }
                    VerdictKind::Cleared => {}
                }
            }
            TurnEvent::ToolCall { tool, arguments, receipt, .. } => {
                let arguments = arguments.as_deref().map(|text| safe::cut(&safe::line(text), 160)).unwrap_or_default();
                self.aside(Paint::Cyan, &format!("  → {tool} {arguments} ({receipt})"));
            }
            TurnEvent::ToolResult { tool, ok, bytes, rules, .. } => {
                let rules = if rules.is_empty() { String::new() } else { format!(", flagged: {}", list(rules)) };
                let (paint, mark) = if *ok { (Paint::Dim, "←") } else { (Paint::Yellow, "← failed:") };
                self.aside(paint, &format!("  {mark} {tool}, {bytes} bytes{rules}"));
            }
            TurnEvent::ApprovalRequested { approval, summary, authors, expires } => {
                let (summary, authors) = (safe::line(summary), safe::line(&authors.join(", ")));
                self.aside(
                    Paint::Yellow,
                    &format!("  ? {approval}: {summary} (influenced by {authors}; until {expires})"),
                );
            }
            TurnEvent::ApprovalResolved { approval, approved } => {
                let word = if *approved { "allowed" } else { "denied" };
                self.aside(Paint::Yellow, &format!("  ? {approval} {word}"));
            }
            TurnEvent::Usage(usage) if self.output.verbose > 0 => {
                self.aside(Paint::Dim, &format!("  {} tokens in, {} out", usage.input_tokens, usage.output_tokens));
            }
            TurnEvent::Finished { outcome, code, message } => {
                return Some(self.finish(*outcome, code.as_ref(), message.as_deref()));
            }
            _ => {}
        }
        None
    }

    /// The exit code for how a turn ended.
    pub(super) const fn exit(outcome: Ended) -> Exit {
        match outcome {
            Ended::Completed => Exit::Ok,
            Ended::Refused => Exit::Denied,
            Ended::Stopped | Ended::Interrupted | Ended::Failed => Exit::Failed,
        }
    }

    fn finish(&mut self, outcome: Ended, code: Option<&Code>, message: Option<&str>) -> Exit {
        self.close();
        let exit = Self::exit(outcome);
        let word = match outcome {
            Ended::Completed => return exit,
            Ended::Refused => "refused",
            Ended::Stopped => "stopped",
            Ended::Interrupted => "interrupted",
            Ended::Failed => "failed",
        };
        let code = code.map(|code| format!("[{code}]")).unwrap_or_default();
        let message = message.map(|text| format!(": {}", safe::line(text))).unwrap_or_default();
        self.output.error_line(format!("{}{message}", self.output.paint_error(Paint::Red, &format!("{word}{code}"))));
        exit
    }
}

fn list(rules: &[Code]) -> String {
    rules.iter().map(Code::as_str).collect::<Vec<_>>().join(", ")
}
