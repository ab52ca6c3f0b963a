//! Which endpoints there are after answers, verdicts and plans.

use super::super::place::MAX_ADDRESSES;
use super::*;
use std::net::SocketAddr;

use crate::settings::{HealthCheck, TargetState};

fn socket(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn ip(last: u8) -> Address {
    socket(last).into()
}

fn target(address: TargetAddress) -> Target {
    Target { address, health: HealthCheck::default(), state: TargetState::Auto }
}

fn named(host: &str) -> Target {
    target(TargetAddress::Name { host: host.into(), port: 80 })
}

fn roster(targets: Vec<Target>) -> Roster {
    Roster::new(Arc::new(Plan { targets, ..Plan::default() }), Instant::now())
}

/// The target's name has these addresses now. Returns the new endpoints.
fn answer(roster: &mut Roster, target: usize, lasts: &[u8]) -> Vec<EndpointId> {
    let places: Vec<_> = lasts.iter().map(|&last| Place::plain(ip(last))).collect();
    roster.set_addresses(target, &places, Instant::now()).added
}

/// The addresses of the snapshot; healthy ones with a `true`.
fn seen(roster: &Roster) -> Vec<(Address, bool)> {
    roster.snapshot(1).endpoints().iter().map(|e| (e.address.clone(), e.healthy())).collect()
}

#[test]
fn endpoints_come_by_target_then_by_address() {
    let mut roster = roster(vec![
        target(TargetAddress::Ip(socket(9))),
        named("b"),
        target(TargetAddress::Ip(socket(1))),
    ]);
    assert_eq!(seen(&roster), [(ip(9), false), (ip(1), false)]);
    answer(&mut roster, 1, &[3, 5]);
    answer(&mut roster, 1, &[2, 3, 5]);
    let order: Vec<_> = seen(&roster).into_iter().map(|(address, _)| address).collect();
    assert_eq!(order, [ip(9), ip(2), ip(3), ip(5), ip(1)]);
}

#[test]
fn a_kept_address_keeps_its_identity_and_a_returning_one_is_new() {
    let mut roster = roster(vec![named("a")]);
    let first = answer(&mut roster, 0, &[1, 2]);
    roster.observe(first[0], true, Instant::now());
    roster.observe(first[1], true, Instant::now());
    assert_eq!(answer(&mut roster, 0, &[1]), []);
    let gone: Vec<_> = roster.retire().into_iter().map(|(id, ..)| id).collect();
    assert_eq!(gone, [first[1]]);
    assert!(roster.is_healthy(first[0]));
    assert!(roster.observe(first[1], true, Instant::now()).is_none());
    let again = answer(&mut roster, 0, &[1, 2]);
    assert!(again.len() == 1 && !first.contains(&again[0]), "{again:?}");
    assert_eq!(seen(&roster), [(ip(1), true), (ip(2), false)]);
}

#[test]
fn a_name_that_moves_keeps_its_healthy_endpoint_until_the_new_one_was_probed() {
    for success in [true, false] {
        let mut roster = roster(vec![named("a")]);
        let old = answer(&mut roster, 0, &[1]);
        roster.observe(old[0], true, Instant::now());
        let new = answer(&mut roster, 0, &[2]);
        assert!(roster.retire().is_empty());
        assert_eq!(roster.healthy_count(), 1);
        roster.observe(new[0], success, Instant::now());
        assert_eq!(roster.retire().len(), 1);
        assert_eq!(seen(&roster), [(ip(2), success)]);
    }
}

#[test]
fn an_unhealthy_endpoint_leaves_at_once_and_a_leaving_one_may_change_its_mind() {
    let mut roster = roster(vec![named("a")]);
    let old = answer(&mut roster, 0, &[1, 2]);
    roster.observe(old[0], true, Instant::now());
    roster.observe(old[1], false, Instant::now());
    answer(&mut roster, 0, &[3]);
    assert_eq!(roster.retire().len(), 1);
    answer(&mut roster, 0, &[1, 3]);
    assert!(roster.retire().is_empty());
    assert_eq!(seen(&roster), [(ip(1), true), (ip(3), false)]);
    assert!(roster.is_healthy(old[0]));
}

#[test]
fn two_names_with_one_address_are_two_endpoints() {
    let mut roster = roster(vec![named("a"), named("b")]);
    let a = answer(&mut roster, 0, &[1]);
    let b = answer(&mut roster, 1, &[1]);
    assert_ne!(a, b);
    roster.observe(b[0], true, Instant::now());
    assert_eq!(seen(&roster), [(ip(1), false), (ip(1), true)]);
}

#[test]
fn identities_are_never_shared_between_rosters() {
    let ids = |roster: Roster| roster.endpoints().map(|(id, _)| id).collect::<Vec<_>>();
    let one = vec![target(TargetAddress::Ip(([10, 0, 0, 1], 80).into()))];
    assert_ne!(ids(roster(one.clone())), ids(roster(one)));
}

#[test]
fn a_name_with_addresses_without_end_gets_a_bounded_number_of_endpoints() {
    let place = |port| Place::plain(SocketAddr::from(([10, 0, 0, 1], port)).into());
    let places: Vec<_> = (0..1_000u16).map(place).collect();
    let mut roster = roster(vec![named("a")]);
    assert_eq!(roster.set_addresses(0, &places, Instant::now()).added.len(), MAX_ADDRESSES);
    assert_eq!(roster.set_addresses(0, &places, Instant::now()), Update::default());
}

#[test]
fn a_target_without_an_address_is_shown_with_its_reason() {
    let mut roster = roster(vec![named("a"), target(TargetAddress::Ip(socket(9)))]);
    let shown = |roster: &Roster| {
        let snapshot = roster.snapshot(1);
        let why = snapshot.unresolved().iter().map(|it| format!("{}: {}", it.target, it.reason));
        (snapshot.targets(), why.collect::<Vec<_>>())
    };
    assert_eq!(shown(&roster), (2, vec!["a:80: it has not been looked up yet".to_owned()]));
    assert!(roster.set_trouble(0, "gone") && !roster.set_trouble(0, "gone"));
    assert_eq!(shown(&roster), (2, vec!["a:80: gone".to_owned()]));
    answer(&mut roster, 0, &[1]);
    assert_eq!(shown(&roster), (2, vec![]));
    assert!(!roster.set_trouble(0, "no answer"), "it has an endpoint");
}

#[test]
fn names_that_do_not_resolve_are_counted_apart_from_endpoints() {
    let mut roster =
        roster(vec![named("a"), target(TargetAddress::Ip(([10, 0, 0, 1], 80).into()))]);
    assert_eq!((roster.shown_count(), roster.without_address()), (1, 1));
    answer(&mut roster, 0, &[2, 3]);
    assert_eq!((roster.shown_count(), roster.without_address()), (3, 0));
}

/// Two endpoints that are up, one of which is ejected for a time from `now` on.
fn ejected(now: Instant) -> (Roster, EndpointId, Duration) {
    let mut roster = roster(vec![named("a")]);
    let ids = answer(&mut roster, 0, &[1, 2]);
    for &id in &ids {
        roster.observe(id, true, now);
    }
    let time = roster.accuse(ids[0], (Streak::Replayed, 5), now).unwrap();
    assert_eq!(seen(&roster), [(ip(1), false), (ip(2), true)]);
    (roster, ids[0], time)
}

/// Two endpoints that are up until their third consecutive failure.
fn two_that_fall_at_the_third(now: Instant) -> Roster {
    let health = HealthCheck { fall: 3, ..HealthCheck::default() };
    let one = |last| Target {
        address: TargetAddress::Ip(socket(last)),
        health: health.clone(),
        state: TargetState::Auto,
    };
    let mut roster = roster(vec![one(1), one(2)]);
    let ids: Vec<_> = roster.endpoints().map(|(id, _)| id).collect();
    for &id in &ids {
        roster.observe(id, true, now);
    }
    roster
}

fn state(roster: &Roster, id: EndpointId) -> EndpointState {
    roster.snapshot(1).endpoint(id).unwrap().state
}

#[test]
fn an_ejected_endpoint_is_back_with_the_first_success_after_its_time() {
    let now = Instant::now();
    let (mut roster, id, time) = ejected(now);
    let before = now + time - Duration::from_millis(1);
    assert_eq!(roster.observe(id, true, before).unwrap().change, None);
    assert!(!roster.awaits_return(id, before));
    assert_eq!(state(&roster, id), EndpointState::Ejected);
    assert!(roster.awaits_return(id, now + time));
    assert_eq!(roster.observe(id, true, now + time).unwrap().change, Some(HealthEvent::UpAgain));
    assert_eq!(state(&roster, id), EndpointState::Up);
    assert!(!roster.awaits_return(id, now + time));
}

#[test]
fn an_ejected_endpoint_whose_probes_fail_is_down_and_comes_up_as_others_do() {
    let now = Instant::now();
    let (mut roster, id, time) = ejected(now);
    let failed = [(); 3].map(|()| roster.observe(id, false, now).unwrap().change);
    assert_eq!(failed, [None, None, Some(HealthEvent::Down)]);
    assert_eq!(state(&roster, id), EndpointState::Down);
    assert!(!roster.awaits_return(id, now + time));
    assert_eq!(roster.observe(id, true, now).unwrap().change, Some(HealthEvent::Up));
    assert_eq!(state(&roster, id), EndpointState::Up);
}

#[test]
fn an_ejected_endpoint_is_back_before_its_time_with_a_success_after_a_failure() {
    let now = Instant::now();
    let mut roster = two_that_fall_at_the_third(now);
    let id = roster.endpoints().next().unwrap().0;
    assert!(roster.accuse(id, (Streak::Replayed, 5), now).unwrap() > Duration::ZERO);
    let verdicts = [true, false, false, true, true];
    let news = verdicts.map(|success| roster.observe(id, success, now).unwrap().change);
    assert_eq!(news, [None, None, None, Some(HealthEvent::UpAgain), None]);
}

#[test]
fn an_endpoint_whose_last_probe_failed_is_ejected_until_one_succeeds() {
    let now = Instant::now();
    let mut roster = two_that_fall_at_the_third(now);
    let id = roster.endpoints().next().unwrap().0;
    roster.observe(id, false, now);
    assert_eq!(roster.accuse(id, (Streak::Replayed, 5), now), Some(Duration::ZERO));
    assert_eq!(state(&roster, id), EndpointState::Ejected);
    assert_eq!(roster.observe(id, true, now).unwrap().change, Some(HealthEvent::UpAgain));
}

#[test]
fn only_what_is_up_is_ejected_and_only_while_the_share_allows() {
    let now = Instant::now();
    let (mut roster, id, _) = ejected(now);
    let other = roster.endpoints().map(|(other, _)| other).find(|&other| other != id).unwrap();
    assert_eq!(roster.accuse(id, (Streak::Replayed, 5), now), None, "it is out already");
    assert_eq!(roster.accuse(other, (Streak::Replayed, 5), now), None, "half is out");
    assert_eq!(
        roster.accuse(EndpointId(u32::MAX), (Streak::Replayed, 5), now),
        None,
        "there is no endpoint of that id"
    );
    (0..3).for_each(|_| {
        roster.observe(id, false, now);
    });
    assert_eq!(roster.accuse(other, (Streak::Replayed, 5), now), None, "it is the last one");
    assert_eq!(roster.accuse(id, (Streak::Replayed, 5), now), None, "it is down");
}

fn up(roster: &mut Roster, target: usize, lasts: &[u8], now: Instant) -> Vec<EndpointId> {
    let ids = answer(roster, target, lasts);
    for &id in &ids {
        roster.observe(id, Judgement::Good, now);
    }
    ids
}

fn served(roster: &Roster, id: EndpointId) {
    roster.snapshot(1).endpoint(id).unwrap().served.mark();
}

fn changes<const N: usize>(
    roster: &mut Roster,
    id: EndpointId,
    verdicts: [Judgement; N],
    now: Instant,
) -> [Option<HealthEvent>; N] {
    verdicts.map(|verdict| roster.observe(id, verdict, now).unwrap().change)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_last_one_stays_while_it_serves_requests_and_its_probes_only_fail() {
    use Judgement::{Bad, Gone, Good};
    let now = Instant::now();
    let mut roster = roster(vec![named("a")]);
    let id = up(&mut roster, 0, &[1], now)[0];
    served(&roster, id);
    let news = changes(&mut roster, id, [Bad, Bad, Bad, Bad, Good], now + SECOND);
    assert_eq!(news, [None, None, Some(HealthEvent::Spared), None, Some(HealthEvent::Recovered)]);
    served(&roster, id);
    let news = changes(&mut roster, id, [Bad, Bad, Bad], now + 2 * SECOND);
    assert_eq!(news, [None, None, Some(HealthEvent::Spared)]);
    let news = changes(&mut roster, id, [Gone], now + 2 * SECOND);
    assert_eq!(news, [Some(HealthEvent::Down)], "nobody listens there");
    assert_eq!(changes(&mut roster, id, [Good], now + 3 * SECOND), [Some(HealthEvent::Up)]);
    let news = changes(&mut roster, id, [Bad, Bad, Bad], now + 30 * SECOND);
    assert_eq!(news, [None, None, Some(HealthEvent::Down)], "it served nobody lately");
}

#[test]
fn one_that_is_not_the_last_goes_down_whatever_it_serves() {
    use Judgement::Bad;
    let now = Instant::now();
    let mut roster = roster(vec![named("a")]);
    let ids = up(&mut roster, 0, &[1, 2], now);
    ids.iter().for_each(|&id| served(&roster, id));
    let news = changes(&mut roster, ids[0], [Bad; 3], now + SECOND);
    assert_eq!(news, [None, None, Some(HealthEvent::Down)]);
    let news = changes(&mut roster, ids[1], [Bad; 3], now + SECOND);
    assert_eq!(news, [None, None, Some(HealthEvent::Spared)]);
    roster.observe(ids[0], Judgement::Good, now + SECOND);
    let news = changes(&mut roster, ids[1], [Bad], now + SECOND);
    assert_eq!(news, [Some(HealthEvent::Down)], "the other one is back");
}

#[test]
fn a_mark_of_long_ago_tells_nothing_of_now() {
    let now = Instant::now();
    let mut roster = roster(vec![named("a")]);
    let id = up(&mut roster, 0, &[1], now)[0];
    served(&roster, id);
    let news = changes(&mut roster, id, [Judgement::Bad; 3], now + 60 * SECOND);
    assert_eq!(news[2], Some(HealthEvent::Down));
}

#[test]
fn timeouts_and_failed_connects_eject_only_with_a_failed_check() {
    let asks = HealthCheck { endpoint: Some("/".into()), ..HealthCheck::default() };
    let one = |last| Target {
        address: TargetAddress::Ip(socket(last)),
        health: asks.clone(),
        state: TargetState::Auto,
    };
    for streak in [Streak::Timeouts, Streak::ConnectFailures] {
        for (verdict, news) in [
            (Judgement::Good, None),
            (Judgement::Bad, Some(HealthEvent::Ejected(streak, 5))),
            (Judgement::Gone, Some(HealthEvent::Ejected(streak, 5))),
        ] {
            let now = Instant::now();
            let mut roster = roster(vec![one(1), one(2)]);
            let ids: Vec<_> = roster.endpoints().map(|(id, _)| id).collect();
            ids.iter().for_each(|&id| {
                roster.observe(id, Judgement::Good, now);
            });
            assert_eq!(roster.accuse(ids[0], (streak, 5), now), None);
            assert_eq!(state(&roster, ids[0]), EndpointState::Up);
            assert_eq!(changes(&mut roster, ids[0], [verdict], now), [news], "{verdict:?}");
            let back = news.map(|_| HealthEvent::UpAgain);
            assert_eq!(changes(&mut roster, ids[0], [Judgement::Good], now), [back]);
        }
    }
}

#[test]
fn connects_that_fail_again_soon_after_a_good_check_do_take_it_out() {
    let now = Instant::now();
    let mut roster = roster(vec![named("a")]);
    let id = up(&mut roster, 0, &[1, 2], now)[0];
    assert_eq!(roster.accuse(id, (Streak::ConnectFailures, 5), now), None);
    roster.observe(id, Judgement::Good, now);
    let time = roster.accuse(id, (Streak::ConnectFailures, 5), now + SECOND);
    assert_eq!(time, Some(5 * SECOND));
}

/// Of two endpoints one, which came in just now, is reported so many seconds later, after it `served` at the second before; and for
/// how many seconds it is ejected each time.
fn accused(streak: Streak, served_first: bool, reports: &[u32]) -> Vec<Option<u64>> {
    let now = Instant::now();
    let mut roster = roster(vec![named("a")]);
    let id = up(&mut roster, 0, &[1, 2], now)[0];
    if served_first {
        served(&roster, id);
    }
    let accuse = |&after: &u32| {
        let time = roster.accuse(id, (streak, 5), now + after * SECOND);
        time.map(|time| time.as_secs())
    };
    reports.iter().map(accuse).collect()
}

#[test]
fn what_a_request_can_cause_ejects_only_an_endpoint_that_serves_nobody() {
    for streak in [Streak::Timeouts, Streak::Resets] {
        assert_eq!(accused(streak, true, &[5, 15, 16]), [None, None, Some(5)], "{streak}");
        assert_eq!(accused(streak, false, &[0, 9, 10]), [None, None, Some(5)], "{streak}");
    }
}

#[test]
fn resets_of_what_others_serve_eject_an_endpoint_that_served_nobody_just_now() {
    assert_eq!(accused(Streak::Replayed, false, &[0]), [Some(5)]);
    assert_eq!(accused(Streak::Replayed, true, &[0, 1, 2]), [None, None, Some(5)]);
}

#[test]
fn server_errors_eject_immediately_an_endpoint_that_has_served_nobody() {
    assert_eq!(accused(Streak::Errors, false, &[0]), [Some(5)]);
    assert_eq!(accused(Streak::Errors, true, &[5, 15, 16]), [None, None, Some(5)]);
}

#[test]
fn an_endpoint_that_serves_is_ejected_for_resets_if_its_check_fails_too() {
    for (verdict, state_then) in
        [(Judgement::Good, EndpointState::Up), (Judgement::Bad, EndpointState::Ejected)]
    {
        let now = Instant::now();
        let asks = HealthCheck { endpoint: Some("/".into()), fall: 3, ..HealthCheck::default() };
        let one = |last| Target {
            address: TargetAddress::Ip(socket(last)),
            health: asks.clone(),
            state: TargetState::Auto,
        };
        let mut roster = roster(vec![one(1), one(2)]);
        let ids: Vec<_> = roster.endpoints().map(|(id, _)| id).collect();
        for &id in &ids {
            roster.observe(id, Judgement::Good, now);
        }
        served(&roster, ids[0]);
        assert_eq!(roster.accuse(ids[0], (Streak::Resets, 5), now), None);
        roster.observe(ids[0], verdict, now);
        assert_eq!(state(&roster, ids[0]), state_then);
    }
}

#[test]
fn an_endpoint_that_was_not_asked_for_long_has_the_benefit_of_the_doubt_once() {
    let now = Instant::now();
    let mut roster = roster(vec![named("a")]);
    let id = up(&mut roster, 0, &[1, 2], now)[0];
    served(&roster, id);
    let later = now + 600 * SECOND;
    assert_eq!(roster.accuse(id, (Streak::Resets, 5), later), None, "when it served is not known");
    assert!(roster.accuse(id, (Streak::Resets, 5), later + SECOND).is_some(), "not since");
}

#[test]
fn a_check_that_clears_of_resets_says_nothing_of_connects() {
    let now = Instant::now();
    let asks = HealthCheck { endpoint: Some("/".into()), ..HealthCheck::default() };
    let one = |last| Target {
        address: TargetAddress::Ip(socket(last)),
        health: asks.clone(),
        state: TargetState::Auto,
    };
    let mut roster = roster(vec![one(1), one(2)]);
    let ids: Vec<_> = roster.endpoints().map(|(id, _)| id).collect();
    for &id in &ids {
        roster.observe(id, Judgement::Good, now);
    }
    served(&roster, ids[0]);
    assert_eq!(roster.accuse(ids[0], (Streak::Resets, 5), now), None);
    roster.observe(ids[0], Judgement::Good, now);
    assert_eq!(roster.accuse(ids[0], (Streak::ConnectFailures, 5), now + SECOND), None);
}

#[test]
fn an_ejected_one_is_back_with_a_good_check_when_nobody_else_is_up() {
    let now = Instant::now();
    let (mut roster, id, _) = ejected(now);
    let other = roster.endpoints().map(|(other, _)| other).find(|&other| other != id).unwrap();
    assert_eq!(changes(&mut roster, id, [Judgement::Good], now), [None]);
    assert_eq!(changes(&mut roster, other, [Judgement::Gone; 3], now)[2], Some(HealthEvent::Down));
    assert_eq!(changes(&mut roster, id, [Judgement::Good], now), [Some(HealthEvent::UpAgain)]);
}

fn six(last: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 80))
}

/// A name with so many IPv4 and IPv6 addresses, and one with a single IPv4 address.
fn dual(fours: u8, sixes: u16) -> (Roster, Vec<EndpointId>) {
    let mut roster = roster(vec![named("a"), named("b")]);
    let mut places: Vec<_> = (1..=fours).map(|last| Place::plain(ip(last))).collect();
    places.extend((1..=sixes).map(|last| Place::plain(six(last).into())));
    let mut ids = roster.set_addresses(0, &places, Instant::now()).added;
    ids.extend(answer(&mut roster, 1, &[99]));
    (roster, ids)
}

/// Who has turns, in order.
fn turns(roster: &Roster) -> Vec<EndpointId> {
    let snapshot = roster.snapshot(1);
    let mut turns = Vec::new();
    while let Some(next) = snapshot.turn_at(turns.len()).filter(|it| !turns.contains(&it.id)) {
        turns.push(next.id);
    }
    turns
}

#[test]
fn both_families_of_a_name_have_one_share_together() {
    let now = Instant::now();
    for (fours, sixes, first) in [(1, 1, 1..2), (2, 1, 0..2), (2, 2, 2..4), (1, 3, 1..4)] {
        let (mut roster, ids) = dual(fours, sixes);
        ids.iter().for_each(|&id| {
            roster.observe(id, Judgement::Good, now);
        });
        let expected = [&ids[first], &ids[ids.len() - 1..]].concat();
        assert_eq!(turns(&roster), expected, "{fours} and {sixes}");
        assert_eq!(roster.snapshot(1).healthy_count(), ids.len(), "the others stand by");
    }
}

#[test]
fn the_other_family_takes_over_when_the_one_with_the_turns_goes_down() {
    let now = Instant::now();
    let (mut roster, ids) = dual(1, 1);
    ids.iter().for_each(|&id| {
        roster.observe(id, Judgement::Good, now);
    });
    assert_eq!(turns(&roster), [ids[1], ids[2]]);
    changes(&mut roster, ids[1], [Judgement::Gone; 3], now);
    assert_eq!(turns(&roster), [ids[0], ids[2]]);
    assert_eq!(roster.snapshot(1).endpoints().len(), 3, "it was up, and is missed");
}

#[test]
fn a_family_that_never_answered_is_left_out_beside_one_that_did() {
    let now = Instant::now();
    let (mut roster, ids) = dual(1, 1);
    assert_eq!(roster.shown_count(), 3);
    roster.observe(ids[1], Judgement::Gone, now);
    assert!(roster.has_other_family(ids[1]));
    assert_eq!(roster.snapshot(1).endpoints().len(), 3, "nothing is known of the other one");
    roster.observe(ids[0], Judgement::Good, now);
    assert_eq!((roster.snapshot(1).endpoints().len(), roster.shown_count()), (2, 2));
    changes(&mut roster, ids[0], [Judgement::Gone; 3], now);
    assert_eq!(roster.snapshot(1).endpoints().len(), 2);
    roster.observe(ids[1], Judgement::Good, now);
    assert_eq!(roster.snapshot(1).endpoints().len(), 3);
}

#[test]
fn the_hosts_of_a_service_are_told_apart() {
    let now = Instant::now();
    let mut roster = roster(vec![named("a")]);
    let at = |address, host| Place { host, ..Place::plain(address) };
    let places = [at(ip(1), 7), at(six(2).into(), 8)];
    let ids = roster.set_addresses(0, &places, now).added;
    ids.iter().for_each(|&id| {
        roster.observe(id, Judgement::Good, now);
    });
    assert_eq!(turns(&roster), ids, "one has IPv4 and the other IPv6");
}

#[test]
fn an_ejected_endpoint_leaves_with_its_address() {
    let (mut roster, id, _) = ejected(Instant::now());
    answer(&mut roster, 0, &[2, 3]);
    assert_eq!(roster.retire().first().unwrap().0, id);
}

fn place(last: u8, priority: u16, weight: u16) -> Place {
    Place { address: ip(last), weight, priority, host: 0 }
}

/// The last part of each address in one round of turns.
fn round(roster: &Roster) -> Vec<u8> {
    let snapshot = roster.snapshot(1);
    let turns = (0..16).map_while(|turn| snapshot.turn_at(turn));
    let lasts = turns.map(|endpoint| match endpoint.address {
        Address::Ip(SocketAddr::V4(address)) => address.ip().octets()[3],
        _ => unreachable!("every address is one of `ip`"),
    });
    lasts.collect()
}

#[test]
fn a_new_weight_or_priority_is_a_change_that_leaves_identity_and_health_alone() {
    let mut roster = roster(vec![named("a")]);
    let places = [place(1, 0, 1), place(2, 0, 1)];
    let update = roster.set_addresses(0, &places, Instant::now());
    assert!(update.changed && update.added.len() == 2);
    for &id in &update.added {
        roster.observe(id, true, Instant::now());
    }
    assert_eq!(round(&roster)[..4], [1, 2, 1, 2]);
    assert_eq!(
        roster.set_addresses(0, &places, Instant::now()),
        Update::default(),
        "nothing is new"
    );
    for (second, turns) in [(place(2, 0, 3), [2, 1, 2, 2]), (place(2, 1, 3), [1; 4])] {
        let update = roster.set_addresses(0, &[place(1, 0, 1), second], Instant::now());
        assert_eq!(update, Update { added: vec![], changed: true });
        assert_eq!(round(&roster)[..4], turns);
        assert_eq!(roster.healthy_count(), 2);
    }
    let ids: Vec<_> = roster.endpoints().map(|(id, _)| id).collect();
    assert_eq!(ids, update.added);
}

#[test]
fn the_next_priority_takes_over_and_gives_back_with_the_first_success() {
    let now = Instant::now();
    let mut roster = roster(vec![named("a")]);
    let ids = roster.set_addresses(0, &[place(1, 10, 1), place(2, 20, 1)], Instant::now()).added;
    for &id in &ids {
        roster.observe(id, true, now);
    }
    let mut after = |success| {
        (0..3).for_each(|_| {
            roster.observe(ids[0], success, now);
        });
        (round(&roster)[0], roster.snapshot(1).healthy_count(), roster.healthy_count())
    };
    assert_eq!([true, false, true].map(&mut after), [(1, 2, 2), (2, 1, 1), (1, 2, 2)]);
}

#[test]
fn of_several_places_with_one_address_the_first_choice_counts_in_any_order() {
    let mut places = [place(1, 2, 9), place(1, 1, 3), place(2, 0, 1), place(1, 1, 5)];
    let mut roster = roster(vec![named("a")]);
    assert_eq!(roster.set_addresses(0, &places, Instant::now()).added.len(), 2);
    places.reverse();
    assert_eq!(roster.set_addresses(0, &places, Instant::now()), Update::default());
    let first = roster.snapshot(1).endpoints()[0].preference;
    assert_eq!(first, Preference { priority: 1, weight: 5, alternate: false });
}

fn planned(targets: Vec<Target>) -> Arc<Plan> {
    Arc::new(Plan { targets, ..Plan::default() })
}

fn literal(last: u8) -> Target {
    target(TargetAddress::Ip(socket(last)))
}

#[test]
fn a_target_that_stays_keeps_its_endpoint_and_what_is_known_of_it() {
    let now = Instant::now();
    let mut roster = roster(vec![literal(1), literal(2)]);
    let first = roster.snapshot(1).endpoints()[0].id;
    roster.observe(first, true, now);
    let check = roster.follow(planned(vec![literal(3), literal(1)]), now);
    assert_eq!(check.len(), 1, "only the new one is checked at once");
    let snapshot = roster.snapshot(2);
    let kept = snapshot.endpoint(first).expect("it is there");
    assert_eq!((kept.state, &kept.address), (EndpointState::Up, &ip(1)));
    assert_eq!(snapshot.targets(), 2);
    assert_eq!(roster.retire().len(), 1, "what was removed and is not up goes");
    assert_eq!(roster.snapshot(3).endpoints().len(), 2);
}

#[test]
fn a_healthy_target_that_goes_stays_until_the_new_ones_were_checked() {
    let now = Instant::now();
    let mut roster = roster(vec![literal(1)]);
    let old = roster.snapshot(1).endpoints()[0].id;
    roster.observe(old, true, now);
    let check = roster.follow(planned(vec![literal(2)]), now);
    assert!(roster.retire().is_empty());
    assert_eq!(roster.healthy_count(), 1);
    assert_eq!(roster.snapshot(2).targets(), 1);
    roster.observe(check[0], true, now);
    assert_eq!(roster.retire().len(), 1);
    assert!(roster.snapshot(3).endpoint(old).is_none());
}

#[test]
fn a_healthy_target_that_goes_stays_until_new_names_were_looked_up_and_checked() {
    let now = Instant::now();
    let follow = || {
        let mut roster = roster(vec![literal(1)]);
        let old = roster.snapshot(1).endpoints()[0].id;
        roster.observe(old, true, now);
        let _none = roster.follow(planned(vec![named("b")]), now);
        assert!(roster.retire().is_empty(), "its name was not looked up yet");
        let number = roster.names().next().expect("a name").0;
        (roster, number)
    };
    let (mut found, number) = follow();
    let new = answer(&mut found, number, &[2]);
    assert!(found.retire().is_empty(), "its address was not checked yet");
    found.observe(new[0], true, now);
    assert_eq!(found.retire().len(), 1);
    let (mut failed, number) = follow();
    assert!(failed.set_trouble(number, "no such name"));
    assert_eq!(failed.retire().len(), 1);
}

#[test]
fn a_target_that_comes_back_before_it_has_gone_is_the_same() {
    let now = Instant::now();
    let mut roster = roster(vec![literal(1)]);
    let id = roster.snapshot(1).endpoints()[0].id;
    roster.observe(id, true, now);
    let _new = roster.follow(planned(vec![literal(2)]), now);
    assert!(roster.follow(planned(vec![literal(1), literal(2)]), now).is_empty());
    assert!(roster.retire().is_empty());
    assert_eq!(roster.snapshot(2).endpoints()[0].id, id);
}

#[test]
fn what_is_checked_otherwise_is_checked_at_once() {
    let now = Instant::now();
    let mut roster = roster(vec![literal(1)]);
    let id = roster.snapshot(1).endpoints()[0].id;
    let health = HealthCheck { endpoint: Some("/h".into()), ..HealthCheck::default() };
    let other = Target { health, ..literal(1) };
    assert_eq!(roster.follow(planned(vec![other.clone()]), now), [id]);
    assert!(roster.follow(planned(vec![other]), now).is_empty());
}

#[test]
fn an_answer_for_a_name_that_is_gone_changes_nothing() {
    let now = Instant::now();
    let mut roster = roster(vec![named("a")]);
    let number = roster.names().next().expect("a name").0;
    let _added = roster.set_addresses(number, &[Place::plain(ip(1))], now);
    let _new = roster.follow(planned(vec![literal(2), named("b")]), now);
    let _gone = roster.retire();
    assert_eq!(roster.set_addresses(number, &[Place::plain(ip(9))], now), Update::default());
    let numbers: Vec<usize> = roster.names().map(|(number, ..)| number).collect();
    assert!(numbers.len() == 1 && numbers[0] != number, "{numbers:?}");
}
