//! Making a session forget what it has read.
#![forbid(unsafe_code)]

use sigil_gate::Session;
use sigil_types::Label;

fn forget(session: &Session) {
    session.raise(&Label::bottom());
}

fn main() {}
