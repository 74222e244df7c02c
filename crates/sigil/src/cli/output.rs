//! Where output goes and how it looks: data on standard output, everything else on standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::args::{ColorChoice, Global};

/// How to print.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// Data is JSON.
    pub(crate) json: bool,
    /// Only what was asked for.
    pub(crate) quiet: bool,
    /// 0, 1 or more.
    pub(crate) verbose: u8,
    colour_out: bool,
    colour_err: bool,
}

/// A colour, which never says anything that the words do not say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paint {
    /// Of headings.
    Bold,
    /// Of what matters less.
    Dim,
    /// Good.
    Green,
    /// Look here.
    Yellow,
    /// Bad.
    Red,
    /// Names and commands.
    Cyan,
}

impl Paint {
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "1;31",
            Self::Cyan => "36",
        }
    }
}

/// The word that stands for `value` wherever it is serialised; empty when it is not a plain word.
pub(crate) fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

impl Output {
    /// What the options and the environment ask for.
    pub(crate) fn new(global: &Global) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let colour = |terminal: bool| match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto if set("CLICOLOR_FORCE") => true,
            ColorChoice::Auto => terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        };
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            colour_out: !global.json && colour(std::io::stdout().is_terminal()),
            colour_err: colour(std::io::stderr().is_terminal()),
        }
    }

    /// How many columns text may take: those of the terminal, or those that `COLUMNS` says, or 100; never fewer than 60.
    #[expect(clippy::unused_self, reason = "the output decides how it looks")]
    pub(crate) fn width(&self) -> usize {
        let terminal = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
        let said = || std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        terminal().or_else(said).filter(|columns| *columns > 0).unwrap_or(100).max(60)
    }

    /// Writes a line of data. A closed pipe is the reader's choice and no error.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        _ = writeln!(std::io::stdout().lock(), "{}", text.as_ref());
    }

    /// Writes data without a line break, at once.
    pub(crate) fn piece(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        _ = out.write_all(text.as_bytes());
        _ = out.flush();
    }

    /// Writes data as one JSON document, indented on a terminal.
    pub(crate) fn document(&self, data: &impl Serialize) {
        let text = if std::io::stdout().is_terminal() {
            serde_json::to_string_pretty(data)
        } else {
            serde_json::to_string(data)
        };
        self.line(text.unwrap_or_default());
    }

    /// Writes a line for people, on standard error.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet && !self.json {
            self.error_line(text);
        }
    }

    /// Writes a line on standard error, whatever is set.
    pub(crate) fn error_line(&self, text: impl AsRef<str>) {
        _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
    }

    /// Writes to standard error without a line break, at once: a prompt.
    pub(crate) fn prompt(&self, text: &str) {
        let mut out = std::io::stderr().lock();
        _ = out.write_all(text.as_bytes());
        _ = out.flush();
    }

    /// `text` in a colour, for standard output.
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        coloured(self.colour_out, paint, text)
    }

    /// `text` in a colour, for standard error.
    pub(crate) fn paint_error(&self, paint: Paint, text: &str) -> String {
        coloured(self.colour_err, paint, text)
    }

    /// Writes rows below a heading, aligned on a terminal and separated by tabs otherwise.
    pub(crate) fn table(&self, heading: &[&str], rows: &[Vec<String>]) {
        if !std::io::stdout().is_terminal() {
            for row in rows {
                self.line(row.join("\t"));
            }
            return;
        }
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain(heading.get(column).map(|cell| cell.chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heading.len()).map(width).collect();
        let aligned = |cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.line(self.paint(Paint::Bold, &aligned(&mut heading.iter().copied())));
        for row in rows {
            self.line(aligned(&mut row.iter().map(String::as_str)));
        }
    }
}

fn coloured(on: bool, paint: Paint, text: &str) -> String {
    if on { format!("\x1b[{}m{text}\x1b[0m", paint.code()) } else { text.to_owned() }
}
