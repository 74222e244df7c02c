//! A model of the test's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};

/// Serves a model that says something, wants one line appended to a file, and then says whether that was done.
pub fn model() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // The gateway may be dead before it has asked or read everything.
            thread::spawn(move || answer(connection).ok());
        }
    });
    address
}

fn answer(connection: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let asked: Value = serde_json::from_slice(&body).expect("JSON");
    let messages = asked["messages"].as_array().expect("messages");
    let user = messages.iter().rfind(|message| message["role"] == "user").expect("a message of a person");
    let name = user["content"].as_str().expect("text").split(' ').next_back().expect("a word");
    let last = messages.last().expect("a message");
    let mut connection = reader.into_inner();
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
    let mut say = |delta: Value, reason: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "choices": [choice]});
        connection.write_all(format!("data: {chunk}\n\n").as_bytes())
    };
    if last["role"] == "tool" {
        let done = last["content"].as_str().expect("text").contains("bytes written");
        say(json!({"role": "assistant", "content": format!("Appended {name}: {done}.")}), None)?;
        say(json!({}), Some("stop"))?;
    } else {
        say(json!({"role": "assistant", "content": format!("I append {name}.")}), None)?;
        let arguments = json!({"path": "log", "content": format!("{name}\n"), "mode": "append"}).to_string();
        let function = json!({"name": "files__write", "arguments": arguments});
        say(json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}), None)?;
        say(json!({}), Some("tool_calls"))?;
    }
    connection.write_all(b"data: [DONE]\n\n")
}
