//! Targets that take requests and do not answer: what they hold, and what becomes of it.

use std::sync::Arc;

use crate::harness::{Client, Evenly, Gate, Origin, Start, answer, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Probes never take a target out, so that requests keep meeting it.
const BLIND: &str = "[health]\nfall = 1000\ninterval = \"1h\"";

#[test]
fn a_target_that_hangs_leaves_connections_to_the_others() {
    let (hung, sound) = (Origin::hanging(), Origin::named("sound"));
    let evenly = Start::before(&[&hung, &sound])
        .workers(1)
        .config("[limits]\nconnections = 8")
        .config(BLIND)
        .start();
    let mut waiting: Vec<Client> = Vec::new();
    let mut served = 0;
    while served < 30 {
        let (before, mut client) = (hung.requests() + sound.requests(), evenly.client());
        client.send(GET);
        until("the request is at a target", || hung.requests() + sound.requests() > before);
        if waiting.len() < hung.requests() {
            waiting.push(client);
        } else {
            assert_eq!(client.response().text(), "sound");
            served += 1;
        }
    }
    assert_eq!(hung.requests(), 6, "three quarters of the connections");
}

#[test]
fn requests_beyond_the_limit_of_a_target_go_to_another_or_get_a_503() {
    let gate = Arc::new(Gate::default());
    let gated = || {
        let opened = Arc::clone(&gate);
        Origin::start(move |wire, _| {
            opened.wait();
            answer(wire, "ok")
        })
    };
    let (a, b) = (gated(), gated());
    let evenly = Evenly::with(&[&a, &b], "[limits]\nrequests_per_target = 2");
    let mut clients: Vec<Client> = Vec::new();
    for nth in 1..=4 {
        clients.push(evenly.client());
        clients[nth - 1].send(GET);
        until("it is at a target", || a.requests() + b.requests() == nth);
    }
    assert_eq!((a.requests(), b.requests()), (2, 2));
    let mut refused = evenly.client();
    for _ in 0..3 {
        assert_eq!(refused.get("/").status, 503);
    }
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok");
    }
    assert_eq!(refused.get("/").text(), "ok", "the connection stays usable");
}
