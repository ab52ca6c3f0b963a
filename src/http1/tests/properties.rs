//! What holds for every input and every way it can arrive.

use proptest::prelude::*;

use super::bodies::decode;
use super::*;

/// Field lines that matter to a proxy, and some that do not; the last five are faults.
const LINES: [&str; 34] = [
    "A: b",
    "X-Own:  c ",
    "Connection: close",
    "Connection: keep-alive, X-Own",
    "connection: Upgrade, A",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "Keep-Alive: 1",
    "Proxy-Connection: x",
    "TE: trailers",
    "Trailer: X",
    "HTTP2-Settings: x",
    "Content-Length: 5",
    "content-length: 5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: Chunked",
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-Proto: https",
    "X_Forwarded_For: 1",
    "Forwarded: for=1",
    "X-Real-IP: 1",
    "Expect: 100-continue",
    "Max-Forwards: 3",
    "x-request-id: 1",
    "X_Request_ID: 2",
    "TraceParent: 00-12345678901234567890123456789012-1234567890123456-01",
    "tracestate: a=1",
    "Host: a",
    "Accept: \u{e9}",
    "Content-Length: 6",
    "A : b",
    " folded",
    "A: b\nC: d",
    "A: \0",
];

const REQUEST_LINES: [&str; 7] = [
    "GET / HTTP/1.1",
    "POST /a?b HTTP/1.1",
    "GET /a HTTP/1.0",
    "OPTIONS * HTTP/1.1",
    "PUT http://b:1/c HTTP/1.1",
    "GET  / HTTP/1.1",
    "GET / HTTP/2.0",
];

const STATUS_LINES: [&str; 6] = [
    "HTTP/1.1 200 OK",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 204",
    "HTTP/1.1 101 \u{e9}",
    "HTTP/1.1 700 x",
    "HTTP/1.2 200 OK",
];

/// A head from the lines above; nearly half of them have no fault.
fn head(firsts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let sound = proptest::collection::vec(0..29usize, 0..8);
    let mixed = proptest::collection::vec(0..LINES.len(), 0..8);
    (0..firsts.len(), any::<bool>(), prop_oneof![3 => sound, 1 => mixed]).prop_map(
        move |(first, has_host, lines)| {
            let mut text = format!("{}\r\n", firsts[first]);
            if has_host {
                text.push_str("Host: a\r\n");
            }
            for line in lines {
                text.push_str(LINES[line]);
                text.push_str("\r\n");
            }
            (text + "\r\n").into_bytes()
        },
    )
}

/// In every prefix: partial, or the fault that the whole has too.
fn prefixes_agree(input: &[u8], outcome: impl Fn(&[u8]) -> Got) {
    let whole = outcome(input);
    for cut in 0..input.len() {
        let part = outcome(&input[..cut]);
        let agrees = part == Got::Partial || (part == whole && part != Got::Whole);
        assert!(agrees, "{cut} of {}: {part:?}, then {whole:?}", input.escape_ascii());
    }
    assert_ne!(whole, Got::Partial, "{}", input.escape_ascii());
}

fn names_of(head: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let lines = text.split("\r\n").skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect()
}

fn count(names: &[String], name: &str) -> usize {
    names.iter().filter(|known| *known == name).count()
}

const HOP_BY_HOP: [&str; 5] =
    ["keep-alive", "proxy-connection", "http2-settings", "trailers", "x_forwarded_for"];

static US: Pseudonym = Pseudonym::new(1);

fn check_sent_request(input: &[u8], trusted: bool) {
    let mut space = FieldSpace::new();
    let Ok(Progress::Complete(head)) = parse_request(input, LIMITS, &mut space) else { return };
    let span = TraceParent::parse(b"00-12345678901234567890123456789012-1234567890123456-01");
    let by = RequestRewrite {
        client: ClientAddress { ip: "192.0.2.1".parse().unwrap(), trusted },
        fallback_host: "f",
        via: Some(&US),
        request_id: &RequestId::Uuid([7; 16]),
        span: span.as_ref(),
    };
    let mut sent = Vec::new();
    rewrite::request(&head, input, &by, &mut sent);
    with_request(&sent, |again| {
        assert_eq!((again.len, again.version), (sent.len(), Version::Http11));
        assert_eq!((again.method, again.body), (head.method, head.body));
        assert_eq!(again.upgrade, head.upgrade);
        assert_eq!(again.expect_continue, head.expect_continue);
        assert!(again.target.starts_with(['/', '*']));
    });
    let names = names_of(&sent);
    let framing = count(&names, "content-length") + count(&names, "transfer-encoding");
    assert_eq!(framing, usize::from(head.body != BodyLength::None));
    let connection = head.upgrade.is_some() || head.takes_trailers;
    assert_eq!(count(&names, "connection"), usize::from(connection));
    assert_eq!(count(&names, "te"), usize::from(head.takes_trailers));
    assert_eq!(count(&names, "upgrade"), usize::from(head.upgrade.is_some()));
    assert_eq!(count(&names, "x-forwarded-for"), 1);
    assert_eq!(count(&names, "x-forwarded-proto"), 1);
    assert_eq!(count(&names, "host"), 1);
    assert_eq!((count(&names, "x-request-id"), count(&names, "x_request_id")), (1, 0));
    assert_eq!(count(&names, "traceparent"), 1);
    assert!(!names.iter().any(|name| HOP_BY_HOP.contains(&name.as_str())));
}

fn check_passed_response(input: &[u8], by: &ResponseRewrite<'_>) {
    let mut space = FieldSpace::new();
    let Ok(Progress::Complete(head)) = parse_response(input, LIMITS, &mut space) else { return };
    let mut sent = Vec::new();
    rewrite::response(&head, input, by, &mut sent);
    with_response(&sent, |again| {
        assert_eq!((again.len, again.version), (sent.len(), Version::Http11));
        assert_eq!(again.status, head.status);
    });
    let names = names_of(&sent);
    let chunked = usize::from(by.framing == ClientFraming::Chunked);
    assert_eq!(count(&names, "transfer-encoding"), chunked);
    assert!(count(&names, "content-length") <= usize::from(by.framing == ClientFraming::AsIs));
    let connection = usize::from(by.connection != ClientConnection::Implicit);
    assert_eq!(count(&names, "connection"), connection);
    if !by.request_id.is_none() {
        assert_eq!(count(&names, "x-request-id"), 1);
    }
    assert!(!names.iter().any(|name| HOP_BY_HOP[..4].contains(&name.as_str())));
}

fn rewrites() -> impl Strategy<Value = ResponseRewrite<'static>> {
    use ClientConnection::{Close, Implicit, KeepAlive, Upgrade};
    use ClientFraming::{AsIs, Chunked, UntilClose};
    let framing = prop::sample::select(vec![AsIs, Chunked, UntilClose]);
    let connection = prop::sample::select(vec![Implicit, KeepAlive, Close, Upgrade]);
    (framing, connection, any::<bool>()).prop_map(|(framing, connection, via)| ResponseRewrite {
        framing,
        connection,
        via: via.then_some(&US),
        request_id: if via { &RequestId::Uuid([7; 16]) } else { &RequestId::None },
    })
}

/// A chunked body of pieces, and perhaps one byte of it overwritten.
fn chunked_body() -> impl Strategy<Value = Vec<u8>> {
    let piece = proptest::collection::vec(any::<u8>(), 1..40);
    let pieces = proptest::collection::vec((piece, any::<bool>()), 0..6);
    let section = prop::sample::select(vec!["", "A: b\r\n", "Host: x\r\nC:d\r\n"]);
    let fault = proptest::option::of((any::<prop::sample::Index>(), any::<u8>()));
    (pieces, section, fault).prop_map(|(pieces, section, fault)| {
        let mut body = Vec::new();
        for (data, extended) in &pieces {
            chunk_head(data.len(), &mut body);
            if *extended {
                body.truncate(body.len() - 2);
                body.extend_from_slice(b";a=\"b\"\r\n");
            }
            body.extend_from_slice(data);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(LAST_CHUNK);
        body.extend_from_slice(section.as_bytes());
        body.extend_from_slice(b"\r\nGET");
        if let Some((place, byte)) = fault {
            let place = place.index(body.len());
            body[place] = byte;
        }
        body
    })
}

proptest! {
    #[test]
    fn a_request_head_is_partial_until_it_is_whole(input in head(&REQUEST_LINES)) {
        prefixes_agree(&input, |part| request_outcome(part, LIMITS));
    }

    #[test]
    fn a_response_head_is_partial_until_it_is_whole(input in head(&STATUS_LINES)) {
        prefixes_agree(&input, |part| response_outcome(part, LIMITS));
    }

    #[test]
    fn a_request_sent_on_is_strict_itself(input in head(&REQUEST_LINES), trusted in any::<bool>()) {
        check_sent_request(&input, trusted);
    }

    #[test]
    fn a_response_passed_on_is_strict_itself(input in head(&STATUS_LINES), by in rewrites()) {
        check_passed_response(&input, &by);
    }

    #[test]
    fn a_chunked_body_is_the_same_over_every_split(body in chunked_body()) {
        let whole = decode(BodyLength::Chunked, &body, body.len(), LIMITS);
        for step in 1..body.len() {
            let split = decode(BodyLength::Chunked, &body, step, LIMITS);
            prop_assert_eq!(split.is_ok(), whole.is_ok());
            if whole.is_ok() {
                prop_assert_eq!(&split, &whole);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        input in proptest::collection::vec(prop_oneof![
            any::<u8>(),
            prop::sample::select(b"\r\n :;,/%[]0aH\"\\".to_vec()),
        ], 0..300),
        bytes in 0..400usize,
        fields in 0..300usize,
    ) {
        let limits = HeadLimits { bytes, fields };
        let prefix = |start: &[u8]| [start, &input].concat();
        for text in [input.clone(), prefix(b"GET "), prefix(b"GET / HTTP/1.1\r\nHost:")] {
            request_outcome(&text, limits);
            check_sent_request(&text, true);
        }
        for text in [input.clone(), prefix(b"HTTP/1.1 200 OK\r\nConnection:")] {
            response_outcome(&text, limits);
        }
        for text in [input.clone(), prefix(b"1;"), prefix(b"0\r\n")] {
            let _ = decode(BodyLength::Chunked, &text, 7, limits);
        }
    }
}
