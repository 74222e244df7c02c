//! Credentials: their stand-ins inside, the real ones outside, and nothing of these comes back.

use std::io::Write as _;
use std::sync::Arc;

use sigil_egress::ended::VaultUnavailable;

use crate::rig::{Ending, HOST, OneSecret, SECRET, Upstream, ok};

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn the_host_gets_the_real_one_and_the_plugin_never_sees_it() {
    let upstream = Upstream::echo().await;
    let ending = Ending::new(&upstream, "");
    let (bearer, key) =
        (format!("Authorization: Bearer {}", ending.sentinel), format!("X-Api-Key: {}", ending.sentinel));
    let (status, answer) = ending.curl("/v1", &["-H", &bearer, "-H", &key]).await;
    assert_eq!(status, 200, "{answer}");
    let heard = upstream.heard()[0].clone();
    assert!(heard.contains(&format!("authorization: Bearer {SECRET}\r\n")), "{heard}");
    assert!(heard.contains(&format!("x-api-key: {SECRET}\r\n")) && !heard.contains(&ending.sentinel), "{heard}");
    assert!(!answer.contains(SECRET) && answer.contains(&format!("Bearer {}", "*".repeat(SECRET.len()))), "{answer}");
    let (status, answer) = ending.curl("/v1", &["-u", &format!("user:{}", ending.sentinel)]).await;
    let basic = encoded(format!("user:{SECRET}").as_bytes());
    assert!(status == 200 && upstream.heard()[1].contains(&format!("Basic {basic}\r\n")), "{:?}", upstream.heard());
    assert!(!answer.contains(basic.get(8..).expect("long")), "{answer}");
    let used = ending.log.entries("egress.secrets.used", 2).await;
    assert_eq!(used[0].data["secrets"][0], "token");
    assert!(!used[0].data.to_string().contains("ghp_"));
}

#[tokio::test]
async fn a_stand_in_elsewhere_is_refused() {
    let upstream = Upstream::echo().await;
    let ending = Ending::new(&upstream, "");
    let s = ending.sentinel.clone();
    let percent: String = s.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let big = format!("{}{s}", "x".repeat(100_000));
    let file = ending.bundle.with_file_name("big");
    std::fs::write(&file, &big).expect("written");
    let upload = format!("@{}", file.display());
    for (path, arguments) in [
        (format!("/{s}"), vec![]),
        (format!("/?q={s}"), vec![]),
        (format!("/?q={percent}"), vec![]),
        (format!("/{percent}"), vec![]),
        ("/".into(), vec!["-H".to_owned(), format!("X-Other: {s}")]),
        ("/".into(), vec!["-H".into(), format!("Cookie: t={s}")]),
        ("/".into(), vec!["-H".into(), format!("Authorization: Token token=\"{s}\"")]),
        ("/".into(), vec!["-H".into(), format!("Authorization: Bearer {s}x")]),
        ("/".into(), vec!["-d".into(), format!("token={s}")]),
        ("/".into(), vec!["--data-binary".into(), upload.clone()]),
        ("/".into(), vec!["--data-binary".into(), upload, "-H".into(), "Transfer-Encoding: chunked".into()]),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (status, answer) = ending.curl(&path, &[&arguments[..], &["-H", "Expect:"]].concat()).await;
        let code = Ending::code(&answer);
        assert_eq!((status, code.as_str()), (403, "egress.sentinel.place.denied"), "{path} {arguments:?}");
    }
    assert!(!upstream.heard().iter().any(|heard| heard.contains(SECRET)));
}

#[tokio::test]
async fn it_goes_to_its_own_host_only() {
    let upstream = Upstream::echo().await;
    let ending = Ending::new(&upstream, "");
    let bearer = format!("Authorization: Bearer {}", ending.sentinel);
    let url = format!("https://other.example.org:{}/", ending.port);
    let output = ending.run("curl", &["-sS", "-H", &bearer, &url]).await;
    // That host's certificate is for another name, but the refusal comes before it is asked for.
    assert_eq!(Ending::code(&String::from_utf8_lossy(&output.stdout)), "egress.sentinel.host.denied");
    let forged = format!("Authorization: Bearer sigil-secret-{}", "0".repeat(32));
    let (status, answer) = ending.curl("/", &["-H", &forged]).await;
    assert_eq!((status, Ending::code(&answer).as_str()), (403, "egress.sentinel.host.denied"));
    assert!(upstream.heard().is_empty());
}

#[tokio::test]
async fn a_redirect_to_another_origin_does_not_take_it_along() {
    let to = "Location: https://other.example.org:PORT/next\r\n";
    let port = Arc::new(std::sync::OnceLock::<u16>::new());
    let known = Arc::clone(&port);
    let upstream = Upstream::new(
        HOST,
        Arc::new(move |_, _| {
            let to = to.replace("PORT", &known.get().expect("known").to_string());
            vec![format!("HTTP/1.1 302 Found\r\n{to}Content-Length: 0\r\n\r\n").into_bytes()]
        }),
    )
    .await;
    port.set(upstream.at.port()).expect("once");
    let ending = Ending::new(&upstream, "");
    let bearer = format!("Authorization: Bearer {}", ending.sentinel);
    // curl, told to trust every host, sends the field along.
    let (_, answer) = ending.curl("/", &["-L", "--location-trusted", "-H", &bearer]).await;
    assert_eq!(Ending::code(&answer), "egress.sentinel.host.denied");
    assert_eq!(upstream.heard().len(), 1);
}

#[tokio::test]
async fn what_comes_back_is_clean_however_it_is_cut() {
    let forms = [
        SECRET.to_owned(),
        encoded(SECRET.as_bytes()),
        SECRET.bytes().map(|byte| format!("{byte:02x}")).collect(),
        SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect(),
    ];
    let text = format!("a={};b={};c={};d={};end", forms[0], forms[1], forms[2], forms[3]);
    for step in [1, 7, 64, 4096] {
        let mut pieces = vec![
            format!("HTTP/1.1 200 OK\r\nX-Token: {SECRET}\r\nSet-Cookie: t={}\r\nX-{}: 1\r\nTransfer-Encoding: chunked\r\n\r\n", forms[1], forms[2])
                .into_bytes(),
        ];
        pieces.extend(
            text.as_bytes().chunks(step).map(|cut| [format!("{:x}\r\n", cut.len()).as_bytes(), cut, b"\r\n"].concat()),
        );
        pieces.push(b"0\r\n\r\n".to_vec());
        let upstream = Upstream::new(HOST, Arc::new(move |_, _| pieces.clone())).await;
        let ending = Ending::new(&upstream, "");
        // No credential in this request: what another one has sent may come back now.
        let (status, answer) = ending.curl("/", &["-i"]).await;
        assert!(status == 200 && answer.contains("a=***") && answer.ends_with(";end"), "{answer}");
        for form in &forms {
            assert!(!answer.contains(form.get(..form.len() - 2).expect("long")), "{form} in {answer}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_encoded_is_refused() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(SECRET.as_bytes()).expect("written");
    let body = gzip.finish().expect("compressed");
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend(body);
    let upstream = Upstream::new(HOST, Arc::new(move |_, _| vec![answer.clone()])).await;
    let ending = Ending::new(&upstream, "");
    let (status, answer) = ending.curl("/", &[]).await;
    assert_eq!((status, Ending::code(&answer).as_str()), (502, "egress.ended.answer.encoded"));
}

#[tokio::test]
async fn without_the_vault_nothing_passes() {
    let upstream = Upstream::echo().await;
    let with = |value| {
        let source = OneSecret { host: HOST.parse().expect("a pattern"), value };
        Ending::with(&upstream, "", vec![upstream.root.clone()], source)
    };
    let locked = with(Err(VaultUnavailable));
    let (status, answer) = locked.curl("/", &[]).await;
    assert_eq!((status, Ending::code(&answer).as_str()), (503, "egress.sentinel.vault.failed"));
    for absent in [Ok(None), Ok(Some("short"))] {
        let absent = with(absent);
        let bearer = format!("Authorization: Bearer {}", absent.sentinel);
        let (status, answer) = absent.curl("/", &["-H", &bearer]).await;
        assert_eq!((status, Ending::code(&answer).as_str()), (403, "egress.sentinel.secret.absent"));
    }
    assert!(upstream.heard().is_empty());
    let without = with(Ok(None));
    assert_eq!(without.curl("/", &[]).await.0, 200, "what needs no secret needs no vault entry");
}

#[tokio::test]
async fn only_the_vaults_credential_passes_where_policy_says_so() {
    let upstream = Upstream::new(HOST, Arc::new(|_, _| vec![ok(b"fine")])).await;
    let ending = Ending::new(&upstream, r#","credentials":"vault""#);
    let bearer = format!("Authorization: Bearer {}", ending.sentinel);
    for (arguments, code) in [
        (&[][..], "egress.ended.credential.missing"),
        (&["-H", "Authorization: Bearer own"], "egress.ended.credential.denied"),
        (&["-H", bearer.as_str(), "-H", "X-Api-Key: own"], "egress.ended.credential.denied"),
        (&["-H", bearer.as_str(), "-H", "Cookie: own"], "egress.ended.credential.denied"),
    ] {
        let (status, answer) = ending.curl("/", arguments).await;
        assert_eq!((status, Ending::code(&answer).as_str()), (403, code), "{arguments:?}");
    }
    assert_eq!(ending.curl("/", &["-H", &bearer, "-H", "X-Own: 1"]).await.0, 200);
    assert!(!upstream.heard()[0].to_lowercase().contains("x-own"));
}
