//! Inventing a way out.
#![forbid(unsafe_code)]

use sigil_gate::{Cleared, Hop};

enum ToNowhere {}

fn carry(_: Cleared<ToNowhere>) {}

fn is_hop<H: Hop>() {}

fn main() {
    is_hop::<ToNowhere>();
}
