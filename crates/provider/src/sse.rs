//! Server-sent events, read strictly and with limits, from any cut of the bytes.
//!
//! The form is that of the HTML standard, section 9.2.6 ("Interpreting an event stream"): UTF-8, lines ended by CR LF, LF or
//! CR, an empty line ends an event. `id` and `retry` are for reconnecting, which nobody does here; they are ignored.

/// The most bytes of one event's data.
pub const MAX_EVENT: usize = 4 << 20;

/// Why a stream is not one of server-sent events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSse {
    /// A line is not UTF-8.
    #[error("a line is not UTF-8")]
    Utf8,
    /// An event has more than [`MAX_EVENT`] bytes.
    #[error("an event is larger than 4 MiB")]
    Large,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// The name in `event:`; empty when there is none.
    pub name: String,
    /// The lines of `data:`, joined by line feeds.
    pub data: String,
}

/// Puts events together from pieces of a stream.
#[derive(Debug, Default)]
pub struct SseReader {
    line: Vec<u8>,
    event: SseEvent,
    has_data: bool,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
    begun: bool,
}

impl SseReader {
    /// Takes the next bytes, and hands each event that they complete to `take`.
    ///
    /// # Errors
    /// [`BadSse`]; the reader must then not be used any more.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(SseEvent)) -> Result<(), BadSse> {
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                rest = after;
                continue;
            }
            let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n'));
            let (part, more) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
            if self.line.len() + part.len() + self.event.data.len() > MAX_EVENT {
                return Err(BadSse::Large);
            }
            self.line.extend_from_slice(part);
            rest = more;
            if let Some((ending, after)) = more.split_first() {
                self.after_cr = *ending == b'\r';
                rest = after;
                if let Some(event) = self.end_line()? {
                    take(event);
                }
            }
        }
        Ok(())
    }

    /// Whether the stream ended between events. What was begun and not ended is no event.
    #[must_use]
    pub fn is_between_events(&self) -> bool {
        self.line.is_empty() && !self.has_data && self.event.name.is_empty()
    }

    fn end_line(&mut self) -> Result<Option<SseEvent>, BadSse> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.begun, true) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        let line = String::from_utf8(line).map_err(|_| BadSse::Utf8)?;
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return Ok(std::mem::take(&mut self.has_data).then_some(event));
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments (an empty field), `id`, `retry`, and what is not known.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<SseEvent>, BadSse> {
        let mut reader = SseReader::default();
        let mut events = Vec::new();
        for piece in pieces {
            reader.push(piece, |event| events.push(event))?;
        }
        Ok(events)
    }

    fn event(name: &str, data: &str) -> SseEvent {
        SseEvent { name: name.into(), data: data.into() }
    }

    #[test]
    fn events_are_read() {
        let text = "\u{feff}: comment\r\nevent: a\r\ndata: 1\r\ndata:2\r\n\r\ndata\n\nid: 7\nretry: 1\n\nevent: x\n\ndata: 3\r\rdata: lost";
        let expected = vec![event("a", "1\n2"), event("", ""), event("", "3")];
        assert_eq!(read(&[text.as_bytes()]), Ok(expected));
        assert_eq!(read(&[b"data: \xff\n\n"]), Err(BadSse::Utf8));
        assert_eq!(read(&[&vec![b'a'; MAX_EVENT + 1]]), Err(BadSse::Large));
    }

    #[test]
    fn an_event_of_many_lines_is_bounded() {
        let mut reader = SseReader::default();
        let line = [b"data: ".as_slice(), &[b'x'; 1 << 20], b"\n"].concat();
        let results: Vec<_> = (0..6).map(|_| reader.push(&line, |_| {})).collect();
        assert!(results.contains(&Err(BadSse::Large)));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(text in "(data|event|:|id|\u{e9}|\u{1f600}|x| |\r|\n|\r\n){0,30}", cut in any::<prop::sample::Index>()) {
            let bytes = text.as_bytes();
            let whole = read(&[bytes]);
            let (a, b) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(&read(&[a, b]), &whole);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&read(&single), &whole);
        }
    }
}
