//! Signals: what was begun is finished, what is new is refused, and there is an end to it.

use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use rustix::process::Signal;

use crate::harness::{Client, End, Evenly, Meeting, Origin, Start, Then, answer, pattern, until};
use crate::nameserver::{Mode, NameServer};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// An origin that answers after both sides have met.
fn meeting() -> (Origin, Arc<Meeting>) {
    let meeting = Arc::new(Meeting::of(2));
    let there = Arc::clone(&meeting);
    let origin = Origin::start(move |wire, _| {
        there.wait();
        answer(wire, "ok")
    });
    (origin, meeting)
}

/// Sends `signal` and waits until every worker has heard of it: each then closes its listener.
fn begin_to_drain(evenly: &Evenly, signal: Signal) {
    evenly.signal(signal);
    until("nobody listens", || TcpStream::connect(evenly.address()).is_err());
    until("it says so", || evenly.logged("draining") == 1);
}

#[test]
fn a_signal_lets_running_exchanges_finish_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let (origin, meeting) = meeting();
        let mut evenly = Evenly::before(&[&origin]);
        let (mut running, mut idle) = (evenly.client(), evenly.client());
        running.send(GET);
        until("the request is at the target", || origin.requests() == 1);
        begin_to_drain(&evenly, signal);
        assert_eq!(idle.end(), End::Fin);
        assert!(!evenly.has_ended());
        meeting.wait();
        let response = running.response();
        assert_eq!((response.text(), response.closes()), ("ok", true));
        assert_eq!(running.end(), End::Fin);
        // Until it does, the close lingers: bytes it may still send must not reset its answer.
        drop(running);
        assert_eq!(evenly.exit_code(), Some(0));
        assert_eq!(evenly.logged("stopped"), 1);
    }
}

#[test]
fn without_a_connection_it_ends_at_once() {
    let origin = Origin::named("a");
    let mut evenly = Evenly::before(&[&origin]);
    let started = Instant::now();
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_signal_ends_it_at_once_while_it_waits_for_the_first_checks_or_lookups() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hung");
    // It takes connections and says nothing.
    let hung = UnixListener::bind(&path).unwrap();
    let server = NameServer::start();
    server.set_mode(Mode::Silent);
    let patient = "[health]\ninterval = \"1m\"\ntimeout = \"1m\"";
    let of_checks = Start::before(&[]).config(patient).target(path.to_str().unwrap());
    let of_lookups = Start::before(&[]).name("silent.test:80", &server);
    for (start, checks) in [(of_checks, true), (of_lookups, false)] {
        let mut evenly = start.begin();
        let _check = checks.then(|| hung.accept().unwrap());
        if !checks {
            until("it asks", || !server.asked("silent.test", RecordType::A).is_empty());
        }
        let started = Instant::now();
        evenly.signal(Signal::TERM);
        assert_eq!(evenly.exit_code(), Some(0));
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        assert_eq!((evenly.logged("stopped before serving"), evenly.logged("listening")), (1, 0));
    }
}

#[test]
fn a_request_that_was_on_its_way_on_an_idle_connection_is_served() {
    let origin = Origin::named("a");
    let mut evenly = Evenly::before(&[&origin]);
    let (mut used, mut fresh) = (evenly.client(), evenly.client());
    assert_eq!(used.get("/").status, 200);
    begin_to_drain(&evenly, Signal::TERM);
    for client in [&mut used, &mut fresh] {
        let response = client.get("/");
        assert_eq!((response.text(), response.closes()), ("a", true));
        assert_eq!(client.end(), End::Fin);
    }
    drop((used, fresh));
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn connections_that_wait_to_be_accepted_are_served() {
    let origin = Origin::named("a");
    let mut evenly = Evenly::before(&[&origin]);
    // While it stands still, the kernel takes connections for it.
    evenly.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..20).map(|_| evenly.client()).collect();
    clients.iter_mut().for_each(|client| client.send(GET));
    evenly.signal(Signal::TERM);
    evenly.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.response().text(), "a");
    }
    drop(clients);
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn a_response_that_has_begun_is_sent_to_its_end() {
    const LEN: usize = 4 * 1024 * 1024;
    let origin = Origin::start(|wire, _| answer(wire, pattern(LEN)));
    let mut evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send(GET);
    until("the response has begun", || client.wire.stream.peek(&mut [0]).is_ok());
    begin_to_drain(&evenly, Signal::TERM);
    assert_eq!(client.response().body.len(), LEN);
    assert_eq!(client.end(), End::Fin);
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn the_drain_has_an_end() {
    let origin = Origin::hanging();
    let mut evenly = Evenly::with(&[&origin], "[timeouts]\ndrain = \"200ms\"");
    let mut client = evenly.client();
    client.send(GET);
    until("the request is at the target", || origin.requests() == 1);
    let started = Instant::now();
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
    let took = started.elapsed();
    assert!((Duration::from_millis(190)..Duration::from_secs(15)).contains(&took), "{took:?}");
    assert!(client.try_response().is_err());
}

#[test]
fn a_second_signal_stops_at_once() {
    for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM]] {
        let origin = Origin::hanging();
        let mut evenly = Evenly::before(&[&origin]);
        let mut client = evenly.client();
        client.send(GET);
        until("the request is at the target", || origin.requests() == 1);
        begin_to_drain(&evenly, signals[0]);
        let started = Instant::now();
        evenly.signal(signals[1]);
        assert_eq!(evenly.exit_code(), Some(0));
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        assert!(client.try_response().is_err());
    }
}

#[test]
fn an_upload_under_way_is_finished() {
    let origin = Origin::start(|wire, _| match wire.exactly(10) {
        Ok(body) => answer(wire, body),
        Err(_) => Then::Close,
    });
    let mut evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfive!");
    until("the request is at the target", || origin.requests() == 1);
    begin_to_drain(&evenly, Signal::TERM);
    client.send("five!");
    let response = client.response();
    assert_eq!((response.text(), response.closes()), ("five!five!", true));
    drop(client);
    assert_eq!(evenly.exit_code(), Some(0));
}

/// What the admin listener says at `path`.
fn admin_status(evenly: &Evenly, path: &str) -> u16 {
    let address = evenly
        .log()
        .iter()
        .find_map(|line| Some(line.split_once("admin listening on http://")?.1.parse().unwrap()));
    Client::to(address.expect("its admin listener")).get(path).status
}

#[test]
fn with_a_delay_it_accepts_on_and_asks_clients_to_leave() {
    let origin = Origin::named("a");
    let config = "[timeouts]\ndrain_delay = \"1h\"\n[admin]\nlisten = \"127.0.0.1:0\"";
    let mut evenly = Evenly::with(&[&origin], config);
    let mut old = evenly.client();
    assert!(!old.get("/").closes());
    assert_eq!(admin_status(&evenly, "/readyz"), 200);
    evenly.signal(Signal::TERM);
    until("it says so", || evenly.logged("still accepting connections for 3600s") == 1);
    until("nobody is to send more here", || admin_status(&evenly, "/readyz") == 503);
    assert_eq!(admin_status(&evenly, "/livez"), 200);
    until("new clients are served, and asked to leave", || {
        let response = evenly.client().get("/");
        response.status == 200 && response.closes()
    });
    assert!(old.get("/").closes(), "and those that are here already");
    assert!(!evenly.has_ended());
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn requests_in_flight_are_answered_however_many_they_are() {
    let slow = Duration::from_millis(1_500);
    let origin = Origin::start(move |wire, _| {
        std::thread::sleep(slow);
        answer(wire, "ok")
    });
    let mut evenly = Evenly::before(&[&origin]);
    let mut clients: Vec<_> = (0..50).map(|_| evenly.client()).collect();
    clients.iter_mut().for_each(|client| client.send(GET));
    until("all are at the target", || origin.requests() == 50);
    evenly.signal(Signal::TERM);
    for client in &mut clients {
        let response = client.response();
        assert_eq!((response.text(), response.closes()), ("ok", true));
    }
    drop(clients);
    assert_eq!(evenly.exit_code(), Some(0));
}

/// As Kubernetes does it, ten times as fast: others go on sending new connections here for a while after the signal.
#[test]
fn nobody_fails_who_comes_within_the_delay() {
    let origin = Origin::named("a");
    let mut evenly = Evenly::with(&[&origin], "[timeouts]\ndrain_delay = \"1500ms\"");
    let (mut kept, mut served) = (evenly.client(), 0);
    assert_eq!(kept.get("/").status, 200);
    evenly.signal(Signal::TERM);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        let response = evenly.client().get("/");
        assert_eq!(response.status, 200);
        let response = kept.get("/");
        assert_eq!(response.status, 200);
        if response.closes() {
            kept = evenly.client();
        }
        served += 2;
    }
    assert!(served > 20, "{served}");
    drop(kept);
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn when_the_delay_is_over_it_drains() {
    let origin = Origin::named("a");
    let mut evenly = Evenly::with(&[&origin], "[timeouts]\ndrain_delay = \"200ms\"");
    let mut idle = evenly.client();
    assert_eq!(idle.get("/").status, 200);
    evenly.signal(Signal::TERM);
    assert_eq!(idle.end(), End::Fin);
    assert_eq!(evenly.exit_code(), Some(0));
    assert_eq!((evenly.logged("still accepting"), evenly.logged("draining")), (1, 1));
}

#[test]
fn signals_that_other_servers_know_change_nothing() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let mut client = evenly.client();
    assert_eq!(client.get("/").status, 200);
    for (signal, name) in [(Signal::HUP, "nothing has changed"), (Signal::USR1, "SIGUSR1")] {
        evenly.signal(signal);
        until("it says so", || evenly.logged(name) > 0);
        assert_eq!(client.get("/").status, 200);
    }
    evenly.signal(Signal::PIPE);
    assert_eq!(client.get("/").status, 200);
}

/// Whoever starts it may have blocked signals for threads of its own, which a program inherits.
#[test]
fn a_signal_that_was_blocked_before_the_start_is_heeded() {
    let blocked = "--block-signal=TERM,INT,HUP,USR1";
    if !Command::new("env").args([blocked, "true"]).status().is_ok_and(|status| status.success()) {
        return eprintln!("skipped: this env does not know {blocked}");
    }
    let origin = Origin::named("a");
    let start = Start::before(&[&origin]);
    let mut evenly = start.through(&format!("exec env {blocked} \"$0\" \"$@\"")).start();
    evenly.signal(Signal::USR1);
    until("it says so", || evenly.logged("SIGUSR1") > 0);
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn a_log_file_that_may_not_grow_any_more_ends_nobody() {
    let origin = Origin::named("a");
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let config = format!("[log]\naccess = \"{}\"", log.display());
    let start = Start::before(&[&origin]).config(&config);
    let mut evenly = start.through("ulimit -f 8; exec \"$0\" \"$@\"").start();
    let mut client = evenly.client();
    until("it says that lines are lost", || {
        assert_eq!(client.get("/").status, 200);
        evenly.logged("File too large") > 0
    });
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_holds_up_neither_checks_nor_requests_nor_the_end() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let start = Start::before(&[&a, &b]).watching(&a).watching(&b);
    let mut evenly = start.start();
    evenly.stop_reading();
    let served = |evenly: &Evenly| evenly.client().get("/").text().to_owned();
    for (sick, other) in [(&a, "b"), (&b, "a"), (&a, "b")] {
        // Each change is a line of the log, or more than one.
        sick.set_healthy(false);
        until("only the other one serves", || (0..4).all(|_| served(&evenly) == other));
        sick.set_healthy(true);
        until("both serve", || served(&evenly) != served(&evenly));
    }
    let started = Instant::now();
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[test]
fn a_log_that_is_read_again_has_what_waited() {
    let origin = Origin::named("a");
    let mut evenly = Evenly::before(&[&origin]);
    evenly.stop_reading();
    evenly.signal(Signal::HUP);
    evenly.read_on();
    until("what waited is written", || evenly.logged("reload") == 1);
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
    assert_eq!((evenly.logged("missing"), evenly.logged("stopped")), (0, 1));
}
