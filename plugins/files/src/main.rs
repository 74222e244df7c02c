//! Files: lists, reads, searches and writes in the folders that the signed policy grants.
//!
//! The sandbox is what confines it. What stands here keeps it honest within its grant: no path leads outside, no symbolic
//! link is followed, nothing is unbounded.

mod beneath;
mod search;
mod tools;

use std::process::ExitCode;

use serde_json::json;
use sigil_sdk::{Plugin, Tool};

fn main() -> ExitCode {
    let path = json!({ "type": "string", "description": "An absolute path in a granted folder, or a path relative to the only granted folder." });
    let list = json!({
        "type": "object",
        "properties": { "path": path },
        "additionalProperties": false,
    });
    let read = json!({
        "type": "object",
        "properties": {
            "path": path,
            "offset": { "type": "integer", "minimum": 0, "description": "Byte to start at. Default 0." },
            "length": { "type": "integer", "minimum": 1, "maximum": tools::MAX_READ, "description": "The most bytes to read." },
        },
        "required": ["path"],
        "additionalProperties": false,
    });
    let search = json!({
        "type": "object",
        "properties": {
            "path": path,
            "text": { "type": "string", "minLength": 1, "maxLength": 256, "description": "What to look for: plain text, not a pattern." },
            "ignore_case": { "type": "boolean", "description": "Default false." },
        },
        "required": ["text"],
        "additionalProperties": false,
    });
    let write = json!({
        "type": "object",
        "properties": {
            "path": path,
            "content": { "type": "string", "maxLength": tools::MAX_WRITE },
            "mode": { "enum": ["create", "replace", "append"], "description": "`create` refuses a file that is there. Default `create`." },
        },
        "required": ["path", "content"],
        "additionalProperties": false,
    });
    Plugin::new("files", env!("CARGO_PKG_VERSION"))
        .tool(Tool::new(
            "list",
            "Lists a folder: kind, size and name of each entry. Without a path, the granted folders.",
            list,
            tools::list,
        ))
        .tool(Tool::new("read", "Reads a text file.", read, tools::read))
        .tool(Tool::new(
            "search",
            "Finds the lines that contain a text, in a file or in all files of a folder.",
            search,
            search::search,
        ))
        .tool(Tool::new("write", "Writes a text file.", write, tools::write))
        .serve()
}
