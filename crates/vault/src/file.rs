//! Files that hold secrets: who may own and read them, and how they are replaced.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};
use sigil_types::{Code, Secret};
use zeroize::Zeroizing;

/// Why a file that holds secrets is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileRefused {
    /// It cannot be opened, read or written.
    #[error("{path} cannot be used: {source}")]
    System {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read or change it.
    #[error(
        "{path} has mode {mode:o}: others than its owner can use it. Run `chmod go= {path}`, and change the secrets in it if others may have read them"
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{path} belongs to user {owner}, not to {us}, who runs this")]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who asked.
        us: u32,
    },
    /// It is not a plain file, or not a folder.
    #[error("{path} is not {wanted}")]
    Kind {
        /// Which file.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// It is larger than such a file is.
    #[error("{path} is larger than {limit} bytes")]
    Large {
        /// Which file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// It is not UTF-8 text.
    #[error("{path} is not UTF-8 text")]
    Text {
        /// Which file.
        path: PathBuf,
    },
}

impl FileRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::System { .. } => Code::new("vault.file.use.failed"),
            Self::Open { .. } => Code::new("vault.file.mode.open"),
            Self::Foreign { .. } => Code::new("vault.file.owner.foreign"),
            Self::Kind { .. } => Code::new("vault.file.kind.wrong"),
            Self::Large { .. } => Code::new("vault.file.size.exceeded"),
            Self::Text { .. } => Code::new("vault.file.text.invalid"),
        }
    }

    /// Whether there is no such file.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads a file that holds a secret: a plain file of ours that nobody else can use, at most `limit` bytes.
///
/// What is checked is what is read: both go through one descriptor. A symbolic link is not followed.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, FileRefused> {
    let failed = |source| FileRefused::System { path: path.to_owned(), source };
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileRefused::Kind { path: path.to_owned(), wanted: "a plain file" });
    }
    ours_alone(path, &metadata, 0o077)?;
    if metadata.len() > limit {
        return Err(FileRefused::Large { path: path.to_owned(), limit });
    }
    // One byte more than it said that it has, so that the buffer never moves and leaves a copy behind.
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(metadata.len()).unwrap_or(usize::MAX).saturating_add(1)]);
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads a secret from a file of its own: text, at most 64 KiB, without the line end that editors add.
///
/// # Errors
/// When others than its owner can use the file, it is not ours, or not text.
pub fn read_secret_file(path: &Path) -> Result<Secret<String>, FileRefused> {
    let bytes = read(path, 64 * 1024)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| FileRefused::Text { path: path.to_owned() })?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Secret::new(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

/// Makes `folder` for its owner only, or checks that nobody else can change what is in it.
pub(crate) fn claim_folder(folder: &Path) -> Result<(), FileRefused> {
    let failed = |source| FileRefused::System { path: folder.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let metadata = std::fs::symlink_metadata(folder).map_err(failed)?;
    if !metadata.is_dir() {
        return Err(FileRefused::Kind { path: folder.to_owned(), wanted: "a folder" });
    }
    ours_alone(folder, &metadata, 0o022)
}

fn ours_alone(path: &Path, metadata: &std::fs::Metadata, forbidden: u32) -> Result<(), FileRefused> {
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let us = rustix::process::geteuid().as_raw();
    if owner != us {
        return Err(FileRefused::Foreign { path: path.to_owned(), owner, us });
    }
    if mode & forbidden != 0 {
        return Err(FileRefused::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Replaces the file at `path`: whoever reads it finds the old bytes or the new ones, also after a crash.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileRefused> {
    let failed = |source| FileRefused::System { path: path.to_owned(), source };
    let mut random = [0_u8; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| failed(io::Error::other("no randomness")))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{:016x}", u64::from_be_bytes(random)));
    let temporary = PathBuf::from(temporary);
    let written = write_new(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // The error that matters is the one above.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(failed)?;
    sync_folder_of(path).map_err(failed)
}

/// Writes a file that is not there yet, for its owner only. Fails when it is there.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), FileRefused> {
    write_new(path, bytes)
        .and_then(|()| sync_folder_of(path))
        .map_err(|source| FileRefused::System { path: path.to_owned(), source })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
