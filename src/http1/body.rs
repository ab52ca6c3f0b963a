//! Bodies: taking a message's payload out of the bytes that carry it, and framing it anew (RFC 9112 section 7).
//!
//! Owns: chunk lines, chunk data, trailers and the end of the body. Does not own: the bytes, which stay where they are.
//! Invariants: payload is never copied but to close the gaps between chunks of one call; whatever is not consumed is
//! shorter than a limit; nothing behind the end is touched.

use std::ops::Range;

use super::line::{self, Line};
use super::{BodyLength, Fault, HeadLimits};
use crate::http::kind::Kind;
use crate::http::syntax::{self, TOKEN};

/// The last chunk; trailer lines and an empty line follow.
pub const LAST_CHUNK: &[u8] = b"0\r\n";

/// The longest chunk line, size, extensions and CRLF together.
const MAX_CHUNK_LINE: usize = 1024;

/// Hex digits of a chunk size, leading zeros included.
const MAX_SIZE_DIGITS: usize = 16;

/// How many bytes of extensions may come beyond one for each byte of payload: extensions are read for nothing.
const MAX_IDLE_EXTENSIONS: u16 = 16 * 1024;

/// Reads one body. After an error it must not be used again.
///
/// Two words: every connection has room for one in each direction.
#[derive(Clone, Copy, Debug)]
pub struct BodyDecoder {
    state: BodyState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    /// So many bytes are left; more than 0.
    Length(u64),
    UntilClose,
    /// At the start of a chunk line.
    ChunkLine {
        idle: Idle,
    },
    /// So many bytes of the chunk are left; more than 0.
    Chunk {
        left: u64,
        idle: Idle,
    },
    /// At the CRLF behind a chunk.
    ChunkEnd {
        idle: Idle,
    },
    /// At the start of the trailer section.
    Trailers,
    Done,
}

/// What is remembered from one chunk to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Idle {
    /// Bytes of chunk extensions beyond one for each byte of payload; at most [`MAX_IDLE_EXTENSIONS`].
    bytes: u16,
    /// A response's: white space may follow a size.
    padded: bool,
}

impl Idle {
    /// After so many bytes of payload.
    fn less(self, payload: u16) -> Self {
        Self { bytes: self.bytes.saturating_sub(payload), ..self }
    }
}

/// What one call took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of input that are done with; the rest is to be handed in again, with more behind it.
    pub consumed: usize,
    /// Where the payload stands in the input now.
    pub data: Range<usize>,
    /// Has the body ended?
    pub done: bool,
}

impl BodyDecoder {
    /// A decoder of no body.
    pub const NOTHING: BodyDecoder = BodyDecoder { state: BodyState::Done };

    /// A decoder at the first byte of a request's body.
    #[must_use]
    pub fn new(length: BodyLength) -> Self {
        Self::with(length, false)
    }

    /// A decoder at the first byte of a response's body: some servers pad the sizes of their chunks with spaces, which nobody
    /// reads as anything else.
    #[must_use]
    pub fn of_response(length: BodyLength) -> Self {
        Self::with(length, true)
    }

    fn with(length: BodyLength, padded: bool) -> Self {
        let state = match length {
            BodyLength::None | BodyLength::Length(0) => BodyState::Done,
            BodyLength::Length(length) => BodyState::Length(length),
            BodyLength::Chunked => BodyState::ChunkLine { idle: Idle { bytes: 0, padded } },
            BodyLength::UntilClose => BodyState::UntilClose,
        };
        Self { state }
    }

    /// Takes as much of `input` as it can. Payload of chunks is moved together in place, so that all of this call
    /// lies in `input[data]`; the first run stays where it is. Trailer fields that may pass are appended to `trailers`
    /// as `name: value` lines with CRLF; those that RFC 9110 section 6.5.1 rules out are dropped. `limits` holds for
    /// the trailer section alone.
    ///
    /// # Errors
    /// A chunk that is not exact or a trailer section beyond its limits, as soon as its byte is there.
    pub fn decode(
        &mut self,
        input: &mut [u8],
        limits: HeadLimits,
        trailers: &mut Vec<u8>,
    ) -> Result<Decoded, Fault> {
        let mut decoded = Decoded { consumed: 0, data: 0..0, done: false };
        self.decode_up_to_fault(input, limits, trailers, &mut decoded)?;
        Ok(decoded)
    }

    /// Likewise. If there is a fault, `decoded` says what stands before it.
    ///
    /// # Errors
    /// As [`BodyDecoder::decode`].
    pub fn decode_up_to_fault(
        &mut self,
        input: &mut [u8],
        limits: HeadLimits,
        trailers: &mut Vec<u8>,
        decoded: &mut Decoded,
    ) -> Result<(), Fault> {
        let taken = match self.state {
            BodyState::Done => 0,
            BodyState::UntilClose => input.len(),
            BodyState::Length(left) => {
                let (taken, left) = take(left, input.len());
                self.state = if left == 0 { BodyState::Done } else { BodyState::Length(left) };
                taken
            }
            _ => {
                let before = trailers.len();
                let result = self.decode_chunks(input, limits, trailers, decoded);
                decoded.done = self.is_done();
                if result.is_err() {
                    trailers.truncate(before);
                }
                return result;
            }
        };
        *decoded = Decoded { consumed: taken, data: 0..taken, done: self.is_done() };
        Ok(())
    }

    /// The peer closed.
    ///
    /// # Errors
    /// The body was not at its end: it is cut short (RFC 9112 section 8).
    pub fn finish_at_close(&mut self) -> Result<(), Fault> {
        match self.state {
            BodyState::Done | BodyState::UntilClose => {
                self.state = BodyState::Done;
                Ok(())
            }
            _ => Err(Fault::ClosedInBody),
        }
    }

    /// Has the body ended?
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == BodyState::Done
    }

    fn decode_chunks(
        &mut self,
        input: &mut [u8],
        limits: HeadLimits,
        trailers: &mut Vec<u8>,
        decoded: &mut Decoded,
    ) -> Result<(), Fault> {
        let Decoded { consumed, data, .. } = decoded;
        loop {
            let rest = input.get(*consumed..).unwrap_or_default();
            let step = match self.state {
                BodyState::ChunkLine { idle } => {
                    if let Some((size, behind)) = tiny_chunk(rest) {
                        let payload = *consumed + 3..*consumed + 3 + usize::from(size);
                        gather(input, data, payload);
                        *consumed += behind;
                        self.state = BodyState::ChunkLine { idle: idle.less(size.into()) };
                        continue;
                    }
                    self.chunk_line(idle, rest)?
                }
                BodyState::Chunk { left, idle } => {
                    let (taken, left) = take(left, rest.len());
                    self.state = match left {
                        0 => BodyState::ChunkEnd { idle },
                        left => BodyState::Chunk { left, idle },
                    };
                    gather(input, data, *consumed..*consumed + taken);
                    taken
                }
                BodyState::ChunkEnd { idle } => self.chunk_end(idle, rest)?,
                BodyState::Trailers => self.trailer_section(rest, limits, trailers)?,
                BodyState::Length(_) | BodyState::UntilClose | BodyState::Done => 0,
            };
            if step == 0 {
                return Ok(());
            }
            *consumed += step;
        }
    }

    /// The functions below return the bytes they took; 0 for as long as more are needed.
    fn chunk_line(&mut self, idle: Idle, rest: &[u8]) -> Result<usize, Fault> {
        let Some(line) = ChunkLine::read(rest, idle.padded)? else { return Ok(0) };
        let bytes = u64::from(idle.bytes) + line.extension as u64;
        let bytes = u16::try_from(bytes.saturating_sub(line.size)).unwrap_or(u16::MAX);
        if bytes > MAX_IDLE_EXTENSIONS {
            return Err(Fault::ChunkExtensions);
        }
        let idle = Idle { bytes, ..idle };
        self.state = match line.size {
            0 => BodyState::Trailers,
            left => BodyState::Chunk { left, idle },
        };
        Ok(line.len)
    }

    fn chunk_end(&mut self, idle: Idle, rest: &[u8]) -> Result<usize, Fault> {
        match rest {
            [] | [b'\r'] => Ok(0),
            [b'\r', b'\n', ..] => {
                self.state = BodyState::ChunkLine { idle };
                Ok(2)
            }
            _ => Err(Fault::ChunkEnd),
        }
    }

    /// Takes the section whole or not at all: all its fields leave behind one last chunk.
    fn trailer_section(
        &mut self,
        rest: &[u8],
        limits: HeadLimits,
        out: &mut Vec<u8>,
    ) -> Result<usize, Fault> {
        let before = out.len();
        let mut section = TrailerSection { room: limits.bytes, fields: limits.fields };
        let mut taken = 0;
        loop {
            match section.line(rest.get(taken..).unwrap_or_default(), out)? {
                TrailerLine::Part => {
                    out.truncate(before);
                    return Ok(0);
                }
                TrailerLine::Field(len) => taken += len,
                TrailerLine::End(len) => {
                    self.state = BodyState::Done;
                    return Ok(taken + len);
                }
            }
        }
    }
}

/// What a trailer section may still have: bytes of lines and fields.
struct TrailerSection {
    room: usize,
    fields: usize,
}

/// One line of a trailer section, with its bytes.
enum TrailerLine {
    Part,
    Field(usize),
    End(usize),
}

impl TrailerSection {
    fn line(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Result<TrailerLine, Fault> {
        let line = match line::next_line(rest)? {
            Line::Whole([], _) => return Ok(TrailerLine::End(2)),
            Line::Whole(line, _) if line.len() + 2 <= self.room => line,
            Line::Part(line) if line.is_empty() || line.len() + 2 <= self.room => {
                return line::field_line_in_part(line).map(|()| TrailerLine::Part);
            }
            _ => return Err(Fault::LargeTrailers),
        };
        self.room -= line.len() + 2;
        let too_many = Fault::TooManyTrailers;
        self.fields = self.fields.checked_sub(1).ok_or(too_many)?;
        let (name, value) = line::field_line(line)?;
        if may_trail(name) {
            append_line(name, value, out);
        }
        Ok(TrailerLine::Field(line.len() + 2))
    }
}

fn append_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// A whole chunk of 1 to 15 bytes with the plainest of lines at the start of `rest`: its size, and where the next line
/// begins. What is not as plain as that is for the general way, which takes three times as long; a peer that sends
/// nothing but tiny chunks should cost no more than it must.
fn tiny_chunk(rest: &[u8]) -> Option<(u8, usize)> {
    let [digit, b'\r', b'\n', payload @ ..] = rest else { return None };
    let size = match digit {
        b'1'..=b'9' => digit - b'0',
        b'a'..=b'f' | b'A'..=b'F' => (digit | 0x20) - b'a' + 10,
        _ => return None,
    };
    let end = usize::from(size);
    (payload.get(end..end + 2)? == b"\r\n").then_some((size, end + 5))
}

/// How many of `left` bytes are among `available` ones, and how many are left then.
fn take(left: u64, available: usize) -> (usize, u64) {
    let taken = usize::try_from(left).map_or(available, |left| left.min(available));
    (taken, left - taken as u64)
}

/// Adds `run` to the payload, moving it up to what is there.
fn gather(input: &mut [u8], data: &mut Range<usize>, run: Range<usize>) {
    if data.start == data.end {
        *data = run;
    } else {
        let len = run.len();
        match len {
            // A call to move one byte costs more than the byte.
            1 => input[data.end] = input[run.start],
            _ => input.copy_within(run, data.end),
        }
        data.end += len;
    }
}

/// `chunk-size [ chunk-ext ] CRLF`
struct ChunkLine {
    size: u64,
    /// Bytes of the extensions.
    extension: usize,
    /// Bytes of all of it.
    len: usize,
}

impl ChunkLine {
    /// The line at the start of `rest`; None as long as it has no end and no fault.
    /// `padded`: white space without an extension may follow the size.
    fn read(rest: &[u8], padded: bool) -> Result<Option<Self>, Fault> {
        let is_hex = |byte: &&u8| byte.is_ascii_hexdigit();
        let digits = rest.iter().take(MAX_SIZE_DIGITS + 1).take_while(is_hex).count();
        if digits > MAX_SIZE_DIGITS || (digits == 0 && !rest.is_empty()) {
            return Err(Fault::ChunkSize);
        }
        let (size, after) = rest.split_at(digits);
        let line = match after {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => Line::Whole(b"", b""),
            [b';' | b' ' | b'\t', ..] => {
                line::next_line(&after[..after.len().min(MAX_CHUNK_LINE - digits)])?
            }
            _ => return Err(Fault::ChunkSize),
        };
        match line {
            Line::Whole(extension, _) => {
                if !(padded && syntax::trim(extension).is_empty()) {
                    extensions(extension)?;
                }
                let len = digits + extension.len() + 2;
                Ok(Some(Self { size: hex(size)?, extension: extension.len(), len }))
            }
            Line::Part(_) if rest.len() >= MAX_CHUNK_LINE => Err(Fault::LongChunkLine),
            Line::Part(part) => match syntax::all(part, syntax::VALUE) {
                true => Ok(None),
                false => Err(Fault::ChunkExtensionCharacter),
            },
        }
    }
}

/// At most `i64::MAX`, as for Content-Length.
fn hex(digits: &[u8]) -> Result<u64, Fault> {
    let digit = |byte: u8| (byte as char).to_digit(16).map_or(0, u64::from);
    let size = digits.iter().fold(0u64, |size, &byte| (size << 4) | digit(byte));
    (size <= i64::MAX.unsigned_abs()).then_some(size).ok_or(Fault::LargeChunk)
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 section 7.1.1).
fn extensions(mut rest: &[u8]) -> Result<(), Fault> {
    let malformed = Fault::ChunkExtension;
    while !rest.is_empty() {
        rest = trim_start(rest).strip_prefix(b";").ok_or(malformed)?;
        rest = token(trim_start(rest)).ok_or(malformed)?;
        if let Some(value) = trim_start(rest).strip_prefix(b"=") {
            let value = trim_start(value);
            let after = if value.starts_with(b"\"") { quoted(value) } else { token(value) };
            rest = after.ok_or(malformed)?;
        }
    }
    Ok(())
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[blank..]
}

/// What follows a token; None without one.
fn token(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes.iter().take_while(|&&byte| syntax::is(byte, TOKEN)).count();
    (len > 0).then(|| &bytes[len..])
}

/// What follows a quoted-string (RFC 9110 section 5.6.4); None without one.
fn quoted(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', byte, after @ ..] | [byte, after @ ..] if syntax::is(*byte, syntax::VALUE) => {
                after
            }
            _ => return None,
        };
    }
}

/// Names that have no business in trailers (RFC 9110 section 6.5.1): authentication, routing, request modifiers,
/// response control. Framing, hop-by-hop and forwarded fields are known by their [`Kind`], content by its prefix.
const NEVER_TRAILING: [&str; 29] = [
    "age",
    "authentication-info",
    "authorization",
    "cache-control",
    "cookie",
    "date",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "origin",
    "pragma",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "alt-svc",
];

fn may_trail(name: &[u8]) -> bool {
    let is_content = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"));
    Kind::of(name) == Kind::Plain
        && !is_content
        && !NEVER_TRAILING.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()))
}

/// How a body that is sent on is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoder {
    /// It is not sent in chunks.
    AsIs,
    /// More chunks may come.
    Chunks,
    /// The last chunk was sent.
    Trailers,
}

impl BodyEncoder {
    /// At the first byte of a body.
    #[must_use]
    pub fn new(chunked: bool) -> Self {
        if chunked { Self::Chunks } else { Self::AsIs }
    }

    /// Frames what was decoded as one chunk, and trailers and the end of the body as they come (RFC 9112 section 7.1): appends what
    /// goes before the data and what goes behind it, and takes the `trailers`. Nothing for a body that is not sent in chunks.
    pub fn frame(
        &mut self,
        decoded: &Decoded,
        trailers: &mut Vec<u8>,
        (before, behind): (&mut Vec<u8>, &mut Vec<u8>),
    ) {
        if *self == Self::AsIs {
            return;
        }
        if !decoded.data.is_empty() {
            chunk_head(decoded.data.len(), before);
            behind.extend_from_slice(b"\r\n");
        }
        if (decoded.done || !trailers.is_empty())
            && std::mem::replace(self, Self::Trailers) == Self::Chunks
        {
            behind.extend_from_slice(LAST_CHUNK);
        }
        behind.append(trailers);
        if decoded.done {
            behind.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends the line that begins a chunk of `len` > 0 bytes; the data and a CRLF follow.
pub fn chunk_head(len: usize, out: &mut Vec<u8>) {
    debug_assert!(len > 0, "a chunk of nothing would end the body");
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[len >> (place * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}
