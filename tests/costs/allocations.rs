//! Zero heap allocations per request in steady state.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evenly::balance::{Endpoint, EndpointId, EndpointState, Preference, Served, Shared, Snapshot};
use evenly::settings::Tcp;
use evenly::worker::listener::{self, ListenerId};
use evenly::worker::{self, Job, Stage};

use crate::messages::{BROWSER, WRK, chunked, nginx, post};
use crate::meter;
use crate::outside::{Clients, Origins};
use crate::wire::Rig;

const CLIENTS: usize = 16;
const REQUESTS: usize = 10_000;
/// Made-up time between two rounds, long enough that every timer fires many times.
const WAIT: Duration = Duration::from_millis(200);
/// Rounds before the count begins: 800 requests and ten seconds, once around the timer wheel.
const WARM_UP: usize = 50;

/// What the engine allocates for [`REQUESTS`] requests.
fn allocations(meter: &'static AtomicU64, request: &[u8], response: &[u8]) -> u64 {
    let mut rig = Rig::new(CLIENTS, request, response);
    for _ in 0..WARM_UP {
        rig.round(WAIT);
    }
    let finished = rig.finished();
    meter::watch(meter);
    let before = meter.load(Ordering::Relaxed);
    for _ in 0..REQUESTS / CLIENTS {
        rig.round(WAIT);
    }
    let allocated = meter.load(Ordering::Relaxed) - before;
    assert_eq!(rig.finished() - finished, REQUESTS as u64);
    allocated
}

#[test]
fn a_bare_get_allocates_nothing() {
    static METER: AtomicU64 = AtomicU64::new(0);
    assert_eq!(allocations(&METER, WRK, &nginx(128)), 0);
    assert_eq!(allocations(&METER, WRK, &nginx(10 * 1024)), 0);
}

#[test]
fn a_browsers_get_allocates_nothing() {
    static METER: AtomicU64 = AtomicU64::new(0);
    assert_eq!(allocations(&METER, BROWSER, &nginx(128)), 0);
    assert_eq!(allocations(&METER, BROWSER, &nginx(10 * 1024)), 0);
}

#[test]
fn a_post_of_1_kib_allocates_nothing() {
    static METER: AtomicU64 = AtomicU64::new(0);
    assert_eq!(allocations(&METER, &post(1024), &nginx(128)), 0);
}

#[test]
fn a_response_in_chunks_allocates_nothing() {
    static METER: AtomicU64 = AtomicU64::new(0);
    assert_eq!(allocations(&METER, WRK, &chunked(3, 4096)), 0);
}

#[test]
fn a_worker_on_real_sockets_allocates_nothing() {
    static METER: AtomicU64 = AtomicU64::new(0);
    let origins = Origins::start(CLIENTS);
    let socket = listener::claim(([127, 0, 0, 1], 0).into(), Default::default(), &Tcp::default())
        .and_then(|claim| claim.listen(1))
        .expect("a listener")
        .remove(0);
    let address = socket.local_addr().expect("an address");
    let (workers, mut stations) =
        worker::prepare(vec![vec![(ListenerId(0), socket)]], None, 1_000, 4_000).expect("a poll");
    let station = stations.pop().expect("one station");
    let job = Job {
        me: 0,
        workers: Arc::clone(&workers),
        boot: Arc::default(),
        shared: published(&origins),
        report: Box::new(|endpoint, why| panic!("{endpoint:?} failed: {why:?}")),
        emptied: Box::new(|| {}),
    };
    let thread = std::thread::spawn(move || {
        meter::watch(&METER);
        worker::run(station, &job);
    });
    let mut clients = Clients::connect(address, CLIENTS);
    clients.warm_up();
    let mut runs = [(); 5].map(|()| {
        let before = METER.load(Ordering::Relaxed);
        (0..REQUESTS / CLIENTS / 5).for_each(|_| clients.round());
        METER.load(Ordering::Relaxed) - before
    });
    workers.set_stage(Stage::Stopping);
    thread.join().expect("the worker ends");
    // What a request allocates shows in every run. A list of the engine's that grows for good shows in one: the list
    // of fired timers does when a second has passed and those of the connects are looked at (a backtrace of each
    // allocation showed `Wheel::empty_slot` and nothing else). Above, time is made up.
    runs.sort_unstable();
    assert_eq!(runs[0], 0, "{runs:?}");
    assert!(runs.iter().sum::<u64>() < 20, "{runs:?}");
}

fn published(origins: &Origins) -> Arc<Shared> {
    let shared = Arc::new(Shared::default());
    let endpoint = |(id, &address): (u32, &SocketAddr)| Endpoint {
        id: EndpointId(id),
        address: address.into(),
        target: "origin".into(),
        state: EndpointState::Up,
        preference: Preference::default(),
        absent: false,
        served: Served::default(),
    };
    let endpoints = (0..).zip(&origins.addresses).map(endpoint).collect();
    shared.snapshot.store(Arc::new(Snapshot::new(1, endpoints)));
    shared
}
