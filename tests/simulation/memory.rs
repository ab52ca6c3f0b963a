//! What becomes of exchanges while buffers hold all they may: another worker holds it, as far as the engine knows.

use std::sync::Arc;
use std::time::Duration;

use evenly::base::buffer::{Chunk, Pool};
use evenly::base::ledger::Ledger;
use evenly::engine::LINGER;
use evenly::settings::Plan;

use crate::net::Weather;
use crate::scenes::{CALM, GET, Scene};

/// What buffers may hold.
const LIMIT: usize = 4 << 20;
/// A pipe takes little, so that what is larger waits in buffers.
const NARROW: Weather = Weather { capacity: 20_000, ..CALM };
const SMALL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Longer than those in line wait to be looked at.
const SOON: Duration = Duration::from_millis(100);

/// Another worker, which holds all that is left.
struct Other {
    pool: Pool,
    held: Vec<Chunk>,
}

impl Other {
    fn gives_all_back(mut self) {
        self.held.into_iter().for_each(|chunk| self.pool.take_back(chunk));
    }
}

impl Scene {
    fn short_of_memory(weather: Weather) -> (Scene, Other) {
        Scene::short_within(weather, Plan::default())
    }

    fn short_within(weather: Weather, plan: Plan) -> (Scene, Other) {
        let memory = Arc::new(Ledger::new(LIMIT, 2));
        let mut pool = Pool::new(Arc::clone(&memory));
        let mut held = Vec::new();
        while memory.held() < LIMIT {
            held.push(pool.lend(&[&[0; 10_000]]));
        }
        (Scene::within(weather, memory, plan), Other { pool, held })
    }

    /// A fresh client gets the whole answer to `request` from `target`, or from whatever connection is opened for it.
    fn is_served(&mut self, request: &[u8], target: Option<usize>) -> usize {
        let client = self.client();
        self.says(client, request);
        self.settle();
        let target = target.unwrap_or_else(|| self.arrival());
        assert!(self.hears(target).0.ends_with("\r\n\r\n"));
        self.says(target, SMALL);
        self.settle();
        assert!(self.hears(client).0.ends_with("ok"));
        target
    }

    /// A client that has read the head of a response of `length` bytes and not more, of which its target has written all it can.
    fn slow_reader(&mut self, length: usize) -> (usize, usize) {
        let client = self.client();
        self.says(client, GET);
        self.settle();
        let target = self.arrival();
        self.hears(target);
        self.says(
            target,
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
        );
        self.settle();
        (client, target)
    }

    /// The target writes as much of its response as is taken now.
    fn pours(&mut self, target: usize, left: &mut usize) {
        let piece = vec![b'x'; 5_000];
        while *left > 0 {
            let count = self.says_some(target, &piece[..piece.len().min(*left)]);
            *left -= count;
            if count == 0 {
                return;
            }
        }
    }
}

#[test]
fn small_exchanges_go_on_while_all_memory_is_held() {
    let (mut scene, _other) = Scene::short_of_memory(CALM);
    let mut target = None;
    for _ in 0..10 {
        target = Some(scene.is_served(GET, target));
    }
    assert_eq!((scene.counters.memory_answers.get(), scene.counters.memory_waits.get()), (0, 0));
}

#[test]
fn a_download_that_is_taken_as_fast_as_it_comes_goes_on_slowly() {
    let (mut scene, _other) = Scene::short_of_memory(NARROW);
    let mut left = 400_000;
    let (client, target) = scene.slow_reader(left);
    let (mut heard, mut rounds) = (0, 0);
    while heard < 400_000 {
        scene.pours(target, &mut left);
        scene.settle();
        scene.wait(SOON);
        heard += scene.hears(client).0.matches('x').count();
        rounds += 1;
        assert!(rounds < 200, "{heard} bytes after {rounds} rounds");
    }
    assert!(scene.counters.memory_waits.get() > 0);
    assert_eq!(scene.engine.take_reports().count(), 0);
}

#[test]
fn slow_readers_wait_for_memory_and_nobody_is_blamed_or_cut_for_that() {
    let (mut scene, other) = Scene::short_of_memory(NARROW);
    let limits = Plan::default().timeouts;
    let mut readers: Vec<_> = (0..10).map(|_| (scene.slow_reader(200_000), 200_000, 0)).collect();
    let mut read = |scene: &mut Scene, most| {
        for ((client, target), left, heard) in &mut readers {
            scene.pours(*target, left);
            scene.settle();
            *heard += scene.hears(*client).0.matches('x').count();
            assert!(*heard <= most, "{heard} bytes");
        }
        readers.iter().all(|(_, left, heard)| *left == 0 && *heard == 200_000)
    };
    for _ in 0..6 {
        read(&mut scene, 180_000);
        scene.wait(limits.client_body / 2);
    }
    assert!(scene.counters.memory_waits.get() >= 10);
    assert_eq!(scene.engine.take_reports().count(), 0);
    assert_eq!((scene.counters.cut.get(), scene.engine.client_count()), (0, 10));
    other.gives_all_back();
    while !read(&mut scene, 200_000) {
        scene.wait(SOON);
    }
}

#[test]
fn who_waits_for_memory_is_not_late() {
    const LENGTH: usize = 60_000;
    let mut plan = Plan::default();
    plan.timeouts.client_body = Duration::from_millis(100);
    let (mut scene, _other) = Scene::short_within(NARROW, plan);
    let head = format!("POST /r/1 HTTP/1.1\r\nHost: sim\r\nContent-Length: {LENGTH}\r\n\r\n");
    let mut uploads = Vec::new();
    for _ in 0..10 {
        let client = scene.client();
        scene.says(client, head.as_bytes());
        scene.settle();
        uploads.push((client, scene.arrival(), LENGTH, 0));
    }
    // Targets read now and then, and those before it in line make each wait for longer than a client may.
    for round in 0.. {
        assert!(round < 50_000, "{uploads:?}");
        for (client, target, left, heard) in &mut uploads {
            scene.pours(*client, left);
            if round % 20 == 0 {
                *heard += scene.hears(*target).0.matches('x').count();
            }
        }
        if uploads.iter().all(|(_, _, _, heard)| *heard == LENGTH) {
            break;
        }
        scene.settle();
        scene.wait(Duration::from_millis(20));
    }
    for (client, target, _, _) in uploads {
        scene.says(target, SMALL);
        scene.settle();
        assert!(scene.hears(client).0.ends_with("ok"));
    }
    assert!(scene.counters.memory_waits.get() >= 10);
    assert_eq!(scene.engine.take_reports().count(), 0);
}

#[test]
fn a_target_that_falls_silent_is_late_whatever_memory_there_is() {
    let (mut scene, _other) = Scene::short_of_memory(NARROW);
    let (client, target) = scene.slow_reader(200_000);
    // Together with the head it is a little more than the client's pipe takes; then it reads all.
    let mut left = 20_000;
    while left > 0 {
        scene.pours(target, &mut left);
        scene.settle();
        scene.wait(SOON);
    }
    assert_eq!(scene.hears(client).0.matches('x').count() / 1_000, 19, "the rest waits");
    scene.settle();
    scene.wait(Plan::default().timeouts.response_body + Duration::from_secs(1));
    scene.hears(client);
    // A cut comes behind what is whole, for which the client has some time.
    scene.wait(LINGER + Duration::from_secs(1));
    assert_eq!((scene.counters.cut.get(), scene.engine.client_count()), (1, 0));
}

#[test]
fn a_head_that_is_not_whole_is_kept_up_to_4_kib_and_then_refused() {
    let (mut scene, _other) = Scene::short_of_memory(CALM);
    let client = scene.client();
    scene.says(client, b"GET / HTTP/1.1\r\nHost: sim\r\nX-Long: ");
    scene.says(client, &[b'a'; 3_000]);
    scene.settle();
    assert_eq!(scene.hears(client), (String::new(), "open"));
    scene.says(client, &[b'a'; 3_000]);
    scene.settle();
    let (heard, _) = scene.hears(client);
    assert!(heard.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{heard}");
    assert!(heard.contains("Connection: close"), "{heard}");
    assert_eq!((scene.counters.memory_answers.get(), scene.counters.unavailable.get()), (1, 0));
    assert_eq!(scene.counters.requests.get(), 1);
}

#[test]
fn a_large_request_takes_an_idle_connection_first() {
    let (mut scene, other) = Scene::short_of_memory(CALM);
    let large = [&GET[..GET.len() - 2], b"Cookie: ", &[b'a'; 6_000], b"\r\n\r\n"].concat();
    let client = scene.client();
    scene.says(client, &large);
    scene.settle();
    assert!(scene.hears(client).0.starts_with("HTTP/1.1 503 "));
    let target = scene.is_served(GET, None);
    scene.is_served(&large, Some(target));
    assert_eq!((scene.counters.dialed.get(), scene.counters.memory_answers.get()), (1, 1));
    // While that one is busy another would have to be opened.
    let busy = scene.client();
    scene.says(busy, GET);
    scene.settle();
    other.gives_all_back();
    scene.wait(SOON);
    scene.is_served(&large, None);
}

#[test]
fn requests_behind_one_another_are_refused_when_they_are_much() {
    let (mut scene, _other) = Scene::short_of_memory(CALM);
    let client = scene.client();
    scene.says(client, &GET.repeat(200));
    scene.settle();
    let (heard, _) = scene.hears(client);
    assert!(heard.starts_with("HTTP/1.1 503 ") && heard.contains("Connection: close"), "{heard}");
    let client = scene.client();
    scene.says(client, &GET.repeat(20));
    scene.settle();
    let target = scene.arrival();
    for _ in 0..20 {
        scene.hears(target);
        scene.says(target, SMALL);
        scene.settle();
    }
    assert_eq!(scene.hears(client).0.matches("\r\n\r\nok").count(), 20);
}

#[test]
fn those_who_hold_all_memory_and_wait_for_more_go_on() {
    // Each holds what its client has sent behind its request, and nobody gives anything back before its response is through.
    let mut scene = Scene::within(NARROW, Arc::new(Ledger::new(100_000, 1)), Plan::default());
    let mut exchanges = Vec::new();
    for _ in 0..12 {
        let client = scene.client();
        let ahead = [&GET[..GET.len() - 2], b"Cookie: ", &[b'a'; 8_000]].concat();
        scene.says(client, &[GET, &ahead].concat());
        scene.settle();
        if scene.hears(client).0.is_empty() {
            let target = scene.arrival();
            scene.hears(target);
            scene.says(target, b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n");
            exchanges.push((client, target, 60_000, 0));
        }
    }
    assert!(exchanges.len() >= 4, "{}", exchanges.len());
    assert!(scene.counters.memory_answers.get() > 0, "the others have found no memory");
    for round in 0.. {
        assert!(round < 1_000, "they wait for one another: {exchanges:?}");
        for (client, target, left, heard) in &mut exchanges {
            scene.pours(*target, left);
            *heard += scene.hears(*client).0.matches('x').count();
        }
        if exchanges.iter().all(|(_, _, _, heard)| *heard == 60_000) {
            return;
        }
        scene.settle();
        scene.wait(SOON);
    }
}
