//! Both adapters against local servers: whole, cut at every byte, cut off at every byte, refusing, silent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use sigil_egress::{ClientLimits, HostRights, Roots, Surroundings, SystemResolver};
use sigil_gate::port::StopReason;
use sigil_gate::{Message, PastCall, ToolDefinition};
use sigil_types::Usage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::Cause;

const OPENAI: Wire = Wire::OpenAi { completion_tokens: false };

const ANTHROPIC_STREAM: &str = "event: message_start\n\
data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":20,\"cache_read_input_tokens\":5,\"output_tokens\":1}}}\n\n\
event: content_block_start\n\
data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
event: ping\ndata: {\"type\": \"ping\"}\n\n\
event: content_block_delta\n\
data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Gr\u{fc}\u{df}e \u{1f600}\"}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
event: content_block_start\n\
data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"files__read\",\"input\":{}}}\n\n\
event: content_block_delta\n\
data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"path\\\":\"}}\n\n\
event: content_block_delta\n\
data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\\\"a\\\"}\"}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n\
event: message_delta\n\
data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":15}}\n\n\
event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

const OPENAI_STREAM: &str = "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\r\n\r\n\
: keep-alive\r\n\r\n\
data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Gr\u{fc}\u{df}e \u{1f600}\"},\"finish_reason\":null}]}\r\n\r\n\
data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"toolu_1\",\"type\":\"function\",\"function\":{\"name\":\"files__read\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\r\n\r\n\
data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"path\\\":\"}}]},\"finish_reason\":null}]}\r\n\r\n\
data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\\\"a\\\"}\"}}]},\"finish_reason\":null}]}\r\n\r\n\
data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\r\n\r\n\
data: {\"choices\":[],\"usage\":{\"prompt_tokens\":25,\"completion_tokens\":15,\"total_tokens\":40}}\r\n\r\n\
data: [DONE]\r\n\r\n";

fn whole() -> Vec<ModelEvent> {
    vec![
        ModelEvent::Text("Gr\u{fc}\u{df}e \u{1f600}".to_owned()),
        ModelEvent::ToolCall {
            id: "toolu_1".to_owned(),
            tool: Ok("files.read".parse().expect("a tool")),
            arguments: "{\"path\":\"a\"}".to_owned(),
        },
        ModelEvent::Usage(Usage { input_tokens: 25, output_tokens: 15 }),
        ModelEvent::Stop(StopReason::ToolCalls),
    ]
}

fn both() -> [(Wire, &'static str); 2] {
    [(Wire::Anthropic, ANTHROPIC_STREAM), (OPENAI, OPENAI_STREAM)]
}

/// A server that answers the n-th connection with the n-th answer, the last one ever after, and keeps what it was asked.
struct Server {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn new(answers: Vec<Vec<u8>>, then_hold: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            for served in 0_usize.. {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                let answer = answers[served.min(answers.len() - 1)].clone();
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !is_whole(&request) {
                        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    log.lock().expect("not poisoned").push(String::from_utf8_lossy(&request).into_owned());
                    let _ = stream.write_all(&answer).await;
                    if then_hold {
                        let _ = stream.read_u8().await;
                    }
                });
            }
        });
        Self { at, asked }
    }

    fn provider(&self, wire: Wire, patience: Duration) -> HttpProvider {
        let base_url: BaseUrl = format!("http://{}", self.at).parse().expect("a base URL");
        let rights =
            HostRights { endpoints: [base_url.endpoint().clone()].into_iter().collect(), local: vec![self.at] };
        let client = HttpClient::new(
            Arc::new(SystemResolver),
            Surroundings::default(),
            Roots::Only(vec![]),
            ClientLimits::default(),
            rights,
        );
        let settings = HttpProviderSettings {
            name: "test".parse().expect("a name"),
            wire,
            base_url,
            key: Some(Secret::new("key-123".to_owned())),
            first_event: patience,
            idle: patience,
        };
        HttpProvider::new(client, settings)
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n";

fn chunked(pieces: &[&[u8]], ended: bool) -> Vec<u8> {
    let mut bytes = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    if ended {
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
    bytes
}

fn messages() -> Vec<Message> {
    vec![
        Message::System("Be kind.".to_owned()),
        Message::User("Read a.".to_owned()),
        Message::Assistant {
            text: String::new(),
            calls: vec![PastCall {
                id: "call/1".to_owned(),
                tool: "files.read".parse().expect("a tool"),
                arguments: "{\"path\":\"b\"}".to_owned(),
            }],
        },
        Message::ToolResult {
            call: "call/1".to_owned(),
            tool: "files.read".parse().expect("a tool"),
            text: "<<x>>\nhello\n<</x>>".to_owned(),
        },
        Message::User("And now a.".to_owned()),
    ]
}

fn tools() -> Vec<ToolDefinition> {
    vec![ToolDefinition {
        name: "files.read".parse().expect("a tool"),
        description: "Reads a file.".to_owned(),
        schema: serde_json::json!({"type": "object", "properties": {"path": {"type": "string"}}}),
    }]
}

type Outcome = Result<Vec<ModelEvent>, PortFailed>;

/// All events, or the failure; in the latter case also whether it came before the first event.
async fn ask(provider: &HttpProvider) -> (Outcome, bool) {
    let (messages, tools) = (messages(), tools());
    let ask = Ask { model: "m", messages: &messages, tools: &tools, temperature: Some(0.0), max_tokens: Some(100) };
    let mut events = match provider.ask(&ask).await {
        Ok(events) => events,
        Err(failed) => return (Err(failed.into_port(provider.name(), true)), true),
    };
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => all.push(event.into_inner()),
            Err(failed) => {
                assert!(events.next().await.is_none(), "a failure ends the stream");
                return (Err(failed), false);
            }
        }
    }
    (Ok(all), false)
}

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_stream_cut_at_every_byte_gives_the_same_events() {
    for (wire, stream) in both() {
        let bytes = stream.as_bytes();
        let mut answers: Vec<Vec<u8>> =
            (0..=bytes.len()).map(|at| chunked(&[&bytes[..at], &bytes[at..]], true)).collect();
        answers.push(chunked(&bytes.chunks(1).collect::<Vec<_>>(), true));
        let count = answers.len();
        let server = Server::new(answers.into_iter().map(closing).collect(), false).await;
        let provider = server.provider(wire, PATIENCE);
        for at in 0..count {
            assert_eq!(ask(&provider).await.0.expect("an answer"), whole(), "{wire:?} cut at {at}");
        }
    }
}

/// The same answer, asking the client not to use the connection again: each answer is another connection's.
fn closing(answer: Vec<u8>) -> Vec<u8> {
    let (first, rest) = answer.split_at(b"HTTP/1.1 200 OK\r\n".len());
    [first, b"Connection: close\r\n", rest].concat()
}

#[tokio::test]
async fn a_stream_that_is_cut_off_is_an_error_and_calls_no_tool() {
    for (wire, stream) in both() {
        let bytes = stream.as_bytes();
        // The end marker is read when its line is empty; from there on the answer is whole.
        let marker = if wire == Wire::Anthropic {
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
        } else {
            "data: [DONE]\r\n\r"
        };
        let end = stream.find(marker).expect("an end marker") + marker.len();
        for framed in [true, false] {
            let cut = |at: usize| match framed {
                true => chunked(&[&bytes[..at]], false),
                false => [HEAD.as_bytes(), b"\r\n", &bytes[..at]].concat(),
            };
            let answers: Vec<Vec<u8>> = (0..=bytes.len()).map(|at| closing(cut(at))).collect();
            let server = Server::new(answers, false).await;
            let provider = server.provider(wire, PATIENCE);
            for at in 0..=bytes.len() {
                let (outcome, first) = ask(&provider).await;
                if at >= end {
                    assert_eq!(outcome.expect("an answer"), whole(), "{wire:?} cut off at {at}");
                    continue;
                }
                let failed = outcome.expect_err("cut off");
                let expected = if framed { "egress.endpoint.broken" } else { "provider.stream.end.missing" };
                assert_eq!(failed.code.as_str(), expected, "{wire:?} cut off at {at}");
                assert_eq!(failed.retryable, first, "{wire:?} cut off at {at}");
            }
        }
    }
}

#[tokio::test]
async fn requests_are_what_the_vendors_expect() {
    for (wire, stream) in both() {
        let server = Server::new(vec![chunked(&[stream.as_bytes()], true)], false).await;
        ask(&server.provider(wire, PATIENCE)).await.0.expect("an answer");
        let asked = server.asked.lock().expect("not poisoned")[0].clone();
        let (head, body) = asked.split_once("\r\n\r\n").expect("a head");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!((&body["temperature"], &body["max_tokens"]), (&0.0.into(), &100.into()), "zero is sent");
        if wire == Wire::Anthropic {
            assert!(head.starts_with("POST /v1/messages HTTP/1.1\r\n") && head.contains("x-api-key: key-123"));
            assert!(head.contains("anthropic-version: 2023-06-01"));
            assert_eq!(body["system"], "Be kind.");
            assert_eq!(body["tools"][0]["name"], "files__read");
            assert_eq!(
                body["messages"],
                serde_json::json!([
                    {"role": "user", "content": [{"type": "text", "text": "Read a."}]},
                    {"role": "assistant", "content":
                        [{"type": "tool_use", "id": "call_1", "name": "files__read", "input": {"path": "b"}}]},
                    {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": "call_1", "content": "<<x>>\nhello\n<</x>>"},
                        {"type": "text", "text": "And now a."}]},
                ])
            );
        } else {
            assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
            assert!(head.contains("authorization: Bearer key-123"));
            assert_eq!(body["stream_options"]["include_usage"], true);
            assert_eq!(body["tools"][0]["function"]["name"], "files__read");
            assert_eq!(
                body["messages"],
                serde_json::json!([
                    {"role": "system", "content": "Be kind."},
                    {"role": "user", "content": "Read a."},
                    {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function",
                        "function": {"name": "files__read", "arguments": "{\"path\":\"b\"}"}}]},
                    {"role": "tool", "content": "<<x>>\nhello\n<</x>>", "tool_call_id": "call_1"},
                    {"role": "user", "content": "And now a."},
                ])
            );
        }
    }
}

#[tokio::test]
async fn error_statuses_have_codes_and_their_words_stay_inside() {
    let error = |kind: &str, code: &str| {
        format!("{{\"error\":{{\"type\":\"{kind}\",\"code\":\"{code}\",\"message\":\"SECRET-WORDS\\u001b[31m\"}}}}")
    };
    for (status, body, code, retryable) in [
        (401, error("authentication_error", ""), "provider.key.refused", true),
        (403, String::new(), "provider.key.refused", true),
        (402, String::new(), "provider.quota.exhausted", true),
        (404, error("not_found_error", ""), "provider.model.unknown", true),
        (400, error("invalid_request_error", ""), "provider.request.refused", false),
        (400, error("invalid_request_error", "context_length_exceeded"), "provider.request.large", true),
        (413, String::new(), "provider.request.large", true),
        (429, error("rate_limit_error", ""), "provider.rate.limited", true),
        (429, error("insufficient_quota", "insufficient_quota"), "provider.quota.exhausted", true),
        (500, "<html>SECRET-WORDS</html>".to_owned(), "provider.service.failed", true),
        (503, String::new(), "provider.service.overloaded", true),
        (529, error("overloaded_error", ""), "provider.service.overloaded", true),
        (504, String::new(), "provider.answer.slow", true),
        (302, String::new(), "provider.answer.redirected", true),
    ] {
        for wire in [Wire::Anthropic, OPENAI] {
            let answer = format!(
                "HTTP/1.1 {status} SECRET-WORDS\r\nContent-Type: application/json\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let server = Server::new(vec![answer.into_bytes()], false).await;
            let (outcome, first) = ask(&server.provider(wire, PATIENCE)).await;
            let failed = outcome.expect_err("refused");
            assert_eq!((failed.code.as_str(), failed.retryable, first), (code, retryable, true), "{status}");
            assert!(!failed.message.contains("SECRET-WORDS") && failed.message.contains(&status.to_string()));
            if body.contains("SECRET-WORDS") {
                let detail = failed.detail.expect("for the log").into_inner();
                assert!(detail.contains("SECRET-WORDS") && !detail.contains('\u{1b}'));
            }
        }
    }
}

#[tokio::test]
async fn errors_within_a_stream_are_told_after_what_came_before() {
    let first =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"SECRET\"}}\n\n";
    let server = Server::new(vec![chunked(&[first.as_bytes()], true)], false).await;
    let (outcome, before) = ask(&server.provider(Wire::Anthropic, PATIENCE)).await;
    let failed = outcome.expect_err("reported");
    assert_eq!((failed.code.as_str(), failed.retryable, before), ("provider.service.overloaded", true, true));
    assert!(!failed.message.contains("SECRET"));

    let late =
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"error\":{\"type\":\"server_error\"}}\n\n";
    let server = Server::new(vec![chunked(&[late.as_bytes()], true)], false).await;
    let (messages, provider) = (messages(), server.provider(OPENAI, PATIENCE));
    let ask = Ask { model: "m", messages: &messages, tools: &[], temperature: None, max_tokens: None };
    let mut events = provider.ask(&ask).await.expect("begun");
    assert!(matches!(events.next().await, Some(Ok(event)) if event.inspect() == &ModelEvent::Text("a".to_owned())));
    let failed = events.next().await.and_then(Result::err).expect("a failure");
    assert_eq!((failed.code.as_str(), failed.retryable), ("provider.service.failed", false));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn odd_answers_are_clean_errors() {
    let stream = |data: &str| chunked(&[data.as_bytes()], true);
    for (wire, answer, code) in [
        (
            OPENAI,
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
            "provider.answer.stream.missing",
        ),
        (OPENAI, stream("data: [DONE]\n\n"), "provider.stream.content.missing"),
        (Wire::Anthropic, stream("data: {\"type\":\"message_stop\"}\n\n"), "provider.stream.content.missing"),
        (OPENAI, stream("data: nonsense\n\n"), "provider.stream.malformed"),
        (Wire::Anthropic, stream("data: {\"type\":\"content_block_delta\"}\n\n"), "provider.stream.malformed"),
        (OPENAI, stream("data: \u{0}\n\n"), "provider.stream.malformed"),
        (OPENAI, stream(""), "provider.stream.end.missing"),
        (OPENAI, b"220 smtp.example\r\n".to_vec(), "egress.endpoint.broken"),
        (OPENAI, Vec::new(), "egress.endpoint.broken"),
        (
            OPENAI,
            stream(
                "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\"}},{\"index\":1,\"id\":\"a\",\"function\":{\"name\":\"y\"}}]}}]}\n\ndata: [DONE]\n\n",
            ),
            "provider.stream.malformed",
        ),
    ] {
        let server = Server::new(vec![answer.clone()], false).await;
        let (outcome, first) = ask(&server.provider(wire, PATIENCE)).await;
        let failed = outcome.expect_err("odd");
        assert_eq!(
            (failed.code.as_str(), failed.retryable, first),
            (code, true, true),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
}

#[tokio::test]
async fn silence_ends() {
    let short = Duration::from_millis(80);
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    for (wire, answer, first) in [
        (OPENAI, Vec::new(), true),
        (OPENAI, chunked(&[], false), true),
        (Wire::Anthropic, chunked(&[ping.as_bytes()], false), true),
        (OPENAI, b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\n".to_vec(), true),
        (OPENAI, chunked(&[text.as_bytes()], false), false),
    ] {
        let server = Server::new(vec![answer], true).await;
        let (outcome, before) = ask(&server.provider(wire, short)).await;
        let failed = outcome.expect_err("silent");
        assert_eq!((failed.code.as_str(), failed.retryable, before), ("provider.answer.slow", first, first));
    }
}

#[tokio::test]
async fn a_provider_that_policy_does_not_name_is_not_asked() {
    let server = Server::new(vec![Vec::new()], false).await;
    let mut provider = server.provider(OPENAI, PATIENCE);
    provider.settings.base_url = "https://elsewhere.example".parse().expect("a base URL");
    let failed = ask(&provider).await.0.expect_err("refused");
    assert_eq!((failed.code.as_str(), failed.retryable), ("egress.endpoint.denied", false));
}

#[tokio::test]
async fn a_finished_connection_serves_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let connections = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            *counted.lock().expect("not poisoned") += 1;
            tokio::spawn(async move {
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {
                    if is_whole(&request) {
                        request.clear();
                        let _ = stream.write_all(&chunked(&[OPENAI_STREAM.as_bytes()], true)).await;
                    }
                }
            });
        }
    });
    let provider = Server { at, asked: Arc::default() }.provider(OPENAI, PATIENCE);
    for _ in 0..20 {
        ask(&provider).await.0.expect("an answer");
    }
    let connections = *connections.lock().expect("not poisoned");
    assert!(connections < 20, "{connections} connections for 20 questions");
}

/// Against LiteLLM with the peer model, where there is one: `SIGIL_LITELLM_URL=http://127.0.0.1:4010 cargo test`.
#[tokio::test]
async fn litellm_understands_both_forms() {
    let Ok(url) = std::env::var("SIGIL_LITELLM_URL") else {
        println!("skipped: SIGIL_LITELLM_URL is not set");
        return;
    };
    for wire in [Wire::Anthropic, OPENAI] {
        let base_url: BaseUrl = url.parse().expect("a base URL");
        let Host::Address(ip) = base_url.endpoint().at.host else { panic!("an address") };
        let at = SocketAddr::new(ip, base_url.endpoint().at.port);
        let server = Server { at, asked: Arc::default() };
        let mut provider = server.provider(wire, PATIENCE);
        provider.settings.key = Some(Secret::new("sk-test".to_owned()));
        let (messages, tools) = (messages(), tools());
        let peer =
            |messages, tools| Ask { model: "peer", messages, tools, temperature: Some(0.0), max_tokens: Some(64) };
        let collect = async |ask: Ask<'_>| -> Vec<ModelEvent> {
            let events = provider.ask(&ask).await.expect("begun");
            events.map(|event| event.expect("an event").into_inner()).collect().await
        };
        let events = collect(peer(&messages, &tools)).await;
        assert!(
            events.iter().any(|e| matches!(e, ModelEvent::ToolCall { arguments, .. } if arguments.contains("Paris"))),
            "{events:?}"
        );
        assert_eq!(events.last(), Some(&ModelEvent::Stop(StopReason::ToolCalls)));
        let events = collect(peer(&messages[..2], &[])).await;
        let text: String = events
            .iter()
            .filter_map(|e| match e {
                ModelEvent::Text(t) => Some(t.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(text.trim(), "Hello from the peer.");
        assert_eq!(events.last(), Some(&ModelEvent::Stop(StopReason::End)));
    }
}

#[test]
fn a_status_of_nothing_known_is_other() {
    assert_eq!(Cause::of_status(207), Cause::Other);
}
