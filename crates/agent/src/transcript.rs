//! The transcript of a session becomes the segments of a prompt.

use sigil_gate::{PastCall, SegmentDraft, Session};
use sigil_types::{Label, Origin, ToolName, TurnId, Untrusted};

use crate::journal::Journal;
use crate::turn::Ended;

/// A message as the transcript holds it.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    User { origin: Origin, text: String, label: Label, turn: TurnId },
    Assistant { text: String, calls: Vec<PastCall>, label: Label },
    ToolResult { call: String, tool: ToolName, origin: Origin, text: String, label: Label },
}

/// Segments that can be built again for another provider: clearing consumes them.
#[derive(Debug)]
pub(crate) struct SegmentSource {
    entries: Vec<Entry>,
    turn: TurnId,
}

/// The newest messages of the session, oldest first, beginning with a person's: an answer without its question, or a
/// result without its call, is something that providers refuse.
pub(crate) async fn segments(
    journal: &Journal,
    session: &Session,
    turn: TurnId,
    window: usize,
) -> Result<SegmentSource, Ended> {
    let mut entries = journal.window(session.id(), turn, window).await?;
    let first = entries.iter().position(|entry| matches!(entry, Entry::User { .. })).unwrap_or(entries.len());
    entries.drain(..first);
    without_cut_off(&mut entries);
    Ok(SegmentSource { entries, turn })
}

/// Leaves out words after which the model speaks again, or ought to: a crash came before any of the calls that went with
/// them was answered, and the model is asked anew.
fn without_cut_off(entries: &mut Vec<Entry>) {
    let mut model_follows = true;
    for at in (0..entries.len()).rev() {
        let entry = entries.get(at);
        let words_only = matches!(entry, Some(Entry::Assistant { calls, .. }) if calls.is_empty());
        if words_only && model_follows {
            entries.remove(at);
        } else {
            model_follows = matches!(entry, Some(Entry::Assistant { .. }));
        }
    }
}

impl SegmentSource {
    pub(crate) fn build(&self) -> Vec<SegmentDraft> {
        let own = std::iter::once(SegmentDraft::System);
        own.chain(self.entries.iter().cloned().map(|entry| self.segment(entry))).collect()
    }

    fn segment(&self, entry: Entry) -> SegmentDraft {
        match entry {
            Entry::User { origin, text, label, turn } => {
                SegmentDraft::User { text: Untrusted::new(origin, text), label, current: turn == self.turn }
            }
            Entry::Assistant { text, calls, label } => {
                SegmentDraft::Assistant { text: Untrusted::new(Origin::Model, text), calls, label }
            }
            Entry::ToolResult { call, tool, origin, text, label } => {
                SegmentDraft::ToolResult { call, tool, text: Untrusted::new(origin, text), label }
            }
        }
    }
}
