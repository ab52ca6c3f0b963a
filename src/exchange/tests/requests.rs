//! The client's direction: heads, bodies, refusals.

use super::*;

#[test]
fn a_request_asks_for_an_upstream_with_its_head_rewritten() {
    let mut talk = Talk::of(GET);
    assert_eq!(talk.next, Next::NeedUpstream);
    assert_eq!(talk.heard_by_target(), request("GET / HTTP/1.1", "Host: a\r\n", ""));
    assert!(talk.flow.request_complete() && talk.flow.awaits_response());
}

#[test]
fn a_head_in_drips_asks_for_nothing_until_it_is_whole() {
    let mut talk = Talk::new();
    for byte in GET[..GET.len() - 1].chars() {
        talk.client_says(&byte.to_string());
        assert_eq!(talk.next, Next::NeedMore);
        assert!(talk.flow.is_idle());
    }
    talk.client_says("\n");
    assert_eq!(talk.next, Next::NeedUpstream);
}

#[test]
fn a_request_that_has_come_back_goes_no_further() {
    let us = Pseudonym::new(7);
    let back = "Via: 1.1 evenly-0000000000000007\r\n";
    for (request, body, ending) in [(GET, "", Ending::KeepAlive), (POST, "body", Ending::Linger)] {
        let mut talk = Talk::new();
        talk.rules.request_via = Some(us);
        talk.client_says(request);
        let sent = talk.heard_by_target();
        assert!(sent.contains(back), "{sent}");
        let mut talk = Talk::new();
        talk.rules.request_via = Some(us);
        talk.client_says(&(sent + body));
        assert_eq!((talk.next, talk.heard_by_target().as_str()), (Next::Answered, ""));
        let (status, why) = talk.answer();
        assert_eq!(
            (status, why.as_str()),
            (508, "The request has come back: a target leads here.")
        );
        assert_eq!(talk.ending, Some(ending));
        // Another instance passes it on.
        let mut talk = Talk::new();
        talk.rules.request_via = Some(Pseudonym::new(8));
        talk.client_says(&request.replace("\r\n\r\n", &format!("\r\n{back}\r\n")));
        assert_eq!(talk.next, Next::NeedUpstream);
    }
}

#[test]
fn empty_lines_between_requests_are_taken_at_once_and_say_nothing() {
    let mut talk = Talk::of("\r\n\r\n");
    assert!(talk.client.is_empty() && talk.flow.is_idle(), "nothing waits for its rest");
    talk.client_says(&format!("\r\n{GET}"));
    assert!(talk.heard_by_target().starts_with("GET / "));
    talk.target_says(OK).goes_on();
    talk.client_says("\r");
    assert_eq!(talk.client, b"\r", "it may become one");
    talk.client_says("\n").client_says(GET);
    assert!(talk.heard_by_target().starts_with("GET / "));
}

#[test]
fn a_later_minor_version_is_served_as_1_1() {
    for minor in ["1.2", "1.9"] {
        let mut talk = Talk::of(&GET.replace("1.1", minor));
        assert_eq!(talk.heard_by_target(), request("GET / HTTP/1.1", "Host: a\r\n", ""));
        talk.target_says(OK);
        assert_eq!((talk.heard_by_client().as_str(), talk.ending), (OK, Some(Ending::KeepAlive)));
        let mut talk = Talk::new();
        for byte in GET.replace("1.1", minor).chars() {
            talk.client_says(&byte.to_string());
        }
        assert_eq!(talk.heard_by_target(), request("GET / HTTP/1.1", "Host: a\r\n", ""));
    }
    for line in ["GET / HTTP/2.1", "GET / HTTP/1.2 ", "GET HTTP/1.2"] {
        let mut talk = Talk::of(&format!("{line}\r\nHost: a\r\n\r\n"));
        assert_eq!(talk.next, Next::Answered, "{line}");
        assert!(talk.answer().0 >= 400);
    }
}

#[test]
fn a_pipelined_request_waits_for_the_first_to_be_answered() {
    let mut talk = Talk::of(&format!("{GET}GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!talk.flow.wants_client_bytes());
    assert!(talk.client.starts_with(b"GET /2"), "it was left where it is");
    assert!(!talk.heard_by_target().contains("/2"));
    talk.target_says(OK).goes_on();
    assert!(talk.heard_by_target().starts_with("GET /2 "));
}

#[test]
fn the_first_flight_takes_what_is_there_of_the_body() {
    let mut talk = Talk::of(&format!("{POST}ab"));
    assert_eq!(talk.next, Next::NeedUpstream);
    assert!(talk.heard_by_target().ends_with("\r\n\r\nab"));
    assert!(talk.flow.streams_to_upstream());
    talk.client_says("cdGET /2");
    assert_eq!((talk.next, talk.heard_by_target().as_str()), (Next::ToUpstream, "cd"));
    assert!(talk.flow.request_complete());
    assert_eq!(talk.client, b"GET /2", "what follows the body is the next request's");
}

#[test]
fn a_chunked_request_is_framed_anew_with_its_trailers() {
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut talk = Talk::of(&format!("{head}2;x=y\r\nab\r\n1\r\nc\r\n"));
    let wanted = request("PUT / HTTP/1.1", "Host: a\r\n", "Transfer-Encoding: chunked\r\n");
    assert_eq!(talk.heard_by_target(), wanted + "3\r\nabc\r\n");
    talk.client_says("0\r\nX-Sum: 6\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(talk.heard_by_target(), "0\r\nX-Sum: 6\r\n\r\n");
    assert!(talk.flow.request_complete());
}

#[test]
fn a_broken_chunk_in_the_first_flight_is_refused_and_nothing_is_sent() {
    let mut talk =
        Talk::of("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(talk.next, Next::Answered);
    assert_eq!((talk.answer().0, talk.ending), (400, Some(Ending::Linger)));
    assert_eq!(talk.heard_by_target(), "");
}

#[test]
fn a_broken_chunk_is_refused_while_the_response_has_not_begun() {
    let mut talk =
        Talk::of("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    talk.client_says("zz\r\n");
    assert_eq!((talk.answer().0, talk.ending), (400, Some(Ending::Linger)));
    assert!(!talk.flow.wants_client_bytes());
}

#[test]
fn a_broken_chunk_cuts_a_response_that_has_begun() {
    let mut talk =
        Talk::of("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    talk.target_says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").client_says("zz\r\n");
    assert_eq!((talk.next, talk.near.is_framed_by_its_end()), (Next::ClientBroke, false));
    assert!(!talk.flow.wants_client_bytes());
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_ends() {
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", 417),
    ] {
        let mut talk = Talk::of(bytes);
        let head = String::from_utf8_lossy(&talk.to_client).into_owned();
        assert!(head.contains("\r\nConnection: close\r\n"), "{bytes:?}: {head}");
        assert_eq!((talk.answer().0, talk.ending), (status, Some(Ending::Linger)), "{bytes:?}");
        assert_eq!(talk.heard_by_target(), "");
        assert!(!talk.flow.wants_client_bytes());
    }
}

#[test]
fn a_head_beyond_its_limits_is_refused() {
    let long_line = format!("GET /{} HTTP/1.1\r\n", "x".repeat(1024));
    assert_eq!(Talk::of(&long_line).answer().0, 414);
    let long_field = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(1024));
    assert_eq!(Talk::of(&long_field).answer().0, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(20));
    assert_eq!(Talk::of(&many).answer().0, 431);
}

#[test]
fn options_with_no_forwards_left_is_answered_here() {
    let mut talk = Talk::of("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    assert_eq!((talk.next, talk.ending), (Next::Answered, Some(Ending::KeepAlive)));
    assert_eq!(talk.answer(), (200, String::new()));
    talk.goes_on().client_says("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 7\r\n\r\n");
    let heard = talk.heard_by_target();
    assert!(heard.contains("Max-Forwards: 6\r\n"), "{heard}");
}

#[test]
fn options_with_a_body_and_no_forwards_left_ends_the_connection() {
    let mut talk = Talk::of(
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert!(talk.heard_by_client().contains("Connection: close\r\n"));
    assert_eq!(talk.ending, Some(Ending::Linger));
}

#[test]
fn a_slow_request_is_a_408_and_the_end() {
    for begun in ["GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab"] {
        let mut talk = Talk::of(begun);
        talk.out.clear();
        let next = talk.flow.client_timed_out(&talk.rules, &mut talk.near, &mut talk.out);
        talk.carry(&Step { consumed: 0, body: 0..0, next }, &[]);
        assert_eq!((talk.answer().0, talk.ending), (408, Some(Ending::Linger)));
    }
}
