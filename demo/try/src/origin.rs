//! What blue and green are: a blocking HTTP/1.1 server on loopback, one thread for each of evenly's connections.
//!
//! It reads heads with a parser that is not evenly's, so that the two cannot err in the same way.
//! Does not own anything of production worth: speed, limits of connections, trailers that are kept.
//!
//! Invariants: never listens beyond loopback; heads, bodies and silence are bounded by the constants below.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::board::Colour;
use crate::children;

/// The line on standard output once it listens; any other is why it does not.
pub(crate) const LISTENING: &str = "listening";

/// Largest request head, in bytes.
const HEAD_BYTES: usize = 64 << 10;
/// Most header fields of one request.
const HEADERS: usize = 128;
/// Largest request body, in bytes.
const BODY_BYTES: usize = 1 << 20;
/// Stack of a connection's thread, in bytes: bodies live on the heap.
const STACK_BYTES: usize = 256 << 10;
/// How long a connection may be silent: longer than evenly keeps an idle one.
const SILENCE: Duration = Duration::from_secs(600);
/// Pause after a failed accept: out of descriptors, retrying immediately would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves until the process `parent` ends, or this one is killed.
pub(crate) fn main(colour: Colour, address: SocketAddr, parent: u32) -> ExitCode {
    let started = children::leash(parent).and_then(|()| listen(address));
    let said = started.as_ref().map_or_else(ToString::to_string, |_| LISTENING.to_owned());
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "{said}").and_then(|()| stdout.flush());
    match started {
        Ok(listener) => serve(colour, &listener),
        Err(_) => ExitCode::FAILURE,
    }
}

/// At the port that the parent holds as well.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(io::Error::other(format!("{address} is not a loopback address")));
    }
    let socket = children::claim(address)?;
    socket.listen(512)?;
    Ok(socket.into())
}

fn serve(colour: Colour, listener: &TcpListener) -> ! {
    let answered = Arc::new(AtomicU64::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        let answered = Arc::clone(&answered);
        // Without a thread the connection is closed, and evenly takes the request elsewhere.
        let _ = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            // An error here is a client that left or fell silent: nobody is there to be notified.
            let _ = converse(colour, &stream, &answered);
        });
    }
}

/// Answers the requests of one connection, one after another, until either side ends it.
fn converse(colour: Colour, stream: &TcpStream, answered: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut input = Input { stream, buffer: Vec::new() };
    loop {
        let request = match input.request() {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(Failure::Refused(status)) => {
                let refusal = Response { status, media_type: TEXT, body: status.into() };
                return input.stream.write_all(&refusal.bytes(colour, false, true));
            }
            Err(Failure::Gone(error)) => return Err(error),
        };
        let response = respond(colour, &request, answered);
        let bytes = response.bytes(colour, request.method == "HEAD", !request.keep_alive);
        input.stream.write_all(&bytes)?;
        if !request.keep_alive {
            return Ok(());
        }
    }
}

/// Why there is no request to answer.
#[derive(Debug)]
enum Failure {
    /// It cannot be read one way, or is too large: it gets this status, and the connection ends.
    Refused(&'static str),
    /// The client left, fell silent, or its socket failed.
    Gone(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Gone(error)
    }
}

/// One whole request.
#[derive(Debug)]
struct Request {
    method: String,
    path: String,
    /// As it came, with the empty line at its end.
    head: Vec<u8>,
    body: Vec<u8>,
    wants_html: bool,
    expects_continue: bool,
    keep_alive: bool,
}

/// How the end of a request's body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

/// A connection, and the bytes of it that no request has used yet.
struct Input<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: Read + Write> Input<S> {
    /// The next request, or `None` when the client closed between two requests.
    fn request(&mut self) -> Result<Option<Request>, Failure> {
        let (mut request, framing) = loop {
            match parse_head(&self.buffer)? {
                Some((length, request, framing)) => {
                    self.buffer.drain(..length);
                    break (request, framing);
                }
                None if self.buffer.len() > HEAD_BYTES => {
                    return Err(Failure::Refused("431 Request Header Fields Too Large"));
                }
                None if self.fill()? => {}
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Failure::Gone(io::ErrorKind::UnexpectedEof.into())),
            }
        };
        if request.expects_continue && self.buffer.is_empty() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        request.body = match framing {
            Framing::Length(length) => self.take(length)?,
            Framing::Chunked => self.chunked()?,
        };
        Ok(Some(request))
    }

    /// A chunked body; its trailers are read and dropped.
    fn chunked(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let Ok(httparse::Status::Complete((_, size))) = httparse::parse_chunk_size(&line)
            else {
                return Err(Failure::Refused("400 Bad Request"));
            };
            match usize::try_from(size) {
                Ok(0) => break,
                Ok(size) if size <= BODY_BYTES - body.len() => body.append(&mut self.take(size)?),
                _ => return Err(Failure::Refused("413 Content Too Large")),
            }
            if self.take(2)? != b"\r\n" {
                return Err(Failure::Refused("400 Bad Request"));
            }
        }
        while self.line()? != b"\r\n" {}
        Ok(body)
    }

    /// The next line, with its end.
    fn line(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                return Ok(self.take(end + 2)?);
            }
            if self.buffer.len() > HEAD_BYTES {
                return Err(Failure::Refused("400 Bad Request"));
            }
            self.fill_more()?;
        }
    }

    /// Takes `length` bytes, waiting for those that are not here yet.
    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill_more()?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn fill_more(&mut self) -> io::Result<()> {
        if self.fill()? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads what is there; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut arrived = [0; 16 << 10];
        let count = self.stream.read(&mut arrived)?;
        self.buffer.extend(arrived.iter().take(count));
        Ok(count > 0)
    }
}

/// The head at the start of `bytes`: its length, the request without its body, and how that ends. `None` while it is
/// not whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Request, Framing)>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Failure::Refused("431 Request Header Fields Too Large"));
        }
        Err(_) => return Err(Failure::Refused("400 Bad Request")),
    };
    let has = |name: &str, word: &str| values(head.headers, name).any(|it| has_word(it, word));
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: head.path.unwrap_or_default().to_owned(),
        head: bytes.get(..length).unwrap_or_default().to_vec(),
        body: Vec::new(),
        wants_html: has("accept", "text/html"),
        expects_continue: has("expect", "100-continue"),
        keep_alive: head.version == Some(1) && !has("connection", "close"),
    };
    let framing = framing(head.headers)?;
    Ok(Some((length, request, framing)))
}

/// Every value of the fields called `name`.
fn values<'a>(headers: &'a [httparse::Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |it| it.name.eq_ignore_ascii_case(name)).map(|it| it.value)
}

/// Whether `word` is an element of a list with commas, its parameters aside.
fn has_word(value: &[u8], word: &str) -> bool {
    let name = |element: &[u8]| element.split(|&b| b == b';').next().map(<[u8]>::to_vec);
    value
        .split(|&byte| byte == b',')
        .filter_map(name)
        .any(|element| element.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Decides how the body ends; what could be read two ways is refused (RFC 9112 section 6.3).
fn framing(headers: &[httparse::Header<'_>]) -> Result<Framing, Failure> {
    let mut codings = values(headers, "transfer-encoding");
    let mut lengths = values(headers, "content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Framing::Length(0)),
        (None, Some(length)) if lengths.next().is_none() => {
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let length = str::from_utf8(length).ok().filter(|_| is_number);
            let length = length.ok_or(Failure::Refused("400 Bad Request"))?;
            // Digits that do not fit a usize are a length beyond any limit.
            match length.parse() {
                Ok(length) if length <= BODY_BYTES => Ok(Framing::Length(length)),
                _ => Err(Failure::Refused("413 Content Too Large")),
            }
        }
        (Some(coding), None)
            if coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() =>
        {
            Ok(Framing::Chunked)
        }
        (Some(_), None) => Err(Failure::Refused("501 Not Implemented")),
        _ => Err(Failure::Refused("400 Bad Request")),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What goes back to the client.
struct Response {
    /// Status code and reason phrase.
    status: &'static str,
    media_type: &'static str,
    body: Vec<u8>,
}

impl Response {
    /// To HEAD without its body, and with `Connection: close` when this is the last.
    fn bytes(&self, colour: Colour, head_only: bool, last: bool) -> Vec<u8> {
        let close = if last { "Connection: close\r\n" } else { "" };
        let mut message = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nX-Origin: {}\r\n{close}\r\n",
            self.status,
            self.media_type,
            self.body.len(),
            colour.name(),
        )
        .into_bytes();
        if !head_only {
            message.extend_from_slice(&self.body);
        }
        message
    }
}

/// A line of text for curl, a page in the origin's colour for a browser, and on `/echo` the request as it came.
fn respond(colour: Colour, request: &Request, answered: &AtomicU64) -> Response {
    let ok = |media_type, body| Response { status: "200 OK", media_type, body };
    if request.path == HEALTH {
        return ok(TEXT, b"ok\n".to_vec());
    }
    let number = answered.fetch_add(1, Ordering::Relaxed) + 1;
    let name = colour.name();
    if request.path == "/echo" {
        return ok(TEXT, [request.head.as_slice(), &request.body].concat());
    }
    if request.wants_html {
        return ok("text/html; charset=utf-8", page(colour, number).into_bytes());
    }
    let mut line = format!("{name} answers {} {}", request.method, request.path);
    if !request.body.is_empty() {
        let _ = write!(line, " and has read {} bytes", request.body.len());
    }
    ok(TEXT, (line + "\n").into_bytes())
}

/// What evenly's health checks ask for.
pub(crate) const HEALTH: &str = "/healthz";

/// It reloads by itself, so that one sees the origins alternate. The icon is in the page: a request for one would take
/// the next turn, and each reload would meet the same origin.
fn page(colour: Colour, number: u64) -> String {
    let (name, css) = (colour.name(), colour.css());
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{name}</title>\n\
         <meta http-equiv=\"refresh\" content=\"1\"><link rel=\"icon\" href=\"data:,\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <style>body {{ background: {css}; color: white; font: 1.2em sans-serif; text-align: center; \
         padding-top: 20vh }} h1 {{ font-size: 6em; margin: 0 }}</style></head>\n\
         <body><h1>{name}</h1><p>answered this request, number {number} since it was started.</p>\n\
         <p>The page reloads every second, and evenly gives each request to the next origin.</p></body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of `step`, and keeps what is written.
    struct Wire<'a> {
        bytes: &'a [u8],
        step: usize,
        written: Vec<u8>,
    }

    impl Read for Wire<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let (now, later) = self.bytes.split_at(self.step.min(self.bytes.len()));
            self.bytes = later;
            into[..now.len()].copy_from_slice(now);
            Ok(now.len())
        }
    }

    impl Write for Wire<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn input(bytes: &[u8], step: usize) -> Input<Wire<'_>> {
        Input { stream: Wire { bytes, step, written: Vec::new() }, buffer: Vec::new() }
    }

    fn request(text: &str) -> Request {
        input(text.as_bytes(), 1_000).request().unwrap().unwrap()
    }

    fn answered(text: &str) -> String {
        let response = respond(Colour::Blue, &request(text), &AtomicU64::new(0));
        String::from_utf8(response.bytes(Colour::Blue, false, false)).unwrap()
    }

    #[test]
    fn bodies_end_where_they_say_however_they_arrive() {
        let text = b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nab\
                     PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n\
                     GET /c HTTP/1.1\r\nConnection: close\r\n\r\n";
        for step in 1..=text.len() {
            let mut input = input(text, step);
            for (path, body, keep_alive) in
                [("/a", "ab", true), ("/b", "abcde", true), ("/c", "", false)]
            {
                let request = input.request().unwrap().unwrap();
                let body = (request.path.as_str(), request.body.as_slice(), request.keep_alive)
                    == (path, body.as_bytes(), keep_alive);
                assert!(body, "pieces of {step}: {request:?}");
            }
            assert!(input.request().unwrap().is_none());
        }
    }

    #[test]
    fn what_cannot_be_read_one_way_is_refused() {
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(HEAD_BYTES + 1));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS + 1));
        let large = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", BODY_BYTES + 1);
        for (text, status) in [
            ("\0\0\r\n\r\n", "400"),
            (&long, "431"),
            (&many, "431"),
            (&large, "413"),
            ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
            ("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", "413"),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "400"),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "501"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", "413"),
        ] {
            let Err(Failure::Refused(said)) = input(text.as_bytes(), 1_000).request() else {
                panic!("{text} is not refused")
            };
            assert!(said.starts_with(status), "{said} for {text}");
        }
    }

    #[test]
    fn a_client_that_waits_to_send_its_body_gets_100() {
        let head = "POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
        let text = format!("{head}ok");
        let mut input = input(text.as_bytes(), head.len());
        assert_eq!(input.request().unwrap().unwrap().body, b"ok");
        assert_eq!(input.stream.written, b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    #[test]
    fn curl_gets_a_line_and_a_browser_a_page_of_the_colour() {
        assert!(
            answered("GET /hello HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nblue answers GET /hello\n")
        );
        let text = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
        assert!(answered(text).ends_with("blue answers POST / and has read 2 bytes\n"));
        let page = answered("GET / HTTP/1.1\r\nAccept: text/html,*/*;q=0.8\r\n\r\n");
        assert!(page.contains("Content-Type: text/html") && page.contains("<h1>blue</h1>"));
    }

    #[test]
    fn echo_returns_the_request_as_it_came() {
        let text = "PUT /echo HTTP/1.1\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 2\r\n\r\nab";
        assert!(answered(text).ends_with(&format!("\r\n\r\n{text}")));
    }

    #[test]
    fn head_gets_the_length_of_get_and_no_body() {
        let request = request("HEAD /healthz HTTP/1.1\r\n\r\n");
        let response = respond(Colour::Green, &request, &AtomicU64::new(0));
        let bytes = String::from_utf8(response.bytes(Colour::Green, true, false)).unwrap();
        assert!(bytes.contains("\r\nContent-Length: 3\r\n") && bytes.ends_with("\r\n\r\n"));
    }

    #[test]
    fn it_listens_on_loopback_only() {
        assert!(listen("0.0.0.0:0".parse().unwrap()).is_err());
        assert!(listen("127.0.0.1:0".parse().unwrap()).is_ok());
    }
}
