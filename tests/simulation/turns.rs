//! What one turn of the engine does and does not do: how long it lasts beside others, and what a pause of ours costs them.

use std::sync::Arc;
use std::time::Duration;

use evenly::base::tick::Tick;
use evenly::settings::Plan;

use crate::net::Weather;
use crate::scenes::{CALM, GET, SMALL, Scene};

/// More than a connection may move at a time.
const MUCH: usize = 4 << 20;
const WIDE: Weather = Weather { capacity: 2 * MUCH, ..CALM };

impl Scene {
    /// A client whose request is at its target, on a connection of its own.
    fn asks(&mut self) -> (usize, usize) {
        let client = self.client();
        self.says(client, GET);
        self.settle();
        let target = self.arrival();
        self.hears(target);
        (client, target)
    }

    fn downloads(&mut self, count: usize) -> Vec<(usize, usize)> {
        let downloads: Vec<_> = (0..count).map(|_| self.asks()).collect();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n");
        for &(_, target) in &downloads {
            self.says(target, head.as_bytes());
            self.says(target, &vec![b'x'; MUCH]);
        }
        downloads
    }

    /// One turn, by the clock of a network whose calls take time. How long it lasted.
    fn timed_turn(&mut self) -> Duration {
        self.fly();
        self.turn(|_| {});
        let now = self.network.borrow().now;
        let lasted = Duration::from_micros(now - self.now);
        self.now = now;
        lasted
    }

    /// The clock goes on while the engine does not look: it stood still.
    fn stands_still(&mut self, time: Duration) {
        self.now = Tick(self.now).after(time).0;
        self.network.borrow_mut().advance(self.now);
    }

    fn length_heard(&mut self, wire: usize) -> usize {
        let mut length = 0;
        loop {
            match self.hears(wire).0.len() {
                0 => return length,
                more => length += more,
            }
        }
    }
}

#[test]
fn a_download_moves_two_slices_in_a_turn_at_the_most() {
    let mut scene = Scene::new(WIDE);
    let (client, _) = scene.downloads(1)[0];
    let mut turns = 0;
    let mut length = 0;
    while length < MUCH {
        scene.timed_turn();
        scene.fly();
        let moved = scene.length_heard(client);
        assert!(moved <= 2 * (64 * 1024 + 256 * 1024), "{moved} bytes in one turn");
        length += moved;
        turns += 1;
        assert!(turns < 200, "it stands still");
    }
}

#[test]
fn a_turn_is_short_beside_many_downloads_and_none_of_them_starves() {
    let mut scene = Scene::new(WIDE);
    let downloads = scene.downloads(20);
    // Each has shown that it moves much.
    scene.timed_turn();
    {
        let mut network = scene.network.borrow_mut();
        network.stalls = 0;
        network.set_weather(Weather { slow_calls: 100, ..WIDE });
    }
    // A call takes up to 2 ms: two for a slice, twenty slices.
    for _ in 0..60 {
        let lasted = scene.timed_turn();
        assert!(lasted < Duration::from_millis(9), "{lasted:?}");
    }
    let least = downloads.iter().map(|&(client, _)| scene.length_heard(client)).min();
    assert!(least >= Some(2 * 64 * 1024), "{least:?} bytes of one");
}

#[test]
fn a_small_response_passes_downloads_that_wait_for_their_slices() {
    let mut scene = Scene::new(WIDE);
    let (client, target) = scene.asks();
    let downloads = scene.downloads(20);
    scene.timed_turn();
    scene.fly();
    for &(client, _) in &downloads {
        scene.length_heard(client);
    }
    {
        let mut network = scene.network.borrow_mut();
        network.stalls = 0;
        network.set_weather(Weather { slow_calls: 100, ..WIDE });
    }
    scene.says(target, SMALL);
    scene.timed_turn();
    scene.fly();
    assert!(scene.hears(client).0.ends_with("ok"), "it is served in the first turn");
    let served = downloads.iter().filter(|&&(client, _)| scene.length_heard(client) > 0).count();
    assert!(served < 10, "{served} of 20 downloads ran in the same turn");
}

#[test]
fn a_response_that_came_while_we_stood_still_is_passed_on() {
    let limit = Plan::default().timeouts.response_header;
    let mut scene = Scene::new(CALM);
    let (client, target) = scene.asks();
    scene.says(target, SMALL);
    scene.stands_still(limit * 3);
    scene.settle();
    assert!(scene.hears(client).0.ends_with("ok"));
    assert_eq!(scene.engine.take_reports().count(), 0);
}

#[test]
fn a_target_has_the_rest_of_its_time_after_a_pause_of_ours() {
    let limit = Plan::default().timeouts.response_header;
    let mut scene = Scene::new(CALM);
    let (client, target) = scene.asks();
    scene.stands_still(limit * 3);
    scene.turn(|_| {});
    scene.wait(limit - Duration::from_secs(1));
    assert_eq!(scene.hears(client), (String::new(), "open"));
    scene.says(target, SMALL);
    scene.settle();
    assert!(scene.hears(client).0.ends_with("ok"));
    assert_eq!(scene.engine.take_reports().count(), 0);
}

#[test]
fn a_target_has_its_whole_time_when_we_stood_still_just_before_it_was_asked() {
    for pause in [3, 12] {
        let limit = Duration::from_secs(4);
        let mut plan = Plan::default();
        plan.timeouts.response_header = limit;
        let mut scene = Scene::within(CALM, Arc::default(), plan);
        // It serves several at once, so that no request has to be looked after soon.
        let both = [scene.asks(), scene.asks()];
        for (client, target) in both {
            scene.says(target, SMALL);
            scene.settle();
            scene.hears(client);
        }
        let [_, (client, target)] = both;
        scene.wait(Duration::from_secs(30));
        scene.says(client, GET);
        scene.fly();
        // The read of the client's request, which is sent on in the same turn.
        scene.network.borrow_mut().next_call = Some(pause * 1_000_000);
        scene.turn(|_| {});
        scene.now = scene.network.borrow().now;
        scene.fly();
        assert!(scene.hears(target).0.starts_with("GET "));
        scene.wait(limit - Duration::from_millis(100));
        scene.fly();
        assert_eq!(scene.hears(client), (String::new(), "open"), "a pause of {pause} s");
        scene.says(target, SMALL);
        scene.settle();
        assert!(scene.hears(client).0.ends_with("ok"));
        assert_eq!(scene.engine.take_reports().count(), 0);
    }
}

#[test]
fn a_target_that_is_late_by_our_own_clock_is_late() {
    let limit = Plan::default().timeouts.response_header;
    let mut scene = Scene::new(CALM);
    let (client, _) = scene.asks();
    scene.wait(limit + Duration::from_secs(1));
    assert!(scene.hears(client).0.starts_with("HTTP/1.1 504 "));
}

/// An upload that is written to the end, of which its target has read nothing.
fn unread_upload() -> (Scene, usize, usize) {
    let post = b"POST /r/1 HTTP/1.1\r\nHost: sim\r\nContent-Length: 50000\r\n\r\n";
    let mut scene = Scene::new(Weather { capacity: 60_000, ..CALM });
    let client = scene.client();
    scene.says(client, &[post, &[b'x'; 50_000][..]].concat());
    scene.settle();
    let target = scene.arrival();
    (scene, client, target)
}

#[test]
fn a_target_that_still_takes_what_the_kernel_holds_of_a_request_is_not_late() {
    let limit = Plan::default().timeouts.response_header;
    let (mut scene, client, target) = unread_upload();
    for _ in 0..9 {
        scene.wait(limit * 3 / 4);
        scene.sips(target, 5_000);
    }
    scene.wait(limit * 3 / 4);
    scene.hears(target);
    assert_eq!(scene.hears(client), (String::new(), "open"));
    scene.says(target, SMALL);
    scene.settle();
    assert!(scene.hears(client).0.ends_with("ok"));
    assert_eq!(scene.engine.take_reports().count(), 0);
}

#[test]
fn a_target_that_takes_nothing_of_what_the_kernel_holds_is_late_soon() {
    let limit = Plan::default().timeouts.response_header;
    let (mut scene, client, _) = unread_upload();
    scene.wait(limit + Duration::from_secs(10));
    assert!(scene.hears(client).0.starts_with("HTTP/1.1 504 "));
}

#[test]
fn a_client_that_reads_a_little_now_and_then_is_not_cut() {
    let limit = Plan::default().timeouts.client_body;
    let narrow = Weather { capacity: 60_000, ..CALM };
    let mut scene = Scene::new(narrow);
    let (client, target) = scene.asks();
    scene.says(target, b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n");
    scene.settle();
    scene.says(target, &[b'x'; 50_000]);
    scene.settle();
    scene.says(target, &[b'x'; 50_000]);
    scene.settle();
    // Less than the third of the pipe that is worth an event.
    for _ in 0..6 {
        scene.sips(client, 5_000);
        scene.wait(limit / 2);
    }
    assert_ne!(scene.hears(client).1, "reset");
    assert_eq!(scene.engine.client_count(), 1);
}

#[test]
fn a_client_that_reads_nothing_is_cut() {
    let limit = Plan::default().timeouts.client_body;
    let narrow = Weather { capacity: 60_000, ..CALM };
    let mut scene = Scene::new(narrow);
    let (_, target) = scene.asks();
    scene.says(target, b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n");
    for _ in 0..2 {
        scene.says(target, &[b'x'; 50_000]);
        scene.settle();
    }
    scene.wait(limit * 2);
    assert_eq!(scene.engine.client_count(), 0);
}
