//! Reading a clearance from bytes.
#![forbid(unsafe_code)]

use sigil_gate::{Cleared, ToTool};

fn read(bytes: &[u8]) -> Cleared<ToTool> {
    serde_json::from_slice(bytes).unwrap()
}

fn main() {}
