//! Delivering one clearance twice.
#![forbid(unsafe_code)]

use sigil_gate::{Cleared, Door, Session, ToTool};

async fn send(door: &Door<ToTool>, session: &Session, call: Cleared<ToTool>) {
    let _first = door.call(session, call).await;
    let _second = door.call(session, call).await;
}

fn main() {}
