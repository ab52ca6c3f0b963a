//! Messages of every framing both ways, whole and in order; interim responses; clients of HTTP/1.0.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{
    Client, End, Evenly, Origin, Then, Wire, answer, assert_same, body_of, chunks, no_body,
    pattern, until,
};

const MIB: usize = 1024 * 1024;

/// Sends every body back: with Content-Length, in chunks or up to the close, as the path says.
fn echo() -> Origin {
    Origin::start(|wire, head| {
        let Ok((body, trailers)) = body_of(wire, head) else { return Then::Close };
        let result = match head.target() {
            "/chunked" => send_chunked(wire, &body, &trailers),
            "/close" => wire.send("HTTP/1.1 200 OK\r\n\r\n").and_then(|()| wire.send(&body)),
            _ => return answer(wire, body),
        };
        if result.is_err() || head.target() == "/close" { Then::Close } else { Then::Next }
    })
}

fn send_chunked(wire: &mut Wire, body: &[u8], trailers: &[String]) -> std::io::Result<()> {
    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    wire.send(chunks(body))?;
    wire.send("0\r\n")?;
    trailers.iter().try_for_each(|trailer| wire.send(format!("{trailer}\r\n")))?;
    wire.send("\r\n")
}

fn post_head(path: &str, framing: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n")
}

#[test]
fn bodies_with_content_length_pass_both_ways() {
    let origin = echo();
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for len in [0, 1, 100, 5000, 70_000, 3 * MIB] {
        let body = pattern(len);
        client.send(post_head("/", &format!("Content-Length: {len}")));
        client.send(&body);
        let response = client.response();
        assert_eq!(response.head.content_length(), Some(len));
        assert_same(&response.body, &body);
    }
}

#[test]
fn chunked_bodies_pass_both_ways() {
    let origin = echo();
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for len in [0, 1, 100, 5000, 70_000, 3 * MIB] {
        let body = pattern(len);
        client.send(post_head("/chunked", "Transfer-Encoding: chunked"));
        client.send(chunks(&body));
        client.send("0\r\n\r\n");
        let response = client.response();
        assert!(response.head.is_chunked());
        assert_same(&response.body, &body);
        assert!(origin.last_head().is_chunked());
    }
    assert_eq!(origin.connections(), 1, "the connection to the target was kept");
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let origin = Origin::start(|wire, head| {
        let Ok((body, _)) = body_of(wire, head) else { return Then::Close };
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        bytes.extend(chunks(&body));
        bytes.extend_from_slice(b"0\r\n\r\n");
        let sent = bytes.iter().try_for_each(|&byte| wire.send([byte]));
        if sent.is_ok() { Then::Next } else { Then::Close }
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for _ in 0..3 {
        let mut request = post_head("/", "Transfer-Encoding: chunked").into_bytes();
        request.extend(chunks(b"a body in drips"));
        request.extend_from_slice(b"0\r\n\r\n");
        request.iter().for_each(|&byte| client.send([byte]));
        assert_eq!(client.response().text(), "a body in drips");
    }
}

#[test]
fn a_body_up_to_the_close_is_chunked_for_a_client_that_keeps_its_connection() {
    let origin = echo();
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for len in [0, 100, 3 * MIB] {
        let body = pattern(len);
        client.send(post_head("/close", &format!("Content-Length: {len}")));
        client.send(&body);
        let response = client.response();
        assert!(response.head.is_chunked());
        assert_same(&response.body, &body);
    }
}

#[test]
fn a_client_of_http_1_0_gets_bodies_without_chunks() {
    let origin = echo();
    let evenly = Evenly::before(&[&origin]);
    let body = pattern(MIB);
    for path in ["/", "/chunked", "/close"] {
        let mut client = evenly.client();
        client.send(format!("POST {path} HTTP/1.0\r\nContent-Length: {MIB}\r\n\r\n"));
        client.send(&body);
        let response = client.response();
        assert!(response.closes() && !response.head.is_chunked(), "{:?}", response.head);
        assert_same(&response.body, &body);
        assert_eq!(client.end(), End::Fin);
    }
    assert!(origin.last_head().line.ends_with("HTTP/1.1"));
}

#[test]
fn an_http_1_0_client_keeps_its_connection_if_the_body_has_a_length() {
    let origin = echo();
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    let request = "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    for _ in 0..3 {
        client.send(request);
        let response = client.response();
        assert_eq!(
            (response.text(), response.head.field("Connection")),
            ("ok", Some("keep-alive"))
        );
    }
    client.send(request.replace("/ ", "/chunked "));
    let response = client.response();
    assert!(response.closes());
    assert_eq!(response.text(), "ok");
    assert_eq!(client.end(), End::Fin);
}

#[test]
fn connection_close_is_honoured_and_answered() {
    let origin = echo();
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert!(client.response().closes());
    assert_eq!(client.end(), End::Fin);
    assert_eq!(origin.last_head().field("Connection"), None);
}

#[test]
fn a_target_that_closes_behind_its_answer_costs_the_client_nothing() {
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        Then::Close,
    );
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for _ in 0..10 {
        let response = client.post("/", "x");
        assert_eq!((response.text(), response.head.field("Connection")), ("ok", None));
    }
}

#[test]
fn trailers_pass_both_ways() {
    let origin = echo();
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send(post_head("/chunked", "Transfer-Encoding: chunked\r\nTrailer: X-Sum, X-Two"));
    client.send("4\r\nbody\r\n0\r\nX-Sum: 12\r\nX-Two: b\r\n\r\n");
    let response = client.response();
    assert_eq!(response.text(), "body");
    assert_eq!(response.trailers, ["X-Sum: 12", "X-Two: b"]);
    assert_eq!(origin.last_head().field("Trailer"), Some("X-Sum, X-Two"));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn trailers_that_come_in_pieces_all_pass() {
    let origin = echo();
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send(post_head("/chunked", "Transfer-Encoding: chunked"));
    for byte in b"4\r\nbody\r\n0\r\nX-Sum: 12\r\nX-Two: b\r\n\r\n" {
        client.send([*byte]);
    }
    let response = client.response();
    assert_eq!((response.text(), response.trailers.len()), ("body", 2));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn responses_that_have_no_body_have_none() {
    let origin = Origin::start(|wire, head| {
        let status = match head.target() {
            "/204" => "204 No Content\r\n",
            "/304" => "304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n",
            "/chunked" => "200 OK\r\nTransfer-Encoding: chunked\r\n",
            "/open" => "200 OK\r\n",
            _ => "200 OK\r\nContent-Length: 5\r\n",
        };
        let body = if head.target() == "/" && head.method() == "GET" { "hello" } else { "" };
        let _ = wire.send(format!("HTTP/1.1 {status}\r\n{body}"));
        Then::Next
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for (method, path, status) in [
        ("HEAD", "/", 200),
        ("GET", "/204", 204),
        ("GET", "/304", 304),
        ("HEAD", "/chunked", 200),
        ("HEAD", "/open", 200),
        ("HEAD", "/304", 304),
        ("POST", "/204", 204),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(client.response_head().unwrap().status, status, "{method} {path}");
        assert_eq!(client.get("/").text(), "hello", "after {method} {path}");
    }
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response_head().unwrap().head.content_length(), Some(5));
    assert_eq!(origin.connections(), 1, "the connection to the target was kept");
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let echo_path = |name: &'static str, pause: Duration| {
        Origin::start(move |wire, head| {
            let Ok((body, _)) = body_of(wire, head) else { return Then::Close };
            // One target is slower than the other: answers must not overtake one another.
            thread::sleep(pause);
            let body = String::from_utf8(body).unwrap();
            answer(wire, format!("{name} {} {body}", head.target()))
        })
    };
    let (a, b) = (echo_path("a", Duration::from_millis(3)), echo_path("b", Duration::ZERO));
    let evenly = Evenly::before(&[&a, &b]);
    let mut client = evenly.client();
    let mut requests = String::new();
    for nth in 0..100 {
        requests += &match nth % 3 {
            0 => format!("GET /{nth} HTTP/1.1\r\nHost: test\r\n\r\n"),
            1 => post_head(&format!("/{nth}"), "Content-Length: 4") + "body",
            _ => {
                post_head(&format!("/{nth}"), "Transfer-Encoding: chunked")
                    + "4\r\nbody\r\n0\r\n\r\n"
            }
        };
    }
    client.send(requests);
    for nth in 0..100 {
        let name = client.response();
        let body = if nth % 3 == 0 { "" } else { "body" };
        assert_eq!(name.text()[2..], format!("/{nth} {body}"));
    }
    assert_eq!((a.requests(), b.requests()), (50, 50));
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_from_the_target() {
    let origin = Origin::start(|wire, head| {
        assert_eq!(head.field("Expect"), Some("100-continue"));
        let _ = wire.send("HTTP/1.1 100 Continue\r\n\r\n");
        let Ok((body, _)) = body_of(wire, head) else { return Then::Close };
        answer(wire, body)
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for waits in [true, false, true] {
        client.send(post_head("/", "Expect: 100-continue\r\nContent-Length: 4"));
        if !waits {
            client.send("body");
        }
        assert_eq!(client.response().status, 100);
        if waits {
            client.send("body");
        }
        assert_eq!(client.response().text(), "body");
    }
}

#[test]
fn a_client_that_waits_for_100_continue_may_get_a_final_answer_instead() {
    let origin = Origin::start(|wire, _| {
        let _ = wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send(post_head("/", "Expect: 100-continue\r\nContent-Length: 4"));
    let response = client.response();
    assert_eq!((response.status, response.text(), response.closes()), (403, "no", true));
    assert_eq!(client.end(), End::Fin);
}

#[test]
fn early_hints_pass_but_not_to_clients_of_http_1_0() {
    let origin = Origin::saying(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Then::Next,
    );
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for link in ["</a.css>", "</b.css>"] {
        if link == "</a.css>" {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        let response = client.response();
        assert_eq!((response.status, response.head.field("Link")), (103, Some(link)));
    }
    assert_eq!(client.response().text(), "ok");
    let mut old = evenly.client();
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.response().status, 200);
}

#[test]
fn early_hints_are_passed_on_before_the_answer_is_there() {
    let origin = Origin::start(|wire, head| {
        no_body(head);
        let _ = wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        // The answer waits for the end of the client's side.
        let _ = wire.exactly(1);
        answer(wire, "ok")
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response().status, 103);
    assert_eq!(origin.requests(), 1);
}

#[test]
fn an_answer_to_an_upload_that_is_not_finished_can_be_read() {
    for then in [Then::Next, Then::Close, Then::Reset] {
        let origin = Origin::start(move |wire, _| {
            let head = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3";
            let _ = wire.send(format!("{head}\r\n\r\nbig"));
            if then == Then::Reset {
                // The answer is read before the reset comes, which would take it away.
                let _ = wire.exactly(100_000);
            }
            then
        });
        let evenly = Evenly::before(&[&origin]);
        let mut client = evenly.client();
        client.send(post_head("/", "Content-Length: 10000000"));
        // Whether all of this is taken is not the question.
        let part = vec![b'x'; 64 * 1024];
        let _ = (0..16).try_for_each(|_| client.wire.send(&part));
        let response = client.response();
        assert_eq!((response.status, response.text(), response.closes()), (413, "big", true));
        assert_eq!(client.end(), End::Fin);
        until("the target is let go", || origin.ended() == 1);
    }
}

#[test]
fn an_upload_goes_on_when_its_target_has_answered_and_its_connection_is_kept() {
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let origin = Origin::start(move |wire, head| {
        if head.method() == "GET" {
            return answer(wire, "next");
        }
        let _ = answer(wire, "queued");
        let Some(len) = head.content_length() else { return Then::Close };
        if wire.exactly(len).is_ok() {
            counted.fetch_add(len, Ordering::SeqCst);
        }
        Then::Next
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send(post_head("/", &format!("Content-Length: {}", 40 * MIB)));
    client.send(pattern(MIB));
    let response = client.response();
    assert_eq!((response.text(), response.closes()), ("queued", false));
    for nth in 1..40 {
        // Once the last one is sent, the connection may end.
        assert_eq!(origin.ended(), 0, "{nth} MiB of 40");
        client.send(pattern(MIB));
    }
    until("the target has read all of it", || read.load(Ordering::SeqCst) == 40 * MIB);
    assert_eq!(client.get("/").text(), "next");
    until("its connection carries nothing more", || origin.ended() == 1);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_target_that_answers_an_upload_and_leaves_costs_its_client_nothing() {
    for then in [Then::Close, Then::Reset] {
        let origin = Origin::start(move |wire, head| match head.method() {
            "GET" => answer(wire, "next"),
            _ => {
                let _ = answer(wire, "queued");
                // A reset could overtake the answer.
                let _ = wire.exactly(1);
                then
            }
        });
        let evenly = Evenly::before(&[&origin]);
        let mut client = evenly.client();
        client.send(post_head("/", &format!("Content-Length: {MIB}")));
        assert_eq!(client.response().text(), "queued");
        client.send(&pattern(MIB)[..10]);
        until("the target has left", || origin.ended() == 1);
        client.send(&pattern(MIB)[10..]);
        assert_eq!(client.get("/").text(), "next");
    }
}

#[test]
fn a_target_that_announces_its_end_may_read_on_until_it_ends() {
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let origin = Origin::start(move |wire, head| {
        let _ = wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        // Its answer is with the client while much of the request is still on its way.
        thread::sleep(Duration::from_millis(100));
        let len = head.content_length().unwrap_or_default();
        counted.store(wire.exactly(len).map_or(0, |body| body.len()), Ordering::SeqCst);
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send(post_head("/", &format!("Content-Length: {}", 3 * MIB)));
    client.send(pattern(3 * MIB));
    let response = client.response();
    assert_eq!((response.text(), response.closes()), ("ok", false));
    until("the target has ended", || origin.ended() == 1);
    assert_eq!(read.load(Ordering::SeqCst), 3 * MIB);
}

#[test]
fn a_response_flows_while_its_request_still_comes() {
    let origin = Origin::start(|wire, _| {
        if wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err() {
            return Then::Close;
        }
        for _ in 0..5 {
            let Ok(byte) = wire.exactly(1) else { return Then::Close };
            if wire.send(format!("1\r\n{}\r\n", char::from(byte[0]))).is_err() {
                return Then::Close;
            }
        }
        let _ = wire.send("0\r\n\r\n");
        Then::Next
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client: Client = evenly.client();
    client.send(post_head("/", "Content-Length: 5"));
    assert_eq!(client.response_head().unwrap().status, 200);
    for byte in ["a", "b", "c", "d", "e"] {
        client.send(byte);
        assert_eq!(client.wire.exactly(6).unwrap(), format!("1\r\n{byte}\r\n").as_bytes());
    }
    assert_eq!(client.wire.exactly(5).unwrap(), b"0\r\n\r\n");
}

#[test]
fn a_slow_pipelining_client_gets_what_a_dead_target_sent() {
    const LEN: usize = 1_000_000;
    let origin = Origin::start(|wire, _| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 2 * LEN);
        let _ = wire.send(head).and_then(|()| wire.send(pattern(LEN)));
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response_head().unwrap().status, 200);
    // It waits in the kernel behind a request that is under way, and is never read.
    client.send("GET /more HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the target has died", || origin.ended() == 1);
    assert_same(&client.wire.exactly(LEN).unwrap(), &pattern(LEN));
    assert_eq!(client.end(), End::Fin);
}

#[test]
fn what_a_target_sent_before_it_died_reaches_a_slow_client_before_the_reset() {
    const LEN: usize = 1_000_000;
    let origin = Origin::start(|wire, _| {
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{LEN:x}\r\n");
        let sent = wire.send(head).and_then(|()| wire.send(pattern(LEN)));
        let _ = sent.and_then(|()| wire.send("\r\n"));
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response_head().unwrap().status, 200);
    until("the target has died", || origin.ended() == 1);
    // Nothing was read yet, and much of it waits in the kernel.
    assert_same(&client.wire.exactly(LEN).unwrap(), &pattern(LEN));
    assert_eq!(client.end(), End::Reset);
}
