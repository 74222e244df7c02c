//! [`Plan`]: what a command gets, decided from what a person says and from what is there.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access as Mode, access};
use sigil_types::Digest;

use super::terminal::Terminal;
use super::wishes::{self, Wishes};
use super::{Gets, Options, RunFailed, complain};
use crate::confine::StartFailed;
use crate::people;
use crate::profile::base::BaseProfile;
use crate::profile::{self, Access, Bind, CommandAsk, Compiled, Device, Exec, NeverGrant, Wish};

/// Everything that is decided before the command is started.
#[derive(Debug)]
pub struct Plan {
    /// Its profile.
    pub compiled: Compiled,
    /// How long it may take.
    pub(crate) wall: Option<std::time::Duration>,
    /// Whether something is hidden or kept that must stay so.
    pub(crate) covered: bool,
    /// What tools would run commands from, and is not there.
    pub(crate) absent: Vec<PathBuf>,
    /// The terminal of the command, and its end of it.
    pub(super) terminal: Option<(Terminal, OwnedFd)>,
}

/// Decides what the command of `options` gets.
pub(super) fn of_wishes(options: &Options, gets: &Gets, depth: Option<u8>, terminal: bool) -> Result<Plan, RunFailed> {
    let name = gets.profile.as_deref().unwrap_or("shell");
    let base = BaseProfile::load(name).map_err(profile::CompileRefused::from)?;
    let never = never();
    let Wishes { mut files, masks, absent, notes, .. } =
        wishes::resolve(&gets.paths, &never, &base.own_places(), depth)?;
    notes.iter().for_each(|note| complain(&format!("note: {note}")));

    let cwd = match &gets.cwd {
        Some(cwd) => wishes::canonical(cwd)?,
        None => {
            let here = std::env::current_dir().ok();
            let granted = |here: &PathBuf| files.iter().any(|wish| here.starts_with(&wish.path));
            here.filter(granted).unwrap_or_else(|| base.cwd.clone())
        }
    };
    let env = wishes::environment(&gets.env)?;
    let search = env.get("PATH").or_else(|| base.env.get("PATH")).map_or("/usr/bin:/bin", String::as_str);
    let path = if options.command.is_empty() { PathBuf::from("/bin/true") } else { find(&options.command, search)? };
    let path = if is_visible(&path, base, &files) { path } else { wishes::canonical(&path)? };
    if !is_visible(&path, base, &files) {
        files.push(Wish { from: "the command".to_owned(), ..Wish::new(path.clone(), Access::Exec) });
    }
    let argv = [&options.command].into_iter().chain(&options.arguments);
    let argv = argv.map(|text| text.to_str().map(str::to_owned)).collect::<Option<_>>().ok_or(RunFailed::Encoding)?;
    let terminal = if terminal { open_terminal()? } else { None };
    let covered = !masks.is_empty();
    let compiled = profile::compile_command(CommandAsk {
        profile: name.to_owned(),
        files,
        masks,
        hosts: gets.hosts.clone(),
        exec: Exec { path, argv, env, cwd },
        never,
        host_ids: host_ids(),
        posture: gets.posture,
        limits: gets.limits.clone(),
        terminal: terminal.is_some(),
    })?;
    Ok(Plan { compiled, wall: gets.wall, covered, absent, terminal })
}

/// What is never granted to a command on this machine.
pub(crate) fn never() -> NeverGrant {
    NeverGrant { own: vec![PathBuf::from("/var/lib/sigil")], homes: people::homes() }
}

/// Decides that the command of `options` gets what a plugin gets, by `compiled`.
pub(super) fn like(options: &Options, gets: &Gets, mut compiled: Compiled) -> Result<Plan, RunFailed> {
    let base = BaseProfile::load(&compiled.profile.name).map_err(profile::CompileRefused::from)?;
    let profile = &mut compiled.profile;
    // The folder in which a go-plugin program makes its socket is of a launch by the gateway; here is none.
    profile.binds.retain(|bind| bind.access != Access::Scratch);
    let temporary = base.tmpfs.iter().filter(|own| profile.tmpfs.iter().all(|known| known.path != own.path));
    let temporary: Vec<_> = temporary.map(profile::base::BaseTmpfs::tmpfs).collect();
    profile.tmpfs.extend(temporary);

    let env = wishes::environment(&gets.env)?;
    let search = env.get("PATH").or_else(|| profile.exec.env.get("PATH")).map_or("/usr/bin:/bin", String::as_str);
    // Below the plugin's own folder the command is named as it is inside.
    let named = Path::new(&options.command);
    let of_plugin = named.starts_with(profile::TREE) || options.command.is_empty();
    let path = if of_plugin { named.to_path_buf() } else { find(&options.command, search)? };
    let visible = |path: &Path| {
        let same = profile.binds.iter().filter(|bind| bind.access == Access::Exec && bind.source == bind.target);
        same.into_iter().any(|bind| path.starts_with(&bind.target))
    };
    if !of_plugin && !visible(&path) {
        let path = wishes::canonical(&path)?;
        let from = "the command".to_owned();
        never().check(&path, Access::Exec).map_err(|why| profile::CompileRefused::NeverGranted {
            path: path.clone(),
            from,
            why,
        })?;
        let link = profile::LinkRule::Refuse;
        profile.binds.push(Bind { source: path.clone(), target: path, access: Access::Exec, optional: false, link });
        profile.binds.sort_by(|a, b| a.target.cmp(&b.target));
    }
    let argv = [&options.command].into_iter().chain(&options.arguments);
    profile.exec.argv =
        argv.map(|text| text.to_str().map(str::to_owned)).collect::<Option<_>>().ok_or(RunFailed::Encoding)?;
    profile.exec.path = path;
    profile.exec.env.extend(env);
    (profile.identity.host_uid, profile.identity.host_gid) = host_ids();
    let terminal = if options.explain { None } else { open_terminal()? };
    if terminal.is_some() {
        profile.devices.insert(Device::Tty);
    }
    Ok(Plan { compiled, wall: None, covered: false, absent: Vec::new(), terminal })
}

fn open_terminal() -> Result<Option<(Terminal, OwnedFd)>, RunFailed> {
    let what = "cannot make a terminal for the command";
    Terminal::open().map_err(|source| StartFailed::Host { what, source }.into())
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

/// Where the command is: named by its path, or found in `search`.
fn find(command: &OsString, search: &str) -> Result<PathBuf, RunFailed> {
    let named = Path::new(command);
    if !command.to_string_lossy().contains('/') {
        let found = search.split(':').map(|folder| Path::new(folder).join(named)).find(|path| is_executable(path));
        return found.ok_or_else(|| RunFailed::NotFound(command.to_string_lossy().into_owned(), search.to_owned()));
    }
    std::fs::canonicalize(named).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            RunFailed::NotFound(command.to_string_lossy().into_owned(), "it was named by its path".to_owned())
        }
        _ => RunFailed::Path { path: named.to_path_buf(), source },
    })
}

/// Whether the program at `path` is there inside without being granted by itself.
fn is_visible(path: &Path, base: &BaseProfile, files: &[Wish]) -> bool {
    let of_base = base.bind.iter().filter(|bind| bind.access == Access::Exec).map(|bind| &bind.path);
    let granted = files.iter().filter(|wish| wish.access == Access::Exec).map(|wish| &wish.path);
    of_base.chain(granted).any(|visible| path.starts_with(visible))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Mode::EXEC_OK).is_ok()
}
