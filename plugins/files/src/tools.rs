//! The tools `list`, `read` and `write`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use serde::Deserialize;
use sigil_sdk::{Context, Reply, ToolFailed};

use crate::beneath::{PARAM, Place, open_file};

/// The most bytes of one read.
pub(crate) const MAX_READ: u64 = 256 * 1024;

/// The most bytes of one write.
pub(crate) const MAX_WRITE: usize = 1024 * 1024;

/// The most entries of one listing.
const MAX_ENTRIES: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    path: Option<String>,
}

pub(crate) fn list(context: &Context, arguments: List) -> Result<Reply, ToolFailed> {
    let Some(path) = arguments.path else { return Ok(Reply::text(granted(context))) };
    let place = Place::find(context, &path)?;
    let folder = place.open_folder()?;
    let mut lines = Vec::new();
    let mut more = false;
    for entry in Dir::read_from(&folder).map_err(|errno| place.failed(errno))? {
        let entry = entry.map_err(|errno| place.failed(errno))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        if lines.len() == MAX_ENTRIES {
            more = true;
            break;
        }
        // An entry that is gone again is not worth an error.
        let Ok(stat) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => "file",
            FileType::Directory => "folder",
            FileType::Symlink => "link",
            _ => "other",
        };
        let size = if kind == "file" { stat.st_size.to_string() } else { "-".into() };
        lines.push(format!("{kind:<6} {size:>10} {}", one_line(name)));
    }
    lines.sort_by(|a, b| a.get(18..).cmp(&b.get(18..)));
    if more {
        lines.push(format!("… and more: only {MAX_ENTRIES} entries are listed"));
    }
    Ok(Reply::text(if lines.is_empty() { "(empty)".into() } else { lines.join("\n") }))
}

fn granted(context: &Context) -> String {
    let line = |folder: &sigil_sdk::Folder| {
        format!("folder {} ({})", folder.path.display(), if folder.writable { "read and write" } else { "read only" })
    };
    let lines: Vec<String> = context.folders(PARAM).iter().map(line).collect();
    if lines.is_empty() { "no folder is granted to this plugin".into() } else { lines.join("\n") }
}

/// A name as one line: a newline or an escape sequence in it would look like something else.
pub(crate) fn one_line(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadFile {
    path: String,
    #[serde(default)]
    offset: u64,
    length: Option<u64>,
}

pub(crate) fn read(context: &Context, arguments: ReadFile) -> Result<Reply, ToolFailed> {
    let place = Place::find(context, &arguments.path)?;
    let (parent, name) = place.open_parent()?;
    let mut file = open_file(&parent, name).map_err(|errno| place.failed(errno))?;
    let size = file.metadata()?.len();
    let length = arguments.length.unwrap_or(MAX_READ).min(MAX_READ);
    file.seek(SeekFrom::Start(arguments.offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    let end = arguments.offset + bytes.len() as u64;
    let text = text_of(bytes).ok_or_else(|| ToolFailed(format!("{} is not text ({size} bytes)", place.shown)))?;
    if end >= size {
        return Ok(Reply::text(text));
    }
    Ok(Reply::text(format!("{text}\n… {} of {size} bytes follow; read on with offset {end}", size - end)))
}

/// The text of bytes that may begin or end inside a character. `None` when they are no UTF-8, or contain NUL.
fn text_of(bytes: Vec<u8>) -> Option<String> {
    if bytes.contains(&0) {
        return None;
    }
    let cut = bytes.iter().take(3).take_while(|byte| (0x80..0xc0).contains(*byte)).count();
    let bytes = bytes.get(cut..)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.to_owned()),
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok().map(ToOwned::to_owned)
        }
        Err(_) => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriteFile {
    path: String,
    content: String,
    #[serde(default)]
    mode: WriteMode,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WriteMode {
    #[default]
    Create,
    Replace,
    Append,
}

pub(crate) fn write(context: &Context, arguments: WriteFile) -> Result<Reply, ToolFailed> {
    let content = arguments.content.as_bytes();
    if content.len() > MAX_WRITE {
        return Err(ToolFailed(format!("at most {MAX_WRITE} bytes are written at once, these are {}", content.len())));
    }
    let place = Place::find(context, &arguments.path)?;
    if !place.folder.writable {
        return Err(place.failed(Errno::ROFS));
    }
    let (parent, name) = place.open_parent()?;
    let failed = |errno| place.failed(errno);
    let base = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match arguments.mode {
        WriteMode::Create => {
            let file = openat(&parent, name, base | OFlags::CREATE | OFlags::EXCL, PRIVATE).map_err(failed)?;
            File::from(file).write_all(content)?;
        }
        WriteMode::Append => {
            // Opened for reading first: only a regular file that is there is appended to.
            open_file(&parent, name).map_err(failed)?;
            let file = openat(&parent, name, base | OFlags::APPEND, Mode::empty()).map_err(failed)?;
            File::from(file).write_all(content)?;
        }
        WriteMode::Replace => replace(&parent, name, content).map_err(failed)?,
    }
    Ok(Reply::text(format!("{} bytes written to {}", content.len(), place.shown)))
}

const PRIVATE: Mode = Mode::from_bits_truncate(0o600);

/// Replaces a file as a whole: whoever reads it sees the old content or the new, never half of it.
fn replace(parent: &std::os::fd::OwnedFd, name: &str, content: &[u8]) -> Result<(), Errno> {
    let mode = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Mode::from_raw_mode(stat.st_mode) & Mode::from_bits_truncate(0o666),
            FileType::Symlink => return Err(Errno::LOOP),
            FileType::Directory => return Err(Errno::ISDIR),
            _ => return Err(Errno::ACCESS),
        },
        Err(Errno::NOENT) => PRIVATE,
        Err(errno) => return Err(errno),
    };
    // Names of files have at most 255 bytes.
    let draft = format!(".{}.sigil-draft", name.chars().take(40).collect::<String>());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat(parent, draft.as_str(), flags, mode) {
        // Left over from a call that was killed.
        Err(Errno::EXIST) => {
            unlinkat(parent, draft.as_str(), AtFlags::empty())?;
            openat(parent, draft.as_str(), flags, mode)?
        }
        other => other?,
    };
    let written =
        File::from(file).write_all(content).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let done = written.and_then(|()| renameat(parent, draft.as_str(), parent, name));
    if done.is_err() {
        // The draft is of no use any more; the error that matters is the first one.
        let _ = unlinkat(parent, draft.as_str(), AtFlags::empty());
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_may_be_cut_inside_a_character() {
        let whole = "aé€😀z".as_bytes();
        for start in 0..whole.len() {
            for end in start..=whole.len() {
                assert!(text_of(whole[start..end].to_vec()).is_some(), "{start}..{end}");
            }
        }
        assert_eq!(text_of(b"a\0b".to_vec()), None);
        assert_eq!(text_of(b"abc\xffabc".to_vec()), None);
    }

    #[test]
    fn a_replaced_file_has_the_new_content_and_no_draft_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), "old").expect("written");
        std::fs::write(folder.path().join(".a.sigil-draft"), "left over").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).expect("linked");
        let parent = std::os::fd::OwnedFd::from(File::open(folder.path()).expect("opened"));
        replace(&parent, "a", b"new").expect("replaced");
        assert_eq!(std::fs::read_to_string(folder.path().join("a")).expect("read"), "new");
        assert_eq!(replace(&parent, "link", b"x"), Err(Errno::LOOP));
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 2);
    }
}
