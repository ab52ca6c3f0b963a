//! Who gets which request, and which worker which connection.

use crate::harness::{Evenly, Meeting, Origin, Start, answer, until};

fn named_three() -> [Origin; 3] {
    [Origin::named("a"), Origin::named("b"), Origin::named("c")]
}

/// Checks that `names` go round in one order, whichever came first.
fn assert_round(names: &[String], count: usize) {
    for (at, name) in names.iter().enumerate() {
        assert_eq!(*name, names[at % count], "number {at} of {names:?}");
    }
    let mut round = names[..count].to_vec();
    round.sort();
    round.dedup();
    assert_eq!(round.len(), count, "{names:?}");
}

#[test]
fn requests_on_one_connection_go_round() {
    let [a, b, c] = named_three();
    let evenly = Evenly::before(&[&a, &b, &c]);
    let mut client = evenly.client();
    let names: Vec<String> = (0..30).map(|_| client.get("/").text().to_owned()).collect();
    assert_round(&names, 3);
    assert_eq!([a.requests(), b.requests(), c.requests()], [10, 10, 10]);
}

#[test]
fn requests_on_many_connections_over_both_workers_go_round() {
    let [a, b, c] = named_three();
    let evenly = Evenly::before(&[&a, &b, &c]);
    let mut clients: Vec<_> = (0..16).map(|_| evenly.client()).collect();
    let mut names = Vec::new();
    for _ in 0..3 {
        for client in &mut clients {
            names.push(client.get("/").text().to_owned());
        }
    }
    assert_round(&names, 3);
    assert_eq!([a.requests(), b.requests(), c.requests()], [16, 16, 16]);
}

#[test]
fn a_connection_for_each_request_goes_round_too() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Evenly::before(&[&a, &b]);
    let names: Vec<String> = (0..40).map(|_| evenly.client().get("/").text().to_owned()).collect();
    assert_round(&names, 2);
}

#[test]
fn requests_at_the_same_time_are_shared_exactly() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Evenly::before(&[&a, &b]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let mut client = evenly.client();
            scope.spawn(move || (0..50).for_each(|_| assert_eq!(client.get("/").status, 200)));
        }
    });
    assert_eq!((a.requests(), b.requests()), (200, 200));
}

#[test]
fn connections_to_targets_are_kept_and_used_again() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Start::before(&[&a, &b]).workers(1).start();
    for _ in 0..5 {
        let mut client = evenly.client();
        (0..4).for_each(|_| assert_eq!(client.get("/").status, 200));
    }
    assert_eq!((a.requests(), b.requests()), (10, 10));
    assert_eq!((a.connections(), b.connections()), (1, 1));
}

#[test]
fn no_more_connections_to_a_target_are_kept_than_the_limit_says() {
    // The answers are held back until all four requests are here, so that there are four connections.
    let gate = Meeting::of(4);
    let origin = Origin::start(move |wire, _| {
        gate.wait();
        answer(wire, "ok")
    });
    let evenly =
        Start::before(&[&origin]).workers(1).config("[limits]\nidle_per_target = 1").start();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = evenly.client();
            scope.spawn(move || assert_eq!(client.get("/").status, 200));
        }
    });
    until("all but one are closed", || origin.ended() == 3);
    assert_eq!(origin.connections(), 4);
}

/// How many descriptors each worker's poll watches, its own two or three included.
fn watched(evenly: &Evenly) -> Vec<usize> {
    let lines = |entry: &String| -> Vec<String> {
        let info = evenly.proc(entry);
        info.lines().filter(|line| line.starts_with("tfd:")).map(str::to_owned).collect()
    };
    let mut polls: Vec<_> = evenly.proc_entries("fdinfo").iter().map(lines).collect();
    // Each of their polls has two descriptors, which show the same; the health thread's has one.
    polls.sort();
    let pairs = polls.windows(2).filter(|pair| pair[0] == pair[1]);
    pairs.map(|pair| pair[0].len()).filter(|&count| count > 0).collect()
}

#[test]
fn accepted_connections_are_spread_evenly_over_the_workers() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let mut before = Vec::new();
    until("two workers have two polls", || {
        before = watched(&evenly);
        before.len() == 2
    });
    let clients: Vec<_> = (0..32).map(|_| evenly.client()).collect();
    let own: usize = before.iter().sum();
    until("all are accepted", || watched(&evenly).iter().sum::<usize>() == own + 32);
    let after = watched(&evenly);
    // Two workers that accept at the same moment may both choose the same.
    assert!(after[0].abs_diff(after[1]) <= 4, "{after:?}");
    drop(clients);
    until("all are closed", || watched(&evenly).iter().sum::<usize>() == own);
}
