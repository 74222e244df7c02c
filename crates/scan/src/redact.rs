//! [`redact`]: the one routine that takes found text out.

use std::ops::Range;

use sigil_types::Code;

use crate::Finding;

/// Replaces the span of each finding by `⟦redacted: RULE⟧`.
///
/// Spans that overlap or touch become one marker, named for the gravest finding among them. A span that does not lie on
/// character boundaries is widened to them; one beyond the end covers up to the end: what was found never stays.
#[must_use]
pub fn redact<'a>(text: &str, findings: impl IntoIterator<Item = &'a Finding>) -> String {
    let mut spans: Vec<(Range<usize>, &Finding)> = findings
        .into_iter()
        .map(|finding| (floor(text, finding.span.start)..ceiling(text, finding.span.end), finding))
        .filter(|(span, _)| !span.is_empty())
        .collect();
    spans.sort_by_key(|(span, _)| (span.start, span.end));
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    let mut open: Option<(Range<usize>, &Finding)> = None;
    for (span, finding) in spans {
        match &mut open {
            Some((region, gravest)) if span.start <= region.end => {
                region.end = region.end.max(span.end);
                if finding.severity > gravest.severity {
                    *gravest = finding;
                }
            }
            _ => {
                if let Some((region, gravest)) = open.replace((span, finding)) {
                    close(&mut out, text, &mut from, &region, &gravest.rule);
                }
            }
        }
    }
    if let Some((region, gravest)) = open {
        close(&mut out, text, &mut from, &region, &gravest.rule);
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

fn close(out: &mut String, text: &str, from: &mut usize, region: &Range<usize>, rule: &Code) {
    out.push_str(text.get(*from..region.start).unwrap_or_default());
    out.push_str("⟦redacted: ");
    out.push_str(rule.as_str());
    out.push('⟧');
    *from = region.end;
}

/// The last character boundary at or before `at`.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

fn ceiling(text: &str, at: usize) -> usize {
    text.ceil_char_boundary(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, Severity};

    fn finding(rule: &'static str, severity: Severity, span: Range<usize>) -> Finding {
        Finding { rule: rule.parse().expect("a code"), class: Class::Secret, severity, span, via: Vec::new() }
    }

    #[test]
    fn spans_become_markers_and_the_rest_stays() {
        let found = [finding("a.b", Severity::Low, 2..4), finding("c.d", Severity::High, 5..6)];
        assert_eq!(redact("abcdefg", &found), "ab⟦redacted: a.b⟧e⟦redacted: c.d⟧g");
        assert_eq!(redact("abc", []), "abc");
    }

    #[test]
    fn touching_spans_are_one_marker_of_the_gravest() {
        let found = [finding("a.b", Severity::Low, 1..4), finding("c.d", Severity::High, 3..6)];
        assert_eq!(redact("abcdefg", &found), "a⟦redacted: c.d⟧g");
    }

    #[test]
    fn what_was_found_never_stays_even_when_a_span_is_off() {
        assert_eq!(redact("aéb", &[finding("a.b", Severity::Low, 2..9)]), "a⟦redacted: a.b⟧");
    }
}
