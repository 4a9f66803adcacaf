//! Between a client and a registry: passes bytes on, and breaks connections that have had enough.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A running proxy, until the test ends.
pub struct Proxy {
    port: u16,
    breaks: Arc<AtomicUsize>,
}

impl Proxy {
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Lets so many more connections break.
    pub fn again(&self, breaks: usize) {
        self.breaks.store(breaks, Ordering::Relaxed);
    }
}

/// Starts one before `host`. So many connections end after so many bytes in one direction.
pub fn start(host: String, bytes: usize, breaks: usize) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let breaks = Arc::new(AtomicUsize::new(breaks));
    let left = Arc::clone(&breaks);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(client), Ok(server)) = (stream, TcpStream::connect(&host)) else { return };
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let left = Arc::clone(&left);
                std::thread::spawn(move || pass(from, to, bytes, &left));
            }
        }
    });
    Proxy { port, breaks }
}

fn pass(mut from: TcpStream, mut to: TcpStream, bytes: usize, left: &AtomicUsize) {
    let mut piece = vec![0; 16 << 10];
    let mut passed = 0;
    while let Ok(read @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
        passed += read;
        let one_less = |left: usize| left.checked_sub(1);
        if passed > bytes
            && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
        {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
