//! [`Listeners`]: the sockets, opened before the gateway confines itself and before it has a runtime.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use sigil_types::Code;

/// The longest path of a Unix socket, in bytes (unix(7): 108 with the final NUL).
const MAX_SOCKET_PATH: usize = 107;

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindRefused {
    /// An address that other machines can reach.
    #[error("{0} can be reached from other machines, and there is no TLS yet: listen on 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The port is taken, or may not be used.
    #[error("cannot listen on {address}: {source}; choose another port in gateway.listen")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The socket's path is longer than the system takes.
    #[error("the path of the Unix socket has more than {MAX_SOCKET_PATH} bytes; set a shorter gateway.socket")]
    PathTooLong,
    /// The folder of the socket belongs to somebody else, or others may write to it.
    #[error("{0} is not this user's alone, so others could replace the socket in it; choose another in gateway.socket")]
    FolderExposed(PathBuf),
    /// Something that is no socket lies there.
    #[error("{0} exists and is not a socket; move it away, or set another gateway.socket")]
    NotASocket(PathBuf),
    /// Another gateway answers there.
    #[error("another Sigil answers on {0}; stop it first, or use another --data-dir")]
    Running(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen on {path}: {source}")]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl BindRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NotLoopback(_) => Code::new("server.listen.address.exposed"),
            Self::Tcp { .. } => Code::new("server.listen.address.unusable"),
            Self::PathTooLong => Code::new("server.listen.socket.path"),
            Self::FolderExposed(_) => Code::new("server.listen.socket.exposed"),
            Self::NotASocket(_) => Code::new("server.listen.socket.occupied"),
            Self::Running(_) => Code::new("server.listen.socket.running"),
            Self::Unix { .. } => Code::new("server.listen.socket.unusable"),
        }
    }
}

/// The open sockets. The Unix socket's file is removed when this is dropped.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) tcp: Option<TcpListener>,
    pub(crate) unix: Option<UnixListener>,
    path: Option<SocketFile>,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

impl Listeners {
    /// Opens the sockets that are asked for.
    ///
    /// # Errors
    /// [`BindRefused`]; nothing is left open then.
    pub fn bind(address: Option<SocketAddr>, socket: Option<&Path>) -> Result<Self, BindRefused> {
        let tcp = address.map(bind_tcp).transpose()?;
        let unix = socket.map(bind_unix).transpose()?;
        let path = socket.map(|path| SocketFile(path.to_owned()));
        Ok(Self { tcp, unix, path })
    }

    /// Where TCP listens, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// Where the Unix socket lies.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        self.path.as_ref().map(|file| file.0.as_path())
    }
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, BindRefused> {
    if !address.ip().is_loopback() {
        return Err(BindRefused::NotLoopback(address));
    }
    let failed = |source| BindRefused::Tcp { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn bind_unix(path: &Path) -> Result<UnixListener, BindRefused> {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(BindRefused::PathTooLong);
    }
    let failed = |source| BindRefused::Unix { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    if !folder.exists() {
        fs::create_dir_all(folder).map_err(failed)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    let metadata = fs::metadata(folder).map_err(failed)?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !own || metadata.mode() & 0o022 != 0 {
        return Err(BindRefused::FolderExposed(folder.to_owned()));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(BindRefused::NotASocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(BindRefused::Running(path.to_owned())),
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Nobody else can write to the folder, so nobody can put another socket here in between; nobody else may search it
    // either unless it was made so, and the peer's user id is checked on every connection.
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on() {
        for exposed in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let refused = Listeners::bind(Some(exposed.parse().expect("an address")), None).expect_err("exposed");
            assert_eq!(refused.code().as_str(), "server.listen.address.exposed");
        }
        let listeners = Listeners::bind(Some("127.0.0.1:0".parse().expect("an address")), None).expect("loopback");
        assert!(listeners.address().is_some_and(|address| address.port() != 0));
    }

    #[test]
    fn a_socket_is_private_replaces_a_dead_one_and_no_live_one() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("run").join("sigil.sock");
        let first = Listeners::bind(None, Some(&path)).expect("a socket");
        let mode = |path: &Path| fs::metadata(path).expect("exists").mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
        let refused = Listeners::bind(None, Some(&path)).expect_err("running");
        assert_eq!(refused.code().as_str(), "server.listen.socket.running");
        let Listeners { unix, path: file, .. } = first;
        drop(unix);
        std::mem::forget(file);
        assert!(path.exists(), "left by a gateway that was killed");
        let again = Listeners::bind(None, Some(&path)).expect("the dead one is replaced");
        drop(again);
        assert!(!path.exists());
    }

    #[test]
    fn an_exposed_folder_a_foreign_file_and_a_long_path_are_refused() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("file");
        fs::write(&file, "x").expect("written");
        let code = |path: &Path| Listeners::bind(None, Some(path)).expect_err("refused").code();
        assert_eq!(code(&file).as_str(), "server.listen.socket.occupied");
        assert_eq!(code(&root.path().join("x".repeat(200))).as_str(), "server.listen.socket.path");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).expect("mode");
        assert_eq!(code(&root.path().join("sock")).as_str(), "server.listen.socket.exposed");
    }
}
