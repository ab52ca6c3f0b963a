//! What is sent on of a head: its own bytes in runs between holes, and what a proxy adds (RFC 9110 section 7.6).
//!
//! Owns: how a head is written, and what is added to it. Does not own: the judgement on a head (`head`), what becomes of a
//! field (`http::fate`).
//! Invariants: one framing field at most leaves; no hop-by-hop field but those we write; every other field keeps its
//! bytes and its place; additions stand behind all fields (a Host for a client that sent none: before them).

use std::net::IpAddr;

use super::fields::Field;
use super::target::RequestTarget;
use super::{BodyLength, RequestHead, ResponseHead, Version};
use crate::base::decimal;
use crate::http::fate::{Fate, RequestFacts, ResponseFacts};
use crate::http::kind::Kind;
use crate::http::syntax;
use crate::http::{ClientAddress, IdSource, Pseudonym, RequestId, TraceParent, trace};

/// How a request is sent on.
#[derive(Clone, Copy, Debug)]
pub struct RequestRewrite<'a> {
    /// Whose request it is.
    pub client: ClientAddress,
    /// The Host for an HTTP/1.0 request without one.
    pub fallback_host: &'a str,
    /// What we call ourselves in an added `Via` (RFC 9110 section 7.6.3).
    pub via: Option<&'a Pseudonym>,
    /// How the request is called.
    pub request_id: &'a RequestId,
    /// Its place in a trace that is taken part in.
    pub span: Option<&'a TraceParent>,
}

/// How a response is sent on.
#[derive(Clone, Copy, Debug)]
pub struct ResponseRewrite<'a> {
    /// How the end of the body is marked for the client.
    pub framing: ClientFraming,
    /// The Connection field that the client gets.
    pub connection: ClientConnection,
    /// What we call ourselves in an added `Via`.
    pub via: Option<&'a Pseudonym>,
    /// How its request is called.
    pub request_id: &'a RequestId,
}

impl<'b> RequestHead<'_, 'b> {
    /// The last address of `X-Forwarded-For`, as it is written: the one that the proxy in front has added. Empty if there is none.
    #[must_use]
    pub fn forwarded_for(&self) -> &'b [u8] {
        let last = self.fields.values(Kind::XForwardedFor).last();
        last.and_then(|value| syntax::list(value).last()).unwrap_or_default()
    }

    /// How often the instance that calls itself so has passed this request on already. Whoever says so in our place is answered as if.
    #[must_use]
    pub fn passes(&self, by: &Pseudonym) -> usize {
        if !self.fields.has_via() {
            return 0;
        }
        self.fields.values(Kind::Via).map(|value| by.count_in(value)).sum()
    }

    /// How it is called: as its client says, if that is trusted and says it once, else by a new name; as `ids` has it, not at all.
    pub fn request_id(&self, trusted: bool, ids: &mut IdSource) -> RequestId {
        if ids.request_ids && trusted && self.fields.has_names() {
            let mut values = self
                .fields
                .marked()
                .filter(|field| field.kind == Kind::RequestId && !field.name.contains(&b'_'));
            if let (Some(one), None) = (values.next(), values.next())
                && let Some(kept) = RequestId::keep(one.value)
            {
                return kept;
            }
        }
        ids.request_id()
    }

    /// What its `traceparent` says; `None` if it has none that is valid, or several.
    #[must_use]
    pub fn traceparent(&self) -> Option<TraceParent> {
        if !self.fields.has_names() {
            return None;
        }
        TraceParent::only(self.fields.values(Kind::TraceParent))
    }
}

/// How the client finds the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFraming {
    /// No body, or the Content-Length as sent, once.
    AsIs,
    /// We send chunks: `Transfer-Encoding: chunked` and no Content-Length.
    Chunked,
    /// Neither field: the connection closes behind the body.
    UntilClose,
}

/// The Connection field that the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientConnection {
    /// No Connection field.
    Implicit,
    /// `Connection: keep-alive`, for an HTTP/1.0 client that asked for it.
    KeepAlive,
    /// `Connection: close`
    Close,
    /// `Connection: upgrade`, and the Upgrade field stays.
    Upgrade,
}

/// Appends the head to send upstream: always HTTP/1.1 and origin-form (or `*`), from the `input` that `head` was
/// parsed from.
pub fn request(
    head: &RequestHead<'_, '_>,
    input: &[u8],
    by: &RequestRewrite<'_>,
    out: &mut Vec<u8>,
) {
    out.reserve(head.len + by.fallback_host.len() + 256);
    let from = request_line(head, by, out);
    let facts = RequestFacts {
        authority: authority(head),
        trusted: by.client.trusted,
        keeps_proto: by.client.trusted && head.has_one(Kind::XForwardedProto),
        keeps_host: by.client.trusted && head.has_one(Kind::XForwardedHost),
        upgrades: head.upgrade.is_some(),
        may_trail: head.body == BodyLength::Chunked,
        may_expect: head.version == Version::Http11,
        max_forwards: head.max_forwards,
        is_named: !by.request_id.is_none(),
        is_traced: by.span.is_some(),
        keeps_state: by.span.is_some() && keeps_state(head),
    };
    let mut runs = Runs { input, from, out };
    let mut content_lengths = 0;
    head.fields.visit(|field| {
        content_lengths += u32::from(field.kind == Kind::ContentLength);
        let fate = facts.fate(field.kind, field.value, field.nominated, content_lengths > 1);
        runs.settle(&field, fate);
    });
    runs.finish(head.fields.end());
    if head.body == BodyLength::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(match (head.upgrade.is_some(), head.takes_trailers) {
        (false, false) => b"",
        (true, false) => b"Connection: upgrade\r\n",
        (false, true) => b"TE: trailers\r\nConnection: TE\r\n",
        (true, true) => b"TE: trailers\r\nConnection: upgrade, TE\r\n",
    });
    forwarded_fields(head, &facts, by.client.ip, out);
    if let Some(pseudonym) = by.via {
        pseudonym.append(head.version == Version::Http10, out);
    }
    if facts.is_named {
        by.request_id.append_field(out);
    }
    if let Some(span) = by.span {
        span.append_field(out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether the `tracestate` goes on with the trace: without a `traceparent` that is valid it belongs to none.
fn keeps_state(head: &RequestHead<'_, '_>) -> bool {
    head.traceparent().is_some() && trace::state_is_valid(head.fields.values(Kind::TraceState))
}

/// Writes what of the request line is not as sent, and the Host of a client without one. Returns from where on
/// `input` is copied.
fn request_line(head: &RequestHead<'_, '_>, by: &RequestRewrite<'_>, out: &mut Vec<u8>) -> usize {
    if head.version == Version::Http11 && !matches!(head.form, RequestTarget::Absolute { .. }) {
        return head.line_start;
    }
    out.extend_from_slice(head.method_text.as_bytes());
    out.push(b' ');
    match head.form {
        RequestTarget::Origin | RequestTarget::Asterisk => {
            out.extend_from_slice(head.target.as_bytes());
        }
        RequestTarget::Absolute { rest, .. } => origin_form(head, rest, out),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if head.host.is_none() {
        let host = authority(head).unwrap_or(by.fallback_host.as_bytes());
        append_field(b"Host: ", host, out);
    }
    head.line_end
}

/// RFC 9112 section 3.2.1 and, for OPTIONS without a path, section 3.2.4.
fn origin_form(head: &RequestHead<'_, '_>, rest: &str, out: &mut Vec<u8>) {
    if rest.is_empty() && head.method == super::Method::Options {
        out.push(b'*');
        return;
    }
    if !rest.starts_with('/') {
        out.push(b'/');
    }
    out.extend_from_slice(rest.as_bytes());
}

/// The authority of an absolute-form target, which wins over Host (RFC 9112 section 3.2.2).
fn authority<'b>(head: &RequestHead<'_, 'b>) -> Option<&'b [u8]> {
    match head.form {
        RequestTarget::Absolute { authority, .. } => Some(authority.as_bytes()),
        _ => None,
    }
}

/// `X-Forwarded-For`, `-Proto` and `-Host`; a trusted client's are added to or kept.
fn forwarded_fields(
    head: &RequestHead<'_, '_>,
    facts: &RequestFacts<'_>,
    client: IpAddr,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    if facts.trusted {
        for value in head.fields.values(Kind::XForwardedFor).filter(|value| !value.is_empty()) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
    decimal::ip(out, client.to_canonical());
    out.extend_from_slice(b"\r\n");
    if !facts.keeps_proto {
        out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
    }
    if let Some(host) = facts.authority.or(head.host)
        && !facts.keeps_host
    {
        append_field(b"X-Forwarded-Host: ", host, out);
    }
}

/// Appends the head to send to the client: always HTTP/1.1, status and reason as sent, from the `input` that `head`
/// was parsed from.
pub fn response(
    head: &ResponseHead<'_, '_>,
    input: &[u8],
    by: &ResponseRewrite<'_>,
    out: &mut Vec<u8>,
) {
    const VERSION: &[u8] = b"HTTP/1.1";
    /// Behind the status.
    const REASON: usize = b"HTTP/1.1 200".len();
    out.reserve(head.len + 128);
    out.extend_from_slice(VERSION);
    let mut from = VERSION.len();
    if input.get(REASON) == Some(&b'\r') {
        // The space behind a status must be there although nothing follows it (RFC 9112 section 4).
        out.extend_from_slice(input.get(from..REASON).unwrap_or_default());
        out.push(b' ');
        from = REASON;
    }
    let facts = ResponseFacts {
        keeps_length: by.framing == ClientFraming::AsIs && !head.forbids_content_length(),
        upgrades: by.connection == ClientConnection::Upgrade,
        may_trail: by.framing == ClientFraming::Chunked,
        is_named: !by.request_id.is_none(),
    };
    let mut runs = Runs { input, from, out };
    let mut content_lengths = 0;
    head.fields.visit(|field| {
        content_lengths += u32::from(field.kind == Kind::ContentLength);
        let named = (field.name, field.value);
        let fate = facts.fate(field.kind, named, field.nominated, content_lengths > 1);
        runs.settle(&field, fate);
    });
    runs.finish(head.fields.end());
    if by.framing == ClientFraming::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(match by.connection {
        ClientConnection::Implicit => b"",
        ClientConnection::KeepAlive => b"Connection: keep-alive\r\n",
        ClientConnection::Close => b"Connection: close\r\n",
        ClientConnection::Upgrade => b"Connection: upgrade\r\n",
    });
    if let Some(pseudonym) = by.via {
        pseudonym.append(head.version == Version::Http10, out);
    }
    if facts.is_named {
        by.request_id.append_field(out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Copies `input` in runs: a hole ends one.
struct Runs<'a> {
    input: &'a [u8],
    /// Where the current run begins.
    from: usize,
    out: &'a mut Vec<u8>,
}

impl Runs<'_> {
    fn settle(&mut self, field: &Field<'_>, fate: Fate<'_>) {
        let value_end = field.value_start + field.value.len();
        match fate {
            Fate::Stay => {}
            Fate::Go => self.hole(field.start, field.end),
            Fate::Value(value) => {
                self.hole(field.value_start, value_end);
                self.out.extend_from_slice(value);
            }
            Fate::Number(number) => {
                self.hole(field.value_start, value_end);
                decimal::number(self.out, number);
            }
        }
    }

    fn hole(&mut self, start: usize, end: usize) {
        self.finish(start);
        self.from = end;
    }

    fn finish(&mut self, end: usize) {
        self.out.extend_from_slice(self.input.get(self.from..end).unwrap_or_default());
    }
}

fn append_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
