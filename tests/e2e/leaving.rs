//! Clients that leave, or end one side of their connection.

use crate::harness::{End, Evenly, Origin, Then, answer, pattern, until};

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
