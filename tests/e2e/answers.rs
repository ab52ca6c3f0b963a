//! What a client is told when a target, the client itself, or nobody in time does what HTTP asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Client, End, Evenly, Origin, Response, Start, Then, answer, until};

#[track_caller]
fn assert_explained(response: &Response, status: u16) {
    assert_eq!(response.status, status, "{}", response.text());
    assert!(!response.body.is_empty() && response.body.len() < 200, "{}", response.text());
    assert!(response.text().chars().all(|c| !c.is_control()), "{:?}", response.text());
    assert!(response.head.content_length().is_some());
}

#[test]
fn a_client_of_another_protocol_learns_which_and_it_is_logged() {
    let origin = Origin::named("a");
    let evenly = Start::before(&[&origin]).workers(1).start();
    let cases: [(&[u8], u16, &str); 4] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "speaks TLS"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nGET / HTTP/1.1\r\n", 400, "PROXY protocol"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01", 400, "PROXY protocol"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "speaks HTTP/2"),
    ];
    for (bytes, status, what) in cases {
        let mut client = evenly.client();
        client.send(bytes);
        let response = client.response();
        assert_explained(&response, status);
        assert!(response.closes() && response.text().contains(what), "{}", response.text());
        assert_eq!(client.end(), End::Fin);
    }
    until("the log says it", || evenly.logged("client 127.0.0.1: The client speaks TLS") == 1);
    assert_eq!(evenly.logged("PROXY protocol"), 0, "not each time");
    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_target_that_speaks_tls_is_told_from_one_that_speaks_nonsense() {
    let origin = Origin::saying("\x15\x03\x01\0\x02\x02\x46", Then::Close);
    let evenly = Start::before(&[&origin]).args(&["--log-level", "debug"]).start();
    assert_explained(&evenly.client().post("/", "x"), 502);
    until("the log says it", || evenly.logged("is not passed on: The target speaks TLS") == 1);
}

#[test]
fn a_target_that_does_not_speak_http_is_a_502_and_the_connection_stays() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let origin = Origin::saying(garbage, Then::Next);
        let evenly = Evenly::before(&[&origin]);
        let mut client = evenly.client();
        assert_explained(&client.get("/"), 502);
        assert_explained(&client.post("/", "x"), 502);
        assert_eq!(origin.requests(), 2, "neither was sent again");
    }
}

#[test]
fn a_target_that_closes_before_the_first_byte_of_its_answer_is_a_502() {
    for then in [Then::Close, Then::Reset] {
        let origin = Origin::saying("", then);
        let evenly = Evenly::before(&[&origin]);
        let mut client = evenly.client();
        assert_explained(&client.post("/", "x"), 502);
        assert_eq!(origin.requests(), 1);
        assert_explained(&client.get("/"), 502);
    }
}

#[test]
fn a_head_without_end_is_a_502() {
    let head = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(40_000));
    let origin = Origin::saying(head, Then::Next);
    let evenly = Evenly::before(&[&origin]);
    assert_explained(&evenly.client().get("/"), 502);
}

#[test]
fn a_target_that_does_not_answer_in_time_is_a_504() {
    let origin = Origin::hanging();
    let evenly = Evenly::with(&[&origin], "[timeouts]\nresponse_header = \"150ms\"");
    let mut client = evenly.client();
    let started = Instant::now();
    assert_explained(&client.get("/"), 504);
    assert!(started.elapsed() >= Duration::from_millis(140), "{:?}", started.elapsed());
    assert_explained(&client.post("/", "x"), 504);
    until("the target is let go", || origin.ended() == 2);
}

/// However a response breaks off, the client must see that it is not whole.
#[track_caller]
fn assert_cut(client: &mut Client) {
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let result = client.try_response();
    assert!(result.is_err(), "a whole response: {result:?}");
}

#[test]
fn a_response_that_breaks_off_is_seen_to_be_broken() {
    for part in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nfive!",
    ] {
        for then in [Then::Close, Then::Reset] {
            let origin = Origin::saying(part, then);
            let evenly = Evenly::before(&[&origin]);
            assert_cut(&mut evenly.client());
        }
    }
}

#[test]
fn a_body_that_breaks_before_anything_of_it_was_sent_is_a_502_and_later_a_cut() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n";
    let origin = Origin::saying(format!("{head}not a size\r\n"), Then::Close);
    assert_explained(&Evenly::before(&[&origin]).client().get("/"), 502);
    let origin = Origin::start(move |wire, _| {
        wire.send(head).unwrap();
        // What follows comes when the client has what was before it.
        let _ = wire.exactly(1);
        let _ = wire.send("not a size\r\n");
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n");
    assert_eq!(client.response_head().unwrap().status, 200);
    client.send("x");
    assert!(client.wire.rest().map_or(true, |rest| !rest.ends_with(b"\r\n0\r\n\r\n")));
}

#[test]
fn a_response_without_framing_that_is_reset_is_not_taken_for_whole() {
    let origin = Origin::start(|wire, _| {
        wire.send("HTTP/1.1 200 OK\r\n\r\nfive!").unwrap();
        // The reset must not overtake what was sent: it waits until the client has it.
        let _ = wire.exactly(1);
        Then::Reset
    });
    let evenly = Evenly::before(&[&origin]);
    for version in ["1.0", "1.1"] {
        let mut client = evenly.client();
        client.send(format!("POST / HTTP/{version}\r\nHost: test\r\nContent-Length: 1\r\n\r\n"));
        assert_eq!(client.response_head().unwrap().status, 200);
        client.send("x");
        // A client of HTTP/1.0 has nothing but the reset to see it by.
        let is_proper = |rest: &[u8]| version == "1.0" || rest.ends_with(b"\r\n0\r\n\r\n");
        let is_cut = client.wire.rest().map_or(true, |rest| !is_proper(&rest));
        assert!(is_cut, "a proper end for {version}");
    }
}

#[test]
fn a_target_that_stops_in_the_middle_is_cut_in_time() {
    let origin = Origin::start(|wire, _| {
        let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!");
        let _ = wire.rest();
        Then::Close
    });
    let evenly = Evenly::with(&[&origin], "[timeouts]\nresponse_body = \"150ms\"");
    assert_cut(&mut evenly.client());
    until("the target is let go", || origin.ended() == 1);
}

#[test]
fn a_slow_head_is_a_408() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "[timeouts]\nclient_header = \"150ms\"");
    let mut client = evenly.client();
    assert_eq!(client.get("/").status, 200);
    client.send("GET / HTTP/1.1\r\nHost: te");
    assert_explained(&client.response(), 408);
    assert_eq!(client.end(), End::Fin);
}

#[test]
fn a_head_that_drips_is_a_408_too() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "[timeouts]\nclient_header = \"200ms\"");
    let mut client = evenly.client();
    client.send("GET / HTTP/1.1\r\nX: ");
    client.wire.stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    until("it is answered", || match client.wire.stream.peek(&mut [0]) {
        Ok(_) => true,
        Err(_) => {
            client.send("x");
            false
        }
    });
    assert_eq!(client.response_head().unwrap().status, 408);
}

#[test]
fn a_slow_body_is_a_408_and_its_target_is_free() {
    let origin = Origin::start(|wire, _| {
        let _ = wire.rest();
        Then::Close
    });
    let evenly = Evenly::with(&[&origin], "[timeouts]\nclient_body = \"150ms\"");
    let mut client = evenly.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfive!");
    assert_explained(&client.response(), 408);
    assert_eq!(client.end(), End::Fin);
    until("the target is let go", || origin.ended() == 1);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "[timeouts]\nclient_idle = \"150ms\"");
    let mut never_used = evenly.client();
    let mut used = evenly.client();
    assert_eq!(used.get("/").status, 200);
    assert_eq!((never_used.end(), used.end()), (End::Fin, End::Fin));
}

#[test]
fn an_idle_connection_to_a_target_is_closed_in_time() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "[timeouts]\nupstream_idle = \"150ms\"");
    let mut client = evenly.client();
    assert_eq!(client.get("/").status, 200);
    until("it is closed", || origin.ended() == 1);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn what_is_wrong_with_a_request_is_said_and_the_connection_ends() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let long = "a".repeat(20_000);
    let fields: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    let cases: &[(u16, String)] = &[
        (400, "GET / HTTP/1.1\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\nHost: test\n\n".into()),
        (400, "GET  / HTTP/1.1\r\nHost: test\r\n\r\n".into()),
        (400, "GET /\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n".into()),
        (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n".into()),
        (
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                .into(),
        ),
        (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n".into()),
        (405, "TRACE / HTTP/1.1\r\nHost: test\r\n\r\n".into()),
        (414, format!("GET /{long} HTTP/1.1\r\nHost: test\r\n\r\n")),
        (417, "POST / HTTP/1.1\r\nHost: test\r\nExpect: miracles\r\n\r\n".into()),
        (431, format!("GET / HTTP/1.1\r\nHost: test\r\nX: {long}\r\n\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n")),
        (501, "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n".into()),
        (501, "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".into()),
        (505, "GET / HTTP/2.0\r\nHost: test\r\n\r\n".into()),
        (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
    ];
    for (status, request) in cases {
        let shown = &request[..request.len().min(60)];
        let mut client = evenly.client();
        // More of it, unread, must not reset the answer away.
        client.send(format!("{request}{}", "more ".repeat(10_000)));
        let response = client.try_response().unwrap_or_else(|error| panic!("{shown:?}: {error}"));
        assert_explained(&response, *status);
        assert!(response.closes(), "{shown:?}");
        assert_eq!(client.end(), End::Fin, "{shown:?}");
    }
    assert_eq!(origin.requests(), 0, "none of these reaches a target");
    assert_eq!(evenly.client().get("/").status, 200);
}

#[test]
fn a_chunk_that_is_wrong_after_a_good_one_is_a_400_and_its_target_is_free() {
    let origin = Origin::hanging();
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    until("the request is at the target", || origin.requests() == 1);
    client.send("nonsense\r\n");
    assert_explained(&client.response(), 400);
    assert_eq!(client.end(), End::Fin);
    until("the target is let go", || origin.ended() == 1);
}

#[test]
fn what_a_target_says_behind_its_answer_reaches_nobody() {
    let origin = Origin::start(|wire, head| {
        let path = head.target().to_owned();
        let extra = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";
        let length = path.len();
        let _ =
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{path}{extra}"));
        Then::Next
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for nth in 0..10 {
        let path = format!("/{nth}");
        assert_eq!(client.get(&path).text(), path);
    }
}

#[test]
fn a_response_nobody_asked_for_reaches_nobody() {
    let unasked = Arc::new(AtomicUsize::new(0));
    let said = Arc::clone(&unasked);
    let origin = Origin::start(move |wire, head| {
        answer(wire, head.target());
        answer(wire, "wrong");
        said.fetch_add(1, Ordering::SeqCst);
        Then::Next
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for nth in 1..=30 {
        let path = format!("/{nth}");
        assert_eq!(client.get(&path).text(), path);
        until("it is said", || unasked.load(Ordering::SeqCst) == nth);
    }
}
