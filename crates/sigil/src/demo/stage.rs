//! The stage: a folder that nothing else uses, with a Sigil set up in it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;
use sigil_config::{Inputs, Resolved};
use sigil_host::Search;
use sigil_policy::{FolderAccess, FolderGrant, HostRule, Preset};
use sigil_types::{Author, Authors, Reader, Readers};

use crate::setup::{BoundProvider, Plan, PluginRights, set_up, write_new};

/// The file by which a data folder of the demo is known. Its key signs nothing else.
pub(crate) const MARKER: &str = "made-by-sigil-demo";

/// What the demo's file says.
const NOTES: &str = "Garden club, 12 June: the greenhouse key hangs behind the blue door.\n";

/// A Sigil for the demo. Its folder is removed when this is dropped.
pub(super) struct Stage {
    pub(super) folder: tempfile::TempDir,
    pub(super) resolved: Resolved,
    /// Where the demo's web page is served; the listener is bound before policy is signed, because policy names it.
    pub(super) page: TcpListener,
    pub(super) address: SocketAddr,
}

impl Stage {
    pub(super) fn build() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sigil-demo-").tempdir().context("cannot make a folder")?;
        let root = folder.path();
        let notes = root.join("notes");
        std::fs::create_dir(&notes).context("cannot make the demo's notes")?;
        write_new(&notes.join("garden.txt"), NOTES.as_bytes(), 0o644)?;
        let page = TcpListener::bind("127.0.0.1:0").context("cannot listen on a loopback port")?;
        let address = page.local_addr()?;

        let config = root.join("config");
        let inputs = |file: Option<PathBuf>| {
            let mut inputs = Inputs::from_process(
                file,
                vec![("--data-dir".to_owned(), "gateway.data_dir".to_owned(), json!(root.join("data")))],
            );
            // Nothing of the user's own settings reaches the demo.
            inputs.environment = BTreeMap::from([
                ("HOME".to_owned(), root.display().to_string()),
                ("XDG_CONFIG_HOME".to_owned(), root.join("xdg").display().to_string()),
            ]);
            inputs.working_dir = root.to_owned();
            inputs
        };
        std::fs::create_dir(&config).context("cannot make the demo's configuration")?;
        let sketch = sigil_config::load(&inputs(None)).context("the demo's settings")?;
        let plan = plan(sketch.folders.clone(), &notes, address)?;
        let made = set_up(plan)?;
        if !made.not_found.is_empty() {
            anyhow::bail!(
                "the plugins {} are not beside this binary (../lib/sigil/plugins); `./task demo` builds them",
                made.not_found.join(", ")
            );
        }
        std::fs::write(sketch.folders.data.join(MARKER), "").context("cannot mark the demo's folder")?;
        let resolved = sigil_config::load(&inputs(Some(made.config))).context("the demo's settings")?;
        Ok(Self { folder, resolved, page, address })
    }

    pub(super) fn root(&self) -> &Path {
        self.folder.path()
    }
}

fn plan(folders: sigil_config::Folders, notes: &Path, page: SocketAddr) -> anyhow::Result<Plan> {
    let owner = "ann".parse().context("a name")?;
    let mine = Authors::one(Author::Owner("ann".parse().context("a name")?));
    let grant = FolderGrant {
        path: notes.display().to_string().parse().context("the notes' path")?,
        access: FolderAccess::Read,
        authors: mine,
        readers: Readers::from_iter([
            Reader::User("ann".parse().context("a name")?),
            Reader::Provider("rehearsal".parse().context("a name")?),
        ]),
    };
    let files = PluginRights {
        folders: BTreeMap::from([("folders".parse().context("a name")?, vec![grant])]),
        ..PluginRights::default()
    };
    let rule =
        HostRule { host: page.ip().to_string().parse().context("the page's host")?, ports: [page.port()].into() };
    let fetch = PluginRights { hosts: vec![rule], local: vec![page], ..PluginRights::default() };
    Ok(Plan {
        folders,
        owner,
        preset: Preset::Balanced,
        provider: Some(BoundProvider { name: "rehearsal".parse().context("a name")?, endpoint: None }),
        vault_key: None,
        plugins: BTreeMap::from([
            ("files".parse().context("a name")?, files),
            ("fetch".parse().context("a name")?, fetch),
            ("adversary".parse().context("a name")?, PluginRights::default()),
        ]),
        search: Search::default(),
        passphrase: None,
        config: CONFIG.to_owned(),
    })
}

/// Two workspaces, so that the two models stand side by side: one follows the person only, the other obeys everything that
/// it is shown, which is what a fully hijacked model does.
const CONFIG: &str = "\
gateway:
  listen: null
  owner: ann
providers:
  - name: rehearsal
    kind: rehearsal
    models: [rehearsal, 'rehearsal:obedient']
    first_event_timeout_ms: 5000
workspaces:
  home: { model: rehearsal, capabilities: { allow: ['tool.*'] } }
  hijacked: { model: 'rehearsal:obedient', capabilities: { allow: ['tool.*'] } }
plugins:
  enabled: [files, fetch, adversary]
";
