//! What each field is to a proxy, and what those that speak to it say (RFC 9110 sections 5, 7 and 10).
//!
//! Owns: the table of names, and the reading of values by which a message is forwarded. Does not own: where a field stands
//! in a message (`http1::fields`), or what becomes of it (`fate`).

use super::syntax;

/// More connection options than this make a head malformed: each is compared with each field.
const MAX_OPTIONS: u16 = 128;

/// What a field is to a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing special: end-to-end.
    #[default]
    Plain,
    Connection,
    /// `Proxy-Connection`, `HTTP2-Settings`: about one hop, never passed on.
    Hop,
    /// About one hop too; we say ourselves that trailers are taken.
    Te,
    /// `Keep-Alive`: about one hop too, and a target's says how long it keeps an idle connection.
    KeepAlive,
    Trailer,
    TransferEncoding,
    Upgrade,
    ContentLength,
    Host,
    Expect,
    MaxForwards,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    Via,
    /// `X-Request-ID`, with underscores for dashes too, which some servers read as the same name.
    RequestId,
    /// `traceparent`
    TraceParent,
    /// `tracestate`
    TraceState,
    /// `Authorization` and `Proxy-Authorization`.
    Credentials,
    /// `Forwarded`, `X-Real-IP` and every other `X-Forwarded-*`.
    Forwarded,
    /// One of the forwarded fields with underscores for dashes, which some servers read as the same name.
    UnderscoreSpelling,
}

impl Kind {
    /// Classifies a token, by its length first: 1 to 2 ns.
    #[inline]
    pub(crate) fn of(name: &[u8]) -> Self {
        match name.len() {
            _ if matches!(name.first(), Some(b'x' | b'X')) => Self::of_x(name),
            2 if is(name, b"te") => Self::Te,
            3 if is(name, b"via") => Self::Via,
            4 if is(name, b"host") => Self::Host,
            6 if is(name, b"expect") => Self::Expect,
            7 if is(name, b"upgrade") => Self::Upgrade,
            7 if is(name, b"trailer") => Self::Trailer,
            9 if is(name, b"forwarded") => Self::Forwarded,
            10 if is(name, b"connection") => Self::Connection,
            10 if is(name, b"keep-alive") => Self::KeepAlive,
            10 if is(name, b"tracestate") => Self::TraceState,
            11 if is(name, b"traceparent") => Self::TraceParent,
            12 if is(name, b"max-forwards") => Self::MaxForwards,
            13 if is(name, b"authorization") => Self::Credentials,
            14 if is(name, b"content-length") => Self::ContentLength,
            14 if is(name, b"http2-settings") => Self::Hop,
            16 if is(name, b"proxy-connection") => Self::Hop,
            17 if is(name, b"transfer-encoding") => Self::TransferEncoding,
            19 if is(name, b"proxy-authorization") => Self::Credentials,
            _ => Self::Plain,
        }
    }

    /// `X-Forwarded`, `X-Forwarded-*`, `X-Real-IP` and `X-Request-ID`, with underscores too.
    fn of_x(name: &[u8]) -> Self {
        if name.len() == 12 && reads_as(name, b"x-request-id") {
            return Self::RequestId;
        }
        let is_forwarded = name.get(..11).is_some_and(|start| reads_as(start, b"x-forwarded"))
            && matches!(name.get(11), None | Some(b'-' | b'_'));
        if !is_forwarded && !reads_as(name, b"x-real-ip") {
            return Self::Plain;
        }
        if memchr::memchr(b'_', name).is_some() {
            return Self::UnderscoreSpelling;
        }
        match name.len() {
            15 if is(name, b"x-forwarded-for") => Self::XForwardedFor,
            16 if is(name, b"x-forwarded-host") => Self::XForwardedHost,
            17 if is(name, b"x-forwarded-proto") => Self::XForwardedProto,
            _ => Self::Forwarded,
        }
    }
}

/// Is the token `name` the same as `known` (lower case), in any casing? A few instructions for all bytes together: setting
/// the bit that tells cases apart changes no dash and no digit, and makes no other byte of a token one of `known`.
#[inline]
fn is<const LEN: usize>(name: &[u8], known: &[u8; LEN]) -> bool {
    <&[u8; LEN]>::try_from(name).is_ok_and(|name| {
        name.iter().zip(known).fold(0, |other, (a, b)| other | ((a | 0x20) ^ b)) == 0
    })
}

/// Is `name` the same as `known` (lower case) to a server that takes underscores for dashes?
fn reads_as(name: &[u8], known: &[u8]) -> bool {
    let same = |(&a, &b): (&u8, &u8)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-');
    name.len() == known.len() && name.iter().zip(known).all(same)
}

/// What all the Connection fields say (RFC 9110 section 7.6.1).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Options that are none of these: names of fields that go no further.
    pub(crate) others: u16,
}

impl Options {
    /// Are there more than may be compared with every field?
    pub(crate) fn are_too_many(self) -> bool {
        self.others > MAX_OPTIONS
    }

    /// Adds what one Connection field says.
    pub(crate) fn add(&mut self, value: &[u8]) {
        for option in syntax::list(value) {
            match option.len() {
                0 => {}
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                _ => self.others = self.others.saturating_add(1),
            }
        }
    }
}

/// What the Expect fields say together (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Expect {
    #[default]
    Nothing,
    Continue,
    Unknown,
}

impl Expect {
    /// Adds what one Expect field says.
    pub(crate) fn add(&mut self, value: &[u8]) {
        // An empty element says nothing (RFC 9110 section 5.6.1.2); a field without any says something unknown.
        let mut expectations = syntax::list(value).filter(|one| !one.is_empty()).peekable();
        let is_continue = *self != Self::Unknown
            && expectations.peek().is_some()
            && expectations.all(|one| one.eq_ignore_ascii_case(b"100-continue"));
        *self = if is_continue { Self::Continue } else { Self::Unknown };
    }
}

/// `timeout=5, max=100`: the whole seconds of the first `timeout`, which has no standard (RFC 2068 section 19.7.1.1 names
/// the field, and servers write this). A number that is none says nothing, one beyond 65,534 is 65,534.
pub(crate) fn idle_seconds(value: &[u8]) -> Option<u16> {
    syntax::list(value).find_map(|parameter| {
        let (name, seconds) = parameter.split_at(memchr::memchr(b'=', parameter)?);
        let seconds = seconds
            .get(1..)
            .map(syntax::trim)
            .filter(|_| syntax::trim(name).eq_ignore_ascii_case(b"timeout"))?;
        syntax::number(seconds)
            .map(|seconds| u16::try_from(seconds.min(65_534)).unwrap_or_default())
    })
}

/// Is `trailers` among the values of a TE field?
pub(crate) fn takes_trailers(value: &[u8]) -> bool {
    syntax::list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Does a challenge, or do credentials, name a scheme that authenticates the connection and not the request (RFC 4559
/// section 6; RFC 9110 section 11.1)? A quoted string may look like one, which does no harm.
pub(crate) fn names_bound_scheme(value: &[u8]) -> bool {
    const BOUND: [&[u8]; 4] = [b"ntlm", b"negotiate", b"nego2", b"kerberos"];
    syntax::list(value).any(|element| {
        let scheme =
            element.split(|&byte| byte == b' ' || byte == b'\t').next().unwrap_or_default();
        BOUND.iter().any(|bound| scheme.eq_ignore_ascii_case(bound))
    })
}
