//! Request heads.

use super::Got::{Partial, Refused, Whole};
use super::*;

const BAD: Got = Refused(400);

/// A GET whose field lines, after a valid Host, are `fields`.
fn get_with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn check_fields(table: &[(&str, Got, &str)]) {
    check(table, |fields| {
        let text = get_with(std::str::from_utf8(fields).unwrap());
        request_outcome(text.as_bytes(), LIMITS)
    });
}

fn check_targets(method: &str, table: &[(&str, Got, &str)]) {
    check(table, |target| {
        let mut text = format!("{method} ").into_bytes();
        text.extend_from_slice(target);
        text.extend_from_slice(b" HTTP/1.1\r\nHost: a\r\n\r\n");
        request_outcome(&text, LIMITS)
    });
}

#[test]
fn request_lines_are_exact() {
    let http11 = "RFC 9112 3";
    check(
        &[
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Whole, http11),
            ("GET / HTTP/1.0\r\n\r\n", Whole, http11),
            ("get / HTTP/1.1\r\nHost: a\r\n\r\n", Whole, "RFC 9110 9.1: another method"),
            ("M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", Whole, "RFC 9110 5.6.2"),
            ("!#$%&'*+-.^_`|~ / HTTP/1.1\r\nHost: a\r\n\r\n", Whole, "RFC 9110 5.6.2"),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, http11),
            ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", BAD, http11),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", BAD, http11),
            (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, http11),
            ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", BAD, http11),
            ("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", BAD, http11),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", BAD, http11),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", BAD, "RFC 9112 2.2"),
            ("GET / HTTP/1.1\rHost: a\r\n\r\n", BAD, "RFC 9112 2.2"),
            ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", BAD, "RFC 9112 2.2"),
            ("GET HTTP/1.1\r\nHost: a\r\n\r\n", BAD, http11),
            ("GET  HTTP/1.1\r\nHost: a\r\n\r\n", BAD, http11),
            ("G\u{e9}T / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "RFC 9110 9.1"),
            ("G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "RFC 9110 9.1"),
            ("GET: / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "RFC 9110 9.1"),
            ("(GET) / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "RFC 9110 9.1"),
            ("/ HTTP/1.1\r\nHost: a\r\n\r\n", BAD, http11),
            ("\x16\x03\x01\x02", BAD, "a TLS client"),
        ],
        |input| request_outcome(input, LIMITS),
    );
}

#[test]
fn versions_other_than_1_0_and_1_1_are_505_and_unlike_ones_400() {
    let v = "RFC 9112 2.3, RFC 9110 15.6.6";
    check(
        &[
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Refused(505), v),
            ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", Refused(505), v),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Refused(505), v),
            ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", Refused(505), v),
            ("GET / HTTP/2.0", Refused(505), v),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused(505), "RFC 9113 3.4"),
            ("GET /\r\n", BAD, "HTTP/0.9"),
            ("GET /\r\n\r\n", BAD, "HTTP/0.9"),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", BAD, v),
            ("GET / HTTP/1\r\nHost: a\r\n\r\n", BAD, v),
            ("GET / HTTP/2\r\nHost: a\r\n\r\n", BAD, v),
            ("GET / HTTP/1.\r\nHost: a\r\n\r\n", BAD, v),
            ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", BAD, v),
            ("GET / HTTP/11.1\r\nHost: a\r\n\r\n", BAD, v),
            ("GET / HTTP/1,1\r\nHost: a\r\n\r\n", BAD, v),
            ("GET / HTTP /1.1\r\nHost: a\r\n\r\n", BAD, v),
            ("GET / HTTPS/1.1\r\nHost: a\r\n\r\n", BAD, v),
            ("GET / ICY/1.1\r\nHost: a\r\n\r\n", BAD, v),
        ],
        |input| request_outcome(input, LIMITS),
    );
}

#[test]
fn what_speaks_another_protocol_is_told_from_its_first_bytes() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    // Behind the empty lines that `ServerHalf::empty_lines` takes off.
    let version_2 = b"\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01";
    let table: [(&[u8], u16, &str); 10] = [
        (hello, 400, Fault::ClientSpeaksTls.why()),
        (b"\x16", 400, Fault::ClientSpeaksTls.why()),
        (version_2, 400, Fault::ProxyProtocol.why()),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
            Fault::ProxyProtocol.why(),
        ),
        (b"PROXY TCP6 ::1 ::1 5 80\r\n", 400, Fault::ProxyProtocol.why()),
        (b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n", 400, Fault::ProxyProtocol.why()),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, Fault::ClientSpeaksHttp2.why()),
        (b"\0\0\0\x85\xffSMB", 400, "The request method is not valid."),
        (b"SSH-2.0-OpenSSH_9\r\n", 400, "The request line has no HTTP version."),
        (b"PROXY / HTTP/2.0\r\n", 505, "Unsupported HTTP version; use HTTP/1.1 or HTTP/1.0."),
    ];
    for (input, status, why) in table {
        let refusal = parse_request(input, LIMITS, &mut FieldSpace::new()).unwrap_err();
        assert_eq!((refusal.status(), refusal.why()), (status, why), "{}", input.escape_ascii());
        assert_eq!(
            refusal.is_foreign(),
            [
                Fault::ClientSpeaksTls.why(),
                Fault::ProxyProtocol.why(),
                Fault::ClientSpeaksHttp2.why()
            ]
            .contains(&why)
        );
    }
    check(
        &[("PROXY /x HTTP/1.1\r\nHost: a\r\n\r\n", Whole, "a method that is not known")],
        |input| request_outcome(input, LIMITS),
    );
}

#[test]
fn one_empty_line_before_a_request_is_skipped_and_no_more() {
    let s = "RFC 9112 2.2";
    check(
        &[
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Whole, s),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, s),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, s),
            ("\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, s),
            ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, s),
            ("\r\n\r", BAD, s),
            ("\r\n", Partial, s),
            ("\r", Partial, s),
            ("", Partial, s),
        ],
        |input| request_outcome(input, LIMITS),
    );
    with_request(b"\r\nGET / HTTP/1.0\r\n\r\nx", |head| assert_eq!(head.len, 20));
}

#[test]
fn origin_form_holds_only_what_rfc_3986_allows_and_browsers_send() {
    let p = "RFC 3986 3.3";
    let q = "RFC 3986 3.4";
    check_targets(
        "GET",
        &[
            ("/", Whole, p),
            ("//", Whole, p),
            ("/a/../b;c=d,e:@!$&'()*+-._~", Whole, p),
            ("/%41%zz", BAD, "RFC 3986 2.1"),
            ("/%4", BAD, "RFC 3986 2.1"),
            ("/%", BAD, "RFC 3986 2.1"),
            ("/%0a%00", Whole, "RFC 3986 2.1"),
            ("/[a]|b", Whole, "as browsers send"),
            ("/a?b=c/d?e", Whole, q),
            ("/?{}|^`[]", Whole, "as browsers send"),
            ("/?100%", Whole, "as browsers send"),
            ("/{}", BAD, p),
            ("/a^b", Whole, "browsers"),
            ("/a`b", BAD, p),
            ("/a\\b", BAD, p),
            ("/?a\\b", Whole, "browsers"),
            ("/a#b", BAD, "RFC 9112 3.2: no fragment"),
            ("/?a#b", BAD, "RFC 9112 3.2: no fragment"),
            ("/\"", BAD, p),
            ("/<", BAD, p),
            ("/?>", BAD, q),
            ("/\u{e9}", BAD, p),
            ("/?\u{e9}", BAD, q),
            ("/a\x7f", BAD, p),
            ("/a\0", BAD, p),
            ("/a\x01", BAD, p),
            ("/a\rb", BAD, p),
            ("a", BAD, "RFC 9112 3.2.1"),
            ("?a", BAD, "RFC 9112 3.2.1"),
            ("*", BAD, "RFC 9112 3.2.4"),
            ("**", BAD, "RFC 9112 3.2.4"),
            ("a:80", BAD, "RFC 9112 3.2.3"),
        ],
    );
}

#[test]
fn absolute_form_is_http_with_a_valid_authority() {
    let s = "RFC 9112 3.2.2";
    check_targets(
        "GET",
        &[
            ("http://a", Whole, s),
            ("HTTP://a:80/b?c", Whole, s),
            ("http://a?c", Whole, s),
            ("http://[::1]:80/", Whole, s),
            ("https://a/", Whole, "RFC 9112 3.2.2"),
            ("HTTPS://a:443/?b", Whole, "RFC 9112 3.2.2"),
            ("https://", BAD, "RFC 9110 4.2.2"),
            ("httpss://a/", BAD, "RFC 9112 3.2.2"),
            ("ftp://a/", BAD, s),
            ("http:/a", BAD, s),
            ("http:a", BAD, s),
            ("http://", BAD, "RFC 9110 4.2.1"),
            ("http:///b", BAD, "RFC 9110 4.2.1"),
            ("http://:80/", BAD, "RFC 9110 4.2.1"),
            ("http://u@a/", BAD, "RFC 9110 4.2.4"),
            ("http://u:p@a/", BAD, "RFC 9110 4.2.4"),
            ("http://a:b/", BAD, s),
            ("http://a#f", BAD, s),
            ("http://a\\b/", BAD, s),
            ("http://a/\\", BAD, s),
            ("http://a/%x", BAD, s),
        ],
    );
    check_targets("OPTIONS", &[("*", Whole, "RFC 9112 3.2.4"), ("http://a", Whole, s)]);
}

#[test]
fn connect_and_trace_are_not_served() {
    let s = "RFC 9110 9.3.6";
    check_targets(
        "CONNECT",
        &[
            ("a:443", Refused(501), s),
            ("[::1]:443", Refused(501), s),
            ("a", BAD, s),
            ("a:", BAD, s),
            ("/", BAD, s),
            ("*", BAD, s),
            ("http://a/", BAD, s),
        ],
    );
    check_targets("TRACE", &[("/", Refused(405), "RFC 9110 9.3.8")]);
}

#[test]
fn a_method_longer_than_32_bytes_is_501() {
    let line = |n: usize| format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(n));
    assert_eq!(request_outcome(line(32).as_bytes(), LIMITS), Whole);
    assert_eq!(request_outcome(line(33).as_bytes(), LIMITS), Refused(501));
    assert_eq!(request_outcome("M".repeat(33).as_bytes(), LIMITS), Refused(501));
}

#[test]
fn field_lines_are_exact() {
    let s = "RFC 9112 5";
    check_fields(&[
        ("A: b\r\n", Whole, s),
        ("A:b\r\n", Whole, s),
        ("A:\t b \t\r\n", Whole, s),
        ("A:\r\n", Whole, s),
        ("A: \r\n", Whole, s),
        ("A: \u{e9}\r\n", Whole, "RFC 9110 5.5 obs-text"),
        ("!#$%&'*+-.^_`|~: b\r\n", Whole, "RFC 9110 5.6.2"),
        ("A : b\r\n", BAD, "RFC 9112 5.1"),
        ("A\t: b\r\n", BAD, "RFC 9112 5.1"),
        (" A: b\r\n", BAD, "RFC 9112 2.2, 5.2"),
        ("A: b\r\n c\r\n", BAD, "RFC 9112 5.2"),
        ("A: b\r\n\tc\r\n", BAD, "RFC 9112 5.2"),
        ("A: b\r\n \r\n", BAD, "RFC 9112 5.2"),
        (": b\r\n", BAD, "RFC 9110 5.1"),
        ("A\r\n", BAD, s),
        ("A b: c\r\n", BAD, s),
        ("A(: b\r\n", BAD, s),
        ("A\"b: c\r\n", BAD, s),
        ("A[: b\r\n", BAD, s),
        ("\u{e9}: b\r\n", BAD, s),
        ("A\0: b\r\n", BAD, s),
        ("A: \0\r\n", BAD, "RFC 9110 5.5"),
        ("A: b\x01\r\n", BAD, "RFC 9110 5.5"),
        ("A: b\x0b\r\n", BAD, "RFC 9110 5.5"),
        ("A: b\x7f\r\n", BAD, "RFC 9110 5.5"),
        ("A: b\rc\r\n", BAD, "RFC 9112 2.2"),
        ("A: b\r\r\n", BAD, "RFC 9112 2.2"),
        ("A: b\n", BAD, "RFC 9112 2.2"),
        ("A: b\nC: d\r\n", BAD, "RFC 9112 2.2"),
        ("A:\n", BAD, "RFC 9112 2.2"),
        ("\n", BAD, "RFC 9112 2.2"),
        ("A: b\r\n\n", BAD, "RFC 9112 2.2"),
    ]);
}

#[test]
fn a_first_field_line_may_not_begin_with_white_space() {
    let s = "RFC 9112 2.2";
    check(
        &[
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", BAD, s),
            ("GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", BAD, s),
            ("GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", BAD, s),
        ],
        |input| request_outcome(input, LIMITS),
    );
}

/// Wide registers find bad bytes block by block: each place in a block is tried.
#[test]
fn no_control_hides_at_any_place_of_a_name_value_or_target() {
    let controls = (0..=8u8).chain(10..=31).chain([127]);
    for byte in controls {
        for place in 0..70 {
            let (before, after) = ("a".repeat(place), "a".repeat(70 - place));
            let (before, after, byte) = (before.as_bytes(), after.as_bytes(), &[byte][..]);
            let at = |start: &[u8], end: &[u8]| [start, before, byte, after, end].concat();
            let get = b"GET / HTTP/1.1\r\nHost: a\r\n";
            for input in [
                at(&[get, &b"A: "[..]].concat(), b"\r\n\r\n"),
                at(get, b": b\r\n\r\n"),
                at(b"GET /", b" HTTP/1.1\r\nHost: a\r\n\r\n"),
            ] {
                assert_eq!(request_outcome(&input, LIMITS), BAD, "{}", input.escape_ascii());
            }
        }
    }
}

#[test]
fn host_is_exactly_one_and_valid() {
    let s = "RFC 9112 3.2";
    let uri = "RFC 3986 3.2";
    let host = |value: &[u8]| {
        let input = [b"GET / HTTP/1.1\r\nHost:", value, b"\r\n\r\n"].concat();
        request_outcome(&input, LIMITS)
    };
    check(
        &[
            ("a", Whole, uri),
            (" a.b-c_d~e:80 ", Whole, uri),
            ("a:", Whole, "RFC 3986 3.2.3"),
            ("127.0.0.1:8080", Whole, uri),
            ("[::1]", Whole, uri),
            ("[::ffff:1.2.3.4]:80", Whole, uri),
            ("[v1.a:b]", Whole, uri),
            ("a%41", Whole, uri),
            ("a!$&'()*+,;=", Whole, uri),
            ("", BAD, "RFC 9110 4.2.1"),
            (":80", BAD, "RFC 9110 4.2.1"),
            ("a b", BAD, uri),
            ("a\tb", BAD, uri),
            ("u@a", BAD, "RFC 9110 4.2.4"),
            ("a/b", BAD, uri),
            ("a?b", BAD, uri),
            ("a#b", BAD, uri),
            ("a\\b", BAD, uri),
            ("a:80:81", BAD, uri),
            ("a:8o", BAD, uri),
            ("a:-1", BAD, uri),
            ("a:+1", BAD, uri),
            ("a: 80", BAD, uri),
            ("a:65536", BAD, "no such port"),
            ("a:99999999999999999999999", BAD, "no such port"),
            ("[::1", BAD, uri),
            ("::1", BAD, uri),
            ("[]", BAD, uri),
            ("[::1]a", BAD, uri),
            ("[::1]]", BAD, uri),
            ("[fe80::1%25eth0]", BAD, uri),
            ("[::g]", BAD, uri),
            ("[1.2.3.4]", BAD, uri),
            ("[v.a]", BAD, uri),
            ("[v1.]", BAD, uri),
            ("a%4", BAD, uri),
            ("a%zz", BAD, uri),
            ("\"a\"", BAD, uri),
            ("<a>", BAD, uri),
            ("{a}", BAD, uri),
            ("a^b", BAD, uri),
            ("a|b", BAD, uri),
            ("\u{e9}", BAD, uri),
            ("http://a", BAD, uri),
        ],
        host,
    );
    check(
        &[
            ("GET / HTTP/1.1\r\n\r\n", BAD, s),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BAD, s),
            ("GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", BAD, s),
            ("GET http://a/ HTTP/1.1\r\n\r\n", BAD, s),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", BAD, s),
            ("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", BAD, s),
            ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", Whole, s),
        ],
        |input| request_outcome(input, LIMITS),
    );
}

#[test]
fn what_could_be_framed_two_ways_is_refused() {
    let s = "RFC 9112 6.3";
    let te = "RFC 9112 6.1";
    check_fields(&[
        ("Content-Length: 5\r\n", Whole, s),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Whole, s),
        ("Content-Length: 9223372036854775807\r\n", Whole, s),
        ("Content-Length: 9223372036854775808\r\n", BAD, s),
        ("Content-Length: 18446744073709551616\r\n", BAD, s),
        ("Content-Length: 99999999999999999999999999\r\n", BAD, s),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", BAD, s),
        ("Content-Length: 5\r\nContent-Length: 05\r\n", BAD, s),
        ("Content-Length: 5\r\nContent-Length: 6\r\nContent-Length: 5\r\n", BAD, s),
        ("Content-Length: 5, 5\r\n", BAD, s),
        ("Content-Length: 5,6\r\n", BAD, s),
        ("Content-Length: +5\r\n", BAD, s),
        ("Content-Length: -5\r\n", BAD, s),
        ("Content-Length: 0x5\r\n", BAD, s),
        ("Content-Length: 5 5\r\n", BAD, s),
        ("Content-Length: 5.0\r\n", BAD, s),
        ("Content-Length: \"5\"\r\n", BAD, s),
        ("Content-Length: 5;\r\n", BAD, s),
        ("Content-Length: \u{665}\r\n", BAD, s),
        ("Content-Length:\r\n", BAD, s),
        ("Content-Length: \r\nContent-Length: 5\r\n", BAD, s),
        ("Transfer-Encoding: chunked\r\n", Whole, te),
        ("tRANSFER-eNCODING: cHUNKED\r\n", Whole, te),
        ("Transfer-Encoding:\tchunked \r\n", Whole, te),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", BAD, s),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", BAD, s),
        ("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", BAD, s),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", BAD, te),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", BAD, te),
        ("Transfer-Encoding: chunked, chunked\r\n", BAD, te),
        ("Transfer-Encoding: chunked,\r\n", BAD, te),
        ("Transfer-Encoding: ,chunked\r\n", BAD, te),
        ("Transfer-Encoding:\r\n", BAD, te),
        ("Transfer-Encoding: gzip, chunked\r\n", Refused(501), te),
        ("Transfer-Encoding: chunked, gzip\r\n", BAD, "RFC 9112 6.3"),
        ("Transfer-Encoding: identity\r\n", BAD, "RFC 9112 6.3"),
        ("Transfer-Encoding: xchunked\r\n", BAD, "RFC 9112 6.3"),
        ("Transfer-Encoding: chunkedx\r\n", BAD, "RFC 9112 6.3"),
        ("Transfer-Encoding: chunked;q=1\r\n", BAD, "RFC 9112 6.3"),
        ("Transfer-Encoding: \"chunked\"\r\n", BAD, "RFC 9112 6.3"),
        ("Transfer-Encoding: chunked identity\r\n", BAD, "RFC 9112 6.3"),
        ("Transfer-Encoding: \x0bchunked\r\n", BAD, "RFC 9110 5.5"),
        ("Transfer-Encoding : chunked\r\n", BAD, "RFC 9112 5.1"),
        ("X: y\nTransfer-Encoding: chunked\r\n", BAD, "RFC 9112 2.2"),
    ]);
    let old = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(request_outcome(old, LIMITS), BAD, "RFC 9112 6.1");
}

#[test]
fn the_body_is_what_the_framing_field_says() {
    let body = |fields: &str| with_request(get_with(fields).as_bytes(), |head| head.body);
    assert_eq!(body(""), BodyLength::None);
    assert_eq!(body("Content-Length: 0\r\n"), BodyLength::Length(0));
    assert_eq!(body("Content-Length: 007\r\n"), BodyLength::Length(7));
    assert_eq!(body("Transfer-Encoding: Chunked\r\n"), BodyLength::Chunked);
}

#[test]
fn keep_alive_is_the_clients_wish_and_close_wins() {
    let wish = |version: &str, connection: &str| {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        with_request(text.as_bytes(), |head| head.keep_alive)
    };
    assert!(wish("1.1", ""));
    assert!(!wish("1.1", "Connection: close\r\n"));
    assert!(!wish("1.1", "Connection: keep-alive\r\nConnection: a, CLOSE\r\n"));
    assert!(!wish("1.0", ""));
    assert!(wish("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!wish("1.0", "Connection: keep-alive, close\r\n"));
    assert!(!wish("1.0", "Proxy-Connection: keep-alive\r\n"));
}

#[test]
fn only_100_continue_may_be_expected_and_not_by_1_0_clients() {
    let s = "RFC 9110 10.1.1";
    check_fields(&[
        ("Expect: 100-Continue\r\n", Whole, s),
        ("Expect: 200-ok\r\n", Refused(417), s),
        ("Expect:\r\n", Refused(417), s),
        ("Expect: 100-continue, a\r\n", Refused(417), s),
        ("Expect: a\r\nExpect: 100-continue\r\n", Refused(417), s),
    ]);
    let expects = |text: &[u8]| with_request(text, |head| head.expect_continue);
    assert!(expects(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"));
    assert!(!expects(b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"));
    assert!(!expects(b"GET / HTTP/1.0\r\nExpect: a\r\n\r\n"));
}

#[test]
fn upgrade_needs_its_nomination_version_1_1_and_not_h2c() {
    let asked = |version: &str, fields: &str| {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        with_request(text.as_bytes(), |head| head.upgrade.map(<[u8]>::to_vec))
    };
    let websocket = Some(b"websocket".to_vec());
    let nominated = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(asked("1.1", nominated), websocket);
    assert_eq!(asked("1.0", nominated), None);
    assert_eq!(asked("1.1", "Upgrade: websocket\r\n"), None);
    assert_eq!(asked("1.1", "Connection: upgrade\r\n"), None);
    for value in ["h2c", "H2C", "websocket, h2c", "h2c,websocket", "", "a b", "a/", "a,"] {
        let fields = format!("Connection: upgrade, HTTP2-Settings\r\nUpgrade: {value}\r\n");
        assert_eq!(asked("1.1", &fields), None, "{value}");
    }
    let twice = "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n";
    assert_eq!(asked("1.1", twice), None);
}

#[test]
fn max_forwards_counts_for_options_only() {
    let s = "RFC 9110 7.6.2";
    let options = |fields: &[u8]| {
        let input = [b"OPTIONS * HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n"].concat();
        request_outcome(&input, LIMITS)
    };
    check(
        &[
            ("Max-Forwards: 0\r\n", Whole, s),
            ("Max-Forwards: 99999999999999999999999999\r\n", Whole, s),
            ("Max-Forwards: x\r\n", BAD, s),
            ("Max-Forwards: -1\r\n", BAD, s),
            ("Max-Forwards:\r\n", BAD, s),
            ("Max-Forwards: 1\r\nMax-Forwards: 1\r\n", BAD, s),
        ],
        options,
    );
    check_fields(&[("Max-Forwards: x\r\n", Whole, s)]);
    let is_zero = |text: &[u8]| with_request(text, |head| head.max_forwards_zero);
    assert!(is_zero(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"));
    assert!(!is_zero(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\n\r\n"));
    assert!(!is_zero(b"GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"));
}

#[test]
fn a_fault_is_reported_before_the_head_is_whole() {
    let s = "nothing more can mend it";
    check(
        &[
            ("GET / HTTP/1.1\r\nHost: a\r\n", Partial, s),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r", Partial, s),
            ("GET / HTTP/1.1\r\nHost", Partial, s),
            ("GET / HTTP/1.1\r", Partial, s),
            ("GET / HTTP/1", Partial, s),
            ("GET /", Partial, s),
            ("G", Partial, s),
            ("GET / HTTP/1.1\n", BAD, s),
            ("GET / HTTP/1.1\r\nA: b\n", BAD, s),
            ("GET / HTTP/1.1\r\nA: b\nC", BAD, s),
            ("GET / HTTP/1.1\r\n ", BAD, s),
            ("GET / HTTP/1.1\r\nA: b\r\n ", BAD, s),
            ("GET / HTTP/1.1\r\nA: b\0", BAD, s),
            ("GET / HTTP/1.1\r\nA b", BAD, s),
            ("GET / HTTP/1.1\r\n:", BAD, s),
            ("GET / HTTP/1.1\r\nA: b\rc", BAD, s),
            ("GET /\"", BAD, s),
            ("GET /#", BAD, s),
            ("GET  ", BAD, s),
            ("GET / X", BAD, s),
            (" ", BAD, s),
            ("\0", BAD, s),
        ],
        |input| request_outcome(input, LIMITS),
    );
}

#[test]
fn heads_beyond_their_limits_are_414_and_431() {
    let head = b"GET /aaaaaaaaaaaaaaa HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n";
    let outcome = |bytes, fields| request_outcome(head, HeadLimits { bytes, fields });
    assert_eq!(outcome(head.len(), 2), Whole);
    assert_eq!(outcome(head.len() - 1, 2), Refused(431), "RFC 6585 5");
    assert_eq!(outcome(31, 2), Refused(431), "RFC 6585 5");
    assert_eq!(outcome(30, 2), Refused(414), "RFC 9110 15.5.15");
    assert_eq!(outcome(head.len(), 1), Refused(431), "RFC 6585 5");
    assert_eq!(outcome(usize::MAX, usize::MAX), Whole);
    let part = &head[..head.len() - 2];
    let bytes = part.len();
    assert_eq!(request_outcome(part, HeadLimits { bytes: bytes + 1, fields: 2 }), Partial);
    assert_eq!(request_outcome(part, HeadLimits { bytes, fields: 2 }), Refused(431));
    assert_eq!(request_outcome(part, HeadLimits { bytes: 99, fields: 1 }), Refused(431));
}

#[test]
fn more_than_256_fields_are_refused_whatever_the_limit() {
    let head = |count| get_with(&"A: b\r\n".repeat(count));
    let outcome = |count| {
        request_outcome(head(count).as_bytes(), HeadLimits { bytes: 99_999, fields: 9_999 })
    };
    assert_eq!(outcome(255), Whole);
    assert_eq!(outcome(256), Refused(431));
}

#[test]
fn a_connection_field_that_names_too_many_fields_is_refused() {
    let head = |count| get_with(&format!("Connection: {}\r\n", vec!["a"; count].join(",")));
    assert_eq!(request_outcome(head(128).as_bytes(), LIMITS), Whole);
    assert_eq!(request_outcome(head(129).as_bytes(), LIMITS), BAD);
}

#[test]
fn methods_know_what_may_be_sent_again() {
    use Method::*;
    let all = [Get, Head, Post, Put, Delete, Options, Patch, Trace, Connect, Other];
    let idempotent: Vec<_> = all.into_iter().filter(|method| method.is_idempotent()).collect();
    assert_eq!(idempotent, [Get, Head, Put, Delete, Options, Trace], "RFC 9110 9.2.2");
    let safe: Vec<_> = all.into_iter().filter(|method| method.is_safe()).collect();
    assert_eq!(safe, [Get, Head, Options, Trace], "RFC 9110 9.2.1");
}
