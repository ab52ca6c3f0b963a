//! The target's connection, on which we are the client: requests are framed for it, responses are read from it, and it may carry
//! another request or not (RFC 9112 section 9).
//!
//! Owns: what HTTP/1 remembers of one target's connection from one read to the next. Does not own: the bytes, of which those that
//! are not consumed are handed in again; what a request or a response means for its exchange (`exchange`).
//! Invariants: what was ruled out for another request stays ruled out until the next one has a connection of its own.

use std::time::Duration;

use super::body::{BodyDecoder, BodyEncoder, Decoded};
use super::head::Scan;
use super::mend;
use super::rewrite::{self, RequestRewrite};
use super::{BodyLength, Fault, HeadLimits, Progress, RequestHead, ResponseHead};

/// No number of seconds. Not an `Option`, which would make each connection larger.
const NO_HINT: u16 = u16::MAX;

/// HTTP/1 on the connection of one target, for one request and its response.
#[derive(Debug)]
pub struct ClientHalf {
    /// Of the response's body.
    decoder: BodyDecoder,
    scan: Scan,
    /// Of the request's body.
    encoder: BodyEncoder,
    /// What the connection may carry behind the response, as far as is known.
    reuse: Reuse,
    /// How many seconds the target keeps an idle connection, as it says; [`NO_HINT`] if it does not.
    idle_seconds: u16,
}

/// What an upstream connection may carry after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Any client's next request.
    Pool,
    /// Only further requests of the same client connection, and none when that ends: the target knows the connection by
    /// the credentials of its client.
    Private,
    /// Nothing more, as its target says, which ends it.
    Ends,
    /// Nothing more.
    No,
}

impl ClientHalf {
    /// Before a request.
    pub const READY: ClientHalf = ClientHalf {
        decoder: BodyDecoder::NOTHING,
        scan: Scan::NOTHING,
        encoder: BodyEncoder::AsIs,
        reuse: Reuse::Pool,
        idle_seconds: NO_HINT,
    };

    /// Appends the head of a request, from the `input` that it was read from. Content that its method has no use for may stay unread,
    /// and would be the next request.
    #[inline]
    pub fn request_head(
        &mut self,
        head: &RequestHead<'_, '_>,
        input: &[u8],
        by: &RequestRewrite<'_>,
        out: &mut Vec<u8>,
    ) {
        rewrite::request(head, input, by, out);
        self.encoder = BodyEncoder::new(head.body == BodyLength::Chunked);
        if head.has_content() && head.method.ignores_content() {
            self.rule_out_reuse();
        }
    }

    /// Frames a part of the request's body, as [`BodyEncoder::frame`].
    pub fn frame_body(
        &mut self,
        decoded: &Decoded,
        trailers: &mut Vec<u8>,
        around: (&mut Vec<u8>, &mut Vec<u8>),
    ) {
        self.encoder.frame(decoded, trailers, around);
    }

    /// The request is sent on another connection than before, from which nothing was read.
    pub fn attached(&mut self) {
        self.scan = Scan::NOTHING;
    }

    /// Reads the head at the start of `input`, mended if need be, and has `judge` look at it and at the bytes that it is in. How many
    /// bytes of the input it took, and what `judge` says.
    ///
    /// # Errors
    /// As [`mend::read_response`].
    #[inline]
    pub fn response_head<R>(
        &mut self,
        input: &[u8],
        limits: HeadLimits,
        judge: impl FnOnce(&mut ClientHalf, &ResponseHead<'_, '_>, &[u8]) -> Result<R, Fault>,
    ) -> Result<Progress<(usize, R)>, Fault> {
        if !self.scan.is_due(input, limits.bytes) {
            return Ok(Progress::Partial);
        }
        let progress = mend::read_response(input, limits, |head, bytes| judge(self, head, bytes))?;
        if matches!(progress, Progress::Complete(_)) {
            self.scan = Scan::NOTHING;
        }
        Ok(progress)
    }

    /// The head of an interim response was read: other responses follow it.
    pub fn interim(&mut self, head: &ResponseHead<'_, '_>) {
        if !head.keep_alive {
            self.rule_out_reuse();
        }
    }

    /// The head of the final response was read: a body of this `length` follows it.
    #[inline]
    pub fn begin_body(&mut self, head: &ResponseHead<'_, '_>, length: BodyLength) {
        self.decoder = BodyDecoder::of_response(length);
        self.idle_seconds = head.idle_seconds.unwrap_or(NO_HINT);
        if !head.keep_alive || length == BodyLength::UntilClose {
            self.reuse = Reuse::Ends;
        }
    }

    /// Takes what it can of the response's body, as [`BodyDecoder::decode_up_to_fault`].
    ///
    /// # Errors
    /// As [`BodyDecoder::decode`]; no more of the connection can be read then.
    #[inline]
    pub fn response_body(
        &mut self,
        input: &mut [u8],
        limits: HeadLimits,
        trailers: &mut Vec<u8>,
        decoded: &mut Decoded,
    ) -> Result<(), Fault> {
        self.decoder.decode_up_to_fault(input, limits, trailers, decoded)
    }

    /// The target ended the connection within the body.
    ///
    /// # Errors
    /// As [`BodyDecoder::finish_at_close`].
    pub fn closed(&mut self) -> Result<(), Fault> {
        self.decoder.finish_at_close()
    }

    /// Bytes of the request may be left on the connection unread, or an interim response ruled it out: it carries no other request.
    pub fn rule_out_reuse(&mut self) {
        if self.reuse == Reuse::Pool {
            self.reuse = Reuse::No;
        }
    }

    /// What the connection may carry behind a response that `left` unasked bytes follow.
    #[inline]
    pub fn reuse_behind(&self, left: usize) -> Reuse {
        if left == 0 { self.reuse } else { Reuse::No }
    }

    /// How long the target keeps the connection when it idles, as it said.
    pub fn idle_hint(&self) -> Option<Duration> {
        let seconds = self.idle_seconds;
        (seconds != NO_HINT).then(|| Duration::from_secs(seconds.into()))
    }
}
