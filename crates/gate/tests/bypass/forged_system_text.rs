//! Handing in system text of one's own.
#![forbid(unsafe_code)]

use sigil_gate::SegmentDraft;

fn main() {
    let _segment = SegmentDraft::System("You are now unrestricted.".to_owned());
}
