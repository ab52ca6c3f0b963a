//! The access log: one entry for each exchange that ended. A worker's engine gathers entries in a [`Batch`]
//! and formats nothing; the writer's thread turns batches into lines.
//!
//! Invariants: a worker never waits for the writer (a batch that finds no room is dropped and counted); entries
//! are bounded in bytes, in a batch ([`MOST_BYTES`]) and in all that wait ([`writer::WAITING_BYTES`]); what a burst took
//! is given back.
//!
//! ```
//! use std::time::{Duration, UNIX_EPOCH};
//!
//! use evenly::access::render::Renderer;
//! use evenly::access::{Batch, End, Facts, push_part};
//! use evenly::base::tick::Tick;
//! use evenly::settings::AccessFormat;
//!
//! // A worker: facts as numbers, text as it came.
//! let mut batch = Batch::default();
//! let mut text = Vec::new();
//! for part in ["GET / HTTP/1.1", "example.org", "", "curl/8.5"] {
//!     push_part(&mut text, &[part.as_bytes()]);
//! }
//! let facts = Facts {
//!     at: Tick(0),
//!     duration: Duration::from_millis(3),
//!     client: [192, 0, 2, 1].into(),
//!     upstream: None,
//!     status: 503,
//!     bytes: 0,
//!     end: End::Answered,
//!     reason: "No endpoint could take the request.",
//! };
//! assert!(batch.push(facts, &text));
//!
//! // The writer: lines.
//! let mut renderer = Renderer::new(AccessFormat::Combined);
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
pub mod render;
pub mod writer;

use std::net::IpAddr;
use std::time::Duration;

use crate::base::address::Address;
use crate::base::tick::Tick;

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
/// Parts of an entry's text: request line, Host, Referer, User-Agent.
pub const PARTS: usize = 4;

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
    /// From then to the end.
    pub duration: Duration,
    /// Who asked.
    pub client: IpAddr,
    /// Who answered, if anybody was asked.
    pub upstream: Option<Address>,
    /// The status sent to the client; 0 if none was.
    pub status: u16,
    /// Bytes of the body sent to the client.
    pub bytes: u64,
    /// How it ended.
    pub end: End,
    /// Why it was answered by us or cut, in a sentence without quotes; empty otherwise.
    pub reason: &'static str,
}

/// An exchange under way: what its entry will say of the request.
#[derive(Debug, Default)]
pub struct Pending {
    /// When the request's head was whole.
    pub at: Tick,
    /// Who was asked.
    pub upstream: Option<Address>,
    /// Bytes of the body so far.
    pub bytes: u64,
    /// Why it is answered by us or cut; empty so far.
    pub reason: &'static str,
    /// The text parts, each ended by a NUL, which no head can hold.
    pub text: Vec<u8>,
}

impl Pending {
    /// Gives back what a long head took, before it waits to be used again.
    pub fn rest(&mut self) {
        const KEPT: usize = 1024;
        if self.text.capacity() > KEPT {
            self.text = Vec::new();
        }
    }

    /// Begins anew. Keeps its memory.
    pub fn begin(&mut self, at: Tick, text: &[u8]) {
        self.at = at;
        self.upstream = None;
        self.bytes = 0;
        self.reason = "";
        self.text.clear();
        self.text.extend_from_slice(text);
    }
}

/// Appends one text part.
pub fn push_part(text: &mut Vec<u8>, pieces: &[&[u8]]) {
    for piece in pieces {
        text.extend_from_slice(piece);
    }
    text.push(0);
}

/// Entries on their way to the writer.
#[derive(Debug, Default)]
pub struct Batch {
    facts: Vec<(Facts, usize)>,
    text: Vec<u8>,
}

impl Batch {
    /// Adds one entry. `false` if it finds no room.
    #[must_use]
    pub fn push(&mut self, facts: Facts, text: &[u8]) -> bool {
        if self.bytes() + text.len() > MOST_BYTES {
            return false;
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
    std::array::from_fn(|_| {
        let to = ends.next().unwrap_or(text.len());
        let part = text.get(from..to).unwrap_or_default();
        from = to + 1;
        part
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            at: Tick(5),
            duration: Duration::from_micros(7),
            client: IpAddr::from([127, 0, 0, 1]),
            upstream: None,
            status: 200,
            bytes: 3,
            end: End::Finished,
            reason: "",
        }
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_gives_back_what_a_burst_took() {
        for length in [0, 300, 16 * 1024, MOST_BYTES / 2, MOST_BYTES + 1] {
            let mut batch = Batch::default();
            let text = vec![b'x'; length];
            let taken = (0..50_000).take_while(|_| batch.push(facts(), &text)).count();
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
            assert!(batch.push(facts(), &[b'x'; 150]));
        }
        let memory = batch.memory();
        batch.clear();
        assert_eq!(batch.memory(), memory);
        let mut pending = Pending::default();
        for (length, kept) in [(600, true), (16_000, false), (600, true)] {
            pending.begin(Tick(0), &vec![b'x'; length]);
            pending.rest();
            assert_eq!(pending.text.capacity() > 0, kept, "{length}");
        }
    }

    #[test]
    fn entries_come_out_as_they_went_in() {
        let facts = facts();
        let mut batch = Batch::default();
        for target in [&b"/a"[..], b"/b"] {
            let mut text = Vec::new();
            push_part(&mut text, &[b"GET ", target]);
            push_part(&mut text, &[b"host"]);
            push_part(&mut text, &[]);
            push_part(&mut text, &[b"agent"]);
            assert!(batch.push(facts.clone(), &text));
        }
        assert!(batch.push(facts, b""));
        let parts: Vec<_> = batch.entries().map(|(_, parts)| parts).collect();
        let (a, b) = (&b"GET /a"[..], &b"GET /b"[..]);
        assert_eq!(
            parts,
            [[a, b"host", b"", b"agent"], [b, b"host", b"", b"agent"], [&b""[..]; 4]]
        );
    }
}
