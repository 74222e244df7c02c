//! Printing what came from outside.
#![forbid(unsafe_code)]

use sigil_types::Untrusted;

fn print(text: &Untrusted<String>) {
    println!("{text}");
}

fn main() {}
