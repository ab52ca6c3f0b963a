//! Requests of our own, as a key turns them on: one after another on a kept connection, so that what is shown alternates as
//! evenly has distributed it. Of several connections it would be in the order in which responses end.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::watch::Event;

/// The `User-Agent` of these requests.
pub(crate) const AGENT: &str = "try-evenly";
/// How many a second there are at most.
pub(crate) const RATE: u32 = 200;

/// How long a response may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Traffic until it is dropped.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    /// Starts sending to `address`. A request that gets no response is sent to `lost`.
    pub(crate) fn start(address: SocketAddr, lost: &Sender<Event>) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, lost) = (Arc::clone(&stop), lost.clone());
        let thread = thread::spawn(move || {
            let mut connection = None;
            while !stopped.load(Ordering::Relaxed) {
                if exchange(&mut connection, address).is_err() {
                    connection = None;
                    let _ = lost.send(Event::Lost);
                }
                thread::sleep(Duration::from_secs(1) / RATE);
            }
        });
        Traffic { stop, thread: Some(thread) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// One request, and its response to the end. Whether that is a good one is in evenly's access log.
fn exchange(kept: &mut Option<TcpStream>, address: SocketAddr) -> io::Result<()> {
    let stream = match kept {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            kept.insert(stream)
        }
    };
    let request =
        format!("GET /traffic HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {AGENT}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    loop {
        if let Some((length, closes)) = response_end(&response)?
            && response.len() >= length
        {
            if closes {
                *kept = None;
            }
            return Ok(());
        }
        let mut arrived = [0; 4 << 10];
        let count = stream.read(&mut arrived)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        response.extend(arrived.iter().take(count));
    }
}

/// The length of the response whose beginning this is, and whether the connection ends with it; `None` while the head
/// is not whole.
fn response_end(bytes: &[u8]) -> io::Result<Option<(usize, bool)>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let length = match head.parse(bytes).map_err(|_| malformed())? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let value = |name: &str| {
        let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        field.and_then(|field| str::from_utf8(field.value).ok())
    };
    let body: usize =
        value("content-length").and_then(|it| it.parse().ok()).ok_or_else(malformed)?;
    let closes = value("connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
    Ok(Some((length + body, closes)))
}
