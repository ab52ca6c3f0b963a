//! HTTP/1.1 as bytes: heads, framing, bodies, connections and the rewriting a proxy owes both sides (RFC 9110, RFC 9112).
//!
//! Owns: what is a message, where it ends, and which bytes of it go to the other side; what is remembered of a connection from one
//! read to the next, a client's ([`server`]) and a target's ([`client`]). Does not own: when to read or write, which target is asked,
//! what a refusal does to the exchange (that is `exchange`).
//!
//! Invariants:
//! - No socket, no clock, no lock; of a message that is exact the only allocation is appending to buffers that are handed in.
//! - What two parsers could read differently is refused ([`head`], [`framing`], [`body`]). Requests are never repaired; of a response,
//!   what is old and has one meaning is, in a buffer of its own ([`mend`]).
//! - A rewritten head has at most one framing field, and no field that speaks for the sender's connection ([`rewrite`]).
//! - No input panics.
//!
//! ```
//! use evenly::http1::rewrite::{self, RequestRewrite};
//! use evenly::http1::{
//!     BodyLength, ClientAddress, Fault, FieldSpace, HeadLimits, Progress, RequestId, parse_request,
//! };
//!
//! let limits = HeadLimits { bytes: 1024, fields: 20 };
//! let mut space = FieldSpace::new();
//! let input = b"GET /a HTTP/1.1\r\nHost: example.org\r\nConnection: x-private\r\nX-Private: 1\r\n\r\n";
//! let Ok(Progress::Complete(head)) = parse_request(input, limits, &mut space) else { panic!() };
//! assert_eq!((head.target, head.body, head.len), ("/a", BodyLength::None, input.len()));
//!
//! // What is sent to the target: fields of the client's connection stay behind, the client's address is added.
//! let mut out = Vec::new();
//! let by = RequestRewrite {
//!     client: ClientAddress { ip: [192, 0, 2, 1].into(), trusted: false },
//!     fallback_host: "localhost",
//!     via: None,
//!     request_id: &RequestId::None,
//!     span: None,
//! };
//! rewrite::request(&head, input, &by, &mut out);
//! assert_eq!(
//!     String::from_utf8_lossy(&out),
//!     "GET /a HTTP/1.1\r\nHost: example.org\r\n\
//!      X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: example.org\r\n\r\n"
//! );
//!
//! // Half a head is not wrong yet; one that two parsers could read differently is.
//! let mut space = FieldSpace::new();
//! assert!(matches!(parse_request(b"GET /a HT", limits, &mut space), Ok(Progress::Partial)));
//! let two = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
//! let mut space = FieldSpace::new();
//! assert_eq!(parse_request(two, limits, &mut space).err(), Some(Fault::LengthAndCoding));
//! ```

pub mod answer;
pub mod body;
pub mod client;
mod diagnose;
mod fields;
mod foreign;
pub mod framing;
pub mod head;
mod line;
pub mod mend;
pub mod rewrite;
pub mod server;
mod target;
#[cfg(test)]
mod tests;

pub use crate::http::{ClientAddress, Fault, IdSource, Method, Pseudonym, RequestId, TraceParent};
pub use answer::{ALLOW, answer, answer_options};
pub use body::{BodyDecoder, BodyEncoder, Decoded, LAST_CHUNK, chunk_head};
pub use client::{ClientHalf, Reuse};
pub use framing::BodyLength;
pub use head::{
    FieldSpace, HeadLimits, MAX_FIELDS, RequestHead, ResponseHead, Scan, parse_request,
    parse_response,
};
pub use rewrite::{ClientConnection, ClientFraming, RequestRewrite, ResponseRewrite};
pub use server::ServerHalf;

/// The versions spoken here; every other one is refused (RFC 9112 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
}

impl Version {
    /// The version whose minor number httparse reports: it knows only 0 and 1.
    fn of_minor(minor: Option<u8>) -> Self {
        if minor == Some(0) { Self::Http10 } else { Self::Http11 }
    }
}

/// How far a parser came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// Nothing is wrong yet and more bytes are needed.
    Partial,
    /// All of it is there.
    Complete(T),
}
