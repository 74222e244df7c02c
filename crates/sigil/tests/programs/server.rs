//! A web server of the tests' own, on loopback: fixed pages, an echo, and git repositories over the smart protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What `/hello` answers.
pub const HELLO: &str = "hello from the server\n";

/// Serves until the test's process ends; `repository` is there as `/repository`.
pub fn serve(repository: Option<&Path>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, repository) = (listener.local_addr().expect("an address"), repository.map(Path::to_owned));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let repository = repository.clone();
            std::thread::spawn(move || answer(stream, repository));
        }
    });
    address
}

/// Answers requests on one connection, one after the other. A client that goes away in between ends it.
fn answer(mut stream: TcpStream, repository: Option<PathBuf>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut first = String::new();
        reader.read_line(&mut first).ok()?;
        let target = first.split(' ').nth(1)?.to_owned();
        let (mut length, mut chunked, mut packed) = (0, false, false);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            chunked |= line == "transfer-encoding: chunked";
            packed |= line == "content-encoding: gzip";
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        assert!(!chunked && !packed, "a short request of the tests comes whole");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (kind, answer) = page(&target, &body, repository.as_deref());
        let head = if answer.is_some() { "200 OK" } else { "404 Not Found" };
        let answer = answer.unwrap_or_default();
        write!(stream, "HTTP/1.1 {head}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", answer.len()).ok()?;
        stream.write_all(&answer).ok()?;
    }
}

fn page(target: &str, body: &[u8], repository: Option<&Path>) -> (String, Option<Vec<u8>>) {
    let plain = |bytes: &[u8]| ("text/plain".to_owned(), Some(bytes.to_vec()));
    match (target, repository) {
        ("/hello", _) => plain(HELLO.as_bytes()),
        ("/echo", _) => plain(body),
        ("/page", _) => (
            "text/html".to_owned(),
            Some(
                b"<h1 id=t></h1><script>document.getElementById('t').textContent = 'made of ' + 6 * 7</script>"
                    .to_vec(),
            ),
        ),
        ("/repository/info/refs?service=git-upload-pack", Some(repository)) => {
            let mut refs = b"001e# service=git-upload-pack\n0000".to_vec();
            refs.extend(upload_pack(repository, &["--advertise-refs"], &[]));
            ("application/x-git-upload-pack-advertisement".to_owned(), Some(refs))
        }
        ("/repository/git-upload-pack", Some(repository)) => {
            ("application/x-git-upload-pack-result".to_owned(), Some(upload_pack(repository, &[], body)))
        }
        _ => ("text/plain".to_owned(), None),
    }
}

fn upload_pack(repository: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("git")
        .args(["upload-pack", "--stateless-rpc"])
        .args(arguments)
        .arg(repository)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git");
    child.stdin.take().expect("its input").write_all(input).expect("sent");
    child.wait_with_output().expect("its end").stdout
}
