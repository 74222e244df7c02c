//! Character references (HTML), percent-encoding (RFC 3986) and backslash escapes, one at a time.

use crate::Step;

/// What stands at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Escape {
    /// Nothing of the kind.
    None,
    /// The start of one; what follows decides.
    Unfinished,
    /// One character, written as `length` bytes.
    Decoded {
        /// The character.
        c: char,
        /// The bytes that it is written with.
        length: usize,
        /// The kind of escape.
        step: Step,
    },
}

/// No character reference is longer, in bytes.
const LONGEST_REFERENCE: usize = 12;

/// Reads an escape at the start of `bytes`. Unless they are the `last` of the text, one that they may end within is
/// unfinished.
pub(crate) fn escape(bytes: &[u8], last: bool) -> Escape {
    let read = match bytes.first() {
        Some(b'&') => reference(bytes),
        Some(b'%') => percent(bytes),
        Some(b'\\') => backslash(bytes),
        _ => Read::No,
    };
    match read {
        Read::Yes(c, length, step) => Escape::Decoded { c, length, step },
        Read::More if !last => Escape::Unfinished,
        Read::More | Read::No => Escape::None,
    }
}

enum Read {
    No,
    More,
    Yes(char, usize, Step),
}

fn reference(bytes: &[u8]) -> Read {
    let name = bytes.get(1..).unwrap_or_default();
    let length = name.iter().take(LONGEST_REFERENCE).take_while(|b| b.is_ascii_alphanumeric() || **b == b'#').count();
    if length >= LONGEST_REFERENCE {
        return Read::No;
    }
    match name.get(length) {
        Some(b';') => name.get(..length).and_then(named).map_or(Read::No, |c| Read::Yes(c, length + 2, Step::Entity)),
        Some(_) => Read::No,
        None => Read::More,
    }
}

fn named(name: &[u8]) -> Option<char> {
    let name = std::str::from_utf8(name).ok()?;
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code).filter(|c| *c != '\0');
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" | "ensp" | "emsp" | "thinsp" | "Tab" | "NewLine" => ' ',
        "excl" => '!',
        "colon" => ':',
        "period" => '.',
        "comma" => ',',
        "lpar" => '(',
        "rpar" => ')',
        "lsqb" => '[',
        "rsqb" => ']',
        "zwnj" | "zwj" | "shy" | "ZeroWidthSpace" => '\u{200b}',
        _ => return None,
    })
}

fn percent(bytes: &[u8]) -> Read {
    let lead = match percent_byte(bytes, 0) {
        Ok(byte) => byte,
        Err(read) => return read,
    };
    let more = match lead {
        0..=0x7f => return if lead == 0 { Read::No } else { Read::Yes(char::from(lead), 3, Step::Percent) },
        0xc2..=0xdf => 1,
        0xe0..=0xef => 2,
        0xf0..=0xf4 => 3,
        _ => return Read::No,
    };
    let mut sequence = vec![lead];
    for index in 1..=more {
        match percent_byte(bytes, index * 3) {
            Ok(byte) => sequence.push(byte),
            Err(read) => return read,
        }
    }
    let c = std::str::from_utf8(&sequence).ok().and_then(|text| text.chars().next());
    c.map_or(Read::No, |c| Read::Yes(c, sequence.len() * 3, Step::Percent))
}

fn percent_byte(bytes: &[u8], at: usize) -> Result<u8, Read> {
    match bytes.get(at) {
        Some(b'%') => {}
        Some(_) => return Err(Read::No),
        None => return Err(Read::More),
    }
    let code = hex(bytes, at + 1, 2)?;
    u8::try_from(code).map_err(|_| Read::No)
}

fn backslash(bytes: &[u8]) -> Read {
    let digits = match bytes.get(1) {
        Some(b'x') => 2,
        Some(b'u') => 4,
        Some(b'U') => 8,
        Some(_) => return Read::No,
        None => return Read::More,
    };
    let code = match hex(bytes, 2, digits) {
        Ok(code) => code,
        Err(read) => return read,
    };
    if (0xd800..0xdc00).contains(&code) {
        return surrogates(bytes, code);
    }
    match char::from_u32(code) {
        Some(c) if c != '\0' => Read::Yes(c, 2 + digits, Step::Escape),
        _ => Read::No,
    }
}

/// Two UTF-16 surrogates, as JSON writes characters beyond U+FFFF.
fn surrogates(bytes: &[u8], high: u32) -> Read {
    for (at, wanted) in [(6, b'\\'), (7, b'u')] {
        match bytes.get(at) {
            Some(byte) if *byte == wanted => {}
            Some(_) => return Read::No,
            None => return Read::More,
        }
    }
    match hex(bytes, 8, 4) {
        Err(read) => read,
        Ok(low) if (0xdc00..0xe000).contains(&low) => {
            let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            char::from_u32(code).map_or(Read::No, |c| Read::Yes(c, 12, Step::Escape))
        }
        Ok(_) => Read::No,
    }
}

fn hex(bytes: &[u8], at: usize, digits: usize) -> Result<u32, Read> {
    let mut code: u32 = 0;
    for index in at..at + digits {
        let digit = match bytes.get(index) {
            None => return Err(Read::More),
            Some(byte) => char::from(*byte).to_digit(16).ok_or(Read::No)?,
        };
        code = code.checked_mul(16).and_then(|code| code.checked_add(digit)).ok_or(Read::No)?;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read() {
        let decoded = |text: &str| match escape(text.as_bytes(), true) {
            Escape::Decoded { c, length, .. } => Some((c, length)),
            _ => None,
        };
        assert_eq!(decoded("&#x1F600;"), Some(('😀', 9)));
        assert_eq!(decoded("\\ud83d\\ude00"), Some(('😀', 12)));
        assert_eq!(decoded("%F0%9F%98%80!"), Some(('😀', 12)));
        for none in ["&nothing;", "&;", "%zz", "%C0%80", "\\n", "\\ud83d", "&#0;", "%00", "&#99999999999;"] {
            assert_eq!(decoded(none), None, "{none}");
        }
    }

    #[test]
    fn only_more_text_finishes_an_unfinished_one() {
        assert_eq!(escape(b"&am", false), Escape::Unfinished);
        assert_eq!(escape(b"&am", true), Escape::None);
        assert_eq!(escape(b"&am ", false), Escape::None);
    }
}
