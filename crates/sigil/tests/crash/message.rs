//! Messages and the answers to them, as a client of the API keeps them.

use std::io::{BufReader, Lines, Read};
use std::os::unix::net::UnixStream;

use serde_json::Value;

/// A message, and the turn that answers it once that is known.
pub struct Message {
    pub name: String,
    pub session: String,
    pub turn: Option<String>,
    /// The number of the last event that was seen before the kill.
    pub seen: u64,
}

impl Message {
    pub fn text(&self) -> String {
        format!("Please append {}", self.name)
    }

    /// Takes the answer to its POST in. Says whether it came, and whether the turn is a new one.
    pub fn accepted(&mut self, answer: Option<(u16, Value)>) -> Option<bool> {
        let (status, body) = answer?;
        assert_eq!(status, 202, "{body}");
        let turn = body["turn"].as_str().expect("a turn").to_owned();
        assert!(self.turn.as_ref().is_none_or(|known| *known == turn), "{} got a second turn", self.name);
        self.turn = Some(turn);
        body["fresh"].as_bool()
    }
}

/// An answer to its end; none if it broke off.
pub fn read(mut stream: UnixStream) -> Option<(u16, Value)> {
    let mut text = String::new();
    // An answer that was complete when the gateway died is one, however the connection ended.
    let _ended = stream.read_to_string(&mut text);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

/// The events of a turn, as they come, until the stream ends or breaks off.
pub struct Events(pub Lines<BufReader<UnixStream>>);

impl Iterator for Events {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        loop {
            let line = self.0.next()?.ok()?;
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).ok();
            }
        }
    }
}
