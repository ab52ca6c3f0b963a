//! The APIs as a service: ports, weights and a standby by SRV records (RFC 2782), and their changes.

use evenly_demo::stage::{Piece, SERVICE, Service, Targets, Zone};

use crate::harness::wait_for;
use crate::play::{SOON, Story, api};

/// The APIs 1 and 3, each on a port of its own, with these weights, and API 2 as their standby.
#[track_caller]
fn publish(story: &mut Story, weights: [u16; 2]) {
    let record = |priority, weight, number| Service {
        priority,
        weight,
        port: story.address(Piece::Api(number)).unwrap().port(),
        host: api(number),
    };
    let records = [record(0, weights[0], 1), record(0, weights[1], 3), record(1, 1, 2)];
    let third = story.address(Piece::Api(3)).unwrap().ip();
    let change = |zone: &mut Zone| {
        zone.set(&api(3), &[third]);
        zone.set_service(SERVICE, &records);
    };
    story.edit_zone(change).unwrap();
}

/// How many of the turns are API 1's, 2's and 3's.
fn shares(turns: &[String]) -> [usize; 3] {
    [1, 2, 3].map(|number| turns.iter().filter(|turn| **turn == api(number)).count())
}

/// Waits until a round goes so, then wants it of many rounds, exactly.
#[track_caller]
fn assert_shares(story: &Story, round: [usize; 3]) {
    let length: usize = round.iter().sum();
    wait_for("the change is followed", || {
        let turns = story.turns(3 * length);
        (shares(&turns) == round.map(|share| 3 * share)).then_some(())
    });
    let turns = story.turns(15 * length);
    for some in turns.windows(length) {
        assert_eq!(shares(some), round, "{turns:?}");
    }
}

#[test]
fn ports_weights_and_a_standby_are_as_the_zone_says() {
    let mut story = Story::with(|plan| plan.targets = Targets::Service);
    assert_shares(&story, [1, 1, 0]);
    let third = story.add_api_at(3, 0).unwrap();
    assert_ne!(third.port(), story.address(Piece::Api(1)).unwrap().port());

    publish(&mut story, [3, 1]);
    assert_shares(&story, [3, 0, 1]);

    publish(&mut story, [1, 2]);
    assert_shares(&story, [1, 0, 2]);

    // It stands by as long as one of the others is there; what one had in hand when it died, the other does.
    story.under_load(|story, load| {
        load.goes_on(20);
        let before = story.journal().now();
        story.kill(Piece::Api(1));
        story.wait_for_line(Piece::Evenly, before, "healthy endpoints: 2");
        assert_eq!(shares(&story.turns(20)), [0, 0, 20]);
    });

    // When both are dead the standby does, what the second one had in hand included.
    story.under_load(|story, load| {
        load.goes_on(20);
        story.kill(Piece::Api(3));
        assert_eq!(shares(&story.turns(20)), [0, 20, 0]);
    });
}

#[test]
fn the_standby_gives_back_what_it_took_when_one_returns() {
    let mut story = Story::with(|plan| {
        plan.targets = Targets::Service;
        plan.check_interval = SOON;
    });
    story.add_api_at(3, 0).unwrap();
    publish(&mut story, [1, 1]);
    assert_shares(&story, [1, 0, 1]);
    story.kill(Piece::Api(1));
    story.kill(Piece::Api(3));
    wait_for("it stands in", || (shares(&story.turns(5)) == [0, 5, 0]).then_some(()));
    story.again(Piece::Api(3));
    wait_for("it gives back", || (shares(&story.turns(5)) == [0, 0, 5]).then_some(()));
}
