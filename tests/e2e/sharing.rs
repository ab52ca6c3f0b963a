//! Connections to targets that clients share, or must not: nobody is served as somebody else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::harness::{Evenly, Head, Origin, Start, Then, Wire, answer, until};

/// Answers with the target asked for, and leaves content where it is, so that it becomes the next request.
fn careless() -> Origin {
    Origin::start(|wire, head| {
        if head.target() == "/smuggled" {
            // Its answer would come when the next client waits.
            thread::sleep(Duration::from_millis(100));
        }
        answer(wire, if head.method() == "HEAD" { "" } else { head.target() })
    })
}

fn with_one_worker(origin: &Origin) -> Evenly {
    Start::before(&[origin]).workers(1).start()
}

#[test]
fn content_that_a_target_leaves_unread_is_nobodys_next_request() {
    let origin = careless();
    let evenly = with_one_worker(&origin);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let content = format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let mut attacker = evenly.client();
        attacker.send(format!("{method} /public HTTP/1.1\r\nHost: a\r\n{content}"));
        assert_eq!(attacker.response_head().unwrap().status, 200);
        assert_eq!(evenly.client().get("/victim").text(), "/victim", "{method}");
    }
}

/// Knows each connection by the user who logged in on it, in two steps.
fn with_connection_logins(scheme: &'static str) -> Origin {
    let users: Mutex<HashMap<SocketAddr, String>> = Mutex::default();
    Origin::start(move |wire: &mut Wire, head: &Head| {
        let mut users = users.lock().unwrap();
        let user = users.entry(wire.stream.peer_addr().unwrap()).or_default();
        if let Some((_, credentials)) = head.field("Authorization").and_then(|v| v.split_once(' '))
        {
            match credentials.strip_prefix("proof-of-") {
                Some(name) if user == "challenged" => name.clone_into(user),
                _ => "challenged".clone_into(user),
            }
        }
        if !matches!(user.as_str(), "" | "challenged") {
            return answer(wire, user.as_str());
        }
        let denied = format!(
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {scheme}\r\nContent-Length: 0\r\n\r\n"
        );
        wire.send(denied).map_or(Then::Close, |()| Then::Next)
    })
}

#[test]
fn a_connection_that_a_client_logged_in_on_serves_that_client_alone() {
    for scheme in ["NTLM", "Negotiate"] {
        let origin = with_connection_logins(scheme);
        let evenly = with_one_worker(&origin);
        let mut alice = evenly.client();
        let mut ask = |credentials: &str| {
            alice.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{credentials}\r\n"));
            let response = alice.response();
            (response.status, response.text().to_owned())
        };
        assert_eq!(ask("").0, 401);
        assert_eq!(ask(&format!("Authorization: {scheme} hello\r\n")).0, 401);
        let proof = format!("Authorization: {scheme} proof-of-alice\r\n");
        assert_eq!(ask(&proof), (200, "alice".to_owned()));
        assert_eq!(ask(""), (200, "alice".to_owned()), "the connection stays hers");
        assert_eq!(evenly.client().get("/").status, 401, "a stranger is not alice");
        assert_eq!(ask(""), (200, "alice".to_owned()));
        assert_eq!(origin.connections(), 2);
        alice.leave(false);
        until("her connection ends with her", || origin.ended() >= 1);
    }
}

#[test]
fn a_client_whose_own_connection_has_ended_gets_another() {
    let denied = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::saying(denied, Then::Close);
    let evenly = with_one_worker(&origin);
    let mut client = evenly.client();
    for nth in 1..=4 {
        // Not idempotent: it would be a 502 if it went to a connection that has ended.
        assert_eq!(client.post("/", "").status, 401);
        until("the target has ended it", || origin.ended() == nth);
    }
}

/// Serves one connection at a time, to its end, as small devices do.
struct OneThread {
    address: SocketAddr,
}

impl OneThread {
    fn start() -> OneThread {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with the process: nothing tells it to.
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let mut wire = Wire::new(stream);
                while wire.head().is_ok() && answer(&mut wire, "ok") == Then::Next {}
            }
        });
        OneThread { address }
    }
}

#[test]
fn an_idle_connection_does_not_block_a_single_threaded_target() {
    for workers in [1, 2] {
        let target = OneThread::start();
        let config = format!("[[targets]]\naddress = \"{}\"\ninterval = \"200ms\"", target.address);
        let evenly = Start::before(&[]).workers(workers).config(&config).start();
        let mut clients = [evenly.client(), evenly.client(), evenly.client()];
        for _ in 0..2 {
            for client in &mut clients {
                assert_eq!(client.get("/").text(), "ok");
            }
        }
        // At once.
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), "ok");
        }
        assert_eq!(evenly.logged("is down"), 0);
    }
}
