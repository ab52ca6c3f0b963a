//! Targets that are names: what DNS says becomes who gets the requests, without a restart and without a failed one.

use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::harness::{Client, Evenly, Gate, Origin, Start, answer, until};
use crate::nameserver::{Mode, NameServer};

const SECOND: Duration = Duration::from_secs(1);

/// `a` and `b` on one port, as the addresses of one name have.
fn two() -> (Origin, Origin) {
    let a = Origin::named("a");
    let b = Origin::named_beside("b", &a);
    (a, b)
}

fn ips<const N: usize>(origins: [&Origin; N]) -> [IpAddr; N] {
    origins.map(|origin| origin.address.ip())
}

/// The name as a target of the port that its origins have.
fn at(name: &str, origin: &Origin) -> String {
    format!("{name}:{}", origin.address.port())
}

fn before(name: &str, server: &NameServer) -> Evenly {
    Start::before(&[]).name(name, server).start()
}

#[test]
fn added_and_removed_addresses_cost_no_failed_request() {
    let (server, (a, b)) = (NameServer::start(), two());
    server.addresses("api.test", 1, &ips([&a]));
    let evenly = before(&at("api.test", &a), &server);
    let served = evenly.under_load(|| {
        until("a serves", || a.requests() > 20);
        assert_eq!(b.requests(), 0);
        server.addresses("api.test", 1, &ips([&a, &b]));
        until("b serves", || b.requests() > 20);
        server.addresses("api.test", 1, &ips([&b]));
        until("a has gone", || evenly.logged("no longer has") == 1);
        until("a's last requests are over", || a.ended() == a.connections());
        let (so_far, of_b) = (a.requests(), b.requests());
        until("b serves on", || b.requests() > of_b + 20);
        assert_eq!(a.requests(), so_far);
    });
    assert!(served > 60, "{served}");
}

#[test]
fn a_removed_address_finishes_exchanges_and_loses_idle_connections() {
    let (server, gate) = (NameServer::start(), Arc::new(Gate::default()));
    let opened = Arc::clone(&gate);
    let a = Origin::start(move |wire, head| {
        if head.target() == "/slow" {
            opened.wait();
        }
        answer(wire, "a")
    });
    let b = Origin::named_beside("b", &a);
    server.addresses("api.test", 1, &ips([&a]));
    let evenly = Start::before(&[]).name(&at("api.test", &a), &server).workers(1).start();
    let (mut slow, mut client) = (evenly.client(), evenly.client());
    slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the slow one is there", || a.last_target() == "/slow");
    assert_eq!(client.get("/").text(), "a");
    server.addresses("api.test", 1, &ips([&b]));
    // The worker notices when it wakes.
    until("the idle connection is closed", || client.get("/").text() == "b" && a.ended() == 1);
    assert_eq!(a.connections(), 2);
    gate.open();
    assert_eq!(slow.response().text(), "a");
    until("the other one is closed too", || client.get("/").text() == "b" && a.ended() == 2);
}

#[test]
fn requests_alternate_over_the_addresses_of_a_name() {
    let (server, (a, b)) = (NameServer::start(), two());
    server.addresses("api.test", 60, &ips([&a, &b]));
    let evenly = before(&at("api.test", &a), &server);
    let mut client = evenly.client();
    for _ in 0..20 {
        assert_ne!(client.get("/").text(), client.get("/").text());
    }
    assert_eq!((a.requests(), b.requests()), (20, 20));
}

#[test]
fn a_name_is_asked_for_once_within_its_ttl_and_anew_after_it() {
    let (server, a) = (NameServer::start(), Origin::named("a"));
    server.addresses("api.test", 2, &ips([&a]));
    let evenly = before(&at("api.test", &a), &server);
    let mut client = evenly.client();
    while server.asked("api.test", RecordType::A).len() < 3 {
        assert_eq!(client.get("/").text(), "a");
    }
    for gap in server.gaps("api.test") {
        assert!(gap >= 2 * SECOND, "{gap:?}");
    }
}

#[test]
fn the_last_good_addresses_serve_on_when_dns_is_dead() {
    let (server, (a, b)) = (NameServer::start(), two());
    server.addresses("api.test", 1, &ips([&a, &b]));
    let evenly = before(&at("api.test", &a), &server);
    evenly.under_load(|| {
        server.set_mode(Mode::Fail(ResponseCode::ServFail));
        until("it fails", || evenly.logged("no longer resolves") == 1);
        drop(server);
        let so_far = (a.requests(), b.requests());
        until("both serve on", || a.requests() > so_far.0 + 50 && b.requests() > so_far.1 + 50);
    });
    assert_eq!(evenly.logged("no longer resolves"), 1);
    assert_eq!(evenly.logged("no longer has"), 0);
}

#[test]
fn silent_dns_delays_a_start_by_a_bounded_time() {
    let (server, a) = (NameServer::start(), Origin::named("a"));
    server.set_mode(Mode::Silent);
    server.addresses("api.test", 60, &ips([&a]));
    let begun = Instant::now();
    // It must listen within the harness's patience; the bound is 5 s and the longest probe timeout of 2 s.
    let evenly = before(&at("api.test", &a), &server);
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(evenly.client().get("/").status, 503);
    until("it says why", || evenly.logged("does not resolve: no name server responded") == 1);
    server.set_mode(Mode::Answer);
    let mut client = evenly.client();
    until("it is served", || client.get("/").status == 200);
}

#[test]
fn an_srv_name_is_an_endpoint_for_each_of_its_ports() {
    let server = NameServer::start();
    let (a, b) = two();
    let c = Origin::named("c");
    server.services(
        "_http._tcp.spells.test",
        1,
        &[(0, 1, a.address.port(), "one.test"), (0, 1, c.address.port(), "two.test")],
    );
    server.addresses("one.test", 1, &ips([&a, &b]));
    server.addresses("two.test", 1, &ips([&c]));
    let evenly = before("_http._tcp.spells.test", &server);
    let mut client = evenly.client();
    for _ in 0..30 {
        client.get("/");
    }
    assert_eq!((a.requests(), b.requests(), c.requests()), (10, 10, 10));
    server.services("_http._tcp.spells.test", 1, &[(0, 1, c.address.port(), "two.test")]);
    until("two have gone", || evenly.logged("no longer has") == 2);
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "c");
    }
}

#[test]
fn two_ports_of_one_host_are_two_endpoints_whose_probes_ask_for_the_domain() {
    let server = NameServer::start();
    let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [&listener, &other].map(|one| one.local_addr().unwrap().port());
    for one in [listener, other] {
        let seen = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in one.incoming() {
                let mut wire = crate::harness::Wire::new(stream.unwrap());
                while let Ok(head) = wire.head() {
                    seen.lock().unwrap().push(head.field("Host").unwrap_or_default().to_owned());
                    answer(&mut wire, "ok");
                }
            }
        });
    }
    let records = ports.map(|port| (0, 0, port, "host.test"));
    server.services("_http._tcp.spells.test", 60, &records);
    server.addresses("host.test", 60, &[[127, 0, 0, 1].into()]);
    let evenly = before("_http._tcp.spells.test", &server);
    until("both are up", || evenly.logged("is up: 200") == 2);
    assert!(heads.lock().unwrap().iter().all(|host| host == "spells.test"), "{heads:?}");
    until("it says so", || evenly.logged("healthy endpoints: 2 of 2") == 1);
}

#[test]
fn weights_and_priorities_of_srv_records_count_and_follow_dns() {
    let server = NameServer::start();
    let [a, b] = ["a", "b"].map(Origin::named);
    let records = |weights: [u16; 2], priorities: [u16; 2]| {
        let record = |at: usize, origin: &Origin, host: &'static str| {
            (priorities[at], weights[at], origin.address.port(), host)
        };
        [record(0, &a, "a.test"), record(1, &b, "b.test")]
    };
    server.addresses("a.test", 60, &ips([&a]));
    server.addresses("b.test", 60, &ips([&b]));
    server.services("_http._tcp.spells.test", 1, &records([3, 1], [0, 0]));
    let evenly = before("_http._tcp.spells.test", &server);
    let mut client = evenly.client();
    (0..40).for_each(|_| drop(client.get("/")));
    assert_eq!((a.requests(), b.requests()), (30, 10));
    server.services("_http._tcp.spells.test", 1, &records([3, 1], [1, 0]));
    let mut in_a_row = 0;
    until("b alone serves", || {
        in_a_row = if client.get("/").text() == "b" { in_a_row + 1 } else { 0 };
        in_a_row == 20
    });
    b.set_healthy(false);
    until("a takes over", || client.get("/").text() == "a");
}

#[test]
fn an_answer_too_long_for_udp_is_taken_over_tcp() {
    let (server, (a, b)) = (NameServer::start(), two());
    server.set_mode(Mode::Truncate);
    server.addresses("api.test", 60, &ips([&a, &b]));
    let evenly = before(&at("api.test", &a), &server);
    let mut client = evenly.client();
    assert_ne!(client.get("/").text(), client.get("/").text());
    let asked = server.asked("api.test", RecordType::A);
    assert!(asked.iter().any(|one| one.tcp), "{asked:?}");
}

#[test]
fn a_program_without_names_has_no_thread_for_them() {
    let a = Origin::named("a");
    let threads = |evenly: &Evenly| -> Vec<String> {
        let tasks = evenly.proc_entries("task");
        tasks.iter().map(|task| evenly.proc(&format!("{task}/comm")).trim().to_owned()).collect()
    };
    let plain = Evenly::before(&[&a]);
    assert!(
        !threads(&plain).iter().any(|name| name.starts_with("health-")),
        "{:?}",
        threads(&plain)
    );
    let server = NameServer::start();
    server.addresses("api.test", 60, &ips([&a]));
    let named = before(&at("api.test", &a), &server);
    let resolving = threads(&named).iter().filter(|name| name.starts_with("health-")).count();
    assert_eq!(resolving, 1, "{:?}", threads(&named));
    assert_eq!(Client::to(named.address()).get("/").text(), "a");
}
