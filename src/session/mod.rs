//! The protocol state of one client connection: which request is being read, which response is being
//! passed on, and what may follow.
//!
//! PURE: bytes and events come in, a [`Step`] by value goes out; no socket, no clock, no allocation per request.
//! A session never chooses a target and never holds one. It *asks* ([`Next::NeedUpstream`]) and *is told*
//! ([`Session::attached`], [`Session::no_upstream`], [`Session::upstream_failed`]).
//!
//! Two small machines run side by side, one for each direction of an exchange:
//!
//! ```text
//! Reading:    Head ──▶ Body ──▶ Complete ──▶ Head (the next request)
//!               │        │         └──▶ Tunnel (after a 101)
//!               └────────┴──▶ Closed (refused, or cut off by an early answer)
//!
//! Answering:  Nothing ──▶ Awaited ──▶ Body ──▶ Complete ──▶ Nothing (the next request)
//!                            │          └─ (nothing more may follow a cut)
//!                            └──▶ Tunnel
//! ```
//!
//! Invariants: at most one exchange is under way, so responses leave in the order of their requests; a
//! client connection is kept only if its request was read to the end and its response was sent whole.

mod retry;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::ops::Range;

use memchr::memchr;

use crate::access::push_part;
use crate::http1::answer::{answer, answer_options};
use crate::http1::body::{self, BodyDecoder, Decoded};
use crate::http1::head::{self, FieldSpace, HeadLimits, RequestHead, ResponseHead};
use crate::http1::rewrite::{
    self, ClientConnection, ClientFraming, RequestRewrite, ResponseRewrite,
};
use crate::http1::{BadMessage, BodyLength, Method, Progress, Refusal, Version};

pub use retry::{Failure, Remedy};

/// Interim responses (1xx) that one response may have; a target that sends more is broken.
pub const MAX_INTERIM: u8 = 16;

/// What every session of a worker goes by.
#[derive(Debug, Clone)]
pub struct Context {
    /// Limits of heads and trailers.
    pub limits: HeadLimits,
    /// The `Host` of an HTTP/1.0 request that has none.
    pub fallback_host: String,
    /// Whether idempotent requests may be sent once more (`retry.replay`).
    pub replay: bool,
    /// Whether messages that are passed on get a `Via` field.
    pub via: bool,
    /// Whether requests are described in [`Output::line`], for the access log.
    pub describe: bool,
    /// Whether the worker is stopping: every response then says `Connection: close`.
    pub draining: bool,
}

/// Where a session's bytes are put: scratch of the worker, emptied before each call.
#[derive(Debug, Default)]
pub struct Output {
    /// Goes before the body part of the input.
    pub head: Vec<u8>,
    /// Goes after it.
    pub tail: Vec<u8>,
    /// What the access log says of a request whose head was whole, if [`Context::describe`] asks for it:
    /// request line, Host, Referer, User-Agent, each ended by a NUL.
    pub line: Vec<u8>,
    trailers: Vec<u8>,
}

impl Output {
    /// Makes it ready for the next call. Keeps its memory.
    pub fn clear(&mut self) {
        self.head.clear();
        self.tail.clear();
        self.line.clear();
        self.trailers.clear();
    }
}

/// What one call came to: `head`, then `input[body]`, then `tail` go where `next` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are done with. The rest is handed in again with more behind it.
    pub consumed: usize,
    /// The part of the input that is passed on as it is.
    pub body: Range<usize>,
    /// What is to be done.
    pub next: Next,
}

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Come back with more bytes.
    NeedMore,
    /// A request's first bytes: find an endpoint for them.
    NeedUpstream,
    /// More of the request, for its upstream.
    ToUpstream,
    /// More of the response, for the client.
    ToClient,
    /// The end of the response, for the client.
    Finished {
        /// Whether the upstream connection can carry another request.
        reuse: bool,
    },
    /// An answer of our own, for the client; no upstream is needed any more.
    Answered,
    /// The target broke the exchange: call [`Session::upstream_failed`].
    Failed(Failure),
}

/// What becomes of the client connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It waits for the next request.
    KeepAlive,
    /// It is closed.
    Close,
    /// It is closed once the client has had time to read: bytes of its own may still be on their way.
    Linger,
}

/// What a client does when its side of the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEnd {
    /// Nothing is under way: close.
    Close,
    /// Its request is cut off: close both sides.
    Abort,
    /// One direction of a tunnel ended: pass that on.
    HalfClose,
}

/// How an exchange with a target broke, as far as the connections know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Break {
    /// What happened.
    pub failure: Failure,
    /// Some byte of the request may have reached the target.
    pub sent: bool,
    /// All that was or would have been sent is still there to be sent again.
    pub held: bool,
    /// The retry budget allows one more.
    pub affordable: bool,
}

#[derive(Debug)]
enum Reading {
    Head,
    Body { decoder: BodyDecoder, chunks: Option<Chunks> },
    Complete,
    Tunnel,
    Closed,
}

#[derive(Debug)]
enum Answering {
    Nothing,
    Awaited,
    Body { decoder: BodyDecoder, framing: ClientFraming, chunks: Option<Chunks>, reusable: bool },
    Complete,
    Tunnel,
}

/// How far a body that is sent in chunks has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunks {
    /// More chunks may come.
    Open,
    /// The last chunk was sent.
    Trailers,
}

/// What is known of the exchange under way.
#[derive(Debug)]
struct Exchange {
    method: Method,
    version: Version,
    keep_alive: bool,
    /// The client does not mean to end the connection: its next request may be on its way.
    persistent: bool,
    expect_continue: bool,
    interim: u8,
    /// The status the client was sent; 0 before that.
    status: u16,
    /// The upstream connection had carried an exchange before.
    reused: bool,
    /// The request was sent a second time.
    replayed: bool,
    /// All that was sent of the request is still held by the caller.
    at_hand: bool,
    /// An interim response ruled out that the upstream connection carries another request.
    spoiled: bool,
    /// The protocol the client asked to upgrade to.
    upgrade: Option<Box<Asked>>,
}

/// A client's wish to upgrade. In a box of its own: nearly always there is none, and every connection has
/// room for it.
#[derive(Debug)]
struct Asked {
    protocols: Vec<u8>,
}

impl Exchange {
    const NONE: Exchange = Exchange {
        method: Method::Other,
        version: Version::Http11,
        keep_alive: false,
        persistent: false,
        expect_continue: false,
        interim: 0,
        status: 0,
        reused: false,
        replayed: false,
        at_hand: false,
        spoiled: false,
        upgrade: None,
    };

    fn of(head: &RequestHead<'_, '_>) -> Exchange {
        Exchange {
            method: head.method,
            version: head.version,
            keep_alive: head.keep_alive,
            persistent: head.keep_alive,
            expect_continue: head.expect_continue,
            at_hand: true,
            upgrade: head.upgrade.map(|asked| Box::new(Asked { protocols: asked.to_vec() })),
            ..Exchange::NONE
        }
    }
}

/// The protocol state of one client connection.
#[derive(Debug)]
pub struct Session {
    client: IpAddr,
    trusted: bool,
    reading: Reading,
    answering: Answering,
    exchange: Exchange,
    /// Bytes of an unfinished head that were looked at already.
    scanned: u32,
}

impl Session {
    /// A fresh connection from `client`, whose `X-Forwarded-*` fields are believed if `trusted`.
    pub fn new(client: IpAddr, trusted: bool) -> Session {
        Session {
            client,
            trusted,
            reading: Reading::Head,
            answering: Answering::Nothing,
            exchange: Exchange::NONE,
            scanned: 0,
        }
    }

    /// Whether a head that was unfinished may be whole now, or is too long: a peer that sends it byte by
    /// byte does not make us read it from the start each time.
    fn worth_a_look(&mut self, input: &[u8], limit: usize) -> bool {
        let fresh = input.get(self.scanned as usize..).unwrap_or(input);
        let worth = self.scanned == 0 || input.len() >= limit || memchr(b'\n', fresh).is_some();
        self.scanned = u32::try_from(input.len()).unwrap_or(0);
        worth
    }

    /// Whether bytes of the client can be used now. Otherwise they wait in the kernel: the next request
    /// is not looked at before this one is answered.
    pub fn wants_client_bytes(&self) -> bool {
        matches!(self.reading, Reading::Head | Reading::Body { .. } | Reading::Tunnel)
    }

    /// Whether bytes of the client go straight to its upstream, which must then be there and keeping up.
    pub fn streams_to_upstream(&self) -> bool {
        matches!(self.reading, Reading::Body { .. } | Reading::Tunnel)
    }

    /// Whether no exchange is under way.
    pub fn is_idle(&self) -> bool {
        matches!((&self.reading, &self.answering), (Reading::Head, Answering::Nothing))
    }

    /// Whether the bytes pass both ways uninterpreted.
    pub fn is_tunnel(&self) -> bool {
        matches!(self.answering, Answering::Tunnel)
    }

    /// Whether the client's direction of a tunnel has ended.
    pub fn tunnel_client_ended(&self) -> bool {
        self.is_tunnel() && matches!(self.reading, Reading::Closed)
    }

    /// Whether the request under way was read to its end.
    pub fn request_complete(&self) -> bool {
        matches!(self.reading, Reading::Complete)
    }

    /// Whether the response's head has not been passed on yet.
    pub fn awaits_response(&self) -> bool {
        matches!(self.answering, Answering::Awaited)
    }

    /// Whose connection it is.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// The status the client was sent in this exchange; 0 before that.
    pub fn status(&self) -> u16 {
        self.exchange.status
    }

    /// Whether the upstream connection of the exchange had carried another before.
    pub fn is_reused(&self) -> bool {
        self.exchange.reused
    }

    /// Whether the request under way may be repeated without harm (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        self.exchange.method.is_idempotent()
    }

    /// Whether the bytes of the request are worth keeping after they were sent.
    pub fn may_replay(&self, cx: &Context) -> bool {
        let exchange = &self.exchange;
        cx.replay && exchange.at_hand && !exchange.replayed && self.is_idempotent()
    }

    /// Bytes of the client: the head of a request, more of its body, or whatever runs through a tunnel.
    pub fn client_bytes(&mut self, cx: &Context, input: &mut [u8], out: &mut Output) -> Step {
        match self.reading {
            Reading::Head => self.request_head(cx, input, out),
            Reading::Body { .. } => {
                self.exchange.at_hand = false;
                match self.request_body(input, out) {
                    Ok(decoded) => decoded.step(Next::ToUpstream),
                    Err(bad) => self.refuse(&Refusal { status: 400, why: bad.why }, out),
                }
            }
            Reading::Tunnel => pass_all(input, Next::ToUpstream),
            Reading::Complete | Reading::Closed => {
                Step { consumed: 0, body: 0..0, next: Next::NeedMore }
            }
        }
    }

    fn request_head(&mut self, cx: &Context, input: &mut [u8], out: &mut Output) -> Step {
        if !self.worth_a_look(input, cx.limits.bytes) {
            return Step { consumed: 0, body: 0..0, next: Next::NeedMore };
        }
        let mut space = FieldSpace::new();
        let (len, length) = match head::parse_request(input, cx.limits, &mut space) {
            Err(refusal) => return self.refuse(&refusal, out),
            Ok(Progress::Partial) => {
                return Step { consumed: 0, body: 0..0, next: Next::NeedMore };
            }
            Ok(Progress::Complete(head)) => {
                self.exchange = Exchange::of(&head);
                if cx.describe {
                    describe(&head, &mut out.line);
                }
                if head.max_forwards_zero {
                    return self.answer_for_target(&head, out);
                }
                let by = RequestRewrite {
                    client: self.client,
                    trusted: self.trusted,
                    fallback_host: &cx.fallback_host,
                    via: cx.via,
                };
                rewrite::request(&head, input, &by, &mut out.head);
                self.scanned = 0;
                (head.len, head.body)
            }
        };
        self.answering = Answering::Awaited;
        if matches!(length, BodyLength::None) {
            self.reading = Reading::Complete;
            return Step { consumed: len, body: 0..0, next: Next::NeedUpstream };
        }
        self.reading = Reading::Body {
            decoder: BodyDecoder::new(length, cx.limits),
            chunks: matches!(length, BodyLength::Chunked).then_some(Chunks::Open),
        };
        match self.request_body(&mut input[len..], out) {
            Ok(decoded) => decoded.step(Next::NeedUpstream).behind(len),
            Err(bad) => self.refuse(&Refusal { status: 400, why: bad.why }, out),
        }
    }

    fn request_body(&mut self, input: &mut [u8], out: &mut Output) -> Result<Decoded, BadMessage> {
        let Reading::Body { decoder, chunks } = &mut self.reading else {
            return Ok(Decoded { consumed: 0, data: 0..0, done: true });
        };
        let decoded = decoder.decode(input, &mut out.trailers)?;
        frame(&decoded, chunks, out);
        if decoded.done {
            self.reading = Reading::Complete;
        }
        Ok(decoded)
    }

    /// `Max-Forwards: 0` makes us the final recipient (RFC 9110 section 7.6.2).
    fn answer_for_target(&mut self, head: &RequestHead<'_, '_>, out: &mut Output) -> Step {
        let bodiless = matches!(head.body, BodyLength::None | BodyLength::Length(0));
        let keep = head.keep_alive && bodiless;
        answer_options(!keep, &mut out.head);
        self.exchange.status = 200;
        self.exchange.keep_alive = keep;
        self.reading = if bodiless { Reading::Complete } else { Reading::Closed };
        self.answering = Answering::Complete;
        Step { consumed: head.len, body: 0..0, next: Next::Answered }
    }

    /// Answers what cannot be served. Where the next request would begin is unknown then, so
    /// that the connection ends. A response already begun is cut instead.
    fn refuse(&mut self, refusal: &Refusal, out: &mut Output) -> Step {
        out.head.clear();
        out.tail.clear();
        self.reading = Reading::Closed;
        self.exchange.keep_alive = false;
        if matches!(self.answering, Answering::Body { .. }) {
            return Step { consumed: 0, body: 0..0, next: Next::Failed(Failure::ClientBroke) };
        }
        self.answer_with(refusal.status, refusal.why, out);
        Step { consumed: 0, body: 0..0, next: Next::Answered }
    }

    fn answer_with(&mut self, status: u16, why: &str, out: &mut Output) {
        let close = !self.exchange.keep_alive || !self.request_complete();
        self.exchange.keep_alive = !close;
        let head_only = self.exchange.method == Method::Head;
        if !close && self.exchange.version == Version::Http10 {
            // Rare enough: a 1.0 client loses its persistence rather than guess at it.
            self.exchange.keep_alive = false;
        }
        answer(status, why, !self.exchange.keep_alive, head_only, &mut out.head);
        self.answering = Answering::Complete;
        self.exchange.status = status;
    }

    /// The client was too slow: 408 while nothing was answered yet.
    pub fn client_timed_out(&mut self, out: &mut Output) -> Next {
        self.refuse(&Refusal { status: 408, why: "the request took too long to arrive" }, out).next
    }

    /// The client's side of the connection ended.
    pub fn client_closed(&mut self) -> ClientEnd {
        match self.reading {
            Reading::Head if matches!(self.answering, Answering::Nothing) => ClientEnd::Close,
            Reading::Tunnel => {
                self.reading = Reading::Closed;
                ClientEnd::HalfClose
            }
            _ => ClientEnd::Abort,
        }
    }

    /// An upstream connection was found for the request; `reused` if it had carried another before.
    pub fn attached(&mut self, reused: bool) {
        self.exchange.reused = reused;
        self.scanned = 0;
    }

    /// No endpoint takes the request: 503, on a connection that stays usable.
    pub fn no_upstream(&mut self, cx: &Context, out: &mut Output) {
        out.clear();
        self.exchange.keep_alive &= !cx.draining;
        self.answer_with(503, "", out);
    }

    /// Bytes of the target.
    pub fn upstream_bytes(&mut self, cx: &Context, input: &mut [u8], out: &mut Output) -> Step {
        match &mut self.answering {
            Answering::Awaited => self.response_head(cx, input, out),
            Answering::Body { decoder, chunks, reusable, .. } => {
                let decoded = match decoder.decode(input, &mut out.trailers) {
                    Ok(decoded) => decoded,
                    Err(_) => {
                        return Step {
                            consumed: 0,
                            body: 0..0,
                            next: Next::Failed(Failure::BadResponse),
                        };
                    }
                };
                frame(&decoded, chunks, out);
                if !decoded.done {
                    return decoded.step(Next::ToClient);
                }
                let reuse = *reusable && decoded.consumed == input.len();
                self.finished(decoded, reuse)
            }
            Answering::Tunnel => pass_all(input, Next::ToClient),
            Answering::Nothing | Answering::Complete => {
                // Nobody asked for this: the connection is not to be trusted any more.
                Step { consumed: input.len(), body: 0..0, next: Next::Failed(Failure::BadResponse) }
            }
        }
    }

    fn finished(&mut self, decoded: Decoded, reuse: bool) -> Step {
        self.answering = Answering::Complete;
        let reuse = reuse && self.request_complete();
        decoded.step(Next::Finished { reuse })
    }

    fn response_head(&mut self, cx: &Context, input: &mut [u8], out: &mut Output) -> Step {
        let mut at = 0;
        loop {
            match self.one_head(cx, &mut input[at..], out) {
                Ok(Headed::Interim(len)) => at += len,
                Ok(Headed::Partial) if at > 0 => {
                    return Step { consumed: at, body: 0..0, next: Next::ToClient };
                }
                Ok(Headed::Partial) => {
                    return Step { consumed: 0, body: 0..0, next: Next::NeedMore };
                }
                Ok(Headed::Final(step)) => return step.behind(at),
                Err(_) => {
                    return Step {
                        consumed: 0,
                        body: 0..0,
                        next: Next::Failed(Failure::BadResponse),
                    };
                }
            }
        }
    }

    fn one_head(
        &mut self,
        cx: &Context,
        input: &mut [u8],
        out: &mut Output,
    ) -> Result<Headed, BadMessage> {
        if !self.worth_a_look(input, cx.limits.bytes) {
            return Ok(Headed::Partial);
        }
        let mut space = FieldSpace::new();
        let head = match head::parse_response(input, cx.limits, &mut space)? {
            Progress::Partial => return Ok(Headed::Partial),
            Progress::Complete(head) => head,
        };
        self.scanned = 0;
        let length = match head.status {
            101 => {
                self.switch_protocols(cx, &head, input, out)?;
                BodyLength::None
            }
            100..200 => {
                self.interim(cx, &head, input, out)?;
                return Ok(Headed::Interim(head.len));
            }
            _ => self.final_head(cx, &head, input, out)?,
        };
        let len = head.len;
        Ok(Headed::Final(self.behind_head(length, &mut input[len..], out)?.behind(len)))
    }

    /// What follows a final head in the same read.
    fn behind_head(
        &mut self,
        length: BodyLength,
        rest: &mut [u8],
        out: &mut Output,
    ) -> Result<Step, BadMessage> {
        let Answering::Body { decoder, chunks, reusable, .. } = &mut self.answering else {
            return Ok(pass_all(rest, Next::ToClient));
        };
        if matches!(length, BodyLength::None) {
            let reuse = *reusable && rest.is_empty();
            return Ok(self.finished(Decoded { consumed: 0, data: 0..0, done: true }, reuse));
        }
        let decoded = decoder.decode(rest, &mut out.trailers)?;
        frame(&decoded, chunks, out);
        if !decoded.done {
            return Ok(decoded.step(Next::ToClient));
        }
        let reuse = *reusable && decoded.consumed == rest.len();
        Ok(self.finished(decoded, reuse))
    }

    /// Passes a 1xx on (RFC 9110 section 15.2), but not to a 1.0 client, and not a 100 nobody asked for.
    fn interim(
        &mut self,
        cx: &Context,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        out: &mut Output,
    ) -> Result<(), BadMessage> {
        self.exchange.interim += 1;
        self.exchange.spoiled |= !head.keep_alive;
        if self.exchange.interim > MAX_INTERIM {
            return Err(BadMessage { why: "too many interim responses" });
        }
        let unasked = head.status == 100 && !self.exchange.expect_continue;
        if self.exchange.version == Version::Http11 && !unasked {
            let by = ResponseRewrite {
                framing: ClientFraming::AsIs,
                connection: ClientConnection::Implicit,
                via: cx.via,
            };
            rewrite::response(head, input, &by, &mut out.head);
        }
        Ok(())
    }

    /// A 101 is good only if the client asked for that protocol and its request is complete
    /// (RFC 9110 sections 7.8 and 15.2.2).
    fn switch_protocols(
        &mut self,
        cx: &Context,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        out: &mut Output,
    ) -> Result<(), BadMessage> {
        let agreed = match (&self.exchange.upgrade, head.upgrade) {
            (Some(asked), Some(got)) => offers(&asked.protocols, got),
            _ => false,
        };
        if !agreed || !self.request_complete() {
            return Err(BadMessage { why: "101 to a request that did not ask for that protocol" });
        }
        let by = ResponseRewrite {
            framing: ClientFraming::AsIs,
            connection: ClientConnection::Upgrade,
            via: cx.via,
        };
        rewrite::response(head, input, &by, &mut out.head);
        self.exchange.status = head.status;
        self.answering = Answering::Tunnel;
        self.reading = Reading::Tunnel;
        Ok(())
    }

    fn final_head(
        &mut self,
        cx: &Context,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        out: &mut Output,
    ) -> Result<BodyLength, BadMessage> {
        let length = head.body(self.exchange.method)?;
        let modern = self.exchange.version == Version::Http11;
        let framing = match length {
            BodyLength::None | BodyLength::Length(_) => ClientFraming::AsIs,
            BodyLength::Chunked | BodyLength::UntilClose if modern => ClientFraming::Chunked,
            BodyLength::Chunked | BodyLength::UntilClose => ClientFraming::UntilClose,
        };
        let keep = self.exchange.keep_alive
            && !cx.draining
            && self.request_complete()
            && !matches!(framing, ClientFraming::UntilClose);
        self.exchange.keep_alive = keep;
        let connection = match (keep, modern) {
            (true, true) => ClientConnection::Implicit,
            (true, false) => ClientConnection::KeepAlive,
            (false, _) => ClientConnection::Close,
        };
        let by = ResponseRewrite { framing, connection, via: cx.via };
        rewrite::response(head, input, &by, &mut out.head);
        self.exchange.status = head.status;
        let reusable =
            head.keep_alive && !self.exchange.spoiled && !matches!(length, BodyLength::UntilClose);
        self.answering = Answering::Body {
            decoder: BodyDecoder::new(length, cx.limits),
            framing,
            chunks: matches!(framing, ClientFraming::Chunked).then_some(Chunks::Open),
            reusable,
        };
        Ok(length)
    }

    /// The target's side of the connection ended. `Finished` if that is how its response ends.
    pub fn upstream_closed(&mut self, out: &mut Output) -> Next {
        let Answering::Body { decoder, chunks, .. } = &mut self.answering else {
            return Next::Failed(Failure::Closed);
        };
        if decoder.finish_at_close().is_err() {
            return Next::Failed(Failure::Closed);
        }
        frame(&Decoded { consumed: 0, data: 0..0, done: true }, chunks, out);
        self.answering = Answering::Complete;
        Next::Finished { reuse: false }
    }

    /// The exchange with the target broke. Says what is to be done, by the table in `retry`; an answer
    /// is then in `out`.
    pub fn upstream_failed(&mut self, cx: &Context, broken: Break, out: &mut Output) -> Remedy {
        out.clear();
        let situation = retry::Situation {
            failure: broken.failure,
            sent: broken.sent,
            fresh: !self.exchange.reused,
            idempotent: self.is_idempotent(),
            at_hand: broken.held && !self.exchange.replayed && self.exchange.interim == 0,
            affordable: broken.affordable,
            awaited: self.awaits_response(),
        };
        let remedy = retry::remedy(&situation);
        match remedy {
            Remedy::Replay => self.exchange.replayed = true,
            Remedy::Answer(status) if self.awaits_response() => {
                self.exchange.keep_alive &= !cx.draining;
                self.answer_with(status, broken.failure.why(), out);
            }
            Remedy::Answer(_) | Remedy::Cut { .. } => {
                let until_close = matches!(
                    self.answering,
                    Answering::Body { framing: ClientFraming::UntilClose, .. }
                );
                self.answering = Answering::Complete;
                self.reading = Reading::Closed;
                return Remedy::Cut { reset: until_close };
            }
        }
        remedy
    }

    /// What becomes of the client connection now that its exchange is over.
    pub fn ending(&self) -> Ending {
        match (self.exchange.keep_alive, self.request_complete()) {
            (true, true) => Ending::KeepAlive,
            (false, true) if !self.exchange.persistent => Ending::Close,
            // What the client sends before it reads that we close must not reset the answer away.
            (false, true) | (_, false) => Ending::Linger,
        }
    }

    /// Makes ready for the next request.
    pub fn next_request(&mut self) {
        debug_assert_eq!(self.ending(), Ending::KeepAlive);
        self.reading = Reading::Head;
        self.answering = Answering::Nothing;
        self.exchange = Exchange::NONE;
        self.scanned = 0;
    }
}

enum Headed {
    Partial,
    Interim(usize),
    Final(Step),
}

trait Steps {
    fn step(self, next: Next) -> Step;
}

impl Steps for Decoded {
    fn step(self, next: Next) -> Step {
        Step { consumed: self.consumed, body: self.data, next }
    }
}

impl Step {
    /// The same step of an input that has `len` bytes before it.
    fn behind(self, len: usize) -> Step {
        Step {
            consumed: self.consumed + len,
            body: self.body.start + len..self.body.end + len,
            next: self.next,
        }
    }
}

/// What the access log says of a request.
fn describe(head: &RequestHead<'_, '_>, line: &mut Vec<u8>) {
    let version = match head.version {
        Version::Http10 => " HTTP/1.0",
        Version::Http11 => " HTTP/1.1",
    };
    let field = |name| head.field(name).unwrap_or_default();
    let request = [head.method_text, " ", head.target, version].map(str::as_bytes);
    push_part(line, &request);
    for name in ["host", "referer", "user-agent"] {
        push_part(line, &[field(name)]);
    }
}

fn pass_all(input: &[u8], next: Next) -> Step {
    Step { consumed: input.len(), body: 0..input.len(), next }
}

/// Frames what was decoded as one chunk, and trailers and the end of the body as they come
/// (RFC 9112 section 7.1). `None` is a body that is not sent in chunks.
fn frame(decoded: &Decoded, chunks: &mut Option<Chunks>, out: &mut Output) {
    let Some(chunks) = chunks else { return };
    if !decoded.data.is_empty() {
        body::chunk_head(decoded.data.len(), &mut out.head);
        out.tail.extend_from_slice(b"\r\n");
    }
    if (decoded.done || !out.trailers.is_empty())
        && std::mem::replace(chunks, Chunks::Trailers) == Chunks::Open
    {
        out.tail.extend_from_slice(body::LAST_CHUNK);
    }
    out.tail.append(&mut out.trailers);
    if decoded.done {
        out.tail.extend_from_slice(b"\r\n");
    }
}

/// Whether the list of protocols `asked` has `got`, in any casing.
fn offers(asked: &[u8], got: &[u8]) -> bool {
    let got = got.trim_ascii();
    asked.split(|&byte| byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(got))
}
