//! Calling a port without its door.
#![forbid(unsafe_code)]

use sigil_gate::port::{Pass, Tool};
use sigil_gate::{Cleared, ToTool};

async fn call(port: &dyn Tool, call: Cleared<ToTool>) {
    let _answer = port.call(call, Pass { _made_by_a_door: () }).await;
}

fn main() {}
