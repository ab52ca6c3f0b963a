//! What seeds once found, as plain scenes: an engine, a calm network, and every word of both sides written out.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use evenly::access::TextPart;
use evenly::balance::{Endpoint, Preference, Shared, Snapshot};
use evenly::base::address::Address;
use evenly::base::ledger::Ledger;
use evenly::base::tick::Tick;
use evenly::engine::Engine;
use evenly::metrics::WorkerCounters;
use evenly::settings::{AccessSink, Plan};

use crate::net::{Door, Far, Got, Network, Short, SimNet, Weather};
use crate::random::Rng;
use crate::run::snapshot;

/// Nothing is split, nothing is late. A pipe holds this much unless a scene says otherwise.
pub(crate) const CALM: Weather = Weather {
    latency: 0,
    capacity: 1 << 20,
    short_writes: 0,
    pieces: 0,
    late_events: 0,
    meanwhile: 0,
    lossy_resets: 100,
    local_errors: 0,
    slow_calls: 0,
    late_wake_ups: 0,
};

pub(crate) const GET: &[u8] = b"GET /r/1 HTTP/1.1\r\nHost: sim\r\n\r\n";
pub(crate) const SMALL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const UPGRADE: &[u8] =
    b"GET /r/1 HTTP/1.1\r\nHost: sim\r\nConnection: upgrade\r\nUpgrade: sim\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: sim\r\n\r\n";

pub(crate) struct Scene {
    pub(crate) engine: Engine<SimNet>,
    pub(crate) counters: WorkerCounters,
    pub(crate) network: Rc<RefCell<Network>>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) now: u64,
}

impl Scene {
    pub(crate) fn new(weather: Weather) -> Scene {
        Scene::with(weather, snapshot(1, &[true]))
    }

    /// Whose buffers share `memory` with others.
    pub(crate) fn within(weather: Weather, memory: Arc<Ledger>, plan: Plan) -> Scene {
        let shared = Arc::new(Shared { memory, ..Shared::default() });
        let snapshot = Snapshot::clone(&snapshot(1, &[true])).under(Arc::new(plan));
        Scene::of(weather, Arc::new(snapshot), shared)
    }

    /// Between clients and the endpoints of `snapshot`.
    pub(crate) fn with(weather: Weather, snapshot: Arc<Snapshot>) -> Scene {
        Scene::of(weather, snapshot, Arc::new(Shared::default()))
    }

    /// Another worker of the same process, with a network of its own.
    fn beside(other: &Scene) -> Scene {
        let (snapshot, shared) = (Arc::clone(&other.snapshot), Arc::clone(&other.shared));
        Scene::of(CALM, snapshot, shared)
    }

    fn of(weather: Weather, snapshot: Arc<Snapshot>, shared: Arc<Shared>) -> Scene {
        shared.snapshot.store(Arc::clone(&snapshot));
        let host = |endpoint: &Endpoint| match endpoint.address {
            Address::Ip(address) => address,
            Address::Unix(_) => unreachable!("every endpoint of a scene has an IP address"),
        };
        let hosts = snapshot.endpoints().iter().map(host).collect();
        let network = Rc::new(RefCell::new(Network::new(Rng::new(0), weather, hosts)));
        let net = SimNet(Rc::clone(&network));
        let counters = WorkerCounters::default();
        let engine = Engine::new(net, 1, Arc::clone(&shared), WorkerCounters::clone(&counters));
        Scene { engine, counters, network, snapshot, shared, now: 0 }
    }

    pub(crate) fn client(&mut self) -> usize {
        let wire = self.network.borrow_mut().client_wire();
        let near = SimNet(Rc::clone(&self.network)).near(wire);
        self.engine.accept(near, SocketAddr::from(([10, 1, 2, 3], 4)).into(), Tick(self.now));
        wire
    }

    /// Somebody says something, which is not heard before the engine's next turns.
    pub(crate) fn says(&mut self, wire: usize, bytes: &[u8]) {
        let taken = Far { network: &mut self.network.borrow_mut(), wire }.write(bytes);
        assert_eq!(taken, Some(bytes.len()));
    }

    /// How much the script can say now.
    pub(crate) fn room(&mut self, wire: usize) -> usize {
        Far { network: &mut self.network.borrow_mut(), wire }.room()
    }

    /// Likewise, as far as there is room. How much was said.
    pub(crate) fn says_some(&mut self, wire: usize, bytes: &[u8]) -> usize {
        let taken = Far { network: &mut self.network.borrow_mut(), wire }.write(bytes);
        taken.expect("the connection is open")
    }

    pub(crate) fn ends(&mut self, wire: usize) {
        Far { network: &mut self.network.borrow_mut(), wire }.shutdown();
    }

    pub(crate) fn resets(&mut self, wire: usize) {
        Far { network: &mut self.network.borrow_mut(), wire }.reset();
    }

    /// The target agrees to a tunnel.
    pub(crate) fn switches(&mut self, wire: usize) {
        Far { network: &mut self.network.borrow_mut(), wire }.stop_tap();
        self.says(wire, SWITCH);
    }

    /// All that has arrived for the script, and whether an end or a reset came behind it.
    pub(crate) fn hears(&mut self, wire: usize) -> (String, &'static str) {
        let mut heard = Vec::new();
        loop {
            let got = Far { network: &mut self.network.borrow_mut(), wire }.read(1 << 16);
            match got {
                Got::Bytes(bytes) => heard.extend_from_slice(&bytes),
                Got::Nothing => return (String::from_utf8(heard).unwrap(), "open"),
                Got::End => return (String::from_utf8(heard).unwrap(), "end"),
                Got::Reset => return (String::from_utf8(heard).unwrap(), "reset"),
            }
        }
    }

    /// The script reads no more than that.
    pub(crate) fn sips(&mut self, wire: usize, most: usize) {
        let got = Far { network: &mut self.network.borrow_mut(), wire }.read(most);
        assert!(matches!(got, Got::Bytes(_)), "something waits for it");
    }

    /// One turn of the engine, before which `meanwhile` happens when its events are already polled.
    pub(crate) fn turn(&mut self, meanwhile: impl FnOnce(&mut Scene)) {
        let told = self.network.borrow_mut().poll();
        meanwhile(self);
        for (token, readiness) in told {
            self.engine.ready(token, readiness);
        }
        self.engine.turn(Tick(self.now), &self.snapshot);
        self.engine.check_invariants();
    }

    pub(crate) fn fly(&mut self) {
        self.now += 10;
        self.network.borrow_mut().advance(self.now);
    }

    /// Turns until nothing is left to do now.
    pub(crate) fn settle(&mut self) {
        let is_busy = |scene: &Scene| {
            let network = scene.network.borrow();
            scene.engine.has_work() || network.has_edges() || network.next_arrival().is_some()
        };
        while is_busy(self) {
            self.fly();
            self.turn(|_| {});
        }
    }

    /// Time passes, with each deadline at its time.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = Tick(self.now).after(time);
        while let Some(at) = self.engine.next_deadline().filter(|&at| at <= until) {
            self.now = self.now.max(at.0);
            self.turn(|_| {});
            self.settle();
        }
        self.now = self.now.max(until.0);
    }

    /// The connection that came to the target.
    pub(crate) fn arrival(&mut self) -> usize {
        self.network.borrow_mut().arrivals.pop().expect("a connection for the target").1
    }

    /// One target whose second endpoint stands by for its first, and a client.
    pub(crate) fn with_standby() -> (Scene, usize) {
        let mut endpoints = snapshot(1, &[true, true]).endpoints().to_vec();
        endpoints[1].preference = Preference { priority: 1, weight: 1, alternate: false };
        let mut scene = Scene::with(CALM, Arc::new(Snapshot::new(1, endpoints)));
        let client = scene.client();
        (scene, client)
    }

    /// A client that has said `bytes`, and the target's connection that heard of it.
    pub(crate) fn exchange(weather: Weather, bytes: &[u8]) -> (Scene, usize, usize) {
        let mut scene = Scene::new(weather);
        let client = scene.client();
        scene.says(client, bytes);
        scene.settle();
        let target = scene.arrival();
        assert!(scene.hears(target).0.contains(" /r/1 HTTP/1.1\r\n"));
        (scene, client, target)
    }
}

/// A target that may serve one connection at a time looks at no other while it has an idle one of ours.
#[test]
fn a_waiting_request_makes_other_workers_close_idle_connections() {
    let (mut holder, client, target) = Scene::exchange(CALM, GET);
    holder.says(target, SMALL);
    holder.settle();
    assert_eq!(holder.engine.idle_upstream_count(), 1);
    let mut waiter = Scene::beside(&holder);
    let late = waiter.client();
    waiter.says(late, GET);
    waiter.settle();
    let rung = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&rung);
    holder.shared.bell.hang(move || _ = count.fetch_add(1, Ordering::Relaxed));
    for scene in [&mut waiter, &mut holder] {
        scene.wait(Duration::from_millis(150));
        scene.turn(|_| {});
        scene.settle();
    }
    assert!(rung.load(Ordering::Relaxed) > 0, "those that sleep are woken");
    assert_eq!(holder.engine.idle_upstream_count(), 0);
    assert_eq!(holder.hears(target).1, "end", "in order: it was idle");
    // Its next connection is in nobody's way for a while either.
    holder.says(client, GET);
    holder.settle();
    let target = holder.arrival();
    holder.says(target, SMALL);
    holder.settle();
    assert_eq!(holder.engine.idle_upstream_count(), 0);
}

#[test]
fn a_post_at_a_target_that_went_down_fails_soon() {
    for speaks in [false, true] {
        let post = b"POST /r/1 HTTP/1.1\r\nHost: sim\r\nContent-Length: 2\r\n\r\nhi";
        let (mut scene, client, target) = Scene::exchange(CALM, post);
        scene.snapshot = snapshot(2, &[false]);
        scene.turn(|_| {});
        scene.wait(Duration::from_secs(1));
        assert_eq!(scene.hears(client), (String::new(), "open"), "its target may still answer");
        if speaks {
            scene.says(target, SMALL);
            scene.settle();
        }
        scene.wait(Duration::from_secs(2));
        scene.settle();
        let status = if speaks { "HTTP/1.1 200 " } else { "HTTP/1.1 502 " };
        assert!(scene.hears(client).0.starts_with(status));
    }
}

#[test]
fn a_target_that_was_down_for_a_moment_has_its_whole_time() {
    let post = b"POST /r/1 HTTP/1.1\r\nHost: sim\r\nContent-Length: 2\r\n\r\nhi";
    let (mut scene, client, target) = Scene::exchange(CALM, post);
    for (generation, healthy) in [(2, false), (3, true)] {
        scene.snapshot = snapshot(generation, &[healthy]);
        scene.turn(|_| {});
    }
    scene.wait(Duration::from_secs(30));
    scene.says(target, SMALL);
    scene.settle();
    assert!(scene.hears(client).0.starts_with("HTTP/1.1 200 "));
    assert_eq!(scene.engine.take_reports().count(), 0);
}

/// Nobody has looked since: it may be back.
#[test]
fn a_request_that_no_healthy_target_takes_is_tried_where_nobody_was() {
    // Who is healthy, who refuses, and where the request arrives.
    let table: [(&[bool], &[usize], Option<usize>); 5] = [
        (&[false], &[], Some(0)),
        (&[true, false], &[0], Some(1)),
        (&[false, false], &[0], Some(1)),
        (&[false], &[0], None),
        (&[true, false], &[0, 1], None),
    ];
    for (healthy, refusing, served) in table {
        let mut scene = Scene::with(CALM, snapshot(1, healthy));
        for &host in refusing {
            scene.network.borrow_mut().hosts[host].1 = Door::Shut;
        }
        let client = scene.client();
        scene.says(client, GET);
        scene.settle();
        if let Some(host) = served {
            let (at, target) = scene.network.borrow_mut().arrivals.pop().unwrap();
            assert_eq!(at, host);
            scene.says(target, SMALL);
            scene.settle();
        }
        let status = if served.is_some() { "HTTP/1.1 200 " } else { "HTTP/1.1 503 " };
        assert!(scene.hears(client).0.starts_with(status), "{healthy:?} {refusing:?}");
        assert_eq!(scene.engine.idle_upstream_count(), 0, "none is kept to one that is down");
    }
}

#[test]
fn a_target_that_is_there_but_fails_its_checks_gets_no_requests() {
    let mut endpoints = snapshot(1, &[false]).endpoints().to_vec();
    endpoints[0].absent = false;
    let mut scene = Scene::with(CALM, Arc::new(Snapshot::new(1, endpoints)));
    let client = scene.client();
    scene.says(client, GET);
    scene.settle();
    assert!(scene.hears(client).0.starts_with("HTTP/1.1 503 "));
}

#[test]
fn the_last_bytes_of_a_tunnel_arrive_although_its_target_ended_first() {
    let (mut scene, client, target) = Scene::exchange(CALM, UPGRADE);
    scene.switches(target);
    scene.ends(target);
    scene.settle();
    assert_eq!(scene.hears(client).1, "end");
    scene.says(client, b"last words");
    scene.ends(client);
    scene.settle();
    assert_eq!(scene.hears(target), ("last words".to_owned(), "end"));
    assert_eq!((scene.engine.client_count(), scene.engine.upstream_count()), (0, 0));
}

#[test]
fn a_tunnel_that_was_slow_for_a_moment_has_its_own_limit_again() {
    let small = Weather { capacity: 1000, ..CALM };
    let (mut scene, client, target) = Scene::exchange(small, UPGRADE);
    scene.switches(target);
    for _ in 0..2 {
        scene.says(target, &[b'x'; 500]);
        scene.settle();
    }
    let mut heard = scene.hears(client).0;
    scene.settle();
    heard += &scene.hears(client).0;
    assert_eq!(heard.matches('x').count(), 1000);
    scene.wait(Duration::from_secs(600));
    assert_eq!((scene.hears(client).1, scene.hears(target).1), ("open", "open"));
}

#[test]
fn a_tunnel_whose_target_was_reset_while_it_was_written_to_ends() {
    let (mut scene, client, target) = Scene::exchange(CALM, UPGRADE);
    scene.switches(target);
    scene.settle();
    scene.says(client, b"hello");
    scene.fly();
    scene.turn(|scene| {
        scene.resets(target);
        scene.fly();
    });
    scene.settle();
    assert_ne!(scene.hears(client).1, "open");
    scene.ends(client);
    scene.settle();
    assert_eq!((scene.engine.client_count(), scene.engine.upstream_count()), (0, 0));
}

#[test]
fn a_close_delimited_response_that_is_not_read_ends_in_a_reset() {
    let small = Weather { capacity: 1000, ..CALM };
    let (mut scene, client, target) = Scene::exchange(small, b"GET /r/1 HTTP/1.0\r\n\r\n");
    scene.says(target, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    scene.settle();
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
    for end in ["", "0\r\n\r\n"] {
        scene.says(target, format!("{chunk}{end}").as_bytes());
        scene.settle();
    }
    scene.wait(Duration::from_secs(200));
    let (heard, end) = scene.hears(client);
    assert!(heard.len() < 1050 && end == "reset", "{} bytes and the {end}", heard.len());
}

#[test]
fn a_reset_is_no_end_of_a_response_even_if_a_write_took_the_error() {
    let post = b"POST /r/1 HTTP/1.1\r\nHost: sim\r\nContent-Length: 100\r\n\r\n";
    let (mut scene, client, target) = Scene::exchange(CALM, post);
    scene.says(target, b"HTTP/1.1 200 OK\r\n\r\nhalf of");
    scene.settle();
    scene.says(client, b"more");
    scene.fly();
    scene.turn(|scene| {
        scene.resets(target);
        scene.fly();
    });
    scene.settle();
    let (heard, end) = scene.hears(client);
    assert!(!heard.contains("\r\n0\r\n"), "it looks whole: {heard:?}");
    assert_ne!(end, "open");
}

#[test]
fn a_pipelined_request_behind_the_last_answer_does_not_reset_it_away() {
    let (mut scene, client, target) = Scene::exchange(CALM, GET);
    scene.engine.drain(Tick(scene.now));
    scene.says(target, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    scene.fly();
    scene.turn(|_| {});
    scene.says(client, GET);
    scene.settle();
    let (heard, end) = scene.hears(client);
    assert!(heard.ends_with("Connection: close\r\n\r\nok"), "{heard:?}");
    assert_eq!(end, "end");
}

#[test]
fn a_drain_that_is_taken_back_asks_for_nothing_any_more() {
    let (mut scene, client, target) = Scene::exchange(CALM, GET);
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    scene.engine.drain(Tick(scene.now));
    scene.engine.return_to_service(Tick(scene.now));
    scene.says(target, ok);
    scene.settle();
    let (heard, end) = scene.hears(client);
    assert!(heard.ends_with("\r\n\r\nok") && !heard.contains("close"), "{heard:?}");
    assert_eq!(end, "open");
    // It is idle, and may stay as long as anybody.
    scene.engine.drain(Tick(scene.now));
    scene.wait(Duration::from_millis(400));
    scene.engine.return_to_service(Tick(scene.now));
    scene.wait(Duration::from_secs(10));
    assert_eq!(scene.hears(client), (String::new(), "open"));
    // And no longer.
    scene.wait(Duration::from_secs(120));
    assert_eq!(scene.hears(client), (String::new(), "end"));
}

#[test]
fn an_exchange_that_its_client_left_is_reset_at_its_target() {
    let (mut scene, client, target) = Scene::exchange(CALM, GET);
    scene.resets(client);
    scene.settle();
    assert_eq!(scene.hears(target).1, "reset", "an end would keep the port in TIME_WAIT");
}

#[test]
fn a_connection_that_its_target_ended_is_not_reset() {
    let (mut scene, _client, target) = Scene::exchange(CALM, GET);
    scene.says(target, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    scene.ends(target);
    scene.settle();
    assert_eq!(scene.hears(target).1, "end");
}

#[test]
fn a_request_whose_body_breaks_is_counted_once() {
    let post = b"POST /r/1 HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut scene, client, _) = Scene::exchange(CALM, post);
    scene.says(client, b"no size\r\n");
    scene.settle();
    assert!(scene.hears(client).0.starts_with("HTTP/1.1 400 "));
    assert_eq!(scene.counters.requests.get(), 1);
}

#[test]
fn a_connection_with_bytes_that_nobody_asked_for_is_not_used_again() {
    // The response ends where a read does, so that only the socket knows of what is behind it.
    let window = 256 * 1024;
    let (mut scene, client, target) = Scene::exchange(CALM, GET);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 261000\r\nX-Pad: ";
    let pad = window - 261_000 - head.len() - 4;
    let mut response = format!("{head}{}\r\n\r\n", "p".repeat(pad)).into_bytes();
    response.extend(std::iter::repeat_n(b'x', 261_000));
    assert_eq!(response.len(), window);
    response.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    scene.says(client, &String::from_utf8_lossy(GET).replace("/r/1", "/r/2").into_bytes());
    scene.says(target, &response);
    scene.settle();
    let taken: Vec<bool> = scene.network.borrow().taken.iter().map(|taken| taken.told).collect();
    assert_eq!(taken, [false, false], "the second request went to another connection");
    assert!(!scene.hears(client).0.contains("evil"));
}

#[test]
fn one_that_stands_by_takes_a_request_whose_connects_failed() {
    let (mut scene, client) = Scene::with_standby();
    scene.network.borrow_mut().hosts[0].1 = Door::Shut;
    scene.says(client, GET);
    scene.settle();
    assert_eq!(scene.network.borrow_mut().arrivals.pop().map(|(host, _)| host), Some(1));
}

#[test]
fn one_that_stands_by_gets_what_broke_when_nobody_else_is_left() {
    let (mut scene, client) = Scene::with_standby();
    scene.says(client, GET);
    scene.settle();
    let pooled = scene.arrival();
    scene.says(pooled, b"HTTP/1.1 204 Done\r\n\r\n");
    scene.settle();
    scene.says(client, GET);
    scene.settle();
    assert_eq!(scene.hears(pooled).0.matches("GET /r/1").count(), 2, "both on one connection");
    scene.resets(pooled);
    scene.settle();
    assert_eq!(scene.network.borrow_mut().arrivals.pop().map(|(host, _)| host), Some(1));
}

const DENIED: &[u8] = b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_connection_with_credentials_on_it_is_its_clients_own_and_ends_with_it() {
    let mut scene = Scene::new(CALM);
    let client = scene.client();
    scene.says(client, GET);
    scene.settle();
    let own = scene.arrival();
    scene.says(own, DENIED);
    scene.settle();
    assert!(scene.hears(client).0.starts_with("HTTP/1.1 401 "));
    assert_eq!((scene.engine.upstream_count(), scene.engine.idle_upstream_count()), (1, 0));
    // Another client gets a connection of its own, which anybody may have then.
    let other = scene.client();
    scene.says(other, GET);
    scene.settle();
    let shared = scene.arrival();
    scene.says(shared, EMPTY);
    scene.settle();
    scene.hears(own);
    scene.says(client, GET);
    scene.settle();
    assert!(scene.hears(own).0.starts_with("GET "), "its next request goes on its own");
    scene.says(own, EMPTY);
    scene.settle();
    assert_eq!((scene.engine.upstream_count(), scene.engine.idle_upstream_count()), (2, 1));
    scene.ends(client);
    scene.settle();
    assert_eq!((scene.engine.upstream_count(), scene.engine.idle_upstream_count()), (1, 1));
    assert_ne!(scene.hears(own).1, "open");
}

#[test]
fn unasked_bytes_end_a_private_connection_and_not_its_client() {
    for unasked in [Some(EMPTY), None] {
        let mut scene = Scene::new(CALM);
        let client = scene.client();
        scene.says(client, GET);
        scene.settle();
        let own = scene.arrival();
        scene.says(own, DENIED);
        scene.settle();
        scene.hears(client);
        match unasked {
            Some(bytes) => scene.says(own, bytes),
            None => scene.ends(own),
        }
        scene.settle();
        assert_eq!(scene.engine.upstream_count(), 0);
        scene.says(client, GET);
        scene.settle();
        let next = scene.arrival();
        scene.says(next, EMPTY);
        scene.settle();
        assert!(scene.hears(client).0.starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn a_clients_own_connection_that_idles_for_too_long_is_closed() {
    let mut scene = Scene::new(CALM);
    let client = scene.client();
    scene.says(client, GET);
    scene.settle();
    let own = scene.arrival();
    scene.says(own, DENIED);
    scene.settle();
    scene.hears(client);
    scene.wait(Plan::default().timeouts.upstream_idle + Duration::from_secs(1));
    scene.settle();
    assert_eq!(scene.engine.upstream_count(), 0);
    assert_eq!(scene.hears(client).1, "open");
}

#[test]
fn what_a_snapshot_plans_holds_for_connections_that_are_open() {
    let mut scene = Scene::new(CALM);
    let client = scene.client();
    let mut plan = Plan::default();
    plan.limits.headers = 1;
    plan.timeouts.client_idle = Duration::from_secs(5);
    scene.snapshot = Arc::new(Snapshot::clone(&snapshot(2, &[true])).under(Arc::new(plan)));
    scene.turn(|_| {});
    scene.says(client, GET);
    scene.settle();
    let target = scene.arrival();
    scene.says(target, EMPTY);
    scene.settle();
    assert!(scene.hears(client).0.starts_with("HTTP/1.1 200 "));
    scene.wait(Duration::from_secs(6));
    scene.settle();
    assert_ne!(scene.hears(client).1, "open", "five seconds idle are the limit now");
    let other = scene.client();
    scene.says(other, b"GET / HTTP/1.1\r\nHost: sim\r\nAccept: */*\r\n\r\n");
    scene.settle();
    assert!(scene.hears(other).0.starts_with("HTTP/1.1 431 "));
}

#[test]
fn an_exchange_that_ends_while_the_log_is_off_leaves_nothing_to_the_entry_of_the_next() {
    let mut scene = Scene::new(CALM);
    let client = scene.client();
    let log = |scene: &mut Scene, generation, access| {
        let mut plan = Plan::default();
        plan.log.access = access;
        let snapshot = Snapshot::clone(&snapshot(generation, &[true]));
        scene.snapshot = Arc::new(snapshot.under(Arc::new(plan)));
        scene.turn(|_| {});
    };
    log(&mut scene, 2, AccessSink::Stdout);
    scene.says(client, GET);
    scene.settle();
    log(&mut scene, 3, AccessSink::Off);
    let target = scene.arrival();
    scene.says(target, SMALL);
    scene.settle();
    log(&mut scene, 4, AccessSink::Stdout);
    scene.says(client, b"GET /r/2 HTTP/1.1\r\nHost: sim\r\n\r\n");
    scene.settle();
    scene.says(target, SMALL);
    scene.settle();
    let batch = scene.engine.access_batch().expect("the log is on");
    let requests: Vec<_> =
        batch.entries().map(|(_, parts)| parts[TextPart::Uri as usize].to_vec()).collect();
    assert_eq!(requests, [b"/r/2".to_vec()]);
}

#[test]
fn content_that_may_lie_unread_goes_with_a_reset() {
    for (method, pooled) in [
        ("GET", 0),
        ("DELETE", 0),
        ("PROPFIND", 0),
        ("get", 0),
        ("POST", 1),
        ("PUT", 1),
        ("PATCH", 1),
    ] {
        let mut scene = Scene::new(CALM);
        let client = scene.client();
        let request =
            format!("{method} /r/1 HTTP/1.1\r\nHost: sim\r\nContent-Length: 3\r\n\r\nabc");
        scene.says(client, request.as_bytes());
        scene.settle();
        let target = scene.arrival();
        scene.says(target, EMPTY);
        scene.settle();
        assert!(scene.hears(client).0.starts_with("HTTP/1.1 200 "), "{method}");
        assert_eq!(scene.engine.upstream_count(), pooled, "{method}");
        assert_eq!(scene.hears(target).1, if pooled == 1 { "open" } else { "reset" }, "{method}");
    }
}

#[test]
fn without_local_ports_a_pooled_connection_is_used() {
    let (mut scene, client) = Scene::with_standby();
    scene.says(client, GET);
    scene.settle();
    let pooled = scene.arrival();
    scene.says(pooled, b"HTTP/1.1 204 Done\r\n\r\n");
    scene.settle();
    let all = [Short::Ports(0), Short::Ports(1)].map(|short| (u64::MAX, short));
    scene.network.borrow_mut().shortages.extend(all);
    // The first takes the pooled connection, the second waits for it, and the third in vain.
    let others = [scene.client(), scene.client(), scene.client()];
    for other in others {
        scene.says(other, GET);
        scene.settle();
    }
    assert_eq!(scene.hears(pooled).0.matches("GET /r/1").count(), 2);
    scene.says(pooled, b"HTTP/1.1 204 Done\r\n\r\n");
    scene.settle();
    scene.wait(Duration::from_millis(100));
    assert_eq!(scene.hears(pooled).0.matches("GET /r/1").count(), 1, "it was there in time");
    assert_eq!(scene.hears(others[2]), (String::new(), "open"));
    scene.wait(Duration::from_millis(500));
    scene.settle();
    let heard = others.map(|other| scene.hears(other).0);
    let starts = |text: &str, status| text.starts_with(&format!("HTTP/1.1 {status} "));
    assert!(starts(&heard[0], 204) && heard[1].is_empty() && starts(&heard[2], 503), "{heard:?}");
    assert_eq!(scene.counters.connect_failed.get(), 0);
    assert_eq!(scene.engine.take_reports().count(), 0);
}

#[test]
fn one_connect_that_fails_for_our_own_shortage_is_made_again() {
    for short in [Short::Memory, Short::Descriptors(0)] {
        let mut scene = Scene::new(CALM);
        let client = scene.client();
        scene.network.borrow_mut().shortages.push((u64::MAX, short));
        scene.says(client, GET);
        scene.settle();
        assert_eq!(scene.hears(client), (String::new(), "open"));
        scene.network.borrow_mut().shortages.clear();
        scene.wait(Duration::from_millis(50));
        let target = scene.arrival();
        scene.says(target, SMALL);
        scene.settle();
        assert!(scene.hears(client).0.starts_with("HTTP/1.1 200 "));
        assert_eq!(scene.engine.take_reports().count(), 0);
    }
}

#[test]
fn an_upload_that_has_waited_for_a_connection_has_its_own_limit() {
    let timeouts = Plan::default().timeouts;
    let mut scene = Scene::new(CALM);
    let client = scene.client();
    scene.network.borrow_mut().shortages.push((u64::MAX, Short::Memory));
    scene.says(client, b"POST /r/1 HTTP/1.1\r\nHost: sim\r\nContent-Length: 5\r\n\r\nhe");
    scene.settle();
    scene.network.borrow_mut().shortages.clear();
    scene.wait(Duration::from_millis(50));
    let target = scene.arrival();
    assert!(timeouts.client_header < timeouts.client_body);
    scene.wait(timeouts.client_header);
    scene.says(client, b"llo");
    scene.settle();
    assert!(scene.hears(target).0.ends_with("hello"));
    assert_eq!(scene.hears(client), (String::new(), "open"));
}

#[test]
fn a_client_that_leaves_while_its_request_waits_for_a_connection_is_gone() {
    let mut scene = Scene::new(CALM);
    let client = scene.client();
    scene.network.borrow_mut().shortages.push((u64::MAX, Short::Memory));
    scene.says(client, GET);
    scene.settle();
    scene.resets(client);
    scene.wait(Duration::from_secs(1));
    assert_eq!((scene.engine.client_count(), scene.engine.upstream_count()), (0, 0));
}

#[test]
fn for_want_of_local_ports_towards_one_endpoint_the_other_one_is_used() {
    let mut scene = Scene::with(CALM, snapshot(1, &[true, true]));
    scene.network.borrow_mut().shortages.push((u64::MAX, Short::Ports(0)));
    for _ in 0..2 {
        let client = scene.client();
        scene.says(client, GET);
        scene.settle();
        assert_eq!(scene.network.borrow_mut().arrivals.pop().map(|(host, _)| host), Some(1));
    }
    assert_eq!(scene.engine.take_reports().count(), 0);
}

#[test]
fn for_want_of_descriptors_what_is_idle_gives_way() {
    let (mut scene, client, target) = Scene::exchange(CALM, GET);
    scene.says(target, b"HTTP/1.1 204 Done\r\n\r\n");
    scene.settle();
    assert_eq!(scene.engine.idle_upstream_count(), 1);
    scene.wait(Duration::from_secs(1));
    // The pooled connection carries another request now, so that a third can only have the idle client's place.
    let [second, third] = [scene.client(), scene.client()];
    scene.says(second, GET);
    scene.settle();
    let open = scene.network.borrow().near_open();
    scene.network.borrow_mut().shortages.push((u64::MAX, Short::Descriptors(open)));
    scene.says(third, GET);
    scene.settle();
    assert_ne!(scene.hears(client).1, "open", "it was idle for longest");
    assert!(scene.network.borrow_mut().arrivals.pop().is_some(), "the third has a connection");
}
