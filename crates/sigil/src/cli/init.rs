//! `sigil init`: at most three questions, a flag for each of them, and a Sigil that can start.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use serde_json::json;
use sigil_config::{Folders, ProviderKind};
use sigil_host::Search;
use sigil_policy::{FolderAccess, FolderGrant, Preset};
use sigil_provider::BaseUrl;
use sigil_types::{
    Author, Authors, Code, Host, HostPattern, Name, PluginName, ProviderName, Reader, Readers, Secret, UserId,
};
use sigil_vault::{Binding, Consumer, Unlock, Vault};

use super::args::{InitArgs, PassphraseArgs};
use super::complaint::{Complaint, Outcome};
use super::context::Context;
use super::exit::Exit;
use super::input;
use super::output::Paint;
use crate::setup::{BoundProvider, Plan, PluginRights, set_up};

/// The provider's name in configuration and policy.
const PROVIDER: &str = "main";
/// The secret's name in the vault.
const SECRET: &str = "main";
/// The workspace that is made.
const WORKSPACE: &str = "home";

/// A provider that was chosen.
struct Chosen {
    kind: ProviderKind,
    model: String,
    base_url: BaseUrl,
    /// As it was typed, where it was.
    written: Option<String>,
    key: Key,
}

/// Where its key is.
enum Key {
    None,
    Env(String),
    Vault(Secret<String>),
}

pub(super) fn run(context: &Context, args: InitArgs) -> Outcome {
    let asks = !args.yes && std::io::stdin().is_terminal();
    let resolved = places(context)?;
    let preset: Preset =
        args.preset.parse().map_err(|error: String| usage("there is no such preset").fix(error, None))?;
    let owner = resolved.settings.gateway.owner.clone();
    let chosen = choose(context, &args, asks)?;
    let from = PassphraseArgs { passphrase_stdin: args.passphrase_stdin, no_passphrase: args.no_passphrase };
    if args.yes && !from.no_passphrase && !from.passphrase_stdin {
        return Err(usage("--yes needs to know how the owner's key is protected")
            .fix("add --passphrase-stdin and write one to standard input, or --no-passphrase", None));
    }
    let passphrase = input::passphrase(&context.output, &from, true)?;
    let plain = passphrase.is_none();

    let plugins = plugins(&args, &owner)?;
    let vault_key =
        chosen.as_ref().filter(|chosen| matches!(chosen.key, Key::Vault(_))).map(|_| name(SECRET)).transpose()?;
    let plan = Plan {
        config: yaml(context, &resolved.folders, chosen.as_ref(), &plugins)?,
        folders: resolved.folders.clone(),
        owner,
        preset,
        provider: chosen
            .as_ref()
            .map(|chosen| {
                Ok::<_, Complaint>(BoundProvider {
                    name: name(PROVIDER)?,
                    endpoint: Some(chosen.base_url.endpoint().clone()),
                })
            })
            .transpose()?,
        vault_key,
        plugins,
        search: Search { command_line: args.plugin_dir.clone(), configured: Vec::new() },
        passphrase,
    };
    let made = set_up(plan)?;
    if let Some(Chosen { key: Key::Vault(value), base_url, .. }) = chosen {
        keep(context, &resolved.folders, value, &base_url)?;
    }
    report(context, &resolved.folders, &made, plain);
    Ok(Exit::Ok)
}

fn usage(what: &str) -> Complaint {
    Complaint::new(Code::new("cli.usage.invalid"), what).exit(Exit::Usage)
}

fn name<T: std::str::FromStr<Err = sigil_types::ParseIdError>>(text: &str) -> Result<T, Complaint> {
    text.parse().map_err(|error| usage(&format!("`{text}`: {error}")))
}

/// Where everything will lie. A file named with `--config` need not exist yet.
fn places(context: &Context) -> Result<sigil_config::Resolved, Complaint> {
    let mut inputs = context.inputs(Vec::new());
    let named = inputs.config.take();
    let mut resolved = sigil_config::load(&inputs)?;
    if let Some(file) = named {
        if file.file_name().is_none_or(|name| name != sigil_config::FILE_NAME) {
            return Err(usage("`sigil init` writes a file named sigil.yaml").fix("end --config with /sigil.yaml", None));
        }
        let file = inputs.working_dir.join(file);
        let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
        resolved.folders.policy = folder.join("policy.dsse");
        resolved.folders.config = folder;
    }
    Ok(resolved)
}

fn choose(context: &Context, args: &InitArgs, asks: bool) -> Result<Option<Chosen>, Complaint> {
    let (provider, model) = match (&args.provider, &args.model) {
        (Some(provider), model) => (provider.clone(), model.clone()),
        (None, _) if asks => {
            let output = &context.output;
            output.prompt("Model, as anthropic/MODEL or openai/MODEL (nothing: decide later): ");
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map_err(|error| usage(&format!("standard input: {error}")))?;
            match line.trim().split_once('/') {
                Some((provider, model)) => (provider.to_owned(), Some(model.to_owned())),
                None => return Ok(None),
            }
        }
        (None, _) => return Ok(None),
    };
    let kind = match provider.as_str() {
        "anthropic" => ProviderKind::Anthropic,
        "openai" => ProviderKind::Openai,
        _ => {
            return Err(usage("a provider is `anthropic` or `openai`")
                .fix("openai is anything that speaks its API; add --base-url", None));
        }
    };
    let model = model.filter(|model| !model.is_empty()).ok_or_else(|| usage("--provider needs --model"))?;
    let written = args.base_url.clone();
    let url = written.as_deref().or(kind.default_base_url()).unwrap_or_default();
    let base_url = url.parse().map_err(|error| usage(&format!("--base-url: {error}")))?;
    let key = match (&args.api_key_env, args.api_key_stdin) {
        (Some(variable), _) => Key::Env(variable.clone()),
        (None, true) => Key::Vault(input::secret(&context.output, "API key")?),
        (None, false) if asks => {
            let value = input::secret(&context.output, "API key (nothing: none; it is not shown)")?;
            if value.expose().is_empty() { Key::None } else { Key::Vault(value) }
        }
        (None, false) => Key::None,
    };
    Ok(Some(Chosen { kind, model, base_url, written, key }))
}

/// The plugins to endorse: those that get something to work with.
fn plugins(args: &InitArgs, owner: &UserId) -> Result<BTreeMap<PluginName, PluginRights>, Complaint> {
    let mut plugins = BTreeMap::new();
    let provider: ProviderName = name(PROVIDER)?;
    let grant = |path: &PathBuf, access| {
        let real = path.canonicalize().map_err(|error| super::complaint::file(path, &error))?;
        let text = real.display().to_string();
        Ok::<_, Complaint>(FolderGrant {
            path: text.parse().map_err(|error| usage(&format!("{text}: {error}")))?,
            access,
            authors: Authors::one(Author::Owner(owner.clone())),
            // The owner reads the answer, and the model's vendor reads the prompt that it is made of.
            readers: Readers::from_iter([Reader::User(owner.clone()), Reader::Provider(provider.clone())]),
        })
    };
    let reads = args.read.iter().map(|path| grant(path, FolderAccess::Read));
    let folders = reads.chain(args.write.iter().map(|path| grant(path, FolderAccess::Write)));
    let folders: Vec<FolderGrant> = folders.collect::<Result<_, _>>()?;
    if !folders.is_empty() {
        let rights = PluginRights { folders: BTreeMap::from([(name("folders")?, folders)]), ..PluginRights::default() };
        plugins.insert(name("files")?, rights);
    }
    let hosts = args.allow_host.clone();
    // An address of this machine or of a private network is reachable only as exactly that address and port.
    let local = hosts.iter().flat_map(|rule| match &rule.host {
        HostPattern::Exact(Host::Address(address)) => {
            rule.ports.iter().map(|port| std::net::SocketAddr::new(*address, *port)).collect()
        }
        HostPattern::Exact(Host::Name(_)) | HostPattern::Below(_) => Vec::new(),
    });
    let local = local.collect();
    if !hosts.is_empty() {
        plugins.insert(name("fetch")?, PluginRights { hosts, local, ..PluginRights::default() });
    }
    Ok(plugins)
}

/// The text of `sigil.yaml`. JSON strings are YAML strings, so every value that was typed is quoted that way.
fn yaml(
    context: &Context,
    folders: &Folders,
    chosen: Option<&Chosen>,
    plugins: &BTreeMap<PluginName, PluginRights>,
) -> Result<String, Complaint> {
    let quoted = |text: &str| json!(text).to_string();
    let mut text = String::from(
        "# Settings of this Sigil. `sigil config validate` checks them; `sigil config schema` lists all keys.\n",
    );
    text.push_str("# What may be done at all stands in the signed policy beside this file.\n");
    if context.global.data_dir.is_some() {
        text.push_str(&format!("gateway:\n  data_dir: {}\n", quoted(&folders.data.display().to_string())));
    }
    if let Some(chosen) = chosen {
        let kind = match chosen.kind {
            ProviderKind::Anthropic => "anthropic",
            ProviderKind::Openai => "openai",
            ProviderKind::Rehearsal => "rehearsal",
        };
        text.push_str(&format!(
            "providers:\n  - name: {PROVIDER}\n    kind: {kind}\n    models: [{}]\n",
            quoted(&chosen.model)
        ));
        if let Some(url) = &chosen.written {
            text.push_str(&format!("    base_url: {}\n", quoted(url)));
        }
        match &chosen.key {
            Key::None => {}
            Key::Env(variable) => text.push_str(&format!("    api_key: {}\n", quoted(&format!("env:{variable}")))),
            Key::Vault(_) => text.push_str(&format!("    api_key: secret:{SECRET}\n")),
        }
    }
    text.push_str(&format!("workspaces:\n  {WORKSPACE}:\n    capabilities:\n      allow: ['tool.*']\n"));
    if !plugins.is_empty() {
        let names: Vec<&str> = plugins.keys().map(PluginName::as_str).collect();
        text.push_str(&format!("plugins:\n  enabled: [{}]\n", names.join(", ")));
    }
    Ok(text)
}

/// Puts the key into the vault, for this provider and its host alone.
fn keep(context: &Context, folders: &Folders, value: Secret<String>, base_url: &BaseUrl) -> Result<(), Complaint> {
    let vault = Vault::open(&folders.vault(), &Unlock::KeyFile(folders.keys().join("vault.key")))?;
    let hosts = BTreeSet::from([HostPattern::Exact(base_url.endpoint().at.host.clone())]);
    let binding = Binding { consumer: Consumer::Provider(name(PROVIDER)?), workspace: None, hosts };
    Ok(vault.put(&name::<Name>(SECRET)?, value, binding, context.now())?)
}

fn report(context: &Context, folders: &Folders, made: &crate::setup::Made, plain: bool) {
    let output = &context.output;
    if output.json {
        output.document(&json!({
            "config": made.config, "policy": folders.policy, "key": made.key, "data": folders.data,
            "plugins": made.plugins, "not_found": made.not_found, "token": made.token.expose(),
        }));
        return;
    }
    output.note(output.paint_error(Paint::Green, "Sigil is set up."));
    output.note(format!("  settings    {}", made.config.display()));
    output.note(format!("  policy      {}  (signed; source beside it in policy/)", folders.policy.display()));
    output.note(format!(
        "  owner's key {}{}",
        made.key.display(),
        if plain { "  NOT ENCRYPTED: keep it elsewhere" } else { "" }
    ));
    output.note(format!("  data        {}", folders.data.display()));
    if !made.plugins.is_empty() {
        output.note(format!("  plugins     {}", made.plugins.join(", ")));
    }
    if !made.not_found.is_empty() {
        output
            .note(format!("  not found   {}  (not enabled until installed and signed for)", made.not_found.join(", ")));
    }
    output.note("  token for the HTTP API, shown once (the local command line needs none):");
    output.line(made.token.expose());
    output.note("next: sigil start    then, elsewhere: sigil chat \"hello\"    ·    sigil doctor");
}
