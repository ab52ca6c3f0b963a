//! The bytes of a head to what is asked for. Pure.
//!
//! Every connection ends after one answer, so a message that could be read two ways can do no more harm
//! than to be refused or answered; bodies are never read as anything.

use std::fmt;

use crate::http::{Fault, Method};
use crate::http1::{BodyLength, FieldSpace, HeadLimits, Progress, RequestHead, parse_request};

use super::exposition::Exposition;

/// The longest head, in bytes; then 431.
pub(super) const HEAD_BYTES: usize = 8 * 1024;
/// The most content of a request, in bytes; then 413.
const CONTENT_BYTES: usize = 4 * 1024;
/// The most bytes of a request.
pub(super) const REQUEST_BYTES: usize = HEAD_BYTES + CONTENT_BYTES;
/// The most fields of a head; then 431.
const FIELDS: usize = 64;

/// What somebody says to be the token (RFC 6750 section 2.1).
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials(Box<[u8]>);

impl Credentials {
    /// What was said.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Credentials {
    /// Without what was said, which may be right.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// The path, without its query.
    pub(super) path: String,
    /// What follows the first `?`; empty if there is none.
    pub(super) query: String,
    /// The answer is to have no body.
    pub(super) head_only: bool,
    /// Something is to be done: POST or PUT.
    pub(super) is_command: bool,
    /// The content of a PUT.
    pub(super) content: Option<Box<[u8]>>,
    /// What it has in its Authorization field for `Bearer`. `None`: nothing, something for another scheme, or several such fields.
    pub(super) credentials: Option<Credentials>,
    /// Its Origin field, which browsers send with whatever a page writes (Fetch, section 3.2).
    pub(super) origin: Option<String>,
    /// What it calls the host, with the port if it has one.
    pub(super) host: Option<String>,
    /// How metrics are to be written.
    pub(super) form: Exposition,
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 405: neither GET, HEAD, POST nor PUT.
    Method,
    /// 411: a PUT whose content has no length.
    Length,
    /// 413: more content than is read.
    Content,
    /// It is not a valid request.
    Invalid(Fault),
}

/// Reads the head at the start of `bytes`, which are all that came and at most [`REQUEST_BYTES`], as strictly as that of any
/// client, and the content of a PUT. `None`: there is more to come.
pub(super) fn parse(bytes: &[u8]) -> Option<Result<Request, Refusal>> {
    const LIMITS: HeadLimits = HeadLimits { bytes: HEAD_BYTES, fields: FIELDS };
    match parse_request(bytes, LIMITS, &mut FieldSpace::new()) {
        Ok(Progress::Partial) => None,
        Ok(Progress::Complete(head)) if head.method == Method::Put => {
            let length = match head.body {
                BodyLength::None => 0,
                BodyLength::Length(length) => length,
                BodyLength::Chunked | BodyLength::UntilClose => return Some(Err(Refusal::Length)),
            };
            if length > CONTENT_BYTES as u64 {
                return Some(Err(Refusal::Content));
            }
            let end = head.len.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
            let content = bytes.get(head.len..end)?;
            let request = read(&head);
            Some(request.map(|request| Request { content: Some(content.into()), ..request }))
        }
        Ok(Progress::Complete(head)) => Some(read(&head)),
        Err(Fault::Connect | Fault::Trace) => Some(Err(Refusal::Method)),
        Err(fault) => Some(Err(Refusal::Invalid(fault))),
    }
}

fn read(head: &RequestHead<'_, '_>) -> Result<Request, Refusal> {
    if !matches!(head.method, Method::Get | Method::Head | Method::Post | Method::Put) {
        return Err(Refusal::Method);
    }
    Ok(Request {
        path: path(head.target).to_owned(),
        query: head.target.split_once('?').map_or("", |(_, query)| query).to_owned(),
        head_only: head.method == Method::Head,
        is_command: matches!(head.method, Method::Post | Method::Put),
        content: None,
        credentials: credentials(head),
        origin: head.field("Origin").map(text),
        host: head.field("Host").map(text),
        form: head
            .field("Accept")
            .and_then(|accept| std::str::from_utf8(accept).ok())
            .map_or(Exposition::Plain, Exposition::wanted),
    })
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// The scheme is written in any case, and followed by one space or more (RFC 9110 section 11.4).
fn credentials(head: &RequestHead<'_, '_>) -> Option<Credentials> {
    let mut values = head.fields.all_named("Authorization");
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, said) = value.split_at_checked("Bearer".len())?;
    let said = said.strip_prefix(b" ")?.trim_ascii();
    let is_one = scheme.eq_ignore_ascii_case(b"Bearer") && !said.is_empty();
    is_one.then(|| Credentials(said.into()))
}

/// The path of a target in origin-form or absolute-form (RFC 9112 section 3.2.2), without its query.
fn path(target: &str) -> &str {
    let target = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => {
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    match target.split('?').next() {
        Some("") | None => "/",
        Some(path) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_these_paths() {
        for (target, expected) in [
            ("/", "/"),
            ("/metrics", "/metrics"),
            ("/metrics?a=b?c", "/metrics"),
            ("/a://b/c", "/a://b/c"),
            ("http://h:1/status?x", "/status"),
            ("http://h", "/"),
            ("http://h?x", "/"),
            ("*", "*"),
            ("h:1", "h:1"),
            ("", "/"),
        ] {
            assert_eq!(path(target), expected, "{target}");
        }
    }

    #[test]
    fn heads_are_read_or_refused() {
        let plain = |path: &str| Request {
            path: path.into(),
            query: String::new(),
            head_only: false,
            is_command: false,
            content: None,
            credentials: None,
            origin: None,
            host: Some("a".into()),
            form: Exposition::Plain,
        };
        let get = |path: &str| Ok(plain(path));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(FIELDS));
        let invalid = |fault| Err(Refusal::Invalid(fault));
        let cases: [(&[u8], Result<Request, Refusal>); 20] = [
            (b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", get("/metrics")),
            (b"GET / HTTP/1.0\r\n\r\n", Ok(Request { host: None, ..plain("/") })),
            (b"GET / HTTP/1.1\r\nhOST: a\r\n\r\nGET", get("/")),
            (b"GET http://a/status HTTP/1.1\r\nHost: a\r\n\r\n", get("/status")),
            (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(Request { head_only: true, ..plain("/") })),
            (
                b"POST /reload?dry-run HTTP/1.1\r\nHost: a\r\n\r\n",
                Ok(Request { query: "dry-run".into(), is_command: true, ..plain("/reload") }),
            ),
            (b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", Err(Refusal::Method)),
            (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Err(Refusal::Method)),
            (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", Err(Refusal::Method)),
            (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Err(Refusal::Method)),
            (b"GET / HTTP/1.1\r\n\r\n", invalid(Fault::NoHost)),
            (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", invalid(Fault::BadHost)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", invalid(Fault::SeveralHosts)),
            (b"GET /\r\n\r\n", invalid(Fault::NoVersion)),
            (b"\x16\x03\x01\x02\x00\x01\x00", invalid(Fault::ClientSpeaksTls)),
            (b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n", invalid(Fault::FieldNameCharacter)),
            (b"GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n", invalid(Fault::FieldValueCharacter)),
            (b"GET / HTTP/2.0\r\n\r\n", invalid(Fault::OtherVersion)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", invalid(Fault::ClientSpeaksHttp2)),
            (many.as_bytes(), invalid(Fault::TooManyFields)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse(bytes), Some(expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_said_to_be_the_token_is_shown_nowhere() {
        let head = b"POST /reload HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a-secret\r\nOrigin: b\r\n\r\n";
        let request = parse(head).unwrap().unwrap();
        assert_eq!(request.credentials.as_ref().unwrap().bytes(), b"a-secret");
        assert_eq!(request.origin.as_deref(), Some("b"));
        assert!(!format!("{request:?}").contains("secret"));
    }

    #[test]
    fn a_head_in_pieces_is_read_when_it_is_whole() {
        let head = b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(parse(&head[..cut]), None, "{cut}");
        }
        assert!(parse(head).unwrap().is_ok());
    }

    #[test]
    fn the_content_of_a_put_is_read_if_it_has_a_length_that_is_bounded() {
        let put = |length: &str| format!("PUT /targets/a HTTP/1.1\r\nHost: a\r\n{length}\r\n");
        let read = |text: String| parse(text.as_bytes());
        assert_eq!(read(put("Content-Length: 3\r\n") + "{}"), None);
        let whole = read(put("Content-Length: 2\r\n") + "{}more").unwrap().unwrap();
        assert_eq!((whole.content.as_deref(), whole.is_command), (Some(&b"{}"[..]), true));
        assert_eq!(read(put("")).unwrap().unwrap().content.as_deref(), Some(&b""[..]));
        let chunked = put("Transfer-Encoding: chunked\r\n");
        assert_eq!(read(chunked), Some(Err(Refusal::Length)));
        let long = put(&format!("Content-Length: {}\r\n", CONTENT_BYTES + 1));
        assert_eq!(read(long), Some(Err(Refusal::Content)));
    }

    #[test]
    fn a_head_that_fills_its_room_without_an_end_is_too_large() {
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        head.resize(HEAD_BYTES - 1, b'a');
        assert_eq!(parse(&head), None);
        head.push(b'a');
        assert_eq!(parse(&head), Some(Err(Refusal::Invalid(Fault::LargeRequestHead))));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"GET ", &bytes[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        }

        #[test]
        fn no_target_panics(target in ".{0,60}") {
            let _ = path(&target);
        }
    }
}
