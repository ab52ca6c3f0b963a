//! The field block of a head: one pass that classifies by name and collects what a proxy must know.
//!
//! Owns: which fields are special, where each line stands, and what Connection nominates. Does not own: the judgement
//! on a value (`framing`, `head`) or what becomes of a field (`rewrite`).
//! Invariant: a field is marked exactly if its kind is not [`Kind::Plain`].

use httparse::Header;

use super::MAX_FIELDS;
use super::framing::{Framing, Values};
use crate::http::kind::{Expect, Kind, Options, idle_seconds, names_bound_scheme, takes_trailers};
use crate::http::syntax;

/// Special fields of a head whose kinds are kept. Most heads have fewer.
const KNOWN: usize = 8;

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
    /// There is an `X-Request-ID`, a `traceparent` or a `tracestate`.
    names: bool,
    /// `TE` has `trailers`.
    pub(crate) takes_trailers: bool,
    /// Credentials are of a scheme that authenticates the connection.
    pub(crate) binds_connection: bool,
    /// The last field's `timeout`, in seconds.
    pub(crate) idle_seconds: Option<u16>,
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
            Kind::RequestId | Kind::TraceParent | Kind::TraceState => self.names = true,
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
    /// Is there one of the fields that name a request?
    names: bool,
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
        let Survey { marks, kinds, via, names, .. } = *survey;
        Some(Self { list, origin, end, marks, kinds, nominates, via, names })
    }

    /// Is there a Via? Nearly always there is none, and to look for it field by field costs more than all that is done with it.
    pub(crate) fn has_via(&self) -> bool {
        self.via
    }

    /// Likewise one of `X-Request-ID`, `traceparent` and `tracestate`.
    pub(crate) fn has_names(&self) -> bool {
        self.names
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
