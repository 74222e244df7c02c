//! What gets through, and as what.

use crate::rig::{Ending, HOST, Upstream};

const READS: &str =
    r#","requests":[[{"methods":["GET","HEAD"],"paths":["/v1/*"]}]],"strip":["x-drop"],"set":{"x-client":"sigil"}"#;

#[tokio::test]
async fn curl_reads_and_its_request_is_written_anew() {
    let upstream = Upstream::echo().await;
    let ending = Ending::new(&upstream, READS);
    let (status, body) = ending
        .curl(
            "/v1/items?page=2",
            &["-H", "X-Drop: 1", "-H", "X-Keep: 2", "-H", "Range: bytes=0-1", "--compressed", "-A", "c"],
        )
        .await;
    assert_eq!(status, 200, "{body}");
    let heard = upstream.heard();
    let lines: Vec<&str> = heard[0].lines().collect();
    assert_eq!(lines[0], "GET /v1/items?page=2 HTTP/1.1");
    let mut fields: Vec<String> = lines[1..].iter().filter(|line| !line.is_empty()).map(|l| l.to_lowercase()).collect();
    fields.sort();
    assert_eq!(
        fields,
        ["accept: */*", &format!("host: {HOST}:{}", ending.port), "user-agent: c", "x-client: sigil", "x-keep: 2"]
    );
    let (status, _) = ending.curl("/v1/x", &["--head"]).await;
    assert_eq!(status, 200);
    let close = &ending.log.entries("egress.connection.close", 2).await[0];
    assert_eq!(close.data["ending"], "done", "{:?}", close.data);
    let request = u64::try_from(heard[0].len()).ok();
    assert!(close.data["up"].as_u64() > request && close.data["down"].as_u64() > request, "TLS is counted, too");
}

#[tokio::test]
async fn python_keeps_its_connection_and_sends_a_body_in_chunks() {
    let upstream = Upstream::echo().await;
    let ending = Ending::new(&upstream, "");
    let script = format!(
        "import http.client, ssl, sys\n\
         x = ssl.create_default_context(); x.set_alpn_protocols(['h2', 'http/1.1'])\n\
         c = http.client.HTTPSConnection('127.0.0.1', {proxy}, context=x)\n\
         c.set_tunnel('{HOST}', {port})\n\
         for n in range(3):\n    c.request('GET', f'/{{n}}')\n    r = c.getresponse(); assert r.status == 200, r.status; r.read()\n\
         c.request('POST', '/up', body=iter([b'one', b'two']), encode_chunked=True, headers={{'Transfer-Encoding': 'chunked'}})\n\
         r = c.getresponse(); print(r.status, c.sock.version(), c.sock.selected_alpn_protocol()); r.read()\n",
        proxy = ending.at.port(),
        port = ending.port,
    );
    let output = ending.run("python3", &["-c", &script]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "200 TLSv1.3 http/1.1");
    let heard = upstream.heard();
    assert_eq!(heard.len(), 4);
    assert!(heard[3].contains("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{}", heard[3]);
    assert_eq!(ending.log.entries("egress.connection.open", 1).await.len(), 1, "one connection");
}

#[tokio::test]
async fn a_host_without_consent_keeps_its_own_tls() {
    let upstream = Upstream::new("opaque.example.net", std::sync::Arc::new(|_, _| vec![crate::rig::ok(b"own")])).await;
    let ending = Ending::new(&upstream, "");
    let roots = ending.bundle.with_file_name("own.pem");
    std::fs::write(&roots, crate::rig::pem(&upstream.root)).expect("written");
    let url = format!("https://opaque.example.net:{}/", ending.port);
    let own = ending.run("curl", &["-sS", "--cacert", roots.to_str().expect("text"), &url]).await;
    assert_eq!(own.stdout, b"own", "{}", String::from_utf8_lossy(&own.stderr));
    let other = ending.run("curl", &["-sS", &url]).await;
    assert!(!other.status.success(), "the instance's authority is not what that host has");
}

#[tokio::test]
async fn a_long_answer_comes_as_it_is_sent() {
    let pieces: Vec<Vec<u8>> = std::iter::once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec())
        .chain((0..200).map(|n| format!("{:x}\r\n{n:0>1000}\r\n", 1000).into_bytes()))
        .chain([b"0\r\nX-Trailer: 1\r\n\r\n".to_vec()])
        .collect();
    let upstream = Upstream::new(HOST, std::sync::Arc::new(move |_, _| pieces.clone())).await;
    let ending = Ending::new(&upstream, "");
    let (status, body) = ending.curl("/", &[]).await;
    assert_eq!((status, body.len()), (200, 200_000));
    assert!(body.ends_with("0199"));
}
