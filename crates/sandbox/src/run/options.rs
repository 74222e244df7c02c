//! The command line of `sigil sandbox run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use sigil_policy::HostRule;
use sigil_types::{ParseHostError, nearest};

use super::limits::{self, ParseLimits};
use crate::profile::{Access, Limits, MaskKind, Posture};

/// What `--help` prints.
pub(super) const HELP: &str = include_str!("help.txt");

/// What is to be run, and what it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What it gets.
    pub gets: Gets,
    /// Files from which more of that is read, in the order in which they are named.
    pub files: Vec<OptionFile>,
    /// The installed plugin whose sandbox it gets.
    pub like: Option<String>,
    /// Where to write what it gets, instead of running it.
    pub write_profile: Option<PathBuf>,
    /// Say what it would get, instead of running it.
    pub explain: bool,
    /// Say so in JSON.
    pub json: bool,
    /// The command.
    pub command: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// A file that says what a command gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionFile {
    /// A profile file of Sigil's own.
    Profile(PathBuf),
    /// Settings of Anthropic's sandbox runtime.
    Settings(PathBuf),
}

/// What a command gets: the same, whether options or a file say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gets {
    /// The base profile.
    pub profile: Option<String>,
    /// How much of the sandbox must be there.
    pub posture: Option<Posture>,
    /// Files and folders.
    pub paths: Vec<Given>,
    /// What it may reach, and who says so.
    pub hosts: Vec<(HostRule, String)>,
    /// Its environment: `NAME` or `NAME=VALUE`.
    pub env: Vec<String>,
    /// Where it starts.
    pub cwd: Option<PathBuf>,
    /// Its limits, in the place of those of the base profile.
    pub limits: Limits,
    /// How long it may take.
    pub wall: Option<Duration>,
}

/// What is said about one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Which.
    pub path: PathBuf,
    /// What about it.
    pub rule: PathRule,
    /// Who says so: an option, or a file and its key.
    pub from: String,
}

/// What can be said about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathRule {
    /// It is granted.
    Grant(Access),
    /// It is granted as far as nothing protected is in it; that is hidden.
    GrantCovered(Access),
    /// It is taken back.
    Mask(MaskKind),
    /// It is taken back if it is there.
    MaskIfThere(MaskKind),
}

/// Why the command line is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseOptions {
    /// An option that does not exist.
    #[error("there is no option `{name}`; {hint}put `--` before the command if it belongs to it, or see --help")]
    Unknown {
        /// Which.
        name: String,
        /// What it was probably meant to be: words that end with a semicolon and a blank, or nothing.
        hint: String,
    },
    /// An option without its value.
    #[error("`{0}` needs a value; see --help")]
    NoValue(String),
    /// A value for an option that has none.
    #[error("`{0}` has no value; see --help")]
    Valued(String),
    /// An option that is given twice, of which one would be lost.
    #[error("`{0}` is given twice")]
    Twice(&'static str),
    /// Not a host and port.
    #[error("`{0}` is not a host and port such as example.org:443 or *.example.org:443: {1}")]
    Host(String, ParseHostError),
    /// Not a posture.
    #[error("there is no posture `{0}`; there are standard and strict, and reduced on hosts without namespaces")]
    Posture(String),
    /// Not a limit.
    #[error(transparent)]
    Limits(#[from] ParseLimits),
    /// Not text.
    #[error("the value of `{0}` is not UTF-8, which a profile cannot hold")]
    Encoding(&'static str),
    /// `--json` without `--explain`.
    #[error("--json goes with --explain: a command's output is its own")]
    Json,
    /// Options beside `--like`.
    #[error(
        "--like gives a plugin's sandbox as it is; it goes together with no option but --explain, --json and --env"
    )]
    Like,
    /// Nothing to run.
    #[error("no command was given; see --help")]
    NoCommand,
}

/// The options with a value.
const VALUED: [&str; 15] = [
    "--profile",
    "--read",
    "--exec",
    "--write",
    "--deny",
    "--deny-write",
    "--cwd",
    "--allow-host",
    "--env",
    "--limit",
    "--posture",
    "--profile-file",
    "--write-profile",
    "--settings",
    "--like",
];

/// The options without one.
const FLAGS: [&str; 3] = ["--explain", "--json", "--help"];

impl Options {
    /// Reads the arguments after `sandbox run`. `None` when they ask for help.
    ///
    /// # Errors
    /// [`ParseOptions`].
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, ParseOptions> {
        let mut arguments = arguments;
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy().into_owned();
            if text == "--" {
                options.command = arguments.next().unwrap_or_default();
                break;
            }
            if !text.starts_with('-') {
                options.command = argument;
                break;
            }
            let (name, inline) = match split(&argument) {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            match name.as_str() {
                "-h" | "--help" => return Ok(None),
                "--explain" | "--json" if inline.is_some() => return Err(ParseOptions::Valued(name)),
                "--explain" => options.explain = true,
                "--json" => options.json = true,
                _ => {
                    let known = VALUED.iter().find(|known| **known == name).ok_or_else(|| unknown(&name))?;
                    let value = inline.or_else(|| arguments.next()).ok_or(ParseOptions::NoValue(name))?;
                    options.valued(known, value)?;
                }
            }
        }
        options.arguments = arguments.collect();
        options.check()?;
        Ok(Some(options))
    }

    fn valued(&mut self, name: &'static str, value: OsString) -> Result<(), ParseOptions> {
        let rule = match name {
            "--read" => PathRule::Grant(Access::Read),
            "--exec" => PathRule::Grant(Access::Exec),
            "--write" => PathRule::Grant(Access::Write),
            "--deny" => PathRule::Mask(MaskKind::Hidden),
            "--deny-write" => PathRule::Mask(MaskKind::ReadOnly),
            "--cwd" => return once(&mut self.gets.cwd, PathBuf::from(value), name),
            "--write-profile" => return once(&mut self.write_profile, PathBuf::from(value), name),
            "--profile-file" => {
                self.files.push(OptionFile::Profile(value.into()));
                return Ok(());
            }
            "--settings" => {
                self.files.push(OptionFile::Settings(value.into()));
                return Ok(());
            }
            _ => {
                let text = value.into_string().map_err(|_| ParseOptions::Encoding(name))?;
                return match name {
                    "--like" => once(&mut self.like, text, name),
                    _ => self.gets.text(name, &text),
                };
            }
        };
        self.gets.paths.push(Given { path: value.into(), rule, from: name.to_owned() });
        Ok(())
    }

    fn check(&self) -> Result<(), ParseOptions> {
        if self.json && !self.explain {
            return Err(ParseOptions::Json);
        }
        let beside = Gets { env: self.gets.env.clone(), ..Gets::default() };
        if self.like.is_some() && (self.gets != beside || !self.files.is_empty() || self.write_profile.is_some()) {
            return Err(ParseOptions::Like);
        }
        if self.command.is_empty() && self.write_profile.is_none() && !self.explain {
            return Err(ParseOptions::NoCommand);
        }
        Ok(())
    }
}

impl Gets {
    /// Takes the option `name` with `text`. Files use the same words.
    pub(super) fn text(&mut self, name: &'static str, text: &str) -> Result<(), ParseOptions> {
        match name {
            "--profile" => once(&mut self.profile, text.to_owned(), name),
            "--posture" => once(&mut self.posture, posture(text)?, name),
            "--env" => {
                self.env.push(text.to_owned());
                Ok(())
            }
            "--limit" => Ok(limits::parse(text, &mut self.limits, &mut self.wall)?),
            _ => {
                self.hosts.push((host_rule(text)?, name.to_owned()));
                Ok(())
            }
        }
    }

    /// Adds what a file says. What is there already, a person said on the command line: there it counts.
    pub(super) fn add(&mut self, file: Self) {
        fn first<T>(here: &mut Option<T>, there: Option<T>) {
            *here = here.take().or(there);
        }
        first(&mut self.profile, file.profile);
        first(&mut self.posture, file.posture);
        first(&mut self.cwd, file.cwd);
        first(&mut self.wall, file.wall);
        first(&mut self.limits.cgroup_memory_bytes, file.limits.cgroup_memory_bytes);
        first(&mut self.limits.cpu_seconds, file.limits.cpu_seconds);
        first(&mut self.limits.processes, file.limits.processes);
        first(&mut self.limits.open_files, file.limits.open_files);
        first(&mut self.limits.file_bytes, file.limits.file_bytes);
        self.paths.extend(file.paths);
        self.hosts.extend(file.hosts);
        // The later of two of the same name counts.
        self.env.splice(0..0, file.env);
    }
}

fn once<T>(place: &mut Option<T>, value: T, name: &'static str) -> Result<(), ParseOptions> {
    if place.replace(value).is_some() { Err(ParseOptions::Twice(name)) } else { Ok(()) }
}

/// `--name=value`, whatever bytes the value has.
fn split(argument: &OsString) -> Option<(String, OsString)> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = argument.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (bytes.get(..at)?, bytes.get(at + 1..)?);
    Some((String::from_utf8_lossy(name).into_owned(), OsString::from_vec(value.to_vec())))
}

fn unknown(name: &str) -> ParseOptions {
    let near = nearest(name, VALUED.iter().chain(&FLAGS).copied());
    let hint = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    ParseOptions::Unknown { name: name.to_owned(), hint }
}

pub(super) fn posture(text: &str) -> Result<Posture, ParseOptions> {
    match text {
        "reduced" => Ok(Posture::Reduced),
        "standard" => Ok(Posture::Standard),
        "strict" => Ok(Posture::Strict),
        _ => Err(ParseOptions::Posture(text.to_owned())),
    }
}

pub(super) fn host_rule(text: &str) -> Result<HostRule, ParseOptions> {
    text.parse().map_err(|why| ParseOptions::Host(text.to_owned(), why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, ParseOptions> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_documented_forms_are_read() {
        let line = "--profile native --read /a --read=/b --exec d --write c --deny e --deny-write=f --env A=b=c --env D \
                    --allow-host example.org:443 --limit memory=1M,wall=2s --posture strict --cwd /a -- ls -l --read x";
        let options = parse(line).unwrap().unwrap();
        assert_eq!(options.gets.profile.as_deref(), Some("native"));
        let rules: Vec<_> = options.gets.paths.iter().map(|given| (given.path.to_str().unwrap(), given.rule)).collect();
        assert_eq!(
            rules,
            [
                ("/a", PathRule::Grant(Access::Read)),
                ("/b", PathRule::Grant(Access::Read)),
                ("d", PathRule::Grant(Access::Exec)),
                ("c", PathRule::Grant(Access::Write)),
                ("e", PathRule::Mask(MaskKind::Hidden)),
                ("f", PathRule::Mask(MaskKind::ReadOnly)),
            ]
        );
        assert_eq!(options.gets.env, ["A=b=c", "D"]);
        assert_eq!(
            (options.gets.limits.cgroup_memory_bytes, options.gets.wall),
            (Some(1 << 20), Some(Duration::from_secs(2)))
        );
        assert_eq!((options.gets.hosts.len(), options.gets.posture), (1, Some(Posture::Strict)));
        assert_eq!((options.command.to_str(), options.arguments.len()), (Some("ls"), 3));
        let plain = parse("cat --write file").unwrap().unwrap();
        assert_eq!(
            (plain.arguments.len(), plain.gets.paths.len()),
            (2, 0),
            "what follows the command is the command's"
        );
        assert_eq!(parse("--help").unwrap(), None);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, says) in [
            ("", "no command"),
            ("--", "no command"),
            ("--read", "needs a value"),
            ("--rad /x ls", "did you mean `--read`?"),
            ("--zzzzzzzz ls", "there is no option `--zzzzzzzz`; put"),
            ("--explain=yes ls", "has no value"),
            ("--json ls", "--explain"),
            ("--cwd /a --cwd /b ls", "twice"),
            ("--posture full ls", "posture"),
            ("--limit memory ls", "memory"),
            ("--like files --read /x ls", "--like"),
            ("--like files --settings x ls", "--like"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
        for bad in
            ["example.org", "example.org:0", "example.org:99999", ":443", "a b:1", "exa\u{0}mple.org:443", "*.org:1"]
        {
            assert!(Options::parse(["--allow-host", bad, "ls"].into_iter().map(OsString::from)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_counts_before_a_file() {
        let mut gets = parse("--profile native --env A=1 --limit wall=1 x").unwrap().unwrap().gets;
        let mut file = parse("--profile shell --cwd /c --env A=2 --limit wall=9,cpu=3 x").unwrap().unwrap().gets;
        file.wall = Some(Duration::from_secs(9));
        gets.add(file);
        assert_eq!((gets.profile.as_deref(), gets.cwd), (Some("native"), Some("/c".into())));
        assert_eq!((gets.wall, gets.limits.cpu_seconds), (Some(Duration::from_secs(1)), Some(3)));
        assert_eq!(gets.env, ["A=2", "A=1"], "the later one counts");
    }
}
