//! As much of HTTP/1.1 as both ends of a benchmark need, over bytes alone: where a head ends and how
//! its body is framed, whether a body is the one that was agreed, and the messages to send.
//!
//! A path says what the origin shall do: `/N` answers with N bytes, `/N/U` also expects a body of U
//! bytes, `/hold/N` answers when it is told to, `/healthz` is the probe. Every body is the pattern.

use std::sync::LazyLock;

use clap::ValueEnum;

/// A head longer than this is no head.
const MAX_HEAD: usize = 64 << 10;
/// The largest answer the origin gives, in bytes.
const MAX_ANSWER: u64 = 16 << 20;
/// Length of the pattern: prime, so that no power of two is a multiple of it and a piece in the wrong place shows.
const PERIOD: usize = 23;
/// Pieces up to this length are compared whole; of longer ones, this many bytes of both ends.
const COMPARED: usize = 1 << 10;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(COMPARED + PERIOD));

fn pattern(length: usize) -> Vec<u8> {
    (b'a'..).take(PERIOD).cycle().take(length).collect()
}

/// The pattern for whoever sends it in pieces.
pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    /// For pieces of at most `piece` bytes.
    pub(crate) fn new(piece: usize) -> Pattern {
        Pattern(pattern(piece + PERIOD))
    }

    /// The bytes from `offset` on, `left` at most.
    pub(crate) fn at(&self, offset: u64, left: u64) -> &[u8] {
        let start = usize::try_from(offset % PERIOD as u64).unwrap_or(0);
        let rest = &self.0[start..];
        &rest[..bounded(left, rest.len())]
    }
}

/// What can be wrong with an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection could not be made.
    Connect,
    /// Not an HTTP/1.1 head.
    Head,
    /// Any status but 200.
    Status,
    /// A body of another length than was agreed.
    Length,
    /// A body with other bytes.
    Content,
    /// The connection ended before the answer did.
    Cut,
    /// Bytes that nobody asked for.
    Surplus,
    /// No answer before the slice was given up.
    Timeout,
}

impl Fault {
    const ALL: [(Fault, &str); 8] = [
        (Fault::Connect, "could not connect"),
        (Fault::Head, "not HTTP"),
        (Fault::Status, "status other than 200"),
        (Fault::Length, "wrong length"),
        (Fault::Content, "wrong content"),
        (Fault::Cut, "cut short"),
        (Fault::Surplus, "unasked bytes"),
        (Fault::Timeout, "no answer in time"),
    ];
}

/// How often each fault was met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults([u64; Fault::ALL.len()]);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault, times: u64) {
        self.0[fault as usize] += times;
    }

    pub(crate) fn merge(&mut self, other: &Faults) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How often this one was met.
    #[cfg(test)]
    pub(crate) fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Those that were met, in words.
    pub(crate) fn describe(&self) -> String {
        let met = Fault::ALL.iter().filter(|(fault, _)| self.0[*fault as usize] > 0);
        let met: Vec<_> =
            met.map(|(fault, name)| format!("{name}: {}", self.0[*fault as usize])).collect();
        if met.is_empty() { "none".to_owned() } else { met.join(", ") }
    }
}

/// What a head says about the message it begins.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Where the body begins.
    pub(crate) end: usize,
    pub(crate) length: Option<u64>,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
}

/// Reads a head; `None` when it is not whole yet.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    let mut head = Head::default();
    let mut at = 0;
    for newline in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[at..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if at > 0 {
            if line.is_empty() {
                head.end = newline + 1;
                return Ok(Some(head));
            }
            field(line, &mut head)?;
        }
        at = newline + 1;
    }
    if bytes.len() > MAX_HEAD { Err(Fault::Head) } else { Ok(None) }
}

fn field(line: &[u8], head: &mut Head) -> Result<(), Fault> {
    // Only names that begin with one of these letters matter here; all others cost one comparison.
    if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
        return Ok(());
    }
    let colon = memchr::memchr(b':', line).ok_or(Fault::Head)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.eq_ignore_ascii_case(b"content-length") {
        head.length = Some(decimal(value).ok_or(Fault::Head)?);
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        head.chunked = value.eq_ignore_ascii_case(b"chunked");
    } else if name.eq_ignore_ascii_case(b"connection") {
        head.close |= value.eq_ignore_ascii_case(b"close");
    }
    Ok(())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// What a request asks of the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Health,
    Answer {
        /// Bytes of the answer's body.
        size: u64,
        /// Bytes of the request's body.
        upload: u64,
        hold: bool,
    },
}

/// Reads a request line; also whether the connection is kept by default.
pub(crate) fn request_line(bytes: &[u8]) -> Option<(Asked, bool)> {
    let line = &bytes[..memchr::memchr(b'\n', bytes)?];
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    let (_method, path, version) = (words.next()?, words.next()?, words.next()?);
    let kept = version == b"HTTP/1.1";
    if path == b"/healthz" {
        return Some((Asked::Health, kept));
    }
    let hold = path.starts_with(b"/hold/");
    let path = path.strip_prefix(b"/hold").unwrap_or(path).strip_prefix(b"/")?;
    let (size, upload) = match memchr::memchr(b'/', path) {
        Some(slash) => (&path[..slash], decimal(&path[slash + 1..])?),
        None => (path, 0),
    };
    let size = decimal(size).filter(|size| *size <= MAX_ANSWER)?;
    Some((Asked::Answer { size, upload, hold }, kept))
}

/// A body on its way in: how it ends, and how much of it came.
#[derive(Debug)]
pub(crate) struct Body {
    framing: Framing,
    /// Bytes of content so far.
    offset: u64,
}

#[derive(Debug)]
enum Framing {
    /// Bytes that are still to come.
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

#[derive(Debug)]
enum Chunk {
    /// In the line with the size; whether an extension has begun.
    Size(u64, bool),
    Data(u64),
    AfterData,
    /// In the trailers; whether the line has bytes.
    Trailers(bool),
    Over,
}

impl Body {
    /// The body of a request: absent when nothing says otherwise.
    pub(crate) fn of_request(head: &Head) -> Body {
        Body::framed(head, Framing::Length(0))
    }

    /// The body of an answer: until the end of the connection when nothing says otherwise.
    pub(crate) fn of_answer(head: &Head) -> Body {
        Body::framed(head, Framing::UntilClose)
    }

    fn framed(head: &Head, otherwise: Framing) -> Body {
        let framing = match head {
            Head { chunked: true, .. } => Framing::Chunked(Chunk::Size(0, false)),
            Head { length: Some(length), .. } => Framing::Length(*length),
            _ => otherwise,
        };
        Body { framing, offset: 0 }
    }

    /// Takes bytes of the connection and says how many of them belong to the body.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match &mut self.framing {
            Framing::Length(left) => {
                let mine = &bytes[..bounded(*left, bytes.len())];
                *left -= mine.len() as u64;
                self.content(mine)?;
                Ok(mine.len())
            }
            Framing::UntilClose => self.content(bytes).map(|()| bytes.len()),
            Framing::Chunked(_) => self.take_chunks(bytes),
        }
    }

    fn take_chunks(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        while let (Framing::Chunked(chunk), Some(byte)) = (&mut self.framing, bytes.get(at)) {
            if matches!(chunk, Chunk::Over) {
                break;
            }
            if let Chunk::Data(left) = chunk {
                let data = &bytes[at..][..bounded(*left, bytes.len() - at)];
                *left -= data.len() as u64;
                if *left == 0 {
                    *chunk = Chunk::AfterData;
                }
                at += data.len();
                self.content(data)?;
            } else {
                chunk.step(*byte)?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// Compares the next piece with the pattern.
    fn content(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let same = |offset: u64, part: &[u8]| {
            let start = usize::try_from(offset % PERIOD as u64).unwrap_or(0);
            part == &PATTERN[start..][..part.len()]
        };
        let fine = if piece.len() <= COMPARED {
            same(self.offset, piece)
        } else {
            let last = piece.len() - 64;
            same(self.offset, &piece[..64]) && same(self.offset + last as u64, &piece[last..])
        };
        self.offset += piece.len() as u64;
        if fine { Ok(()) } else { Err(Fault::Content) }
    }

    /// Whether its end has come without an end of the connection.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.framing, Framing::Length(0) | Framing::Chunked(Chunk::Over))
    }

    /// Whether an end of the connection is its end.
    pub(crate) fn ends_with_connection(&self) -> bool {
        matches!(self.framing, Framing::UntilClose)
    }

    /// Bytes of content so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.offset
    }
}

/// The smaller of both.
fn bounded(left: u64, have: usize) -> usize {
    usize::try_from(left).map_or(have, |left| left.min(have))
}

impl Chunk {
    /// Takes one byte of what is not data.
    fn step(&mut self, byte: u8) -> Result<(), Fault> {
        *self = match (&*self, byte) {
            (Chunk::Size(0, _), b'\n') => Chunk::Trailers(false),
            (Chunk::Size(size, _), b'\n') => Chunk::Data(*size),
            (Chunk::Size(size, _), b'\r') => Chunk::Size(*size, true),
            (Chunk::Size(size, _), b';' | b' ') => Chunk::Size(*size, true),
            (Chunk::Size(size, true), _) => Chunk::Size(*size, true),
            (Chunk::Size(size, false), _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Fault::Head)?;
                let size = size.checked_mul(16).ok_or(Fault::Head)?;
                Chunk::Size(size + u64::from(digit), false)
            }
            (Chunk::AfterData, b'\r') => Chunk::AfterData,
            (Chunk::AfterData, b'\n') => Chunk::Size(0, false),
            (Chunk::AfterData, _) => return Err(Fault::Head),
            (Chunk::Trailers(false), b'\n') => Chunk::Over,
            (Chunk::Trailers(_), b'\n') => Chunk::Trailers(false),
            (Chunk::Trailers(begun), b'\r') => Chunk::Trailers(*begun),
            (Chunk::Trailers(_), _) => Chunk::Trailers(true),
            (Chunk::Data(_) | Chunk::Over, _) => return Err(Fault::Surplus),
        };
        Ok(())
    }
}

/// Reads one answer after another from a connection.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// A head that is not whole yet.
    held: Vec<u8>,
    body: Option<Body>,
    /// Whether the answer said that it is the last one.
    pub(crate) last: bool,
}

impl Reader {
    /// Takes what was received and says whether an answer of `size` bytes is whole now.
    pub(crate) fn take(&mut self, bytes: &[u8], size: u64) -> Result<bool, Fault> {
        if let Some(body) = &mut self.body {
            let used = body.take(bytes)?;
            return self.judge(bytes.len() - used, size);
        }
        if self.held.is_empty() {
            let used = self.begin(bytes)?;
            return if used == 0 { Ok(false) } else { self.judge(bytes.len() - used, size) };
        }
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let used = self.begin(&held)?;
        if used == 0 { Ok(false) } else { self.judge(held.len() - used, size) }
    }

    /// Reads the head and what follows it; 0 when the head is not whole, and then it is held.
    fn begin(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let Some(head) = head(bytes)? else {
            self.held = bytes.to_vec();
            return Ok(0);
        };
        match bytes.get(..12) {
            Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'2', b'0', b'0']) => {}
            Some([b'H', b'T', b'T', b'P', b'/', ..]) => return Err(Fault::Status),
            _ => return Err(Fault::Head),
        }
        let mut body = Body::of_answer(&head);
        let used = body.take(&bytes[head.end..])?;
        self.body = Some(body);
        self.last = head.close;
        Ok(head.end + used)
    }

    fn judge(&mut self, surplus: usize, size: u64) -> Result<bool, Fault> {
        let Some(body) = self.body.take_if(|body| body.is_whole()) else { return Ok(false) };
        match (surplus, body.bytes() == size) {
            (0, true) => Ok(true),
            (_, true) => Err(Fault::Surplus),
            _ => Err(Fault::Length),
        }
    }

    /// Takes the end of the connection and says whether it is the proper end of the answer.
    pub(crate) fn end(&mut self, size: u64) -> Result<(), Fault> {
        match self.body.take() {
            Some(body) if body.ends_with_connection() && body.bytes() == size => Ok(()),
            Some(body) if body.ends_with_connection() => Err(Fault::Length),
            _ => Err(Fault::Cut),
        }
    }
}

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// GET with a Host field alone, 128 bytes back
    Bare,
    /// GET with a browser's 13 fields, 128 bytes back
    Browser,
    /// GET, 10 KiB back
    #[value(name = "10k")]
    Size10k,
    /// GET, 64 KiB back
    #[value(name = "64k")]
    Size64k,
    /// GET, 1 MiB back
    #[value(name = "1m")]
    Size1m,
    /// POST of 1 KiB, 128 bytes back
    Post,
    /// POST of 1 MiB, 128 bytes back
    Upload,
    /// GET with Connection: close on a connection of its own, 128 bytes back
    Close,
}

const BROWSER: &str = "Connection: keep-alive\r\nCache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"126\", \"Not.A/Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/126.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nAccept-Encoding: gzip, deflate, br\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n";

impl Shape {
    /// Bytes of the answer's body.
    pub(crate) fn answer(self) -> u64 {
        match self {
            Shape::Size10k => 10 << 10,
            Shape::Size64k => 64 << 10,
            Shape::Size1m => 1 << 20,
            _ => 128,
        }
    }

    fn upload(self) -> usize {
        match self {
            Shape::Post => 1 << 10,
            Shape::Upload => 1 << 20,
            _ => 0,
        }
    }

    /// Whether each request has a connection of its own.
    pub(crate) fn closes(self) -> bool {
        self == Shape::Close
    }

    /// The bytes of a request.
    pub(crate) fn request(self) -> Vec<u8> {
        let (size, upload) = (self.answer(), self.upload());
        let mut head = match upload {
            0 => format!("GET /{size} HTTP/1.1\r\nHost: benchmark.example\r\n"),
            _ => format!(
                "POST /{size}/{upload} HTTP/1.1\r\nHost: benchmark.example\r\n\
                 Content-Length: {upload}\r\n"
            ),
        };
        match self {
            Shape::Browser => head += BROWSER,
            Shape::Close => head += "Connection: close\r\n",
            _ => {}
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend(pattern(upload));
        bytes
    }
}

/// The bytes of a request whose answer the origin withholds.
pub(crate) fn held_request() -> Vec<u8> {
    b"GET /hold/128 HTTP/1.1\r\nHost: benchmark.example\r\n\r\n".to_vec()
}

/// The bytes of an answer with `size` bytes of body.
pub(crate) fn answer(status: &str, size: u64, last: bool) -> Vec<u8> {
    let close = if last { "Connection: close\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n{close}\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.extend(pattern(usize::try_from(size).unwrap_or(0)));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_heads_and_waits_for_whole_ones() {
        let bytes =
            b"GET / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH:  7 \r\nConnection: Close\r\n\r\nx";
        let found = head(bytes).unwrap().unwrap();
        assert_eq!(
            found,
            Head { end: bytes.len() - 1, length: Some(7), chunked: false, close: true }
        );
        for end in 0..bytes.len() - 1 {
            assert_eq!(head(&bytes[..end]), Ok(None), "{end}");
        }
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), Err(Fault::Head));
    }

    #[test]
    fn reads_what_a_path_asks_for() {
        let asked = |path: &str| request_line(format!("GET {path} HTTP/1.1\r\n").as_bytes());
        let answer = |size, upload, hold| Some((Asked::Answer { size, upload, hold }, true));
        assert_eq!(asked("/128"), answer(128, 0, false));
        assert_eq!(asked("/1/2"), answer(1, 2, false));
        assert_eq!(asked("/hold/5"), answer(5, 0, true));
        assert_eq!(asked("/healthz"), Some((Asked::Health, true)));
        assert_eq!(asked("/99999999999"), None);
        assert_eq!(asked("/x"), None);
        assert_eq!(request_line(b"GET /1 HTTP/1.0\r\n").map(|(_, kept)| kept), Some(false));
    }

    /// Feeds `bytes` in pieces of every length and expects the same of each.
    fn in_pieces(bytes: &[u8], size: u64, wanted: Result<bool, Fault>) {
        for length in 1..=bytes.len() {
            let mut reader = Reader::default();
            let mut found = Ok(false);
            for piece in bytes.chunks(length) {
                assert_eq!(found, Ok(false));
                found = reader.take(piece, size);
                if found.is_err() {
                    break;
                }
            }
            assert_eq!(found, wanted, "in pieces of {length}");
        }
    }

    #[test]
    fn accepts_the_agreed_body_in_both_framings_and_any_pieces() {
        in_pieces(&answer("200 OK", 40, false), 40, Ok(true));
        let body = String::from_utf8(pattern(40)).unwrap();
        let chunked = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             A;x=y\r\n{}\r\n1e\r\n{}\r\n0\r\nT: v\r\n\r\n",
            &body[..10],
            &body[10..]
        );
        in_pieces(chunked.as_bytes(), 40, Ok(true));
    }

    #[test]
    fn refuses_every_other_answer() {
        in_pieces(&answer("503 Service Unavailable", 40, false), 40, Err(Fault::Status));
        in_pieces(&answer("200 OK", 41, false), 40, Err(Fault::Length));
        let mut wrong = answer("200 OK", 40, false);
        *wrong.last_mut().unwrap() ^= 1;
        in_pieces(&wrong, 40, Err(Fault::Content));
        let mut long = answer("200 OK", 40, false);
        long.push(b'x');
        assert_eq!(Reader::default().take(&long, 40), Err(Fault::Surplus));
        assert_eq!(Reader::default().take(b"SSH-2.0-x\r\n\r\n", 0), Err(Fault::Head));
    }

    #[test]
    fn an_end_of_the_connection_ends_only_a_body_without_a_length() {
        let mut reader = Reader::default();
        let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        bytes.extend(pattern(30));
        assert_eq!(reader.take(&bytes, 30), Ok(false));
        assert_eq!(reader.end(30), Ok(()));
        let mut reader = Reader::default();
        let bytes = answer("200 OK", 30, false);
        assert_eq!(reader.take(&bytes[..bytes.len() - 1], 30), Ok(false));
        assert_eq!(reader.end(30), Err(Fault::Cut));
    }

    #[test]
    fn a_large_piece_in_the_wrong_place_shows() {
        let mut body = Body { framing: Framing::Length(4096), offset: 0 };
        assert_eq!(body.take(&pattern(4097)[1..]), Err(Fault::Content));
    }

    #[test]
    fn every_request_asks_for_what_its_shape_says() {
        for shape in Shape::value_variants() {
            let bytes = shape.request();
            let head = head(&bytes).unwrap().unwrap();
            let (asked, _) = request_line(&bytes).unwrap();
            let upload = (bytes.len() - head.end) as u64;
            assert_eq!(asked, Asked::Answer { size: shape.answer(), upload, hold: false });
            assert_eq!(head.length.unwrap_or(0), upload);
        }
        let fields = Shape::Browser.request().split(|byte| *byte == b'\n').count() - 3;
        assert_eq!(fields, 13);
    }
}
