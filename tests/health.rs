//! The health thread against real sockets: who is probed how often, what counts as up and down, how
//! fast a snapshot follows, and what names do.
//!
//! Every origin has a loopback address of its own, so that a port which one test closes is never
//! opened again by another.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, but not in what tests are made of

mod watched;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use evenly::balance::{Endpoint, EndpointId, EndpointState, Report, Shared, Snapshot, Streak};
use evenly::base::address::Address;
use evenly::health::Health;
use evenly::settings::{
    Ejection, HealthCheck, Plan, StatusRanges, Target, TargetAddress, TargetState,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use socket2::{Domain, Socket, Type};
use watched::{capture_log, lines_with, until, until_line};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A loopback address no other origin of this process has.
fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 50 + (std::process::id() % 150) as u8, high, low + 1)
}

#[derive(Clone, Copy)]
enum Behaviour {
    Answer(&'static [u8]),
    /// Answers that after a tenth of a second.
    Late(&'static [u8]),
    /// Accepts and says nothing, holding the connection.
    Hang,
    /// A byte of a head each 10 ms, without end.
    Drip,
    /// Closes without an answer.
    Close,
}

#[derive(Clone)]
struct Hit {
    at: Instant,
    local: SocketAddr,
    request: String,
}

/// A server that can be told how to behave, and that remembers who asked what and when.
struct Origin {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    hits: Arc<Mutex<Vec<Hit>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    fn start(behaviour: Behaviour) -> Origin {
        Origin::at(SocketAddr::from((own_ip(), 0)), behaviour)
    }

    fn at(address: SocketAddr, behaviour: Behaviour) -> Origin {
        let listener = listener(address);
        let mut origin = Origin {
            address: listener.local_addr().unwrap(),
            behaviour: Arc::new(Mutex::new(behaviour)),
            hits: Arc::default(),
            stop: Arc::default(),
            thread: None,
        };
        let (behaviour, hits, stop) =
            (Arc::clone(&origin.behaviour), Arc::clone(&origin.hits), Arc::clone(&origin.stop));
        origin.thread = Some(thread::spawn(move || serve(&listener, &behaviour, &hits, &stop)));
        origin
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn hits(&self) -> Vec<Hit> {
        self.hits.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.hits.lock().unwrap().len()
    }
}

/// A listener whose backlog holds a burst of a thousand probes.
fn listener(address: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(4096).unwrap();
    socket.into()
}

/// Dropping an origin closes its port and everything it holds: the next connect is refused.
impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let port = self.address.port();
        let reach = if self.address.ip().is_unspecified() {
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        } else {
            self.address
        };
        let _ = TcpStream::connect(reach);
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(
    listener: &TcpListener,
    behaviour: &Mutex<Behaviour>,
    hits: &Mutex<Vec<Hit>>,
    stop: &Arc<AtomicBool>,
) {
    let mut held = Vec::new();
    while let Ok((mut stream, _)) = accept(listener, stop) {
        let behaviour = *behaviour.lock().unwrap();
        let (at, local) = (Instant::now(), stream.local_addr().unwrap());
        let answers = matches!(behaviour, Behaviour::Answer(_) | Behaviour::Late(_));
        let request = if answers { read_head(&mut stream) } else { String::new() };
        hits.lock().unwrap().push(Hit { at, local, request });
        match behaviour {
            Behaviour::Answer(bytes) => drop(stream.write_all(bytes)),
            Behaviour::Late(bytes) => {
                thread::sleep(100 * MS);
                drop(stream.write_all(bytes));
            }
            Behaviour::Hang => held.push(stream),
            Behaviour::Drip => drip(stream, Arc::clone(stop)),
            Behaviour::Close => {}
        }
    }
}

/// The next connection; an error when the origin is to stop. Sits out a lack of descriptors.
fn accept(listener: &TcpListener, stop: &AtomicBool) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        let accepted = listener.accept();
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        match accepted {
            Ok(accepted) => return Ok(accepted),
            Err(_) => thread::sleep(MS),
        }
    }
}

/// What a client sent up to the end of its head, or of its connection.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => head.extend_from_slice(&chunk[..count]),
        }
    }
    String::from_utf8(head).unwrap()
}

fn drip(mut stream: TcpStream, stop: Arc<AtomicBool>) {
    thread::spawn(move || {
        let head = b"HTTP/1.1 200 OK\r\nA: ".iter().chain(std::iter::repeat(&b'a'));
        for byte in head {
            if stop.load(Ordering::Relaxed) || stream.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(10 * MS);
        }
    });
}

/// An HTTP check of `/healthz`, often and with patience, of which one failure counts.
fn check() -> HealthCheck {
    HealthCheck {
        endpoint: Some("/healthz".into()),
        interval: 50 * MS,
        timeout: Duration::from_secs(5),
        fall: 1,
        ..HealthCheck::default()
    }
}

/// Where an endpoint of these tests is.
fn socket_of(endpoint: &Endpoint) -> SocketAddr {
    match &endpoint.address {
        Address::Ip(address) => *address,
        Address::Unix(path) => panic!("unix:{path} is none of them"),
    }
}

fn at(address: SocketAddr, health: HealthCheck) -> Target {
    Target { address: TargetAddress::Ip(address), health, state: TargetState::Auto }
}

fn name(host: &str, health: HealthCheck) -> Target {
    Target {
        address: TargetAddress::Name { host: host.into(), port: 80 },
        health,
        state: TargetState::Auto,
    }
}

/// A running health thread and what it publishes.
struct Watch {
    health: Health,
    shared: Arc<Shared>,
}

impl Watch {
    fn start(targets: Vec<Target>) -> Watch {
        Watch::resolving(targets, |_, _| Err(io::Error::other("no name is known")))
    }

    fn ejecting(targets: Vec<Target>, ejection: Ejection) -> Watch {
        Watch::with(targets, ejection, |_, _| Err(io::Error::other("no name is known")))
    }

    fn resolving(
        targets: Vec<Target>,
        resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Watch {
        Watch::with(targets, Ejection::default(), resolve)
    }

    fn with(
        targets: Vec<Target>,
        ejection: Ejection,
        resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Watch {
        capture_log();
        raise_descriptor_limit();
        let shared = Arc::new(Shared::default());
        let plan = Arc::new(Plan { targets, ejection, ..Plan::default() });
        let health = Health::start_with(plan, Arc::clone(&shared), resolve).unwrap();
        Watch { health, shared }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    fn healthy(&self) -> usize {
        self.snapshot().healthy_count()
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.snapshot().endpoints().iter().map(socket_of).collect()
    }

    fn id(&self, address: SocketAddr) -> EndpointId {
        let snapshot = self.snapshot();
        snapshot.endpoints().iter().find(|endpoint| socket_of(endpoint) == address).unwrap().id
    }

    fn state(&self, address: SocketAddr) -> EndpointState {
        self.snapshot().endpoint(self.id(address)).unwrap().state
    }

    /// Reports, as a worker does, that the endpoint failed five times in a row.
    fn report_streak(&self, address: SocketAddr) {
        self.health.reporter().report(self.id(address), Report::Streak(Streak::Replayed, 5));
    }

    #[track_caller]
    fn first_round(&self) {
        assert!(self.health.wait_first_round(Duration::from_secs(10)), "the first round ends");
    }
}

/// Tests that run together in this process hold more than the usual 1,024 descriptors.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

#[test]
fn the_first_snapshot_has_every_endpoint_and_none_healthy() {
    let origins = [Origin::start(Behaviour::Hang), Origin::start(Behaviour::Hang)];
    let watch = Watch::start(origins.iter().map(|o| at(o.address, check())).collect());
    assert_eq!(watch.addresses(), [origins[0].address, origins[1].address]);
    assert_eq!(watch.healthy(), 0);
    assert!(!watch.health.wait_first_round(Duration::ZERO));
}

#[test]
fn the_first_round_ends_with_every_verdict_published_and_told() {
    let good = Origin::start(Behaviour::Answer(OK));
    let dead = Origin::start(Behaviour::Close).address;
    // Neither interval nor rise keeps a start waiting.
    let slow = HealthCheck { interval: HOUR, rise: 5, ..check() };
    let watch = Watch::start(vec![at(dead, slow.clone()), at(good.address, slow)]);
    watch.first_round();
    assert_eq!(watch.healthy(), 1);
    assert_eq!(socket_of(watch.snapshot().turn_at(0).unwrap()), good.address);
    let up = until_line(&format!("target {0} ({0}) is up: 200 in ", good.address));
    assert!(up.contains("ms; healthy endpoints: 1"), "{up}");
    let down = until_line(&format!("target {dead} ({dead}) is down: connect refused"));
    assert!(down.contains("; healthy endpoints: "), "{down}");
    until_line("healthy endpoints: 1 of 2");
}

#[test]
fn a_plan_without_an_old_target_leaves_it_its_requests_until_a_new_name_was_looked_up_and_checked()
{
    let [old, new] = [(); 2].map(|()| Origin::start(Behaviour::Answer(OK)));
    let (answer, answers) = crossbeam::channel::bounded::<io::Result<SocketAddr>>(1);
    let watch = Watch::resolving(vec![at(old.address, check())], move |_, _| {
        let answer = answers.recv().unwrap_or_else(|_| Err(io::Error::other("the test is over")));
        answer.map(|address| vec![address])
    });
    watch.first_round();
    let plan = Plan { targets: vec![name("new", check())], ..Plan::default() };
    let generation = watch.health.follow(Arc::new(plan)).unwrap();
    assert!(watch.snapshot().generation >= generation);
    // Turns of the thread by which it would have gone.
    let before = old.count();
    until("it is checked again", || old.count() > before + 1);
    assert_eq!((watch.addresses(), watch.healthy()), (vec![old.address], 1));
    answer.send(Ok(new.address)).unwrap();
    until("the new one has taken its place", || {
        assert_eq!(watch.healthy().min(1), 1, "somebody is healthy all the time");
        watch.addresses() == [new.address]
    });
    assert_eq!(watch.healthy(), 1);
    drop(answer);
}

#[test]
fn a_closed_target_is_back_within_an_interval_of_its_return() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let address = origin.address;
    let interval = 500 * MS;
    let watch = Watch::start(vec![at(address, HealthCheck { interval, ..check() })]);
    watch.first_round();
    assert_eq!(watch.healthy(), 1);
    drop(origin);
    until("down", || watch.healthy() == 0);
    until_line(&format!("({address}) is down: connect refused; healthy endpoints: 0"));
    let origin = Origin::at(address, Behaviour::Answer(OK));
    let back = Instant::now();
    until("up again", || watch.healthy() == 1);
    // One probe is enough, and on a machine so busy that another one was due, that one too.
    let due = 1 + (back.elapsed().as_millis() / interval.as_millis()) as usize;
    assert!((1..=due).contains(&origin.count()), "{} of {due}", origin.count());
}

#[test]
fn with_nothing_healthy_a_return_is_seen_at_once_whatever_the_interval() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let address = origin.address;
    let health = HealthCheck { interval: HOUR, fall: 3, ..check() };
    let watch = Watch::start(vec![at(address, health)]);
    watch.first_round();
    drop(origin);
    watch.health.reporter().report(watch.id(address), Report::ConnectRefused);
    until("down", || watch.healthy() == 0);
    let origin = Origin::at(address, Behaviour::Answer(OK));
    until("up again", || watch.healthy() == 1);
    let probes = origin.count();
    thread::sleep(600 * MS);
    // The one of its return, and one that was due by then.
    assert!(origin.count() <= probes + 2, "{} and {probes}", origin.count());
}

#[test]
fn the_last_one_is_kept_while_it_serves_requests_and_its_checks_only_fail() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let address = origin.address;
    let watch = Watch::start(vec![at(address, HealthCheck { fall: 3, ..check() })]);
    watch.first_round();
    let snapshot = watch.snapshot();
    let served = || snapshot.endpoints()[0].served.mark();
    served();
    origin.behave(Behaviour::Answer(b"HTTP/1.1 503 No\r\n\r\n"));
    let kept = until_line(&format!("({address}) is kept although its health checks fail"));
    assert!(kept.contains("unexpected status 503; healthy endpoints: 1"), "{kept}");
    let probes = origin.count();
    until("more probes fail", || {
        served();
        origin.count() > probes + 5
    });
    assert_eq!(watch.healthy(), 1);
    origin.behave(Behaviour::Answer(OK));
    until_line(&format!("({address}) is passing its health checks again: 200 in "));
    served();
    drop(origin);
    until("nobody listens there any longer", || watch.healthy() == 0);
}

#[test]
fn a_streak_of_timeouts_is_believed_only_if_a_check_fails_too() {
    let (origins, watch) = answering(2, HOUR, Ejection::default());
    let address = origins[0].address;
    let report = || {
        let failure = Report::Streak(Streak::Timeouts, 5);
        watch.health.reporter().report(watch.id(address), failure);
    };
    report();
    until("its check", || origins[0].count() == 2);
    assert_eq!(watch.state(address), EndpointState::Up);
    assert_eq!(lines_with(&format!("({address}) is ejected")).len(), 0);
    origins[0].behave(Behaviour::Answer(b"HTTP/1.1 503 No\r\n\r\n"));
    report();
    until("out", || watch.state(address) != EndpointState::Up);
}

#[test]
fn what_is_not_an_expected_answer_is_down_and_says_why() {
    for (behaviour, reason) in [
        (Behaviour::Answer(b"HTTP/1.1 503 No\r\n\r\n"), "unexpected status 503"),
        (Behaviour::Answer(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), "unexpected status 302"),
        (
            Behaviour::Answer(b"SSH-2.0-OpenSSH_9.2\r\n"),
            "the response is not valid: Malformed status line.",
        ),
        (
            Behaviour::Answer(b"\x15\x03\x01\x00\x02\x02\x46"),
            "the response is not valid: The target speaks TLS",
        ),
        (Behaviour::Close, "connection "),
    ] {
        let origin = Origin::start(behaviour);
        let watch = Watch::start(vec![at(origin.address, check())]);
        watch.first_round();
        assert_eq!(watch.healthy(), 0);
        until_line(&format!("({}) is down: {reason}", origin.address));
        origin.behave(Behaviour::Answer(OK));
        until("up", || watch.healthy() == 1);
    }
}

#[test]
fn only_expected_statuses_count() {
    let origin = Origin::start(Behaviour::Answer(b"HTTP/1.1 404 Not Found\r\n\r\n"));
    let expect = StatusRanges(vec![(200, 200), (404, 404)]);
    let watch = Watch::start(vec![at(origin.address, HealthCheck { expect, ..check() })]);
    watch.first_round();
    assert_eq!(watch.healthy(), 1);
}

#[test]
fn interim_answers_are_skipped() {
    let answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let origin = Origin::start(Behaviour::Answer(answer));
    let watch = Watch::start(vec![at(origin.address, check())]);
    watch.first_round();
    until_line(&format!("({}) is up: 204", origin.address));
    assert_eq!(watch.healthy(), 1);
}

#[test]
fn the_origin_sees_path_host_and_who_asks() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let own = HealthCheck { host: Some("api.example".into()), ..check() };
    let watch = Watch::start(vec![at(origin.address, check()), at(origin.address, own)]);
    watch.first_round();
    let requests: Vec<String> = origin.hits().into_iter().map(|hit| hit.request).collect();
    let agent = format!("User-Agent: evenly-health/{}\r\n", env!("CARGO_PKG_VERSION"));
    for host in [origin.address.to_string(), "api.example".to_owned()] {
        let found = requests.iter().any(|request| {
            request.starts_with(&format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n"))
                && request.contains(&agent)
                && request.contains("\r\nConnection: close\r\n")
                && request.contains("\r\nAccept: */*\r\n")
        });
        assert!(found, "{host}: {requests:?}");
    }
}

#[test]
fn hung_and_dripping_targets_are_down_at_the_timeout() {
    for behaviour in [Behaviour::Hang, Behaviour::Drip] {
        let origin = Origin::start(behaviour);
        let begun = Instant::now();
        let timeout = 300 * MS;
        let watch = Watch::start(vec![at(origin.address, HealthCheck { timeout, ..check() })]);
        watch.first_round();
        assert!(begun.elapsed() >= timeout);
        assert!(begun.elapsed() < timeout + 10_000 * MS, "{:?}", begun.elapsed());
        until_line(&format!("({}) is down: no response within 300ms", origin.address));
        assert_eq!(watch.healthy(), 0);
    }
}

/// A target that serves one connection at a time looks at no check while it has an idle connection of a worker.
#[test]
fn workers_are_asked_once_for_what_may_be_in_the_way_of_a_check_that_waits() {
    let origin = Origin::start(Behaviour::Hang);
    let health = HealthCheck { timeout: 300 * MS, interval: HOUR, ..check() };
    let watch = Watch::start(vec![at(origin.address, health)]);
    watch.first_round();
    let asked = watch.shared.asks.follow(&mut 0);
    assert_eq!(asked, Some(vec![watch.id(origin.address)]));
}

#[test]
fn a_target_goes_down_after_fall_failures_and_up_after_rise_successes() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let health = HealthCheck { rise: 3, fall: 3, ..check() };
    let watch = Watch::start(vec![at(origin.address, health)]);
    watch.first_round();
    origin.behave(Behaviour::Close);
    let before = origin.count();
    until("down", || watch.healthy() == 0);
    // A probe may have been under way when the behaviour changed.
    assert!((3..=4).contains(&(origin.count() - before)), "{}", origin.count() - before);
    origin.behave(Behaviour::Answer(OK));
    let before = origin.count();
    until("up", || watch.healthy() == 1);
    assert!((3..=4).contains(&(origin.count() - before)), "{}", origin.count() - before);
}

#[test]
fn without_an_endpoint_an_open_port_is_up_and_a_closed_one_down() {
    let origin = Origin::start(Behaviour::Close);
    let address = origin.address;
    let health = HealthCheck { endpoint: None, ..check() };
    let watch = Watch::start(vec![at(address, health)]);
    watch.first_round();
    assert_eq!(watch.healthy(), 1);
    until_line(&format!("({address}) is up: connected in "));
    drop(origin);
    until("down", || watch.healthy() == 0);
}

#[test]
fn a_reported_death_is_published_in_well_under_a_second_whatever_the_interval() {
    for fall in [1, 3] {
        let origins = [Origin::start(Behaviour::Answer(OK)), Origin::start(Behaviour::Answer(OK))];
        let health = HealthCheck { interval: HOUR, fall, ..check() };
        let targets = origins.iter().map(|o| at(o.address, health.clone())).collect();
        let watch = Watch::start(targets);
        watch.first_round();
        let [dead, alive] = origins;
        let id = watch.id(dead.address);
        drop(dead);
        let died = Instant::now();
        watch.health.reporter().report(id, Report::ConnectRefused);
        until("gone", || watch.healthy() == 1);
        // The next probe by the clock is an hour away.
        assert!(died.elapsed() < 10_000 * MS, "fall {fall}: {:?}", died.elapsed());
        assert_eq!(socket_of(watch.snapshot().turn_at(0).unwrap()), alive.address);
    }
}

#[test]
fn reports_cost_one_probe_each_and_at_most_ten_per_second() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let watch = Watch::start(vec![at(origin.address, HealthCheck { interval: HOUR, ..check() })]);
    watch.first_round();
    let reporter = watch.health.reporter();
    let id = watch.id(origin.address);
    let generation = watch.snapshot().generation;
    reporter.report(id, Report::ExchangeFailed);
    until("the probe", || origin.count() == 2);
    let flood = Instant::now();
    let mut longest = Duration::ZERO;
    while flood.elapsed() < 500 * MS {
        let before = Instant::now();
        reporter.report(id, Report::ExchangeFailed);
        reporter.report(EndpointId(u32::MAX), Report::ExchangeFailed); // nobody's: ignored
        longest = longest.max(before.elapsed());
    }
    let probes = origin.count() - 2;
    let allowed = flood.elapsed().as_millis() as usize / 100 + 1;
    assert!((1..=allowed).contains(&probes), "{probes} of {allowed}");
    assert!(longest < 5_000 * MS, "a report never blocks: {longest:?}");
    assert_eq!(watch.snapshot().generation, generation, "nothing changed, nothing is published");
}

/// Origins that answer, and a watch that probes them all the time or never again.
fn answering(count: usize, interval: Duration, ejection: Ejection) -> (Vec<Origin>, Watch) {
    let origins: Vec<_> = (0..count).map(|_| Origin::start(Behaviour::Answer(OK))).collect();
    let health = HealthCheck { interval, ..check() };
    let watch =
        Watch::ejecting(origins.iter().map(|o| at(o.address, health.clone())).collect(), ejection);
    watch.first_round();
    assert_eq!(watch.healthy(), count);
    (origins, watch)
}

#[test]
fn a_streak_takes_an_endpoint_out_for_its_time_whatever_its_probes_say() {
    let time = 400 * MS;
    for interval in [20 * MS, HOUR] {
        let (origins, watch) = answering(2, interval, Ejection { time, ..Ejection::default() });
        let address = origins[0].address;
        let who = format!("target {address} ({address})");
        let again = format!("{who} is up again: 200 in ");
        for (times, lasts) in [(1, time), (2, 2 * time)] {
            let (reported, probes) = (Instant::now(), origins[0].count());
            watch.report_streak(address);
            until_line(&format!(
                "{who} is ejected for {lasts:?}: 5 consecutive resets of requests that others served; healthy endpoints: 1"
            ));
            until("back", || lines_with(&again).len() == times);
            assert!(reported.elapsed() >= lasts, "{:?}", reported.elapsed());
            assert!(origins[0].count() > probes, "a probe brings it back");
            assert_eq!(watch.state(address), EndpointState::Up);
        }
        let back = until_line(&again);
        assert!(back.ends_with("ms; healthy endpoints: 2"), "{back}");
    }
}

#[test]
fn an_ejected_endpoint_whose_probes_fail_is_down_like_any_other() {
    let (origins, watch) =
        answering(2, 20 * MS, Ejection { time: HOUR, max_time: HOUR, ..Ejection::default() });
    let address = origins[0].address;
    watch.report_streak(address);
    until("ejected", || watch.state(address) == EndpointState::Ejected);
    origins[0].behave(Behaviour::Close);
    until("down", || watch.state(address) == EndpointState::Down);
    origins[0].behave(Behaviour::Answer(OK));
    until("up", || watch.state(address) == EndpointState::Up);
}

#[test]
fn at_most_half_of_the_endpoints_are_ejected_and_a_lone_one_never() {
    for (count, out) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
        let time = Ejection { time: HOUR, max_time: HOUR, ..Ejection::default() };
        let (origins, watch) = answering(count, HOUR, time);
        origins.iter().for_each(|origin| watch.report_streak(origin.address));
        // Each report also has its endpoint probed.
        until("all reports are taken", || origins.iter().all(|origin| origin.count() == 2));
        until("ejected", || watch.snapshot().count(EndpointState::Ejected) == out);
        assert_eq!(watch.healthy(), count - out);
    }
}

#[test]
fn without_a_healthy_target_a_line_tells_the_ejected_from_the_failing() {
    let all = Ejection { time: HOUR, max_time: HOUR, share: 100, ..Ejection::default() };
    let (origins, watch) = answering(7, 20 * MS, all);
    origins.iter().for_each(|origin| watch.report_streak(origin.address));
    until("all are out", || watch.healthy() == 0);
    until_line("no healthy endpoint: 7 ejected for failing requests");
    origins.iter().for_each(|origin| origin.behave(Behaviour::Close));
    until("all fail", || watch.snapshot().count(EndpointState::Down) == 7);
    origins[0].behave(Behaviour::Answer(OK));
    until("one is up", || watch.healthy() == 1);
    origins[0].behave(Behaviour::Close);
    until_line("no healthy endpoint: 7 failing health checks");
    assert_eq!(lines_with("no healthy endpoint: 7 ejected").len(), 1, "told once");

    let (origins, watch) = answering(8, 20 * MS, Ejection { share: 50, ..all });
    watch.report_streak(origins[3].address);
    until("ejected", || watch.healthy() == 7);
    // With nobody else up a check that succeeds would bring it back.
    let probes = origins[3].count();
    origins[3].behave(Behaviour::Hang);
    until("its check hangs", || origins[3].count() > probes);
    for (_, origin) in origins.iter().enumerate().filter(|&(nth, _)| nth != 3) {
        origin.behave(Behaviour::Close);
    }
    until_line("no healthy endpoint: 1 ejected for failing requests, 7 failing health checks");
}

#[test]
fn reports_after_the_end_go_nowhere() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let watch = Watch::start(vec![at(origin.address, check())]);
    let reporter = watch.health.reporter();
    let id = watch.id(origin.address);
    watch.health.stop();
    (0..10_000).for_each(|_| reporter.report(id, Report::ConnectTimeout));
}

#[test]
fn stopping_is_prompt_with_probes_and_lookups_under_way() {
    let origin = Origin::start(Behaviour::Hang);
    let asked = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&asked);
    let targets =
        vec![at(origin.address, HealthCheck { timeout: HOUR, ..check() }), name("a", check())];
    let watch = Watch::resolving(targets, move |_, _| {
        told.store(true, Ordering::Relaxed);
        thread::sleep(Duration::from_secs(20)); // a silent name server
        Ok(Vec::new())
    });
    until("both under way", || origin.count() == 1 && asked.load(Ordering::Relaxed));
    let begun = Instant::now();
    watch.health.stop();
    assert!(begun.elapsed() < 10_000 * MS, "{:?}", begun.elapsed());
}

/// A resolver whose answer for the name `a` can be changed; `None` is a failure.
fn directory(
    first: &[SocketAddr],
) -> (Directory, impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + use<>) {
    let directory = Directory(Arc::new(Mutex::new(Some(first.to_vec()))));
    let inner = Arc::clone(&directory.0);
    let resolve = move |host: &str, port: u16| {
        assert_eq!((host, port), ("a", 80));
        inner.lock().unwrap().clone().ok_or_else(|| io::Error::other("the name server is away"))
    };
    (directory, resolve)
}

struct Directory(Arc<Mutex<Option<Vec<SocketAddr>>>>);

impl Directory {
    fn set(&self, addresses: Option<&[SocketAddr]>) {
        *self.0.lock().unwrap() = addresses.map(<[_]>::to_vec);
    }
}

#[test]
fn every_address_of_a_name_is_an_endpoint_in_address_order() {
    let mut origins = [Origin::start(Behaviour::Answer(OK)), Origin::start(Behaviour::Answer(OK))];
    origins.sort_by_key(|origin| origin.address);
    let [a, b] = [origins[0].address, origins[1].address];
    let (_directory, resolve) = directory(&[b, a, b]);
    let watch = Watch::resolving(vec![name("a", check())], resolve);
    watch.first_round();
    assert_eq!(watch.addresses(), [a, b]);
    assert_eq!(watch.healthy(), 2);
    assert_eq!(&*watch.snapshot().endpoints()[0].target, "a:80");
    assert!(origins[0].hits()[0].request.contains("\r\nHost: a:80\r\n"));
    until_line(&format!("target a:80 ({a}) is up: 200 in "));
}

#[test]
fn addresses_follow_the_name_and_those_that_stay_keep_their_identity() {
    let mut origins: Vec<_> = (0..2).map(|_| Origin::start(Behaviour::Answer(OK))).collect();
    origins.sort_by_key(|origin| origin.address);
    let [a, b] = [origins[0].address, origins[1].address];
    let (directory, resolve) = directory(&[a]);
    let watch = Watch::resolving(vec![name("a", check())], resolve);
    watch.first_round();
    let (id_a, probes_of_a) = (watch.id(a), origins[0].count());
    directory.set(Some(&[a, b]));
    until("two healthy", || watch.healthy() == 2);
    assert_eq!(watch.id(a), id_a);
    let id_b = watch.id(b);
    directory.set(Some(&[a]));
    until("one endpoint", || watch.addresses() == [a]);
    until_line(&format!("target a:80 no longer has {b}; healthy endpoints: 1"));
    directory.set(Some(&[a, b]));
    until("two healthy again", || watch.healthy() == 2);
    assert_eq!(watch.id(a), id_a);
    assert_ne!(watch.id(b), id_b, "an identity is never used again");
    until("the one that stayed is still probed", || origins[0].count() > probes_of_a);
}

#[test]
fn a_name_that_moves_is_never_without_a_healthy_endpoint() {
    let origins = [Origin::start(Behaviour::Answer(OK)), Origin::start(Behaviour::Answer(OK))];
    let (directory, resolve) = directory(&[origins[0].address]);
    let watch = Watch::resolving(vec![name("a", check())], resolve);
    watch.first_round();
    directory.set(Some(&[origins[1].address]));
    until("moved", || {
        let snapshot = watch.snapshot();
        assert!(snapshot.healthy_count() > 0, "{snapshot:?}");
        snapshot.endpoints().len() == 1 && socket_of(&snapshot.endpoints()[0]) == origins[1].address
    });
}

#[test]
fn a_name_that_fails_keeps_its_addresses_and_tells_it_once() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let (directory, resolve) = directory(&[origin.address]);
    let asked = Arc::new(AtomicU16::new(0));
    let count = Arc::clone(&asked);
    // The label tells this test's lines from those of others.
    let keeper = Target {
        address: TargetAddress::Name { host: "keeper".into(), port: 80 },
        health: check(),
        state: TargetState::Auto,
    };
    let watch = Watch::resolving(vec![keeper], move |_, port| {
        count.fetch_add(1, Ordering::Relaxed);
        resolve("a", port)
    });
    watch.first_round();
    let id = watch.id(origin.address);
    directory.set(None);
    until_line("target keeper:80 no longer resolves: the name server is away; addresses kept: 1");
    let before = asked.load(Ordering::Relaxed);
    until("it is asked again", || asked.load(Ordering::Relaxed) >= before + 3);
    assert_eq!((watch.healthy(), watch.id(origin.address)), (1, id));
    assert_eq!(lines_with("target keeper:80 no longer resolves").len(), 1);
    directory.set(Some(&[origin.address]));
    until_line("target keeper:80 resolves again; addresses: 1");
    assert_eq!((watch.healthy(), watch.id(origin.address)), (1, id));
}

#[test]
fn a_name_that_never_resolved_is_down_and_holds_up_nobody() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let targets = vec![name("nowhere", check()), at(origin.address, check())];
    let watch = Watch::start(targets);
    watch.first_round();
    assert_eq!(watch.addresses(), [origin.address]);
    assert_eq!(watch.healthy(), 1);
    until_line("target nowhere:80 is down: it does not resolve: no name is known");
}

#[test]
fn a_lookup_that_hangs_delays_no_probe() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let targets = vec![name("slow", check()), at(origin.address, check())];
    let watch = Watch::resolving(targets, |_, _| {
        thread::sleep(Duration::from_secs(20)); // a silent name server
        Ok(Vec::new())
    });
    until("probe after probe", || origin.count() >= 5);
    assert_eq!(watch.healthy(), 1);
}

#[test]
fn endpoints_probed_together_first_are_spread_afterwards() {
    let origins: Vec<_> = (0..40).map(|_| Origin::start(Behaviour::Answer(OK))).collect();
    let interval = Duration::from_secs(1);
    let targets = origins.iter().map(|o| at(o.address, HealthCheck { interval, ..check() }));
    let watch = Watch::start(targets.collect());
    watch.first_round();
    until("everybody's third probe", || origins.iter().all(|origin| origin.count() >= 3));
    // Chance puts about four of forty into a tenth of the interval; a burst would be all of them.
    let thirds: Vec<Instant> = origins.iter().map(|origin| origin.hits()[2].at).collect();
    let crowd = |from: &Instant| {
        thirds.iter().filter(|at| **at >= *from && **at < *from + interval / 10).count()
    };
    let largest = thirds.iter().map(crowd).max().unwrap();
    assert!(largest <= 20, "{largest} of 40 within 100 ms");
}

/// The longest time between two probes of each endpoint, by the local address the origin was reached at.
fn longest_gaps(hits: &[Hit]) -> HashMap<SocketAddr, (usize, Duration)> {
    let mut last: HashMap<SocketAddr, Instant> = HashMap::new();
    let mut gaps: HashMap<SocketAddr, (usize, Duration)> = HashMap::new();
    for hit in hits {
        let gap = last.insert(hit.local, hit.at).map_or(Duration::ZERO, |before| hit.at - before);
        let entry = gaps.entry(hit.local).or_default();
        *entry = (entry.0 + 1, entry.1.max(gap));
    }
    gaps
}

#[test]
fn two_hundred_hung_targets_of_a_thousand_delay_no_probe_of_the_others() {
    // One listener on all addresses stands for many targets: each is told by the address it was reached at.
    let good = Origin::at(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), Behaviour::Answer(OK));
    let hung = Origin::at(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), Behaviour::Hang);
    let interval = Duration::from_secs(1);
    // Far longer than the interval: whoever waits for a hung one waits visibly long.
    let health = HealthCheck { interval, timeout: Duration::from_secs(30), ..check() };
    let targets = (0..1_000u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        let port = if number % 5 == 0 { hung.address.port() } else { good.address.port() };
        at(SocketAddr::from(([127, 40, high, low], port)), health.clone())
    });
    let watch = Watch::start(targets.collect());
    until("all good ones up", || watch.healthy() == 800);
    // How punctual probes are is for a benchmark to say: a busy machine may starve this process for as long as it likes.
    until("four probes of each", || {
        let gaps = longest_gaps(&good.hits());
        gaps.len() == 800 && gaps.values().all(|(count, _)| *count >= 4)
    });
    assert_eq!(hung.count(), 200, "each is probed once and still waited for");
}

#[test]
fn many_hung_targets_do_not_delay_a_reported_death() {
    let dying = Origin::start(Behaviour::Answer(OK));
    // The kernel connects what nobody accepts: a listener alone is a hung target.
    let hung = listener(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let port = hung.local_addr().unwrap().port();
    let health = HealthCheck { interval: HOUR, timeout: HOUR, ..check() };
    let others = (0..600u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        at(SocketAddr::from(([127, 41, high, low], port)), health.clone())
    });
    let dead = dying.address;
    let watch = Watch::start([at(dead, health.clone())].into_iter().chain(others).collect());
    until("up", || watch.healthy() == 1);
    let id = watch.id(dead);
    drop(dying);
    let died = Instant::now();
    watch.health.reporter().report(id, Report::ConnectRefused);
    until("gone", || watch.healthy() == 0);
    // The next probe by the clock is an hour away.
    assert!(died.elapsed() < 10_000 * MS, "{:?}", died.elapsed());
}

#[test]
fn generations_grow_by_one_with_each_change() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let watch = Watch::start(vec![at(origin.address, check())]);
    watch.first_round();
    let first = watch.snapshot().generation;
    let probed = origin.count();
    until("a few more probes", || origin.count() >= probed + 3);
    assert_eq!(watch.snapshot().generation, first, "no change, no publication");
    origin.behave(Behaviour::Close);
    until("down", || watch.healthy() == 0);
    assert_eq!(watch.snapshot().generation, first + 1);
}

#[test]
fn many_changes_are_published_together() {
    let origin = Origin::at(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), Behaviour::Answer(OK));
    let health = HealthCheck { interval: Duration::from_secs(1), ..check() };
    let targets = (0..500u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        at(SocketAddr::from(([127, 42, high, low], origin.address.port())), health.clone())
    });
    let watch = Watch::start(targets.collect());
    until("all up", || watch.healthy() == 500);
    let (first, since) = (watch.snapshot().generation, Instant::now());
    origin.behave(Behaviour::Close);
    until("all down", || watch.healthy() == 0);
    let published = u128::from(watch.snapshot().generation - first);
    // 500 endpoints are published every 10 ms at most.
    let allowed = since.elapsed().as_millis() / 10 + 1;
    assert!((1..=allowed).contains(&published), "{published} of {allowed}");
}

/// Lowers this process's descriptor limit, so it runs in a process of its own: the same test, started again.
#[test]
fn out_of_descriptors_targets_keep_their_health_and_nothing_spins() {
    const ALONE: &str = "EVENLY_TEST_STARVE";
    if std::env::var_os(ALONE).is_some() {
        return starve();
    }
    let this = "out_of_descriptors_targets_keep_their_health_and_nothing_spins";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn starve() {
    let origin = Origin::start(Behaviour::Answer(OK));
    let health = HealthCheck { interval: 20 * MS, timeout: 500 * MS, ..check() };
    let watch = Watch::start(vec![at(origin.address, health)]);
    watch.first_round();
    let stat = health_thread_stat();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: before.maximum }).unwrap();
    until_line("health checks paused, and endpoints keep their state: ");
    let (begun, used) = (Instant::now(), cpu_ticks(&stat));
    until("a second of want", || {
        assert_eq!(watch.healthy(), 1);
        begun.elapsed() > Duration::from_secs(1)
    });
    let used = cpu_ticks(&stat) - used;
    assert!(used < 20, "{used} ticks of 10 ms in a second");
    assert_eq!(lines_with("health checks paused").len(), 1, "told once");
    let probes = origin.count();
    setrlimit(Resource::Nofile, before).unwrap();
    until_line("health checks resumed");
    until("probes again", || origin.count() > probes + 2);
    assert_eq!(watch.healthy(), 1);
}

/// The processor times of the thread named `health`, opened while that is still possible.
fn health_thread_stat() -> std::fs::File {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let health = tasks.flatten().map(|task| task.path()).find(|task| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == "health")
    });
    std::fs::File::open(health.unwrap().join("stat")).unwrap()
}

/// utime and stime of a `/proc/.../stat`, in ticks of 10 ms.
fn cpu_ticks(stat: &std::fs::File) -> u64 {
    let mut text = [0; 1024];
    let count = stat.read_at(&mut text, 0).unwrap();
    let text = String::from_utf8_lossy(&text[..count]).into_owned();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Stops the process that checks, while checks are under way: it is the same test, started again.
#[test]
fn what_was_late_because_this_process_stood_still_is_nobodys_fault() {
    const ALONE: &str = "EVENLY_TEST_PAUSE";
    if let Some(address) = std::env::var_os(ALONE) {
        return check_until_told(address.to_str().unwrap().parse().unwrap());
    }
    let origin = Origin::start(Behaviour::Late(OK));
    let this = "what_was_late_because_this_process_stood_still_is_nobodys_fault";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(ALONE, origin.address.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let signal = |signal| kill_process(Pid::from_child(&child), signal).unwrap();
    for _ in 0..2 {
        let before = origin.count();
        until("checks go on", || origin.count() > before + 2);
        signal(Signal::STOP);
        // Longer than the time of a check, and than its answer takes.
        thread::sleep(2_300 * MS);
        signal(Signal::CONT);
    }
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn check_until_told(address: SocketAddr) {
    let health = HealthCheck { interval: 20 * MS, timeout: 2_000 * MS, ..check() };
    let watch = Watch::start(vec![at(address, health)]);
    watch.first_round();
    let generation = watch.snapshot().generation;
    assert_eq!(watch.healthy(), 1);
    let _end = io::stdin().read_to_end(&mut Vec::new());
    assert_eq!(watch.snapshot().generation, generation, "{:?}", lines_with("is down"));
}
