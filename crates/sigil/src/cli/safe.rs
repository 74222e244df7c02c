//! Text from outside, made safe for a terminal.
//!
//! A model, a tool or a file can write escape sequences that move the cursor, rename the window or hide a line, and
//! bidirectional controls that make a sentence read as another (sudo's CVE-2023-28486 is of this class). Nothing of it
//! reaches the terminal: what would act is shown as its code point.

use std::fmt::Write;

/// One line: line breaks and tabs are shown as code points too.
pub(crate) fn line(text: &str) -> String {
    escape(text, false)
}

/// Several lines: line breaks and tabs stay.
pub(crate) fn block(text: &str) -> String {
    escape(text, true)
}

fn escape(text: &str, breaks: bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' if breaks => safe.push(c),
            _ if acts(c) => _ = write!(safe, "<U+{:04X}>", u32::from(c)),
            _ => safe.push(c),
        }
    }
    safe
}

/// Whether a character acts on the terminal or on the order of its neighbours instead of being seen.
const fn acts(c: char) -> bool {
    matches!(c,
        // C0, DEL and C1.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Bidirectional embeddings, overrides, isolates and marks (Unicode Annex 9).
        | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}'
        // Line and paragraph separators.
        | '\u{2028}' | '\u{2029}'
        // Invisible: zero width, word joiner, byte order mark, tags, interlinear annotation.
        | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// At most `most` characters, the end cut off visibly.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_gets_through() {
        let hostile = "a\x1b[2Jb\u{9b}31mc\u{202e}d\u{200b}e\rf\u{7f}g\u{e0041}";
        let shown = line(hostile);
        assert!(!shown.chars().any(acts), "{shown:?}");
        assert_eq!(shown, "a<U+001B>[2Jb<U+009B>31mc<U+202E>d<U+200B>e<U+000D>f<U+007F>g<U+E0041>");
        assert_eq!(block("a\n\tb"), "a\n\tb");
        assert_eq!(line("a\nb"), "a<U+000A>b");
        assert_eq!(line("grüße 你好 👍"), "grüße 你好 👍");
    }

    #[test]
    fn cutting_counts_characters() {
        assert_eq!(cut("grüße", 5), "grüße");
        assert_eq!(cut("grüße!", 5), "grüß…");
    }
}
