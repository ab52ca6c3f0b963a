//! The drain by a command: what it says, who waits for it, and how it is taken back.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::{Signal, kill_process};

use crate::harness::{Client, End, Evenly, Gate, Origin, Start, answer, pattern, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Evenly before an origin that answers when its gate is opened.
fn before_a_gate(config: &str) -> (Evenly, Origin, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let origin = Origin::start(move |wire, _| {
        held.wait();
        answer(wire, "ok")
    });
    (Evenly::with(&[&origin], config), origin, gate)
}

/// A request that its target has and does not answer.
fn in_flight(evenly: &Evenly, origin: &Origin) -> Client {
    let before = origin.requests();
    let mut client = evenly.client();
    client.send(GET);
    until("the request is at the target", || origin.requests() > before);
    client
}

/// `evenly drain --wait`, running.
fn waiting(evenly: &Evenly) -> Child {
    let mut command = evenly.command(&["drain", "--wait"]);
    let before = evenly.logged("a drain was asked for");
    let waiting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("it is asked", || evenly.logged("a drain was asked for") > before);
    waiting
}

/// What it printed in the end, on either output, and its exit code.
fn ended(waiting: Child) -> (String, Option<i32>) {
    let output = waiting.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code())
}

fn nobody_listens(evenly: &Evenly) {
    until("nobody listens", || TcpStream::connect(evenly.address()).is_err());
}

#[test]
fn who_waits_for_a_drain_hears_that_all_was_finished_when_it_has_ended() {
    let (mut evenly, origin, gate) = before_a_gate("");
    let mut client = in_flight(&evenly, &origin);
    let mut waiting = [waiting(&evenly), waiting(&evenly)];
    nobody_listens(&evenly);
    assert!(waiting.iter_mut().all(|it| it.try_wait().unwrap().is_none()));
    gate.open();
    let response = client.response();
    assert_eq!((response.text(), response.closes()), ("ok", true));
    drop(client);
    for waiting in waiting {
        let (said, code) = ended(waiting);
        assert!(said.starts_with("drained in ") && code == Some(0), "{said}");
    }
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn who_waits_for_a_drain_hears_how_many_connections_it_cut() {
    let (mut evenly, origin, gate) = before_a_gate("[timeouts]\ndrain = \"300ms\"");
    let _clients = [in_flight(&evenly, &origin), in_flight(&evenly, &origin)];
    let (said, code) = evenly.ask(&["drain", "-w"]);
    let how = "2 connections were cut: timeouts.drain (300ms) was over";
    assert!(said.contains(how) && code == Some(1), "{said}");
    gate.open();
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn a_process_that_was_killed_did_not_drain() {
    let (evenly, origin, gate) = before_a_gate("");
    let _client = in_flight(&evenly, &origin);
    let waiting = waiting(&evenly);
    evenly.signal(Signal::KILL);
    let (said, code) = ended(waiting);
    assert!(said.contains("it ended before it had answered") && code == Some(1), "{said}");
    gate.open();
}

#[test]
fn a_drain_says_what_it_does_and_a_second_one_changes_nothing() {
    let (mut evenly, origin, gate) = before_a_gate("");
    let mut client = in_flight(&evenly, &origin);
    let (said, code) = evenly.ask(&["drain"]);
    assert_eq!((said.as_str(), code), ("draining: finishing 1 connection within 30s\n", Some(0)));
    let (said, code) = evenly.ask(&["drain"]);
    assert!(said.starts_with("already draining: finishing 1 ") && code == Some(0), "{said}");
    let (said, code) = evenly.ask(&["reload"]);
    assert!(said.contains("evenly is stopping") && code == Some(2), "{said}");
    // Nor does the first signal, which a service manager sends to what is to stop.
    evenly.signal(Signal::TERM);
    until("it says so", || evenly.logged("already stopping") == 1);
    assert!(!evenly.has_ended());
    gate.open();
    assert_eq!(client.response().text(), "ok");
    drop(client);
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn a_signal_after_a_drain_was_asked_for_twice_ends_it() {
    let (mut evenly, origin, gate) = before_a_gate("");
    let _client = in_flight(&evenly, &origin);
    let waiting = waiting(&evenly);
    nobody_listens(&evenly);
    evenly.signal(Signal::TERM);
    until("it says so", || evenly.logged("already stopping") == 1);
    evenly.signal(Signal::TERM);
    let (said, code) = ended(waiting);
    assert!(said.contains("1 connection was cut: a signal ended the drain"), "{said}");
    assert_eq!((code, evenly.exit_code()), (Some(1), Some(0)));
    gate.open();
}

#[test]
fn a_drain_that_still_accepts_is_taken_back_without_anybody_noticing() {
    let origin = Origin::named("a");
    let config = "[timeouts]\ndrain_delay = \"1h\"\n[admin]\nlisten = \"127.0.0.1:0\"";
    let evenly = Evenly::with(&[&origin], config);
    let admin = evenly.logged_after("admin listening on http://").parse().unwrap();
    let ready = || Client::to(admin).get("/readyz").status;
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = evenly.client();
                while !over.load(Ordering::SeqCst) {
                    let response = client.get("/");
                    assert_eq!(response.status, 200);
                    served.fetch_add(1, Ordering::SeqCst);
                    if response.closes() {
                        client = evenly.client();
                    }
                }
            });
        }
        for turn in 0..10 {
            let (said, code) = evenly.ask(&["drain"]);
            assert!(said.contains("still accepting connections for 3600s"), "{said}");
            assert_eq!((code, ready()), (Some(0), 503));
            until("clients are asked to leave", || evenly.client().get("/").closes());
            let (said, code) = evenly.ask(&["undrain"]);
            assert_eq!((said.as_str(), code, ready()), ("serving on\n", Some(0), 200), "{turn}");
            until("clients may stay", || !evenly.client().get("/").closes());
            let before = served.load(Ordering::SeqCst);
            until("clients are served", || served.load(Ordering::SeqCst) > before + 8);
        }
        over.store(true, Ordering::SeqCst);
    });
    let mut client = evenly.client();
    assert!(!client.get("/").closes() && !client.get("/").closes());
}

#[test]
fn a_drain_that_has_closed_its_listeners_is_taken_back_while_a_download_goes_on() {
    const LEN: usize = 1024 * 1024;
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let origin = Origin::start(move |wire, head| {
        if head.target() != "/long" {
            return answer(wire, "ok");
        }
        let body = pattern(LEN);
        let begin = format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n");
        wire.send([begin.as_bytes(), &body[..LEN / 2]].concat()).unwrap();
        held.wait();
        wire.send(&body[LEN / 2..]).unwrap();
        crate::harness::Then::Next
    });
    let mut evenly = Evenly::before(&[&origin]);
    let mut download = evenly.client();
    download.send("GET /long HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(download.response_head().unwrap().status, 200);
    let waiting = waiting(&evenly);
    nobody_listens(&evenly);
    let (said, code) = evenly.ask(&["undrain"]);
    assert_eq!((said.as_str(), code), ("serving on\n", Some(0)));
    let (said, code) = ended(waiting);
    assert!(said.contains("taken back") && code == Some(1), "{said}");
    // Each worker listens again, and serves as before.
    let mut clients: Vec<_> = (0..20).map(|_| evenly.client()).collect();
    for _ in 0..2 {
        for client in &mut clients {
            let response = client.get("/");
            assert_eq!((response.text(), response.closes()), ("ok", false));
        }
    }
    // Its head said nothing of an end, and nor does it end.
    gate.open();
    assert!(download.wire.exactly(LEN).unwrap() == pattern(LEN));
    assert_eq!(download.get("/").text(), "ok");
    // And the next drain is as the first one.
    drop((download, clients));
    let (said, code) = evenly.ask(&["drain", "--wait"]);
    assert!(said.starts_with("drained in ") && code == Some(0), "{said}");
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn an_idle_connection_outlives_a_drain_that_is_taken_back_in_its_grace() {
    let (evenly, origin, gate) = before_a_gate("");
    let _running = in_flight(&evenly, &origin);
    let mut idle = evenly.client();
    evenly.ask(&["drain"]);
    // Within 500 ms, unless this machine is busy; then it is closed as it should be.
    let begun = std::time::Instant::now();
    let (said, _) = evenly.ask(&["undrain"]);
    assert_eq!(said, "serving on\n");
    if begun.elapsed() > crate::harness::PATIENCE / 50 {
        return gate.open();
    }
    thread::sleep(std::time::Duration::from_millis(700));
    gate.open();
    assert_eq!(idle.get("/").text(), "ok");
}

#[test]
fn a_drain_goes_on_if_another_process_has_taken_an_address_meanwhile() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let origin = Origin::start(move |wire, _| {
        held.wait();
        answer(wire, "ok")
    });
    let start = Start::before(&[&origin]).listen(&["127.0.0.1:0", "127.0.0.2:0"]);
    let mut evenly = start.start();
    let mut client = in_flight(&evenly, &origin);
    evenly.ask(&["drain"]);
    nobody_listens(&evenly);
    let other = evenly.addresses[1];
    until("nobody listens there either", || TcpStream::connect(other).is_err());
    let taken = TcpListener::bind(other).unwrap();
    let (said, code) = evenly.ask(&["undrain"]);
    assert!(said.contains(&format!("refused: cannot listen on {other}: another process has it")));
    assert!(said.contains("the drain goes on") && code == Some(2), "{said}");
    assert!(TcpStream::connect(evenly.address()).is_err(), "all addresses or none");
    assert!(evenly.ask(&["drain"]).0.starts_with("already draining"));
    drop(taken);
    assert_eq!(evenly.ask(&["undrain"]).1, Some(0), "now it is free");
    gate.open();
    assert_eq!(client.response().text(), "ok");
    assert_eq!(Client::to(other).get("/").text(), "ok");
    drop(client);
    assert_eq!(evenly.ask(&["drain", "--wait"]).1, Some(0));
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn a_stop_by_a_signal_is_taken_back_too_and_what_is_no_drain_is_not() {
    let (mut evenly, origin, gate) = before_a_gate("");
    let (said, code) = evenly.ask(&["undrain"]);
    assert!(said.contains("refused: evenly is not draining") && code == Some(2), "{said}");
    let mut client = in_flight(&evenly, &origin);
    for _ in 0..2 {
        evenly.signal(Signal::TERM);
        nobody_listens(&evenly);
        let (said, code) = evenly.ask(&["undrain"]);
        assert!(said.starts_with("serving on; if a service manager sent ") && code == Some(0));
    }
    gate.open();
    assert_eq!(client.response().text(), "ok");
    assert_eq!(evenly.client().get("/").text(), "ok");
    drop(client);
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn an_address_that_a_reload_brought_is_listened_on_again() {
    let origin = Origin::named("a");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = |listen: &str| {
        let target = origin.target();
        format!("workers = 2\nlisten = [{listen}]\n[[targets]]\naddress = \"{target}\"\n")
    };
    let evenly = Start::of(&file("\"127.0.0.1:0\"")).start();
    let said = evenly.reload(&file(&format!("\"127.0.0.1:0\", \"{free}\"")));
    assert!(said.contains("applied"), "{said}");
    let mut busy = Client::to(free);
    busy.send("GET / HTTP/1.1\r\n");
    evenly.ask(&["drain"]);
    until("nobody listens", || TcpStream::connect(free).is_err());
    nobody_listens(&evenly);
    assert_eq!(evenly.ask(&["undrain"]).1, Some(0));
    for address in [evenly.address(), free] {
        assert_eq!(Client::to(address).get("/").text(), "a");
    }
    busy.send("Host: test\r\n\r\n");
    assert_eq!(busy.response().text(), "a");
    let said = evenly.reload(&file("\"127.0.0.1:0\""));
    assert!(said.contains("applied"), "{said}");
    assert!(TcpStream::connect(free).is_err());
}

#[test]
fn a_visitor_that_was_stopped_delays_nobody() {
    let (mut evenly, origin, gate) = before_a_gate("");
    let mut client = in_flight(&evenly, &origin);
    let mut waiting = waiting(&evenly);
    let pid = rustix::process::Pid::from_child(&waiting);
    kill_process(pid, Signal::STOP).unwrap();
    gate.open();
    assert_eq!(client.response().text(), "ok");
    assert_eq!(client.end(), End::Fin);
    drop(client);
    assert_eq!(evenly.exit_code(), Some(0));
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(0), "what it is to hear was kept for it");
}
