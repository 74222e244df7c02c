//! `sigil sandbox run`: any command of this machine in the sandbox, without a launcher and without a gateway.
//!
//! It runs on an early path of `main`, before the command line's own parser and before any thread, so that it costs what
//! the sandbox costs. A person stands behind it: what he names on the command line is granted, less what is never granted.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access as Mode, access};
use sigil_types::Digest;

use crate::client::ExitStatus;
use crate::confine::{Prepared, Stage, StartFailed, Streams};
use crate::profile::base::BaseProfile;
use crate::profile::{self, Access, Bind, CommandAsk, Compiled, Egress, Exec, LinkRule, NeverGrant};
use crate::{people, sys};

mod options;

pub use options::{Options, ParseOptions};

/// The status when the sandbox could not be set up.
pub const FAILED: u8 = 126;
/// The status when there is no such command.
pub const NOT_FOUND: u8 = 127;

/// What serves the egress proxy: it is given the listener inside the command's network namespace and what may be reached,
/// and serves from a thread of its own until the process ends.
pub type ServeEgress<'a> = &'a mut dyn FnMut(OwnedFd, &Egress) -> Result<(), String>;

/// Why a command was not run: what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunFailed {
    /// The command line is wrong.
    #[error(transparent)]
    Options(#[from] ParseOptions),
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

/// Runs `sigil sandbox run` with the arguments after `run`, and returns the exit status for the process: the command's
/// own, 128 and the signal's number when one ended it, 126 or 127 when it did not start. Writes to standard error why.
pub fn main(arguments: impl Iterator<Item = OsString>, egress: Option<ServeEgress<'_>>) -> u8 {
    let options = match Options::parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = std::io::stdout().write_all(options::HELP.as_bytes());
            return 0;
        }
        Err(error) => return complain(&error.into()),
    };
    match run(&options, egress) {
        Ok(ExitStatus::Exited(status)) => u8::try_from(status).unwrap_or(FAILED),
        Ok(ExitStatus::Signaled(signal)) => u8::try_from(128 + signal).unwrap_or(FAILED),
        Ok(ExitStatus::Killed) => 128 + 9,
        Err(error) => complain(&error),
    }
}

fn complain(error: &RunFailed) -> u8 {
    let _ = writeln!(std::io::stderr(), "sigil sandbox run: {error}");
    error.status()
}

/// Runs a command and waits for its end. Signals that this process gets meanwhile are passed on.
///
/// The calling process must have one thread.
///
/// # Errors
/// [`RunFailed`]; then nothing of the command has run.
pub fn run(options: &Options, egress: Option<ServeEgress<'_>>) -> Result<ExitStatus, RunFailed> {
    if !options.hosts.is_empty() && egress.is_none() {
        return Err(RunFailed::NoEgress);
    }
    let compiled = compile(options)?;
    let rules = compiled.egress;
    let prepared = Prepared::new(compiled.profile, Vec::new())?;
    let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let [stdin, stdout, stderr] = standard.map(open);
    let host = |source| StartFailed::Host { what: "cannot block signals", source };
    sys::block_forwarded_signals().map_err(host)?;
    let mut enforced = prepared.start(&Streams { stdin, stdout, stderr })?;
    if let (Some(serve), Some(listener)) = (egress, enforced.egress.take())
        && let Err(why) = serve(listener, &rules)
    {
        let _ = enforced.kill();
        let _ = enforced.wait();
        return Err(RunFailed::Egress(why));
    }
    let wait = |source| StartFailed::Host { what: "cannot wait for the command", source };
    sys::forward_until_exit(enforced.init).map_err(wait)?;
    Ok(ExitStatus::read(&enforced.exit).unwrap_or(ExitStatus::Killed))
}

/// A standard stream, if it is open.
pub(crate) fn open(fd: BorrowedFd<'static>) -> Option<BorrowedFd<'static>> {
    rustix::io::fcntl_getfd(fd.as_fd()).is_ok().then_some(fd)
}

/// The profile of a command, with what was given to it.
pub(crate) fn compile(options: &Options) -> Result<Compiled, RunFailed> {
    let base = BaseProfile::load(&options.profile).map_err(profile::CompileRefused::from)?;
    let real =
        |path: &PathBuf| std::fs::canonicalize(path).map_err(|source| RunFailed::Path { path: path.clone(), source });
    let read: Vec<PathBuf> = options.read.iter().map(real).collect::<Result<_, _>>()?;
    let execute: Vec<PathBuf> = options.execute.iter().map(real).collect::<Result<_, _>>()?;
    let write: Vec<PathBuf> = options.write.iter().map(real).collect::<Result<_, _>>()?;
    let never = never();

    let search = base.env.get("PATH").map_or("/usr/bin:/bin", String::as_str);
    let (path, own_bind) = find(&options.command, search, base, &execute, &never)?;
    let here = std::env::current_dir().ok();
    let cwd = here.filter(|here| read.iter().chain(&execute).chain(&write).any(|granted| here.starts_with(granted)));
    let mut env = std::collections::BTreeMap::new();
    if let Ok(terminal) = std::env::var("TERM") {
        env.insert("TERM".to_owned(), terminal);
    }
    let argv = [&options.command].into_iter().chain(&options.arguments);
    let exec = Exec {
        path,
        argv: argv.map(|text| text.to_str().map(str::to_owned)).collect::<Option<_>>().ok_or(RunFailed::Encoding)?,
        env,
        cwd: cwd.unwrap_or_else(|| base.cwd.clone()),
    };
    let host_ids = host_ids();
    let hosts = options.hosts.clone();
    let ask = CommandAsk { profile: options.profile.clone(), read, execute, write, hosts, exec, never, host_ids };
    let mut compiled = profile::compile_command(ask)?;
    let binds = &mut compiled.profile.binds;
    if let Some(bind) = own_bind.filter(|bind| binds.iter().all(|known| known.target != bind.target)) {
        binds.push(bind);
    }
    Ok(compiled)
}

/// What is never granted to a command on this machine.
pub(crate) fn never() -> NeverGrant {
    NeverGrant { own: vec![PathBuf::from("/var/lib/sigil")], homes: people::homes() }
}

/// The user and group outside. Under root one that nobody has, and that is no plugin's.
fn host_ids() -> (u32, u32) {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if !uid.is_root() {
        return (uid.as_raw(), gid.as_raw());
    }
    let [a, b, c, d, ..] = *Digest::of(b"sigil host id\0sandbox run").as_bytes();
    let id = 0x7000_0000 | (u32::from_le_bytes([a, b, c, d]) & 0x0FFF_FFFF);
    (id, id)
}

/// Where the command is, and the bind that shows it inside when the base profile does not.
fn find(
    command: &OsString,
    search: &str,
    base: &BaseProfile,
    granted: &[PathBuf],
    never: &NeverGrant,
) -> Result<(PathBuf, Option<Bind>), RunFailed> {
    let named = Path::new(command);
    if named.components().count() == 1 && !named.is_absolute() && !command.to_string_lossy().contains('/') {
        let found = search.split(':').map(|folder| Path::new(folder).join(named)).find(|path| is_executable(path));
        let not_found = || RunFailed::NotFound(command.to_string_lossy().into_owned(), search.to_owned());
        return found.map(|path| (path, None)).ok_or_else(not_found);
    }
    let path = std::fs::canonicalize(named).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            RunFailed::NotFound(command.to_string_lossy().into_owned(), "it was named by its path".to_owned())
        }
        _ => RunFailed::Path { path: named.to_path_buf(), source },
    })?;
    let own = base.bind.iter().filter(|bind| bind.access == Access::Exec).map(|bind| &bind.path);
    if own.chain(granted).any(|visible| path.starts_with(visible)) {
        return Ok((path, None));
    }
    never.check(&path, Access::Exec).map_err(|why| profile::CompileRefused::NeverGranted {
        path: path.clone(),
        from: "the command".to_owned(),
        why,
    })?;
    let bind = Bind {
        source: path.clone(),
        target: path.clone(),
        access: Access::Exec,
        optional: false,
        link: LinkRule::Refuse,
    };
    Ok((path, Some(bind)))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Mode::EXEC_OK).is_ok()
}
