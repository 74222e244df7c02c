//! `sigil sandbox learn -- CMD…`: runs a command in the sandbox, says what it was denied, and runs it again with what the
//! person grants. It denies and records; it never allows anything by itself, and changes no setting.

use std::ffi::OsString;
use std::io::IsTerminal;

use serde_json::json;
use sigil_sandbox::denials::learn::{self, Attempt};
use sigil_sandbox::denials::{Denial, Proposal, Subject, explain, flags, least, manifest, quoted};
use sigil_sandbox::run::Options;
use sigil_types::Code;

use super::args::{LearnArgs, YesTo};
use super::complaint::{Complaint, Outcome};
use super::context::Context;
use super::denials;
use super::exit::Exit;
use super::input;
use super::output::{Output, Paint};
use super::safe;
use crate::early::Served;

pub(super) fn run(context: &Context, args: LearnArgs) -> Outcome {
    let output = &context.output;
    let mut learner = Learner::new(&args)?;
    let (mut rounds, mut last) = (0, None);
    while rounds < args.rounds {
        rounds += 1;
        let (attempt, found) = learner.attempt(output.json)?;
        output.note(format!("run {rounds}: ended with status {}", attempt.status));
        if !output.json {
            denials::show(output, &found);
        }
        if attempt.ledger.beyond > 0 {
            output.note(format!("{} more denials were only counted: there were too many kinds", attempt.ledger.beyond));
        }
        let open = learner.open(&found);
        let agreed = learner.ask(output, &args, &open)?;
        last = Some((attempt, found, open));
        if agreed.is_empty() {
            break;
        }
        learner.granted.extend(agreed);
    }
    let Some((attempt, found, open)) = last else { return Ok(Exit::Ok) };
    let decided = |proposal: &Proposal| learner.granted.contains(proposal) || learner.declined.contains(proposal);
    let open: Vec<Proposal> = open.into_iter().filter(|proposal| !decided(proposal)).collect();
    learner.granted = least(&learner.granted);
    tell(output, rounds, &learner, &attempt, &found, &open);
    Ok(if open.is_empty() { Exit::Ok } else { Exit::Findings })
}

/// The command, and what was said about it so far.
struct Learner {
    /// The options that were typed.
    typed: Vec<OsString>,
    /// The command and its arguments.
    command: Vec<OsString>,
    granted: Vec<Proposal>,
    declined: Vec<Proposal>,
}

impl Learner {
    fn new(args: &LearnArgs) -> Result<Self, Complaint> {
        let typed = &args.arguments;
        let options = parse(typed.clone())?;
        let at = typed.len().saturating_sub(options.arguments.len() + 1);
        let (options, command) = typed.split_at(at);
        let typed = options.iter().filter(|option| *option != "--").cloned().collect();
        Ok(Self { typed, command: command.to_vec(), granted: Vec::new(), declined: Vec::new() })
    }

    /// The arguments after `sigil sandbox run` with what was granted, and `more`.
    fn arguments(&self, more: Option<&Proposal>) -> Vec<OsString> {
        let given: Vec<&Proposal> = self.granted.iter().chain(more).collect();
        let mut arguments = self.typed.clone();
        if given.iter().any(|proposal| matches!(proposal, Proposal::Profile(_))) {
            without_profile(&mut arguments);
        }
        arguments.extend(given.iter().flat_map(|proposal| proposal.options()).map(OsString::from));
        arguments.push("--".into());
        arguments.extend(self.command.iter().cloned());
        arguments
    }

    /// One run.
    fn attempt(&self, json: bool) -> Result<(Attempt, Vec<Denial>), Complaint> {
        let options = parse(self.arguments(None))?;
        let failed = |error: learn::LearnFailed| Complaint::new(error.code(), error);
        // The output of the command must not stand in the middle of a document.
        let attempt = learn::attempt(&options, &mut Served::default(), json).map_err(failed)?;
        let never = learn::never();
        let subject = Subject { profile: &attempt.profile, never: &never, command: true };
        let found = explain(&attempt.ledger, &attempt.hosts, &subject);
        Ok((attempt, found))
    }

    /// What is proposed and nobody has said a word about.
    fn open(&self, found: &[Denial]) -> Vec<Proposal> {
        let mut open = denials::proposals(found);
        open.retain(|proposal| {
            let known = self.granted.contains(proposal) || self.declined.contains(proposal);
            !known && parse(self.arguments(Some(proposal))).is_ok()
        });
        open
    }

    /// Has the person decide on each.
    fn ask(&mut self, output: &Output, args: &LearnArgs, open: &[Proposal]) -> Result<Vec<Proposal>, Complaint> {
        let terminal = std::io::stdin().is_terminal() && !output.json;
        let mut agreed = Vec::new();
        for proposal in open {
            let yes = match args.yes_to.iter().any(|kind| kind.covers(proposal)) {
                true => true,
                false if terminal => {
                    let question = format!("let it {}?", safe::line(&proposal.to_string()));
                    let yes = input::confirm(output, &output.paint_error(Paint::Yellow, &question))?;
                    if !yes {
                        self.declined.push(proposal.clone());
                    }
                    yes
                }
                false => false,
            };
            if yes {
                agreed.push(proposal.clone());
            }
        }
        Ok(agreed)
    }
}

impl YesTo {
    const fn covers(self, proposal: &Proposal) -> bool {
        match self {
            Self::All => true,
            Self::Read => matches!(proposal, Proposal::Read(_)),
            Self::Exec => matches!(proposal, Proposal::Execute(_)),
            Self::Write => matches!(proposal, Proposal::Write(_)),
            Self::Host => matches!(proposal, Proposal::Host(_)),
            Self::Profile => matches!(proposal, Proposal::Profile(_)),
        }
    }
}

fn parse(arguments: Vec<OsString>) -> Result<Options, Complaint> {
    let wrong = |what: String| Complaint::new(Code::new("cli.usage.invalid"), what).exit(Exit::Usage);
    match Options::parse(arguments.into_iter()) {
        Ok(Some(options)) if options.explain || options.write_profile.is_some() || options.like.is_some() => Err(
            wrong("learning runs the command: --explain, --write-profile and --like are of `sandbox run`".to_owned()),
        ),
        Ok(Some(options)) => Ok(options),
        Ok(None) => {
            Err(wrong("no command was given".to_owned()).fix("see the options of", Some("sigil sandbox run --help")))
        }
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Takes a base profile that was typed away, for another one that was granted.
fn without_profile(options: &mut Vec<OsString>) {
    options.retain(|option| !option.to_string_lossy().starts_with("--profile="));
    while let Some(at) = options.iter().position(|option| option == "--profile") {
        options.drain(at..(at + 2).min(options.len()));
    }
}

/// Says what was learnt: the smallest profile that was agreed to, as a command line and as a manifest's part.
fn tell(output: &Output, rounds: u32, learner: &Learner, attempt: &Attempt, found: &[Denial], open: &[Proposal]) {
    let command: Vec<String> = learner.arguments(None).iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if output.json {
        let open: Vec<_> =
            open.iter().map(|proposal| json!({ "proposal": proposal, "options": proposal.options() })).collect();
        output.document(&json!({
            "runs": rounds, "status": attempt.status, "denials": found, "not_kept": attempt.ledger.beyond,
            "granted": learner.granted, "open": open, "run": command, "manifest": manifest(&learner.granted),
        }));
        return;
    }
    if found.is_empty() {
        output.note("Nothing was denied in the last run: the command needs no more than it had.");
    } else if open.is_empty() {
        output.note("Nothing is left to decide. What is still denied was declined, or is never granted.");
    } else {
        output.note("Some of it nobody has decided: there is no terminal to ask on. Say --yes-to, or write the options that you agree to:");
        output.note(format!("  {}", safe::line(&flags(open).join(" "))));
    }
    output.note("The smallest profile that was agreed to:");
    let words: Vec<String> = command.iter().map(|word| safe::line(&quoted(word))).collect();
    output.line(format!("sigil sandbox run {}", words.join(" ")));
    if let Some(yaml) = manifest(&learner.granted) {
        output.note("For a plugin that does the same, in its plugin.yaml:");
        output.note(safe::block(&yaml));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_granted_goes_before_the_command_and_replaces_a_profile() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let args = |text: &str| LearnArgs { yes_to: Vec::new(), rounds: 1, arguments: words(text) };
        let mut learner = Learner::new(&args("--profile native --read /a -- cmd --read x -- y")).unwrap();
        learner.granted = vec![Proposal::Write("/b".into())];
        assert_eq!(learner.arguments(None), words("--profile native --read /a --write /b -- cmd --read x -- y"));
        let shell = Proposal::Profile("shell".into());
        let with = learner.arguments(Some(&shell));
        assert_eq!(with, words("--read /a --write /b --profile shell -- cmd --read x -- y"));
        let parsed = parse(with).unwrap();
        assert_eq!((parsed.gets.profile.as_deref(), parsed.arguments.len()), (Some("shell"), 4));
        assert!(Learner::new(&args("--bogus")).is_err());
    }
}
