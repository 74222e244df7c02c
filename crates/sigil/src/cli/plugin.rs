//! `sigil plugin …`

use std::path::Path;

use serde_json::json;
use sigil_host::PluginStore;
use sigil_proto::manifest::{FILE_NAME, Manifest, Unchecked};
use sigil_sandbox::interpreter::Interpreter;
use sigil_server::api;
use sigil_types::Code;

use super::args::PluginCommand;
use super::client::{Client, runtime};
use super::complaint::{Complaint, Outcome, file};
use super::context::Context;
use super::exit::Exit;
use super::output::{Paint, word};
use super::safe;

pub(super) fn run(context: &Context, command: PluginCommand) -> Outcome {
    match command {
        PluginCommand::List => list(context),
        PluginCommand::Show { name } => show(context, &name),
        PluginCommand::Validate { folder } => validate(context, &folder),
        PluginCommand::Install { folder } => install(context, &folder),
    }
}

fn list(context: &Context) -> Outcome {
    let client = Client::new(&context.resolved()?.folders.socket);
    let list: api::PluginList = runtime()?.block_on(client.get("/api/v1/plugins"))?;
    if context.output.json {
        context.output.document(&list);
        return Ok(Exit::Ok);
    }
    let row = |plugin: &api::Plugin| {
        let detail = plugin.detail.as_deref().map(safe::line).unwrap_or_default();
        let uses = plugin.uses.as_ref().map(uses).unwrap_or_default();
        let (version, kind) = (safe::line(&plugin.version), safe::line(&plugin.kind));
        vec![plugin.name.to_string(), version, kind, word(plugin.state), uses, detail]
    };
    let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
    context.output.table(&["PLUGIN", "VERSION", "KIND", "STATE", "USES", ""], &rows);
    Ok(Exit::Ok)
}

/// `12 MiB, 3 threads`.
fn uses(uses: &api::PluginUse) -> String {
    let memory = uses.memory_bytes.map(|bytes| format!("{} MiB", bytes.div_ceil(1 << 20)));
    let tasks = uses.processes.map(|tasks| format!("{tasks} threads"));
    memory.into_iter().chain(tasks).collect::<Vec<_>>().join(", ")
}

fn show(context: &Context, name: &sigil_types::PluginName) -> Outcome {
    let client = Client::new(&context.resolved()?.folders.socket);
    let found: api::PluginDetail = runtime()?.block_on(client.get(&format!("/api/v1/plugins/{name}")))?;
    let output = &context.output;
    if output.json {
        output.document(&found);
        return Ok(Exit::Ok);
    }
    let plugin = &found.plugin;
    let (version, kind, state) = (safe::line(&plugin.version), safe::line(&plugin.kind), word(plugin.state));
    output.line(format!("{} {version} · {kind} · {state}", output.paint(Paint::Bold, plugin.name.as_str())));
    plugin.detail.iter().for_each(|detail| output.line(format!("  {}", safe::line(detail))));
    plugin.uses.iter().for_each(|one| output.line(format!("  uses {}", uses(one))));
    found.tree.iter().for_each(|tree| output.line(format!("  tree {tree}")));
    for tool in &found.tools {
        output.line(format!("  {}  {}", output.paint(Paint::Cyan, tool.name.as_str()), safe::line(&tool.description)));
    }
    for layer in &found.layers {
        let mark = if layer.applied { output.paint(Paint::Green, "✓") } else { output.paint(Paint::Red, "✗") };
        output.line(format!("  {mark} {:<14} {}", safe::line(&layer.name), safe::line(&layer.detail)));
    }
    found.explanation.iter().for_each(|text| output.line(safe::block(text)));
    Ok(Exit::Ok)
}

fn validate(context: &Context, folder: &Path) -> Outcome {
    let path = if folder.is_dir() { folder.join(FILE_NAME) } else { folder.to_owned() };
    let bytes = std::fs::read(&path).map_err(|error| file(&path, &error))?;
    let output = &context.output;
    let parsed = Manifest::<Unchecked>::parse(&bytes)
        .map_err(|error| Complaint::new(error.code(), format!("{}: {error}", path.display())))?;
    let problems = match parsed.validate() {
        Ok(manifest) => {
            let tree = folder.is_dir().then(|| sigil_sandbox::tree::hash(folder)).transpose()?.map(|tree| tree.digest);
            let spec = manifest.spec();
            // What the owner signs for beside the tree, when the program is a script. It need not be built yet.
            let program = Path::new(spec.execution.command.first().map_or("", String::as_str));
            let built = folder.join(program).is_file();
            let interpreter = built.then(|| Interpreter::of(folder, program)).transpose()?.flatten();
            if output.json {
                let interpreter = interpreter.map(|found| json!({"path": found.named, "digest": found.digest}));
                output.document(&json!({"valid": true, "name": spec.name, "manifest": manifest.digest(), "tree": tree,
                    "interpreter": interpreter, "problems": []}));
            } else {
                output.line(format!("{} {}: valid", spec.name, spec.version));
                output.line(format!("  manifest {}", manifest.digest()));
                tree.iter().for_each(|tree| output.line(format!("  tree     {tree}")));
                if let Some(found) = interpreter {
                    let (path, digest) = (safe::line(found.named.as_str()), found.digest);
                    output.line(format!(
                        "  script   read by {path}: sign it under plugins.{}.interpreters as",
                        spec.name
                    ));
                    output.line(format!("           {{ path = \"{path}\", digest = \"{digest}\" }}"));
                }
            }
            return Ok(Exit::Ok);
        }
        Err(refused) => refused.problems,
    };
    if output.json {
        output.document(&json!({"valid": false, "problems": problems}));
        return Ok(Exit::Failed);
    }
    let code = Code::new("plugin.manifest.validate.refused");
    let complaint = Complaint::new(code, format!("{} has {} mistakes", path.display(), problems.len()));
    Err(problems.iter().fold(complaint, |complaint, problem| complaint.why(problem)))
}

fn install(context: &Context, folder: &Path) -> Outcome {
    let folders = context.resolved()?.folders;
    let store = PluginStore::open(folders.plugins())?;
    let installed = store.install(folder)?;
    let (name, tree) = (installed.name(), installed.tree);
    if context.output.json {
        context.output.document(&json!({"name": name, "tree": tree, "folder": installed.folder}));
    } else {
        context.output.line(format!("{name} {tree}"));
        context.output.note(format!("installed in {}", installed.folder.display()));
        context.output.note(format!("it runs when the signed policy names this tree under plugins.{name}.trees"));
    }
    Ok(Exit::Ok)
}
