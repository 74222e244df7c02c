//! [`Complaint`]: the one form in which every error is shown.
//!
//! ```text
//! error[policy.bundle.expired]: the signed policy ended on 2026-11-02
//!   why: …
//!   fix: sigil policy sign
//!   see: sigil explain policy.bundle.expired
//! ```

use std::fmt::Display;
use std::ops::Deref;

use serde_json::json;
use sigil_server::{Fix, Problem};
use sigil_types::Code;

use super::codes;
use super::exit::Exit;
use super::output::{Output, Paint};
use super::safe;

/// The longest first line, in columns.
const WIDTH: usize = 100;

/// Something that went wrong, small enough to be the error of every function.
#[derive(Clone, Debug)]
pub(crate) struct Complaint(Box<Said>);

impl Deref for Complaint {
    type Target = Said;

    fn deref(&self) -> &Said {
        &self.0
    }
}

/// What went wrong, why, and what to do.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// Stable code.
    pub(crate) code: Code,
    /// How the program ends.
    pub(crate) exit: Exit,
    /// What, in one sentence.
    pub(crate) what: String,
    /// Why.
    pub(crate) why: Vec<String>,
    /// What to do.
    pub(crate) fix: Vec<Fix>,
    /// Where more is to be found, besides the code.
    pub(crate) see: Vec<String>,
}

/// What a command answers.
pub(crate) type Outcome = Result<Exit, Complaint>;

impl Complaint {
    /// A complaint whose reason and remedy are those of its code, until others are given.
    pub(crate) fn new(code: Code, what: impl Display) -> Self {
        let exit = Exit::of_code(code.as_str());
        Self(Box::new(Said { code, exit, what: what.to_string(), why: Vec::new(), fix: Vec::new(), see: Vec::new() }))
    }

    /// Whether the gateway was reached, and the connection broke off before it had answered.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.code.as_str() == "cli.gateway.connection.lost"
    }

    /// The complaint on one line: what, why, and how to read more.
    pub(crate) fn line(&self) -> String {
        let why = self.0.why.iter().map(|why| format!("; {why}")).collect::<String>();
        safe::line(&format!("{}{why} (sigil explain {})", self.0.what, self.0.code))
    }

    /// The same with this exit code.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.0.exit = exit;
        self
    }

    /// The same with a reason more.
    pub(crate) fn why(mut self, why: impl Display) -> Self {
        self.0.why.push(why.to_string());
        self
    }

    /// The same with a remedy more.
    pub(crate) fn fix(mut self, label: impl Display, cli: Option<&str>) -> Self {
        self.0.fix.push(Fix { label: label.to_string(), cli: cli.map(str::to_owned) });
        self
    }

    /// Writes it: for people, or as a problem document.
    pub(crate) fn show(&self, output: &Output) {
        if output.json {
            output.error_line(self.document().to_string());
            return;
        }
        let known = codes::find(&self.code);
        let label = output.paint_error(Paint::Red, &format!("error[{}]", self.code));
        let room = WIDTH.saturating_sub(format!("error[{}]: ", self.code).chars().count());
        let what = safe::block(&self.what);
        let mut lines = what.lines();
        let first = lines.next().unwrap_or_default();
        output.error_line(format!("{label}: {}", safe::cut(first, room)));
        if first.chars().count() > room {
            output.error_line(format!("       {first}"));
        }
        lines.for_each(|line| output.error_line(format!("       {line}")));
        for why in self
            .why
            .iter()
            .map(String::as_str)
            .chain(known.filter(|_| self.why.is_empty()).map(|entry| entry.why.as_str()))
        {
            output.error_line(format!("  {} {}", output.paint_error(Paint::Bold, "why:"), safe::line(why)));
        }
        let fixes = self.fix.iter().map(|fix| match &fix.cli {
            Some(cli) => format!("{}  # {}", output.paint_error(Paint::Cyan, cli), safe::line(&fix.label)),
            None => safe::line(&fix.label),
        });
        for fix in fixes.chain(known.filter(|_| self.fix.is_empty()).map(|entry| entry.fix.clone())) {
            output.error_line(format!("  {} {fix}", output.paint_error(Paint::Bold, "fix:")));
        }
        let see =
            std::iter::once(format!("sigil explain {}", self.code)).chain(self.see.iter().map(|see| safe::line(see)));
        let see = see.collect::<Vec<_>>().join("  ·  ");
        output.error_line(format!("  {} {see}", output.paint_error(Paint::Dim, "see:")));
    }

    fn document(&self) -> serde_json::Value {
        let known = codes::find(&self.code);
        let why = match (self.why.is_empty(), known) {
            (true, Some(entry)) => entry.why.clone(),
            _ => self.why.join(" "),
        };
        json!({
            "type": format!("urn:sigil:{}", self.code), "title": self.what, "detail": format!("{} {why}", self.what).trim(),
            "code": self.code, "why": why, "fix": self.fix, "see": self.see, "exit": self.exit as u8,
        })
    }
}

impl From<Problem> for Complaint {
    fn from(problem: Problem) -> Self {
        let mut see: Vec<String> = problem.request_id.iter().map(|id| format!("request {id}")).collect();
        see.extend(problem.audit_ref.iter().map(|id| format!("sigil audit show {id}")));
        let pointed = problem.errors.iter().map(|error| format!("{}: {}", error.pointer, error.detail));
        let why = std::iter::once(problem.why.clone()).filter(|why| !why.is_empty()).chain(pointed).collect();
        let exit = Exit::of_problem(problem.status, problem.code.as_str());
        Self(Box::new(Said { exit, code: problem.code, what: problem.title, why, fix: problem.fix, see }))
    }
}

/// Errors that carry a code: one line per crate keeps `?` short everywhere else.
macro_rules! coded {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for Complaint {
            fn from(error: $error) -> Self {
                Self::new(error.code(), error)
            }
        }
    )+};
}

coded!(
    sigil_policy::BundleRefused,
    sigil_policy::SourceRefused,
    sigil_policy::TrustRefused,
    sigil_policy::sign::KeyFileRefused,
    sigil_policy::sign::KeyUnusable,
    sigil_policy::sign::SignRefused,
    sigil_audit::ReadFailed,
    sigil_server::BindRefused,
    sigil_host::StoreFailed,
    sigil_scan::LoadPack,
    sigil_sandbox::profile::CompileRefused,
    sigil_sandbox::interpreter::InterpreterRefused,
    sigil_sandbox::seatbelt::GenerateFailed,
    sigil_sandbox::tree::HashTree,
    sigil_sandbox::battery::BatteryFailed,
    sigil_vault::VaultFailed,
);

/// What the wiring reports: the code of the first cause that has one.
impl From<anyhow::Error> for Complaint {
    fn from(error: anyhow::Error) -> Self {
        let code = error.chain().find_map(code_of).unwrap_or(Code::new("cli.gateway.start.failed"));
        let mut causes = error.chain().map(ToString::to_string);
        let what = causes.next().unwrap_or_default();
        let mut complaint = Self::new(code, &what);
        // A transparent error says what its source says.
        let mut last = what;
        for cause in causes {
            if !last.contains(&cause) {
                complaint = complaint.why(&cause);
            }
            last = cause;
        }
        complaint
    }
}

/// The code of an error, where it has one.
fn code_of(error: &(dyn std::error::Error + 'static)) -> Option<Code> {
    macro_rules! first_of {
        ($($kind:ty),+ $(,)?) => {
            None$(.or_else(|| error.downcast_ref::<$kind>().map(|error| error.code())))+
        };
    }
    first_of!(
        sigil_config::ConfigRefused,
        sigil_policy::BundleRefused,
        sigil_policy::SourceRefused,
        sigil_policy::TrustRefused,
        sigil_policy::sign::KeyFileRefused,
        sigil_policy::sign::SignRefused,
        sigil_audit::OpenLog,
        sigil_audit::AppendFailed,
        sigil_audit::ReadFailed,
        sigil_sandbox::confine::ConfineFailed,
        sigil_sandbox::launcher::ForkFailed,
        sigil_sandbox::launcher::LoadState,
        sigil_sandbox::client::LaunchRefused,
        sigil_host::StoreFailed,
        sigil_scan::LoadPack,
        sigil_server::BindRefused,
        sigil_store::StoreFailed,
        sigil_store::sqlite::OpenStore,
        sigil_vault::VaultFailed,
        sigil_vault::UseRefused,
    )
}

impl From<sigil_config::ConfigRefused> for Complaint {
    fn from(refused: sigil_config::ConfigRefused) -> Self {
        let count = refused.mistakes.len();
        let mut complaint = match refused.mistakes.as_slice() {
            [only] => Self::new(only.code.clone(), format!("{}: {}", only.source, place(only))).fix(&only.remedy, None),
            _ => Self::new(refused.code(), format!("the configuration has {count} mistakes")),
        };
        if count > 1 {
            for mistake in &refused.mistakes {
                complaint = complaint.why(format!("{}: {} → {}", mistake.source, place(mistake), mistake.remedy));
            }
            complaint = complaint.fix("correct them; this shows what is left", Some("sigil config validate"));
        }
        complaint.exit(Exit::Usage)
    }
}

fn place(mistake: &sigil_config::Mistake) -> String {
    if mistake.key.is_empty() { mistake.reason.clone() } else { format!("{}: {}", mistake.key, mistake.reason) }
}

/// A file that cannot be read or written.
pub(crate) fn file(path: &std::path::Path, error: &std::io::Error) -> Complaint {
    let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
    Complaint::new(Code::new("cli.file.use.failed"), format!("{}: {error}", path.display())).exit(exit)
}
