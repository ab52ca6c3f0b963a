//! What is remembered of a connection from one read to the next, on either side.

use super::*;
use crate::http1::client::{ClientHalf, Reuse};
use crate::http1::server::ServerHalf;

/// The client's connection after it sent this head.
fn asked(request: &str) -> ServerHalf {
    let mut half = ServerHalf::READY;
    let mut space = FieldSpace::new();
    let read = half.request_head(request.as_bytes(), LIMITS, &mut space);
    assert!(matches!(read, Ok(Progress::Complete(_))), "{request:?}");
    half
}

/// What the client is sent of this response, head only.
fn told(half: &mut ServerHalf, response: &str) -> String {
    let mut out = Vec::new();
    with_response(response.as_bytes(), |head| {
        let length = head.body(Method::Get).unwrap();
        half.response_head(head, response.as_bytes(), length, (None, &RequestId::None), &mut out);
    });
    String::from_utf8(out).unwrap()
}

/// The target's connection after this request and the head of this response to it.
fn answered(request: &str, response: &str) -> ClientHalf {
    let (mut half, mut out) = (ClientHalf::READY, Vec::new());
    let by = RequestRewrite {
        client: ClientAddress { ip: [192, 0, 2, 10].into(), trusted: false },
        fallback_host: "fallback",
        via: None,
        request_id: &RequestId::None,
        span: None,
    };
    with_request(request.as_bytes(), |head| {
        half.request_head(head, request.as_bytes(), &by, &mut out);
    });
    with_response(response.as_bytes(), |head| {
        half.begin_body(head, head.body(Method::Get).unwrap());
    });
    half
}

const OLD: &str = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";

#[test]
fn a_head_in_pieces_is_read_again_only_when_a_line_ends() {
    let mut half = ServerHalf::READY;
    let mut whole = |len: usize| {
        let mut space = FieldSpace::new();
        let read = half.request_head(&GET.as_bytes()[..len], LIMITS, &mut space);
        matches!(read, Ok(Progress::Complete(_)))
    };
    assert!((1..GET.len()).all(|len| !whole(len)));
    assert!(whole(GET.len()));
    let mut scan = Scan::NOTHING;
    let due = ["G", "GE", "GET\n", "GET\nH", "GET\nHo"].map(|seen| scan.is_due(seen.as_bytes(), 6));
    assert_eq!(due, [true, false, true, false, true], "the last one is as long as may be");
}

#[test]
fn a_clients_connection_is_kept_only_where_it_asked_for_it_and_its_response_has_an_end() {
    for (request, response, kept, field) in [
        (GET, LENGTH, true, ""),
        (GET, CHUNKS, true, ""),
        (OLD, LENGTH, true, "Connection: keep-alive\r\n"),
        (OLD, CHUNKS, false, "Connection: close\r\n"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            LENGTH,
            false,
            "Connection: close\r\n",
        ),
    ] {
        let mut half = asked(request);
        let asks = half.wants_to_be_kept();
        let head = told(&mut half, response);
        assert_eq!(half.is_kept(), kept, "{request:?} {response:?}");
        assert_eq!(half.wants_to_be_kept(), asks, "that is the client's to say");
        assert!(head.ends_with(&format!("{field}\r\n")), "{head:?}");
        assert_eq!(head.contains("Connection"), !field.is_empty(), "{head:?}");
        assert_eq!(half.is_framed_by_its_end(), request == OLD && response == CHUNKS);
    }
}

#[test]
fn a_clients_connection_that_is_to_end_is_not_kept_by_what_comes_later() {
    let mut half = asked(GET);
    half.end();
    assert!(told(&mut half, LENGTH).contains("Connection: close\r\n"));
    assert!(!half.is_kept() && half.wants_to_be_kept());
    let mut out = Vec::new();
    half.answer((503, ""), &RequestId::None, None, false, &mut out);
    assert!(String::from_utf8(out).unwrap().contains("Connection: close\r\n"));
}

#[test]
fn a_targets_connection_carries_what_its_response_and_what_is_left_on_it_allow() {
    let get_with_content = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n";
    let close = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
    let until_close = "HTTP/1.1 200 OK\r\n\r\n";
    for (request, response, left, reuse) in [
        (GET, LENGTH, 0, Reuse::Pool),
        (GET, LENGTH, 1, Reuse::No),
        (GET, close, 0, Reuse::Ends),
        (GET, until_close, 0, Reuse::Ends),
        (get_with_content, LENGTH, 0, Reuse::No),
        (get_with_content, close, 0, Reuse::Ends),
    ] {
        let half = answered(request, response);
        assert_eq!(half.reuse_behind(left), reuse, "{request:?} {response:?} {left}");
    }
    let mut half = answered(GET, LENGTH);
    half.rule_out_reuse();
    assert_eq!(half.reuse_behind(0), Reuse::No);
}

#[test]
fn a_body_is_framed_in_chunks_with_its_trailers_behind_the_last() {
    let mut encoder = BodyEncoder::new(true);
    let mut frame = |len: usize, trailers: &str, done: bool| {
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        let decoded = Decoded { consumed: len, data: 0..len, done };
        encoder.frame(&decoded, &mut trailers.as_bytes().to_vec(), (&mut before, &mut behind));
        (String::from_utf8(before).unwrap(), String::from_utf8(behind).unwrap())
    };
    let pair = |before: &str, behind: &str| (before.to_owned(), behind.to_owned());
    assert_eq!(frame(17, "", false), pair("11\r\n", "\r\n"));
    assert_eq!(frame(0, "", false), pair("", ""));
    assert_eq!(frame(1, "A: b\r\n", true), pair("1\r\n", "\r\n0\r\nA: b\r\n\r\n"));
}
