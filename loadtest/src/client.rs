//! A blocking HTTP/1.1 client of the least size: one request after another on one connection, each
//! answer judged whole. wrk and oha make load; this one knows what each single request came to.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// How long an answer may take before the request counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most lines of a head; more is not an answer.
const HEAD_LINES: usize = 200;

/// One keep-alive connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// A whole response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The `X-Origin` field: which origin answered.
    pub(crate) origin: Option<String>,
    /// Whether this was the last response on its connection.
    pub(crate) last: bool,
}

/// What a head says.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) origin: Option<String>,
    /// The `X-Request` field: which request is answered.
    pub(crate) request: Option<String>,
    pub(crate) length: Option<u64>,
    pub(crate) last: bool,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Client> {
        Client::connect_for(address, PATIENCE)
    }

    /// One that leaves when it has waited for so long.
    pub(crate) fn connect_for(address: SocketAddr, patience: Duration) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Client { stream: BufReader::with_capacity(1024, stream) })
    }

    /// Whether the other side has closed it, or sent what nobody asked for, while no request was under way.
    pub(crate) fn has_ended(&self) -> bool {
        let look = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        !matches!(recv(self.stream.get_ref(), &mut [0u8; 1], look), Err(Errno::AGAIN))
    }

    /// Sends a GET and reads the whole response; any error means the request failed.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: loadtest\r\n\r\n");
        let head = self.ask(request.as_bytes(), &mut Vec::new())?;
        Ok(Answer { status: head.status, origin: head.origin, last: head.last })
    }

    /// Sends a request as it stands and reads the whole response, its body into `body`.
    pub(crate) fn ask(&mut self, request: &[u8], body: &mut Vec<u8>) -> io::Result<Head> {
        self.stream.get_mut().write_all(request)?;
        let head = read_head(&mut self.stream)?;
        let length = head.length.ok_or_else(|| wrong("a response without Content-Length"))?;
        body.clear();
        let read = (&mut self.stream).take(length).read_to_end(body)?;
        if u64::try_from(read) != Ok(length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(head)
    }
}

/// Reads a response head to its empty line.
pub(crate) fn read_head(stream: &mut impl BufRead) -> io::Result<Head> {
    let status_line = line(stream)?;
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| wrong("not a status line"))?;
    let mut head = Head { status, origin: None, request: None, length: None, last: false };
    for _ in 0..HEAD_LINES {
        let line = line(stream)?;
        let Some((name, value)) = line.split_once(':') else {
            return if line.is_empty() { Ok(head) } else { Err(wrong("a field without a colon")) };
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "x-origin" => head.origin = Some(value.to_owned()),
            "x-request" => head.request = Some(value.to_owned()),
            "content-length" => head.length = value.parse().ok(),
            "connection" => head.last |= value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    Err(wrong("a head without end"))
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.take(16 << 10).read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(text) => Ok(text.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A server that reads until it sees the end of a head, then writes `answer` and closes.
    fn serve_once(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            let mut byte = [0];
            while !seen.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                seen.push(byte[0]);
            }
            stream.write_all(answer).unwrap();
        });
        address
    }

    #[test]
    fn reads_who_answered_and_what() {
        let address = serve_once(
            b"HTTP/1.1 200 OK\r\nx-origin: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
        );
        let answer = Client::connect(address).unwrap().get("/").unwrap();
        assert_eq!(answer, Answer { status: 200, origin: Some("a".to_owned()), last: true });
    }

    #[test]
    fn takes_a_short_body_for_a_failure() {
        let address = serve_once(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nabc");
        assert!(Client::connect(address).unwrap().get("/").is_err());
    }

    #[test]
    fn takes_anything_but_http_for_a_failure() {
        let address = serve_once(b"SSH-2.0\r\n\r\n");
        assert!(Client::connect(address).unwrap().get("/").is_err());
    }
}
