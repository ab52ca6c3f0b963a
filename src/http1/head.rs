//! Request and response heads: from bytes to what an exchange must know (RFC 9112 sections 2 to 6).
//!
//! Owns: parsing on the hot path and the judgement on a whole head. Does not own: naming the fault in a malformed head
//! (`diagnose`), the rules of framing (`framing`), what is sent on (`rewrite`).
//! Invariant: a head that comes out has exact CRLF line ends, one empty line before it at most, and one framing.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use super::diagnose::{self, MAX_METHOD};
use super::fields::{Fields, Survey};
use super::framing::{self, BodyLength, Declared, Sender, Values};
use super::target::RequestTarget;
use super::{Fault, Method, Progress, Version};
use crate::http::kind::{Expect, Kind, Options, names_bound_scheme};
use crate::http::syntax;

/// The most fields a head may have, whatever its limits say.
pub const MAX_FIELDS: usize = 256;

/// How large a head, or a trailer section, may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes from the first to the last, line ends included.
    pub bytes: usize,
    /// Fields; more than [`MAX_FIELDS`] counts as [`MAX_FIELDS`].
    pub fields: usize,
}

impl Default for HeadLimits {
    /// 16 KiB and 100 fields, as the configuration has them.
    fn default() -> Self {
        Self { bytes: 16 * 1024, fields: 100 }
    }
}

/// Room on the stack for the fields of one head. Making one costs nothing: it stays uninitialised.
pub struct FieldSpace<'b>([MaybeUninit<Header<'b>>; MAX_FIELDS]);

impl<'b> FieldSpace<'b> {
    /// An empty one.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; MAX_FIELDS])
    }

    fn first(&mut self, count: usize) -> &mut [MaybeUninit<Header<'b>>] {
        &mut self.0[..count.min(MAX_FIELDS)]
    }
}

impl Default for FieldSpace<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// A whole request head that may be served.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'h, 'b> {
    /// The method.
    pub method: Method,
    /// The client's version.
    pub version: Version,
    /// The method as sent.
    pub method_text: &'b str,
    /// The target as sent.
    pub target: &'b str,
    /// Where the body ends; never [`BodyLength::UntilClose`].
    pub body: BodyLength,
    /// Does the client want the connection kept (RFC 9112 section 9.3)? `close` wins.
    pub keep_alive: bool,
    /// Did the client say `Expect: 100-continue`? Never for HTTP/1.0 (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// The protocols asked for: a valid Upgrade value that Connection nominates, in HTTP/1.1, and without `h2c`.
    pub upgrade: Option<&'b [u8]>,
    /// Its credentials authenticate the connection that they are sent on, as NTLM's do.
    pub binds_connection: bool,
    /// Does the client take trailers: `TE: trailers` in HTTP/1.1 (RFC 9110 section 10.1.4)?
    pub takes_trailers: bool,
    /// OPTIONS with `Max-Forwards: 0`: to be answered here (RFC 9110 section 7.6.2).
    pub max_forwards_zero: bool,
    /// Bytes of input the head took, an empty line before it included.
    pub len: usize,
    pub(crate) form: RequestTarget<'b>,
    /// The valid Host as sent; always there in HTTP/1.1.
    pub(crate) host: Option<&'b [u8]>,
    /// What OPTIONS sends on as Max-Forwards.
    pub(crate) max_forwards: Option<u64>,
    /// The first byte of the request line.
    pub(crate) line_start: usize,
    /// Behind the request line.
    pub(crate) line_end: usize,
    pub(crate) fields: Fields<'h, 'b>,
}

impl<'b> RequestHead<'_, 'b> {
    /// The value of the first field called `name`, in any casing.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        self.fields.named(name)
    }

    /// Whether it has content.
    #[must_use]
    pub fn has_content(&self) -> bool {
        !matches!(self.body, BodyLength::None | BodyLength::Length(0))
    }
}

/// A whole response head that may be passed on.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'h, 'b> {
    /// 100..=999.
    pub status: u16,
    /// The target's version.
    pub version: Version,
    /// May this upstream connection carry another request, as far as its head says (RFC 9112 section 9.3)? A body
    /// that ends with the connection rules it out as well.
    pub keep_alive: bool,
    /// The protocol switched to: a valid Upgrade value that Connection nominates, in HTTP/1.1, and without `h2c`.
    pub upgrade: Option<&'b [u8]>,
    /// How many whole seconds the target keeps an idle connection, as its `Keep-Alive: timeout` says.
    pub idle_seconds: Option<u16>,
    /// Bytes of input the head took.
    pub len: usize,
    declared: Declared,
    pub(crate) fields: Fields<'h, 'b>,
}

/// Parses a request head at the start of `input`.
///
/// # Errors
/// The status to refuse it with: 400, 405, 414, 417, 431, 501 or 505. A fault is reported as soon as its byte is there;
/// what the fields mean together is judged when the head is whole.
pub fn parse_request<'h, 'b>(
    input: &'b [u8],
    limits: HeadLimits,
    space: &'h mut FieldSpace<'b>,
) -> Result<Progress<RequestHead<'h, 'b>>, Fault> {
    let window = &input[..input.len().min(limits.bytes)];
    let field_limit = limits.fields.min(MAX_FIELDS);
    let mut request = httparse::Request::new(&mut []);
    let malformed = || {
        let fault = diagnose::request(window, field_limit).err();
        fault.unwrap_or(Fault::RequestHead)
    };
    match request.parse_with_uninit_headers(window, space.first(field_limit)) {
        Ok(Status::Complete(len)) => {
            let mut survey = Survey::default();
            let raw = RawRequest::of(request, &window[..len], &mut survey).ok_or_else(malformed)?;
            raw.judge(&survey).map(Progress::Complete)
        }
        // httparse gives a version up one byte before it is all there.
        Ok(Status::Partial) | Err(httparse::Error::Version) => {
            diagnose::request(window, field_limit)?;
            if window.len() < limits.bytes { Ok(Progress::Partial) } else { Err(too_large(window)) }
        }
        Err(_) => Err(malformed()),
    }
}

/// Writes the version of the request line at the start of `input` as `HTTP/1.1` if it is `HTTP/1.2` or above, which promises the
/// same and may be served so (RFC 9110 section 2.5). Was it?
pub fn lower_minor(input: &mut [u8]) -> bool {
    let end =
        memchr::memchr(b'\n', input.get(2..).unwrap_or_default()).map_or(input.len(), |at| at + 2);
    let line = input.get_mut(..end).unwrap_or_default();
    let len = line.len() - usize::from(line.ends_with(b"\r"));
    match line.get_mut(..len).and_then(|line| line.split_last_mut()) {
        Some((minor @ b'2'..=b'9', before)) if before.ends_with(b" HTTP/1.") => {
            *minor = b'1';
            true
        }
        _ => false,
    }
}

/// How far an unfinished head was looked at: a peer that sends it byte by byte does not make us read it from the start each time.
#[derive(Clone, Copy, Debug)]
pub struct Scan(u32);

impl Scan {
    /// Nothing of a head was looked at.
    pub const NOTHING: Scan = Scan(0);

    /// Whether the head at the start of `input` may be whole now, or is beyond its `limit` in bytes.
    #[inline]
    pub fn is_due(&mut self, input: &[u8], limit: usize) -> bool {
        let fresh = input.get(self.0 as usize..).unwrap_or(input);
        let due = self.0 == 0 || input.len() >= limit || memchr::memchr(b'\n', fresh).is_some();
        self.0 = u32::try_from(input.len()).unwrap_or(0);
        due
    }
}

/// A head that reaches its limit without an end (RFC 9110 section 15.5.15, RFC 6585 section 5).
fn too_large(window: &[u8]) -> Fault {
    let line = window.strip_prefix(b"\r\n").unwrap_or(window);
    match memchr::memchr(b'\n', line) {
        None => Fault::LongRequestLine,
        Some(_) => Fault::LargeRequestHead,
    }
}

/// A request head whose every line is exact; what it means is not judged yet.
struct RawRequest<'h, 'b> {
    version: Version,
    method: &'b str,
    target: &'b str,
    line_start: usize,
    line_end: usize,
    len: usize,
    fields: Fields<'h, 'b>,
}

impl<'h, 'b> RawRequest<'h, 'b> {
    /// None if httparse was more lenient than we are.
    #[inline]
    fn of(
        request: httparse::Request<'h, 'b>,
        head: &'b [u8],
        survey: &mut Survey<'b>,
    ) -> Option<Self> {
        let httparse::Request { method, path, version, headers } = request;
        let (method, target) = (method?, path?);
        let line_start = method.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        let before_is_exact = line_start == 0 || (line_start == 2 && head.starts_with(b"\r\n"));
        let line_end =
            line_start + method.len() + target.len() + " ".len() * 2 + "HTTP/1.1\r\n".len();
        let line_is_exact = head.get(line_end.wrapping_sub(2)..line_end) == Some(b"\r\n");
        if !before_is_exact || !line_is_exact || method.len() > MAX_METHOD {
            return None;
        }
        let version = Version::of_minor(version);
        let fields = Fields::survey(headers, head, survey)?;
        Some(Self { version, method, target, line_start, line_end, len: head.len(), fields })
    }

    fn judge(self, survey: &Survey<'b>) -> Result<RequestHead<'h, 'b>, Fault> {
        let method = Method::of(self.method);
        let form = RequestTarget::of(method, self.target)?;
        let host = host(self.version, survey.host)?;
        let body = framing::request_body(survey.framing.declared(Sender::Client(self.version))?);
        options_are_few(survey.options)?;
        let expect_continue = expect_continue(self.version, survey.expect)?;
        let max_forwards = max_forwards(method, survey.max_forwards)?;
        if method == Method::Trace {
            return Err(Fault::Trace);
        }
        Ok(RequestHead {
            method,
            version: self.version,
            method_text: self.method,
            target: self.target,
            body,
            keep_alive: keep_alive(self.version, survey.options),
            expect_continue,
            upgrade: upgrade(self.version, survey),
            binds_connection: survey.binds_connection,
            takes_trailers: self.version == Version::Http11 && survey.takes_trailers,
            max_forwards_zero: max_forwards == Some(0),
            len: self.len,
            form,
            host,
            max_forwards: max_forwards.map(|count| count.saturating_sub(1)),
            line_start: self.line_start,
            line_end: self.line_end,
            fields: self.fields,
        })
    }
}

/// Exactly one in HTTP/1.1, at most one in HTTP/1.0, and valid (RFC 9112 section 3.2).
fn host(version: Version, values: Values<'_>) -> Result<Option<&[u8]>, Fault> {
    match (values, version) {
        (Values::Absent, Version::Http10) => Ok(None),
        (Values::Absent, Version::Http11) => Err(Fault::NoHost),
        (Values::Same(host, 1), _) if syntax::is_authority(host) => Ok(Some(host)),
        (Values::Same(_, 1), _) => Err(Fault::BadHost),
        _ => Err(Fault::SeveralHosts),
    }
}

/// RFC 9112 section 9.3, the rules for one message.
fn keep_alive(version: Version, options: Options) -> bool {
    !options.close && (version == Version::Http11 || options.keep_alive)
}

/// A 1.0 client's expectation is ignored, an unknown one refused (RFC 9110 section 10.1.1).
fn expect_continue(version: Version, expect: Expect) -> Result<bool, Fault> {
    match (version, expect) {
        (Version::Http10, _) | (_, Expect::Nothing) => Ok(false),
        (_, Expect::Continue) => Ok(true),
        (_, Expect::Unknown) => Err(Fault::UnknownExpectation),
    }
}

/// Counts down for OPTIONS only; a number beyond all counting is the greatest we know (RFC 9110 section 7.6.2).
fn max_forwards(method: Method, values: Values<'_>) -> Result<Option<u64>, Fault> {
    if method != Method::Options || values == Values::Absent {
        return Ok(None);
    }
    let digits = values.only().filter(|v| !v.is_empty() && v.iter().all(u8::is_ascii_digit));
    let digits = digits.ok_or(Fault::BadMaxForwards)?;
    Ok(Some(syntax::number(digits).unwrap_or(u64::from(u32::MAX))))
}

/// Each option is compared with each field, so their number is bounded.
fn options_are_few(options: Options) -> Result<(), Fault> {
    if options.are_too_many() {
        return Err(Fault::TooManyOptions);
    }
    Ok(())
}

/// RFC 9110 section 7.8; `h2c` never passes (RFC 9113 section 3.1 has done away with it).
fn upgrade<'b>(version: Version, survey: &Survey<'b>) -> Option<&'b [u8]> {
    let is_protocol = |protocol: &[u8]| {
        !protocol.eq_ignore_ascii_case(b"h2c")
            && protocol.splitn(2, |&byte| byte == b'/').all(syntax::is_token)
    };
    let value = survey.upgrade.only()?;
    let may_pass = version == Version::Http11
        && survey.options.upgrade
        && syntax::list(value).all(is_protocol);
    may_pass.then_some(value)
}

/// Parses a response head at the start of `input`.
///
/// # Errors
/// Everything that is not exactly a response: a fault in a line is reported as soon as its byte is there; conflicting
/// or unknown framing when the head is whole.
pub fn parse_response<'h, 'b>(
    input: &'b [u8],
    limits: HeadLimits,
    space: &'h mut FieldSpace<'b>,
) -> Result<Progress<ResponseHead<'h, 'b>>, Fault> {
    let window = &input[..input.len().min(limits.bytes)];
    let field_limit = limits.fields.min(MAX_FIELDS);
    let mut response = httparse::Response::new(&mut []);
    let malformed = || {
        let fault = diagnose::response(window, field_limit).err();
        fault.unwrap_or(Fault::ResponseHead)
    };
    let parser = httparse::ParserConfig::default();
    let fields = space.first(field_limit);
    match parser.parse_response_with_uninit_headers(&mut response, window, fields) {
        Ok(Status::Complete(len)) => judge_response(response, &window[..len], malformed),
        // httparse gives a version up one byte before it is all there.
        Ok(Status::Partial) | Err(httparse::Error::Version) => {
            diagnose::response(window, field_limit)?;
            let too_large = Fault::LargeResponseHead;
            if window.len() < limits.bytes { Ok(Progress::Partial) } else { Err(too_large) }
        }
        Err(_) => Err(malformed()),
    }
}

fn judge_response<'h, 'b>(
    response: httparse::Response<'h, 'b>,
    head: &'b [u8],
    malformed: impl Fn() -> Fault,
) -> Result<Progress<ResponseHead<'h, 'b>>, Fault> {
    let httparse::Response { version, code, headers, .. } = response;
    let status = code.filter(|code| (100..=999).contains(code)).ok_or_else(&malformed)?;
    let version = Version::of_minor(version);
    if !status_line_is_exact(headers, head) {
        return Err(malformed());
    }
    let mut survey = Survey::default();
    let fields = Fields::survey(headers, head, &mut survey).ok_or_else(&malformed)?;
    let declared = survey.framing.declared(Sender::Target)?;
    options_are_few(survey.options)?;
    let is_faulty = version == Version::Http10 && declared == Declared::Chunked;
    Ok(Progress::Complete(ResponseHead {
        status,
        version,
        keep_alive: keep_alive(version, survey.options)
            && !is_faulty
            && !announces_a_forbidden_body(status, declared),
        upgrade: upgrade(version, &survey),
        idle_seconds: survey.idle_seconds,
        len: head.len(),
        declared,
        fields,
    }))
}

/// No empty line before it and CRLF behind it: the two liberties that httparse takes with status lines.
fn status_line_is_exact(fields: &[Header<'_>], head: &[u8]) -> bool {
    let first = fields.first().map(|field| field.name.as_ptr().addr() - head.as_ptr().addr());
    let line_end = first.unwrap_or(head.len().wrapping_sub(2));
    head.starts_with(b"H") && head.get(line_end.wrapping_sub(2)..line_end) == Some(b"\r\n")
}

/// A target that thinks a 1xx or 204 has a body may send one: it would be read as the next response.
fn announces_a_forbidden_body(status: u16, declared: Declared) -> bool {
    matches!(status, 100..=199 | 204)
        && !matches!(declared, Declared::Nothing | Declared::Length(0))
}

impl ResponseHead<'_, '_> {
    /// Where the body of this response to a `request` ends (RFC 9112 section 6.3).
    ///
    /// # Errors
    /// A tunnel that nobody asked for: 2xx to CONNECT. Conflicting framing has been refused with the head.
    pub fn body(&self, request: Method) -> Result<BodyLength, Fault> {
        framing::response_body(self.declared, request, self.status)
    }

    /// Does it ask for credentials that authenticate the connection which they are sent on (a 401 or 407 with NTLM, Negotiate,
    /// ..)? What is asked and answered on the connection then is one client's.
    #[must_use]
    pub fn binds_connection(&self) -> bool {
        let field = match self.status {
            401 => "www-authenticate",
            407 => "proxy-authenticate",
            _ => return false,
        };
        self.fields.all_named(field).any(names_bound_scheme)
    }

    /// Does the status rule out Content-Length (RFC 9110 section 8.6)?
    pub(crate) fn forbids_content_length(&self) -> bool {
        matches!(self.status, 100..=199 | 204)
    }
}

impl RequestHead<'_, '_> {
    /// The only value of a forwarded field, if there is one.
    pub(crate) fn has_one(&self, kind: Kind) -> bool {
        self.fields.values(kind).take(2).count() == 1
    }
}
