//! HTTP/1.1 as bytes: heads, framing, bodies and the rewriting a proxy owes both sides (RFC 9110, RFC 9112).
//!
//! Owns: what is a message, where it ends, and which bytes of it go to the other side. Does not own: when to read or
//! write, which target is asked, what a refusal does to the connection (that is `session`).
//!
//! Invariants:
//! - No socket, no clock, no lock; the only allocation is appending to buffers that are handed in.
//! - What two parsers could read differently is refused, never repaired ([`head`], [`framing`], [`body`]).
//! - A rewritten head has at most one framing field, and no field that speaks for the sender's connection ([`rewrite`]).
//! - No input panics.

pub mod answer;
pub mod body;
mod diagnose;
mod fields;
mod foreign;
pub mod framing;
pub mod head;
mod line;
pub mod mend;
pub mod rewrite;
mod target;
#[cfg(test)]
mod tests;

pub use crate::http::{Fault, Method, Pseudonym};
pub use answer::{ALLOW, answer, answer_options};
pub use body::{BodyDecoder, Decoded, LAST_CHUNK, chunk_head};
pub use framing::BodyLength;
pub use head::{
    FieldSpace, HeadLimits, MAX_FIELDS, RequestHead, ResponseHead, parse_request, parse_response,
};
pub use rewrite::{ClientConnection, ClientFraming, RequestRewrite, ResponseRewrite};

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
