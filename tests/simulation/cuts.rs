//! How a client's connection ends when its response is not whole, or its last one is: what is whole arrives, and nothing looks
//! whole that is not.

use std::time::Duration;

use evenly::engine::LINGER;
use evenly::metrics::ReasonCounts;
use evenly::settings::Plan;

use crate::net::Weather;
use crate::scenes::{CALM, GET, Scene};

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const OLD_GET: &[u8] = b"GET /r/1 HTTP/1.0\r\n\r\n";

#[test]
fn whole_chunks_before_a_broken_one_are_passed_on_and_no_end_behind_them() {
    for fault in ["zz\r\n", "5\r\nwrong, this", "0\r\nnot a field\r\n"] {
        let (mut scene, client, target) = Scene::exchange(CALM, GET);
        scene.says(target, CHUNKED);
        scene.settle();
        scene.says(target, format!("2\r\nab\r\n3\r\ncde\r\n{fault}").as_bytes());
        scene.settle();
        let (heard, end) = scene.hears(client);
        let body = heard.split_once("\r\n\r\n").unwrap().1;
        let all = if fault.starts_with('5') { "a\r\nabcdewrong\r\n" } else { "5\r\nabcde\r\n" };
        assert_eq!((body, end), (all, "end"), "{fault:?}");
        assert_eq!(scene.counters.cut.get(), 1);
    }
}

#[test]
fn a_request_that_waits_does_not_reset_away_what_was_sent_before_a_cut() {
    let (mut scene, client, target) = Scene::exchange(CALM, GET);
    scene.says(client, GET);
    scene.settle();
    scene.says(target, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it");
    scene.ends(target);
    scene.settle();
    let (heard, end) = scene.hears(client);
    assert!(heard.ends_with("\r\n\r\nhalf of it") && end == "end", "{heard} {end}");
    assert_eq!(scene.engine.client_count(), 1, "it has time to read");
    scene.wait(LINGER + Duration::from_secs(1));
    assert_eq!((scene.engine.client_count(), scene.counters.cut.get()), (0, 1));
}

#[test]
fn what_waits_for_a_slow_reader_when_its_response_is_cut_reaches_it() {
    let narrow = Weather { capacity: 1_000, lossy_resets: 0, ..CALM };
    for (get, wanted) in [(GET, "end"), (OLD_GET, "reset")] {
        let (mut scene, client, target) = Scene::exchange(narrow, get);
        scene.says(target, CHUNKED);
        scene.settle();
        for _ in 0..2 {
            scene.says(target, format!("2bc\r\n{}\r\n", "x".repeat(700)).as_bytes());
            scene.settle();
        }
        scene.ends(target);
        scene.settle();
        let (mut all, mut end) = (0, "open");
        while end == "open" {
            // Slower than anything but the time between two writes that it takes.
            scene.wait(Plan::default().timeouts.client_body / 2);
            let heard = scene.hears(client);
            all += heard.0.matches('x').count();
            end = heard.1;
            scene.settle();
        }
        assert_eq!((all, end), (1_400, wanted));
    }
}

#[test]
fn a_reader_that_takes_nothing_of_a_response_that_is_over_is_no_cut_of_it() {
    let narrow = Weather { capacity: 1_000, ..CALM };
    let (mut scene, _, target) = Scene::exchange(narrow, GET);
    scene.says(target, b"HTTP/1.1 200 OK\r\nContent-Length: 1400\r\n\r\n");
    for _ in 0..2 {
        scene.settle();
        scene.says(target, "x".repeat(700).as_bytes());
    }
    scene.settle();
    scene.wait(Plan::default().timeouts.client_body * 2);
    assert_eq!((scene.engine.client_count(), scene.counters.finished.get()), (0, 1));
    let reasons = ReasonCounts::of(&scene.counters.reasons);
    assert_eq!((scene.counters.cut.get(), reasons), (0, ReasonCounts::default()));
}

#[test]
fn the_wait_for_a_reader_of_a_cut_response_is_bounded() {
    let narrow = Weather { capacity: 1_000, ..CALM };
    for get in [GET, OLD_GET] {
        let (mut scene, _, target) = Scene::exchange(narrow, get);
        scene.says(target, CHUNKED);
        scene.settle();
        for _ in 0..2 {
            scene.says(target, format!("2bc\r\n{}\r\n", "x".repeat(700)).as_bytes());
            scene.settle();
        }
        scene.ends(target);
        scene.settle();
        scene.wait(Plan::default().timeouts.client_body * 2);
        assert_eq!((scene.engine.client_count(), scene.counters.cut.get()), (0, 1));
    }
}

#[test]
fn bytes_behind_the_last_request_do_not_reset_its_response() {
    for get in
        ["GET /r/1 HTTP/1.0\r\n\r\n", "GET /r/1 HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n"]
    {
        let (mut scene, client, target) = Scene::exchange(CALM, get.as_bytes());
        scene.says(target, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        scene.fly();
        scene.turn(|scene| {
            // As old browsers do behind a POST.
            scene.says(client, b"\r\n");
            scene.fly();
        });
        scene.settle();
        let (heard, end) = scene.hears(client);
        assert!(heard.ends_with("\r\n\r\nok") && end == "end", "{heard} {end}");
        scene.ends(client);
        scene.settle();
        assert_eq!(scene.engine.client_count(), 0);
    }
}

#[test]
fn a_client_that_breaks_its_request_gets_what_was_whole_of_the_response() {
    let post = b"POST /r/1 HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut scene, client, target) = Scene::exchange(CALM, post);
    scene.says(target, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it");
    scene.settle();
    scene.says(client, b"no size\r\n");
    scene.settle();
    let (heard, end) = scene.hears(client);
    assert!(heard.ends_with("\r\n\r\nhalf of it") && end == "end", "{heard} {end}");
}

#[test]
fn an_idle_client_whose_request_is_here_does_not_make_room_but_another_does() {
    let mut scene = Scene::new(CALM);
    let asks = scene.client();
    scene.settle();
    let idles = scene.client();
    scene.wait(Duration::from_secs(1));
    scene.turn(|_| {});
    // No event has said so yet.
    scene.says(asks, GET);
    scene.fly();
    assert!(scene.engine.evict_idle());
    assert_eq!(scene.engine.client_count(), 1);
    assert!(!scene.engine.evict_idle(), "nobody else is idle");
    scene.settle();
    assert_eq!(scene.hears(idles).1, "end");
    let target = scene.arrival();
    assert!(scene.hears(target).0.starts_with("GET /r/1 "));
    scene.says(target, b"HTTP/1.1 204 Done\r\n\r\n");
    scene.settle();
    assert!(scene.hears(asks).0.starts_with("HTTP/1.1 204 "));
}
