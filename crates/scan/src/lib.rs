//! The content scanner: text in, findings out.
//!
//! A tripwire, not the wall: it stops the common attack before it costs anything, finds credentials so that they can be
//! redacted, and lets no obfuscation through unseen. It decides nothing; policy turns findings into actions.
//!
//! The road of a text: [`clean`] takes out what hides it, [`fold`] folds what varies it, [`lexicon`] and [`grammar`] look
//! for what is said, [`pattern`] for what has a form, [`decode`] opens one level of encoding, and [`arrange`] orders what
//! was found. Everything that is found depends on a bounded part of the text around it, which is why a [`StreamScanner`]
//! finds the same. Rules are data: `policy/scanner/*.toml`.

mod arrange;
mod automaton;
mod chars;
mod check;
mod clean;
mod decode;
mod engine;
mod escape;
mod finding;
mod fold;
mod grammar;
mod hidden;
mod jsonl;
mod layer;
mod lexicon;
mod pack;
mod pattern;
mod redact;
mod reversed;
mod rules;
mod scanner;
mod stream;
mod trie;

pub use finding::{Class, Finding, Report, Severity, Step};
pub use jsonl::{ScanLine, scan_line};
pub use pack::LoadPack;
pub use redact::redact;
pub use scanner::Scanner;
pub use stream::{MAX_HELD, Released, StreamScanner};

/// The most that one scan looks at, in bytes. A longer text gives a report that says `truncated`.
pub const MAX_SCAN: usize = 1 << 20;

/// No match reaches further from its start, in bytes of the original.
const REACH: usize = 1536;

/// Open-ended findings are reported in pieces of this many bytes.
const PIECE: usize = 1536;
