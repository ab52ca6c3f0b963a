//! Tunnels: what passes after a 101, and how their two directions end.

use std::net::Shutdown;

use crate::harness::{Client, End, Evenly, Origin, Then, Wire, assert_same, pattern, until};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Switches protocols, says `first` in the same write, and then does what `tunnel` does.
fn switching(
    first: &'static str,
    tunnel: impl Fn(&mut Wire) -> Then + Send + Sync + 'static,
) -> Origin {
    Origin::start(move |wire, head| {
        assert_eq!(head.field("Upgrade"), Some("websocket"));
        assert!(head.field("Connection").unwrap().eq_ignore_ascii_case("upgrade"));
        match wire.send(format!("{SWITCH}{first}")) {
            Ok(()) => tunnel(wire),
            Err(_) => Then::Close,
        }
    })
}

#[track_caller]
fn tunnel(evenly: &Evenly, early: &str) -> Client {
    let mut client = evenly.client();
    client.send(format!("{ASK}{early}"));
    let response = client.response();
    assert_eq!((response.status, response.head.field("Upgrade")), (101, Some("websocket")));
    assert!(response.head.field("Connection").unwrap().eq_ignore_ascii_case("upgrade"));
    client
}

#[test]
fn bytes_pass_both_ways_and_the_client_may_end_first() {
    let origin = switching("welcome", |wire| {
        assert_eq!(wire.exactly(5).unwrap(), b"hello");
        wire.send("how are you?").unwrap();
        assert_eq!(wire.rest().unwrap(), b"fine");
        wire.send("good bye").unwrap();
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = tunnel(&evenly, "");
    assert_eq!(client.wire.exactly(7).unwrap(), b"welcome");
    client.send("hello");
    assert_eq!(client.wire.exactly(12).unwrap(), b"how are you?");
    client.send("fine");
    client.shutdown();
    assert_eq!(client.wire.rest().unwrap(), b"good bye");
    until("the target is let go", || origin.ended() == 1);
}

#[test]
fn the_target_may_end_first() {
    let origin = switching("", |wire| {
        wire.send("that is all").unwrap();
        wire.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(wire.rest().unwrap(), b"but I go on");
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    for nth in 1..=10 {
        let mut client = tunnel(&evenly, "");
        assert_eq!(client.wire.rest().unwrap(), b"that is all");
        client.send("but I ");
        // The end comes with the last bytes.
        client.send("go on");
        client.shutdown();
        until("both have ended", || origin.ended() == nth);
    }
}

#[test]
fn what_the_client_sends_behind_its_request_waits_for_the_switch() {
    let origin = switching("", |wire| {
        let early = wire.exactly(5).unwrap();
        wire.send(early).unwrap();
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = tunnel(&evenly, "early");
    assert_eq!(client.wire.rest().unwrap(), b"early");
}

#[test]
fn megabytes_pass_both_ways_at_once() {
    const LEN: usize = 2 * 1024 * 1024;
    let origin = switching("", |wire| {
        let mut reader = Wire::new(wire.stream.try_clone().unwrap());
        let reading = std::thread::spawn(move || reader.exactly(LEN).unwrap());
        wire.send(pattern(LEN)).unwrap();
        assert_same(&reading.join().unwrap(), &pattern(LEN));
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = tunnel(&evenly, "");
    let mut writer = client.wire.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, &pattern(LEN)).unwrap();
    });
    assert_same(&client.wire.rest().unwrap(), &pattern(LEN));
    writing.join().unwrap();
    until("both have ended", || origin.ended() == 1);
}

#[test]
fn a_client_that_resets_a_tunnel_frees_its_target_and_the_other_way_round() {
    let origin = switching("", |wire| match wire.exactly(1) {
        Ok(_) => Then::Reset,
        Err(_) => Then::Close,
    });
    let evenly = Evenly::before(&[&origin]);
    tunnel(&evenly, "").leave(true);
    until("the target is let go", || origin.ended() == 1);
    let mut client = tunnel(&evenly, "");
    client.send("x");
    client.end();
    until("the target has left", || origin.ended() == 2);
}

#[test]
fn a_silent_tunnel_is_closed_in_time() {
    let origin = switching("", |wire| {
        let _ = wire.rest();
        Then::Close
    });
    let evenly = Evenly::with(&[&origin], "[timeouts]\ntunnel_idle = \"150ms\"");
    let mut client = tunnel(&evenly, "");
    client.end();
    until("the target is let go", || origin.ended() == 1);
}

#[test]
fn a_target_that_does_not_switch_answers_as_always() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for _ in 0..3 {
        client.send(ASK);
        assert_eq!(client.response().text(), "a");
    }
    drop(client);
}

#[test]
fn a_switch_nobody_asked_for_is_a_502() {
    let origin = Origin::saying(SWITCH, Then::Next);
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    assert_eq!(client.get("/").status, 502);
    client.send(ASK.replace("websocket", "other"));
    assert_eq!(client.response().status, 502);
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().status, 502);
    assert_eq!(client.end(), End::Fin);
}
