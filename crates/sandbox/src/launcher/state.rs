//! What the launcher knows by itself: a folder that the gateway can neither read nor write once it is confined.
//!
//! * `trust.json`: the keys that may sign a policy (made by `sigil init`; read once, at the start);
//! * `launcher.key`: the launcher's own Ed25519 key, PKCS #8 (made at the first start);
//! * `policy.floor`: the lowest policy version that is accepted, in decimal digits;
//! * `audit.head`: the last audit head that was signed, a C2SP checkpoint.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ring::signature::{Ed25519KeyPair, KeyPair};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use sigil_audit::{SignedHead, SigningKey};
use sigil_policy::TrustStore;
use sigil_types::{Code, Secret};

use crate::sys::WipedOnFork;

const TRUST: &str = "trust.json";
const KEY: &str = "launcher.key";
const FLOOR: &str = "policy.floor";
const HEAD: &str = "audit.head";
/// Longest file that is read there.
const MAX_BYTES: u64 = 1 << 20;
/// Longest key file: PKCS #8 with an Ed25519 key has 83 to 85 bytes.
const MAX_KEY: usize = 128;

/// Why the launcher's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadState {
    /// Something in it cannot be read or written.
    #[error("{path}: {source}; the launcher's folder must belong to the user who runs Sigil")]
    Io {
        /// What.
        path: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// Others could read or write it.
    #[error(
        "{0} can be used by other users; run `chmod go-rwx` on it, and make a new key if others could read this one"
    )]
    Exposed(PathBuf),
    /// A file is not what it should be, or is gone. Losing the floor or the head silently would undo their purpose, so neither
    /// is made anew: all are made at the first start, the key last.
    #[error("{path} is damaged: {what}; restore it from a backup, or move the folder away and run `sigil init` again")]
    Damaged {
        /// What.
        path: PathBuf,
        /// In which way.
        what: String,
    },
    /// There are no keys to trust.
    #[error("{0} does not exist: nobody's policy would be accepted; run `sigil init`")]
    NoTrust(PathBuf),
}

impl LoadState {
    /// The stable code of this error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Io { .. } => const { Code::new("sandbox.launcher.state.unusable") },
            Self::Exposed(_) => const { Code::new("sandbox.launcher.state.exposed") },
            Self::Damaged { .. } => const { Code::new("sandbox.launcher.state.damaged") },
            Self::NoTrust(_) => const { Code::new("sandbox.launcher.trust.missing") },
        }
    }
}

/// The launcher's own folder, read.
#[derive(Debug)]
pub(super) struct State {
    folder: OwnedFd,
    path: PathBuf,
    origin: String,
    key: WipedOnFork<MAX_KEY>,
    key_length: usize,
    pub(super) trust: TrustStore,
    pub(super) floor: u64,
    pub(super) head: Option<SignedHead>,
}

/// Makes the launcher's folder at `path`, closed to others, and writes the keys to trust into it. For `sigil init` and
/// for whoever changes the keys, with Sigil stopped.
///
/// # Errors
/// When the folder or the file cannot be written.
pub fn write_trust(path: &Path, trust: &TrustStore) -> Result<(), LoadState> {
    let io = |source| LoadState::Io { path: path.to_path_buf(), source };
    std::fs::create_dir_all(path).map_err(|error| io(to_errno(&error)))?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0o700)).map_err(io)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(CWD, path, flags, Mode::empty()).map_err(io)?;
    write(&folder, TRUST, trust.to_json().as_bytes()).map_err(io)
}

impl State {
    /// Reads the folder at `path`, making what a first start makes. `origin` names the audit log.
    pub(super) fn load(path: &Path, origin: &str) -> Result<Self, LoadState> {
        let io = |name: &str| {
            let path = path.join(name);
            move |source| LoadState::Io { path, source }
        };
        match mkdirat(CWD, path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(io("")(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(CWD, path, flags, Mode::empty()).map_err(io(""))?;
        let stat = fstat(&folder).map_err(io(""))?;
        if stat.st_mode & 0o077 != 0 || stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(LoadState::Exposed(path.to_path_buf()));
        }
        let damaged = |name: &str, what: String| LoadState::Damaged { path: path.join(name), what };
        let read = |name: &str| read(&folder, name).map_err(io(name));

        let trust = read(TRUST)?.ok_or_else(|| LoadState::NoTrust(path.join(TRUST)))?;
        let trust = TrustStore::parse(&trust).map_err(|error| damaged(TRUST, error.to_string()))?;
        let pkcs8 = match read(KEY)? {
            Some(bytes) => bytes,
            None => first_start(&folder, origin).map_err(|error| match error {
                FirstStart::Key(what) => damaged(KEY, what),
                FirstStart::Write(name, errno) => io(name)(errno),
            })?,
        };
        let gone = |name: &str| damaged(name, "it is not there any more".to_owned());
        let floor = read(FLOOR)?.ok_or_else(|| gone(FLOOR))?;
        let floor = String::from_utf8(floor)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| damaged(FLOOR, "not a number".to_owned()))?;
        let head = String::from_utf8(read(HEAD)?.ok_or_else(|| gone(HEAD))?)
            .map_err(|error| damaged(HEAD, error.to_string()))?
            .parse::<SignedHead>()
            .map_err(|error| damaged(HEAD, error.to_string()))?;
        let pkcs8 = Secret::new(pkcs8);
        let mut padded = Secret::new([0; MAX_KEY]);
        let key_length = pkcs8.expose().len();
        let mut copy = *padded.expose();
        match copy.get_mut(..key_length) {
            Some(place) => place.copy_from_slice(pkcs8.expose()),
            None => return Err(damaged(KEY, "longer than a key".to_owned())),
        }
        padded = Secret::new(copy);
        zeroize::Zeroize::zeroize(&mut copy);
        let key = WipedOnFork::new(padded.expose()).map_err(io(KEY))?;
        let state = Self {
            folder,
            path: path.to_path_buf(),
            origin: origin.to_owned(),
            key,
            key_length,
            trust,
            floor,
            head: Some(head),
        };
        let own = state.signing_key().map_err(|what| damaged(KEY, what))?;
        if state.head.as_ref().is_some_and(|head| !head.signed_by(own.verify_key())) {
            return Err(damaged(HEAD, "not signed by this launcher's key".to_owned()));
        }
        Ok(state)
    }

    fn pkcs8(&self) -> Secret<Vec<u8>> {
        Secret::new(self.key.expose().get(..self.key_length).unwrap_or_default().to_vec())
    }

    /// The key for audit heads. Made for one use: what the launcher forks must not find it in its memory.
    pub(super) fn signing_key(&self) -> Result<SigningKey, String> {
        SigningKey::from_pkcs8(&self.origin, &self.pkcs8()).map_err(|error| error.to_string())
    }

    /// The key for launch receipts: the same, used with another context.
    pub(super) fn receipt_key(&self) -> Result<Ed25519KeyPair, String> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(self.pkcs8().expose()).map_err(|error| error.to_string())
    }

    /// The public half, 32 bytes.
    pub(super) fn public(&self) -> Result<[u8; 32], String> {
        self.receipt_key()?.public_key().as_ref().try_into().map_err(|_| "not an Ed25519 key".to_owned())
    }

    /// Raises the floor for good. It never sinks.
    pub(super) fn raise_floor(&mut self, version: u64) -> Result<(), LoadState> {
        if version > self.floor {
            self.store(FLOOR, format!("{version}\n").as_bytes())?;
            self.floor = version;
        }
        Ok(())
    }

    /// Remembers the last signed head for good.
    pub(super) fn remember_head(&mut self, head: SignedHead) -> Result<(), LoadState> {
        self.store(HEAD, head.note().as_bytes())?;
        self.head = Some(head);
        Ok(())
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), LoadState> {
        write(&self.folder, name, bytes).map_err(|source| LoadState::Io { path: self.path.join(name), source })
    }
}

/// Why the folder could not be made whole at the first start.
enum FirstStart {
    Key(String),
    Write(&'static str, Errno),
}

/// Makes floor, head of the empty log, and key, and returns the key. The key comes last: with it, everything must be there.
fn first_start(folder: &OwnedFd, origin: &str) -> Result<Vec<u8>, FirstStart> {
    let unusable = |error: &dyn std::fmt::Display| FirstStart::Key(error.to_string());
    // A floor above 0 is that of a start before: its key was lost, or taken away.
    let floor = read(folder, FLOOR).map_err(|errno| FirstStart::Write(FLOOR, errno))?;
    if floor.is_some_and(|floor| floor != b"0\n") {
        let why = "there is a policy floor and no key; restore the key from a backup, or move the folder away";
        return Err(unusable(&why));
    }
    let new = SigningKey::generate().map_err(|error| unusable(&error))?;
    let key = SigningKey::from_pkcs8(origin, &new).map_err(|error| unusable(&error))?;
    let head = SignedHead::sign(0, sigil_audit::merkle::empty_root(), &key);
    for (name, bytes) in [(FLOOR, &b"0\n"[..]), (HEAD, head.note().as_bytes()), (KEY, new.expose())] {
        write(folder, name, bytes).map_err(|errno| FirstStart::Write(name, errno))?;
    }
    Ok(new.expose().clone())
}

fn to_errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn read(folder: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| to_errno(&error))?;
    if bytes.len() as u64 > MAX_BYTES { Err(Errno::FBIG) } else { Ok(Some(bytes)) }
}

/// Replaces `name` by `bytes`: whole or not at all, and on the disk when this returns.
fn write(folder: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let new = format!("{name}.new");
    match unlinkat(folder, &new, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(openat(folder, &new, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(bytes).map_err(|error| to_errno(&error))?;
    fsync(file.as_fd())?;
    renameat(folder, &new, folder, name)?;
    fsync(folder)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use sigil_policy::PublicKey;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let trust = TrustStore::of_one("owner".parse().unwrap(), PublicKey::from_bytes([7; 32]));
        write_trust(folder.path(), &trust).unwrap();
        folder
    }

    #[test]
    fn floor_key_and_head_survive() {
        let folder = folder();
        let mut state = State::load(folder.path(), "sigil/test").unwrap();
        state.raise_floor(7).unwrap();
        state.raise_floor(3).unwrap();
        let head = SignedHead::sign(0, sigil_audit::merkle::empty_root(), &state.signing_key().unwrap());
        state.remember_head(head.clone()).unwrap();
        let again = State::load(folder.path(), "sigil/test").unwrap();
        assert_eq!((again.floor, again.head.as_ref()), (7, Some(&head)));
        assert_eq!(again.public().unwrap(), state.public().unwrap());
        let mode = fs::metadata(folder.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn damage_is_not_repaired_silently() {
        for (name, content) in [(FLOOR, "seven"), (HEAD, "nonsense"), (KEY, "short"), (TRUST, "{}")] {
            let folder = folder();
            State::load(folder.path(), "sigil/test").unwrap();
            fs::write(folder.path().join(name), content).unwrap();
            let refused = State::load(folder.path(), "sigil/test").unwrap_err();
            assert!(matches!(refused, LoadState::Damaged { .. }), "{name}: {refused}");
        }
        let other = folder();
        let state = State::load(other.path(), "sigil/test").unwrap();
        let head = SignedHead::sign(0, sigil_audit::merkle::empty_root(), &state.signing_key().unwrap());
        let folder = folder();
        State::load(folder.path(), "sigil/test").unwrap();
        fs::write(folder.path().join(HEAD), head.note()).unwrap();
        assert!(matches!(State::load(folder.path(), "sigil/test"), Err(LoadState::Damaged { .. })));
    }

    #[test]
    fn what_is_lost_is_not_made_anew() {
        for name in [FLOOR, HEAD] {
            let folder = folder();
            State::load(folder.path(), "sigil/test").unwrap();
            fs::remove_file(folder.path().join(name)).unwrap();
            let refused = State::load(folder.path(), "sigil/test").unwrap_err();
            assert!(matches!(refused, LoadState::Damaged { .. }), "{name}: {refused}");
            assert!(!folder.path().join(name).exists());
        }
        // Without the key, nothing that it has signed is believed any more: it is a first start.
        let folder = folder();
        let before = State::load(folder.path(), "sigil/test").unwrap().public().unwrap();
        fs::remove_file(folder.path().join(KEY)).unwrap();
        assert_ne!(State::load(folder.path(), "sigil/test").unwrap().public().unwrap(), before);
    }

    #[test]
    fn an_open_folder_or_no_trust_is_refused() {
        let open = folder();
        fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(State::load(open.path(), "sigil/test"), Err(LoadState::Exposed(_))));
        let empty = folder();
        fs::remove_file(empty.path().join(TRUST)).unwrap();
        assert!(matches!(State::load(empty.path(), "sigil/test"), Err(LoadState::NoTrust(_))));
    }
}
