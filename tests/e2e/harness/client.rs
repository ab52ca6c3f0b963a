//! A raw client: it sends the bytes it is told to and reads responses one by one.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::{Head, Wire};

/// One whole response.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<String>,
}

impl Response {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Whether it says that the connection ends.
    pub(crate) fn closes(&self) -> bool {
        self.head.field("Connection") == Some("close")
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

pub(crate) struct Client {
    pub(crate) wire: Wire,
}

impl Client {
    #[track_caller]
    pub(crate) fn to(address: SocketAddr) -> Client {
        Client { wire: Wire::new(TcpStream::connect(address).unwrap()) }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes).unwrap();
    }

    /// Likewise, to an evenly that may have closed the connection.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.send(bytes)
    }

    /// The next response, interim ones included.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response().unwrap()
    }

    /// The next response. An error says that it did not come, or not whole.
    pub(crate) fn try_response(&mut self) -> io::Result<Response> {
        let mut response = self.response_head()?;
        let bodiless = response.status < 200 || matches!(response.status, 204 | 304);
        if bodiless {
            return Ok(response);
        }
        if response.head.is_chunked() {
            assert_eq!(response.head.content_length(), None, "two framings: {response:?}");
            (response.body, response.trailers) = self.wire.chunked()?;
        } else if let Some(length) = response.head.content_length() {
            response.body = self.wire.exactly(length)?;
        } else {
            response.body = self.wire.rest()?;
        }
        Ok(response)
    }

    /// Only the head of the next response: all there is of a response to HEAD.
    pub(crate) fn response_head(&mut self) -> io::Result<Response> {
        let head = self.wire.head()?;
        let words: Vec<&str> = head.line.splitn(3, ' ').collect();
        assert_eq!((words.len(), words[0]), (3, "HTTP/1.1"), "the status line {:?}", head.line);
        let status = words[1].parse().expect("a status");
        Ok(Response { status, head, body: Vec::new(), trailers: Vec::new() })
    }

    /// Asks for `path` and reads the response.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response()
    }

    /// Posts `body` to `path` and reads the response.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Response {
        let len = body.len();
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len}\r\n\r\n{body}"
        ));
        self.response()
    }

    /// Waits for the end of the connection, before which nothing more may come.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End {
        match self.wire.rest() {
            Ok(rest) => {
                assert!(rest.is_empty(), "unexpected: {:?}", String::from_utf8_lossy(&rest));
                End::Fin
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("the connection does not end: {error}"),
        }
    }

    /// Ends this side only.
    pub(crate) fn shutdown(&self) {
        self.wire.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Leaves: by a reset, or by a plain close.
    pub(crate) fn leave(self, resets: bool) {
        if resets {
            SockRef::from(&self.wire.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}
