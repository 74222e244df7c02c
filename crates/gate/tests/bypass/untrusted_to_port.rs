//! Sending content that was never cleared.
#![forbid(unsafe_code)]

use sigil_gate::{Door, Session, ToTool};
use sigil_types::Untrusted;

async fn send(door: &Door<ToTool>, session: &Session, text: Untrusted<String>) {
    let _outcome = door.call(session, text).await;
}

fn main() {}
