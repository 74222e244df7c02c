//! MCP servers of npm and PyPI over their standard streams, offline: initialize, tools/list, one call.

use serde_json::{Value, json};

use crate::install;
use crate::runner::{Ran, Runner, Sandbox, folder, text};

/// What a client says that calls one tool, and then leaves.
fn conversation(tool: &str, arguments: &Value) -> String {
    let client = json!({ "protocolVersion": "2025-06-18", "capabilities": {},
                         "clientInfo": { "name": "test", "version": "1" } });
    [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" }),
        json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/call",
                "params": { "name": tool, "arguments": arguments } }),
    ]
    .map(|message| format!("{message}\n"))
    .concat()
}

/// The answer to the message `id`.
#[track_caller]
fn answer(ran: &Ran, id: u64) -> Value {
    let messages = ran.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = messages.into_iter().find(|message| message["id"] == id);
    found.unwrap_or_else(|| panic!("no answer {id}: {}\n{}", ran.out, ran.err))
}

#[track_caller]
fn talk(sandbox: Sandbox<'_>, command: &[&str], tool: &str, arguments: &Value) -> String {
    let ran = sandbox.input_until(&conversation(tool, arguments), "\"id\":3").run(command);
    assert!(answer(&ran, 1)["result"]["serverInfo"]["name"].is_string());
    let tools = answer(&ran, 2)["result"]["tools"].as_array().cloned().unwrap_or_default();
    assert!(tools.iter().any(|known| known["name"] == tool), "{tools:?}");
    answer(&ran, 3)["result"].to_string()
}

fn server(modules: &std::path::Path, name: &str) -> String {
    let server = modules.join("node_modules/@modelcontextprotocol").join(name).join("dist/index.js");
    text(&server).to_owned()
}

pub fn filesystem(runner: &Runner) -> Option<()> {
    let modules = install::npm()?;
    let shared = folder();
    std::fs::write(shared.path().join("note"), "words in a file").expect("a file");
    let command = ["node", &server(&modules, "server-filesystem"), text(shared.path())];
    let sandbox = runner.sandbox("node").exec(&modules).read(shared.path());
    let note = json!({ "path": shared.path().join("note") });
    let said = talk(sandbox, &command, "read_text_file", &note);
    assert!(said.contains("words in a file"), "{said}");
    Some(())
}

pub fn everything(runner: &Runner) -> Option<()> {
    let modules = install::npm()?;
    let command = ["node", &server(&modules, "server-everything"), "stdio"];
    let said = talk(runner.sandbox("node").exec(&modules), &command, "echo", &json!({ "message": "words" }));
    assert!(said.contains("words"), "{said}");
    Some(())
}

pub fn time(runner: &Runner) -> Option<()> {
    let venv = install::python()?;
    let python = text(&venv.join("bin/python")).to_owned();
    let command = [&python, "-m", "mcp_server_time", "--local-timezone", "Europe/Paris"];
    let asked = json!({ "source_timezone": "Europe/Paris", "time": "12:00", "target_timezone": "Asia/Tokyo" });
    let said = talk(runner.sandbox("python").exec(&venv), &command, "convert_time", &asked);
    assert!(said.contains("Asia/Tokyo"), "{said}");
    Some(())
}

#[test]
fn the_filesystem_server_reads_what_was_granted() {
    filesystem(&Runner::plain());
}

#[test]
fn the_everything_server_answers() {
    everything(&Runner::plain());
}

#[test]
fn the_time_server_answers() {
    time(&Runner::plain());
}

#[test]
fn a_server_cannot_write_what_it_may_read() {
    let Some(modules) = install::npm() else { return };
    let shared = folder();
    let command = ["node", &server(&modules, "server-filesystem"), text(shared.path())];
    let runner = Runner::plain();
    let sandbox = runner.sandbox("node").exec(&modules).read(shared.path());
    let plan = json!({ "path": shared.path().join("new"), "content": "x" });
    let said = talk(sandbox, &command, "write_file", &plan);
    assert!(said.contains("\"isError\":true") && said.contains("EROFS"), "{said}");
    assert!(!shared.path().join("new").exists());
}

#[test]
fn a_server_told_to_serve_more_than_was_granted_finds_nothing() {
    let Some(modules) = install::npm() else { return };
    let (shared, outside) = (folder(), folder());
    std::fs::write(outside.path().join("secret"), "secret words").expect("a file");
    let command = ["node", &server(&modules, "server-filesystem"), text(shared.path()), text(outside.path())];
    let runner = Runner::plain();
    let sandbox = runner.sandbox("node").exec(&modules).read(shared.path());
    let ran = sandbox.input(&conversation("read_text_file", &json!({ "path": outside.path().join("secret") })));
    let ran = ran.run(&command);
    assert!(!ran.out.contains("secret words"), "{ran:?}");
}
