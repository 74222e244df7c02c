//! Calling the function that makes clearances.
#![forbid(unsafe_code)]

use sigil_gate::{Cleared, ToTool};

fn main() {
    let _make = Cleared::<ToTool>::mint;
}
