//! The tool `search`: plain text, bounded in every direction.

use std::fmt::Write as _;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;
use serde::Deserialize;
use sigil_sdk::{Context, Reply, ToolFailed};

use crate::beneath::{PARAM, Place, open_file, open_subfolder};
use crate::tools::one_line;

const MAX_MATCHES: usize = 200;
const MAX_FILES: usize = 5000;
const MAX_DEPTH: usize = 16;
const MAX_FILE: u64 = 4 * 1024 * 1024;
const MAX_LINE: usize = 300;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    path: Option<String>,
    text: String,
    #[serde(default)]
    ignore_case: bool,
}

pub(crate) fn search(context: &Context, arguments: Search) -> Result<Reply, ToolFailed> {
    let text = if arguments.ignore_case { arguments.text.to_lowercase() } else { arguments.text };
    if text.is_empty() {
        return Err("the text to look for is empty".into());
    }
    let mut run = Run {
        context,
        text,
        ignore_case: arguments.ignore_case,
        out: String::new(),
        matches: 0,
        files: 0,
        stopped: None,
    };
    let roots = match arguments.path {
        Some(path) => vec![path],
        None => context.folders(PARAM).iter().map(|folder| folder.path.display().to_string()).collect(),
    };
    if roots.is_empty() {
        return Err("no folder is granted to this plugin".into());
    }
    for root in roots {
        let place = Place::find(context, &root)?;
        match place.open_folder() {
            Ok(folder) => run.folder(&folder, &place.shown, 0),
            Err(_) => {
                let (parent, name) = place.open_parent()?;
                run.file(&parent, name, &place.shown).map_err(|errno| place.failed(errno))?;
            }
        }
    }
    let note = match (run.matches, run.stopped) {
        (0, None) => format!("nothing found in {} files", run.files),
        (_, None) => String::new(),
        (_, Some(why)) => format!("… stopped: {why}"),
    };
    Ok(Reply::text(format!("{}{note}", run.out)))
}

struct Run<'a> {
    context: &'a Context,
    text: String,
    ignore_case: bool,
    out: String,
    matches: usize,
    files: usize,
    stopped: Option<&'static str>,
}

impl Run<'_> {
    fn folder(&mut self, folder: &OwnedFd, shown: &str, depth: usize) {
        // What cannot be listed or opened is passed over: a search reports what it finds.
        let Ok(entries) = Dir::read_from(folder) else { return };
        let mut names: Vec<(String, FileType)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.file_name().to_str().ok()?.to_owned(), entry.file_type())))
            .filter(|(name, _)| name != "." && name != "..")
            .take(MAX_FILES)
            .collect();
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in names {
            if self.stopped.is_some() {
                return;
            }
            let path = format!("{shown}/{}", one_line(&name));
            if kind != FileType::Directory && self.file(folder, &name, &path) != Err(Errno::ISDIR) {
                continue;
            }
            if depth < MAX_DEPTH
                && let Ok(below) = open_subfolder(folder, &name)
            {
                self.folder(&below, &path, depth + 1);
            }
        }
    }

    fn file(&mut self, parent: &OwnedFd, name: &str, shown: &str) -> Result<(), Errno> {
        if self.files == MAX_FILES {
            self.stopped = Some("more files than one search reads; name a folder further down");
            return Ok(());
        }
        if self.context.time_left().is_zero() {
            self.stopped = Some("out of time; name a folder further down");
            return Ok(());
        }
        let file = open_file(parent, name)?;
        self.files += 1;
        let mut bytes = Vec::new();
        if file.take(MAX_FILE).read_to_end(&mut bytes).is_err() || bytes.contains(&0) {
            return Ok(());
        }
        for (number, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            let found =
                if self.ignore_case { line.to_lowercase().contains(&self.text) } else { line.contains(&self.text) };
            if !found {
                continue;
            }
            if self.matches == MAX_MATCHES {
                self.stopped = Some("more matches than one search shows; look for a longer text");
                break;
            }
            self.matches += 1;
            let line: String = one_line(line).chars().take(MAX_LINE).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(self.out, "{shown}:{}: {line}", number + 1);
        }
        Ok(())
    }
}
