//! Cloning a clearance.
#![forbid(unsafe_code)]

use sigil_gate::{Cleared, ToTool};

fn copy(call: &Cleared<ToTool>) -> Cleared<ToTool> {
    Clone::clone(call)
}

fn main() {}
