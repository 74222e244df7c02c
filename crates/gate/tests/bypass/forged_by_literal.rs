//! Making a clearance by hand.
#![forbid(unsafe_code)]

use sigil_gate::{Cleared, ToolCall, ToTool};

fn forge(body: ToolCall, other: Cleared<ToTool>) -> Cleared<ToTool> {
    Cleared { body, ..other }
}

fn main() {}
