//! The flight recorder: what a running evenly tells of the exchanges that ended last, without an access log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use evenly::base::log::timestamp;
use serde_json::Value;

use crate::harness::{
    ADMIN, Client, Evenly, Gate, OpenOnDrop, Origin, Scrape, Start, Then, answer, until,
};

const SECOND: Duration = Duration::from_secs(1);

/// What the control socket says of the last exchanges, with these arguments.
#[track_caller]
fn recent(evenly: &Evenly, arguments: &[&str]) -> Vec<Value> {
    let (text, code) = evenly.ask(&[&["recent", "--json"], arguments].concat());
    assert_eq!(code, Some(0), "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    told["exchanges"].as_array().unwrap().clone()
}

fn of<'a>(exchanges: &'a [Value], key: &str) -> Vec<&'a str> {
    exchanges.iter().map(|it| it[key].as_str().unwrap_or("null")).collect()
}

#[test]
fn the_last_exchanges_are_told_without_an_access_log_and_with_their_phases() {
    let origin = Origin::named("a");
    let evenly = Start::before(&[&origin]).workers(2).start();
    assert_eq!(evenly.ask(&["recent"]), ("none since it was started\n".to_owned(), Some(0)));
    let before = SystemTime::now();
    let mut clients: Vec<Client> = (0..4).map(|_| evenly.client()).collect();
    for nth in 0..8 {
        assert_eq!(clients[nth % 4].get(&format!("/{nth}?a=b")).text(), "a");
    }
    until("all have ended", || recent(&evenly, &[]).len() == 8);
    let told = recent(&evenly, &[]);
    let wanted: Vec<String> = (0..8).map(|nth| format!("/{nth}?a=b")).collect();
    assert_eq!(of(&told, "uri"), wanted, "in the order in which they ended");
    for exchange in &told {
        for (key, value) in [
            ("method", Value::from("GET")),
            ("status", 200.into()),
            ("end", "finished".into()),
            ("endpoint", origin.address.to_string().into()),
            ("target", origin.target().into()),
            ("client", "127.0.0.1".into()),
            ("listener", evenly.address().to_string().into()),
            ("attempts", 1.into()),
            ("bytes_out", 1.into()),
            ("reason", Value::Null),
        ] {
            assert_eq!(exchange[key], value, "{key}: {exchange}");
        }
        let time = exchange["time"].as_str().unwrap();
        let bounds = [before - SECOND, SystemTime::now() + SECOND].map(timestamp);
        assert!(*bounds[0] < *time && *time < *bounds[1], "{exchange}");
        let part = |key: &str| exchange[key].as_f64();
        assert!(part("first_byte_ms") <= part("duration_ms"), "{exchange}");
    }
    let dialed = told.iter().filter(|it| it["connect_ms"].is_number()).count();
    assert!((1..=8).contains(&dialed), "the others had a connection of the pool: {told:?}");
    assert_eq!(of(&recent(&evenly, &["-n", "2"]), "uri"), wanted[6..]);
    let (table, code) = evenly.ask(&["recent", "--limit", "1"]);
    assert!(code == Some(0) && table.contains("GET test/7?a=b  200"), "{table}");
    assert!(recent(&evenly, &["--errors"]).is_empty());
    assert_eq!(evenly.ask(&["recent", "--limit", "0"]).1, Some(2));
}

#[test]
fn what_went_wrong_is_found_behind_any_number_of_others_and_of_nonsense() {
    let mut origin = Origin::named("a");
    let evenly = Start::before(&[&origin]).workers(1).config("[health]\nfall = 1000").start();
    assert_eq!(evenly.client().get("/good").status, 200);
    origin.stop();
    assert_eq!(evenly.client().get("/gone").status, 503);
    origin.restart();
    until("it is served again", || evenly.client().get("/").status == 200);
    let mut client = evenly.client();
    for _ in 0..1_100 {
        client.get("/");
    }
    for _ in 0..200 {
        let mut client = evenly.client();
        client.send("GET / nonsense\r\n\r\n");
        assert_eq!(client.response().status, 400);
    }
    let refused = || of(&recent(&evenly, &["--errors", "-n", "1000"]), "line").len() - 1;
    until("the last one has ended", || refused() == 128);
    let all = recent(&evenly, &["-n", "10000"]);
    assert_eq!(all.len(), 1_024);
    assert!(!of(&all, "uri").contains(&"/gone"));
    let errors = recent(&evenly, &["--errors", "-n", "1000"]);
    let gone = errors.iter().find(|it| it["uri"] == "/gone").unwrap();
    for (key, value) in [
        ("status", Value::from(503)),
        ("reason", "connection_refused".into()),
        ("ended_by", "target".into()),
        ("phase", "connect".into()),
        ("endpoint", Value::Null),
    ] {
        assert_eq!(gone[key], value, "{key}: {gone}");
    }
    let refused: Vec<&Value> = errors.iter().filter(|it| it["status"] == 400).collect();
    assert_eq!(refused.len(), 128);
    assert_eq!(refused[0]["line"], "GET / nonsense");
    let (table, _) = evenly.ask(&["recent", "--errors", "-n", "1000"]);
    assert!(table.contains("connection_refused by target in connect"), "{table}");
}

#[test]
fn a_status_of_the_server_that_a_target_sent_is_an_error_too() {
    let origin = Origin::start(|wire, head| match head.target() {
        "/mine" if wire.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").is_err() => {
            Then::Close
        }
        "/mine" => Then::Next,
        _ => answer(wire, ""),
    });
    let evenly = Evenly::before(&[&origin]);
    assert_eq!(evenly.client().get("/mine").status, 503);
    until("it has ended", || !recent(&evenly, &["--errors"]).is_empty());
    let errors = recent(&evenly, &["--errors"]);
    assert_eq!((of(&errors, "uri"), of(&errors, "reason")), (vec!["/mine"], vec!["null"]));
}

#[test]
fn a_tunnel_that_its_target_resets_ended_as_a_tunnel_and_its_time_is_no_requests() {
    let gate = Arc::new(Gate::default());
    let _end = OpenOnDrop(&gate);
    let waits = Arc::clone(&gate);
    let origin = Origin::start(move |wire, _| {
        wire.send("HTTP/1.1 101 On\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n").unwrap();
        waits.wait();
        Then::Reset
    });
    let evenly = Start::before(&[&origin]).config(ADMIN).start();
    let mut client = evenly.client();
    client.send("GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.response_head().unwrap().status, 101);
    gate.open();
    until("it has ended", || !recent(&evenly, &[]).is_empty());
    let told = recent(&evenly, &[]);
    assert_eq!((of(&told, "uri"), of(&told, "end")), (vec!["/t"], vec!["cut"]));
    assert_eq!(of(&told, "phase"), ["tunnel"], "{told:?}");
    let count = Scrape::of(&evenly).get("evenly_request_duration_seconds_count");
    assert!(count < 1.0, "{count}");
}

#[test]
fn however_long_a_request_is_its_client_is_the_one_that_a_trusted_proxy_names() {
    let origin = Origin::named("a");
    let evenly = Start::before(&[&origin]).config("trusted_proxies = \"127.0.0.1\"").start();
    let uri = format!("/{}", "x".repeat(400));
    let mut client = evenly.client();
    client.send(format!("GET {uri} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"));
    assert_eq!(client.response().text(), "a");
    until("it has ended", || !recent(&evenly, &[]).is_empty());
    let told = recent(&evenly, &[]);
    assert_eq!(of(&told, "client"), ["203.0.113.9"]);
    assert_eq!(told[0]["cut"], true);
    let shown = told[0]["uri"].as_str().unwrap();
    assert!(uri.starts_with(shown) && shown.len() > 200, "{shown}");
}
