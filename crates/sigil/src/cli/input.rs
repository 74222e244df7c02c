//! Reading from people and pipes: passphrases, secrets, answers.

use std::io::{BufRead, IsTerminal, Read};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use sigil_types::{Code, Secret};

use super::args::PassphraseArgs;
use super::complaint::{Complaint, file};
use super::exit::Exit;
use super::output::Output;

/// The largest text that is read from standard input or a file, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// The text of `path`, or of standard input.
pub(crate) fn text(path: Option<&Path>) -> Result<String, Complaint> {
    let mut text = String::new();
    let (name, read) = match path {
        Some(path) => {
            let open = std::fs::File::open(path).map_err(|error| file(path, &error))?;
            (path, open.take(MAX_TEXT).read_to_string(&mut text))
        }
        None => (Path::new("standard input"), std::io::stdin().lock().take(MAX_TEXT).read_to_string(&mut text)),
    };
    read.map_err(|error| file(name, &error))?;
    Ok(text)
}

/// A secret: asked for without echo on a terminal, else all of standard input without its last line break.
pub(crate) fn secret(output: &Output, question: &str) -> Result<Secret<String>, Complaint> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut value = text(None)?;
        value.truncate(value.trim_end_matches(['\n', '\r']).len());
        return Ok(Secret::new(value));
    }
    output.prompt(&format!("{question}: "));
    let before = tcgetattr(&stdin).map_err(|error| unreadable(&error.into()))?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO;
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|error| unreadable(&error.into()))?;
    let mut value = String::new();
    let read = stdin.lock().read_line(&mut value);
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before);
    output.prompt("\n");
    read.map_err(|error| unreadable(&error))?;
    restored.map_err(|error| unreadable(&error.into()))?;
    value.truncate(value.trim_end_matches(['\n', '\r']).len());
    Ok(Secret::new(value))
}

fn unreadable(error: &std::io::Error) -> Complaint {
    Complaint::new(Code::new("cli.input.read.failed"), format!("cannot read standard input: {error}"))
}

/// The passphrase of a key, where it has one: from the first line of standard input, or asked for, twice when it is new.
pub(crate) fn passphrase(
    output: &Output,
    from: &PassphraseArgs,
    new: bool,
) -> Result<Option<Secret<String>>, Complaint> {
    if from.no_passphrase {
        return Ok(None);
    }
    if from.passphrase_stdin {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(|error| unreadable(&error))?;
        line.truncate(line.trim_end_matches(['\n', '\r']).len());
        return Ok(Some(Secret::new(line)));
    }
    if !std::io::stdin().is_terminal() {
        let code = Code::new("cli.input.terminal.missing");
        return Err(Complaint::new(code, "there is no terminal to ask for the passphrase on").exit(Exit::Usage).fix(
            "add --passphrase-stdin and write it to standard input, or --no-passphrase for a key without one",
            None,
        ));
    }
    let once = secret(output, if new { "New passphrase" } else { "Passphrase of the owner's key" })?;
    if new && secret(output, "The same again")?.expose() != once.expose() {
        return Err(
            Complaint::new(Code::new("cli.input.passphrase.differs"), "the two passphrases differ").exit(Exit::Usage)
        );
    }
    Ok(Some(once))
}

/// Asks a question with a yes or no; no without a terminal.
pub(crate) fn confirm(output: &Output, question: &str) -> Result<bool, Complaint> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    output.prompt(&format!("{question} [y/N] "));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| unreadable(&error))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
