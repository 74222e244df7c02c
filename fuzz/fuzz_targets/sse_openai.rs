//! Arbitrary bytes as a streamed answer of OpenAI chat completions: the events do not depend on how the bytes were cut, a tool is
//! called only by a whole answer, and a whole answer ends with its stop reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigil_gate::port::ModelEvent;
use sigil_provider::wire::{AnswerReader, Wire};

fn read(pieces: &[&[u8]]) -> (Vec<ModelEvent>, bool, bool) {
    let mut reader = AnswerReader::new(Wire::OpenAi { completion_tokens: false });
    let mut events = Vec::new();
    let failed = pieces.iter().any(|piece| reader.push(piece, &mut events).is_err());
    (events, failed, !failed && reader.finish().is_ok())
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let (events, failed, ended) = read(&[bytes]);
    let (a, b) = bytes.split_at(usize::from(cut) % (bytes.len() + 1));
    assert_eq!(read(&[a, b]), (events.clone(), failed, ended));
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single), (events.clone(), failed, ended));
    let calls = events.iter().filter(|event| matches!(event, ModelEvent::ToolCall { .. })).count();
    let stops = events.iter().filter(|event| matches!(event, ModelEvent::Stop(_))).count();
    assert_eq!(stops, usize::from(matches!(events.last(), Some(ModelEvent::Stop(_)))));
    assert!(calls == 0 || stops == 1, "a tool is called by a whole answer only");
    assert!(!ended || stops == 1);
});
