//! What of a head is sent on.

use std::net::IpAddr;

use super::*;

const CLIENT: ClientAddress =
    ClientAddress { ip: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10)), trusted: false };
const US: Pseudonym = Pseudonym::new(0xab);
const STRANGER: RequestRewrite<'_> = RequestRewrite {
    client: CLIENT,
    fallback_host: "fallback:1",
    via: None,
    request_id: &RequestId::None,
    span: None,
};
const TRUSTED: RequestRewrite<'_> =
    RequestRewrite { client: ClientAddress { trusted: true, ..CLIENT }, ..STRANGER };

/// What every stranger's request to `Host: a` gets.
const OURS: &str =
    "X-Forwarded-For: 192.0.2.10\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\r\n";

fn sent_on(input: &str, by: &RequestRewrite<'_>) -> String {
    let mut out = Vec::new();
    with_request(input.as_bytes(), |head| rewrite::request(head, input.as_bytes(), by, &mut out));
    String::from_utf8(out).unwrap()
}

/// Sends on a GET with these field lines behind its Host, and returns what became of them.
fn fields(lines: &str, by: &RequestRewrite<'_>) -> String {
    let text = sent_on(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"), by);
    text.strip_prefix("GET / HTTP/1.1\r\nHost: a\r\n").unwrap().to_owned()
}

#[test]
fn a_request_without_holes_is_copied_and_added_to() {
    let input = "GET /a?b HTTP/1.1\r\nhOST:  a \r\nX-b:c\r\nA: \t d\r\n\r\nbody";
    let head = "GET /a?b HTTP/1.1\r\nhOST:  a \r\nX-b:c\r\nA: \t d\r\n";
    assert_eq!(sent_on(input, &STRANGER), format!("{head}{OURS}"));
    assert_eq!(sent_on(&format!("\r\n{input}"), &STRANGER), format!("{head}{OURS}"));
}

#[test]
fn hop_by_hop_fields_stay_behind() {
    let lines = "A: 1\r\nConnection: close, X-Own\r\nKeep-Alive: 5\r\nX-Own: 1\r\nB: 2\r\n\
                 Proxy-Connection: close\r\nTE: trailers\r\nUpgrade: websocket\r\nx-oWN: 2\r\n\
                 HTTP2-Settings: x\r\nTrailer: x\r\nC: 3\r\n";
    assert_eq!(
        fields(lines, &STRANGER),
        format!("A: 1\r\nB: 2\r\nC: 3\r\nTE: trailers\r\nConnection: TE\r\n{OURS}"),
        "RFC 9110 7.6.1 and 10.1.4"
    );
}

#[test]
fn any_number_of_special_fields_is_treated_alike() {
    for count in [1, 7, 8, 9, 20] {
        let lines = "X-Real-IP: 1\r\nA: 2\r\nTrailer: 3\r\n".repeat(count);
        assert_eq!(fields(&lines, &STRANGER), format!("{}{OURS}", "A: 2\r\n".repeat(count)));
    }
}

#[test]
fn an_address_is_written_as_everybody_writes_it() {
    for octet in 0..=u8::MAX {
        let client = IpAddr::from([octet, 0, 255 - octet, octet]);
        let sent = fields(
            "",
            &RequestRewrite { client: ClientAddress { ip: client, ..CLIENT }, ..STRANGER },
        );
        assert!(sent.starts_with(&format!("X-Forwarded-For: {client}\r\n")), "{sent}");
    }
}

#[test]
fn a_nomination_never_strips_what_frames_routes_or_names_the_client() {
    let lines = "Connection: Host, Content-Length, X-Forwarded-For, Forwarded, X-Real-IP, A\r\n\
                 Content-Length: 5\r\nX-Forwarded-For: 1\r\nForwarded: for=2\r\nX-Real-IP: 3\r\n\
                 A: 4\r\nConnection: X-Forwarded-Proto, X-Forwarded-Host\r\nB: 5\r\n";
    assert_eq!(fields(lines, &STRANGER), format!("Content-Length: 5\r\nB: 5\r\n{OURS}"));
    assert_eq!(
        fields(lines, &TRUSTED),
        "Content-Length: 5\r\nForwarded: for=2\r\nX-Real-IP: 3\r\nB: 5\r\n\
         X-Forwarded-For: 1, 192.0.2.10\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\r\n"
    );
    let chunked = "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(fields(chunked, &STRANGER), format!("Transfer-Encoding: chunked\r\n{OURS}"));
}

#[test]
fn one_framing_field_leaves() {
    let same = "Content-Length: 5\r\nA: b\r\ncontent-length: 5\r\n";
    assert_eq!(fields(same, &STRANGER), format!("Content-Length: 5\r\nA: b\r\n{OURS}"));
    let chunked = "tRANSFER-eNCODING:CHUNKED\r\nTrailer: x\r\nA: b\r\n";
    let ours = format!("Trailer: x\r\nA: b\r\nTransfer-Encoding: chunked\r\n{OURS}");
    assert_eq!(fields(chunked, &STRANGER), ours);
}

#[test]
fn a_strangers_forwarded_fields_are_replaced() {
    let lines = "X-Forwarded-For: 1\r\nx-forwarded-for: 2\r\nX-Forwarded-Proto: https\r\n\
                 X-Forwarded-Host: b\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /\r\n\
                 X-Forwarded-Server: s\r\nX-Forwarded: 1\r\nForwarded: for=1\r\nX-Real-IP: 1\r\n\
                 X-Forwardeds: stays\r\nX-Real-IPs: stays\r\n";
    assert_eq!(
        fields(lines, &STRANGER),
        format!("X-Forwardeds: stays\r\nX-Real-IPs: stays\r\n{OURS}")
    );
}

#[test]
fn twins_with_underscores_never_pass() {
    let lines = "X_Forwarded_For: 1\r\nx-forwarded_for: 1\r\nX_FORWARDED-PROTO: 1\r\n\
                 X-Forwarded_Host: 1\r\nX_Real_IP: 1\r\nx-real_ip: 1\r\nX_Forwarded: 1\r\n\
                 X_Own: stays\r\n";
    assert_eq!(fields(lines, &STRANGER), format!("X_Own: stays\r\n{OURS}"));
    assert_eq!(fields(lines, &TRUSTED), format!("X_Own: stays\r\n{OURS}"));
}

#[test]
fn a_trusted_clients_forwarded_fields_are_kept_and_added_to() {
    let lines = "X-Forwarded-For: 1, 2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For:\r\n\
                 X-Forwarded-Host: b\r\nX-Forwarded-Port: 1\r\nForwarded: for=1\r\n\
                 x-forwarded-for: 3\r\n";
    assert_eq!(
        fields(lines, &TRUSTED),
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Forwarded-Port: 1\r\n\
         Forwarded: for=1\r\nX-Forwarded-For: 1, 2, 3, 192.0.2.10\r\n\r\n"
    );
    let twice = "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n";
    assert_eq!(fields(twice, &TRUSTED), OURS, "which of the two would count?");
    assert_eq!(fields("", &TRUSTED), OURS);
}

#[test]
fn addresses_are_canonical() {
    for (address, text) in [
        ("0.0.0.0", "0.0.0.0"),
        ("255.200.99.1", "255.200.99.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
    ] {
        let client = ClientAddress { ip: address.parse().unwrap(), ..CLIENT };
        let by = RequestRewrite { client, ..STRANGER };
        let out = fields("", &by);
        assert!(out.starts_with(&format!("X-Forwarded-For: {text}\r\n")), "{out}");
    }
}

#[test]
fn absolute_form_becomes_origin_form_and_its_authority_the_host() {
    let send = |line: &str| {
        let out =
            sent_on(&format!("{line} HTTP/1.1\r\nA: b\r\nhost:  x \r\nC: d\r\n\r\n"), &STRANGER);
        out.split_once("X-Forwarded-For").unwrap().0.to_owned()
    };
    let rest = "A: b\r\nhost:  a:1 \r\nC: d\r\n";
    for (line, sent) in [
        ("GET http://a:1/b?c", "GET /b?c"),
        ("GET HTTP://a:1", "GET /"),
        ("GET http://a:1?c", "GET /?c"),
        ("OPTIONS http://a:1", "OPTIONS *"),
        ("OPTIONS http://a:1/", "OPTIONS /"),
        ("OPTIONS http://a:1?c", "OPTIONS /?c"),
    ] {
        assert_eq!(send(line), format!("{sent} HTTP/1.1\r\n{rest}"), "RFC 9112 3.2.2");
    }
    let out = sent_on("GET http://a/ HTTP/1.1\r\nHost: x\r\n\r\n", &STRANGER);
    assert!(out.ends_with("X-Forwarded-Host: a\r\n\r\n"), "{out}");
    let out = sent_on("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &STRANGER);
    assert_eq!(out, format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{OURS}"));
}

#[test]
fn a_1_0_request_is_sent_on_as_1_1() {
    let for_and_proto = "X-Forwarded-For: 192.0.2.10\r\nX-Forwarded-Proto: http\r\n";
    let input =
        "\r\nGET /a HTTP/1.0\r\nExpect: 100-continue\r\nConnection: keep-alive\r\nA: b\r\n\r\n";
    assert_eq!(
        sent_on(input, &RequestRewrite { via: Some(&US), ..STRANGER }),
        format!(
            "GET /a HTTP/1.1\r\nHost: fallback:1\r\nA: b\r\n{for_and_proto}Via: 1.0 evenly-00000000000000ab\r\n\r\n"
        )
    );
    let with_host = sent_on("GET /a HTTP/1.0\r\nHost: a\r\n\r\n", &STRANGER);
    assert_eq!(with_host, format!("GET /a HTTP/1.1\r\nHost: a\r\n{OURS}"));
    let absolute = sent_on("GET http://a HTTP/1.0\r\n\r\n", &STRANGER);
    assert_eq!(absolute, format!("GET / HTTP/1.1\r\nHost: a\r\n{OURS}"));
}

#[test]
fn an_upgrade_is_asked_for_anew() {
    let lines = "Connection: keep-alive, Upgrade, A\r\nUpgrade: websocket\r\nA: b\r\nExpect: 100-continue\r\n";
    assert_eq!(
        fields(lines, &STRANGER),
        format!("Upgrade: websocket\r\nExpect: 100-continue\r\nConnection: upgrade\r\n{OURS}")
    );
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n";
    assert_eq!(fields(h2c, &STRANGER), OURS);
}

#[test]
fn that_trailers_are_taken_is_said_anew() {
    let te = "TE: trailers\r\nConnection: TE\r\n";
    assert_eq!(fields("TE: gzip;q=0.5, Trailers\r\n", &STRANGER), format!("{te}{OURS}"));
    assert_eq!(fields("TE: gzip\r\nConnection: TE\r\n", &STRANGER), OURS);
    assert_eq!(
        fields("Connection: TE, upgrade\r\nTE: trailers\r\nUpgrade: x\r\n", &STRANGER),
        format!("Upgrade: x\r\nTE: trailers\r\nConnection: upgrade, TE\r\n{OURS}")
    );
    let old = sent_on("GET / HTTP/1.0\r\nHost: a\r\nTE: trailers\r\n\r\n", &STRANGER);
    assert_eq!(old, format!("GET / HTTP/1.1\r\nHost: a\r\n{OURS}"));
}

#[test]
fn a_length_leaves_in_its_plain_form() {
    for (sent, wanted) in [("5", "5"), ("005", "5"), ("0", "0"), ("000", "0")] {
        let lines = format!("Content-Length: {sent}\r\n");
        assert_eq!(fields(&lines, &STRANGER), format!("Content-Length: {wanted}\r\n{OURS}"));
        assert_eq!(response_fields(200, &lines, &AS_IS), format!("Content-Length: {wanted}\r\n"));
    }
    let list = response_fields(200, "Content-Length: 05, 5\r\n", &AS_IS);
    assert_eq!(list, "Content-Length: 5\r\n", "RFC 9112 6.3");
}

#[test]
fn max_forwards_is_counted_down_for_options() {
    let send = |method: &str, value: &str| {
        let input = format!("{method} / HTTP/1.1\r\nMax-Forwards: {value} \r\nHost: a\r\n\r\n");
        sent_on(&input, &STRANGER).split("\r\n").nth(1).unwrap().to_owned()
    };
    assert_eq!(send("OPTIONS", "10"), "Max-Forwards: 9 ", "RFC 9110 7.6.2");
    assert_eq!(send("OPTIONS", "99999999999999999999999"), "Max-Forwards: 4294967294 ");
    assert_eq!(send("GET", "10"), "Max-Forwards: 10 ");
}

#[test]
fn via_names_the_version_received() {
    let out = fields("Via: 1.0 x\r\n", &RequestRewrite { via: Some(&US), ..STRANGER });
    assert!(
        out.starts_with("Via: 1.0 x\r\n")
            && out.ends_with("Via: 1.1 evenly-00000000000000ab\r\n\r\n"),
        "{out}"
    );
}

#[test]
fn how_often_a_request_has_come_back_is_counted_in_its_via() {
    let us = Pseudonym::new(0x0123_4567_89ab_cdef);
    for (lines, passes) in [
        ("", 0),
        ("Via: 1.1 evenly-0123456789abcdef\r\n", 1),
        ("via: 1.0 a, HTTP/1.1  EVENLY-0123456789ABCDEF (x), 1.1 b\r\n", 1),
        ("Via: 1.1 a\r\nVia: 1.1 evenly-0123456789abcdef\r\n", 1),
        (
            "Via: 1.1 evenly-0123456789abcdef, 1.1 a\r\nVia: 1.0 b, 1.1 evenly-0123456789abcdef\r\n",
            2,
        ),
        ("Via: 1.1 evenly-0123456789abcdee\r\n", 0),
        ("Via: 1.1 evenly-0123456789abcdef0\r\n", 0),
        ("Via: 1.1 evenly\r\n", 0),
        ("Via: evenly-0123456789abcdef\r\n", 0),
        ("X-Via: 1.1 evenly-0123456789abcdef\r\n", 0),
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut space = FieldSpace::new();
        let Ok(Progress::Complete(head)) = parse_request(input.as_bytes(), LIMITS, &mut space)
        else {
            panic!("{lines:?}");
        };
        assert_eq!(head.passes(&us), passes, "{lines:?}");
    }
}

const AS_IS: ResponseRewrite<'_> = ResponseRewrite {
    framing: ClientFraming::AsIs,
    connection: ClientConnection::Implicit,
    via: None,
    request_id: &RequestId::None,
};

fn passed_on(input: &[u8], by: &ResponseRewrite<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    with_response(input, |head| rewrite::response(head, input, by, &mut out));
    out
}

/// What becomes of the field lines of a response with this status.
fn response_fields(status: u16, lines: &str, by: &ResponseRewrite<'_>) -> String {
    let start = format!("HTTP/1.1 {status} x\r\n");
    let out = passed_on(format!("{start}{lines}\r\n").as_bytes(), by);
    let out = String::from_utf8(out).unwrap();
    out.strip_prefix(&start).and_then(|out| out.strip_suffix("\r\n")).unwrap().to_owned()
}

#[test]
fn a_response_without_holes_is_copied() {
    let input =
        b"HTTP/1.1 200 \xe9 x\r\nA:  b\r\nContent-Length: 5\r\nX-Forwarded-For: 1\r\n\r\nhello";
    assert_eq!(passed_on(input, &AS_IS), input[..input.len() - 5]);
    for line in ["HTTP/1.1 200\r\n\r\n", "HTTP/1.1 200 \r\n\r\n"] {
        assert_eq!(passed_on(line.as_bytes(), &AS_IS), b"HTTP/1.1 200 \r\n\r\n", "RFC 9112 4");
    }
    assert_eq!(
        passed_on(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n", &AS_IS),
        b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    );
}

#[test]
fn the_framing_a_client_gets_is_one() {
    let lines = "content-length: 5\r\nA: b\r\nContent-Length: 5\r\nTrailer: x\r\n";
    let framed = |framing| response_fields(200, lines, &ResponseRewrite { framing, ..AS_IS });
    assert_eq!(framed(ClientFraming::AsIs), "content-length: 5\r\nA: b\r\n");
    assert_eq!(
        framed(ClientFraming::Chunked),
        "A: b\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n"
    );
    assert_eq!(framed(ClientFraming::UntilClose), "A: b\r\n");
    let chunked = "Transfer-Encoding: CHUNKED\r\nA: b\r\n";
    let framed = |framing| response_fields(200, chunked, &ResponseRewrite { framing, ..AS_IS });
    assert_eq!(framed(ClientFraming::AsIs), "A: b\r\n");
    assert_eq!(framed(ClientFraming::Chunked), "A: b\r\nTransfer-Encoding: chunked\r\n");
    assert_eq!(framed(ClientFraming::UntilClose), "A: b\r\n");
}

#[test]
fn a_status_without_a_body_carries_no_framing() {
    for status in [100, 103, 204] {
        for lines in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
            assert_eq!(response_fields(status, lines, &AS_IS), "", "RFC 9110 8.6");
        }
    }
    assert_eq!(response_fields(304, "Content-Length: 5\r\n", &AS_IS), "Content-Length: 5\r\n");
}

#[test]
fn a_targets_hop_by_hop_fields_stay_behind() {
    let lines = "Connection: keep-alive, X-Own, Set-Cookie, Content-Length, Content-Type\r\n\
                 Keep-Alive: timeout=5\r\nX-Own: 1\r\nProxy-Connection: a\r\nUpgrade: h2c\r\n\
                 Set-Cookie: a\r\nContent-Length: 5\r\nContent-Type: b\r\nB: 2\r\n";
    let kept = "Set-Cookie: a\r\nContent-Length: 5\r\nContent-Type: b\r\nB: 2\r\n";
    assert_eq!(response_fields(200, lines, &AS_IS), kept);
}

#[test]
fn the_client_is_told_of_its_own_connection() {
    let told = |connection| {
        let by = ResponseRewrite { connection, via: Some(&US), ..AS_IS };
        let lines = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        response_fields(101, lines, &by)
    };
    assert_eq!(told(ClientConnection::Implicit), "Via: 1.1 evenly-00000000000000ab\r\n");
    assert_eq!(
        told(ClientConnection::KeepAlive),
        "Connection: keep-alive\r\nVia: 1.1 evenly-00000000000000ab\r\n"
    );
    assert_eq!(
        told(ClientConnection::Close),
        "Connection: close\r\nVia: 1.1 evenly-00000000000000ab\r\n"
    );
    assert_eq!(
        told(ClientConnection::Upgrade),
        "Upgrade: websocket\r\nConnection: upgrade\r\nVia: 1.1 evenly-00000000000000ab\r\n"
    );
}

/// What a request with these fields is sent on with, called so and traced or not.
fn named(lines: &str, id: &RequestId, span: Option<TraceParent>) -> String {
    fields(lines, &RequestRewrite { request_id: id, span: span.as_ref(), ..STRANGER })
}

#[test]
fn fields_that_name_a_request_pass_as_they_are_unless_they_are_ours() {
    let lines = "X-Request-ID: a b\r\nx_request_id: c\r\nTraceparent: x\r\ntracestate: ?\r\n";
    assert_eq!(named(lines, &RequestId::None, None), format!("{lines}{OURS}"));
    let own = OURS.strip_suffix("\r\n").unwrap();
    let id = RequestId::keep(b"abc").unwrap();
    assert_eq!(
        named(lines, &id, None),
        format!("Traceparent: x\r\ntracestate: ?\r\n{own}X-Request-ID: abc\r\n\r\n")
    );
    let span = TraceParent::parse(b"00-12345678901234567890123456789012-1234567890123456-01");
    let ours = "traceparent: 00-12345678901234567890123456789012-1234567890123456-01\r\n";
    assert_eq!(
        named(lines, &RequestId::None, span),
        format!("X-Request-ID: a b\r\nx_request_id: c\r\n{own}{ours}\r\n")
    );
    // Of a trace that goes on, what others say of it stays where it is.
    let lines = "tracestate: a=1\r\nA: b\r\ntraceparent: 00-12345678901234567890123456789012-1111111111111111-01\r\nTRACESTATE: b=2\r\n";
    assert_eq!(
        named(lines, &RequestId::None, span),
        format!("tracestate: a=1\r\nA: b\r\nTRACESTATE: b=2\r\n{own}{ours}\r\n")
    );
}

#[test]
fn a_response_is_called_as_its_request() {
    let id = RequestId::keep(b"abc").unwrap();
    let lines = "X-Request-ID: x\r\nA: b\r\nx-request-id: y\r\n";
    assert_eq!(response_fields(200, lines, &AS_IS), lines);
    let by = ResponseRewrite { request_id: &id, ..AS_IS };
    assert_eq!(response_fields(200, lines, &by), "A: b\r\nX-Request-ID: abc\r\n");
}

#[test]
fn only_a_trusted_clients_one_and_harmless_name_is_kept() {
    let mut ids = IdSource::default();
    ids.request_ids = true;
    for (lines, trusted, is_kept) in [
        ("X-Request-ID: abc\r\n", true, true),
        ("x-request-id:abc \r\n", true, true),
        ("X-Request-ID: abc\r\n", false, false),
        ("X-Request-ID: abc\r\nX-Request-Id: abc\r\n", true, false),
        ("X_Request_ID: abc\r\n", true, false),
        ("X-Request-ID: a c\r\n", true, false),
        ("X-Request-ID:\r\n", true, false),
        ("A: b\r\n", true, false),
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        with_request(input.as_bytes(), |head| {
            let id = head.request_id(trusted, &mut ids);
            assert_eq!(id == RequestId::keep(b"abc").unwrap(), is_kept, "{lines:?}");
            assert_eq!(matches!(id, RequestId::Uuid(_)), !is_kept, "{lines:?}");
            assert!(head.request_id(trusted, &mut IdSource::default()).is_none());
        });
    }
}
