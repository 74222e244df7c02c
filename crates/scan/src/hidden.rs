//! Characters that people do not see: where they stand, and whether text needs them there.

use crate::chars::{Hidden, hidden, untag};
use crate::layer::Found;
use crate::pack::HiddenForm;
use crate::rules::Rules;

/// A longer stretch of invisible characters is reported in pieces, in bytes.
const LONGEST: usize = 1024;

/// How many bytes of visible text may stand between two invisible characters of one finding.
const GAP: usize = 8;

/// More zero-width characters in a row than any script or emoji needs.
const RUN: usize = 5;

/// A stretch of invisible characters that belong together.
struct Stretch {
    kind: Hidden,
    start: usize,
    end: usize,
    /// In a row, now and at most.
    row: usize,
    longest_row: usize,
    /// Between two ASCII letters or digits.
    within_words: usize,
}

impl Stretch {
    /// What the stretch as a whole is.
    fn form(&self) -> Option<HiddenForm> {
        Some(match self.kind {
            Hidden::Tag => HiddenForm::Tags,
            Hidden::Selector if self.longest_row >= 3 => HiddenForm::Selectors,
            Hidden::Override => HiddenForm::Override,
            Hidden::Embedding => HiddenForm::Embedding,
            Hidden::ZeroWidth if self.longest_row >= RUN => HiddenForm::ZeroWidthRun,
            Hidden::ZeroWidth if self.within_words >= 3 => HiddenForm::ZeroWidthWord,
            Hidden::ZeroWidth => HiddenForm::ZeroWidth,
            Hidden::Selector | Hidden::Ordinary => return None,
        })
    }
}

/// What looking for invisible characters came to.
#[derive(Debug, Default)]
pub(crate) struct Unseen {
    pub(crate) found: Vec<Found>,
    /// Up to where everything that starts is known.
    pub(crate) settled: usize,
    /// Where the last stretch that is known ends: a later search goes on from there.
    pub(crate) done: usize,
}

/// All stretches in `text` from `base` on. `start` says that the text has its start at 0.
pub(crate) fn find(text: &str, base: usize, start: bool, last: bool, rules: &Rules, mask: u8) -> Unseen {
    let mut settled = text.len();
    if text.is_ascii() {
        return Unseen { settled, ..Unseen::default() };
    }
    let mut found = Vec::new();
    let mut done = base;
    let mut open: Option<Stretch> = None;
    let mut close = |stretch: Stretch| {
        done = stretch.end;
        let Some(rule) = stretch.form().and_then(|form| rules.hidden(form)) else { return };
        let Some(severity) = rules.severity(rule).filter(|_| rules.applies(rule, mask)) else { return };
        found.push(Found { span: (stretch.start..stretch.end).into(), rule, severity, via: Vec::new() });
    };
    let mut before = Before::new(text.get(..base).unwrap_or_default());
    let mut flag_ends = 0;
    for (offset, c) in text.get(base..).unwrap_or_default().char_indices() {
        let at = base + offset;
        let here = hidden(c);
        if here == Some(Hidden::Tag) && at >= flag_ends && before.visible == Some('\u{1f3f4}') && before.row == 0 {
            match flag(text.get(at..).unwrap_or_default(), last) {
                Flag::Valid(length) => flag_ends = at + length,
                Flag::Unfinished => settled = settled.min(at),
                Flag::No => {}
            }
        }
        let kind = here.filter(|kind| at >= flag_ends && !ordinary(*kind, c, &before, at == 0 && start));
        if let Some(stretch) = open.take_if(|stretch| {
            let far = at - stretch.end > GAP || at - stretch.start > LONGEST;
            far || kind.is_some_and(|kind| kind != stretch.kind)
        }) {
            close(stretch);
        }
        if let Some(kind) = kind {
            let mut after = text.get(at..).unwrap_or_default().chars().skip(1).take(MOST_BETWEEN);
            let within = before.visible.is_some_and(|c| c.is_ascii_alphanumeric())
                && after.find(|c| hidden(*c).is_none()).is_some_and(|c| c.is_ascii_alphanumeric());
            let stretch =
                open.get_or_insert(Stretch { kind, start: at, end: at, row: 0, longest_row: 0, within_words: 0 });
            stretch.row = if stretch.end == at { stretch.row + 1 } else { 1 };
            stretch.longest_row = stretch.longest_row.max(stretch.row);
            stretch.within_words += usize::from(within);
            stretch.end = at + c.len_utf8();
        }
        before.take(c, here);
    }
    if let Some(stretch) = open {
        if last || text.len() - stretch.end > GAP || text.len() - stretch.start > LONGEST {
            close(stretch);
        } else {
            settled = settled.min(stretch.start);
        }
    }
    Unseen { found, settled, done: done.max(flag_ends) }
}

/// A visible character further away, in invisible ones, is no neighbour.
const MOST_BETWEEN: usize = 8;

/// The visible character before a place, if it is a neighbour.
struct Before {
    visible: Option<char>,
    /// How many invisible characters stand between.
    row: usize,
}

impl Before {
    fn new(text: &str) -> Self {
        let mut before = Self { visible: None, row: 0 };
        let (at, _) = text.char_indices().rev().take(MOST_BETWEEN + 1).last().unwrap_or_default();
        for c in text.get(at..).unwrap_or_default().chars() {
            before.take(c, hidden(c));
        }
        before
    }

    fn take(&mut self, c: char, kind: Option<Hidden>) {
        if kind.is_none() {
            *self = Self { visible: Some(c), row: 0 };
        } else {
            self.row += 1;
            if self.row > MOST_BETWEEN {
                self.visible = None;
            }
        }
    }
}

/// Whether an invisible character is ordinary where it stands.
fn ordinary(kind: Hidden, c: char, before: &Before, first: bool) -> bool {
    match kind {
        Hidden::Ordinary => true,
        // Joiners belong to many scripts and to emoji, fillers and separators to the scripts that they come from.
        Hidden::ZeroWidth => {
            (c == '\u{feff}' && first) || before.visible.is_some_and(|visible| u32::from(visible) >= 0x0590)
        }
        // One selector after an ideograph chooses its form.
        Hidden::Selector | Hidden::Tag | Hidden::Override => false,
        // An embedding is ordinary beside a script that is written from right to left.
        Hidden::Embedding => before.visible.is_some_and(|visible| matches!(visible, '\u{590}'..='\u{8ff}')),
    }
}

enum Flag {
    No,
    Unfinished,
    /// Of this length, in bytes.
    Valid(usize),
}

/// The tags of a flag (Unicode Technical Standard 51): three to six letters or digits, and the cancel tag.
fn flag(tags: &str, last: bool) -> Flag {
    let mut length = 0;
    for (count, c) in tags.chars().enumerate() {
        length += c.len_utf8();
        match c {
            '\u{e007f}' if count >= 3 => return Flag::Valid(length),
            _ if count < 6 && untag(c).is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) => {}
            _ => return Flag::No,
        }
    }
    if last { Flag::No } else { Flag::Unfinished }
}
