//! Clients that leave, or end one side of their connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{End, Evenly, Gate, Origin, Then, answer, pattern, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

#[test]
fn a_half_closed_client_gets_its_response() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send(GET);
    client.shutdown();
    assert_eq!(client.response().text(), "a");
    assert_eq!(client.end(), End::Fin);
}

#[test]
fn a_half_closed_client_gets_all_the_responses_it_asked_for() {
    let origin = Origin::start(|wire, _| answer(wire, pattern(300_000)));
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send(GET.repeat(5));
    client.shutdown();
    for _ in 0..5 {
        assert_eq!(client.response().body.len(), 300_000);
    }
    assert_eq!(client.end(), End::Fin);
}

#[test]
fn a_client_that_resets_while_it_waits_frees_its_target_at_once() {
    let origin = Origin::hanging();
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send(GET);
    until("the request is at the target", || origin.requests() == 1);
    client.leave(true);
    until("the target is let go", || origin.ended() == 1);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_request_frees_its_target_at_once() {
    let origin = Origin::hanging();
    let evenly = Evenly::before(&[&origin]);
    for (nth, resets) in [true, false].into_iter().enumerate() {
        let mut client = evenly.client();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfive!");
        until("the request is at the target", || origin.requests() == nth + 1);
        client.leave(resets);
        until("the target is let go", || origin.ended() == nth + 1);
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_download_frees_its_target_at_once() {
    let origin = Origin::start(|wire, _| {
        let _ = wire.send("HTTP/1.1 200 OK\r\n\r\n");
        let part = vec![b'x'; 64 * 1024];
        while wire.send(&part).is_ok() {}
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    for (nth, resets) in [true, false].into_iter().enumerate() {
        let mut client = evenly.client();
        client.send(GET);
        assert_eq!(client.response_head().unwrap().status, 200);
        client.leave(resets);
        until("the target is let go", || origin.ended() == nth + 1);
    }
}

#[test]
fn a_client_that_leaves_costs_the_others_nothing() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let mut stays = evenly.client();
    for nth in 0..100 {
        let mut leaves = evenly.client();
        leaves.send(GET);
        leaves.leave(nth % 2 == 0);
        assert_eq!(stays.get("/").text(), "a");
    }
}

#[test]
fn a_connection_that_says_nothing_is_closed_when_its_client_ends() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.shutdown();
    assert_eq!(client.end(), End::Fin);
}

#[test]
fn a_request_cut_in_its_head_is_closed() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send("GET / HTTP/1.1\r\nHo");
    client.shutdown();
    assert_eq!(client.end(), End::Fin);
    assert_eq!(origin.requests(), 0);
}

/// With a time limit for clients that have gone.
fn with_grace(origin: &Origin, grace: &str) -> Evenly {
    Evenly::with(&[origin], &format!("[timeouts]\nclient_gone = \"{grace}\""))
}

#[test]
fn a_client_that_closes_while_it_waits_frees_its_target_after_a_grace() {
    for grace in ["0s", "100ms", "1s"] {
        let origin = Origin::hanging();
        let evenly = with_grace(&origin, grace);
        let mut client = evenly.client();
        client.send(GET);
        until("the request is at the target", || origin.requests() == 1);
        client.leave(false);
        until("the target is let go", || origin.ended() == 1);
    }
}

#[test]
fn one_that_asks_for_more_and_closes_frees_its_target_too() {
    let origin = Origin::hanging();
    let evenly = with_grace(&origin, "100ms");
    let mut client = evenly.client();
    client.send(GET.repeat(3));
    client.leave(false);
    until("the target is let go", || origin.ended() == 1);
    assert_eq!(origin.requests(), 1);
}

#[test]
fn a_client_that_closes_in_a_quiet_stream_frees_its_target() {
    let origin = Origin::start(|wire, _| {
        let event = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
        let _ = wire.send(event);
        // Until the other side ends.
        let _ = wire.rest();
        Then::Close
    });
    let evenly = with_grace(&origin, "100ms");
    let mut client = evenly.client();
    client.send(GET);
    assert_eq!(client.response_head().unwrap().status, 200);
    client.leave(false);
    until("the target is let go", || origin.ended() == 1);
}

#[test]
fn a_half_closed_client_gets_a_response_longer_than_the_grace() {
    const EVENTS: usize = 30;
    let origin = Origin::start(|wire, _| {
        let _ = wire.send("HTTP/1.1 200 OK\r\n\r\n");
        for _ in 0..EVENTS {
            std::thread::sleep(Duration::from_millis(50));
            if wire.send("data: 1\n\n").is_err() {
                return Then::Reset;
            }
        }
        Then::Close
    });
    let evenly = with_grace(&origin, "1s");
    let mut client = evenly.client();
    client.send(GET);
    client.shutdown();
    assert_eq!(client.response().body.len(), EVENTS * 9);
}

#[test]
fn a_half_closed_client_is_waited_for_where_the_grace_is_off() {
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let origin = Origin::start(move |wire, _| {
        opened.wait();
        answer(wire, "late")
    });
    let evenly = with_grace(&origin, "off");
    let mut client = evenly.client();
    client.send(GET);
    client.shutdown();
    until("the request is at the target", || origin.requests() == 1);
    let asked = Instant::now();
    until("the default would be over", || asked.elapsed() > Duration::from_millis(1500));
    gate.open();
    assert_eq!(client.response().text(), "late");
}
