//! Targets that take requests and do not answer: what they hold, and what becomes of it.

use std::sync::Arc;

use crate::harness::{Client, Evenly, Gate, Origin, Start, Then, answer, body_of, until};

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
    let (a, b) = (gated(&gate), gated(&gate));
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
        assert_eq!(client.response().text(), "late");
    }
    assert_eq!(refused.get("/").text(), "late", "the connection stays usable");
}

const POST: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi";

/// An origin that answers "late" when the gate is opened.
fn gated(gate: &Arc<Gate>) -> Origin {
    let opened = Arc::clone(gate);
    Origin::start(move |wire, head| {
        if body_of(wire, head).is_err() {
            return Then::Close;
        }
        opened.wait();
        answer(wire, "late")
    })
}

/// So many clients that have each sent `request`; half of them wait for `hung`.
fn half_waiting(evenly: &Evenly, count: usize, request: &str, hung: &Origin) -> Vec<Client> {
    let before = hung.requests();
    let mut clients: Vec<Client> = (0..count).map(|_| evenly.client()).collect();
    clients.iter_mut().for_each(|client| client.send(request));
    until("half of them wait", || hung.requests() == before + count / 2);
    clients
}

#[test]
fn requests_at_a_target_that_goes_down_move_on_if_unprocessed() {
    let gate = Arc::new(Gate::default());
    let (hung, sound) = (gated(&gate), Origin::named("sound"));
    let evenly = Start::before(&[&hung, &sound]).watching(&hung).start();
    let mut posts = half_waiting(&evenly, 2, POST, &hung);
    let mut gets = half_waiting(&evenly, 8, GET, &hung);
    hung.set_healthy(false);
    // Long before any limit of theirs.
    for client in &mut gets {
        assert_eq!(client.response().text(), "sound");
    }
    gate.open();
    let mut texts = posts.iter_mut().map(|client| client.response().text().to_owned());
    let mut texts: Vec<String> = texts.by_ref().collect();
    texts.sort();
    assert_eq!(texts, ["late", "sound"]);
    assert_eq!((hung.requests(), sound.requests()), (5, 9));
}

#[test]
fn an_idempotent_request_without_a_response_goes_to_another_target() {
    let (hung, sound) = (Origin::hanging(), Origin::named("sound"));
    let config = format!("{BLIND}\n[timeouts]\nresponse_header = \"200ms\"");
    let evenly = Evenly::with(&[&hung, &sound], &config);
    for client in &mut half_waiting(&evenly, 8, GET, &hung) {
        assert_eq!(client.response().text(), "sound");
    }
    let posts = half_waiting(&evenly, 2, POST, &hung);
    let mut statuses: Vec<u16> =
        posts.into_iter().map(|mut client| client.response().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 504]);
    assert_eq!((hung.requests(), sound.requests()), (5, 9));
}

#[test]
fn a_target_that_hangs_is_not_asked_the_same_again_when_it_is_alone() {
    let hung = Origin::hanging();
    let config = format!("{BLIND}\n[timeouts]\nresponse_header = \"200ms\"");
    let evenly = Evenly::with(&[&hung], &config);
    assert_eq!(evenly.client().get("/").status, 504);
    assert_eq!(hung.requests(), 1);
}
