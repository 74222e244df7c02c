//! [`load`]: the whole way from inputs to [`Resolved`] settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use figment::{Figment, Profile};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::check;
use crate::discover::{self, Document, Note};
use crate::folders::Folders;
use crate::layers::{self, Environment, Layer, Source, leaves};
use crate::mistake::{ConfigRefused, Mistake};
use crate::sections::Settings;

/// Everything outside that a configuration depends on, so that a test can say it all.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The file named with `--config`.
    pub config: Option<PathBuf>,
    /// Settings from flags: flag, dotted key, value.
    pub flags: Vec<(String, String, Value)>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The working directory.
    pub working_dir: PathBuf,
    /// Configuration of the whole machine: `/etc/sigil`.
    pub system_dir: PathBuf,
    /// The effective user id.
    pub uid: u32,
}

impl Inputs {
    /// The inputs of this process: its environment, working directory and user.
    #[must_use]
    pub fn from_process(config: Option<PathBuf>, flags: Vec<(String, String, Value)>) -> Self {
        let text = |os: std::ffi::OsString| os.into_string().ok();
        Self {
            config,
            flags,
            environment: std::env::vars_os().filter_map(|(k, v)| Some((text(k)?, text(v)?))).collect(),
            working_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            system_dir: PathBuf::from("/etc/sigil"),
            uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// An absolute folder that a variable names, or the one below the home directory.
    fn folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let absolute = |name: &str| self.environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
    }

    /// `$XDG_CONFIG_HOME/sigil`, or `~/.config/sigil`; none without a home directory.
    #[must_use]
    pub fn config_dir(&self) -> Option<PathBuf> {
        self.folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("sigil"))
    }

    fn data_dir(&self) -> Option<PathBuf> {
        if self.uid == 0 {
            return Some(PathBuf::from("/var/lib/sigil"));
        }
        self.folder("XDG_DATA_HOME", ".local/share").map(|folder| folder.join("sigil"))
    }
}

/// Settings whose invariants hold, and where each came from.
#[derive(Clone, Debug, Serialize)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// Where everything lies.
    pub folders: Folders,
    /// What set each key.
    pub sources: BTreeMap<String, Source>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What an operator should see in the log.
    pub notes: Vec<Note>,
}

/// Reads, merges, validates and resolves.
///
/// # Errors
/// [`ConfigRefused`] with every mistake that could be found at once.
pub fn load(inputs: &Inputs) -> Result<Resolved, ConfigRefused> {
    let (mut mistakes, mut notes) = (Vec::new(), Vec::new());
    let document = discover::read(inputs, &mut notes).map_err(ConfigRefused::new)?;
    let environment = layers::environment(&inputs.environment, &mut mistakes, &mut notes);
    let origins = Origins { document: document.as_ref(), environment: &environment, inputs };
    let merged = origins.merge(&mut mistakes);

    let settings = match check::settings(merged, &|key| origins.of(key).to_string()) {
        Ok(settings) if mistakes.is_empty() => settings,
        Ok(_) => return Err(ConfigRefused::new(mistakes)),
        Err(more) => {
            mistakes.extend(more);
            return Err(ConfigRefused::new(mistakes));
        }
    };
    let folders = folders(inputs, &settings).map_err(|mistake| ConfigRefused::new(vec![mistake]))?;
    let value = serde_json::to_value(&settings).unwrap_or(Value::Null);
    let sources = leaves(&value).into_iter().map(|(key, _)| (key.clone(), origins.of(&key))).collect();
    Ok(Resolved { settings, folders, sources, file: document.map(|document| document.path), notes })
}

/// The layers, strongest last, and the question which of them set a key.
struct Origins<'a> {
    document: Option<&'a Document>,
    environment: &'a Environment,
    inputs: &'a Inputs,
}

impl Origins<'_> {
    fn merge(&self, mistakes: &mut Vec<Mistake>) -> Value {
        let defaults = match serde_json::to_value(Settings::default()) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let mut figment = Figment::new().merge(Layer { name: "default".to_owned(), value: defaults });
        match self.document.map(|document| (&document.path, &document.value)) {
            Some((path, Value::Object(map))) => {
                figment = figment.merge(Layer { name: path.display().to_string(), value: map.clone() });
            }
            Some((path, _)) => mistakes.push(Mistake {
                code: sigil_types::Code::new("config.file.syntax"),
                source: path.display().to_string(),
                key: String::new(),
                reason: "it is not a mapping of sections".to_owned(),
                remedy: "write `section:` lines with keys below them".to_owned(),
            }),
            None => {}
        }
        figment = figment.merge(Layer { name: "environment".to_owned(), value: self.environment.value.clone() });
        let mut flags = Map::new();
        for (_, key, value) in &self.inputs.flags {
            layers::insert(&mut flags, &key.split('.').collect::<Vec<_>>(), value.clone());
        }
        figment = figment.merge(Layer { name: "flags".to_owned(), value: flags });
        figment.select(Profile::Default).extract().unwrap_or_else(|error| {
            mistakes.push(Mistake {
                code: sigil_types::Code::new("config.file.syntax"),
                source: "configuration".to_owned(),
                key: error.path.join("."),
                reason: "the layers cannot be merged".to_owned(),
                remedy: "give this key the same type in every layer".to_owned(),
            });
            Value::Object(Map::new())
        })
    }

    /// What set `key`: the strongest layer that has it or something around it, else one that has something inside it.
    fn of(&self, key: &str) -> Source {
        let flag = |found: &dyn Fn(&str) -> bool| {
            let set = self.inputs.flags.iter().find(|(_, set, _)| found(set));
            set.map(|(flag, ..)| Source::Flag(flag.clone()))
        };
        let variable = |found: &dyn Fn(&str) -> bool| {
            let set = self.environment.names.iter().find(|(set, _)| found(set));
            set.map(|(_, name)| Source::Environment(name.clone()))
        };
        let in_file = || {
            let document = self.document?;
            document.lines.get(key).map(|line| Source::File(document.path.clone(), Some(*line)))
        };
        let around = |set: &str| holds(set, key);
        let inside = |set: &str| holds(key, set);
        flag(&around)
            .or_else(|| variable(&around))
            .or_else(in_file)
            .or_else(|| flag(&inside))
            .or_else(|| variable(&inside))
            .unwrap_or(Source::Default)
    }
}

/// Whether the key `inner` is `outer` or lies in it.
fn holds(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn folders(inputs: &Inputs, settings: &Settings) -> Result<Folders, Mistake> {
    let homeless = |key: &str, reason: &str| Mistake {
        code: sigil_types::Code::new("config.folder.unknown"),
        source: "environment".to_owned(),
        key: key.to_owned(),
        reason: reason.to_owned(),
        remedy: "set HOME to an absolute folder, or name the folder in the configuration".to_owned(),
    };
    let absolute = |path: PathBuf| inputs.working_dir.join(path);
    let data = settings
        .gateway
        .data_dir
        .clone()
        .or_else(|| inputs.data_dir())
        .map(absolute)
        .ok_or_else(|| homeless("gateway.data_dir", "there is no home directory to keep data in"))?;
    let data: PathBuf = data.components().collect();
    let named = inputs.config.clone().map(absolute).and_then(|file| file.parent().map(PathBuf::from));
    let config = if let Some(folder) = named {
        // Policy and keys lie beside the file that was named: it belongs to a Sigil of its own.
        folder
    } else if inputs.uid == 0 && !inputs.environment.contains_key("XDG_CONFIG_HOME") {
        inputs.system_dir.clone()
    } else {
        inputs.config_dir().ok_or_else(|| homeless("policy.bundle", "there is no home directory to find policy in"))?
    };
    let runtime = inputs.environment.get("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let own_data = settings.gateway.data_dir.is_some();
    let socket = match (&settings.gateway.socket, runtime) {
        (Some(socket), _) => absolute(socket.clone()),
        // A data folder that was named belongs to a Sigil of its own, which must not share a socket with the user's.
        (None, Some(runtime)) if !own_data => runtime.join("sigil").join("sigil.sock"),
        (None, _) => data.join("run").join("sigil.sock"),
    };
    let policy = settings.policy.bundle.clone().map_or_else(|| config.join("policy.dsse"), absolute);
    Ok(Folders { launcher: Folders::launcher_of(&data), data, config, policy, socket })
}
