//! The command line of `sigil sandbox run`.

use std::ffi::OsString;
use std::path::PathBuf;

use sigil_policy::HostRule;
use sigil_types::ParseHostError;

/// What `--help` prints.
pub(super) const HELP: &str = "\
Runs a command in the sandbox: nothing of this machine is there but what the profile and these options name.

Usage: sigil sandbox run [OPTIONS] [--] COMMAND [ARGUMENTS]...

Options:
      --profile NAME     The base profile: shell (the system's programs), or native, go, python, node, chromium (one
                         program of that kind) [default: shell]
      --read PATH        A file or folder that it may read; may be given more than once
      --exec PATH        A file or folder that it may read and execute, and load code from; never one that it may change
      --write PATH       A file or folder that it may read and change
      --allow-host H:P   A host and port that it may reach through the egress proxy, such as example.org:443;
                         *.example.org:443 is every name below example.org, and not example.org itself
  -h, --help             This text

The exit status is the command's; 128 and the signal's number when a signal ended it; 126 when the sandbox could not be set
up; 127 when there is no such command.
";

/// What is to be run, and what it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The base profile.
    pub profile: String,
    /// What it may read.
    pub read: Vec<PathBuf>,
    /// What it may read and execute.
    pub execute: Vec<PathBuf>,
    /// What it may write.
    pub write: Vec<PathBuf>,
    /// What it may reach.
    pub hosts: Vec<HostRule>,
    /// The command.
    pub command: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// Why the command line is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseOptions {
    /// An option that does not exist.
    #[error("there is no option `{0}`; put `--` before the command if it belongs to it, or see --help")]
    Unknown(String),
    /// An option without its value.
    #[error("`{0}` needs a value; see --help")]
    NoValue(String),
    /// Not a host and port.
    #[error("`{0}` is not a host and port such as example.org:443: {1}")]
    Host(String, ParseHostError),
    /// Nothing to run.
    #[error("no command was given; see --help")]
    NoCommand,
}

impl Options {
    /// Reads the arguments after `sandbox run`. `None` when they ask for help.
    ///
    /// # Errors
    /// [`ParseOptions`].
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, ParseOptions> {
        let mut arguments = arguments.peekable();
        let mut options = Self {
            profile: "shell".to_owned(),
            read: Vec::new(),
            execute: Vec::new(),
            write: Vec::new(),
            hosts: Vec::new(),
            command: OsString::new(),
            arguments: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy().into_owned();
            if text == "--" {
                options.command = arguments.next().ok_or(ParseOptions::NoCommand)?;
                break;
            }
            if !text.starts_with('-') {
                options.command = argument;
                break;
            }
            let (name, inline) = match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
                None => (text, None),
            };
            if name == "-h" || name == "--help" {
                return Ok(None);
            }
            if !matches!(name.as_str(), "--profile" | "--read" | "--exec" | "--write" | "--allow-host") {
                return Err(ParseOptions::Unknown(name));
            }
            let value = inline.or_else(|| arguments.next()).ok_or_else(|| ParseOptions::NoValue(name.clone()))?;
            match name.as_str() {
                "--profile" => options.profile = value.to_string_lossy().into_owned(),
                "--read" => options.read.push(PathBuf::from(value)),
                "--exec" => options.execute.push(PathBuf::from(value)),
                "--write" => options.write.push(PathBuf::from(value)),
                _ => options.hosts.push(host_rule(&value)?),
            }
        }
        if options.command.is_empty() {
            return Err(ParseOptions::NoCommand);
        }
        options.arguments = arguments.collect();
        Ok(Some(options))
    }
}

/// What cannot be read is refused with the reason; bytes that are not text are shown replaced, and are no host.
fn host_rule(value: &OsString) -> Result<HostRule, ParseOptions> {
    let text = value.to_string_lossy();
    text.parse().map_err(|why| ParseOptions::Host(text.into_owned(), why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, ParseOptions> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_documented_forms_are_read() {
        let options = parse(
            "--profile native --read /a --read=/b --exec d --write c --allow-host example.org:443 -- ls -l --read x",
        )
        .unwrap()
        .unwrap();
        assert_eq!(options.profile, "native");
        assert_eq!(options.read, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(options.execute, [PathBuf::from("d")]);
        assert_eq!(options.write, [PathBuf::from("c")]);
        assert_eq!(options.hosts.len(), 1);
        assert_eq!((options.command.to_str(), options.arguments.len()), (Some("ls"), 3));
        let wide = parse("--allow-host *.example.org:443 --allow-host [::1]:8080 ls").unwrap().unwrap();
        let hosts: Vec<String> = wide.hosts.iter().map(|rule| rule.host.to_string()).collect();
        assert_eq!(hosts, ["*.example.org", "[::1]"]);
        let plain = parse("cat --write file").unwrap().unwrap();
        assert_eq!((plain.arguments.len(), plain.write.len()), (2, 0), "what follows the command is the command's");
        assert_eq!(parse("--help").unwrap(), None);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse(""), Err(ParseOptions::NoCommand));
        assert_eq!(parse("--"), Err(ParseOptions::NoCommand));
        assert_eq!(parse("--read"), Err(ParseOptions::NoValue("--read".to_owned())));
        assert_eq!(parse("--rad /x ls"), Err(ParseOptions::Unknown("--rad".to_owned())));
        for bad in [
            "example.org",
            "example.org:0",
            "example.org:99999",
            ":443",
            "a b:1",
            "exa\u{0}mple.org:443",
            "*:443",
            "*.org:443",
        ] {
            assert!(Options::parse(["--allow-host", bad, "ls"].into_iter().map(OsString::from)).is_err(), "{bad}");
        }
    }
}
