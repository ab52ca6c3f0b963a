//! Names against a real name server: what is asked and when, which answers become endpoints, and what is kept when
//! there is none. Requests through the program as it is built are in tests/e2e.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, but not in what tests are made of

mod nameserver;
mod watched;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use evenly::balance::Shared;
use evenly::base::address::Address;
use evenly::health::Health;
use evenly::settings::{Dns, HealthCheck, Plan, Target, TargetAddress, TargetState};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use nameserver::{Mode, NameServer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use watched::{capture_log, lines_with, until, until_line};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// A loopback address that nobody else in this process has.
fn own_ip() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 50 + (std::process::id() % 150) as u8, 100 + high, low + 1).into()
}

/// Where the kernel takes connections, which is all a probe wants, on a port of so many addresses.
fn listeners(count: usize) -> (Vec<TcpListener>, Vec<IpAddr>, u16) {
    let first = TcpListener::bind((own_ip(), 0)).unwrap();
    let port = first.local_addr().unwrap().port();
    let mut all = vec![first];
    all.extend((1..count).map(|_| TcpListener::bind((own_ip(), port)).unwrap()));
    let mut ips: Vec<IpAddr> = all.iter().map(|one| one.local_addr().unwrap().ip()).collect();
    ips.sort();
    (all, ips, port)
}

fn check() -> HealthCheck {
    HealthCheck { interval: 200 * MS, timeout: 5 * SECOND, ..HealthCheck::default() }
}

fn name(host: &str, port: u16) -> Target {
    Target {
        address: TargetAddress::Name { host: host.into(), port },
        health: check(),
        state: TargetState::Auto,
    }
}

fn service(name: &str) -> Target {
    Target {
        address: TargetAddress::Service(name.into()),
        health: check(),
        state: TargetState::Auto,
    }
}

struct Watch {
    _health: Health,
    shared: Arc<Shared>,
}

impl Watch {
    fn start(targets: Vec<Target>, server: &NameServer) -> Watch {
        Watch::asking(targets, vec![server.address])
    }

    fn asking(targets: Vec<Target>, servers: Vec<SocketAddr>) -> Watch {
        capture_log();
        let shared = Arc::new(Shared::default());
        let plan = Arc::new(Plan { targets, ..Plan::default() });
        let health = Health::start(plan, Dns { servers }, Arc::clone(&shared)).unwrap();
        Watch { _health: health, shared }
    }

    fn healthy(&self) -> usize {
        self.shared.snapshot.load().healthy_count()
    }

    fn places(&self) -> Vec<SocketAddr> {
        let snapshot = self.shared.snapshot.load();
        let place = |address: &Address| match address {
            Address::Ip(address) => *address,
            Address::Unix(path) => panic!("unix:{path} is none of them"),
        };
        snapshot.endpoints().iter().map(|endpoint| place(&endpoint.address)).collect()
    }

    #[track_caller]
    fn until_at(&self, ips: &[IpAddr], port: u16) {
        let expected: Vec<_> = ips.iter().map(|&ip| SocketAddr::new(ip, port)).collect();
        until(&format!("{expected:?}"), || self.places() == expected);
    }
}

fn v6(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The IPv6 loopback on this port, open; `None` on a machine without IPv6.
fn six(port: u16) -> Option<(TcpListener, IpAddr)> {
    let ip = v6("::1");
    let open = TcpListener::bind((ip, port));
    if open.is_err() {
        eprintln!("skipped: there is no IPv6 here");
    }
    Some((open.ok()?, ip))
}

#[test]
fn every_address_of_both_families_is_an_endpoint_and_one_family_has_the_turns() {
    let (server, (_open, mut ips, port)) = (NameServer::start(), listeners(2));
    let Some((_six, ip)) = six(port) else { return };
    ips.push(ip);
    server.addresses("both.test", 60, &ips);
    let watch = Watch::start(vec![name("both.test", port)], &server);
    watch.until_at(&ips, port);
    until("all healthy", || watch.healthy() == 3);
    let snapshot = watch.shared.snapshot.load();
    for turn in 0..6 {
        let address = &snapshot.turn_at(turn).unwrap().address;
        assert_eq!(*address, Address::Ip(SocketAddr::new(ips[turn % 2], port)));
    }
}

#[test]
fn a_family_in_which_nobody_listens_is_not_missed() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.addresses("four.test", 60, &[ips[0], v6("::1")]);
    let watch = Watch::start(vec![name("four.test", port)], &server);
    watch.until_at(&ips, port);
    until("up", || watch.healthy() == 1);
    assert_eq!(
        lines_with("target four.test").iter().filter(|line| line.contains("down")).count(),
        0
    );
    assert_eq!(watch.places().len(), 1);
}

#[test]
fn a_server_that_does_not_know_edns_is_asked_without_it_and_remembered() {
    let refusals = [ResponseCode::FormErr, ResponseCode::NotImp].map(Mode::Fail);
    for mode in refusals.into_iter().chain([Mode::Silent]) {
        let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
        server.set_edns(mode);
        server.addresses("old.test", 1, &ips);
        let watch = Watch::start(vec![name("old.test", port)], &server);
        until("up", || watch.healthy() == 1);
        let plain = || server.asked("old.test", RecordType::A).iter().filter(|it| !it.edns).count();
        until("asked again and again", || plain() >= 4);
        let asked = server.asked("old.test", RecordType::A);
        let last = asked.iter().rposition(|it| it.edns).unwrap();
        assert!(asked.len() - last >= 3, "{mode:?}: {asked:?}");
        assert_eq!(
            lines_with("target old.test").iter().filter(|it| it.contains("part")).count(),
            0
        );
    }
}

#[test]
fn a_server_that_knows_edns_is_asked_with_it_alone() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.addresses("new.test", 1, &ips);
    let _watch = Watch::start(vec![name("new.test", port)], &server);
    until("asked three times", || server.asked("new.test", RecordType::A).len() >= 3);
    let asked = server.asked("new.test", RecordType::A);
    // On a machine so busy that an answer takes half a second it is asked both ways.
    assert!(
        asked[0].edns && asked.iter().filter(|it| it.edns).count() * 2 >= asked.len(),
        "{asked:?}"
    );
}

#[test]
fn a_family_that_nobody_answers_for_delays_no_start() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.addresses("half.test", 60, &ips);
    server.except("half.test", Some(RecordType::AAAA), Mode::Silent);
    server.services("_http._tcp.half.test", 60, &[(0, 1, port, "half.test")]);
    for target in [name("half.test", port), service("_http._tcp.half.test")] {
        let watch = Watch::start(vec![target], &server);
        let begun = Instant::now();
        until("up", || watch.healthy() == 1);
        // Its time is over after 4 s.
        assert!(begun.elapsed() < 3 * SECOND, "{:?}", begun.elapsed());
        watch.until_at(&ips, port);
    }
}

#[test]
fn records_of_names_that_were_not_asked_for_do_not_count() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(2));
    server.add_unasked("bank.test", ips[1]);
    server.addresses("mine.test", 1, &ips[..1]);
    server.alias("other.test", 1, "mine.test");
    let watch = Watch::start(vec![name("mine.test", port), name("other.test", port)], &server);
    let only = [ips[0], ips[0]].map(|ip| SocketAddr::new(ip, port));
    until("both", || watch.places() == only);
    until("asked again", || server.asked("mine.test", RecordType::A).len() >= 3);
    assert_eq!(watch.places(), only);
}

#[test]
fn a_name_is_asked_for_again_when_its_ttl_ends_and_not_before() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.addresses("ttl.test", 2, &ips);
    let watch = Watch::start(vec![name("ttl.test", port)], &server);
    until("three lookups", || server.asked("ttl.test", RecordType::A).len() >= 3);
    assert!(
        server.gaps("ttl.test").iter().all(|gap| *gap >= 2 * SECOND),
        "{:?}",
        server.gaps("ttl.test")
    );
    assert_eq!(watch.healthy(), 1);
}

/// Lowers this process's descriptor limit, so it runs in a process of its own: the same test, started again.
#[test]
fn without_a_descriptor_for_a_lookup_nothing_is_said_of_the_name() {
    const ALONE: &str = "EVENLY_TEST_STARVE";
    if std::env::var_os(ALONE).is_some() {
        return starve();
    }
    let this = "without_a_descriptor_for_a_lookup_nothing_is_said_of_the_name";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn starve() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.addresses("kept.test", 1, &ips);
    let watch = Watch::start(vec![name("kept.test", port)], &server);
    until("it is up", || watch.healthy() == 1);
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
    until_line("name lookups paused, and addresses stay: Too many open files");
    let asked = server.asked("kept.test", RecordType::A).len();
    setrlimit(Resource::Nofile, before).unwrap();
    until_line("name lookups resumed");
    until("it is asked again", || server.asked("kept.test", RecordType::A).len() > asked + 1);
    watch.until_at(&ips, port);
    assert_eq!(lines_with("lookups paused").len(), 1, "logged once");
    assert_eq!(lines_with("resolve"), [""; 0], "nothing of the name");
}

#[test]
fn a_ttl_of_zero_is_a_second() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.addresses("zero.test", 0, &ips);
    let _watch = Watch::start(vec![name("zero.test", port)], &server);
    until("two lookups", || server.asked("zero.test", RecordType::A).len() >= 2);
    assert!(server.gaps("zero.test")[0] >= SECOND, "{:?}", server.gaps("zero.test"));
}

#[test]
fn the_least_ttl_of_an_alias_and_its_addresses_counts() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.alias("alias.test", 1, "real.test");
    server.addresses("real.test", 3600, &ips);
    let watch = Watch::start(vec![name("alias.test", port)], &server);
    watch.until_at(&ips, port);
    until("it is asked again", || server.asked("alias.test", RecordType::A).len() >= 2);
}

#[test]
fn aliases_are_followed_whatever_is_asked_for_and_however_the_server_answers() {
    let settings: [fn(&NameServer); 4] =
        [|_| {}, NameServer::set_curt, NameServer::set_backwards, NameServer::set_generous];
    for (nth, set) in settings.iter().enumerate() {
        let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
        set(&server);
        for (alias, real) in [("a.test", "b.test"), ("b.test", "c.test"), ("c.test", "host.test")] {
            server.alias(alias, 60, real);
            server.alias(&format!("_http._tcp.{alias}"), 60, &format!("_http._tcp.{real}"));
        }
        server.addresses("host.test", 60, &ips);
        server.services("_http._tcp.host.test", 60, &[(1, 1, port, "host.test")]);
        for target in [name("a.test", port), service("_http._tcp.a.test")] {
            let shown = format!("{nth}: {:?}", target.address);
            let watch = Watch::start(vec![target], &server);
            until(&shown, || watch.healthy() == 1);
            watch.until_at(&ips, port);
        }
        let hosts = server.asked("_http._tcp.host.test", RecordType::SRV).len();
        assert_eq!(hosts > 0, nth == 1, "only what an answer does not have is asked for");
        assert!(server.asked("host.test", RecordType::SRV).is_empty());
    }
}

#[test]
fn aliases_that_lead_nowhere_are_not_followed_forever() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.set_curt();
    server.alias("_http._tcp.loop.test", 60, "_http._tcp.back.test");
    server.alias("_http._tcp.back.test", 60, "_http._tcp.loop.test");
    (0..20).for_each(|n| server.alias(&format!("n{n}.test"), 60, &format!("n{}.test", n + 1)));
    server.addresses("n20.test", 60, &ips);
    let targets = vec![service("_http._tcp.loop.test"), name("n0.test", port)];
    let watch = Watch::start(targets, &server);
    for target in ["_http._tcp.loop.test".to_owned(), format!("n0.test:{port}")] {
        until_line(&format!(
            "target {target} is down: it does not resolve: its aliases lead to no such record"
        ));
    }
    assert_eq!(watch.healthy(), 0);
    assert!(!server.asked("n7.test", RecordType::A).is_empty(), "eight questions");
    assert!(server.asked("n8.test", RecordType::A).is_empty());
}

#[test]
fn addresses_come_and_go_with_the_name() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(3));
    server.addresses("moves.test", 1, &ips[..1]);
    let watch = Watch::start(vec![name("moves.test", port)], &server);
    until("one", || watch.healthy() == 1);
    server.addresses("moves.test", 1, &ips);
    until("three", || watch.healthy() == 3);
    server.addresses("moves.test", 1, &ips[1..2]);
    watch.until_at(&ips[1..2], port);
}

#[test]
fn the_last_good_addresses_stay_whatever_servers_answer_and_that_is_told_once() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(2));
    server.addresses("kept.test", 1, &ips);
    let watch = Watch::start(vec![name("kept.test", port)], &server);
    until("both", || watch.healthy() == 2);
    let modes = [Mode::Fail(ResponseCode::ServFail), Mode::Fail(ResponseCode::Refused)];
    for mode in modes.into_iter().chain([Mode::Silent]) {
        server.set_mode(mode);
        let so_far = server.asked("kept.test", RecordType::A).len();
        until("it is asked again", || server.asked("kept.test", RecordType::A).len() > so_far + 3);
        watch.until_at(&ips, port);
        assert_eq!(watch.healthy(), 2, "{mode:?}");
    }
    assert_eq!(lines_with("target kept.test:").len(), 3, "two are up, and one that it fails");
    server.set_mode(Mode::Answer);
    until_line(&format!("target kept.test:{port} resolves again; addresses: 2"));
}

#[test]
fn a_name_that_is_gone_keeps_its_addresses_for_a_while() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.addresses("gone.test", 1, &ips);
    let watch = Watch::start(vec![name("gone.test", port)], &server);
    until("up", || watch.healthy() == 1);
    server.remove("gone.test");
    until_line(&format!(
        "target gone.test:{port} no longer resolves: the name does not exist; addresses kept: 1"
    ));
    assert_eq!(watch.healthy(), 1);
    server.addresses("gone.test", 1, &ips);
    until_line(&format!("target gone.test:{port} resolves again"));
}

#[test]
fn a_name_that_did_not_exist_is_found_when_its_negative_ttl_ends() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.set_negative_ttl(2);
    let watch = Watch::start(vec![name("later.test", port)], &server);
    until_line(&format!(
        "target later.test:{port} is down: it does not resolve: the name does not exist"
    ));
    server.addresses("later.test", 60, &ips);
    until("up", || watch.healthy() == 1);
    assert!(server.gaps("later.test")[0] >= 2 * SECOND, "{:?}", server.gaps("later.test"));
}

#[test]
fn a_family_whose_lookup_fails_keeps_its_addresses() {
    let (server, (_open, mut ips, port)) = (NameServer::start(), listeners(2));
    let Some((_six, ip)) = six(port) else { return };
    ips.push(ip);
    server.addresses("part.test", 1, &ips);
    let watch = Watch::start(vec![name("part.test", port)], &server);
    watch.until_at(&ips, port);
    server.except("part.test", Some(RecordType::AAAA), Mode::Fail(ResponseCode::ServFail));
    server.addresses("part.test", 1, &ips[1..2]);
    until_line(&format!(
        "target part.test:{port} resolves only partially: the name server returned"
    ));
    watch.until_at(&ips[1..], port);
    server.except("part.test", Some(RecordType::AAAA), Mode::Answer);
    watch.until_at(&ips[1..2], port);
}

#[test]
fn a_silent_family_leaves_the_other_one_unaffected() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.addresses("a.test", 60, &ips);
    server.except("a.test", Some(RecordType::AAAA), Mode::Silent);
    server.services("_http._tcp.slow.test", 60, &[(0, 1, port, "a.test")]);
    server.except("_http._tcp.slow.test", None, Mode::Silent);
    let watch = Watch::start(vec![service("_http._tcp.slow.test")], &server);
    // Answered late, it leaves less time than what is asked next would take to be given up.
    let asked = || server.asked("_http._tcp.slow.test", RecordType::SRV).len();
    until("asked again", || asked() >= 2);
    server.except("_http._tcp.slow.test", None, Mode::Answer);
    watch.until_at(&ips, port);
    assert_eq!(lines_with("_http._tcp.slow.test is down").len(), 0);
}

#[test]
fn a_truncated_answer_is_asked_for_over_tcp() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(2));
    server.set_mode(Mode::Truncate);
    server.addresses("long.test", 1, &ips);
    let watch = Watch::start(vec![name("long.test", port)], &server);
    watch.until_at(&ips, port);
    assert!(server.asked("long.test", RecordType::A).iter().any(|asked| asked.tcp));
}

#[test]
fn another_server_answers_for_a_dead_and_for_a_silent_one() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    let (dead, silent) = (NameServer::start().address, NameServer::start());
    silent.set_mode(Mode::Silent);
    server.addresses("one-of-three.test", 1, &ips);
    let servers = vec![dead, silent.address, server.address];
    let watch = Watch::asking(vec![name("one-of-three.test", port)], servers);
    until("up", || watch.healthy() == 1);
}

/// As where a company's own server comes first, and one of the whole world second.
#[test]
fn an_answer_of_the_first_server_outweighs_nxdomain_of_the_second() {
    let (own, (_open, ips, port)) = (NameServer::start(), listeners(1));
    let other = NameServer::start();
    own.addresses("order.test", 1, &ips);
    let servers = vec![own.address, other.address];
    let watch = Watch::asking(vec![name("order.test", port)], servers);
    until("asked often", || own.asked("order.test", RecordType::A).len() >= 3);
    assert_eq!(watch.places(), [SocketAddr::new(ips[0], port)]);
    assert_eq!(lines_with("order.test").iter().filter(|it| it.contains("exist")).count(), 0);
}

#[test]
fn nxdomain_of_the_second_server_counts_only_after_the_first_failed() {
    let (own, (_open, ips, port)) = (NameServer::start(), listeners(1));
    let other = NameServer::start();
    own.addresses("slow.test", 1, &ips);
    own.set_mode(Mode::Silent);
    let servers = vec![own.address, other.address];
    let watch = Watch::asking(vec![name("slow.test", port)], servers);
    until("the second is asked too", || !other.asked("slow.test", RecordType::A).is_empty());
    own.set_mode(Mode::Answer);
    until("up", || watch.healthy() == 1);
    assert_eq!(lines_with("slow.test").iter().filter(|it| it.contains("exist")).count(), 0);
}

#[test]
fn a_server_that_answers_an_error_passes_the_question_on() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp] {
        let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
        let failing = NameServer::start();
        failing.set_mode(Mode::Fail(code));
        let host = format!("{}.test", u16::from(code));
        server.addresses(&host, 60, &ips);
        let servers = vec![failing.address, server.address];
        let watch = Watch::asking(vec![name(&host, port)], servers);
        until("up", || watch.healthy() == 1);
        assert_eq!(lines_with(&host).iter().filter(|it| it.contains("resolve")).count(), 0);
    }
}

#[test]
fn names_that_nobody_answers_delay_no_other() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    let mut targets = Vec::new();
    for number in 0..40 {
        let silent = format!("silent-{number}.test");
        server.except(&silent, None, Mode::Silent);
        targets.push(name(&silent, port));
    }
    server.addresses("quick.test", 1, &ips);
    targets.push(name("quick.test", port));
    let watch = Watch::start(targets, &server);
    let begun = Instant::now();
    until("up", || watch.healthy() == 1);
    until("looked up again", || server.asked("quick.test", RecordType::A).len() >= 3);
    // Behind one another, the silent ones would take four seconds each.
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn each_srv_record_is_an_endpoint_with_its_port() {
    for generous in [false, true] {
        let (server, (_open, ips, one)) = (NameServer::start(), listeners(1));
        let second = TcpListener::bind((ips[0], 0)).unwrap();
        let other = second.local_addr().unwrap().port();
        if generous {
            server.set_generous();
        }
        server.services(
            "_http._tcp.srv.test",
            60,
            &[(1, 1, one, "h.test"), (1, 3, other, "h.test")],
        );
        server.addresses("h.test", 60, &ips);
        let watch = Watch::start(vec![service("_http._tcp.srv.test")], &server);
        until("both", || watch.healthy() == 2);
        let ports: Vec<u16> = watch.places().iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [one.min(other), one.max(other)]);
        let of_host = server.asked("h.test", RecordType::A).len();
        assert_eq!(of_host, usize::from(!generous), "what was brought along is not asked for");
    }
}

#[test]
fn the_least_ttl_of_srv_records_and_their_hosts_counts() {
    for (of_service, of_host) in [(1, 3600), (3600, 1)] {
        let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
        server.services("_http._tcp.t.test", of_service, &[(0, 0, port, "h.test")]);
        server.addresses("h.test", of_host, &ips);
        let watch = Watch::start(vec![service("_http._tcp.t.test")], &server);
        watch.until_at(&ips, port);
        until("asked again", || server.asked("_http._tcp.t.test", RecordType::SRV).len() >= 2);
    }
}

#[test]
fn a_host_of_an_srv_record_that_nobody_knows_takes_nothing_away() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(2));
    server.services("_http._tcp.p.test", 1, &[(0, 1, port, "a.test"), (0, 1, port, "b.test")]);
    server.addresses("a.test", 1, &ips[..1]);
    server.addresses("b.test", 1, &ips[1..]);
    let watch = Watch::start(vec![service("_http._tcp.p.test")], &server);
    watch.until_at(&ips, port);
    server.except("b.test", None, Mode::Fail(ResponseCode::ServFail));
    until_line(
        "target _http._tcp.p.test resolves only partially: b.test. the name server returned",
    );
    watch.until_at(&ips, port);
    server.services("_http._tcp.p.test", 1, &[(0, 1, port, "a.test")]);
    watch.until_at(&ips[..1], port);
}

#[test]
fn a_service_that_is_not_available_has_no_endpoint() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    server.services("_http._tcp.off.test", 1, &[(0, 1, port, "h.test")]);
    server.addresses("h.test", 1, &ips);
    let watch = Watch::start(vec![service("_http._tcp.off.test")], &server);
    until("up", || watch.healthy() == 1);
    server.services("_http._tcp.off.test", 1, &[(0, 0, 0, ".")]);
    until("withdrawn", || watch.places().is_empty());
    until_line(
        "target _http._tcp.off.test is gone from DNS: its SRV record says that the service is not available",
    );
    server.services("_http._tcp.off.test", 1, &[(0, 1, port, "h.test")]);
    until("back", || watch.healthy() == 1);
}

#[test]
fn records_that_lead_nowhere_are_left_out() {
    let (server, (_open, ips, port)) = (NameServer::start(), listeners(1));
    let records =
        [(0, 1, 0, "h.test"), (0, 1, port, "."), (0, 1, port, "none.test"), (0, 1, port, "h.test")];
    server.services("_http._tcp.odd.test", 60, &records);
    let nowhere = [v6("::"), IpAddr::from([0, 0, 0, 0]), IpAddr::from([224, 0, 0, 1])];
    server.addresses("h.test", 60, &[&ips[..], &nowhere].concat());
    let watch = Watch::start(vec![service("_http._tcp.odd.test")], &server);
    watch.until_at(&ips, port);
    until("up", || watch.healthy() == 1);
}

#[test]
fn the_system_knows_localhost() {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = open.local_addr().unwrap().port();
    let watch = Watch::asking(vec![name("localhost", port)], Vec::new());
    until("up", || watch.healthy() == 1);
}
