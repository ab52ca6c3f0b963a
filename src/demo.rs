//! The demo origins of `evenly demo`: two small servers of different colours that answer with their
//! own name and echo what reached them, so that a newcomer sees with `curl` what a balancer does.
//!
//! Owns: a blocking HTTP/1.1 server, one thread a connection, on a loopback port the kernel chooses.
//! Shares nothing with the balancer: it parses by itself, so the two cannot err in the same way.
//! Does not own: anything of production worth (speed, TLS, streaming).
//!
//! Invariants: never listens beyond loopback; head, body, connections and the time for each message
//! are bounded by the constants below; dropping an [`Origin`] ends all of its threads and sockets.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Largest request head, in bytes; beyond it the answer is 431.
const HEAD_BYTES: usize = 16 << 10;
/// Most header fields of one request; beyond it the answer is 431.
const HEADERS: usize = 100;
/// Largest request body, in bytes; beyond it the answer is 413.
const BODY_BYTES: usize = 1 << 20;
/// Most connections, and so threads, of one origin; beyond it the answer is 503.
const CONNECTIONS: usize = 512;
/// Stack of a connection's thread, in bytes: bodies live on the heap.
const STACK_BYTES: usize = 256 << 10;
/// How long one whole request may take to arrive, and a kept connection may idle.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a refused client may go on sending before its socket is dropped.
const LINGER: Duration = Duration::from_secs(1);
/// Pause after a failed accept: out of descriptors, retrying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A running demo origin. Dropping it closes its listener and every connection, and joins its threads.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What the acceptor's thread and the [`Origin`] both hold.
#[derive(Debug)]
struct Shared {
    name: &'static str,
    listener: TcpListener,
    stopping: AtomicBool,
    open: Mutex<HashMap<u64, Arc<TcpStream>>>,
}

impl Origin {
    /// Starts an origin called `name` on 127.0.0.1 and a port the kernel chooses.
    ///
    /// # Errors
    /// When no listener can be bound or no thread started.
    pub fn start(name: &'static str) -> io::Result<Origin> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name,
            listener,
            stopping: AtomicBool::new(false),
            open: Mutex::new(HashMap::new()),
        });
        let acceptor = thread::Builder::new().name(format!("origin {name}")).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&shared)
        })?;
        Ok(Origin { address, shared, acceptor: Some(acceptor) })
    }

    /// Where it listens: always a loopback address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // On Linux this makes the blocked accept(2) return, and needs no free descriptor to do so.
        let _ = socket2::SockRef::from(&self.shared.listener).shutdown(Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<TcpStream>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts until the origin is dropped; the scope joins the connections' threads at the end.
fn accept(shared: &Shared) {
    thread::scope(|scope| {
        for (id, accepted) in (0_u64..).zip(shared.listener.incoming()) {
            if shared.stopping.load(Ordering::SeqCst) {
                break;
            }
            let Ok(stream) = accepted.map(Arc::new) else {
                thread::sleep(ACCEPT_PAUSE);
                continue;
            };
            if !admit(shared, id, &stream) {
                continue;
            }
            let started =
                thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || {
                    // An error here is a client that left or stalled: nobody is there to be notified.
                    let _ = converse(shared.name, &stream);
                    shared.open().remove(&id);
                });
            if started.is_err() {
                shared.open().remove(&id);
            }
        }
        for stream in shared.open().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
}

/// Enters a fresh connection in the books, or turns it away when there are too many.
fn admit(shared: &Shared, id: u64, stream: &Arc<TcpStream>) -> bool {
    let mut open = shared.open();
    if open.len() >= CONNECTIONS {
        let _ = respond(stream, &Response::plain(SERVICE_UNAVAILABLE), shared.name, false, true);
        return false;
    }
    open.insert(id, Arc::clone(stream));
    true
}

/// Answers the requests of one connection, one after another, until either side ends it.
fn converse(name: &'static str, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut input = Input { stream, buffer: Vec::new(), deadline: Instant::now() };
    loop {
        input.deadline = Instant::now() + PATIENCE;
        match input.request() {
            Ok(None) => return Ok(()),
            Ok(Some(request)) => {
                let response = answer(name, &request)?;
                respond(stream, &response, name, request.method == "HEAD", !request.keep_alive)?;
                if !request.keep_alive {
                    return Ok(());
                }
            }
            Err(Failure::Refused(status)) => {
                respond(stream, &Response::plain(status), name, false, true)?;
                return linger(stream);
            }
            Err(Failure::Gone(error)) => return Err(error),
        }
    }
}

/// Lets a refused client read its answer: closing with unread bytes would reset the connection.
fn linger(mut stream: &TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + LINGER;
    stream.shutdown(Shutdown::Write)?;
    let mut discarded = [0; 16 << 10];
    loop {
        stream.set_read_timeout(Some(remaining(deadline)?))?;
        if stream.read(&mut discarded)? == 0 {
            return Ok(());
        }
    }
}

/// The time left, never zero (which a socket would take as "for ever").
fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A status code and its reason phrase.
type Status = (u16, &'static str);

const OK: Status = (200, "OK");
const BAD_REQUEST: Status = (400, "Bad Request");
const CONTENT_TOO_LARGE: Status = (413, "Content Too Large");
const HEAD_TOO_LARGE: Status = (431, "Request Header Fields Too Large");
const NOT_IMPLEMENTED: Status = (501, "Not Implemented");
const SERVICE_UNAVAILABLE: Status = (503, "Service Unavailable");

/// Why there is no request to answer.
enum Failure {
    /// The client is wrong: it gets this status and the connection ends.
    Refused(Status),
    /// The client left, stalled, or its socket failed.
    Gone(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Gone(error)
    }
}

/// One whole request.
struct Request {
    method: String,
    path: String,
    /// Names in lower case, values as they came, in order.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    keep_alive: bool,
}

/// How the end of a request's body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

/// The bytes of one connection that no request has used yet.
struct Input<'a> {
    stream: &'a TcpStream,
    buffer: Vec<u8>,
    deadline: Instant,
}

impl Input<'_> {
    /// Reads the next request, or `None` when the client closed between two requests.
    fn request(&mut self) -> Result<Option<Request>, Failure> {
        let mut request = loop {
            match parse_head(&self.buffer)? {
                Some((length, request)) => {
                    self.buffer.drain(..length);
                    break request;
                }
                None if self.buffer.len() > HEAD_BYTES => {
                    return Err(Failure::Refused(HEAD_TOO_LARGE));
                }
                None if self.fill()? == 0 && self.buffer.is_empty() => return Ok(None),
                None => {}
            }
        };
        let framing = framing(&request.headers)?;
        self.encourage(&request, framing)?;
        request.body = match framing {
            Framing::Length(length) => self.take(length)?,
            Framing::Chunked => self.chunked()?,
        };
        Ok(Some(request))
    }

    /// Sends `100 Continue` to a client that waits for it before it sends its body.
    fn encourage(&mut self, request: &Request, framing: Framing) -> io::Result<()> {
        let expected = values(&request.headers, "expect")
            .any(|value| value.eq_ignore_ascii_case("100-continue"));
        if expected && self.buffer.is_empty() && !matches!(framing, Framing::Length(0)) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        Ok(())
    }

    /// Takes `length` bytes, waiting for those that are not here yet.
    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill_more()?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Takes a chunked body and its trailers, which are read and forgotten.
    fn chunked(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            let size = self.chunk_size()?;
            if size == 0 {
                self.trailers()?;
                return Ok(body);
            }
            if size > BODY_BYTES - body.len() {
                return Err(Failure::Refused(CONTENT_TOO_LARGE));
            }
            body.append(&mut self.take(size)?);
            if self.take(2)? != b"\r\n" {
                return Err(Failure::Refused(BAD_REQUEST));
            }
        }
    }

    /// Takes the line that announces a chunk.
    fn chunk_size(&mut self) -> Result<usize, Failure> {
        loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(httparse::Status::Complete((length, size))) => {
                    self.buffer.drain(..length);
                    return usize::try_from(size).map_err(|_| Failure::Refused(CONTENT_TOO_LARGE));
                }
                Ok(httparse::Status::Partial) if self.buffer.len() <= HEAD_BYTES => {
                    self.fill_more()?;
                }
                _ => return Err(Failure::Refused(BAD_REQUEST)),
            }
        }
    }

    /// Takes trailer lines up to the empty one.
    fn trailers(&mut self) -> Result<(), Failure> {
        let mut seen = 0;
        while seen <= HEAD_BYTES {
            match self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                Some(length) => {
                    self.buffer.drain(..length + 2);
                    if length == 0 {
                        return Ok(());
                    }
                    seen += length + 2;
                }
                None if self.buffer.len() > HEAD_BYTES => break,
                None => self.fill_more()?,
            }
        }
        Err(Failure::Refused(HEAD_TOO_LARGE))
    }

    /// Reads more of a message that must not end here.
    fn fill_more(&mut self) -> io::Result<()> {
        if self.fill()? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Reads what is there, waiting for the first byte until the deadline; 0 at the end.
    fn fill(&mut self) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(remaining(self.deadline)?))?;
        let mut arrived = [0; 16 << 10];
        let count = self.stream.read(&mut arrived)?;
        self.buffer.extend(arrived.iter().take(count));
        if count == 0 && !self.buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

/// The head at the start of `bytes` and its length, or `None` while it is not whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Request)>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length > HEAD_BYTES => {
            return Err(Failure::Refused(HEAD_TOO_LARGE));
        }
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Failure::Refused(HEAD_TOO_LARGE)),
        Err(_) => return Err(Failure::Refused(BAD_REQUEST)),
    };
    let headers: Vec<_> = head.headers.iter().map(field).collect();
    let close = values(&headers, "connection")
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"));
    Ok(Some((
        length,
        Request {
            method: head.method.unwrap_or_default().to_owned(),
            path: head.path.unwrap_or_default().to_owned(),
            keep_alive: head.version == Some(1) && !close,
            headers,
            body: Vec::new(),
        },
    )))
}

/// A field as it is echoed.
fn field(header: &httparse::Header<'_>) -> (String, String) {
    (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())
}

/// Every value of the field called `name`, which is in lower case.
fn values<'a>(
    headers: &'a [(String, String)],
    name: &'static str,
) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Decides how the body ends; what could be read two ways is refused (RFC 9112 section 6.3).
fn framing(headers: &[(String, String)]) -> Result<Framing, Failure> {
    let mut codings = values(headers, "transfer-encoding");
    let mut lengths = values(headers, "content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Framing::Length(0)),
        (Some(_), Some(_)) => Err(Failure::Refused(BAD_REQUEST)),
        (Some(coding), None) => {
            let chunked = coding.eq_ignore_ascii_case("chunked") && codings.next().is_none();
            if chunked { Ok(Framing::Chunked) } else { Err(Failure::Refused(NOT_IMPLEMENTED)) }
        }
        (None, Some(length)) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || lengths.any(|other| other != length) {
                return Err(Failure::Refused(BAD_REQUEST));
            }
            // Digits that do not fit a usize are a length beyond any limit.
            match length.parse() {
                Ok(length) if length <= BODY_BYTES => Ok(Framing::Length(length)),
                _ => Err(Failure::Refused(CONTENT_TOO_LARGE)),
            }
        }
    }
}

/// What goes back to the client, framed by [`respond`].
struct Response {
    status: Status,
    media_type: &'static str,
    body: Vec<u8>,
}

impl Response {
    /// The reason phrase as the body.
    fn plain(status: Status) -> Response {
        Response { status, media_type: "text/plain", body: status.1.as_bytes().to_vec() }
    }
}

/// The echo, as JSON.
#[derive(Serialize)]
struct Echo<'a> {
    origin: &'a str,
    method: &'a str,
    path: &'a str,
    /// A name that came more than once has an array of its values.
    headers: BTreeMap<&'a str, Values<'a>>,
    body: Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values<'a> {
    One(&'a str),
    Many(Vec<&'a str>),
}

/// Makes the answer to a whole request.
fn answer(name: &str, request: &Request) -> io::Result<Response> {
    if request.path == "/healthz" {
        return Ok(Response { status: OK, media_type: "text/plain", body: b"ok".to_vec() });
    }
    let mut headers: BTreeMap<&str, Values<'_>> = BTreeMap::new();
    for (key, value) in &request.headers {
        headers
            .entry(key)
            .and_modify(|values| match values {
                Values::One(first) => *values = Values::Many(vec![first, value]),
                Values::Many(all) => all.push(value),
            })
            .or_insert(Values::One(value));
    }
    let echo = Echo {
        origin: name,
        method: &request.method,
        path: &request.path,
        headers,
        body: String::from_utf8_lossy(&request.body),
    };
    let mut body = serde_json::to_vec_pretty(&echo)?;
    body.push(b'\n');
    Ok(Response { status: OK, media_type: "application/json", body })
}

/// Writes a response; to HEAD without its body, and with `Connection: close` when this is the last.
fn respond(
    mut stream: &TcpStream,
    response: &Response,
    name: &str,
    head_only: bool,
    last: bool,
) -> io::Result<()> {
    let (code, reason) = response.status;
    let close = if last { "Connection: close\r\n" } else { "" };
    let mut message = format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nX-Origin: {name}\r\n{close}\r\n",
        response.media_type,
        response.body.len(),
    )
    .into_bytes();
    if !head_only {
        message.extend_from_slice(&response.body);
    }
    stream.write_all(&message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `request` on a fresh connection, half-closes, and returns all that comes back.
    fn dialogue(origin: &Origin, request: &[u8]) -> String {
        let mut stream = connect(origin);
        stream.write_all(request).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn connect(origin: &Origin) -> TcpStream {
        let stream = TcpStream::connect(origin.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// The JSON of a response that has one.
    fn echo(answer: &str) -> serde_json::Value {
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn echoes_what_reached_it_under_its_own_name() {
        let origin = Origin::start("blue").unwrap();
        let answer = dialogue(
            &origin,
            b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 5\r\n\r\nhello",
        );
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nX-Origin: blue\r\n"), "{answer}");
        let echo = echo(&answer);
        assert_eq!(echo["origin"], "blue");
        assert_eq!(echo["method"], "POST");
        assert_eq!(echo["path"], "/a?b=c");
        assert_eq!(echo["headers"]["host"], "x");
        assert_eq!(echo["headers"]["x-two"], serde_json::json!(["1", "2"]));
        assert_eq!(echo["body"], "hello");
    }

    #[test]
    fn listens_on_loopback_only() {
        assert!(Origin::start("blue").unwrap().address().ip().is_loopback());
    }

    #[test]
    fn says_ok_to_a_health_check() {
        let origin = Origin::start("green").unwrap();
        let answer = dialogue(&origin, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"));
    }

    #[test]
    fn answers_pipelined_requests_in_order_on_one_connection() {
        let origin = Origin::start("green").unwrap();
        let answer = dialogue(
            &origin,
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n\
              GET /3 HTTP/1.1\r\nHost: x\r\n\r\n",
        );
        let first = answer.find("\"/1\"").unwrap();
        let second = answer.find("\"/2\"").unwrap();
        assert!(first < second);
        assert_eq!(answer.matches("Connection: close").count(), 1);
        assert!(!answer.contains("\"/3\""), "nothing follows what asked for the end");
    }

    #[test]
    fn answers_head_with_the_length_of_get_and_no_body() {
        let origin = Origin::start("blue").unwrap();
        let answer = dialogue(&origin, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.contains("\r\nContent-Length: 2\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[test]
    fn reads_a_chunked_body_with_trailers_split_anywhere() {
        let origin = Origin::start("blue").unwrap();
        let request: &[u8] =
            b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
              3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n";
        for split in 0..request.len() {
            let mut stream = connect(&origin);
            stream.set_nodelay(true).unwrap();
            let (before, after) = request.split_at(split);
            stream.write_all(before).unwrap();
            stream.write_all(after).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(echo(&answer)["body"], "abcde", "split at {split}");
        }
    }

    #[test]
    fn takes_a_body_of_the_limit_and_refuses_one_byte_more() {
        let origin = Origin::start("blue").unwrap();
        let head = |length: usize| {
            format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").into_bytes()
        };
        let mut whole = head(BODY_BYTES);
        whole.resize(whole.len() + BODY_BYTES, b'x');
        let answer = dialogue(&origin, &whole);
        assert_eq!(echo(&answer)["body"].as_str().unwrap().len(), BODY_BYTES);
        let answer = dialogue(&origin, &head(BODY_BYTES + 1));
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        let chunks =
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\nxx";
        assert!(dialogue(&origin, chunks).starts_with("HTTP/1.1 413 "));
    }

    #[test]
    fn refuses_what_it_cannot_read_one_way() {
        let origin = Origin::start("blue").unwrap();
        let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(HEAD_BYTES));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS + 1));
        let cases: [(&[u8], &str); 9] = [
            (b"\0\0\r\n\r\n", "400"),
            (long.as_bytes(), "431"),
            (many.as_bytes(), "431"),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
            (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", "413"),
            (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"),
            (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "501"),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"),
        ];
        for (request, status) in cases {
            let answer = dialogue(&origin, request);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{status} for {}: {answer}",
                String::from_utf8_lossy(request)
            );
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        }
    }

    #[test]
    fn tells_a_waiting_client_to_go_on() {
        let origin = Origin::start("blue").unwrap();
        let mut stream = connect(&origin);
        stream
            .write_all(
                b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
            )
            .unwrap();
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut bytes = vec![0; interim.len()];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, interim);
        stream.write_all(b"ok").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(echo(&answer)["body"], "ok");
    }

    #[test]
    fn drops_with_connections_open_and_frees_its_port() {
        let origin = Origin::start("blue").unwrap();
        let mut kept = connect(&origin);
        kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut byte = [0];
        kept.read_exact(&mut byte).unwrap();
        let address = origin.address();
        drop(origin);
        let mut rest = Vec::new();
        kept.read_to_end(&mut rest).unwrap();
        assert!(TcpStream::connect(address).is_err());
    }
}
