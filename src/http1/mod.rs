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
pub mod foreign;
pub mod framing;
pub mod head;
pub mod mend;
pub mod rewrite;
mod syntax;
mod target;
#[cfg(test)]
mod tests;

pub use answer::{ALLOW, answer, answer_options};
pub use body::{BodyDecoder, Decoded, LAST_CHUNK, chunk_head};
pub use framing::BodyLength;
pub use head::{
    FieldSpace, HeadLimits, MAX_FIELDS, RequestHead, ResponseHead, parse_request, parse_response,
};
pub use rewrite::{ClientConnection, ClientFraming, Pseudonym, RequestRewrite, ResponseRewrite};

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

/// A request's method (RFC 9110 section 9), as far as a proxy must tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`: its response never has a body.
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `TRACE`: never served.
    Trace,
    /// `CONNECT`: never served.
    Connect,
    /// Any other token, passed on as it is; lower case `get` is one, for methods are case-sensitive.
    Other,
}

impl Method {
    /// May a request be sent again although a first copy may have been processed (RFC 9110 section 9.2.2)?
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }

    /// Is the method read-only by definition (RFC 9110 section 9.2.1)?
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Has content no defined meaning in a request with this method (RFC 9110 sections 9.3.1 to 9.3.8)? Many targets do not
    /// look for it then, and take it for the next request if it is there.
    #[must_use]
    pub fn ignores_content(self) -> bool {
        self.is_safe() || matches!(self, Self::Delete | Self::Connect)
    }

    fn of(text: &str) -> Self {
        match text {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "TRACE" => Self::Trace,
            "CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// A request that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status that says so, 400..=505.
    pub status: u16,
    /// One readable short sentence for the body of the answer.
    pub why: &'static str,
}

impl Refusal {
    const fn new(status: u16, why: &'static str) -> Self {
        Self { status, why }
    }

    const fn bad(why: &'static str) -> Self {
        Self::new(400, why)
    }
}

/// A message, or a part of one, that cannot be passed on: a response becomes a 502, a request body a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMessage {
    /// One readable short sentence for the log.
    pub why: &'static str,
}

impl From<Refusal> for BadMessage {
    fn from(refusal: Refusal) -> Self {
        Self { why: refusal.why }
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
