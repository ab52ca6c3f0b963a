//! What is taken from a head on its way, what is added, and what must stay.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crate::harness::{Client, Evenly, Head, Origin, Start, Then, answer};

#[track_caller]
fn sent_on(evenly: &Evenly, origin: &Origin, request: &str) -> Head {
    let mut client = evenly.client();
    client.send(request);
    assert_eq!(client.response().status, 200);
    origin.last_head()
}

#[test]
fn hop_by_hop_fields_of_a_request_stay_behind_and_the_others_pass() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let head = sent_on(
        &evenly,
        &origin,
        "GET /a?b=c HTTP/1.1\r\nHost: shop.example:8080\r\nConnection: keep-alive, X-Nominated\r\n\
         Keep-Alive: timeout=5\r\nX-Nominated: 1\r\nTE: gzip\r\nProxy-Connection: keep-alive\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\
         cOOkie: a=b\r\nX-Same: 1\r\nX-Same: 2\r\n\r\n",
    );
    assert_eq!(head.line, "GET /a?b=c HTTP/1.1");
    let names: Vec<&str> = head.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Host",
            "cOOkie",
            "X-Same",
            "X-Same",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "Via"
        ]
    );
    assert_eq!(head.field("Host"), Some("shop.example:8080"));
    assert_eq!(head.all("X-Same"), ["1", "2"]);
}

#[test]
fn hop_by_hop_fields_of_a_response_stay_behind_and_the_others_pass() {
    let origin = Origin::saying(
        "HTTP/1.1 299 Quite Good\r\nServer: x\r\nConnection: keep-alive, X-Nominated\r\n\
         X-Nominated: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a\r\n\
         Set-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        Then::Next,
    );
    let evenly = Evenly::before(&[&origin]);
    let response = evenly.client().get("/");
    assert_eq!(response.head.line, "HTTP/1.1 299 Quite Good");
    let names: Vec<&str> = response.head.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Server", "Set-Cookie", "Set-Cookie", "Content-Length"]);
    assert_eq!(response.head.all("Set-Cookie"), ["a", "b"]);
}

/// Where a head says that it has been.
fn via(head: &Head) -> &str {
    head.field("Via").unwrap_or_default()
}

#[test]
fn a_request_says_which_instance_it_went_through_and_a_response_if_it_is_to() {
    let origin = Origin::named("a");
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let names = [(); 2].map(|()| {
        let head = sent_on(&Evenly::before(&[&origin]), &origin, get);
        let name = via(&head).strip_prefix("1.1 evenly-").expect("our name").to_owned();
        assert!(name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
        name
    });
    assert_ne!(names[0], names[1], "each instance has its own");
    let evenly = Evenly::with(&[&origin], "via = \"off\"");
    assert_eq!(via(&sent_on(&evenly, &origin, get)), "");
    let evenly = Evenly::with(&[&origin], "via = \"all\"");
    let response = evenly.client().get("/");
    assert_eq!(via(&response.head), via(&origin.last_head()));
}

#[test]
fn a_request_that_its_target_sends_back_is_a_508() {
    let address: Arc<OnceLock<SocketAddr>> = Arc::default();
    let back = Arc::clone(&address);
    let origin = Origin::start(move |wire, head| {
        let mut client = Client::to(*back.get().expect("it has started"));
        let field = |(name, value): &(String, String)| format!("{name}: {value}\r\n");
        let fields: String = head.fields.iter().map(field).collect();
        client.send(format!("{}\r\n{fields}\r\n", head.line));
        let response = client.response();
        answer(wire, format!("{} {}", response.status, response.text()))
    });
    let evenly = Evenly::before(&[&origin]);
    address.set(evenly.address()).unwrap();
    let response = evenly.client().get("/");
    assert_eq!(response.text(), "508 The request has come back: a target leads here.");
    assert_eq!(origin.requests(), 1);
}

const SPOOFED: &str = "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 198.51.100.7\r\n\
                       X-Forwarded-Proto: https\r\nX-Forwarded-Host: other.example\r\n\r\n";

#[test]
fn what_strangers_say_of_where_they_come_from_is_replaced() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let head = sent_on(&evenly, &origin, SPOOFED);
    assert_eq!(head.field("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(head.field("X-Forwarded-Proto"), Some("http"));
    assert_eq!(head.field("X-Forwarded-Host"), Some("shop.example"));
    let head = sent_on(
        &evenly,
        &origin,
        "GET / HTTP/1.1\r\nHost: h\r\nForwarded: for=x\r\nX-Real-IP: 1.2.3.4\r\nX_Forwarded_For: x\r\n\r\n",
    );
    assert_eq!(head.fields.len(), 5, "{head:?}");
}

#[test]
fn what_trusted_proxies_say_is_kept_and_added_to() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "trusted_proxies = [\"127.0.0.0/8\"]");
    let head = sent_on(&evenly, &origin, SPOOFED);
    assert_eq!(head.field("X-Forwarded-For"), Some("198.51.100.7, 127.0.0.1"));
    assert_eq!(head.field("X-Forwarded-Proto"), Some("https"));
    assert_eq!(head.field("X-Forwarded-Host"), Some("other.example"));
}

#[test]
fn proxies_that_are_not_listed_are_strangers() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "trusted_proxies = [\"10.0.0.0/8\", \"127.0.0.2\"]");
    let head = sent_on(&evenly, &origin, SPOOFED);
    assert_eq!(head.field("X-Forwarded-For"), Some("127.0.0.1"));
}

#[test]
fn a_client_of_http_1_0_without_a_host_gets_one() {
    let origin = Origin::named("a");
    let evenly = Start::before(&[&origin]).workers(1).start();
    let head = sent_on(&evenly, &origin, "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(head.line, "GET / HTTP/1.1");
    assert_eq!(head.field("Host"), Some(evenly.address().to_string().as_str()));
}

#[test]
fn an_absolute_target_wins_over_the_host() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let head = sent_on(
        &evenly,
        &origin,
        "GET http://shop.example:81/x?y HTTP/1.1\r\nHost: other.example\r\n\r\n",
    );
    assert_eq!(
        (head.line.as_str(), head.field("Host")),
        ("GET /x?y HTTP/1.1", Some("shop.example:81"))
    );
    assert_eq!(head.field("X-Forwarded-Host"), Some("shop.example:81"));
}
