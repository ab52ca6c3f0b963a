//! The client's connection, on which we are the server: requests are read from it, responses are framed for it, and it is kept or not
//! (RFC 9112 section 9).
//!
//! Owns: what HTTP/1 remembers of one client's connection from one read to the next. Does not own: the bytes, of which those that
//! are not consumed are handed in again; what a request or a response means for its exchange (`exchange`).
//! Invariants: a connection that is to end is not kept again by anything but the next request; nothing is framed by its end unless it
//! ends.

use super::answer::{answer, answer_options};
use super::body::{BodyDecoder, BodyEncoder, Decoded};
use super::head::{self, FieldSpace, Scan};
use super::rewrite::{self, ClientConnection, ClientFraming, ResponseRewrite};
use super::{BodyLength, Fault, HeadLimits, Progress, RequestHead, ResponseHead, Version};
use crate::http::{Pseudonym, RequestId};
use crate::reason::Cause;

/// HTTP/1 on the connection of one client, for one request and its response after the other.
#[derive(Debug)]
pub struct ServerHalf {
    /// Of the request's body.
    decoder: BodyDecoder,
    scan: Scan,
    /// Of the request.
    version: Version,
    persistence: Persistence,
    /// Of the response.
    framing: ClientFraming,
    /// Of the response's body.
    encoder: BodyEncoder,
    /// Some message carried or asked for credentials that authenticate the connection which they are sent on.
    private: bool,
    /// Its client gets details.
    is_trusted: bool,
}

/// Whether the connection is kept behind the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persistence {
    /// The client asked for it, and nothing is against it.
    Kept,
    /// The client asked for it, so that its next request may be on its way, and yet it ends.
    Ended,
    /// The client did not ask for it.
    Unasked,
}

impl ServerHalf {
    /// Before the first request.
    pub const READY: ServerHalf = ServerHalf {
        decoder: BodyDecoder::NOTHING,
        scan: Scan::NOTHING,
        version: Version::Http11,
        persistence: Persistence::Unasked,
        framing: ClientFraming::AsIs,
        encoder: BodyEncoder::AsIs,
        private: false,
        is_trusted: false,
    };

    /// Of a client that gets details of what goes wrong, or not (`trusted_proxies`).
    #[must_use]
    pub fn of_client(is_trusted: bool) -> ServerHalf {
        ServerHalf { is_trusted, ..ServerHalf::READY }
    }

    /// Makes ready for the next request.
    pub fn next_request(&mut self) {
        *self =
            ServerHalf { private: self.private, is_trusted: self.is_trusted, ..ServerHalf::READY };
    }

    /// How many bytes of empty lines stand before a request. They say nothing, and must not look like its beginning (RFC 9112 section
    /// 2.2).
    pub fn empty_lines(&mut self, input: &[u8]) -> usize {
        let len = input.chunks_exact(2).take_while(|line| line == b"\r\n").count() * 2;
        if len > 0 {
            self.scan = Scan::NOTHING;
        }
        len
    }

    /// Reads the head at the start of `input`. What is remembered of the request before it is forgotten when there is one.
    ///
    /// # Errors
    /// As [`head::parse_request`].
    #[inline]
    pub fn request_head<'h, 'b>(
        &mut self,
        input: &'b [u8],
        limits: HeadLimits,
        space: &'h mut FieldSpace<'b>,
    ) -> Result<Progress<RequestHead<'h, 'b>>, Fault> {
        if !self.scan.is_due(input, limits.bytes) {
            return Ok(Progress::Partial);
        }
        let progress = head::parse_request(input, limits, space)?;
        if let Progress::Complete(head) = &progress {
            *self = ServerHalf {
                decoder: BodyDecoder::new(head.body),
                version: head.version,
                persistence: match head.keep_alive {
                    true => Persistence::Kept,
                    false => Persistence::Unasked,
                },
                private: self.private || head.binds_connection,
                is_trusted: self.is_trusted,
                ..ServerHalf::READY
            };
        }
        Ok(progress)
    }

    /// Whether the head at the start of `input` promises a later HTTP/1 than is spoken here, and is read again as HTTP/1.1
    /// ([`head::lower_minor`]).
    pub fn lowers_minor(&mut self, input: &mut [u8]) -> bool {
        self.scan = Scan::NOTHING;
        head::lower_minor(input)
    }

    /// Takes what it can of the request's body, as [`BodyDecoder::decode`].
    ///
    /// # Errors
    /// As [`BodyDecoder::decode`]; no more of the connection can be read then.
    pub fn request_body(
        &mut self,
        input: &mut [u8],
        limits: HeadLimits,
        trailers: &mut Vec<u8>,
    ) -> Result<Decoded, Fault> {
        self.decoder.decode(input, limits, trailers)
    }

    /// Whether an interim response may be sent before the final one: HTTP/1.0 has none (RFC 9110 section 15.2).
    pub fn takes_interim(&self) -> bool {
        self.version == Version::Http11
    }

    /// Appends the head of an interim response, from the `input` that it was read from. Only a 101, which is the last that is said of the
    /// request, says what it is called.
    pub fn interim_head(
        &self,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        (via, request_id): (Option<&Pseudonym>, &RequestId),
        out: &mut Vec<u8>,
    ) {
        let (connection, request_id) = match head.status {
            101 => (ClientConnection::Upgrade, request_id),
            _ => (ClientConnection::Implicit, &RequestId::None),
        };
        let by = ResponseRewrite { framing: ClientFraming::AsIs, connection, via, request_id };
        rewrite::response(head, input, &by, out);
    }

    /// Appends the head of a final response with a body of this `length`, from the `input` that it was read from, and decides how the
    /// client finds its end. The connection ends behind it if nothing else shows that end.
    #[inline]
    pub fn response_head(
        &mut self,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        length: BodyLength,
        (via, request_id): (Option<&Pseudonym>, &RequestId),
        out: &mut Vec<u8>,
    ) {
        let modern = self.version == Version::Http11;
        self.framing = match length {
            BodyLength::None | BodyLength::Length(_) => ClientFraming::AsIs,
            BodyLength::Chunked | BodyLength::UntilClose if modern => ClientFraming::Chunked,
            BodyLength::Chunked | BodyLength::UntilClose => ClientFraming::UntilClose,
        };
        self.encoder = BodyEncoder::new(self.framing == ClientFraming::Chunked);
        self.private |= head.binds_connection();
        if self.framing == ClientFraming::UntilClose {
            self.end();
        }
        let connection = match (self.is_kept(), modern) {
            (true, true) => ClientConnection::Implicit,
            (true, false) => ClientConnection::KeepAlive,
            (false, _) => ClientConnection::Close,
        };
        let by = ResponseRewrite { framing: self.framing, connection, via, request_id };
        rewrite::response(head, input, &by, out);
    }

    /// Frames a part of the response's body, as [`BodyEncoder::frame`].
    #[inline]
    pub fn frame_body(
        &mut self,
        decoded: &Decoded,
        trailers: &mut Vec<u8>,
        around: (&mut Vec<u8>, &mut Vec<u8>),
    ) {
        self.encoder.frame(decoded, trailers, around);
    }

    /// Appends a whole response of our own, as [`answer`] has it. The connection of a 1.0 client ends behind it: that is rare enough.
    /// `told` is the cause that it says.
    pub fn answer(
        &mut self,
        (status, why): (u16, &str),
        request_id: &RequestId,
        told: Option<Cause>,
        head_only: bool,
        out: &mut Vec<u8>,
    ) {
        if self.version == Version::Http10 {
            self.end();
        }
        self.framing = ClientFraming::AsIs;
        let told = told.map(|cause| (cause, self.is_trusted));
        answer((status, why), request_id, told, !self.is_kept(), head_only, out);
    }

    /// Appends the response to an OPTIONS whose Max-Forwards is 0 (RFC 9110 section 7.6.2).
    pub fn answer_options(&mut self, request_id: &RequestId, out: &mut Vec<u8>) {
        answer_options(request_id, !self.is_kept(), out);
    }

    /// The connection is not kept behind the response, whatever the client asked for.
    pub fn end(&mut self) {
        if self.persistence == Persistence::Kept {
            self.persistence = Persistence::Ended;
        }
    }

    /// Whether the connection is kept behind the response.
    pub fn is_kept(&self) -> bool {
        self.persistence == Persistence::Kept
    }

    /// Whether the client asked for its connection to be kept: its next request may be on its way.
    pub fn wants_to_be_kept(&self) -> bool {
        self.persistence != Persistence::Unasked
    }

    /// Whether an upstream connection that carries its requests serves this client alone: the target knows that connection by the
    /// client's credentials.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Whether only the end of the connection shows the client where its response ends.
    pub fn is_framed_by_its_end(&self) -> bool {
        self.framing == ClientFraming::UntilClose
    }
}
