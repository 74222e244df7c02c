//! The written form of Seatbelt profiles: S-expressions of words and quoted texts, their printer and their strict reader.
//!
//! The language of macOS is a Scheme with much more in it. What is printed here, and all that is read, is: lists, words of
//! letters, digits and `-*_.`, and texts between double quotes in which `\"` and `\\` are the only escapes.

use std::fmt;

/// Longest profile that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Most lists in each other.
pub const MAX_DEPTH: usize = 16;

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A name of the language: an operation, a filter, a number.
    Word(String),
    /// A quoted text.
    Text(String),
    /// Forms between parentheses.
    List(Vec<Self>),
}

/// Why a text is not a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ReadFailed {
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl Form {
    /// A list that begins with the word `head`.
    pub(super) fn list(head: &str, rest: impl IntoIterator<Item = Self>) -> Self {
        Self::List([Self::Word(head.to_owned())].into_iter().chain(rest).collect())
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn word(word: &str) -> Self {
        Self::Word(word.to_owned())
    }

    /// The first word of a list, and what follows it.
    #[must_use]
    pub fn as_list(&self) -> Option<(&str, &[Self])> {
        match self {
            Self::List(parts) => match parts.split_first() {
                Some((Self::Word(head), rest)) => Some((head, rest)),
                _ => None,
            },
            _ => None,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Text(text) => {
                f.write_str("\"")?;
                for letter in text.chars() {
                    if matches!(letter, '"' | '\\') {
                        f.write_str("\\")?;
                    }
                    write!(f, "{letter}")?;
                }
                f.write_str("\"")
            }
            Self::List(parts) => {
                f.write_str("(")?;
                for (at, part) in parts.iter().enumerate() {
                    let space = if at == 0 { "" } else { " " };
                    write!(f, "{space}{part}")?;
                }
                f.write_str(")")
            }
        }
    }
}

const fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '*' | '_' | '.')
}

/// Reads a whole profile: its forms in order. Comments, from `;` to the end of the line, are passed over.
///
/// # Errors
/// [`ReadFailed`] for the first thing that is not of this form.
pub fn read(text: &str) -> Result<Vec<Form>, ReadFailed> {
    if text.len() > MAX_BYTES {
        return Err(ReadFailed { line: 1, what: "longer than 1 MiB" });
    }
    let mut line = 1;
    // The lists that are open, the whole profile first.
    let mut open: Vec<Vec<Form>> = vec![Vec::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let begun = line;
        let failed = |what| ReadFailed { line: begun, what };
        let form = match letter {
            '\n' => {
                line += 1;
                continue;
            }
            ' ' => continue,
            ';' => {
                while letters.next_if(|letter| *letter != '\n').is_some() {}
                continue;
            }
            '(' if open.len() > MAX_DEPTH => return Err(failed("more than 16 lists in each other")),
            '(' => {
                open.push(Vec::new());
                continue;
            }
            ')' => match open.pop() {
                Some(list) if !open.is_empty() => Form::List(list),
                _ => return Err(failed("a parenthesis that closes nothing")),
            },
            '"' => {
                let mut text = String::new();
                loop {
                    match letters.next() {
                        Some('"') => break,
                        Some('\\') => match letters.next() {
                            Some(escaped @ ('"' | '\\')) => text.push(escaped),
                            _ => return Err(failed("an escape that is neither \\\" nor \\\\")),
                        },
                        Some(letter) => {
                            line += usize::from(letter == '\n');
                            text.push(letter);
                        }
                        None => return Err(failed("a text without its end")),
                    }
                }
                Form::Text(text)
            }
            letter if is_word(letter) => {
                let mut word = String::from(letter);
                while let Some(letter) = letters.next_if(|letter| is_word(*letter)) {
                    word.push(letter);
                }
                Form::Word(word)
            }
            _ => return Err(failed("a character that stands in no profile")),
        };
        if matches!(letters.peek(), Some(next) if matches!(form, Form::Word(_) | Form::Text(_)) && !matches!(next, ' ' | '\n' | ')'))
        {
            return Err(failed("no space after a word or text"));
        }
        if let Some(list) = open.last_mut() {
            list.push(form);
        }
    }
    match open.pop() {
        Some(forms) if open.is_empty() => Ok(forms),
        _ => Err(ReadFailed { line, what: "a parenthesis that is never closed" }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn forms() -> impl Strategy<Value = Form> {
        let text = prop_oneof![".*", "[\"\\\\();\n#]{0,8}", "(/|\\.\\.|\"|\\)){0,9}"];
        let leaf = prop_oneof!["[a-z*_.-]{1,12}".prop_map(Form::Word), text.prop_map(Form::Text)];
        leaf.prop_recursive(6, 40, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Form::List))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(forms in prop::collection::vec(forms(), 0..5)) {
            let written: String = forms.iter().map(|form| format!("{form}\n; a comment ( \"\n")).collect();
            prop_assert_eq!(read(&written), Ok(forms));
        }

        #[test]
        fn whatever_is_read_means_the_same_when_written_again(text in "[()\"\\\\;a-z *\n#é]{0,60}") {
            if let Ok(forms) = read(&text) {
                let written = forms.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
                prop_assert_eq!(read(&written), Ok(forms));
            }
        }
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, line, what) in [
            ("(a", 1, "never closed"),
            ("(a)\n)", 2, "closes nothing"),
            ("(a \"b)", 1, "without its end"),
            ("(a \"b\nc\"\n\"d", 3, "without its end"),
            ("(a \"\\n\")", 1, "escape"),
            ("(a #t)", 1, "character"),
            ("(a 'b)", 1, "character"),
            ("(a \tb)", 1, "character"),
            ("(a \"b\"c)", 1, "space"),
            ("a\"b\"", 1, "space"),
        ] {
            let failed = read(text).expect_err(text);
            assert!(failed.line == line && failed.what.contains(what), "{text:?}: {failed}");
        }
        assert!(read(&"(".repeat(MAX_DEPTH + 1)).expect_err("deep").what.contains("in each other"));
        assert!(read(&format!("{}{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH))).is_ok());
        assert!(read(&" ".repeat(MAX_BYTES + 1)).is_err());
    }
}
