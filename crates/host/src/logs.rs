//! What a plugin writes to its standard output and error: kept in a bounded ring, harmless to show.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use sigil_types::Timestamp;

/// The most bytes of text that are kept of one instance.
const MAX_BYTES: usize = 256 * 1024;

/// A longer line is cut.
const MAX_LINE: usize = 2 * 1024;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line that a plugin wrote. Its text is the plugin's: content of nobody, for the owner's eyes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// When it was read.
    pub at: Timestamp,
    /// Where it was written.
    pub stream: LogStream,
    /// The text: one line, without control characters, at most 2 KiB.
    pub text: String,
}

/// The last lines of one instance.
#[derive(Debug, Default)]
pub struct Logs(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<LogLine>,
    bytes: usize,
    dropped: u64,
}

impl Logs {
    /// The lines that are kept, oldest first, and how many older ones were dropped.
    #[must_use]
    pub fn snapshot(&self) -> (Vec<LogLine>, u64) {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (ring.lines.iter().cloned().collect(), ring.dropped)
    }

    pub(crate) fn push(&self, at: Timestamp, stream: LogStream, text: String) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.bytes += text.len();
        ring.lines.push_back(LogLine { at, stream, text });
        while ring.bytes > MAX_BYTES {
            let Some(oldest) = ring.lines.pop_front() else { break };
            ring.bytes -= oldest.text.len();
            ring.dropped += 1;
        }
    }
}

/// Turns the bytes of a stream into clean lines, however they are cut.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    cut: bool,
}

impl Lines {
    /// Takes the next bytes and returns the lines that are complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                lines.extend(self.finish());
            } else if self.line.len() < MAX_LINE {
                self.line.push(byte);
            } else {
                self.cut = true;
            }
        }
        lines
    }

    /// The line that has no end yet, if there is one.
    pub(crate) fn finish(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.line);
        let cut = std::mem::take(&mut self.cut);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_suffix('\r').unwrap_or(&text);
        if text.is_empty() {
            return None;
        }
        Some(format!("{}{}", clean(text, false), if cut { "…" } else { "" }))
    }
}

/// A text without characters that a terminal or a reader would take for something else: control characters, and marks that
/// reverse or hide text. Each becomes U+FFFD. Newline and tab stay when `multi_line`.
pub(crate) fn clean(text: &str, multi_line: bool) -> String {
    let harmless = |c: char| match c {
        '\n' | '\t' => multi_line,
        // Bidirectional overrides and isolates (Unicode UAX 9), invisible separators, tags.
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}' => {
            false
        }
        c => !c.is_control(),
    };
    text.chars().map(|c| if harmless(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_terminal_sees_nothing_but_text() {
        let mut lines = Lines::default();
        let found = lines.push(b"\x1b]0;owned\x07 a\r\nb\x9b31m\n\nlast \xe2\x80\xaetxet");
        assert_eq!(found, ["\u{fffd}]0;owned\u{fffd} a", "b\u{fffd}31m"]);
        assert_eq!(lines.finish().as_deref(), Some("last \u{fffd}txet"));
    }

    #[test]
    fn the_ring_forgets_the_oldest() {
        let logs = Logs::default();
        for number in 0..1000 {
            logs.push(Timestamp::default(), LogStream::Stderr, format!("{number:04} {}", "x".repeat(1000)));
        }
        let (lines, dropped) = logs.snapshot();
        assert_eq!(lines.len() as u64 + dropped, 1000);
        assert!(lines.iter().map(|line| line.text.len()).sum::<usize>() <= MAX_BYTES);
        assert!(lines.last().is_some_and(|line| line.text.starts_with("0999")));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_are_cut(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..20) {
            let whole = { let mut lines = Lines::default(); let mut found = lines.push(&bytes); found.extend(lines.finish()); found };
            let mut lines = Lines::default();
            let mut found: Vec<String> = bytes.chunks(piece).flat_map(|piece| lines.push(piece)).collect();
            found.extend(lines.finish());
            prop_assert!(found.iter().all(|line| !line.chars().any(char::is_control)));
            prop_assert_eq!(found, whole);
        }
    }
}
