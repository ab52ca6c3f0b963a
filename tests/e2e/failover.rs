//! Targets that refuse, die in use, and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Client, Evenly, Gate, Origin, Start, Then, answer, body_of, until};

/// Probes never take a target out, so that requests keep meeting it.
const BLIND: &str = "[health]\nfall = 1000\ninterval = \"1h\"";

#[test]
fn a_refused_connect_moves_on_whatever_the_method() {
    let (a, mut b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Evenly::with(&[&a, &b], BLIND);
    b.stop();
    let mut client = evenly.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "a");
        assert_eq!(client.post("/", "some body").text(), "a");
    }
    assert_eq!((a.requests(), b.requests()), (20, 0));
}

#[test]
fn a_request_with_a_long_body_moves_on_too() {
    let a = Origin::start(|wire, head| match body_of(wire, head) {
        Ok((body, _)) => answer(wire, body.len().to_string()),
        Err(_) => Then::Close,
    });
    let mut b = Origin::named("b");
    let evenly = Evenly::with(&[&a, &b], BLIND);
    b.stop();
    let mut client = evenly.client();
    let body = "x".repeat(300_000);
    for _ in 0..4 {
        assert_eq!(client.post("/", &body).text(), "300000");
    }
}

#[test]
fn every_healthy_target_refusing_is_a_503_on_a_connection_that_stays_usable() {
    let (mut a, mut b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Evenly::with(&[&a, &b], BLIND);
    a.stop();
    b.stop();
    let mut client = evenly.client();
    for _ in 0..3 {
        assert_unavailable(&mut client);
    }
    a.restart();
    assert_eq!(client.get("/").text(), "a");
}

fn assert_unavailable(client: &mut Client) {
    let response = client.get("/");
    assert_eq!((response.status, response.text()), (503, "Service Unavailable"));
    assert_eq!(response.head.content_length(), Some(19));
    assert_eq!(response.head.field("Connection"), None);
}

#[test]
fn no_healthy_target_is_a_503_at_once_until_one_is_back() {
    let (mut a, mut b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Start::before(&[&a, &b]).watching(&a).watching(&b).start();
    a.stop();
    b.stop();
    until("both are found out", || evenly.logged("healthy endpoints: 0") > 0);
    let mut client = evenly.client();
    let started = Instant::now();
    for _ in 0..20 {
        assert_unavailable(&mut client);
    }
    // A connect that was waited for would take a second each.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response().status, 503);
    b.restart();
    until("b is back", || client.get("/").text() == "b");
}

#[test]
fn targets_that_are_down_at_the_start_are_waited_for_with_503s() {
    let mut a = Origin::named("a");
    a.stop();
    let evenly = Start::before(&[&a]).watching(&a).start();
    until("it says so", || evenly.logged("healthy endpoints: 0 of 1") == 1);
    let mut client = evenly.client();
    assert_unavailable(&mut client);
    a.restart();
    until("it is up", || client.get("/").status == 200);
}

/// Closes each connection behind its first answer without a word, and counts that.
fn closing_silently() -> Origin {
    Origin::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Close)
}

#[test]
fn a_pooled_connection_that_was_closed_is_not_used_for_any_method() {
    let origin = closing_silently();
    let evenly = Evenly::with(&[&origin], BLIND);
    let mut client = evenly.client();
    for nth in 1..=30 {
        let response = if nth % 2 == 0 { client.get("/") } else { client.post("/", "body") };
        assert_eq!(response.status, 200, "number {nth}: {}", response.text());
        until("its end is at the balancer's socket", || origin.ended() == nth);
    }
}

/// Answers the first request of a connection, and leaves at the second without an answer.
fn leaving_at_the_second(then: Then) -> Origin {
    Origin::start(move |wire, head| {
        if body_of(wire, head).is_err() || head.target() == "/second" {
            return then;
        }
        answer(wire, "ok")
    })
}

#[test]
fn a_get_whose_pooled_connection_dies_is_sent_once_more() {
    for then in [Then::Close, Then::Reset] {
        let refused_once = AtomicBool::new(false);
        let origin = Origin::start(move |wire, head| {
            if head.target() == "/second" && !refused_once.swap(true, Ordering::SeqCst) {
                return then;
            }
            answer(wire, "ok")
        });
        let evenly = Evenly::with(&[&origin], BLIND);
        let mut client = evenly.client();
        assert_eq!(client.get("/first").text(), "ok");
        assert_eq!(client.get("/second").text(), "ok");
        assert_eq!((origin.requests(), origin.connections()), (3, 2));
    }
}

#[test]
fn a_post_that_may_have_been_processed_is_not_sent_again() {
    for then in [Then::Close, Then::Reset] {
        let origin = leaving_at_the_second(then);
        let evenly = Evenly::with(&[&origin], BLIND);
        let mut client = evenly.client();
        assert_eq!(client.post("/first", "1").text(), "ok");
        assert_eq!(client.post("/second", "2").status, 502);
        assert_eq!(origin.requests(), 2);
        assert_eq!(client.post("/first", "3").text(), "ok");
    }
}

#[test]
fn a_get_is_sent_at_most_twice() {
    let origin = leaving_at_the_second(Then::Close);
    let evenly = Evenly::with(&[&origin], BLIND);
    let mut client = evenly.client();
    assert_eq!(client.get("/second").status, 502);
    assert_eq!(origin.requests(), 2);
    assert_eq!(client.get("/first").text(), "ok");
}

#[test]
fn replay_can_be_turned_off() {
    let origin = leaving_at_the_second(Then::Close);
    let evenly = Evenly::with(&[&origin], &format!("{BLIND}\n[retry]\nreplay = false"));
    assert_eq!(evenly.client().get("/second").status, 502);
    assert_eq!(origin.requests(), 1);
}

#[test]
fn clients_do_not_notice_that_a_target_dies_and_comes_back() {
    let (a, mut b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Start::before(&[&a, &b]).watching(&b).start();
    let served = evenly.under_load(|| {
        until("both serve", || a.requests() > 20 && b.requests() > 20);
        let before = evenly.logged("healthy endpoints: 1");
        b.stop();
        let died = Instant::now();
        until("the dead target is out", || evenly.logged("healthy endpoints: 1") > before);
        assert!(died.elapsed() < Duration::from_secs(5), "out after {:?}", died.elapsed());
        let so_far = a.requests();
        until("the other one serves on", || a.requests() > so_far + 20);
        b.restart();
        let (returned, so_far) = (Instant::now(), b.requests());
        until("it serves again", || b.requests() > so_far);
        assert!(returned.elapsed() < Duration::from_secs(5), "back after {:?}", returned.elapsed());
    });
    assert!(served >= 60, "{served}");
}

#[test]
fn a_target_that_goes_down_loses_only_its_idle_connections() {
    let a = Origin::named("a");
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let b = Origin::start(move |wire, head| {
        if head.target() == "/slow" {
            opened.wait();
        }
        answer(wire, "b")
    });
    let evenly = Start::before(&[&a, &b]).watching(&b).workers(1).start();
    let (mut slow, mut client) = (evenly.client(), evenly.client());
    until("b is next", || client.get("/").text() == "a");
    // One that is not sent to another instead.
    slow.send("POST /slow HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    until("the slow one is there", || b.last_target() == "/slow");
    until("b has an idle connection too", || client.get("/").text() == "b");
    b.set_healthy(false);
    // The worker notices when it wakes.
    until("the idle connections are closed", || {
        client.get("/").text() == "a" && b.ended() + 1 == b.connections()
    });
    gate.open();
    assert_eq!(slow.response().text(), "b");
    until("the other one is closed behind its answer", || b.ended() == b.connections());
    assert_eq!((slow.get("/").text(), client.get("/").text()), ("a", "a"));
    b.set_healthy(true);
    until("b is back", || client.get("/").text() == "b");
}

#[test]
fn a_post_avoids_a_connection_that_its_target_may_be_closing() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=1\r\n\r\nok";
    let origin = Origin::saying(response, Then::Next);
    let evenly = Start::before(&[&origin]).workers(1).config(BLIND).start();
    let mut client = evenly.client();
    client.post("/", "first");
    // Half of what it keeps them is over.
    let answered = Instant::now();
    until("the connection is old", || answered.elapsed() > Duration::from_millis(600));
    client.get("/");
    assert_eq!((origin.requests(), origin.connections()), (2, 1), "it may be repeated");
    let answered = Instant::now();
    until("the connection is old", || answered.elapsed() > Duration::from_millis(600));
    assert_eq!(client.post("/", "second").text(), "ok");
    assert_eq!((origin.requests(), origin.connections()), (3, 2));
    until("the old one is closed", || origin.ended() == 1);
}

#[test]
fn no_post_is_lost_before_a_target_that_closes_idle_connections() {
    const IDLE: Duration = Duration::from_millis(500);
    let origin = Origin::start(|wire, head| {
        let said = body_of(wire, head).map(|_| answer(wire, "ok"));
        wire.stream.set_read_timeout(Some(IDLE)).unwrap();
        said.unwrap_or(Then::Close)
    });
    let evenly = Start::before(&[&origin]).workers(1).config(BLIND).start();
    // One is closed first, so that it is known.
    assert_eq!(evenly.client().post("/", "x").text(), "ok");
    until("it is closed", || origin.ended() == 1);
    std::thread::scope(|scope| {
        for nth in 0..40 {
            let mut client = evenly.client();
            scope.spawn(move || {
                for turn in 0..3 {
                    assert_eq!(client.post("/", "x").status, 200, "client {nth}, {turn}");
                    // Around the moment at which the target closes it.
                    std::thread::sleep(
                        IDLE - Duration::from_millis(10) + Duration::from_micros(500 * nth),
                    );
                }
            });
        }
    });
}
