//! Targets that fail requests while their probes succeed, and one that answers nobody at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Evenly, Origin, Then, answer, body_of, until};

const OH: &[u8] = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n";

/// Resets every request until it is told to behave.
fn resetting(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let behaves = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&behaves);
    let origin = Origin::start(move |wire, head| {
        if body_of(wire, head).is_err() || !told.load(Ordering::SeqCst) {
            return Then::Reset;
        }
        answer(wire, name)
    });
    (origin, behaves)
}

#[test]
fn a_resetting_target_is_ejected_without_a_failed_get() {
    let ((a, behaves), b) = (resetting("a"), Origin::named("b"));
    let evenly = Evenly::with(&[&a, &b], "[ejection]\nresets = 3\ntime = \"3s\"");
    let mut client = evenly.client();
    let line = format!(
        "target {0} ({0}) is ejected for 3s: 3 consecutive resets of requests that others served; healthy endpoints: 1",
        a.address
    );
    until("it is ejected", || {
        assert_eq!(client.get("/").text(), "b");
        evenly.logged(&line) == 1
    });
    let met = a.requests();
    assert!(met >= 3, "{met}");
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "b");
        assert_eq!(client.post("/", "body").text(), "b");
    }
    // A machine that is busy elsewhere may have needed all of its time.
    assert!(a.requests() == met || evenly.logged("is up again") > 0, "it is left alone");
    behaves.store(true, Ordering::SeqCst);
    until("it serves again", || client.get("/").text() == "a");
    until("that is told", || evenly.logged("is up again: 200 in ") == 1);
    assert_eq!(evenly.logged("is down"), 0, "its probes never failed: {:#?}", evenly.log());
}

/// Answers each request with a 500 until it is told to behave.
fn failing(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let behaves = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&behaves);
    let origin = Origin::start(move |wire, head| match body_of(wire, head) {
        Ok(_) if told.load(Ordering::SeqCst) => answer(wire, name),
        Ok(_) if wire.send(OH).is_ok() => Then::Next,
        _ => Then::Close,
    });
    (origin, behaves)
}

/// Serves all but requests for `/poison`, which it leaves without a response, or answers with a 500.
fn allergic(name: &'static str, closes: bool) -> Origin {
    Origin::start(move |wire, head| {
        if body_of(wire, head).is_err() {
            return Then::Close;
        }
        match head.line.contains("/poison") {
            true if closes || wire.send(OH).is_err() => Then::Close,
            true => Then::Next,
            false => answer(wire, name),
        }
    })
}

#[test]
fn requests_that_no_target_answers_eject_nobody() {
    let (a, b) = (allergic("a", true), allergic("b", true));
    let evenly = Evenly::with(&[&a, &b], "[ejection]\nresets = 2\ntime = \"1h\"");
    let (mut honest, mut served) = (evenly.client(), 0);
    for _ in 0..10 {
        for _ in 0..10 {
            assert_eq!(evenly.client().post("/poison", "body").status, 502);
        }
        assert_eq!(evenly.client().get("/poison").status, 502, "sent again, and in vain");
        (0..2).for_each(|_| served += usize::from(honest.get("/").text() == "a"));
    }
    assert_eq!(served, 10, "of 20");
    assert_eq!(evenly.logged("is ejected"), 0, "{:#?}", evenly.log());
}

#[test]
fn errors_that_every_target_answers_with_eject_nobody_who_serves_others() {
    let (a, b) = (allergic("a", false), allergic("b", false));
    let evenly = Evenly::with(&[&a, &b], "[ejection]\nerrors = 2\ntime = \"1h\"");
    let (mut honest, mut served) = (evenly.client(), 0);
    for _ in 0..10 {
        (0..2).for_each(|_| served += usize::from(honest.get("/").text() == "a"));
        for _ in 0..10 {
            assert_eq!(evenly.client().post("/poison", "body").status, 500);
        }
    }
    assert_eq!(served, 10, "of 20");
    assert_eq!(evenly.logged("is ejected"), 0, "{:#?}", evenly.log());
}

#[test]
fn a_target_that_begins_to_reset_everything_is_out_soon_whoever_it_served_before() {
    let ((a, behaves), b) = (resetting("a"), Origin::named("b"));
    behaves.store(true, Ordering::SeqCst);
    let evenly = Evenly::with(&[&a, &b], "[health]\ninterval = \"1h\"\n[ejection]\ntime = \"1h\"");
    let mut client = evenly.client();
    (0..10).for_each(|_| drop(client.get("/")));
    behaves.store(false, Ordering::SeqCst);
    let broken = Instant::now();
    until("it is ejected", || {
        client.get("/");
        evenly.logged("is ejected for 3600s: 5 consecutive resets of requests that others served")
            == 1
    });
    // Without the proof of those that were served elsewhere it would be ten.
    assert!(broken.elapsed() < Duration::from_secs(8), "{:?}", broken.elapsed());
}

#[test]
fn a_replay_that_has_nowhere_else_to_go_meets_the_same_target_and_fails_once() {
    let ((a, _), b) = (resetting("a"), Origin::named("b"));
    b.set_healthy(false);
    let evenly = Evenly::before(&[&a, &b]);
    assert_eq!(evenly.client().get("/").status, 502);
    assert_eq!((a.requests(), b.requests()), (2, 0));
}

#[test]
fn at_most_half_of_the_targets_are_ejected_and_a_lone_one_never() {
    for (count, out) in [(1, 0), (2, 1), (3, 1)] {
        let origins: Vec<_> = (0..count).map(|_| failing("it")).collect();
        let targets: Vec<&Origin> = origins.iter().map(|(origin, _)| origin).collect();
        let evenly = Evenly::with(&targets, "[ejection]\nerrors = 1\ntime = \"1h\"");
        let mut client = evenly.client();
        for _ in 0..20 {
            assert_eq!(client.post("/", "body").status, 500);
        }
        until("it is told", || {
            evenly.logged("is ejected for 3600s: 1 consecutive server errors") >= out
        });
        for _ in 0..20 {
            assert_eq!(client.post("/", "body").status, 500);
        }
        origins.iter().for_each(|(_, behaves)| behaves.store(true, Ordering::SeqCst));
        let before: Vec<usize> = targets.iter().map(|target| target.requests()).collect();
        for _ in 0..10 * count {
            assert_eq!(client.post("/", "body").text(), "it");
        }
        let after = targets.iter().map(|target| target.requests());
        let serving = after.zip(before).filter(|(after, before)| after > before).count();
        assert_eq!(serving, count - out);
        assert_eq!(evenly.logged("is ejected"), out, "{:#?}", evenly.log());
    }
}

/// Answers everything with a 500.
fn broken() -> Origin {
    Origin::saying("HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\noh", Then::Next)
}

#[test]
fn answers_of_500_eject_a_target_if_that_is_wanted() {
    let (a, b) = (broken(), Origin::named("b"));
    let evenly = Evenly::with(&[&a, &b], "[ejection]\nerrors = 4\ntime = \"1h\"");
    let mut client = evenly.client();
    let mut errors = 0;
    until("it is ejected", || {
        errors += usize::from(client.get("/").status == 500);
        evenly.logged("is ejected for 3600s: 4 consecutive server errors; healthy endpoints: 1")
            == 1
    });
    assert_eq!((errors, a.requests()), (a.requests(), errors), "they are passed on");
    assert!(errors >= 4, "{errors}");
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "b");
    }
}

#[test]
fn answers_of_500_are_the_business_of_the_client_by_default() {
    let (a, b) = (broken(), Origin::named("b"));
    let evenly = Evenly::before(&[&a, &b]);
    let mut client = evenly.client();
    (0..40).for_each(|_| drop(client.get("/")));
    assert_eq!((a.requests(), b.requests()), (20, 20));
    assert_eq!(evenly.logged("is ejected"), 0);
}

#[test]
fn a_refusing_target_is_ejected_before_its_probes_fail() {
    let (a, mut b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Evenly::with(
        &[&a, &b],
        "[health]\nfall = 1000\ninterval = \"1h\"\n[ejection]\nconnect_failures = 2",
    );
    b.stop();
    let mut client = evenly.client();
    until("it is ejected", || {
        assert_eq!(client.get("/").text(), "a");
        evenly.logged(": 2 consecutive connect failures; healthy endpoints: 1") == 1
    });
    // For 5 s, or until a probe succeeds if one had failed before.
    assert_eq!(evenly.logged("is ejected "), 1, "{:#?}", evenly.log());
    b.restart();
    until("it is back", || client.get("/").text() == "b");
}

#[test]
fn a_hung_target_costs_idempotent_requests_only_time() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Evenly::with(
        &[&a, &b],
        "[health]\ninterval = \"1h\"\ntimeout = \"1s\"\n[timeouts]\nresponse_header = \"1s\"",
    );
    a.hang();
    let mut client = evenly.client();
    let mut statuses = [client.post("/", "").status, client.post("/", "").status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 504], "a POST is not repeated");
    let mut client = evenly.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").text(), "b");
    }
    until("its probe has timed out", || {
        evenly.logged("is down: no response within 1s; healthy endpoints: 1") == 1
    });
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "b");
    }
    assert_eq!(evenly.logged("is ejected"), 0);
}
