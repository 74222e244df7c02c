//! What a tool knows about its call and its instance.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sigil_proto::v1::InitRequest;
use sigil_types::Secret;

/// What an instance was told when it started.
#[derive(Debug, Default)]
pub(crate) struct Instance {
    config: serde_json::Value,
    secrets: BTreeMap<String, Secret<String>>,
    folders: BTreeMap<String, Vec<Folder>>,
}

/// A folder that the signed policy grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where it is, as this plugin sees it.
    pub path: PathBuf,
    /// Whether this plugin may write there.
    pub writable: bool,
}

impl Instance {
    pub(crate) fn new(request: InitRequest) -> Result<Self, String> {
        let config = if request.config_json.is_empty() {
            serde_json::Value::Object(serde_json::Map::new())
        } else {
            serde_json::from_str(&request.config_json)
                .map_err(|error| format!("the configuration is not JSON: {error}"))?
        };
        let folder = |folder: sigil_proto::v1::Folder| Folder { path: folder.path.into(), writable: folder.writable };
        let folders = request.folders.into_iter();
        Ok(Self {
            config,
            secrets: request.secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
            folders: folders.map(|(name, list)| (name, list.folders.into_iter().map(folder).collect())).collect(),
        })
    }
}

/// What a tool knows about its call: the configuration and grants of the instance, and how much time is left.
#[derive(Clone, Debug)]
pub struct Context {
    instance: Arc<Instance>,
    call: String,
    deadline: Instant,
}

impl Context {
    pub(crate) fn new(instance: Arc<Instance>, call: String, time: Duration) -> Self {
        Self { instance, call, deadline: Instant::now() + time }
    }

    /// The configuration, which the host has checked against the schema in the manifest.
    ///
    /// # Errors
    /// When it does not have the form of `T`.
    pub fn config<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.instance.config)
    }

    /// A secret of the configuration.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&Secret<String>> {
        self.instance.secrets.get(name)
    }

    /// The folders granted under the parameter `param` of the manifest.
    #[must_use]
    pub fn folders(&self, param: &str) -> &[Folder] {
        self.instance.folders.get(param).map_or(&[], Vec::as_slice)
    }

    /// The granted folder that holds `path`, and the rest of the path below it: the longest one when several do.
    #[must_use]
    pub fn folder_of<'a>(&'a self, param: &str, path: &'a Path) -> Option<(&'a Folder, &'a Path)> {
        let below = |folder: &'a Folder| path.strip_prefix(&folder.path).ok().map(|rest| (folder, rest));
        self.folders(param).iter().filter_map(below).min_by_key(|(_, rest)| rest.components().count())
    }

    /// The id of the call, for logs.
    #[must_use]
    pub fn call(&self) -> &str {
        &self.call
    }

    /// How much time is left; zero when the host has given up.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_granted_folder_wins() {
        let folder = |path: &str, writable| Folder { path: path.into(), writable };
        let folders = BTreeMap::from([("folders".to_owned(), vec![folder("/a", true), folder("/a/b", false)])]);
        let instance = Arc::new(Instance { folders, ..Instance::default() });
        let context = Context::new(instance, "1".into(), Duration::from_secs(1));
        let found = |path: &str| {
            context.folder_of("folders", Path::new(path)).map(|(folder, rest)| (folder.writable, rest.to_owned()))
        };
        assert_eq!(found("/a/b/c"), Some((false, "c".into())));
        assert_eq!(found("/a/c"), Some((true, "c".into())));
        assert_eq!(found("/a"), Some((true, "".into())));
        assert_eq!(found("/ab"), None);
        assert_eq!(context.folder_of("other", Path::new("/a")), None);
    }
}
