//! An HTTP/1.1 server that does what a test tells it, good or bad.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is asked. The body is read by whoever answers.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    /// By lower-case names.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// A value of the query, decoded as far as digests and names need it.
    pub fn query(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()?;
        let value = value.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        Some(value.replace('+', " "))
    }
}

/// What is answered.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Sent as they are instead of all that, and then the connection is closed.
    pub raw: Option<Vec<u8>>,
    /// After so many bytes of the body the connection is closed.
    pub cut: Option<usize>,
    /// The body is sent again and again, in chunks, with this pause between.
    pub endless: Option<Duration>,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), raw: None, cut: None, endless: None }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn endless(mut self, pause: Duration) -> Self {
        self.endless = Some(pause);
        self
    }

    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { raw: Some(bytes.into()), ..Self::new(0) }
    }

    pub fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{code} it is"}}]}}"#);
        Self::new(status).header("content-type", "application/json").body(body)
    }
}

/// Answers, or takes over the connection.
pub trait Handler: Send + Sync + 'static {
    /// How many bytes of a body are read before the connection is cut.
    fn cut(&self, _: &Request) -> Option<usize> {
        None
    }

    /// A body that was cut.
    fn was_cut(&self, _: &Request) {}

    fn answer(&self, request: &Request) -> Answer;
}

impl<F: Fn(&Request) -> Answer + Send + Sync + 'static> Handler for F {
    fn answer(&self, request: &Request) -> Answer {
        self(request)
    }
}

/// A running server; it ends when it is dropped.
pub struct Server {
    port: u16,
    ended: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(handler: impl Handler) -> Self {
        Self::with(Arc::new(handler))
    }

    pub fn with<H: Handler>(handler: Arc<H>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ended, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let server = Self { port, ended: Arc::clone(&ended), seen: Arc::clone(&seen) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                std::thread::spawn(move || {
                    // Whatever the client does, it is the test's to judge.
                    let _ = serve(stream.unwrap(), &*handler, &seen);
                });
            }
        });
        server
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.host())
    }

    /// All that was asked so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How often it was asked so.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let seen = self.seen();
        seen.iter().filter(|r| r.method == method && r.path.contains(part)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(
    mut stream: TcpStream,
    handler: &dyn Handler,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut first = [0];
    if stream.peek(&mut first)? == 1 && first[0] == 0x16 {
        // It is asked for TLS, and does as Go's servers do.
        stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nthis is plain HTTP\n")?;
        return stream.shutdown(Shutdown::Both);
    }
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request =
            Request { method, path: path.into(), query: query.into(), ..Request::default() };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = request.header("content-length").and_then(|l| l.parse::<usize>().ok());
        let length = length.unwrap_or(0);
        let cut = handler.cut(&request).filter(|cut| *cut < length);
        let mut body = vec![0; cut.unwrap_or(length)];
        reader.read_exact(&mut body)?;
        request.body = body;
        if cut.is_some() {
            handler.was_cut(&request);
            seen.lock().unwrap().push(Request { body: Vec::new(), ..request });
            return stream.shutdown(Shutdown::Both);
        }
        let answer = handler.answer(&request);
        seen.lock().unwrap().push(Request { body: Vec::new(), ..request.clone() });
        if let Some(raw) = answer.raw {
            stream.write_all(&raw)?;
            return stream.shutdown(Shutdown::Both);
        }
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(pause) = answer.endless {
            head += "transfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes())?;
            loop {
                stream.write_all(format!("{:x}\r\n", answer.body.len()).as_bytes())?;
                stream.write_all(&answer.body)?;
                stream.write_all(b"\r\n")?;
                std::thread::sleep(pause);
            }
        }
        let told = answer.headers.iter().any(|(name, _)| name == "content-length");
        if !told && answer.status != 204 {
            head += &format!("content-length: {}\r\n", answer.body.len());
        }
        head += "\r\n";
        stream.write_all(head.as_bytes())?;
        if request.method != "HEAD" {
            let end = answer.cut.unwrap_or(answer.body.len()).min(answer.body.len());
            stream.write_all(&answer.body[..end])?;
        }
        if answer.cut.is_some() {
            return stream.shutdown(Shutdown::Both);
        }
    }
}
