//! Where a message's body ends: RFC 9112 section 6.3 as pure functions beside the RFC's numbered rules.
//!
//! Owns: the judgement on Content-Length and Transfer-Encoding. Does not own: taking the body apart (`body`).
//! Invariant: every message that could be read two ways is refused, whichever rule would win.

use super::{Fault, Method, Version};
use crate::http::syntax;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// This many bytes, 0 included.
    Length(u64),
    /// Chunked (RFC 9112 section 7.1).
    Chunked,
    /// Everything until the peer closes; only ever a response.
    UntilClose,
}

/// What the fields of one name say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Values<'b> {
    /// No such field.
    #[default]
    Absent,
    /// The value of one field, or of several with the very same bytes, and how many fields that were.
    Same(&'b [u8], usize),
    /// Fields that differ.
    Differing,
}

impl<'b> Values<'b> {
    /// One more field of that name.
    pub(crate) fn add(&mut self, value: &'b [u8]) {
        *self = match *self {
            Self::Absent => Self::Same(value, 1),
            Self::Same(first, count) if first == value => Self::Same(first, count + 1),
            _ => Self::Differing,
        };
    }

    /// The value of the only field of that name.
    pub(crate) fn only(self) -> Option<&'b [u8]> {
        match self {
            Self::Same(value, 1) => Some(value),
            _ => None,
        }
    }
}

/// The framing fields of one head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Framing<'b> {
    pub(crate) content_length: Values<'b>,
    pub(crate) transfer_encoding: Values<'b>,
}

/// What the framing fields of a head say, before method and status have a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    Nothing,
    Length(u64),
    Chunked,
}

/// Whose message it is. A request is exact or refused; of a response, which comes from a server that the operator chose, is
/// taken what is old but has one meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client(Version),
    Target,
}

impl Framing<'_> {
    /// What Content-Length and Transfer-Encoding say together: rules 3 to 5.
    ///
    /// # Errors
    /// They could be read in two ways, or the coding is not known. A request is refused with the status of that fault; a response
    /// with it is not valid, whatever the status of the fault.
    pub(crate) fn declared(self, sender: Sender) -> Result<Declared, Fault> {
        if self.transfer_encoding == Values::Absent {
            return content_length(self.content_length, sender);
        }
        // RFC 9112 section 6.1: a 1.0 message with Transfer-Encoding has faulty framing. A response with it is read by the coding, and
        // the target's connection ends behind it (`parse_response`, which takes it for one that is not kept alive).
        if sender == Sender::Client(Version::Http10) {
            return Err(Fault::CodingInHttp10);
        }
        // Rule 3, where the RFC leaves the choice to refuse.
        if self.content_length != Values::Absent {
            return Err(Fault::LengthAndCoding);
        }
        match self.transfer_encoding.only() {
            Some(value) => transfer_encoding(value, sender),
            None => Err(Fault::SeveralCodings),
        }
    }
}

/// Rule 5: digits only, and one value. Duplicates of the same bytes are one; so is a response's list of the same number, while
/// a request's is refused.
fn content_length(values: Values<'_>, sender: Sender) -> Result<Declared, Fault> {
    let invalid = Fault::BadContentLength;
    match values {
        Values::Absent => Ok(Declared::Nothing),
        // Before the list, which it nearly always is not: that takes longer to find out.
        Values::Same(value, _) if let Some(length) = syntax::number(value) => {
            Ok(Declared::Length(length))
        }
        Values::Same(value, _) if sender == Sender::Target => {
            let first = syntax::list(value).next().and_then(syntax::number).ok_or(invalid)?;
            let same = syntax::list(value).all(|one| syntax::number(one) == Some(first));
            same.then_some(Declared::Length(first)).ok_or(invalid)
        }
        Values::Same(..) => Err(invalid),
        Values::Differing => Err(Fault::DifferentContentLengths),
    }
}

/// Rule 4: the one coding that is known is `chunked`, once. Others are not implemented (RFC 9112 section 6.1), and a request that
/// does not end in `chunked` has no end that can be found (section 6.3).
fn transfer_encoding(value: &[u8], sender: Sender) -> Result<Declared, Fault> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(Declared::Chunked);
    }
    let codings = || syntax::list(value).filter(|coding| !coding.is_empty());
    if sender == Sender::Target && codings().count() == 1 && codings().all(is_chunked) {
        return Ok(Declared::Chunked);
    }
    if !syntax::list(value).last().is_some_and(is_chunked) {
        return Err(Fault::LastCodingNotChunked);
    }
    if codings().any(|coding| !is_chunked(coding)) {
        return Err(Fault::UnknownCoding);
    }
    Err(Fault::NotExactlyChunked)
}

/// A request's body: rules 3 to 6, then 7 (no framing field: no body).
pub(crate) fn request_body(declared: Declared) -> BodyLength {
    match declared {
        Declared::Nothing => BodyLength::None,
        Declared::Length(length) => BodyLength::Length(length),
        Declared::Chunked => BodyLength::Chunked,
    }
}

/// A response's body, by the method of its request and its status.
pub(crate) fn response_body(
    declared: Declared,
    request: Method,
    status: u16,
) -> Result<BodyLength, Fault> {
    // Rule 1: HEAD, 1xx, 204 and 304 end with the head, whatever the fields say.
    if request == Method::Head || matches!(status, 100..=199 | 204 | 304) {
        return Ok(BodyLength::None);
    }
    // Rule 2: a 2xx to CONNECT is a tunnel, and CONNECT is never sent.
    if request == Method::Connect && matches!(status, 200..=299) {
        return Err(Fault::UnaskedTunnel);
    }
    Ok(match declared {
        Declared::Chunked => BodyLength::Chunked, // rule 4
        Declared::Length(length) => BodyLength::Length(length), // rule 6
        Declared::Nothing => BodyLength::UntilClose, // rule 8
    })
}
