//! The right way, so that the other cases fail for their own reason: a clearance goes through its door.
#![forbid(unsafe_code)]

use sigil_gate::{Cleared, Door, Session, ToTool};

async fn deliver(door: &Door<ToTool>, session: &Session, call: Cleared<ToTool>) {
    let _outcome = door.call(session, call).await;
}

fn main() {
    let _ = deliver;
}
