//! What peers say in the operations of the targets `exchange` and `engine`.

use arbitrary::Arbitrary;

/// Something a client sends.
#[derive(Arbitrary, Debug)]
pub enum Said {
    Get,
    Head,
    Old,
    OldKept,
    LastGet,
    Post,
    PostChunked,
    Expecting,
    Upgrade,
    Options,
    Absolute,
    Body,
    Chunk,
    LastChunk,
    Trailers,
    HalfHead,
    RestOfHead,
    Bytes(Vec<u8>),
}

impl Said {
    /// The bytes. `mark` stands in the target.
    pub fn bytes(&self, mark: &str) -> Vec<u8> {
        let line = |start: &str, rest: &str| format!("{start}{mark}{rest}").into_bytes();
        match self {
            Said::Get => line("GET /", " HTTP/1.1\r\nHost: a\r\n\r\n"),
            Said::Head => line("HEAD /", " HTTP/1.1\r\nHost: a\r\n\r\n"),
            Said::Old => line("GET /", " HTTP/1.0\r\n\r\n"),
            Said::OldKept => line("GET /", " HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
            Said::LastGet => line("GET /", " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
            Said::Post => line("POST /", " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"),
            Said::PostChunked => {
                line("POST /", " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            }
            Said::Expecting => line(
                "PUT /",
                " HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            ),
            Said::Upgrade => line(
                "GET /",
                " HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            ),
            Said::Options => line("OPTIONS /", " HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\n\r\n"),
            Said::Absolute => line("GET http://b/", " HTTP/1.1\r\nHost: a\r\n\r\n"),
            Said::Body => b"hello".to_vec(),
            Said::Chunk => b"5\r\nhello\r\n".to_vec(),
            Said::LastChunk => b"0\r\n\r\n".to_vec(),
            Said::Trailers => b"0\r\nX-Sum: 1\r\nContent-Length: 1\r\n\r\n".to_vec(),
            Said::HalfHead => line("GET /", " HTTP/1.1\r\nHost: a"),
            Said::RestOfHead => b"\r\n\r\n".to_vec(),
            Said::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// Something a target sends.
#[derive(Arbitrary, Debug)]
pub enum Answered {
    Empty,
    Length,
    Chunked,
    UntilClose,
    Last,
    Old,
    NoContent,
    NotModified,
    Continue,
    Hints,
    Switch,
    Body,
    Chunk,
    LastChunk,
    Trailers,
    HalfHead,
    RestOfHead,
    Bytes(Vec<u8>),
}

impl Answered {
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Answered::Empty => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            Answered::Length => &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"[..],
            Answered::Chunked => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Answered::UntilClose => b"HTTP/1.1 200 OK\r\n\r\n",
            Answered::Last => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            Answered::Old => b"HTTP/1.0 200 OK\r\n\r\n",
            Answered::NoContent => b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            Answered::NotModified => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            Answered::Continue => b"HTTP/1.1 100 Continue\r\n\r\n",
            Answered::Hints => b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            Answered::Switch => {
                b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            }
            Answered::Body => b"hello",
            Answered::Chunk => b"5\r\nhello\r\n",
            Answered::LastChunk => b"0\r\n\r\n",
            Answered::Trailers => b"0\r\nX-Sum: 1\r\nContent-Length: 1\r\n\r\n",
            Answered::HalfHead => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: aaaaaaaaaaaaaa",
            Answered::RestOfHead => b"\r\n\r\n",
            Answered::Bytes(bytes) => bytes,
        }
        .to_vec()
    }
}
