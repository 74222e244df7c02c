//! The host side of the battery: what the attempts aim at, and the marks that tell whether one of them got there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ring::rand::{SecureRandom, SystemRandom};

use super::fs::tiny_program;
use super::probe::VICTIM;
use super::{Mark, Scene};
use crate::profile::PROXY_PORT;
use crate::sys::probe as sys;

/// What the attempts aim at. Everything is gone again when it is dropped.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) scene: Scene,
    before: BTreeMap<String, String>,
    sockets: Sockets,
    victim: Child,
    /// The victim ends when this is closed.
    _victim_input: Option<ChildStdin>,
    /// Open without close-on-exec, for a careless launcher to hand on.
    _careless: OwnedFd,
    segment: Option<i32>,
}

#[derive(Debug)]
struct Sockets {
    streams: Vec<(&'static str, TcpListener)>,
    datagrams: UdpSocket,
    unix: Vec<(&'static str, UnixListener)>,
    unix_datagrams: UnixDatagram,
}

impl Stage {
    /// Sets everything up. `ids` are the program's user and group outside, when root launches.
    pub(super) fn build(ids: Option<(u32, u32)>) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Numbers of processes come again, and what a killed one left may still be there.
        let mut once = [0; 4];
        SystemRandom::new().fill(&mut once).map_err(|_| io::Error::other("no random numbers"))?;
        let name = format!("sigil-battery-{}-{number}-{:08x}", std::process::id(), u32::from_le_bytes(once));
        let root = fs::canonicalize(place())?.join(&name);
        folders(&root, ids)?;
        let sockets = Sockets::open(&root, &name)?;
        // In this order: the victim inherits it, for others to read through.
        let careless = careless(&root)?;
        let mut victim = start_victim(ids)?;
        let key =
            i32::try_from(std::process::id() % 0x10_0000).unwrap_or(1) << 8 | i32::try_from(number % 0x80).unwrap_or(0);
        let segment = sys::shared_memory(key, 4096, libc::IPC_CREAT | 0o666).ok().and_then(|id| i32::try_from(id).ok());
        let scene = Scene {
            victim: i32::try_from(victim.id()).unwrap_or(0),
            tcp: sockets.port("host"),
            tcp_proxy: sockets.port("proxy"),
            udp: sockets.datagrams.local_addr()?.port(),
            abstract_name: name.clone(),
            keys: (key, key | 0x80),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            cgroup_ns: fs::read_link("/proc/self/ns/cgroup").unwrap_or_default().to_string_lossy().into_owned(),
            env: BTreeSet::new(),
            name: format!("left-by-{name}"),
            root,
        };
        let input = victim.stdin.take();
        let mut stage = Self {
            scene,
            before: BTreeMap::new(),
            sockets,
            victim,
            _victim_input: input,
            _careless: careless,
            segment,
        };
        File::create_new(stage.scene.theirs())?.write_all(b"of another program\n")?;
        stage.before = stage.marks();
        Ok(stage)
    }

    /// Takes away what must stay read-only inside of a folder that may be written: without a mount namespace a launch with it is
    /// refused.
    pub(super) fn without_guards(mut self) -> io::Result<Self> {
        fs::remove_dir_all(self.scene.writable().join(".git"))?;
        self.before = self.marks();
        Ok(self)
    }

    /// The marks that are not as they were.
    pub(super) fn changed(&self) -> Vec<String> {
        let (before, after) = (&self.before, self.marks());
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let differs = |key: &&&String| before.get(**key) != after.get(**key);
        keys.iter().filter(differs).map(|key| (**key).clone()).collect()
    }

    /// Whether an attempt left this behind; whether a process survived, the caller sees from its pipe.
    pub(super) fn left(&self, mark: Mark, survivors: bool) -> bool {
        match mark {
            Mark::Tmp => Path::new("/tmp").join(&self.scene.name).exists(),
            Mark::Shm => Path::new("/dev/shm").join(&self.scene.name).exists(),
            Mark::Segment => sys::shared_memory(self.scene.keys.1, 1, 0).is_ok(),
            Mark::Survivor => survivors,
        }
    }

    /// Everything outside that an attempt might change, as text.
    fn marks(&self) -> BTreeMap<String, String> {
        let mut marks = BTreeMap::new();
        for part in ["outside", "ro", "tree", "rw/.git"] {
            note(&self.scene.root, &self.scene.root.join(part), &mut marks);
        }
        self.sockets.note(&mut marks);
        let victim = PathBuf::from(format!("/proc/{}", self.victim.id()));
        let stat = fs::read_to_string(victim.join("stat")).unwrap_or_default();
        // State and nice value: the third and the nineteenth field; the second, the name, may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        marks.insert("victim: state".into(), fields.first().unwrap_or(&"gone").replace('R', "S"));
        marks.insert("victim: priority".into(), (*fields.get(16).unwrap_or(&"gone")).to_owned());
        let status = fs::read_to_string(victim.join("status")).unwrap_or_default();
        for field in ["TracerPid", "Cpus_allowed"] {
            let line = status.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap_or("gone");
            marks.insert(format!("victim: {field}"), line.to_owned());
        }
        let limits = fs::read_to_string(victim.join("limits")).unwrap_or_default();
        let core = limits.lines().find(|line| line.starts_with("Max core")).unwrap_or("gone");
        marks.insert("victim: limits".into(), core.to_owned());
        marks
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        if let Some(id) = self.segment {
            let _ = sys::remove_shared_memory(id);
        }
        if let Some(id) = sys::shared_memory(self.scene.keys.1, 1, 0).ok().and_then(|id| i32::try_from(id).ok()) {
            let _ = sys::remove_shared_memory(id);
        }
        let _ = fs::remove_file(self.scene.theirs());
        // What an attempt that was ended left there.
        let _ = fs::remove_dir_all(Path::new("/tmp").join(format!("{}-many", self.scene.name)));
        let _ = fs::remove_file(Path::new("/tmp").join(&self.scene.name));
        let _ = fs::remove_file(Path::new("/dev/shm").join(&self.scene.name));
        let _ = fs::remove_dir_all(&self.scene.root);
    }
}

/// Where the folders are made: not below `/tmp`, where the program has a folder of its own, whose Landlock rule would cover
/// everything that is mounted in it.
fn place() -> PathBuf {
    let place = PathBuf::from("/var/tmp");
    if place.is_dir() { place } else { std::env::temp_dir() }
}

/// What stands below `path`: mode, size, time and content of each file, and the names.
fn note(root: &Path, path: &Path, marks: &mut BTreeMap<String, String>) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let content = if meta.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() };
    let mut attributes = [0; 256];
    let length = rustix::fs::llistxattr(path, &mut attributes).unwrap_or(0);
    let seen = format!(
        "{:o} {} {}.{} {} {}",
        meta.mode(),
        meta.uid(),
        meta.mtime(),
        meta.mtime_nsec(),
        length,
        String::from_utf8_lossy(&content)
    );
    marks.insert(name, seen);
    if meta.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            note(root, &entry.path(), marks);
        }
    }
}

/// Makes the folders; modes let anybody in, so that only the sandbox stops the attempts.
fn folders(root: &Path, ids: Option<(u32, u32)>) -> io::Result<()> {
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode));
    fs::create_dir(root)?;
    mode(root, 0o755)?;
    for (name, bits) in [
        ("outside", 0o777),
        ("outside/home", 0o777),
        ("outside/sigil", 0o777),
        ("ro", 0o777),
        ("rw", 0o777),
        ("rw/.git", 0o777),
        ("rw/.git/hooks", 0o777),
        ("tree", 0o777),
        ("private", 0o777),
        ("scratch", 0o777),
    ] {
        fs::create_dir(root.join(name))?;
        mode(&root.join(name), bits)?;
    }
    for (name, bits) in [
        ("outside/secret", 0o644),
        ("outside/writable", 0o666),
        ("outside/movable", 0o666),
        ("outside/own", 0o666),
        ("outside/home/.bashrc", 0o666),
        ("outside/sigil/policy.dsse", 0o666),
        ("ro/readable", 0o644),
        ("ro/writable", 0o666),
        ("rw/mine", 0o666),
        ("tree/program", 0o777),
    ] {
        fs::write(root.join(name), format!("the content of {name}\n"))?;
        mode(&root.join(name), bits)?;
    }
    fs::write(root.join("tree/root-program"), tiny_program(true))?;
    mode(&root.join("tree/root-program"), 0o4755)?;
    // For the loader: a whole program without its execute bit. Without one the attempt says that it cannot be made.
    let _ = fs::copy("/bin/true", root.join("rw/not-executable"));
    let _ = mode(&root.join("rw/not-executable"), 0o644);
    if let Some((uid, gid)) = ids {
        chown(root.join("outside/own"), Some(uid), Some(gid))?;
    }
    Ok(())
}

/// A descriptor of the secret file that survives an execve(2).
fn careless(root: &Path) -> io::Result<OwnedFd> {
    let file = File::open(root.join("outside/secret"))?;
    Ok(rustix::io::dup(&file)?)
}

/// Starts a process of the program's user that waits.
fn start_victim(ids: Option<(u32, u32)>) -> io::Result<Child> {
    let mut victim = own_program(VICTIM, ids);
    let mut child = victim.env("SIGIL_VICTIM", "a secret").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // Until it has executed, it is a copy of this process.
    if let Some(output) = &mut child.stdout {
        output.read_exact(&mut [0])?;
    }
    Ok(child)
}

/// This very program, under another name and as another user.
#[expect(clippy::disallowed_methods, reason = "only this program itself, as the victim or as an unconfined control")]
pub(super) fn own_program(name: &str, ids: Option<(u32, u32)>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
    if let Some((uid, gid)) = ids {
        command.uid(uid).gid(gid);
    }
    command
}

impl Sockets {
    fn open(root: &Path, name: &str) -> io::Result<Self> {
        // If something listens at the proxy's port of this address already, that is as good to aim at.
        let proxy = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), PROXY_PORT));
        let proxy = proxy.or_else(|_| TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)))?;
        let streams = vec![("host", TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?), ("proxy", proxy)];
        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let path = root.join("outside/socket");
        let unix = vec![
            ("path", UnixListener::bind(&path)?),
            ("abstract", UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?),
        ];
        let unix_datagrams = UnixDatagram::bind(root.join("outside/datagrams"))?;
        for socket in ["outside/socket", "outside/datagrams"] {
            fs::set_permissions(root.join(socket), Permissions::from_mode(0o777))?;
        }
        for (_, listener) in &streams {
            listener.set_nonblocking(true)?;
        }
        for (_, listener) in &unix {
            listener.set_nonblocking(true)?;
        }
        datagrams.set_nonblocking(true)?;
        unix_datagrams.set_nonblocking(true)?;
        Ok(Self { streams, datagrams, unix, unix_datagrams })
    }

    fn port(&self, name: &str) -> u16 {
        let found = self.streams.iter().find(|(found, _)| *found == name);
        found.and_then(|(_, listener)| listener.local_addr().ok()).map_or(0, |address| address.port())
    }

    /// Notes whether anybody called.
    fn note(&self, marks: &mut BTreeMap<String, String>) {
        let mut say =
            |name: String, called: bool| marks.insert(name, if called { "called" } else { "quiet" }.to_owned());
        for (name, listener) in &self.streams {
            say(format!("tcp {name}"), listener.accept().is_ok());
        }
        for (name, listener) in &self.unix {
            say(format!("unix {name}"), listener.accept().is_ok());
        }
        say("udp".into(), self.datagrams.recv(&mut [0; 64]).is_ok());
        say("unix datagrams".into(), self.unix_datagrams.recv(&mut [0; 64]).is_ok());
    }
}
