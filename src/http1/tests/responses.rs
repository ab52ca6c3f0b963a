//! Response heads and answers of our own.

use super::Got::{Partial, Refused, Whole};
use super::*;

const BAD: Got = Refused(502);

#[test]
fn status_lines_are_exact() {
    let s = "RFC 9112 4";
    check(
        &[
            ("HTTP/1.1 200 OK\r\n\r\n", Whole, s),
            ("HTTP/1.0 200 OK\r\n\r\n", Whole, s),
            ("HTTP/1.1 200 \r\n\r\n", Whole, s),
            ("HTTP/1.1 200\r\n\r\n", Whole, s),
            ("HTTP/1.1 200  two  spaces\r\n\r\n", Whole, s),
            ("HTTP/1.1 200 \u{e9}t\u{e9}\r\n\r\n", Whole, "obs-text"),
            ("HTTP/1.1 100 Continue\r\n\r\n", Whole, s),
            ("HTTP/1.1 599 x\r\n\r\n", Whole, s),
            ("HTTP/1.1 099 x\r\n\r\n", BAD, "RFC 9110 15"),
            ("HTTP/1.1 600 x\r\n\r\n", Whole, "RFC 9110 15"),
            ("HTTP/1.1 999 x\r\n\r\n", Whole, "RFC 9110 15"),
            ("HTTP/1.1 000 x\r\n\r\n", BAD, "RFC 9110 15"),
            ("HTTP/1.1 20 x\r\n\r\n", BAD, s),
            ("HTTP/1.1 2000 x\r\n\r\n", BAD, s),
            ("HTTP/1.1 2x0 x\r\n\r\n", BAD, s),
            ("HTTP/1.1 +20 x\r\n\r\n", BAD, s),
            ("HTTP/1.1 200x\r\n\r\n", BAD, s),
            ("HTTP/1.1 200\tOK\r\n\r\n", BAD, s),
            ("HTTP/1.1  200 OK\r\n\r\n", BAD, s),
            ("HTTP/1.1\t200 OK\r\n\r\n", BAD, s),
            ("HTTP/1.1\r\n\r\n", BAD, s),
            ("HTTP/1.1 \r\n\r\n", BAD, s),
            (" HTTP/1.1 200 OK\r\n\r\n", BAD, s),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", BAD, s),
            ("\nHTTP/1.1 200 OK\r\n\r\n", BAD, s),
            ("HTTP/1.1 200 OK\n\r\n", BAD, "RFC 9112 2.2"),
            ("HTTP/1.1 200\n\r\n", BAD, "RFC 9112 2.2"),
            ("HTTP/1.1 200 OK\r\n\n", BAD, "RFC 9112 2.2"),
            ("HTTP/1.1 200 OK\nA: b\r\n\r\n", BAD, "RFC 9112 2.2"),
            ("HTTP/1.1 200 O\rK\r\n\r\n", BAD, "RFC 9112 2.2"),
            ("HTTP/1.1 200 O\0K\r\n\r\n", BAD, s),
            ("HTTP/1.1 200 O\x7fK\r\n\r\n", BAD, s),
            ("HTTP/1.2 200 OK\r\n\r\n", BAD, "RFC 9112 2.3"),
            ("HTTP/2.0 200 OK\r\n\r\n", BAD, "RFC 9112 2.3"),
            ("HTTP/2 200 OK\r\n\r\n", BAD, "RFC 9112 2.3"),
            ("http/1.1 200 OK\r\n\r\n", BAD, "RFC 9112 2.3"),
            ("ICY 200 OK\r\n\r\n", BAD, s),
            ("<html>", BAD, "HTTP/0.9"),
            ("HTTP/1.1 200 O", Partial, s),
            ("HTTP/1.", Partial, s),
            ("", Partial, s),
            ("HTTP/1.1 0", BAD, "at once"),
            ("HTTP/1.3", BAD, "at once"),
            ("\r\n", BAD, "at once"),
        ],
        |input| response_outcome(input, LIMITS),
    );
}

#[test]
fn a_target_that_speaks_another_protocol_is_told_from_its_first_bytes() {
    let table: [(&[u8], &str); 4] = [
        (b"\x15\x03\x01\x00\x02\x02\x46", Fault::TargetSpeaksTls.why()),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", Fault::TargetSpeaksHttp2.why()),
        (b"\x00\x00\x00\x00\r\n\r\n", "Malformed status line."),
        (b"SSH-2.0-OpenSSH_9\r\n", "Malformed status line."),
    ];
    for (input, why) in table {
        let bad = parse_response(input, LIMITS, &mut FieldSpace::new()).unwrap_err();
        assert_eq!(bad.why(), why, "{}", input.escape_ascii());
    }
}

#[test]
fn fields_and_framing_are_exact() {
    let s = "RFC 9112 6.3";
    let response = |fields: &[u8]| {
        response_outcome(&[b"HTTP/1.1 200 OK\r\n", fields, b"\r\n"].concat(), LIMITS)
    };
    check(
        &[
            ("A: b\r\n", Whole, s),
            ("A: b\nC: d\r\n", BAD, "RFC 9112 2.2"),
            ("A: b\r\n c\r\n", BAD, "RFC 9112 5.2"),
            (" A: b\r\n", BAD, "RFC 9112 5.2"),
            ("A : b\r\n", BAD, "RFC 9112 5.1"),
            ("A b\r\n", BAD, "RFC 9112 5"),
            (": b\r\n", BAD, "RFC 9112 5"),
            ("A: \0\r\n", BAD, "RFC 9110 5.5"),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Whole, s),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", BAD, s),
            ("Content-Length: 5, 5\r\n", Whole, s),
            ("Content-Length: 5, 6\r\n", BAD, s),
            ("Content-Length: 5,\r\n", BAD, s),
            ("Content-Length: x\r\n", BAD, s),
            ("Content-Length: -1\r\n", BAD, s),
            ("Content-Length: 18446744073709551617\r\n", BAD, s),
            ("Transfer-Encoding: chunked\r\n", Whole, s),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", BAD, s),
            ("Transfer-Encoding: gzip, chunked\r\n", BAD, s),
            ("Transfer-Encoding: identity\r\n", BAD, s),
            ("Transfer-Encoding: chunked, chunked\r\n", BAD, s),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", BAD, s),
        ],
        response,
    );
    let old = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut space = FieldSpace::new();
    let Ok(Progress::Complete(head)) = parse_response(old, LIMITS, &mut space) else { panic!() };
    assert!(!head.keep_alive, "RFC 9112 6.1: the connection ends behind it");
}

#[test]
fn bodies_end_where_rfc_9112_section_6_3_says() {
    let body = |status: u16, fields: &str, method| {
        let text = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
        with_response(text.as_bytes(), |head| head.body(method))
    };
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    for fields in ["", length, chunked] {
        assert_eq!(body(200, fields, Method::Head), Ok(BodyLength::None), "rule 1");
        for status in [100, 101, 103, 199, 204, 304] {
            assert_eq!(body(status, fields, Method::Get), Ok(BodyLength::None), "rule 1");
        }
        assert!(body(200, fields, Method::Connect).is_err(), "rule 2");
    }
    assert_eq!(body(200, chunked, Method::Get), Ok(BodyLength::Chunked), "rule 4");
    assert_eq!(body(200, length, Method::Post), Ok(BodyLength::Length(5)), "rule 6");
    assert_eq!(body(200, "", Method::Get), Ok(BodyLength::UntilClose), "rule 8");
    assert_eq!(body(205, "", Method::Get), Ok(BodyLength::UntilClose), "rule 8");
    assert_eq!(body(403, "", Method::Connect), Ok(BodyLength::UntilClose), "rule 8");
}

#[test]
fn a_connection_is_kept_only_if_its_head_leaves_no_doubt() {
    let keeps = |head: &str| with_response(head.as_bytes(), |head| head.keep_alive);
    assert!(keeps("HTTP/1.1 200 OK\r\n\r\n"));
    assert!(!keeps("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"));
    assert!(!keeps("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(keeps("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"));
    assert!(keeps("HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n"));
    assert!(!keeps("HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n"), "it may send them");
    assert!(!keeps("HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n"), "it may send them");
    assert!(keeps("HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n"));
}

#[test]
fn the_protocol_switched_to_is_nominated_and_never_h2c() {
    let protocol = |fields: &str| {
        let text = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
        with_response(text.as_bytes(), |head| head.upgrade.map(<[u8]>::to_vec))
    };
    let websocket = Some(b"websocket".to_vec());
    assert_eq!(protocol("Connection: Upgrade\r\nUpgrade: websocket\r\n"), websocket);
    assert_eq!(protocol("Upgrade: websocket\r\n"), None);
    assert_eq!(protocol("Connection: Upgrade\r\nUpgrade: h2c\r\n"), None);
}

#[test]
fn heads_beyond_their_limits_are_refused() {
    let head = b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n";
    let outcome = |bytes, fields| response_outcome(head, HeadLimits { bytes, fields });
    assert_eq!(outcome(head.len(), 2), Whole);
    assert_eq!(outcome(head.len() - 1, 2), BAD);
    assert_eq!(outcome(head.len(), 1), BAD);
    assert_eq!(outcome(4, 1), BAD);
}

fn answered(status: u16, why: &str, close: bool, head_only: bool) -> String {
    let mut out = Vec::new();
    answer((status, why), &RequestId::None, None, close, head_only, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn answers_of_our_own_are_whole_messages() {
    assert_eq!(
        answered(503, "no target", false, false),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 19\r\n\r\nService Unavailable"
    );
    assert_eq!(
        answered(400, "Missing Host header.", true, true),
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 20\r\nConnection: close\r\n\r\n"
    );
    assert!(answered(502, "", true, false).ends_with("\r\n\r\nBad Gateway"));
    assert!(answered(405, "x", true, false).contains("\r\nAllow: GET, HEAD, "));
}

#[test]
fn every_answer_of_our_own_parses_as_a_response() {
    for status in [200, 400, 405, 408, 413, 414, 417, 431, 500, 501, 502, 503, 504, 505] {
        let text = answered(status, "Why.", true, false);
        let body = with_response(text.as_bytes(), |head| {
            assert_eq!((head.status, head.keep_alive), (status, false));
            assert_eq!(
                head.body(Method::Get),
                Ok(BodyLength::Length((text.len() - head.len) as u64))
            );
            text[head.len..].to_owned()
        });
        assert!(!text.contains("Error\r\n") || status == 500, "{text}");
        assert!(!body.is_empty());
    }
    let mut out = Vec::new();
    answer_options(&RequestId::None, false, &mut out);
    with_response(&out, |head| assert_eq!(head.len, out.len()));
}
