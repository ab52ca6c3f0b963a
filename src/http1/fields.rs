//! The field block of a head: one pass that classifies by name and collects what a proxy must know.
//!
//! Owns: which fields are special, where each line stands, and what Connection nominates. Does not own: the judgement
//! on a value (`framing`, `head`) or what becomes of a field (`rewrite`).
//! Invariant: a field is marked exactly if its kind is not [`Kind::Plain`].

use httparse::Header;

use super::MAX_FIELDS;
use super::framing::{Framing, Values};
use super::syntax;

/// More connection options than this make a head malformed: each is compared with each field.
const MAX_OPTIONS: u16 = 128;
/// Special fields of a head whose kinds are kept. Most heads have fewer.
const KNOWN: usize = 8;

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
    /// `Authorization` and `Proxy-Authorization`.
    Credentials,
    /// `Forwarded`, `X-Real-IP` and every other `X-Forwarded-*`.
    Forwarded,
    /// One of the forwarded fields with underscores for dashes, which some servers read as the same name.
    Imitation,
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

    /// `X-Forwarded`, `X-Forwarded-*` and `X-Real-IP`, with underscores too.
    fn of_x(name: &[u8]) -> Self {
        let is_forwarded = name.get(..11).is_some_and(|start| reads_as(start, b"x-forwarded"))
            && matches!(name.get(11), None | Some(b'-' | b'_'));
        if !is_forwarded && !reads_as(name, b"x-real-ip") {
            return Self::Plain;
        }
        if memchr::memchr(b'_', name).is_some() {
            return Self::Imitation;
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

/// One bit for each field of a head.
#[derive(Clone, Copy, Debug, Default)]
struct Marks([u64; MAX_FIELDS / 64]);

impl Marks {
    fn set(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(at, word)| Bits(word).map(move |b| at * 64 + b))
    }
}

/// The set bits of a word, lowest first.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let lowest = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(lowest)
    }
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

    fn add(&mut self, value: &[u8]) {
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

/// The special fields of a head, collected in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survey<'b> {
    marks: Marks,
    /// The kinds of the first marked fields: to find each out again would cost as much as the rest of a field.
    kinds: [Kind; KNOWN],
    /// Fields that are marked.
    marked: usize,
    pub(crate) options: Options,
    pub(crate) framing: Framing<'b>,
    pub(crate) upgrade: Values<'b>,
    pub(crate) host: Values<'b>,
    pub(crate) expect: Expect,
    pub(crate) max_forwards: Values<'b>,
    /// There is a Via.
    via: bool,
    /// `TE` has `trailers`.
    pub(crate) takes_trailers: bool,
    /// Credentials are of a scheme that authenticates the connection.
    pub(crate) binds_connection: bool,
    /// The last field's `timeout`, in seconds.
    pub(crate) idle_seconds: Option<u16>,
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
    fn add(&mut self, value: &[u8]) {
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
fn idle_seconds(value: &[u8]) -> Option<u16> {
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
fn takes_trailers(value: &[u8]) -> bool {
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

impl<'b> Survey<'b> {
    #[inline]
    fn add(&mut self, index: usize, field: &Header<'b>) {
        let kind = Kind::of(field.name.as_bytes());
        if kind == Kind::Plain {
            return;
        }
        self.marks.set(index);
        if let Some(known) = self.kinds.get_mut(self.marked) {
            *known = kind;
        }
        self.marked += 1;
        match kind {
            Kind::Connection => self.options.add(field.value),
            Kind::TransferEncoding => self.framing.transfer_encoding.add(field.value),
            Kind::ContentLength => self.framing.content_length.add(field.value),
            Kind::Upgrade => self.upgrade.add(field.value),
            Kind::Host => self.host.add(field.value),
            Kind::Expect => self.expect.add(field.value),
            Kind::MaxForwards => self.max_forwards.add(field.value),
            Kind::Te => self.takes_trailers |= takes_trailers(field.value),
            Kind::Credentials => self.binds_connection |= names_bound_scheme(field.value),
            Kind::KeepAlive => self.idle_seconds = idle_seconds(field.value),
            Kind::Via => self.via = true,
            _ => {}
        }
    }
}

/// The fields of one head and where their lines stand in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'h, 'b> {
    list: &'h [Header<'b>],
    /// The address of the head's first byte; a field's offset is its address less this.
    origin: usize,
    /// Where the empty line stands that ends the head.
    end: usize,
    marks: Marks,
    kinds: [Kind; KNOWN],
    /// Does Connection name a field?
    nominates: bool,
    /// Is there a Via?
    via: bool,
}

impl<'h, 'b> Fields<'h, 'b> {
    /// Looks at each field of `head` once and notes in `survey`, an empty one, what it says. None if a line ends in a bare LF,
    /// which httparse allows.
    pub(crate) fn survey(
        list: &'h [Header<'b>],
        head: &'b [u8],
        survey: &mut Survey<'b>,
    ) -> Option<Self> {
        let end = head.strip_suffix(b"\r\n").filter(|rest| rest.ends_with(b"\r\n"))?.len();
        let origin = head.as_ptr().addr();
        for (index, field) in list.iter().enumerate() {
            let start = field.name.as_ptr().addr().wrapping_sub(origin);
            if head.get(start.wrapping_sub(2)) != Some(&b'\r') {
                return None;
            }
            survey.add(index, field);
        }
        let nominates = survey.options.others > 0;
        let (marks, kinds, via) = (survey.marks, survey.kinds, survey.via);
        Some(Self { list, origin, end, marks, kinds, nominates, via })
    }

    /// Is there a Via? Nearly always there is none, and to look for it field by field costs more than all that is done with it.
    pub(crate) fn has_via(&self) -> bool {
        self.via
    }

    /// Where the field lines end.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// The value of the first field called `name`, in any casing.
    pub(crate) fn named(&self, name: &str) -> Option<&'b [u8]> {
        self.all_named(name).next()
    }

    /// The values of all fields called `name`, in any casing.
    pub(crate) fn all_named(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        let fields = self.list.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value)
    }

    /// The special fields, in order.
    pub(crate) fn marked(&self) -> impl Iterator<Item = Field<'b>> {
        self.marks.iter().enumerate().filter_map(|(nth, index)| {
            let header = self.list.get(index)?;
            let known = self.kinds.get(nth).copied();
            let kind = known.unwrap_or_else(|| Kind::of(header.name.as_bytes()));
            Some(self.field(index, header, kind))
        })
    }

    /// The values of the fields of one special kind, in order.
    pub(crate) fn values(&self, kind: Kind) -> impl Iterator<Item = &'b [u8]> {
        self.marked().filter(move |field| field.kind == kind).map(|field| field.value)
    }

    /// Calls `visit` for each field that may not pass as it is: the special ones and those that Connection names.
    pub(crate) fn visit(&self, mut visit: impl FnMut(Field<'b>)) {
        if self.nominates {
            for (index, header) in self.list.iter().enumerate() {
                visit(self.field(index, header, Kind::of(header.name.as_bytes())));
            }
        } else {
            self.marked().for_each(visit);
        }
    }

    fn field(&self, index: usize, header: &Header<'b>, kind: Kind) -> Field<'b> {
        let next = self.list.get(index + 1);
        Field {
            kind,
            nominated: self.nominates && self.is_nominated(header.name.as_bytes()),
            name: header.name.as_bytes(),
            value: header.value,
            start: self.offset(header.name.as_bytes()),
            value_start: self.offset(header.value),
            end: next.map_or(self.end, |next| self.offset(next.name.as_bytes())),
        }
    }

    fn offset(&self, bytes: &[u8]) -> usize {
        bytes.as_ptr().addr().wrapping_sub(self.origin)
    }

    fn is_nominated(&self, name: &[u8]) -> bool {
        let names = |value| syntax::list(value).any(|option| option.eq_ignore_ascii_case(name));
        let connections = self.marks.iter().filter_map(|index| self.list.get(index));
        connections
            .filter(|field| Kind::of(field.name.as_bytes()) == Kind::Connection)
            .any(|field| names(field.value))
    }
}

/// One field and where its line stands; offsets count from the head's first byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'b> {
    pub(crate) kind: Kind,
    /// Does Connection name it?
    pub(crate) nominated: bool,
    pub(crate) name: &'b [u8],
    pub(crate) value: &'b [u8],
    /// The first byte of the line.
    pub(crate) start: usize,
    /// The first byte of the value.
    pub(crate) value_start: usize,
    /// Behind the line's CRLF.
    pub(crate) end: usize,
}
