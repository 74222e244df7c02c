//! The contract of the API: every route is described and guarded, and every bad request is refused in its own words.

#![allow(clippy::expect_used, clippy::indexing_slicing, missing_docs, unreachable_pub, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "a hostile client writes its own bytes to the server under test")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sigil_server::{Limits, Scope};
use sigil_types::TurnEvent;
use support::{Reply, Running, START};

const PUBLIC: &[&str] = &["/health", "/ready", "/openapi.json"];

fn running() -> Running {
    Running::start(Limits::default())
}

/// Every described method and path, with something in place of parameters, and the scope that the description names.
fn described() -> Vec<(String, String, Option<String>)> {
    let api = serde_json::to_value(sigil_server::openapi()).expect("JSON");
    let paths = api["paths"].as_object().expect("paths");
    let mut found = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            let scope = operation["security"][0]["bearer"][0].as_str().map(str::to_owned);
            let path = path.replace("{id}", "x").replace("{name}", "x");
            found.push((method.to_uppercase(), path, scope));
        }
    }
    found
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn the_description_is_openapi_3_1_and_has_every_route() {
    let server = running();
    let served = server.ask("GET", "/openapi.json", &[], "").json();
    assert!(served["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", served["openapi"]);
    let mut paths: Vec<&String> = served["paths"].as_object().expect("paths").keys().collect();
    paths.sort();
    let expected = [
        "/api/v1/approvals",
        "/api/v1/approvals/{id}:decide",
        "/api/v1/audit/checkpoint",
        "/api/v1/audit/events",
        "/api/v1/plugins",
        "/api/v1/plugins/{name}",
        "/api/v1/plugins/{name}/denials",
        "/api/v1/policy",
        "/api/v1/sandbox",
        "/api/v1/scan",
        "/api/v1/sessions",
        "/api/v1/sessions/{id}",
        "/api/v1/sessions/{id}/messages",
        "/api/v1/sessions/{id}/turns",
        "/api/v1/status",
        "/api/v1/turns/{id}",
        "/api/v1/turns/{id}/events",
        "/health",
        "/metrics",
        "/openapi.json",
        "/ready",
    ];
    assert_eq!(paths, expected);
    let text = served.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(served["components"]["schemas"].get(name).is_some(), "{name} is referred to and not described");
    }
}

#[test]
fn every_route_denies_without_a_token_and_without_its_scope() {
    let server = running();
    for (method, path, scope) in described() {
        let public = PUBLIC.contains(&path.as_str());
        assert_eq!(scope.is_none(), public, "{path}");
        let Some(scope) = scope else {
            assert!(server.ask(&method, &path, &[], "").status < 300, "{path}");
            continue;
        };
        // A Unix peer is not asked for a token, and failed attempts are limited per address; so a token of no scope at all,
        // and none over TCP, are tried with a fresh server's allowance.
        let others: Vec<Scope> = Scope::ALL.into_iter().filter(|known| known.as_str() != scope).collect();
        let token = server.token("anna", &others);
        let wrong = server.ask(&method, &path, &[("Authorization", &bearer(&token))], "{}");
        assert_eq!((wrong.status, wrong.code().as_str()), (403, "server.auth.scope.missing"), "{method} {path}");
        let fresh = running();
        let none = fresh.ask(&method, &path, &[], "{}");
        assert_eq!((none.status, none.code().as_str()), (401, "server.auth.token.missing"), "{method} {path}");
        assert!(none.head.contains("www-authenticate: bearer"), "{}", none.head);
        let owner_only = scope.parse::<Scope>().expect("a scope").is_owner_only();
        let member = server.token("ben", &Scope::ALL);
        let reply = server.ask(&method, &path, &[("Authorization", &bearer(&member))], "{}");
        assert_eq!(reply.status == 403, owner_only, "{method} {path}: {reply:?}");
    }
}

#[test]
fn other_methods_and_routes_are_refused_as_problems() {
    let server = running();
    let absent = server.ask("GET", "/api/v1/nothing", &[], "");
    assert_eq!((absent.status, absent.code().as_str()), (404, "server.route.find.absent"));
    let method = server.ask("DELETE", "/health", &[], "");
    assert_eq!((method.status, method.code().as_str()), (405, "server.route.method.unknown"));
    assert!(absent.head.contains("application/problem+json") && absent.head.contains("cache-control: no-store"));
}

#[test]
fn the_local_socket_is_its_owner() {
    let server = running();
    for (path, status) in
        [("/api/v1/status", 200), ("/api/v1/sessions", 200), ("/api/v1/plugins/x", 404), ("/metrics", 200)]
    {
        assert_eq!(server.ask_locally("GET", path, &[], "").status, status, "{path}");
    }
    let bad = server.ask_locally("GET", "/api/v1/status", &[("Authorization", "Bearer x")], "");
    assert_eq!(bad.status, 401, "a token that is sent is checked, wherever it comes from");
}

#[test]
fn tokens_that_do_not_count() {
    let server = running();
    let token = server.token("anna", &[Scope::StatusRead]);
    let ask = |header: &str| server.ask("GET", "/api/v1/status", &[("Authorization", header)], "");
    assert_eq!(ask(&bearer(&token)).status, 200);
    assert_eq!(ask(&token).code(), "server.auth.token.invalid");
    let mut changed = token.clone();
    let last = changed.pop().expect("not empty");
    changed.push(if last == '0' { '1' } else { '0' });
    assert_eq!(ask(&bearer(&changed)).code(), "server.auth.token.invalid");
    let twice = [("Authorization", bearer(&token)), ("Authorization", bearer(&token))];
    let twice: Vec<(&str, &str)> = twice.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(server.ask("GET", "/api/v1/status", &twice, "").code(), "server.auth.token.invalid");
    server.set_clock(START + 3_600_001);
    assert_eq!(ask(&bearer(&token)).code(), "server.auth.token.expired");
    let refusals = server.memory.refusals.lock().expect("lock");
    assert_eq!(refusals.len(), 4, "each is in the audit log: {refusals:?}");
    assert!(refusals.iter().all(|(source, _)| source == "tcp:127.0.0.1"));
}

#[test]
fn a_revoked_token_and_a_disabled_person_are_refused() {
    use sigil_store::{GatewayStore, UserRecord};
    let server = running();
    let (one, two) = (server.token("anna", &[Scope::StatusRead]), server.token("ben", &[Scope::StatusRead]));
    let id = one.parse::<sigil_server::Token>().expect("a token").id;
    server.wait(server.store.revoke_token(id, sigil_types::Timestamp::from_millis(START))).expect("revoked");
    let ask = |token: &str| server.ask("GET", "/api/v1/status", &[("Authorization", &bearer(token))], "").code();
    assert_eq!(ask(&one), "server.auth.token.revoked");
    let ben = server.wait(server.store.user("ben".parse().expect("a name"))).expect("read").expect("ben");
    let disabled = Some(sigil_types::Timestamp::from_millis(START));
    server.wait(server.store.put_user(UserRecord { disabled, ..ben })).expect("kept");
    assert_eq!(ask(&two), "server.auth.token.invalid");
}

#[test]
fn guessing_is_slowed_down() {
    let server = running();
    let codes: Vec<String> =
        (0..12).map(|_| server.ask("GET", "/api/v1/status", &[("Authorization", "Bearer x")], "").code()).collect();
    assert_eq!(codes[0], "server.auth.token.invalid");
    assert_eq!(codes[11], "server.auth.attempts.exhausted");
    let token = server.token("anna", &[Scope::StatusRead]);
    let reply = server.ask("GET", "/api/v1/status", &[("Authorization", &bearer(&token))], "");
    assert_eq!(reply.status, 429);
    assert!(reply.head.contains("retry-after: "), "{}", reply.head);
    assert_eq!(server.ask_locally("GET", "/api/v1/status", &[], "").status, 200, "the owner's socket is not affected");
}

#[test]
fn a_rebound_host_name_is_misdirected() {
    let server = running();
    let port = server.address.port();
    let ask = |host: &str| server.ask("GET", "/health", &[("Host", host)], "").status;
    for good in [&format!("127.0.0.1:{port}"), "localhost", "LOCALHOST:1", "[::1]:80", "127.9.9.9", "sigil.home"] {
        assert_eq!(ask(good), 204, "{good}");
    }
    for bad in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost.",
        "0.0.0.0",
        "192.0.2.1",
        "x@127.0.0.1",
        "127.0.0.1:0x50",
        "2130706433",
        "",
    ] {
        assert_eq!(ask(bad), 421, "{bad}");
    }
    let two = server.ask("GET", "/health", &[("Host", "localhost"), ("Host", "evil.example")], "");
    assert_eq!(two.code(), "server.request.host.missing");
    let none = server.raw(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert_eq!(none.status, 400);
    let absolute =
        server.raw(b"GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(absolute.status, 421);
}

#[test]
fn pages_of_other_sites_are_refused() {
    let server = running();
    let token = bearer(&server.token("anna", &[Scope::StatusRead]));
    let own = format!("http://{}", server.address);
    let ask = |headers: &[(&str, &str)]| {
        let mut all = vec![("Authorization", token.as_str())];
        all.extend_from_slice(headers);
        server.ask("GET", "/api/v1/status", &all, "")
    };
    assert_eq!(ask(&[("Origin", &own)]).status, 200);
    assert_eq!(ask(&[("Sec-Fetch-Site", "same-origin"), ("Origin", &own)]).status, 200);
    assert_eq!(ask(&[("Sec-Fetch-Site", "none")]).status, 200);
    for foreign in [
        &[("Origin", "https://evil.example")][..],
        &[("Origin", "null")],
        &[("Origin", "http://localhost:1")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", "https://evil.example")],
        &[("Origin", own.as_str()), ("Origin", "https://evil.example")],
    ] {
        let reply = ask(foreign);
        assert_eq!((reply.status, reply.code().as_str()), (403, "server.request.origin.foreign"), "{foreign:?}");
        assert!(!reply.head.contains("access-control-allow"), "no CORS");
    }
}

fn turn(server: &Running, headers: &[(&str, &str)], body: &str) -> Reply {
    let path = format!("/api/v1/sessions/{}/turns", server.memory.session);
    server.ask_locally("POST", &path, headers, body)
}

#[test]
fn bodies_are_read_strictly() {
    let server = running();
    let key = [("Idempotency-Key", "one")];
    let status = |body: &str| turn(&server, &key, body).status;
    assert_eq!(status(r#"{"text":"hello"}"#), 202);
    assert_eq!(status(r#"{"text":"hello","text":"bye"}"#), 400);
    assert_eq!(status(r#"{"text":"hello","colour":"red"}"#), 422);
    assert_eq!(status(r#"{"text":""}"#), 422);
    assert_eq!(status(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))), 400);
    assert_eq!(status(r#"{"text":"hello"} x"#), 400);
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(300 * 1024));
    assert_eq!(status(&long), 422);
    let longer = format!(r#"{{"text":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    assert_eq!(status(&longer), 413);
    let path = format!("/api/v1/sessions/{}/turns", server.memory.session);
    let plain = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: text/plain\r\nIdempotency-Key: a\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    let token = server.token("anna", &Scope::ALL);
    let plain = plain.replace("Host:", &format!("Authorization: {}\r\nHost:", bearer(&token)));
    assert_eq!(server.raw(plain.as_bytes()).status, 415);
}

#[test]
fn a_repeated_message_finds_its_turn() {
    let server = running();
    let missing = turn(&server, &[], r#"{"text":"hello"}"#);
    assert_eq!((missing.status, missing.code().as_str()), (400, "server.idempotency.key.missing"));
    let first = turn(&server, &[("Idempotency-Key", "k")], r#"{"text":"hello"}"#);
    let again = turn(&server, &[("Idempotency-Key", "k")], r#"{"text":"hello"}"#);
    assert_eq!((first.status, again.status), (202, 202));
    assert!(
        first.head.contains(&format!("location: /api/v1/turns/{}/events", server.memory.turn).to_ascii_lowercase())
    );
    assert!(!first.head.contains("idempotent-replayed") && again.head.contains("idempotent-replayed: true"));
    let other = turn(&server, &[("Idempotency-Key", "k")], r#"{"text":"bye"}"#);
    assert_eq!((other.status, other.code().as_str()), (422, "server.idempotency.key.reused"));
}

#[test]
fn cursors_and_queries_are_checked() {
    let server = running();
    let first = server.ask_locally("GET", "/api/v1/sessions", &[], "").json();
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let second = server.ask_locally("GET", &format!("/api/v1/sessions?cursor={cursor}"), &[], "").json();
    assert!(second["next_cursor"].is_null() && second["items"].is_array());
    let forged = server.ask_locally("GET", "/api/v1/sessions?cursor=second", &[], "");
    assert_eq!(forged.code(), "server.request.cursor.invalid");
    for bad in ["limit=0", "limit=501", "limit=x", "colour=red"] {
        assert_eq!(server.ask_locally("GET", &format!("/api/v1/sessions?{bad}"), &[], "").status, 400, "{bad}");
    }
    assert_eq!(server.ask_locally("GET", "/api/v1/approvals", &[], "").body, r#"{"items":[],"next_cursor":null}"#);
}

/// The `id:` and `event:` lines of a stream.
fn seen(stream: &str) -> Vec<(u64, String)> {
    stream
        .split("\n\n")
        .filter_map(|block| {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            Some((field("id: ")?.parse().ok()?, field("event: ")?.to_owned()))
        })
        .collect()
}

#[test]
fn a_stream_resumes_without_loss_or_repetition() {
    let server = running();
    let text = |delta: &str| TurnEvent::Text { delta: delta.to_owned() };
    for n in 0..5 {
        server.memory.tell(text(&format!("{n}\nline")));
    }
    let path = format!("/api/v1/turns/{}/events", server.memory.turn);

    // The first connection is broken off by the client somewhere in the middle.
    let mut stream = TcpStream::connect(server.address).expect("connected");
    let token = server.token("anna", &[Scope::TurnsRead]);
    let request = server.request("GET", &path, &[("Authorization", &bearer(&token))], "");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream);
    let mut got = String::new();
    while !got.contains("id: 3\n") {
        assert!(reader.read_line(&mut got).expect("read") > 0, "{got}");
    }
    assert!(got.contains("retry: 2000"), "{got}");
    drop(reader);

    for n in 5..8 {
        server.memory.tell(text(&n.to_string()));
    }
    server.memory.finish();
    let rest = server.ask_locally("GET", &path, &[("Last-Event-ID", "3")], "");
    let expected: Vec<(u64, String)> =
        (4..=9).map(|n| (n, if n == 9 { "finished" } else { "text" }.to_owned())).collect();
    assert_eq!(seen(&rest.body), expected);
    let since = server.ask_locally("GET", &format!("{path}?since=8"), &[], "");
    assert_eq!(seen(&since.body), [(9, "finished".to_owned())]);
    let whole = server.ask_locally("GET", &path, &[], "");
    assert_eq!(seen(&whole.body).len(), 9);
    for block in whole.body.split("\n\n").filter_map(|block| block.split_once("data: ")) {
        let envelope: sigil_server::api::Envelope = serde_json::from_str(block.1).expect("one line of JSON");
        assert!(envelope.event().is_some(), "{envelope:?}");
    }
    assert_eq!(server.ask_locally("GET", &path, &[("Last-Event-ID", "x")], "").status, 400);
}

#[test]
fn streams_are_counted_and_given_back() {
    let server = Running::start(Limits { streams_per_principal: 1, ..Limits::default() });
    let path = format!("/api/v1/turns/{}/events", server.memory.turn);
    let mut first = std::os::unix::net::UnixStream::connect(&server.socket).expect("connected");
    first.write_all(server.request("GET", &path, &[], "").as_bytes()).expect("sent");
    let mut some = [0; 64];
    assert!(first.read(&mut some).expect("the stream began") > 0);
    let second = server.ask_locally("GET", &path, &[], "");
    assert_eq!((second.status, second.code().as_str()), (429, "server.stream.count.exhausted"));
    server.memory.finish();
    drop(first.read_to_end(&mut Vec::new()));
    assert_eq!(server.ask_locally("GET", &path, &[], "").status, 200);
}

#[test]
fn a_stream_says_that_it_is_alive_and_ends_with_its_credential() {
    let server = Running::start(Limits { keep_alive: Duration::from_millis(20), ..Limits::default() });
    let token = server.token("anna", &[Scope::TurnsRead]);
    let path = format!("/api/v1/turns/{}/events", server.memory.turn);
    let mut stream = TcpStream::connect(server.address).expect("connected");
    stream.write_all(server.request("GET", &path, &[("Authorization", &bearer(&token))], "").as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream);
    let mut got = String::new();
    while !got.contains(": ka") {
        assert!(reader.read_line(&mut got).expect("read") > 0, "{got}");
    }
    use sigil_store::GatewayStore;
    let id = token.parse::<sigil_server::Token>().expect("a token").id;
    server.wait(server.store.revoke_token(id, sigil_types::Timestamp::from_millis(START))).expect("revoked");
    reader.read_to_string(&mut got).expect("the server ends the stream");
    assert!(!got.contains("finished"));

    // One that ends within the next minute says so at once.
    let token = server.token("anna", &[Scope::TurnsRead]);
    server.set_clock(START + 3_600_000 - 300);
    let reply = server.ask("GET", &path, &[("Authorization", &bearer(&token))], "");
    assert!(reply.body.contains("event: auth.expiring"), "{reply:?}");
}

#[test]
fn slow_clients_are_let_go() {
    let limits = Limits {
        header_timeout: Duration::from_millis(100),
        body_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = Running::start(limits);
    let mut stream = TcpStream::connect(server.address).expect("connected");
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: local").expect("sent");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the server closes");
    let token = server.token("anna", &Scope::ALL);
    let head = format!(
        "POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{",
        bearer(&token)
    );
    let mut stream = TcpStream::connect(server.address).expect("connected");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("the server answers and closes");
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
}

#[test]
fn connections_are_capped() {
    let server = Running::start(Limits { connections: 1, ..Limits::default() });
    let mut first = TcpStream::connect(server.address).expect("connected");
    first.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut some = [0; 16];
    assert!(first.read(&mut some).expect("answered") > 0);
    assert_eq!(server.ask("GET", "/health", &[], "").status, 0, "closed without an answer");
}

#[test]
fn stopping_ends_streams_and_lets_answers_finish() {
    let mut server = running();
    let path = format!("/api/v1/turns/{}/events", server.memory.turn);
    let mut stream = std::os::unix::net::UnixStream::connect(&server.socket).expect("connected");
    stream.write_all(server.request("GET", &path, &[], "").as_bytes()).expect("sent");
    let mut some = [0; 64];
    assert!(stream.read(&mut some).expect("began") > 0);
    server.stop();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("ended in good form");
    assert!(rest.ends_with("0\r\n\r\n"), "the last chunk was sent: {rest:?}");
    assert!(!server.socket.exists(), "the socket is gone");
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn problems_have_the_whole_form() {
    let server = running();
    let problem = server.ask("GET", "/api/v1/status", &[], "").json();
    for key in [
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "code",
        "why",
        "fix",
        "request_id",
        "audit_ref",
        "retryable",
        "errors",
    ] {
        assert!(problem.get(key).is_some(), "{key}");
    }
    assert!(problem["audit_ref"].as_str().is_some_and(|id| id.starts_with("ev_")));
    assert!(problem["request_id"].as_str().is_some_and(|id| id.starts_with("rq_")));
    assert_eq!(problem["errors"], serde_json::json!([]));
}
