//! Sending a clearance for a tool to a channel.
#![forbid(unsafe_code)]

use sigil_gate::{Cleared, Door, Session, ToChannel, ToTool};

async fn send(door: &Door<ToChannel>, session: &Session, call: Cleared<ToTool>) {
    let _sent = door.send(session, call).await;
}

fn main() {}
