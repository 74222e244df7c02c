//! [`Source`]: the files of a policy before they are signed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sigil_types::Code;

use crate::ceilings::Ceilings;
use crate::envelope::MAX_ENVELOPE_BYTES;
use crate::payload::{Files, is_bundle_path};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// A small set of changes to the default policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Preset {
    /// Asks a human where a label check fails.
    Balanced,
    /// Forbids where a label check fails.
    Strict,
    /// As balanced, with larger budgets and fewer blocks on what the owner types.
    Developer,
}

impl Preset {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Balanced, Self::Strict, Self::Developer];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Strict => "strict",
            Self::Developer => "developer",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().copied().find(|preset| preset.as_str() == text);
        known.ok_or_else(|| "expected one of: balanced, strict, developer".to_owned())
    }
}

/// Why a policy source is refused.
#[derive(Debug, thiserror::Error)]
pub enum SourceRefused {
    /// A file or folder cannot be read or written.
    #[error("cannot read or write {}: {source}", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is no part of a policy.
    #[error(
        "`{path}` is no part of a policy; it consists of schema.cedarschema, ceilings.toml, scan.toml, system.md, tests.toml, \
         NAME.cedar and scanner/NAME.toml"
    )]
    Stray {
        /// Its path within the source.
        path: String,
    },
    /// The files together are larger than a bundle may be.
    #[error("the policy's files have more than {MAX_ENVELOPE_BYTES} bytes")]
    TooLarge,
    /// The source has presets, and none was chosen.
    #[error("the policy source has presets; choose one of balanced, strict, developer")]
    PresetMissing,
    /// A preset was chosen that the source does not have.
    #[error("the policy source has no preset `{0}`")]
    PresetUnknown(Preset),
    /// The ceilings are not valid.
    #[error("ceilings.toml: {0}")]
    Ceilings(String),
}

impl SourceRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Files { .. } => Code::new("policy.source.files.unreadable"),
            Self::Stray { .. } => Code::new("policy.source.file.stray"),
            Self::TooLarge => Code::new("policy.source.size.exceeded"),
            Self::PresetMissing => Code::new("policy.source.preset.missing"),
            Self::PresetUnknown(_) => Code::new("policy.source.preset.unknown"),
            Self::Ceilings(_) => Code::new("policy.source.ceilings.invalid"),
        }
    }
}

/// The files of a policy, with its preset already worked in.
///
/// INVARIANT: every path is one that a bundle may have. Nothing here is trusted: only a signed bundle becomes a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    files: Files,
}

impl Source {
    /// The default policy that is part of this Sigil, under `preset`.
    ///
    /// # Errors
    /// Never for the files that it was built with; they are tested.
    pub fn embedded(preset: Preset) -> Result<Self, SourceRefused> {
        let files = embedded::FILES.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Self::resolve(files, Some(preset))
    }

    /// Reads a folder. `preset` is required where it has a folder `presets`, and refused where it has none.
    ///
    /// Files whose name begins with a dot, `README.md` and other folders are passed over.
    ///
    /// # Errors
    /// When a file cannot be read, is no part of a policy, or the whole is too large, or the preset does not suit.
    pub fn load(folder: &Path, preset: Option<Preset>) -> Result<Self, SourceRefused> {
        let mut files = Vec::new();
        read_folder(folder, "", &mut files)?;
        read_folder(&folder.join("scanner"), "scanner/", &mut files)?;
        for preset in Preset::ALL {
            let prefix = format!("presets/{preset}/");
            read_folder(&folder.join(&prefix), &prefix, &mut files)?;
        }
        Self::resolve(files, preset)
    }

    /// Takes files from memory: path and text.
    ///
    /// # Errors
    /// When one is no part of a policy, or the whole is too large.
    pub fn from_files(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, SourceRefused> {
        Self::resolve(files, None)
    }

    fn resolve(
        files: impl IntoIterator<Item = (String, String)>,
        preset: Option<Preset>,
    ) -> Result<Self, SourceRefused> {
        let mut source = Self { files: Files::new() };
        let mut overlay = Vec::new();
        let mut has_presets = false;
        for (path, text) in files {
            match path.strip_prefix("presets/").and_then(|rest| rest.split_once('/')) {
                None => source.set_file(&path, &text)?,
                Some((name, inner)) => {
                    has_presets = true;
                    if preset.is_some_and(|preset| preset.as_str() == name) {
                        overlay.push((inner.to_owned(), text));
                    }
                }
            }
        }
        match preset {
            None if has_presets => return Err(SourceRefused::PresetMissing),
            Some(preset) if overlay.is_empty() => return Err(SourceRefused::PresetUnknown(preset)),
            _ => {}
        }
        for (path, text) in overlay {
            source.lay_over(&path, &text)?;
        }
        let bytes: usize = source.files.iter().map(|(path, text)| path.len() + text.len()).sum();
        // In the envelope a file is JSON, and that is base64: a third more at least.
        if bytes > MAX_ENVELOPE_BYTES / 2 { Err(SourceRefused::TooLarge) } else { Ok(source) }
    }

    /// Works one file of a preset in: rows of the scan table come first, tests are added, ceilings are merged key by key,
    /// and policies are added as files of their own.
    fn lay_over(&mut self, path: &str, text: &str) -> Result<(), SourceRefused> {
        let base = self.files.get(path).map(|base| base.to_string()).unwrap_or_default();
        match path {
            "scan.toml" => self.set_file(path, &format!("{text}\n{base}")),
            "tests.toml" => self.set_file(path, &format!("{base}\n{text}")),
            "ceilings.toml" => {
                let mut merged: toml::Table = base.parse().map_err(ceilings_error)?;
                merge(&mut merged, text.parse().map_err(ceilings_error)?);
                let text = toml::to_string(&merged).map_err(ceilings_error)?;
                self.set_ceilings(&Ceilings::parse(&text).map_err(ceilings_error)?)
            }
            _ => self.set_file(path, text),
        }
    }

    /// The files: path and text, in order of path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (&**path, &**text))
    }

    /// The text of one file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|text| &**text)
    }

    /// Adds or replaces one file.
    ///
    /// # Errors
    /// When `path` is no part of a policy.
    pub fn set_file(&mut self, path: &str, text: &str) -> Result<(), SourceRefused> {
        if !is_bundle_path(path) {
            return Err(SourceRefused::Stray { path: path.escape_debug().to_string() });
        }
        self.files.insert(path.into(), text.into());
        Ok(())
    }

    /// Takes one file out.
    pub fn remove_file(&mut self, path: &str) {
        self.files.remove(path);
    }

    /// The ceilings.
    ///
    /// # Errors
    /// When `ceilings.toml` is missing or not valid.
    pub fn ceilings(&self) -> Result<Ceilings, SourceRefused> {
        Ceilings::parse(self.file("ceilings.toml").unwrap_or_default()).map_err(ceilings_error)
    }

    /// Changes the ceilings, and writes `ceilings.toml` anew.
    ///
    /// # Errors
    /// When they are not valid before or after.
    pub fn edit_ceilings(&mut self, edit: impl FnOnce(&mut Ceilings)) -> Result<(), SourceRefused> {
        let mut ceilings = self.ceilings()?;
        edit(&mut ceilings);
        ceilings.check().map_err(ceilings_error)?;
        self.set_ceilings(&ceilings)
    }

    fn set_ceilings(&mut self, ceilings: &Ceilings) -> Result<(), SourceRefused> {
        let text = ceilings.to_toml().map_err(ceilings_error)?;
        self.set_file("ceilings.toml", &explained(&text))
    }

    /// Writes the files into `folder`, which is made; files of the same name are replaced.
    ///
    /// # Errors
    /// When a file or folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), SourceRefused> {
        for (path, text) in self.files() {
            let path = folder.join(path);
            let write = || {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(&path, text)
            };
            write().map_err(|source| SourceRefused::Files { path: path.clone(), source })?;
        }
        Ok(())
    }

    pub(crate) const fn all_files(&self) -> &Files {
        &self.files
    }
}

fn ceilings_error(error: impl fmt::Display) -> SourceRefused {
    SourceRefused::Ceilings(error.to_string().trim_end().to_owned())
}

/// Reads the files of one folder, not of those in it. A missing folder has none, but for the outermost.
fn read_folder(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) -> Result<(), SourceRefused> {
    let fail = |path: &Path, source| SourceRefused::Files { path: path.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !prefix.is_empty() => return Ok(()),
        Err(error) => return Err(fail(folder, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| fail(folder, error))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() || name.starts_with('.') || name == "README.md" {
            continue;
        }
        let length = fs::metadata(&path).map_err(|error| fail(&path, error))?.len();
        if length > MAX_ENVELOPE_BYTES as u64 {
            return Err(SourceRefused::TooLarge);
        }
        let text = fs::read_to_string(&path).map_err(|error| fail(&path, error))?;
        files.push((format!("{prefix}{name}"), text));
    }
    Ok(())
}

/// Lays `over` over `base`: tables key by key, everything else whole.
fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// What stands above each section of a written `ceilings.toml`.
const EXPLANATIONS: &[(&str, &str)] = &[
    ("[labels]", "How text that people type is labelled, and whose platforms read along."),
    ("[budgets]", "What a session may spend."),
    ("[sandbox]", "What one sandboxed program may use at most."),
    ("[exposure]", "Where Sigil's own server may listen; nowhere but the Unix socket when empty."),
    ("[capabilities]", "The rights that anybody can have at all; a denial always wins."),
    ("[links]", "The links that may leave in a reply as they are, whoever influenced it."),
    ("[[egress.local]]", "One address of this machine or a private network, for one plugin or `host`."),
    ("[[providers]]", "A model provider that may be called."),
    ("[[secrets]]", "Who may be given which secret, for which hosts."),
];

fn explained(text: &str) -> String {
    let mut written = String::from(
        "# What no setting, manifest or model can go beyond. What is absent is not allowed.\n\
         # Nothing here counts before it is signed: sigil policy test, then sigil policy sign.\n\n",
    );
    let mut said = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some((section, words)) = EXPLANATIONS.iter().find(|(section, _)| *section == line)
            && said.insert(*section)
        {
            written.push_str(&format!("# {words}\n"));
        }
        written.push_str(line);
        written.push('\n');
    }
    written
}
