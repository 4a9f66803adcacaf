//! Downloads from a server that answers as each test wants.

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

/// A web server on this machine. It answers each connection once, with raw bytes.
pub(crate) struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` is given the head of a request, in lower case, and its number.
    pub fn new(answer: impl Fn(&str, usize) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for (number, connection) in listener.incoming().enumerate() {
                let mut connection = connection.unwrap();
                let head = head(&mut connection).to_lowercase();
                seen.lock().unwrap().push(head.clone());
                // Whoever has heard enough closes the connection.
                let _ = connection.write_all(&answer(&head, number));
            }
        });
        Self { url, requests }
    }

    /// The heads of all requests until now.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn head(connection: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// An answer that ends the connection.
pub(crate) fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    headers.iter().for_each(|header| out += &format!("{header}\r\n"));
    [out.as_bytes(), b"\r\n", body].concat()
}

fn fetch(url: &str, tag: Option<&str>) -> Result<(Option<Fetched>, Vec<u8>), String> {
    let mut file = tempfile::tempfile().unwrap();
    let fetched = Request::new(url)?.fetch(tag, &mut file, &Cancel::new())?;
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    match fetched {
        Answer::Same => Ok((None, bytes)),
        Answer::File(fetched) => Ok((Some(fetched), bytes)),
    }
}

#[test]
fn a_file_comes_with_its_tag_its_time_and_its_name() {
    let server = Server::new(|head, _| match head.contains("if-none-match: \"v1\"") {
        true => answer("304 Not Modified", &[], b""),
        false => answer(
            "200 OK",
            &[
                "Content-Length: 5",
                "ETag: \"v1\"",
                "Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT",
                "Content-Disposition: attachment; filename=\"../../etc/a b.txt\"",
            ],
            b"hello",
        ),
    });
    let (fetched, bytes) = fetch(&server.url, None).unwrap();
    assert_eq!(bytes, b"hello");
    let wanted = Fetched {
        digest: Digest::of(b"hello"),
        tag: Some("\"v1\"".into()),
        modified: Some(1_000_000_000),
        name: Some("a b.txt".into()),
    };
    assert_eq!(fetched, Some(wanted));
    assert_eq!(fetch(&server.url, Some("\"v1\"")).unwrap(), (None, Vec::new()));
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let server = Server::new(|head, number| match number {
        0 => answer("200 OK", &["Content-Length: 10", "ETag: \"a\""], b"01234"),
        1 => answer("503 Service Unavailable", &[], b""),
        _ => {
            assert!(head.contains("range: bytes=5-\r\n") && head.contains("if-range: \"a\""));
            let headers = ["Content-Length: 5", "Content-Range: bytes 5-9/10"];
            answer("206 Partial Content", &headers, b"56789")
        }
    });
    let (fetched, bytes) = fetch(&server.url, None).unwrap();
    assert_eq!(bytes, b"0123456789");
    assert_eq!(fetched.unwrap().digest, Digest::of(b"0123456789"));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_file_that_has_changed_meanwhile_is_fetched_from_its_beginning() {
    let server = Server::new(|_, number| match number {
        0 => answer("200 OK", &["Content-Length: 10", "ETag: \"a\""], b"01234"),
        _ => answer("200 OK", &["Content-Length: 3", "ETag: \"b\""], b"new"),
    });
    let (fetched, bytes) = fetch(&server.url, None).unwrap();
    assert_eq!(bytes, b"new");
    assert_eq!(fetched.unwrap().tag.as_deref(), Some("\"b\""));
    // Without a strong tag nobody knows whether it has.
    let server = Server::new(|head, number| {
        assert!(!head.contains("range:"));
        match number {
            0 => answer("200 OK", &["Content-Length: 4", "ETag: W/\"a\""], b"01"),
            _ => answer("200 OK", &["Content-Length: 4", "ETag: W/\"a\""], b"0123"),
        }
    });
    assert_eq!(fetch(&server.url, None).unwrap().1, b"0123");
}

#[test]
fn what_cannot_be_had_says_why_and_ends() {
    let server = Server::new(|_, _| answer("404 Not Found", &[], b""));
    assert_eq!(fetch(&server.url, None).unwrap_err(), "the server answers 404 Not Found");
    assert_eq!(server.requests().len(), 1);
    let server = Server::new(|_, _| answer("200 OK", &["Content-Length: 10"], b""));
    let error = fetch(&server.url, None).unwrap_err();
    assert!(error.contains("the connection broke") || error.contains("0 bytes of 10"), "{error}");
    assert_eq!(server.requests().len(), MAX_ATTEMPTS as usize);
    let huge = format!("Content-Length: {}", u64::MAX / 2);
    let server = Server::new(move |_, _| answer("200 OK", &[&huge], b"x"));
    assert_eq!(fetch(&server.url, None).unwrap_err(), "it is larger than 64 GiB");
    let server = Server::new(|_, _| answer("302 Found", &["Location: /again"], b""));
    let error = fetch(&server.url, None).unwrap_err();
    assert!(error.contains("the server leads in a circle"), "{error}");
    assert!(fetch("file:///etc/passwd", None).is_err());
}

#[test]
fn who_asks_is_told_to_the_host_that_was_named_only() {
    let other = Server::new(|_, _| answer("200 OK", &["Content-Length: 1"], b"x"));
    // Another name of this machine is another host.
    let elsewhere = format!("Location: {}/", other.url.replace("127.0.0.1", "localhost"));
    let server = Server::new(move |_, _| answer("302 Found", &[&elsewhere], b""));
    let mut request = Request::new(&server.url).unwrap();
    request.header("authorization", b"Bearer secret\n", true).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    request.fetch(None, &mut file, &Cancel::new()).unwrap();
    assert!(server.requests()[0].contains("authorization: bearer secret\r\n"));
    assert!(!other.requests()[0].contains("secret"));
}

#[test]
fn names_are_plain_and_passwords_are_not_shown() {
    let request = Request::new("https://user:secret@example.com/a/b%20c.tar?x=/y").unwrap();
    assert_eq!(request.name().as_deref(), Some("b c.tar"));
    assert!(!request.shown().contains("secret"));
    assert_eq!(Request::new("https://example.com/").unwrap().name(), None);
    assert_eq!(Request::new("https://example.com/%2e%2e").unwrap().name(), None);
    assert_eq!(disposition("attachment; filename*=UTF-8''%e2%82%ac.txt"), Some("€.txt".into()));
    assert_eq!(plain_name(".."), None);
}
