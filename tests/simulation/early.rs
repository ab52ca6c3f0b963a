//! Responses that are whole before their requests: the upload goes on, whoever of the two sides is slow, stops or leaves.

use std::time::Duration;

use evenly::engine::LINGER;
use evenly::settings::{Plan, Timeouts};

use crate::net::Weather;
use crate::scenes::{CALM, GET, Scene};

const OK: &[u8] = b"HTTP/1.1 202 Yes\r\nContent-Length: 2\r\n\r\nok";
const CLOSES: &[u8] = b"HTTP/1.1 202 Yes\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

fn timeouts() -> Timeouts {
    Plan::default().timeouts
}

/// The head of an upload of so many bytes.
fn post(len: usize) -> Vec<u8> {
    format!("POST /r/1 HTTP/1.1\r\nHost: sim\r\nContent-Length: {len}\r\n\r\n").into_bytes()
}

impl Scene {
    /// An upload of 100 bytes, of which 40 were sent when its target gave a whole `answer`.
    fn answered(weather: Weather, answer: &[u8]) -> (Scene, usize, usize) {
        let (mut scene, client, target) =
            Scene::exchange(weather, &[post(100), vec![b'a'; 40]].concat());
        scene.says(target, answer);
        scene.settle();
        let (heard, end) = scene.hears(client);
        assert!(heard.ends_with("\r\n\r\nok") && end == "open", "{heard} {end}");
        assert_eq!(scene.counters.finished.get(), 0, "its exchange goes on");
        assert_eq!((scene.engine.upstream_count(), scene.engine.idle_upstream_count()), (1, 0));
        (scene, client, target)
    }

    /// The client's connection carries another exchange.
    fn goes_on(&mut self, client: usize) {
        self.says(client, GET);
        self.settle();
        let target = self.arrival();
        assert!(self.hears(target).0.starts_with("GET /r/1 "));
        self.says(target, OK);
        self.settle();
        assert!(self.hears(client).0.starts_with("HTTP/1.1 202 "));
    }
}

#[test]
fn an_upload_goes_on_and_the_next_request_has_a_new_connection() {
    let (mut scene, client, target) = Scene::answered(CALM, OK);
    for _ in 0..2 {
        scene.wait(timeouts().client_body * 2 / 3);
        scene.says(client, &[b'b'; 20]);
        scene.settle();
        assert_eq!(scene.hears(target), ("b".repeat(20), "open"));
    }
    scene.says(client, &[&[b'c'; 20], GET].concat());
    scene.settle();
    // In order: a reset could take away what it has not read.
    assert_eq!(scene.hears(target), ("c".repeat(20), "end"));
    assert_eq!(scene.counters.finished.get(), 1);
    let next = scene.arrival();
    assert!(scene.hears(next).0.starts_with("GET /r/1 "));
    scene.says(next, OK);
    scene.settle();
    assert!(scene.hears(client).0.starts_with("HTTP/1.1 202 "));
    assert_eq!(scene.engine.take_reports().count(), 0);
}

#[test]
fn what_waits_for_the_target_when_it_answers_reaches_it_too() {
    let narrow = Weather { capacity: 1_000, ..CALM };
    let (mut scene, client, target) = Scene::exchange(narrow, &post(3_000));
    for _ in 0..2 {
        scene.says(client, &[b'a'; 1_000]);
        scene.settle();
    }
    // The target's pipe is full, and some of the rest waits in front of it.
    scene.says(client, &[b'a'; 1_000]);
    scene.settle();
    scene.says(target, OK);
    scene.settle();
    assert!(scene.hears(client).0.ends_with("ok"));
    let mut heard = 0;
    for _ in 0..5 {
        heard += scene.hears(target).0.len();
        scene.settle();
    }
    assert_eq!((heard, scene.hears(target).1), (3_000, "end"));
    assert_eq!(scene.counters.finished.get(), 1);
    scene.goes_on(client);
}

#[test]
fn a_client_that_stalls_its_upload_after_its_response_is_closed() {
    let (mut scene, client, target) = Scene::answered(CALM, OK);
    scene.wait(timeouts().client_body + Duration::from_secs(1));
    assert_eq!(scene.hears(client), (String::new(), "end"));
    assert_eq!(scene.hears(target).1, "reset", "its request has no end");
    let counters = &scene.counters;
    assert_eq!((counters.finished.get(), counters.cut.get(), counters.answered.get()), (1, 0, 0));
}

#[test]
fn a_client_that_leaves_has_had_its_response() {
    for resets in [true, false] {
        let (mut scene, client, target) = Scene::answered(CALM, OK);
        match resets {
            true => scene.resets(client),
            false => scene.ends(client),
        }
        scene.settle();
        assert_eq!(scene.hears(target).1, "reset");
        let counters = &scene.counters;
        assert_eq!((counters.finished.get(), counters.abandoned.get()), (1, 0));
        assert_eq!((scene.engine.client_count(), scene.engine.upstream_count()), (0, 0));
    }
}

#[test]
fn the_rest_of_an_unwanted_upload_is_dropped_if_it_ends_soon() {
    for (resets, pauses) in [(true, 1), (false, 1), (false, 2)] {
        let (mut scene, client, target) = Scene::answered(CALM, OK);
        match resets {
            true => scene.resets(target),
            false => scene.ends(target),
        }
        scene.settle();
        assert_eq!(scene.engine.upstream_count(), 0);
        for _ in 0..pauses {
            scene.wait(LINGER * 2 / 3);
            scene.says(client, &[b'b'; 10]);
            scene.settle();
        }
        if pauses > 1 {
            assert_ne!(scene.hears(client).1, "open", "each byte would begin its time anew");
            assert_eq!(scene.counters.finished.get(), 1);
            continue;
        }
        scene.says(client, &[b'b'; 50]);
        scene.settle();
        assert_eq!(scene.counters.finished.get(), 1);
        scene.goes_on(client);
        assert_eq!(scene.engine.take_reports().count(), 0);
    }
}

#[test]
fn a_target_that_reads_no_more_is_given_up_and_what_still_comes_is_dropped() {
    let narrow = Weather { capacity: 1_000, ..CALM };
    let (mut scene, client, target) = Scene::exchange(narrow, &post(5_000));
    scene.says(target, OK);
    scene.settle();
    assert!(scene.hears(client).0.ends_with("ok"));
    let mut sent = 0;
    let mut say = |scene: &mut Scene| {
        scene.says(client, &[b'x'; 500]);
        scene.settle();
        sent += 500;
        sent
    };
    // Two for the target, one that waits for it, and two more in front.
    while say(&mut scene) < 2_500 {}
    scene.wait(timeouts().response_body - Duration::from_secs(1));
    assert_eq!(scene.engine.upstream_count(), 1, "its time is not over");
    scene.wait(Duration::from_secs(2));
    assert_eq!(scene.engine.upstream_count(), 0);
    while say(&mut scene) < 5_000 {}
    assert_eq!(scene.hears(target).1, "reset");
    assert_eq!((scene.counters.finished.get(), scene.counters.cut.get()), (1, 0));
    scene.goes_on(client);
    assert_eq!(scene.engine.take_reports().count(), 0);
}

#[test]
fn a_target_that_says_more_than_its_answer_takes_no_more() {
    for unasked in ["", "HTTP/1.1 200 OK\r\n"] {
        let (mut scene, client, target) =
            Scene::exchange(CALM, &[post(100), vec![b'a'; 40]].concat());
        scene.says(target, &[OK, unasked.as_bytes()].concat());
        scene.settle();
        if unasked.is_empty() {
            scene.says(target, b"HTTP/1.1 200 OK\r\n");
            scene.settle();
        }
        assert_eq!(scene.engine.upstream_count(), 0);
        scene.says(client, &[b'b'; 60]);
        scene.settle();
        assert!(scene.hears(client).0.ends_with("\r\n\r\nok"));
        scene.goes_on(client);
    }
}

#[test]
fn a_client_that_reads_after_its_upload_gets_a_large_response() {
    const LEN: usize = 10_000;
    let narrow = Weather { capacity: 1_000, ..CALM };
    let (mut scene, client, target) = Scene::exchange(narrow, &post(LEN));
    scene.says(target, format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n").as_bytes());
    let (mut answered, mut taken) = (0, 0);
    let mut reply = |scene: &mut Scene| {
        // As far as there is room: the target goes on when it is heard.
        for _ in 0..4 {
            let room = scene.room(target).min(LEN - answered);
            if room > 0 {
                scene.says(target, &vec![b'y'; room]);
                answered += room;
            }
            scene.settle();
            taken += scene.hears(target).0.len();
            scene.settle();
        }
        (answered, taken)
    };
    for _ in 0..LEN / 500 {
        scene.says(client, &[b'x'; 500]);
        scene.settle();
        reply(&mut scene);
    }
    let mut heard = 0;
    while reply(&mut scene).0 < LEN || heard < LEN {
        let more = scene.hears(client).0.matches('y').count();
        scene.settle();
        heard += more;
        assert!(more > 0 || heard == LEN, "{heard}");
    }
    assert_eq!((heard, reply(&mut scene).1), (LEN, LEN));
    scene.goes_on(client);
}

#[test]
fn an_http_1_0_client_has_its_whole_response_before_its_upload_ends() {
    let post = b"POST /r/1 HTTP/1.0\r\nContent-Length: 10\r\n\r\nhalf ";
    let (mut scene, client, target) = Scene::exchange(CALM, post);
    scene.says(target, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    scene.says(target, b"0\r\n\r\n");
    scene.settle();
    let (heard, end) = scene.hears(client);
    assert!(heard.ends_with("\r\n\r\nok") && end == "end", "{heard} {end}");
    scene.says(client, b"whole");
    scene.settle();
    assert_eq!(scene.hears(target), ("whole".to_owned(), "end"));
    assert_eq!((scene.engine.client_count(), scene.counters.finished.get()), (0, 1));
}

#[test]
fn a_request_that_breaks_behind_its_response_takes_nothing_of_that_back() {
    let post = b"POST /r/1 HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut scene, client, target) = Scene::exchange(CALM, post);
    scene.says(target, OK);
    scene.settle();
    scene.says(client, b"no size\r\n");
    scene.settle();
    assert_eq!(scene.hears(target).1, "reset", "it must not take the part for all");
    let (heard, end) = scene.hears(client);
    assert!(heard.ends_with("\r\n\r\nok") && end == "end", "{heard} {end}");
    let counters = &scene.counters;
    assert_eq!((counters.finished.get(), counters.answered.get(), counters.cut.get()), (1, 0, 0));
}

#[test]
fn an_upload_is_not_idle_and_goes_on_in_a_drain_until_that_is_over() {
    let (mut scene, client, target) = Scene::answered(CALM, OK);
    scene.wait(Duration::from_secs(1));
    assert!(!scene.engine.evict_idle());
    scene.engine.drain(evenly::base::tick::Tick(scene.now));
    scene.wait(Duration::from_secs(10));
    scene.says(client, &[b'b'; 20]);
    scene.settle();
    assert_eq!(scene.hears(target), ("b".repeat(20), "open"));
    scene.says(client, &[b'b'; 40]);
    scene.settle();
    assert_eq!(scene.hears(target).1, "end");
    scene.wait(Duration::from_secs(1));
    assert_eq!(scene.hears(client), (String::new(), "end"));
    let (mut scene, client, _) = Scene::answered(CALM, OK);
    scene.engine.cut_all();
    scene.settle();
    assert_ne!(scene.hears(client).1, "open");
    assert_eq!((scene.counters.finished.get(), scene.counters.cut.get()), (0, 1));
}

#[test]
fn a_target_that_announces_its_close_may_read_to_the_end() {
    for closes in [true, false] {
        let (mut scene, client, target) =
            Scene::exchange(CALM, &[post(100), vec![b'a'; 100]].concat());
        scene.says(target, CLOSES);
        scene.settle();
        assert!(scene.hears(client).0.ends_with("ok"));
        assert_eq!((scene.hears(target).1, scene.engine.upstream_count()), ("open", 1));
        match closes {
            true => scene.ends(target),
            false => scene.wait(Duration::from_secs(2)),
        }
        scene.settle();
        assert_eq!((scene.hears(target).1, scene.engine.upstream_count()), ("end", 0));
        scene.goes_on(client);
    }
}

#[test]
fn one_that_says_so_in_the_middle_of_an_upload_gets_the_rest_of_it() {
    let (mut scene, client, target) = Scene::answered(CALM, CLOSES);
    scene.says(client, &[b'b'; 60]);
    scene.settle();
    assert_eq!(scene.hears(target), ("b".repeat(60), "open"));
    assert_eq!(scene.counters.finished.get(), 1);
    scene.ends(target);
    scene.settle();
    assert_eq!(scene.hears(target).1, "end");
    scene.goes_on(client);
}

#[test]
fn many_uploads_that_were_answered_early_leave_few_ports_in_time_wait() {
    let mut scene = Scene::new(CALM);
    let mut ends = Vec::new();
    for _ in 0..30 {
        let client = scene.client();
        scene.says(client, &post(2));
        scene.settle();
        let target = scene.arrival();
        scene.says(target, OK);
        scene.settle();
        scene.says(client, b"ab");
        scene.settle();
        ends.push(target);
    }
    let now: Vec<_> = ends.iter().map(|&target| scene.hears(target).1).collect();
    let count = |ends: &[&str], wanted| ends.iter().filter(|&&end| end == wanted).count();
    assert_eq!((count(&now, "end"), count(&now, "open")), (20, 10));
    scene.wait(Duration::from_millis(1_200));
    scene.settle();
    assert_eq!(scene.engine.upstream_count(), 0);
}
