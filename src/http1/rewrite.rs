//! What is sent on of a head: its own bytes in runs between holes, and what a proxy adds (RFC 9110 section 7.6).
//!
//! Owns: which fields stay behind, are replaced or are added. Does not own: the judgement on a head (`head`).
//! Invariants: one framing field at most leaves; no hop-by-hop field but those we write; every other field keeps its
//! bytes and its place; additions stand behind all fields (a Host for a client that sent none: before them).

use std::net::IpAddr;

use super::answer::decimal;
use super::fields::{Field, Kind};
use super::target::Target;
use super::{BodyLength, RequestHead, ResponseHead, Version, syntax};

/// How a request is sent on.
#[derive(Clone, Copy, Debug)]
pub struct RequestRewrite<'a> {
    /// The address of the client's connection.
    pub client: IpAddr,
    /// Is the client in `trusted_proxies`: does what it says of others stay?
    pub trusted: bool,
    /// The Host for an HTTP/1.0 request without one.
    pub fallback_host: &'a str,
    /// What we call ourselves in an added `Via` (RFC 9110 section 7.6.3).
    pub via: Option<&'a Pseudonym>,
}

/// How a response is sent on.
#[derive(Clone, Copy, Debug)]
pub struct ResponseRewrite<'a> {
    /// How the client is to find the end of the body.
    pub framing: ClientFraming,
    /// What the client is told of its connection.
    pub connection: ClientConnection,
    /// What we call ourselves in an added `Via`.
    pub via: Option<&'a Pseudonym>,
}

/// What one instance of this program calls itself in `Via`: `evenly-` and 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pseudonym {
    /// The whole line of a message that came as HTTP/1.1.
    line: [u8; VIA_LINE.len()],
}

const VIA_LINE: &[u8; 34] = b"Via: 1.1 evenly-0123456789abcdef\r\n";
/// Where the minor version stands in it.
const VIA_MINOR: usize = "Via: 1.".len();
const VIA_NAME: std::ops::Range<usize> = "Via: 1.1 ".len()..VIA_LINE.len() - 2;

impl Pseudonym {
    /// That of an instance with this number.
    #[must_use]
    pub const fn new(instance: u64) -> Self {
        let mut line = *VIA_LINE;
        let mut place = 0;
        while place < 16 {
            let digit = (instance >> (place * 4)) & 15;
            line[VIA_NAME.end - 1 - place] = b"0123456789abcdef"[digit as usize];
            place += 1;
        }
        Self { line }
    }

    /// The name alone.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.line[VIA_NAME]
    }

    /// Appends the field for a message that was received in this version.
    fn append(&self, received: Version, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.line);
        if received == Version::Http10
            && let Some(minor) = out.get_mut(start + VIA_MINOR)
        {
            *minor = b'0';
        }
    }
}

impl RequestHead<'_, '_> {
    /// Has the instance that calls itself so passed this request on already? Whoever says so in our place is answered as if.
    #[must_use]
    pub fn has_passed(&self, by: &Pseudonym) -> bool {
        let is_by = |hop: &[u8]| {
            let mut words =
                hop.split(|&byte| byte == b' ' || byte == b'\t').filter(|word| !word.is_empty());
            words.nth(1).is_some_and(|name| name.eq_ignore_ascii_case(by.name()))
        };
        self.fields.has_via()
            && self.fields.values(Kind::Via).any(|value| syntax::list(value).any(is_by))
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

/// What the client is told of its connection.
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

/// What becomes of a field.
#[derive(Clone, Copy)]
enum Fate<'a> {
    Stay,
    Go,
    /// Name and place stay, the value is another.
    Value(&'a [u8]),
    Number(u64),
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
    let mut runs = Runs { input, from, out };
    let mut content_lengths = 0;
    head.fields.visit(|field| {
        content_lengths += u32::from(field.kind == Kind::ContentLength);
        runs.settle(&field, request_fate(&field, head, by, content_lengths > 1));
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
    forwarded_fields(head, by, out);
    if let Some(pseudonym) = by.via {
        pseudonym.append(head.version, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes what of the request line is not as sent, and the Host of a client without one. Returns from where on
/// `input` is copied.
fn request_line(head: &RequestHead<'_, '_>, by: &RequestRewrite<'_>, out: &mut Vec<u8>) -> usize {
    if head.version == Version::Http11 && !matches!(head.form, Target::Absolute { .. }) {
        return head.line_start;
    }
    out.extend_from_slice(head.method_text.as_bytes());
    out.push(b' ');
    match head.form {
        Target::Origin | Target::Asterisk => out.extend_from_slice(head.target.as_bytes()),
        Target::Absolute { rest, .. } => origin_form(head, rest, out),
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
        Target::Absolute { authority, .. } => Some(authority.as_bytes()),
        _ => None,
    }
}

/// `again`: an identical Content-Length has passed already.
fn request_fate<'b>(
    field: &Field<'b>,
    head: &RequestHead<'_, 'b>,
    by: &RequestRewrite<'_>,
    again: bool,
) -> Fate<'b> {
    let stay_if = |stays| if stays { Fate::Stay } else { Fate::Go };
    match field.kind {
        Kind::Connection
        | Kind::Hop
        | Kind::Te
        | Kind::KeepAlive
        | Kind::TransferEncoding
        | Kind::Imitation => Fate::Go,
        Kind::ContentLength if again => Fate::Go,
        Kind::ContentLength => plain(field.value),
        Kind::Host => authority(head).map_or(Fate::Stay, Fate::Value),
        Kind::XForwardedFor => Fate::Go,
        Kind::XForwardedProto | Kind::XForwardedHost => {
            stay_if(by.trusted && head.has_one(field.kind))
        }
        Kind::Forwarded => stay_if(by.trusted),
        Kind::Upgrade => stay_if(head.upgrade.is_some()),
        _ if field.nominated => Fate::Go,
        Kind::Trailer => stay_if(head.body == BodyLength::Chunked),
        Kind::Expect => stay_if(head.version == Version::Http11),
        Kind::MaxForwards => head.max_forwards.map_or(Fate::Stay, Fate::Number),
        Kind::Plain | Kind::Credentials | Kind::Via => Fate::Stay,
    }
}

/// `X-Forwarded-For`, `-Proto` and `-Host`; a trusted client's are added to or kept.
fn forwarded_fields(head: &RequestHead<'_, '_>, by: &RequestRewrite<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    if by.trusted {
        for value in head.fields.values(Kind::XForwardedFor).filter(|value| !value.is_empty()) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
    address(by.client, out);
    out.extend_from_slice(b"\r\n");
    let is_kept = |kind| by.trusted && head.has_one(kind);
    if !is_kept(Kind::XForwardedProto) {
        out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
    }
    if let Some(host) = authority(head).or(head.host)
        && !is_kept(Kind::XForwardedHost)
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
    let mut runs = Runs { input, from, out };
    let mut content_lengths = 0;
    head.fields.visit(|field| {
        content_lengths += u32::from(field.kind == Kind::ContentLength);
        runs.settle(&field, response_fate(&field, head, by, content_lengths > 1));
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
        pseudonym.append(head.version, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// The Content-Length in its plain form: one number without leading zeros.
fn plain<'b>(value: &[u8]) -> Fate<'b> {
    match value {
        b"0" => Fate::Stay,
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => Fate::Stay,
        _ => {
            let first = syntax::list(value).next().and_then(syntax::number);
            first.map_or(Fate::Stay, Fate::Number)
        }
    }
}

fn response_fate<'b>(
    field: &Field<'b>,
    head: &ResponseHead<'_, 'b>,
    by: &ResponseRewrite<'_>,
    again: bool,
) -> Fate<'b> {
    let stay_if = |stays| if stays { Fate::Stay } else { Fate::Go };
    match field.kind {
        Kind::Connection | Kind::Hop | Kind::Te | Kind::KeepAlive | Kind::TransferEncoding => {
            Fate::Go
        }
        Kind::ContentLength
            if by.framing != ClientFraming::AsIs || again || head.forbids_content_length() =>
        {
            Fate::Go
        }
        Kind::ContentLength => plain(field.value),
        Kind::Upgrade => stay_if(by.connection == ClientConnection::Upgrade),
        _ if field.nominated && !is_kept_although_nominated(field.name) => Fate::Go,
        Kind::Trailer => stay_if(by.framing == ClientFraming::Chunked),
        _ => Fate::Stay,
    }
}

/// Without these a response would mean something else to the client than to its target.
fn is_kept_although_nominated(name: &[u8]) -> bool {
    let kept: [&[u8]; 4] = [b"content-type", b"content-encoding", b"set-cookie", b"location"];
    kept.iter().any(|known| name.eq_ignore_ascii_case(known))
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
                decimal(number, self.out);
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

/// Each octet in decimal with a dot behind it, and how many digits it has: to divide for them costs ten times as much.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut table = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let (text, len) = &mut table[octet];
        let mut power = if octet >= 100 {
            100
        } else if octet >= 10 {
            10
        } else {
            1
        };
        while power > 0 {
            #[expect(clippy::cast_possible_truncation, reason = "a digit")]
            let digit = (octet / power % 10) as u8;
            text[*len as usize] = b'0' + digit;
            *len += 1;
            power /= 10;
        }
        octet += 1;
    }
    table
}

/// An address as people write it; an IPv4 one in IPv6 clothes as IPv4.
fn address(client: IpAddr, out: &mut Vec<u8>) {
    match client.to_canonical() {
        IpAddr::V4(v4) => {
            let (mut text, mut len) = ([0; "255.255.255.255.".len()], 0);
            for octet in v4.octets() {
                let (written, digits) = OCTETS[usize::from(octet)];
                text[len..len + 4].copy_from_slice(&written);
                len += usize::from(digits) + 1;
            }
            out.extend_from_slice(&text[..len - 1]);
        }
        IpAddr::V6(v6) => {
            use std::io::Write;
            // Writing to a Vec does not fail.
            let _ = write!(out, "{v6}");
        }
    }
}
