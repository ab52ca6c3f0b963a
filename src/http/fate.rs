//! What becomes of each field of a message that is passed on (RFC 9110 sections 7.6, 8.6, 10.1 and RFC 9112 section 6).
//!
//! Owns: the decision for each kind of field. Does not own: what the facts are that it follows from, or how a message is
//! written.

use super::kind::Kind;
use super::syntax;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate<'a> {
    /// It stays as it is.
    Stay,
    /// It goes no further.
    Go,
    /// Name and place stay, the value is another.
    Value(&'a [u8]),
    /// Likewise, this number.
    Number(u64),
}

/// The facts of a request by which its fields pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestFacts<'b> {
    /// What the target names, which wins over Host (RFC 9112 section 3.2.2).
    pub(crate) authority: Option<&'b [u8]>,
    /// What the client says of others is believed.
    pub(crate) trusted: bool,
    /// It has one `X-Forwarded-Proto`, and that is believed.
    pub(crate) keeps_proto: bool,
    /// Likewise `X-Forwarded-Host`.
    pub(crate) keeps_host: bool,
    /// It asks for another protocol and may.
    pub(crate) upgrades: bool,
    /// It may have trailers: its body is chunked.
    pub(crate) may_trail: bool,
    /// It may expect something: it is not of HTTP/1.0 (RFC 9110 section 10.1.1).
    pub(crate) may_expect: bool,
    /// What is sent on as Max-Forwards, if it counts.
    pub(crate) max_forwards: Option<u64>,
    /// It gets an `X-Request-ID` of ours, or its own again.
    pub(crate) is_named: bool,
    /// It gets a `traceparent` of ours.
    pub(crate) is_traced: bool,
    /// Its `tracestate` belongs to the trace that it is sent on in, and is valid.
    pub(crate) keeps_state: bool,
}

impl<'b> RequestFacts<'b> {
    /// `nominated`: Connection names it. `again`: an identical Content-Length has passed already.
    #[inline]
    pub(crate) fn fate(
        &self,
        kind: Kind,
        value: &'b [u8],
        nominated: bool,
        again: bool,
    ) -> Fate<'b> {
        match kind {
            Kind::Connection
            | Kind::Hop
            | Kind::Te
            | Kind::KeepAlive
            | Kind::TransferEncoding
            | Kind::UnderscoreSpelling
            | Kind::XForwardedFor => Fate::Go,
            Kind::ContentLength if again => Fate::Go,
            Kind::ContentLength => plain_length(value),
            Kind::Host => self.authority.map_or(Fate::Stay, Fate::Value),
            Kind::XForwardedProto => stay_if(self.keeps_proto),
            Kind::XForwardedHost => stay_if(self.keeps_host),
            Kind::Forwarded => stay_if(self.trusted),
            Kind::Upgrade => stay_if(self.upgrades),
            Kind::RequestId if self.is_named => Fate::Go,
            Kind::TraceParent if self.is_traced => Fate::Go,
            _ if nominated => Fate::Go,
            Kind::TraceState => stay_if(!self.is_traced || self.keeps_state),
            Kind::Trailer => stay_if(self.may_trail),
            Kind::Expect => stay_if(self.may_expect),
            Kind::MaxForwards => self.max_forwards.map_or(Fate::Stay, Fate::Number),
            Kind::Plain | Kind::Credentials | Kind::Via | Kind::RequestId | Kind::TraceParent => {
                Fate::Stay
            }
        }
    }
}

/// The facts of a response by which its fields pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseFacts {
    /// Its Content-Length says where it ends for the client too, and its status does not rule it out.
    pub(crate) keeps_length: bool,
    /// It switches protocols.
    pub(crate) upgrades: bool,
    /// It may have trailers: the client gets it in chunks.
    pub(crate) may_trail: bool,
    /// It gets the `X-Request-ID` of its request.
    pub(crate) is_named: bool,
}

impl ResponseFacts {
    /// `nominated`: Connection names it, which is called `name`. `again`: an identical Content-Length has passed already.
    #[inline]
    pub(crate) fn fate<'b>(
        &self,
        kind: Kind,
        (name, value): (&[u8], &[u8]),
        nominated: bool,
        again: bool,
    ) -> Fate<'b> {
        match kind {
            Kind::Connection | Kind::Hop | Kind::Te | Kind::KeepAlive | Kind::TransferEncoding => {
                Fate::Go
            }
            Kind::ContentLength if again || !self.keeps_length => Fate::Go,
            Kind::ContentLength => plain_length(value),
            Kind::Upgrade => stay_if(self.upgrades),
            Kind::RequestId if self.is_named => Fate::Go,
            _ if nominated && !is_kept_although_nominated(name) => Fate::Go,
            Kind::Trailer => stay_if(self.may_trail),
            _ => Fate::Stay,
        }
    }
}

fn stay_if<'b>(stays: bool) -> Fate<'b> {
    if stays { Fate::Stay } else { Fate::Go }
}

/// The Content-Length in its plain form: one number without leading zeros.
fn plain_length<'b>(value: &[u8]) -> Fate<'b> {
    match value {
        b"0" => Fate::Stay,
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => Fate::Stay,
        _ => {
            let first = syntax::list(value).next().and_then(syntax::number);
            first.map_or(Fate::Stay, Fate::Number)
        }
    }
}

/// Without these a response would mean something else to the client than to its target.
fn is_kept_although_nominated(name: &[u8]) -> bool {
    let kept: [&[u8]; 4] = [b"content-type", b"content-encoding", b"set-cookie", b"location"];
    kept.iter().any(|known| name.eq_ignore_ascii_case(known))
}
