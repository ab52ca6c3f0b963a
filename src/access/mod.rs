//! The access log: one entry for each exchange that ended. A worker's engine gathers entries in a [`Batch`]
//! and formats nothing; the writer's thread turns batches into lines.
//!
//! Invariants: a worker never waits for the writer (a batch that finds no room is dropped and counted); entries
//! are bounded in bytes, in a batch ([`MOST_BYTES`]) and in all that wait ([`writer::WAITING_BYTES`]); what a burst took
//! is given back.
//!
//! ```
//! use std::time::UNIX_EPOCH;
//!
//! use evenly::access::render::Renderer;
//! use evenly::access::{Batch, End, Facts, LogPhase, push_part};
//! use evenly::base::tick::Tick;
//! use evenly::reason::Reason;
//! use evenly::settings::AccessFormat;
//!
//! // A worker: facts as numbers, text as it came.
//! let mut batch = Batch::default();
//! let mut text = Vec::new();
//! for part in ["GET", "/", "HTTP/1.1", "example.org", "", "curl/8.5", "", ""] {
//!     push_part(&mut text, part.as_bytes());
//! }
//! let facts = Facts {
//!     at: Tick(0),
//!     duration: 3_000,
//!     connect: None,
//!     first_byte: None,
//!     client: [192, 0, 2, 1].into(),
//!     listener: None,
//!     endpoint: None,
//!     attempts: 0,
//!     status: 503,
//!     bytes_in: 0,
//!     bytes_out: 0,
//!     end: End::Answered,
//!     phase: LogPhase::Connect,
//!     cause: Some(Reason::DestinationUnavailable.into()),
//! };
//! assert!(batch.push(facts, [b"a-request-id", b"a-target"], &text));
//!
//! // The writer: lines.
//! let mut renderer = Renderer::new(&AccessFormat::Combined);
//! let mut lines = Vec::new();
//! for (facts, parts) in batch.entries() {
//!     renderer.line(UNIX_EPOCH, facts, &parts, &mut lines);
//! }
//! assert_eq!(
//!     String::from_utf8_lossy(&lines),
//!     "192.0.2.1 - - [01/Jan/1970:00:00:00 +0000] \"GET / HTTP/1.1\" 503 0 \"-\" \"curl/8.5\"\n"
//! );
//! ```

pub mod dates;
pub mod recorder;
pub mod render;
pub mod writer;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::address::Address;
use crate::base::tick::Tick;
use crate::metrics::histogram::Histogram;
use crate::reason::{Cause, Party, Reason};

/// Entries after which a batch is full.
const BATCH_ENTRIES: usize = 512;
/// Bytes of entries after which a batch is full.
const BATCH_BYTES: usize = 128 * 1024;
/// Bytes of entries that a batch takes at most: a turn may end more exchanges than fill one.
pub const MOST_BYTES: usize = 1024 * 1024;
/// Memory that a batch without an entry keeps.
const KEPT_BYTES: usize = 256 * 1024;
/// How long an entry waits at most before its batch goes to the writer.
pub const BATCH_TIME: Duration = Duration::from_millis(100);
/// How many [`TextPart`]s there are.
pub const PARTS: usize = 11;
/// Bytes that are kept of a request that is not valid.
pub const MAX_LINE: usize = 256;

/// The parts of an entry's text, in their order. Each ends with a NUL, which no head can hold, but for the last, which has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextPart {
    /// How the request is called.
    RequestId,
    /// The target that got it, as configured.
    Target,
    /// Its method.
    Method,
    /// Its target.
    Uri,
    /// Its version.
    Protocol,
    /// Its Host.
    Host,
    /// Its Referer.
    Referer,
    /// Its User-Agent.
    UserAgent,
    /// The trace that it belongs to.
    TraceId,
    /// The address that a trusted proxy has it from.
    Forwarded,
    /// The beginning of one that is not valid, of which nothing else is known.
    Line,
}

/// In which phase an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPhase {
    /// The request was read, and no endpoint was asked.
    Request,
    /// A connection to an endpoint was opened.
    Connect,
    /// An endpoint had the request, and its response had not begun.
    Wait,
    /// The response was passed on.
    Response,
    /// It was a tunnel.
    Tunnel,
}

impl LogPhase {
    /// One word for a line.
    pub fn as_str(self) -> &'static str {
        match self {
            LogPhase::Request => "request",
            LogPhase::Connect => "connect",
            LogPhase::Wait => "wait",
            LogPhase::Response => "response",
            LogPhase::Tunnel => "tunnel",
        }
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The target's response was passed on whole.
    Finished,
    /// By a response that evenly generated.
    Answered,
    /// The response had begun and was cut.
    Cut,
    /// The client closed its connection before the response was whole.
    ClientClosed,
    /// It had become a tunnel, which one of the two closed.
    TunnelClosed,
    /// It had become a tunnel, in which nothing was said for `timeouts.tunnel_idle`.
    TunnelIdle,
}

impl End {
    /// One word for a line.
    pub fn as_str(self) -> &'static str {
        match self {
            End::Finished => "finished",
            End::Answered => "answered",
            End::Cut => "cut",
            End::ClientClosed => "client-closed",
            End::TunnelClosed => "tunnel-closed",
            End::TunnelIdle => "tunnel-idle",
        }
    }
}

/// What is known of one exchange beside its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// When the request's head was whole.
    pub at: Tick,
    /// From then to the end, in microseconds.
    pub duration: u64,
    /// How long the last connect took, in microseconds, unless a connection of the pool was used.
    pub connect: Option<u64>,
    /// From `at` to the first byte of the response, in microseconds.
    pub first_byte: Option<u64>,
    /// Who is at the other end of the client's connection, or whom the trusted proxy there has it from.
    pub client: IpAddr,
    /// The address that its connection was accepted at, if that is known.
    pub listener: Option<SocketAddr>,
    /// Who got the request, if anybody did.
    pub endpoint: Option<Address>,
    /// How often a connection for it was opened or taken from the pool.
    pub attempts: u32,
    /// The status sent to the client; 0 if none was.
    pub status: u16,
    /// Bytes of the body that the client sent.
    pub bytes_in: u64,
    /// Bytes of the body sent to the client.
    pub bytes_out: u64,
    /// How it ended.
    pub end: End,
    /// How far it was then.
    pub phase: LogPhase,
    /// Why it was answered by us or cut; `None` otherwise.
    pub cause: Option<Cause>,
}

impl Facts {
    /// Who ended it, in one word, unless it ended as it should.
    pub fn ended_by(&self) -> Option<&'static str> {
        match self.end {
            End::Finished | End::TunnelClosed => None,
            End::ClientClosed => Some("client"),
            End::Answered | End::Cut | End::TunnelIdle => {
                Some(self.cause.map_or(Party::Own, |cause| cause.reason.party()).word())
            }
        }
    }

    /// In which phase, likewise.
    pub fn phase(&self) -> Option<&'static str> {
        self.ended_by().map(|_| self.phase.as_str())
    }
}

/// An exchange under way: what its entry will say of the request.
#[derive(Debug, Default)]
pub struct Pending {
    /// When the request's head was whole.
    pub at: Tick,
    /// Since when the connection is opened that is waited for, or that was opened last.
    pub dialed: Option<Tick>,
    /// When the last connection that was opened was there.
    pub connected: Option<Tick>,
    /// When the response began.
    pub first_byte: Option<Tick>,
    /// Who has the request.
    pub endpoint: Option<Address>,
    /// That target, as configured; empty so far.
    pub target: Vec<u8>,
    /// How often a connection for it was opened or taken from the pool.
    pub attempts: u32,
    /// Bytes of the request's body so far.
    pub bytes_in: u64,
    /// Bytes of the response's body so far.
    pub bytes_out: u64,
    /// Why it is answered by us or cut, if it is.
    pub cause: Option<Cause>,
    /// The text parts from [`TextPart::Method`] on.
    pub text: Vec<u8>,
    /// They are all that the access log says, and not only what the flight recorder does.
    pub described: bool,
}

impl Pending {
    /// Gives back what a long head took, before it waits to be used again.
    pub fn rest(&mut self) {
        const KEPT: usize = 1024;
        if self.text.capacity() > KEPT {
            self.text = Vec::new();
        }
    }

    /// Begins anew, with text that is for the access log, or else for the flight recorder alone. Takes that text, and leaves
    /// its own memory for the next.
    pub fn begin(&mut self, at: Tick, text: &mut Vec<u8>, described: bool) {
        std::mem::swap(&mut self.text, text);
        self.target.clear();
        (self.at, self.described) = (at, described);
        (self.dialed, self.connected, self.first_byte) = (None, None, None);
        (self.endpoint, self.cause) = (None, None);
        (self.attempts, self.bytes_in, self.bytes_out) = (0, 0, 0);
    }

    /// A connection is opened.
    pub fn dial(&mut self, now: Tick) {
        self.attempts += 1;
        self.dialed = Some(now);
        self.connected = None;
    }

    /// The first byte of the response is there. Of a response of the target that is not passed on, ours comes later.
    pub fn begin_response(&mut self, now: Tick, times: &Histogram) {
        if self.first_byte.is_none() {
            times.observe(now.micros_since(self.at));
        }
        self.first_byte = Some(now);
    }

    /// It was sent to this endpoint of a target.
    pub fn sent_to(&mut self, endpoint: &Address, target: &str) {
        self.endpoint = Some(endpoint.clone());
        self.target.clear();
        self.target.extend_from_slice(target.as_bytes());
    }

    /// The address that a trusted proxy has it from, if that is one.
    pub fn forwarded(&self) -> Option<IpAddr> {
        let nth = TextPart::Forwarded as usize - TextPart::Method as usize;
        let part = self.text.split(|&byte| byte == 0).nth(nth)?;
        std::str::from_utf8(part).ok()?.parse().ok()
    }

    /// What is known when it ends: so, now, for a client of this address that came by that listener, with this status, and as a tunnel or not.
    pub fn facts(
        &mut self,
        now: Tick,
        end: End,
        (client, listener): (IpAddr, Option<SocketAddr>),
        status: u16,
        is_tunnel: bool,
    ) -> Facts {
        let since = |begun: Tick, at: Option<Tick>| at.map(|at| at.micros_since(begun));
        Facts {
            at: self.at,
            duration: now.micros_since(self.at),
            connect: self.dialed.and_then(|dialed| since(dialed, self.connected)),
            first_byte: since(self.at, self.first_byte),
            client,
            listener,
            phase: self.phase(is_tunnel, end == End::Answered),
            endpoint: self.endpoint.take(),
            attempts: self.attempts,
            status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            end,
            cause: match end {
                End::Answered | End::Cut => self.cause,
                End::ClientClosed => Some(Reason::ClientClosed.into()),
                End::TunnelIdle => Some(Reason::TunnelIdleTimeout.into()),
                End::Finished | End::TunnelClosed => None,
            },
        }
    }

    /// How far it is. A response of ours, which `is_answered` here, has no phase of its own.
    pub fn phase(&self, is_tunnel: bool, is_answered: bool) -> LogPhase {
        match (self.first_byte, self.dialed, self.connected) {
            _ if is_tunnel => LogPhase::Tunnel,
            (Some(_), _, _) if !is_answered => LogPhase::Response,
            (_, Some(_), None) => LogPhase::Connect,
            _ if self.endpoint.is_some() => LogPhase::Wait,
            _ => LogPhase::Request,
        }
    }
}

/// Appends one text part.
pub fn push_part(text: &mut Vec<u8>, part: &[u8]) {
    text.extend_from_slice(part);
    text.push(0);
}

/// Appends the text parts from [`TextPart::Method`] on of a request that is not valid: of the bytes that came, those of the first line that is
/// not empty, and [`MAX_LINE`] at most.
pub fn push_refused(text: &mut Vec<u8>, came: &[u8]) {
    text.resize(text.len() + TextPart::Line as usize - TextPart::Method as usize, 0);
    let from = came.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(came.len());
    let line = came.get(from..).unwrap_or_default();
    let len = memchr::memchr2(b'\r', b'\n', line).unwrap_or(line.len());
    text.extend_from_slice(&line[..len.min(MAX_LINE)]);
}

/// Entries on their way to the writer.
#[derive(Debug, Default)]
pub struct Batch {
    facts: Vec<(Facts, usize)>,
    text: Vec<u8>,
}

impl Batch {
    /// Adds one entry: its first two text parts, and the `text` of the others. `false` if it finds no room.
    #[must_use]
    pub fn push(&mut self, facts: Facts, first: [&[u8]; 2], text: &[u8]) -> bool {
        let len: usize = first.iter().map(|part| part.len() + 1).sum();
        if self.bytes() + len + text.len() > MOST_BYTES {
            return false;
        }
        for part in first {
            push_part(&mut self.text, part);
        }
        self.text.extend_from_slice(text);
        self.facts.push((facts, self.text.len()));
        true
    }

    /// Empties it. Keeps its memory, unless that is much.
    pub fn clear(&mut self) {
        self.facts.clear();
        self.text.clear();
        if self.memory() > KEPT_BYTES {
            *self = Batch::default();
        }
    }

    /// Whether it should be handed over before others come.
    pub fn is_full(&self) -> bool {
        self.len() >= BATCH_ENTRIES || self.bytes() >= BATCH_BYTES
    }

    fn bytes(&self) -> usize {
        self.text.len() + self.facts.len() * size_of::<(Facts, usize)>()
    }

    /// Bytes of memory that it holds.
    pub fn memory(&self) -> usize {
        self.text.capacity() + self.facts.capacity() * size_of::<(Facts, usize)>()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// The entries, each with its text parts.
    pub fn entries(&self) -> impl Iterator<Item = (&Facts, [&[u8]; PARTS])> {
        let mut from = 0;
        self.facts.iter().map(move |(facts, to)| {
            let text = self.text.get(from..*to).unwrap_or_default();
            from = *to;
            (facts, parts_of(text))
        })
    }
}

fn parts_of(text: &[u8]) -> [&[u8]; PARTS] {
    let mut from = 0;
    let mut ends = memchr::memchr_iter(0, text);
    std::array::from_fn(|nth| {
        let end = if nth == TextPart::Line as usize { None } else { ends.next() };
        let to = end.unwrap_or(text.len());
        let part = text.get(from..to).unwrap_or_default();
        from = to + 1;
        part
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_NAMES: [&[u8]; 2] = [b""; 2];

    fn facts() -> Facts {
        Facts {
            at: Tick(5),
            duration: 7,
            connect: None,
            first_byte: None,
            client: IpAddr::from([127, 0, 0, 1]),
            listener: None,
            endpoint: None,
            attempts: 1,
            status: 200,
            bytes_in: 0,
            bytes_out: 3,
            end: End::Finished,
            phase: LogPhase::Response,
            cause: None,
        }
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_gives_back_what_a_burst_took() {
        for length in [0, 300, 16 * 1024, MOST_BYTES / 2, MOST_BYTES + 1] {
            let mut batch = Batch::default();
            let text = vec![b'x'; length];
            let taken = (0..50_000).take_while(|_| batch.push(facts(), NO_NAMES, &text)).count();
            assert_eq!(taken > 0, length < MOST_BYTES, "{length}");
            assert_eq!(batch.len(), taken);
            assert!(batch.is_full() || taken == 0);
            assert!(batch.memory() <= 2 * MOST_BYTES + 1024, "{length}: {}", batch.memory());
            batch.clear();
            assert!(batch.is_empty() && !batch.is_full() && batch.memory() <= KEPT_BYTES);
        }
    }

    #[test]
    fn an_ordinary_batch_keeps_its_memory() {
        let mut batch = Batch::default();
        while !batch.is_full() {
            assert!(batch.push(facts(), [b"id", b"target"], &[b'x'; 150]));
        }
        let memory = batch.memory();
        batch.clear();
        assert_eq!(batch.memory(), memory);
        let mut pending = Pending::default();
        for (length, kept) in [(600, true), (16_000, false), (600, true)] {
            pending.begin(Tick(0), &mut vec![b'x'; length], true);
            pending.rest();
            assert_eq!(pending.text.capacity() > 0, kept, "{length}");
        }
    }

    #[test]
    fn entries_come_out_as_they_went_in() {
        let facts = facts();
        let mut batch = Batch::default();
        let parts =
            [&b"GET"[..], b"/a", b"HTTP/1.1", b"host", b"", b"agent", b"trace", b"192.0.2.7"];
        let mut text = Vec::new();
        for part in parts {
            push_part(&mut text, part);
        }
        assert!(batch.push(facts.clone(), [b"id", b"target"], &text));
        assert!(batch.push(facts.clone(), NO_NAMES, b""));
        let mut text = Vec::new();
        push_refused(&mut text, b"\r\n\x16\x03\0\x01 \0x\nmore");
        assert!(batch.push(facts, [b"id", b""], &text));
        let got: Vec<_> = batch.entries().map(|(_, parts)| parts).collect();
        assert_eq!(got[0][..2], [&b"id"[..], b"target"]);
        assert_eq!(got[0][2..PARTS - 1], parts);
        assert_eq!(got[0][TextPart::Line as usize], b"");
        assert_eq!(got[1], [&b""[..]; PARTS]);
        assert_eq!(got[2][TextPart::RequestId as usize], b"id");
        assert_eq!(got[2][TextPart::Line as usize], b"\x16\x03\0\x01 \0x");
        assert!(got[2][1..PARTS - 1].iter().all(|part| part.is_empty()));
    }

    #[test]
    fn of_a_request_that_is_not_valid_a_bounded_line_is_kept() {
        for (came, line) in [
            (&b""[..], &b""[..]),
            (b"\r\n\r\n", b""),
            (b"GET /\r\nA: secret\r\n", b"GET /"),
            (b"\n\nGET", b"GET"),
            (&[b'x'; 5_000], &[b'x'; MAX_LINE]),
        ] {
            let mut text = Vec::new();
            push_refused(&mut text, came);
            assert_eq!(parts_of(&[b"\0\0", &text[..]].concat())[TextPart::Line as usize], line);
        }
    }
}
