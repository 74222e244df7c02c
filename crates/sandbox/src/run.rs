//! `sigil sandbox run`: any command of this machine in the sandbox, without a launcher and without a gateway.
//!
//! It runs on an early path of `main`, before the command line's own parser and before any thread, so that it costs what
//! the sandbox costs. A person stands behind it: what he names on the command line is granted, less what is never granted.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::client::ExitStatus;
use crate::confine::{Attended, Prepared, Stage, StartFailed, Streams};
use crate::profile::{self, Compiled, Egress};
use crate::sys;

mod attend;
pub mod file;
mod limits;
mod options;
mod plan;
pub mod settings;
mod terminal;
mod wishes;

pub use attend::Ended;
pub use file::FileRefused;
pub use limits::ParseLimits;
pub use options::{Gets, Given, OptionFile, Options, ParseOptions, PathRule};

pub use plan::Plan;

pub(crate) use attend::Attendant;
pub(crate) use plan::never;

/// The status when the command's time was up.
pub const TIMED_OUT: u8 = 124;
/// The status when the sandbox could not be set up.
pub const FAILED: u8 = 126;
/// The status when there is no such command.
pub const NOT_FOUND: u8 = 127;

/// What serves the egress proxy: it is given the listener inside the command's network namespace and what may be reached,
/// and serves from a thread of its own until the process ends.
pub type ServeEgress<'a> = &'a mut dyn FnMut(OwnedFd, &Egress) -> Result<(), String>;

/// What finds an installed plugin by its name, and compiles its profile under the signed policy.
pub type FindPlugin<'a> = &'a mut dyn FnMut(&str) -> Result<Compiled, String>;

/// Why a command was not run, or not to its end: what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunFailed {
    /// The command line is wrong.
    #[error(transparent)]
    Options(#[from] ParseOptions),
    /// A file of options is wrong.
    #[error(transparent)]
    File(#[from] FileRefused),
    /// A profile file cannot be written.
    #[error("--write-profile: {0}")]
    WriteProfile(String),
    /// There is no such command.
    #[error("`{0}` was not found in the sandbox's PATH ({1}); name it by its path, or install it")]
    NotFound(String, String),
    /// A path cannot be granted.
    #[error("{path}: {source}; correct the path")]
    Path {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What is denied is not there and could be made.
    #[error(
        "{path} is not there and cannot be denied: it lies in a folder that may be changed, where the command could make it. \
         Make it, empty, before; or grant a narrower folder"
    )]
    DenyMissing {
        /// Which.
        path: PathBuf,
    },
    /// What is denied is named through a link that could be changed meanwhile.
    #[error(
        "{path} cannot be denied by this name: {link}, in what is granted, is a symbolic link, in whose place something else \
         could be put before the command sees it. Name what it leads to"
    )]
    DenyThroughLink {
        /// Which.
        path: PathBuf,
        /// The link.
        link: PathBuf,
    },
    /// Not the name of a variable.
    #[error("`{0}` is not the name of an environment variable: letters, digits and `_`, and no digit first")]
    Variable(String),
    /// The profile cannot be compiled.
    #[error(transparent)]
    Compile(#[from] profile::CompileRefused),
    /// The sandbox cannot be set up.
    #[error(transparent)]
    Start(#[from] StartFailed),
    /// Hosts are allowed, but nothing here serves the proxy.
    #[error("--allow-host needs the egress proxy, which this program does not have; run the command without it")]
    NoEgress,
    /// The proxy cannot be served.
    #[error("the egress proxy cannot be served: {0}; the command was killed")]
    Egress(String),
    /// A plugin's sandbox needs the configuration, which is read elsewhere.
    #[error(
        "--like needs the configuration and the signed policy, which this program does not read; use `sigil sandbox run`"
    )]
    Like,
    /// A plugin's sandbox cannot be had.
    #[error("--like: {0}")]
    Plugin(String),
    /// What covered a denied path is gone.
    #[error(
        "something that is denied was replaced from outside, which uncovered it; the command was killed. Do not replace \
         denied files while it runs, or deny the folder that they are in"
    )]
    Uncovered,
    /// The command line asks for text, which is not UTF-8.
    #[error("the current folder or an argument is not UTF-8, which a profile cannot hold")]
    Encoding,
}

impl RunFailed {
    /// The exit status for it: 127 when the command was not found, else 126.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Self::NotFound(..) => NOT_FOUND,
            Self::Start(StartFailed::Step(failure))
                if matches!(failure.stage, Stage::Exec) && failure.errno == libc::ENOENT =>
            {
                NOT_FOUND
            }
            _ => FAILED,
        }
    }
}

/// How this process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this status.
    Status(u8),
    /// By this signal, as its command did.
    Signal(i32),
}

impl Ending {
    /// Ends this process so. Returns only for a status, and where the signal does not end it.
    #[must_use]
    pub fn take(self) -> ExitCode {
        match self {
            Self::Status(status) => ExitCode::from(status),
            Self::Signal(signal) => {
                sys::die_by(signal);
                ExitCode::from(u8::try_from(128 + signal).unwrap_or(FAILED))
            }
        }
    }
}

/// Runs `sigil sandbox run` with the arguments after `run`, and returns how the process is to end: as the command did; with
/// 124 when its time was up, 126 or 127 when it did not start. Writes to standard error why.
///
/// Without `egress` no hosts can be reached, and without `plugins` there is no `--like`.
pub fn main(
    arguments: impl Iterator<Item = OsString>,
    egress: Option<ServeEgress<'_>>,
    plugins: Option<FindPlugin<'_>>,
) -> Ending {
    match Options::parse(arguments) {
        Ok(Some(options)) => serve(&options, egress, plugins),
        Ok(None) => {
            let _ = std::io::stdout().write_all(options::HELP.as_bytes());
            Ending::Status(0)
        }
        Err(error) => fail(&error.into()),
    }
}

fn serve(options: &Options, egress: Option<ServeEgress<'_>>, plugins: Option<FindPlugin<'_>>) -> Ending {
    let done = || -> Result<Ending, RunFailed> {
        let (gets, depth) = load(options)?;
        if let Some(path) = &options.write_profile {
            write_profile(path, &gets)?;
            return Ok(Ending::Status(0));
        }
        let plan = match &options.like {
            None => plan::of_wishes(options, &gets, depth, !options.explain)?,
            Some(name) => {
                let compiled = plugins.ok_or(RunFailed::Like)?(name).map_err(RunFailed::Plugin)?;
                plan::like(options, &gets, compiled)?
            }
        };
        if options.explain {
            say(&plan.compiled, options.json);
            return Ok(Ending::Status(0));
        }
        run(plan, egress)
    };
    done().unwrap_or_else(|error| fail(&error))
}

/// What the command of `options` gets, without a terminal of its own: for who watches it.
pub(crate) fn plan(options: &Options) -> Result<Plan, RunFailed> {
    if options.like.is_some() {
        return Err(RunFailed::Like);
    }
    let (gets, depth) = load(options)?;
    plan::of_wishes(options, &gets, depth, false)
}

fn fail(error: &RunFailed) -> Ending {
    complain(&error.to_string());
    Ending::Status(error.status())
}

/// Says `text` on standard error, as everything that goes wrong here is said.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "sigil sandbox run: {text}");
}

/// What the options and their files say, and how deep to look for files that tools run commands from.
fn load(options: &Options) -> Result<(Gets, Option<u8>), RunFailed> {
    let (mut gets, mut depth) = (options.gets.clone(), None);
    for file in &options.files {
        let (OptionFile::Profile(path) | OptionFile::Settings(path)) = file;
        let failed = |source| RunFailed::Path { path: path.clone(), source };
        let path = std::path::absolute(path).map_err(failed)?;
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        match file {
            OptionFile::Profile(_) => gets.add(file::parse(&text, &path)?),
            OptionFile::Settings(_) => {
                let here = std::env::current_dir().map_err(failed)?;
                let settings = settings::parse(&text, &path, &here)?;
                gets.add(settings.gets);
                depth = Some(settings.depth);
                settings.notes.iter().for_each(|note| complain(&format!("note: {note}")));
            }
        }
    }
    Ok((gets, depth))
}

fn write_profile(path: &Path, gets: &Gets) -> Result<(), RunFailed> {
    let text = file::write(gets).map_err(RunFailed::WriteProfile)?;
    let failed = |error: std::io::Error| RunFailed::WriteProfile(format!("{}: {error}", path.display()));
    if path == Path::new("-") {
        return std::io::stdout().write_all(text.as_bytes()).map_err(failed);
    }
    // Never over something that is there.
    let mut file = std::fs::File::options().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// Starts a command and waits for its end. Signals that this process gets meanwhile are passed on.
///
/// The calling process must have one thread.
///
/// # Errors
/// [`RunFailed`]; when the sandbox could not be set up, nothing of the command has run.
pub fn run(plan: Plan, egress: Option<ServeEgress<'_>>) -> Result<Ending, RunFailed> {
    let Plan { compiled, wall, covered, absent, terminal } = plan;
    let rules = compiled.egress;
    if !rules.is_empty() && egress.is_none() {
        return Err(RunFailed::NoEgress);
    }
    let attended = Attended { terminal: terminal.is_some(), mounts: covered };
    let prepared = Prepared::new(compiled.profile, Vec::new())?.attended(attended);
    let host = |what| move |source| StartFailed::Host { what, source };
    let signals = sys::take_signals().map_err(host("cannot take signals"))?;
    let (terminal, theirs) = terminal.unzip();
    let mut enforced = prepared.start(&streams(theirs.as_ref()))?;
    // What the command says ends with it only when nobody else has its end.
    drop(theirs);
    if let (Some(serve), Some(listener)) = (egress, enforced.egress.take())
        && let Err(why) = serve(listener, &rules)
    {
        let _ = enforced.kill();
        let _ = enforced.wait();
        return Err(RunFailed::Egress(why));
    }
    let mounts = enforced.mounts.take();
    let ended = Attendant { signals, terminal, wall, mounts }.wait(&enforced)?;
    tell_made(&absent);
    Ok(match ended {
        Ended::Itself(ExitStatus::Exited(status)) => Ending::Status(u8::try_from(status).unwrap_or(FAILED)),
        Ended::Itself(ExitStatus::Signaled(signal)) => Ending::Signal(signal),
        Ended::Itself(ExitStatus::Killed) => Ending::Signal(libc::SIGKILL),
        Ended::TimedOut => {
            complain("the command's time was up (--limit wall); it was killed");
            Ending::Status(TIMED_OUT)
        }
    })
}

/// Says which of `absent`, from which tools run commands, the command has made.
pub(crate) fn tell_made(absent: &[PathBuf]) {
    for path in absent.iter().filter(|path| std::fs::symlink_metadata(path).is_ok()) {
        complain(&format!(
            "note: the command made {}, from which tools run commands: look at it before you use it",
            path.display()
        ));
    }
}

/// The streams of the command: the caller's, or its own terminal for those of them that are one.
pub(crate) fn streams(theirs: Option<&OwnedFd>) -> Streams<'_> {
    let open = |fd: BorrowedFd<'static>| rustix::io::fcntl_getfd(fd.as_fd()).is_ok().then_some(fd);
    let stream = |fd: BorrowedFd<'static>| match theirs {
        Some(theirs) if rustix::termios::isatty(fd) => Some(theirs.as_fd()),
        _ => open(fd),
    };
    let [stdin, stdout, stderr] =
        [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()].map(stream);
    Streams { stdin, stdout, stderr }
}

fn say(compiled: &Compiled, json: bool) {
    let mut out = std::io::stdout();
    if json {
        let document = serde_json::json!({
            "explanation": compiled.explanation, "facts": compiled.facts, "egress": compiled.egress,
            "profile": compiled.profile,
        });
        let _ = writeln!(out, "{document}");
        return;
    }
    let exec = &compiled.profile.exec;
    let _ = write!(out, "{}", compiled.explanation);
    let _ = writeln!(out, "starts in {}", exec.cwd.display());
    for (name, value) in &exec.env {
        let _ = writeln!(out, "variable {name}={}", value.escape_debug());
    }
}
