//! Everything has a bound: connections, descriptors, CPU time while nothing can be done, memory for those
//! who do not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Client, End, Evenly, Gate, Meeting, OpenOnDrop, Origin, Start, Then, answer, assert_same,
    pattern, until, until_still,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const MIB: usize = 1024 * 1024;
/// What memory may grow by while somebody does not read.
const GROWTH_KIB: u64 = 8 * 1024;
/// Nothing has moved for so long: it will not move.
const STILL: Duration = Duration::from_millis(300);

#[track_caller]
fn assert_bounded(evenly: &Evenly, before: u64) {
    let now = evenly.resident_kib();
    assert!(now < before + GROWTH_KIB, "{before} KiB before, {now} KiB now");
}

#[test]
fn a_client_that_does_not_read_stops_its_target_and_costs_little_memory() {
    const LEN: usize = 32 * MIB;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let body = Arc::new(pattern(LEN));
    let bytes = Arc::clone(&body);
    let origin = Origin::start(move |wire, _| {
        let _ = wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n"));
        for part in bytes.chunks(64 * 1024) {
            if wire.send(part).is_err() {
                return Then::Close;
            }
            counter.fetch_add(part.len(), Ordering::SeqCst);
        }
        Then::Next
    });
    let evenly = Evenly::before(&[&origin]);
    let before = evenly.resident_kib();
    let mut client = evenly.client();
    client.send(GET);
    until("the first of it is sent", || sent.load(Ordering::SeqCst) > 0);
    until_still("the target", STILL, || sent.load(Ordering::SeqCst));
    assert!(sent.load(Ordering::SeqCst) < LEN, "somebody swallowed it all");
    assert_bounded(&evenly, before);
    assert_same(&client.response().body, &body);
    assert_bounded(&evenly, before);
}

#[test]
fn a_target_that_does_not_read_stops_its_client_and_costs_little_memory() {
    const LEN: usize = 32 * MIB;
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let origin = Origin::start(move |wire, head| {
        opened.wait();
        let body = wire.exactly(head.content_length().unwrap()).unwrap();
        assert_same(&body, &pattern(LEN));
        answer(wire, "all")
    });
    let evenly = Evenly::before(&[&origin]);
    let before = evenly.resident_kib();
    let mut client = evenly.client();
    let mut writer = client.wire.stream.try_clone().unwrap();
    let sent = AtomicUsize::new(0);
    thread::scope(|scope| {
        let _open = OpenOnDrop(&gate);
        scope.spawn(|| {
            let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {LEN}\r\n\r\n");
            std::io::Write::write_all(&mut writer, head.as_bytes()).unwrap();
            for part in pattern(LEN).chunks(64 * 1024) {
                std::io::Write::write_all(&mut writer, part).unwrap();
                sent.fetch_add(part.len(), Ordering::SeqCst);
            }
        });
        until("the first of it is sent", || sent.load(Ordering::SeqCst) > 0);
        until_still("the client", STILL, || sent.load(Ordering::SeqCst));
        assert!(sent.load(Ordering::SeqCst) < LEN, "somebody swallowed it all");
        assert_bounded(&evenly, before);
        gate.open();
        assert_eq!(client.response().text(), "all");
    });
    assert_bounded(&evenly, before);
}

#[test]
fn pipelined_requests_whose_answers_are_not_read_wait_and_cost_little_memory() {
    const REQUESTS: usize = 1500;
    let body = pattern(16 * 1024);
    let sent = body.clone();
    let origin = Origin::start(move |wire, _| answer(wire, &sent));
    let evenly = Evenly::before(&[&origin]);
    let before = evenly.resident_kib();
    let mut client = evenly.client();
    let mut writer = client.wire.stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // As far as the kernel takes them, and the rest when there is room again.
            std::io::Write::write_all(&mut writer, GET.repeat(REQUESTS).as_bytes()).unwrap();
        });
        until("the first is asked for", || origin.requests() > 0);
        until_still("the target", STILL, || origin.requests());
        assert!(origin.requests() < REQUESTS, "all were sent on");
        assert_bounded(&evenly, before);
        for _ in 0..REQUESTS {
            assert_same(&client.response().body, &body);
        }
    });
    assert_eq!(origin.requests(), REQUESTS);
}

#[test]
fn a_body_of_very_many_tiny_chunks_passes_in_little_memory() {
    const CHUNKS: usize = 200_000;
    let origin = Origin::start(|wire, _| match wire.chunked() {
        Ok((body, _)) => answer(wire, body.len().to_string()),
        Err(_) => Then::Close,
    });
    let evenly = Evenly::before(&[&origin]);
    let before = evenly.resident_kib();
    let mut client = evenly.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("1\r\nx\r\n".repeat(CHUNKS));
    client.send("0\r\n\r\n");
    assert_eq!(client.response().text(), CHUNKS.to_string());
    assert_bounded(&evenly, before);
}

#[test]
fn honest_clients_are_served_beside_those_that_do_not_read_or_do_not_send() {
    let origin = Origin::start(|wire, head| match head.target() {
        "/big" => answer(wire, vec![b'x'; 8 * MIB]),
        _ => answer(wire, "ok"),
    });
    let evenly = Evenly::before(&[&origin]);
    let lazy: Vec<Client> = (0..20)
        .map(|nth| {
            let mut client = evenly.client();
            client.send(if nth % 2 == 0 {
                "GET /big HTTP/1.1\r\nHost: test\r\n\r\n"
            } else {
                "GET / HTTP/1.1\r\nHo"
            });
            client
        })
        .collect();
    until("the big ones are asked for", || origin.requests() == 10);
    let mut client = evenly.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").text(), "ok");
    }
    drop(lazy);
}

#[test]
fn heads_that_never_end_hold_no_more_memory_than_they_may_and_it_goes_back() {
    const FLOOD: usize = 600;
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "[limits]\nmemory = \"1MiB\"");
    let mut honest = evenly.client();
    assert_eq!(honest.get("/").text(), "a");
    let before = evenly.resident_kib();
    let head = format!("GET / HTTP/1.1\r\nHost: test\r\nX-Long: {}", "a".repeat(10_000));
    let mut flood: Vec<Client> = (0..FLOOD)
        .map(|_| {
            let mut client = evenly.client();
            client.send(&head);
            client
        })
        .collect();
    // A mebibyte has room for 60 of them, and each worker may pass it by one.
    let refused = |flood: &[Client]| flood.iter().filter(|it| has_ended(it)).count();
    until("there is no memory for most", || refused(&flood) >= FLOOD - 70);
    let held = evenly.resident_kib();
    assert!(held < before + 3 * 1024, "{before} KiB before, {held} KiB now");
    assert_eq!(honest.get("/").text(), "a", "what is small goes on");
    let one = flood.iter().position(has_ended).unwrap();
    let response = flood[one].response();
    assert_eq!((response.status, response.closes()), (503, true));
    drop(flood);
    // But for what the flight recorder keeps, 0.6 MiB of each worker.
    until("their memory is back", || evenly.resident_kib() < before + 2 * 1024);
    assert_eq!(origin.requests(), 2);
}

#[test]
fn a_process_that_may_have_no_more_memory_lives_on_and_serves_when_there_is_some() {
    let origin = Origin::named("a");
    // With one worker, all of the program is there when the first request is served.
    let evenly = Start::before(&[&origin]).workers(1).start();
    let mut honest = evenly.client();
    assert_eq!(honest.get("/").text(), "a");
    evenly.limit_memory(1024);
    let head = format!("GET / HTTP/1.1\r\nHost: test\r\nX-Long: {}", "a".repeat(3_000));
    let mut flood = Vec::new();
    until("there is none", || {
        let mut client = evenly.client();
        // It may be refused.
        let _ = client.try_send(&head);
        flood.push(client);
        evenly.logged("give the machine or this process more memory") > 0
    });
    for _ in 0..200 {
        let mut client = evenly.client();
        let _ = client.try_send(&head);
        flood.push(client);
    }
    drop(flood);
    until("it serves again", || {
        let mut client = evenly.client();
        client.try_send(GET).is_ok() && client.try_response().is_ok_and(|it| it.text() == "a")
    });
    assert_eq!(evenly.logged("panicked"), 0, "{:#?}", evenly.log());
}

const CAP_8: &str = "[limits]\nconnections = 8";

#[test]
fn the_cap_itself_closes_nobody() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], CAP_8);
    let mut clients: Vec<Client> = (0..8).map(|_| evenly.client()).collect();
    for _ in 0..3 {
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").text(), "a"));
    }
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    for workers in [1, 2] {
        let origin = Origin::named("a");
        let evenly = Start::before(&[&origin]).workers(workers).config(CAP_8).start();
        let mut old: Vec<Client> = (0..8).map(|_| evenly.client()).collect();
        old.iter_mut().for_each(|client| assert_eq!(client.get("/").text(), "a"));
        for _ in 0..6 {
            // Not the new connection is closed, though it has been silent since it came.
            let mut new = evenly.client();
            until("an old one is closed", || old.iter().any(has_ended));
            old.retain(|client| !has_ended(client));
            assert_eq!(new.get("/").text(), "a");
            old.push(new);
        }
    }
}

/// Whether the other side has ended a connection on which nothing is to be read.
fn has_ended(client: &Client) -> bool {
    client.wire.stream.set_nonblocking(true).unwrap();
    let peeked = client.wire.stream.peek(&mut [0]);
    client.wire.stream.set_nonblocking(false).unwrap();
    peeked.is_ok()
}

#[test]
fn idle_connections_make_room_whichever_worker_has_them() {
    let (origin, gate) = Origin::gated();
    let evenly = Evenly::with(&[&origin], CAP_8);
    let mut old: Vec<Client> = Vec::new();
    for nth in 0..8 {
        let mut client = evenly.client();
        if nth % 2 == 0 {
            client.send(GET);
            until("it is at the target", || origin.requests() == nth / 2 + 1);
        }
        old.push(client);
    }
    let mut new: Vec<Client> = (0..4).map(|_| evenly.client()).collect();
    new.iter_mut().for_each(|client| client.send(GET));
    until("the new ones are at the target", || origin.requests() == 8);
    gate.open();
    for client in old.iter_mut().step_by(2).chain(&mut new) {
        assert_eq!(client.response().text(), "ok");
    }
    assert!(old.iter_mut().skip(1).step_by(2).all(|client| client.end() == End::Fin));
}

#[test]
fn busy_connections_are_not_closed_and_the_cap_holds() {
    let (origin, gate) = Origin::gated();
    let evenly = Evenly::with(&[&origin], CAP_8);
    let mut clients: Vec<Client> = (0..30).map(|_| evenly.client()).collect();
    clients.iter_mut().for_each(|client| client.send(GET));
    until("as many as there may be are at the target", || origin.requests() >= 8);
    until_still("the target", STILL, || origin.requests());
    // Each worker may take one more while the others do.
    assert!(origin.requests() <= 9, "{} at once", origin.requests());
    gate.open();
    // All the others come in turn, since those that were answered are idle.
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok");
    }
}

#[test]
fn workers_that_may_spin_serve_and_sleep_when_there_is_nothing_to_do() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "spin = 1000");
    let mut client = evenly.client();
    (0..100).for_each(|_| assert_eq!(client.get("/").text(), "a"));
    assert_not_spinning(&evenly);
    assert_eq!(client.get("/").text(), "a");
}

#[track_caller]
fn assert_not_spinning(evenly: &Evenly) {
    let window = Duration::from_millis(400);
    let (before, started) = (evenly.cpu_time(), Instant::now());
    until("a while has passed", || started.elapsed() >= window);
    let used = evenly.cpu_time() - before;
    assert!(used < window / 4, "{used:?} of CPU time in {window:?}");
}

#[test]
fn more_clients_than_descriptors_are_all_served_in_the_end() {
    let (origin, gate) = Origin::gated();
    let evenly = Start::before(&[&origin]).descriptors(200).start();
    // Each asks immediately: one that is silent for 50 ms may have to make room for others.
    let asking = || {
        let mut client = evenly.client();
        client.send(GET);
        client
    };
    let mut clients: Vec<Client> = (0..150).map(|_| asking()).collect();
    // Each worker may take one more while the others do.
    let most = most_connections(&evenly);
    until("as many as there may be are at the target", || origin.requests() >= most);
    until_still("the target", STILL, || origin.requests());
    assert!(origin.requests() <= most + 1, "{} at once", origin.requests());
    assert_not_spinning(&evenly);
    // Some leave, and others take their places.
    clients.drain(..100).for_each(drop);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok");
    }
    assert_eq!(evenly.client().get("/").text(), "ok");
}

#[test]
fn idle_connections_to_targets_make_room_when_descriptors_run_out() {
    const CLIENTS: usize = 16;
    let held = Arc::new(AtomicUsize::new(usize::MAX));
    let gate = Arc::new(Meeting::of(CLIENTS));
    let origins: Vec<Origin> = (0..11)
        .map(|me| {
            let (held, gate) = (Arc::clone(&held), Arc::clone(&gate));
            Origin::start(move |wire, _| {
                let waits = held.load(Ordering::SeqCst) == me;
                if waits {
                    gate.wait();
                }
                answer(wire, if waits { "held" } else { "at once" })
            })
        })
        .collect();
    let evenly = Start::before(&origins.iter().collect::<Vec<_>>())
        .workers(1)
        .descriptors(170)
        .config("[health]\ninterval = \"1h\"\n[limits]\nrequests_per_target = 100")
        .start();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| evenly.client()).collect();
    // All clients meet at one target after another: each gets so many connections, which stay.
    for at in 0..origins.len() {
        held.store(at, Ordering::SeqCst);
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| while client.get("/").text() != "held" {});
            }
        });
    }
    held.store(usize::MAX, Ordering::SeqCst);
    let mut more: Vec<Client> = (0..4).map(|_| evenly.client()).collect();
    for client in more.iter_mut().chain(&mut clients) {
        assert_eq!(client.get("/").text(), "at once");
    }
    assert_not_spinning(&evenly);
}

/// How many client connections it says that there may be.
fn most_connections(evenly: &Evenly) -> usize {
    let log = evenly.log();
    let said = log.iter().find_map(|line| {
        line.split_once("at most ")?.1.strip_suffix(" client connections")?.parse().ok()
    });
    said.unwrap()
}

#[test]
fn clients_leave_descriptors_for_checks_admin_and_logs() {
    let (a, gate) = Origin::gated();
    let _open = OpenOnDrop(&gate);
    let b = Origin::named("b");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let tables =
        format!("[log]\naccess = \"{}\"\n[admin]\nlisten = \"127.0.0.1:0\"", log.display());
    let evenly =
        Start::before(&[&a, &b]).watching(&a).watching(&b).descriptors(260).config(&tables).start();
    // Half of the requests wait, so that every worker has as many connections as it may.
    let mut clients: Vec<Client> = (0..300).map(|_| evenly.client()).collect();
    clients.iter_mut().for_each(|client| client.send(GET));
    let most = most_connections(&evenly);
    until("as many as there may be are connected", || evenly.proc_entries("fd").len() > most);
    until_still("the target", STILL, || a.requests());
    std::fs::rename(&log, folder.path().join("old")).unwrap();
    evenly.signal(Signal::USR1);
    until("the log was reopened", || evenly.logged("was reopened") == 1 && log.exists());
    b.set_healthy(false);
    until("a check has found it", || evenly.logged("is down") >= 1);
    let admin = evenly
        .log()
        .iter()
        .find_map(|line| Some(line.split_once("admin listening on http://")?.1.to_owned()));
    let mut visitor = Client::to(admin.unwrap().parse().unwrap());
    assert_eq!(visitor.get("/metrics").status, 200);
    assert_eq!(evenly.logged("no descriptor"), 0, "{:#?}", evenly.log());
}
