//! Targets that somebody takes out and puts back while evenly runs, and what it tells of them.

use std::sync::Arc;

use crate::harness::{Client, Evenly, Gate, OpenOnDrop, Origin, Start, answer, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// What `/targets` says of the endpoint at this address.
fn seen(evenly: &Evenly, address: &str) -> serde_json::Value {
    let (text, code) = evenly.ask(&["targets", "--json"]);
    assert_eq!(code, Some(0), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let targets = value["targets"].as_array().unwrap();
    let mut endpoints = targets.iter().flat_map(|it| it["endpoints"].as_array().unwrap());
    endpoints.find(|it| it["address"] == address).unwrap().clone()
}

#[track_caller]
fn steer(evenly: &Evenly, arguments: &[&str], said: &str) {
    let (text, code) = evenly.ask(arguments);
    assert!(code == Some(0) && text.contains(said), "{code:?} {text}");
}

#[test]
fn no_request_is_lost_when_a_target_is_taken_out_and_put_back() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Evenly::before(&[&a, &b]);
    let name = a.target();
    evenly.under_load(|| {
        for word in ["drain", "down", "drain"] {
            let before = a.requests();
            until("requests at both", || a.requests() > before + 10);
            steer(&evenly, &[word, &name], "by hand");
            let (there, others) = (a.requests(), b.requests());
            until("requests at the other one", || b.requests() > others + 100);
            // Of those that were with it then, each client has one at most.
            assert!(a.requests() <= there + 4, "{word}: {} {there}", a.requests());
            steer(&evenly, &["auto", &name], "as its checks say");
        }
    });
    assert_eq!(evenly.logged("drained by hand"), 2);
}

#[test]
fn a_drained_target_finishes_what_it_has_begun_and_wait_says_when() {
    let gate = Arc::new(Gate::default());
    let _end = OpenOnDrop(&gate);
    let waits = Arc::clone(&gate);
    let slow = Origin::start(move |wire, _| {
        waits.wait();
        answer(wire, "slow")
    });
    let other = Origin::named("other");
    let evenly = Evenly::before(&[&slow, &other]);
    let name = slow.target();
    steer(&evenly, &["drain", &other.target()], "drained by hand");
    let mut client = evenly.client();
    client.send(GET);
    until("the request is at the slow one", || slow.requests() == 1);
    steer(&evenly, &["auto", &other.target()], "as its checks say");
    let (said, code) = evenly.ask(&["drain", &name, "--wait", "100ms"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("1 request is left after 100ms; the target stays drained"), "{said}");
    assert_eq!(seen(&evenly, &name)["in_flight"], 1);
    for _ in 0..4 {
        assert_eq!(evenly.client().get("/").text(), "other");
    }
    gate.open();
    assert_eq!(client.response().text(), "slow");
    steer(&evenly, &["drain", "--wait", &name], "no request is left");
    assert_eq!(seen(&evenly, &name)["in_flight"], 0);
    assert_eq!(client.get("/").text(), "other");
    assert_eq!(slow.requests(), 1);
}

#[test]
fn the_idle_connections_of_a_target_that_is_taken_out_are_closed() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Evenly::before(&[&a, &b]);
    for word in ["drain", "down"] {
        let mut clients: Vec<Client> = (0..4).map(|_| evenly.client()).collect();
        let said: Vec<_> = clients.iter_mut().map(|it| it.get("/").text().to_owned()).collect();
        assert!(said.iter().any(|it| it == "a"), "{said:?}");
        steer(&evenly, &[word, &a.target()], "by hand");
        until("no connection is left", || a.ended() == a.connections());
        steer(&evenly, &["auto", &a.target()], "healthy endpoints: 2");
    }
}

#[test]
fn whoever_means_a_target_that_is_not_there_drains_nothing() {
    let a = Origin::named("a");
    let evenly = Evenly::before(&[&a]);
    let ip = a.address.ip().to_string();
    for command in ["drain", "up", "down", "auto", "why"] {
        let (said, code) = evenly.ask(&[command, &ip]);
        assert_eq!(code, Some(2), "{command}: {said}");
        let meant = if command == "why" { "no target has this name" } else { &a.target() };
        assert!(said.contains(meant), "{command}: {said}");
    }
    let (said, code) = evenly.ask(&["drain", "--wait", "1s"]);
    assert!(code == Some(2) && said.contains("timeouts.drain"), "{said}");
    let (said, code) = evenly.ask(&["drain", "/no/such/file"]);
    assert!(code == Some(2) && said.contains("no target has this name"), "{said}");
    let (said, code) = evenly.ask(&["status"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("running for"), "{said}");
    assert_eq!(evenly.client().get("/").text(), "a");
}

#[test]
fn a_target_that_is_up_by_hand_is_used_whatever_its_checks_say() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Start::before(&[&a, &b]).watching(&a).start();
    let name = a.target();
    a.set_healthy(false);
    until("it is down", || seen(&evenly, &name)["state"] == "down");
    let (said, code) = evenly.ask(&["why", &name]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(" is down for ") && said.contains("unexpected status 500"), "{said}");
    steer(&evenly, &["up", &name], "whatever its checks say");
    let endpoint = seen(&evenly, &name);
    assert_eq!(endpoint["state"], "up");
    assert_eq!(endpoint["health"], "down");
    assert_eq!(endpoint["override"]["state"], "up");
    assert_eq!(endpoint["override"]["unsaved"], true);
    let before = a.requests();
    let mut client = evenly.client();
    (0..4).for_each(|_| drop(client.get("/")));
    assert_eq!(a.requests(), before + 2);
    let (said, code) = evenly.ask(&["why", &name]);
    assert_eq!(code, Some(0), "{said}");
    steer(&evenly, &["auto", &name], "healthy endpoints: 1");
    assert_eq!(seen(&evenly, &name)["override"], serde_json::Value::Null);
    (0..4).for_each(|_| drop(client.get("/")));
    assert_eq!(a.requests(), before + 2);
}

#[test]
fn a_reload_keeps_what_was_decided_until_the_target_goes() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let target = |it: &Origin| format!("[[targets]]\naddress = \"{}\"\n", it.target());
    let head = "listen = \"127.0.0.1:0\"\n";
    let both = format!("{head}{}{}", target(&a), target(&b));
    let evenly = Start::of(&both).start();
    steer(&evenly, &["down", &a.target()], "down by hand");
    let said = evenly.reload(&format!("{both}[limits]\nheaders = 50\n"));
    assert!(said.contains("applied"), "{said}");
    assert_eq!(seen(&evenly, &a.target())["state"], "disabled");
    (0..4).for_each(|_| assert_eq!(evenly.client().get("/").text(), "b"));
    let only = format!("{head}{}", target(&b));
    evenly.reload(&only);
    until("it is gone", || !evenly.ask(&["targets"]).0.contains(&a.target()));
    evenly.reload(&both);
    until("it is back", || evenly.ask(&["why", &a.target()]).1 == Some(0));
}

#[test]
fn every_check_of_a_target_is_told_with_its_time_and_result() {
    let a = Origin::named("a");
    let evenly = Start::before(&[&a]).watching(&a).start();
    let checks = || seen(&evenly, &a.target())["checks"].as_array().unwrap().clone();
    until("ten checks", || checks().len() == 10);
    let checks = checks();
    for check in &checks {
        // On a busy machine one may come too late.
        assert_eq!(check["passed"] == true, check["result"] == "200", "{check}");
        assert!(check["time"].as_str().unwrap().ends_with('Z'), "{check}");
        assert!(check["latency_ms"].as_f64().unwrap() > 0.0, "{check}");
    }
    assert!(checks.iter().any(|check| check["passed"] == true));
    let (said, code) = evenly.ask(&["targets"]);
    assert!(code == Some(0) && said.contains("++"), "{said}");
}

#[test]
fn what_would_become_of_a_request_is_explained_without_sending_it() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Evenly::before(&[&a, &b]);
    steer(&evenly, &["drain", &a.target()], "by hand");
    let (said, code) = evenly.ask(&["explain", "http://test/x?y=1", "-H", "Accept: text/html"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with(&format!("GET test/x?y=1 by {}\n", evenly.address())), "{said}");
    assert!(
        said.contains("no        it is drained by hand") && said.contains("1 of 1 turns"),
        "{said}"
    );
    let (said, code) = evenly.ask(&["explain", "/", "-H", "Content-Length: x"]);
    assert!(code == Some(3) && said.contains("is refused with 400"), "{code:?} {said}");
    let (said, code) = evenly.ask(&["explain", "ftp://test/"]);
    assert!(code == Some(2) && said.contains("write url="), "{code:?} {said}");
    steer(&evenly, &["down", &b.target()], "every request is answered with 503");
    assert_eq!(evenly.ask(&["explain", "/"]).1, Some(3));
    assert_eq!(evenly.ask(&["status"]).1, Some(3));
    assert_eq!(evenly.client().get("/").status, 503);
    assert_eq!((a.requests(), b.requests()), (0, 0));
}

#[test]
fn what_the_file_says_of_a_target_holds_until_somebody_decides_and_is_saved_then() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let name = a.target();
    let file = |state: &str| {
        let targets = format!(
            "[[targets]]\naddress = \"{name}\"\n{state}\n[[targets]]\naddress = \"{}\"\n",
            b.target()
        );
        format!("listen = \"127.0.0.1:0\"\nworkers = 2\n{targets}")
    };
    let evenly = Start::of(&file("state = \"drain\"")).start();
    let served =
        || -> Vec<String> { (0..4).map(|_| evenly.client().get("/").text().to_owned()).collect() };
    let shown = || {
        let seen = seen(&evenly, &a.address.to_string());
        let (text, _) = evenly.ask(&["targets"]);
        (seen["state"].clone(), seen["override"]["unsaved"].clone(), text)
    };
    assert_eq!(served(), ["b"; 4]);
    let (state, unsaved, text) = shown();
    assert!(state == "drained" && unsaved == false && text.contains("drain by the file"), "{text}");
    steer(&evenly, &["auto", &name], "as its checks say");
    assert!(served().contains(&"a".to_owned()));
    let (state, unsaved, text) = shown();
    assert!(state == "up" && unsaved == true && text.contains("auto by hand, unsaved"), "{text}");
    assert!(evenly.reload(&file("")).contains("applied"));
    let (state, unsaved, text) = shown();
    assert!(state == "up" && unsaved.is_null() && !text.contains("by hand"), "{text}");
    steer(&evenly, &["down", &name], "down by hand");
    assert!(evenly.reload(&file("state = \"up\"")).contains("applied"));
    let (state, unsaved, text) = shown();
    assert!(state == "disabled" && unsaved == true && text.contains("down by hand"), "{text}");
    let said = evenly.reload(&file("state = \"down\""));
    assert!(said.contains("applied"), "{said}");
    let (state, unsaved, text) = shown();
    assert!(state == "disabled" && unsaved == false && text.contains("down by the file"), "{text}");
    assert_eq!(served(), ["b"; 4]);
    assert!(evenly.reload(&file("")).contains("applied"));
    until("it is served by both", || served().contains(&"a".to_owned()));
}
