//! Fetch: gets web pages through the egress proxy, and turns HTML into text.

mod html;
mod page;

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::json;
use sigil_sdk::{Context, Plugin, Reply, Tool, ToolFailed};

/// The most characters of one answer.
const MAX_TEXT: usize = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    url: String,
    #[serde(default)]
    raw: bool,
    max_chars: Option<usize>,
}

fn get(context: &Context, arguments: Get) -> Result<Reply, ToolFailed> {
    let max = arguments.max_chars.unwrap_or(20_000).min(MAX_TEXT);
    let page = page::fetch(context, &arguments.url)?;
    let text = if page.is_html() && !arguments.raw { html::text(&page.text) } else { page.text };
    let mut shown: String = text.chars().take(max).collect();
    if page.truncated || shown.len() < text.len() {
        shown.push_str("\n… cut here: the page goes on");
    }
    Ok(Reply::text(format!("{} {} ({})\n\n{shown}", page.status, page.url, page.media_type)))
}

fn main() -> ExitCode {
    let schema = json!({
        "type": "object",
        "properties": {
            "url": { "type": "string", "maxLength": 8192, "description": "An http or https address." },
            "raw": { "type": "boolean", "description": "Whether to keep HTML as it is. Default false." },
            "max_chars": { "type": "integer", "minimum": 1, "maximum": MAX_TEXT, "description": "Default 20000." },
        },
        "required": ["url"],
        "additionalProperties": false,
    });
    Plugin::new("fetch", env!("CARGO_PKG_VERSION"))
        .tool(Tool::new("get", "Gets a web page with HTTP GET, as text.", schema, get))
        .serve()
}
