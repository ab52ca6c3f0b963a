//! Targets that are Unix sockets: what holds for others holds for them.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::harness::{
    Client, Evenly, Head, Origin, Start, Then, Wire, answer, assert_same, body_of, pattern, until,
};

/// Answers each request with `name`, whatever its body.
fn named(name: &'static str) -> Origin {
    Origin::unix(move |wire, head| match body_of(wire, head) {
        Ok(_) => answer(wire, name),
        Err(_) => Then::Close,
    })
}

#[test]
fn requests_alternate_between_a_path_and_a_port() {
    let (a, b) = (named("a"), Origin::named("b"));
    let evenly = Evenly::before(&[&a, &b]);
    let mut client = evenly.client();
    let mut names: Vec<String> = (0..6).map(|_| client.get("/").text().to_owned()).collect();
    names.dedup();
    assert_eq!((names.len(), a.requests(), b.requests()), (6, 3, 3));
    assert_eq!((a.connections(), a.last_head().field("Host")), (1, Some("test")));
    let line = format!("target {0} ({0}) is up: 200 in ", a.target());
    assert_eq!(evenly.logged(&line), 1, "{:#?}", evenly.log());
}

#[test]
fn a_path_on_the_command_line_needs_no_file() {
    let a = named("a");
    let evenly = Start::before(&[&a]).without_file().start();
    assert_eq!(evenly.client().get("/").text(), "a");
}

#[test]
fn probes_ask_for_localhost_unless_a_host_is_configured() {
    for (toml, host) in [("", "localhost"), ("[health]\nhost = \"app.internal\"", "app.internal")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let probed = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut wire = Wire::new(std::os::fd::OwnedFd::from(stream).into());
            let head = wire.head().unwrap();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            head
        });
        let _evenly = Start::before(&[]).target(path.to_str().unwrap()).config(toml).start();
        let head: Head = probed.join().unwrap();
        assert_eq!((head.target(), head.field("Host")), ("/healthz", Some(host)));
    }
}

/// The response's body is the request's, and comes back in chunks of the reader's own size.
fn echoing() -> Origin {
    Origin::unix(|wire, head| match body_of(wire, head) {
        Ok((body, _)) => answer(wire, body),
        Err(_) => Then::Close,
    })
}

#[test]
fn long_bodies_pass_both_ways_whole() {
    let origin = echoing();
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    for length in [1, 65_536, 300_000, 5_000_000] {
        let body = pattern(length);
        let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        client.send([head.as_bytes(), &body].concat());
        assert_same(&client.response().body, &body);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_response_may_end_with_its_connection() {
    let origin = Origin::unix(|wire, _| {
        // However it ends, it ends.
        let _ = wire.send([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &pattern(400_000)].concat());
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    for _ in 0..3 {
        assert_same(&evenly.client().get("/").body, &pattern(400_000));
    }
}

#[test]
fn a_tunnel_passes_both_ways_and_each_side_ends_for_itself() {
    let origin = Origin::unix(|wire, _| {
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        wire.send(head).unwrap();
        let rest = wire.rest().unwrap();
        // The client has ended its side and still listens.
        wire.send(rest).unwrap();
        Then::Close
    });
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(client.response().status, 101);
    client.send(pattern(300_000));
    client.shutdown();
    assert_same(&client.wire.rest().unwrap(), &pattern(300_000));
}

#[test]
fn a_refused_connect_moves_on_and_the_path_comes_back() {
    let (mut a, b) = (named("a"), Origin::named("b"));
    let evenly = Start::before(&[&a, &b]).watching(&a).start();
    a.stop();
    let mut client = evenly.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "b");
        assert_eq!(client.post("/", "some body").text(), "b");
    }
    let line = format!("({}) is down: connect refused; healthy endpoints: 1", a.target());
    until("it is found out", || evenly.logged(&line) == 1);
    a.restart();
    until("it is back", || client.get("/").text() == "a");
}

#[test]
fn a_get_whose_pooled_connection_dies_is_sent_once_more_and_a_post_is_not() {
    let origin = Origin::unix(|wire, head| match body_of(wire, head) {
        Ok(_) if head.target() != "/second" => answer(wire, "ok"),
        _ => Then::Close,
    });
    let evenly = Evenly::with(&[&origin], "[health]\nfall = 1000\ninterval = \"1h\"");
    let mut client = evenly.client();
    assert_eq!(client.get("/first").text(), "ok");
    assert_eq!(client.get("/second").status, 502);
    assert_eq!((origin.requests(), origin.connections()), (3, 2), "sent twice, both in vain");
    assert_eq!(client.get("/first").text(), "ok");
    assert_eq!(client.post("/second", "2").status, 502);
    assert_eq!(origin.requests(), 5);
}

#[test]
fn a_path_that_fails_every_request_is_ejected() {
    let a = Origin::unix(|_, _| Then::Close);
    let b = Origin::named("b");
    let evenly = Evenly::with(&[&a, &b], "[ejection]\nresets = 3\ntime = \"1h\"");
    let mut client = evenly.client();
    let line = format!("target {0} ({0}) is ejected for 3600s: 3 consecutive resets", a.target());
    until("it is ejected", || {
        assert_eq!(client.get("/").text(), "b");
        evenly.logged(&line) == 1
    });
}

#[test]
fn what_is_wrong_with_a_path_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    File::create(path("file")).unwrap();
    drop(UnixListener::bind(path("refusing")).unwrap());
    let _datagrams = UnixDatagram::bind(path("datagrams")).unwrap();
    // Of a backlog of none one connection waits; the next one is turned away.
    let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    full.bind(&SockAddr::unix(path("full")).unwrap()).unwrap();
    full.listen(0).unwrap();
    let _waiting = UnixStream::connect(path("full")).unwrap();
    let good = named("good");
    let mut start = Start::before(&[&good]);
    let names = ["missing", "file", "refusing", "datagrams", "full"];
    for name in names {
        start = start.target(&path(name));
    }
    let evenly = start.start();
    for (name, reason) in [
        ("missing", "connect failed: No such file or directory (os error 2)"),
        ("file", "connect failed: not a socket"),
        ("refusing", "connect refused"),
        ("full", "connect failed: its backlog is full"),
        ("datagrams", "connect failed: Protocol wrong type for socket (os error 91)"),
    ] {
        let line = format!("target unix:{0} (unix:{0}) is down: {reason}; healthy", path(name));
        assert_eq!(evenly.logged(&line), 1, "{line}: {:#?}", evenly.log());
    }
    assert_eq!(evenly.client().get("/").text(), "good");
}

#[test]
fn status_and_metrics_show_the_path() {
    let a = named("a");
    let evenly = Evenly::with(&[&a], "[admin]\nlisten = \"127.0.0.1:0\"");
    let admin: SocketAddr = {
        let log = evenly.log();
        let line = log.iter().find_map(|line| line.split_once("admin listening on http://"));
        line.expect("it says where").1.parse().unwrap()
    };
    let target = a.target();
    for (path, text) in [
        ("/status", format!("\"address\": \"{target}\"")),
        ("/metrics", format!("evenly_endpoint_up{{target=\"{target}\",address=\"{target}\"}} 1")),
    ] {
        let response = Client::to(admin).get(path);
        assert!(response.text().contains(&text), "{}", response.text());
    }
}
