//! Arbitrary text in arbitrary pieces: every span lies on character boundaries, and a stream finds what a scan finds.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sigil_scan::{Scanner, redact};
use sigil_types::Stage;

static SCANNER: LazyLock<Scanner> = LazyLock::new(|| Scanner::builtin().expect("the packs load"));

fuzz_target!(|input: (Vec<u16>, String)| {
    let (sizes, text) = input;
    let whole = SCANNER.scan(Stage::Output, &text);
    for finding in &whole.findings {
        assert!(text.get(finding.span.clone()).is_some_and(|found| !found.is_empty()), "{finding}");
    }
    let _ = redact(&text, &whole.findings);

    let mut stream = SCANNER.stream(Stage::Output);
    let (mut out, mut findings) = (String::new(), Vec::new());
    let mut take = |released: sigil_scan::Released| {
        for mut finding in released.findings {
            finding.span = finding.span.start + out.len()..finding.span.end + out.len();
            findings.push(finding);
        }
        out.push_str(&released.text);
    };
    let mut rest = text.as_str();
    for size in sizes {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(usize::from(size)));
        take(stream.push(piece));
        rest = after;
    }
    take(stream.push(rest));
    take(stream.finish());
    assert_eq!(out, text);
    assert_eq!(findings, whole.findings);
});
