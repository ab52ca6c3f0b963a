//! The order of turns: which endpoints are in the rotation of a snapshot, how many turns each has in one round of it,
//! and where these lie. Pure; worked out once for each snapshot, so that a pick only counts on.
//!
//! Owns what weights and priorities mean (RFC 2782): both compare the endpoints of one target only, and the targets share
//! as if there were none, one share for each of their endpoints in the rotation. Does not know what
//! a request tries when its turn fails. Invariants: with equal weights a round is the endpoints in order, one turn
//! each; whoever is in the rotation has a turn in every round; a healthy endpoint is in the rotation or one standby.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Endpoint, Preference};

/// A round may have as many turns: two endpoints of 4,095 to 1 are exact. At four bytes a turn, 16 KiB. Where shares had to
/// be rounded there may be one more for each endpoint.
const LONGEST: u64 = 4_096;

/// And as many for each endpoint, however many there are, so that 256 or more of them do not lose their weights: rounding moves
/// an average endpoint by 3 % at most.
const TURNS_EACH: u64 = 16;

/// What a snapshot picks from. All numbers are positions within its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Order {
    /// One round of turns.
    pub(super) rotation: Box<[u32]>,
    /// Healthy endpoints that have no turn while better ones of their target are healthy: by rank, the next ones first.
    pub(super) standbys: Box<[Box<[u32]>]>,
}

impl Order {
    /// The order for `endpoints`, of which those of one target stand side by side.
    pub(super) fn of(endpoints: &[Endpoint]) -> Self {
        let mut healthy: Vec<Candidate<'_>> =
            (0..).zip(endpoints).filter(|(_, endpoint)| endpoint.healthy()).collect();
        let mut seats = Vec::with_capacity(healthy.len());
        let mut standbys: Vec<Vec<u32>> = Vec::new();
        for target in healthy.chunk_by_mut(|(_, one), (_, next)| one.target == next.target) {
            target.sort_by_key(rank);
            let mut ranks = target.chunk_by(|one, next| rank(one) == rank(next));
            ranks.next().into_iter().for_each(|best| seats.extend(seats_of(best)));
            for (level, standing_by) in ranks.enumerate() {
                if level == standbys.len() {
                    standbys.push(Vec::new());
                }
                standbys[level].extend(standing_by.iter().map(|&(at, _)| at));
            }
        }
        Order {
            rotation: rotation(&seats),
            standbys: standbys.into_iter().map(Vec::into_boxed_slice).collect(),
        }
    }
}

/// A healthy endpoint and its position.
type Candidate<'e> = (u32, &'e Endpoint);

/// The lower goes first within a target. A weight of 0 beside greater ones stands for a very small chance (RFC 2782,
/// "Weight"); here it is none while one of the others is healthy. The other family's way to a host comes before a
/// host that is out of use.
fn rank((_, endpoint): &Candidate<'_>) -> (u16, bool, bool) {
    let Preference { priority, weight, alternate } = endpoint.preference;
    (priority, weight == 0, alternate)
}

/// An endpoint in the rotation, and what its part of the turns is worked out from.
struct Share {
    at: u32,
    /// In lowest terms with those of its crew: the endpoints of its target that are in the rotation.
    weight: u64,
    /// The weights of its crew together.
    total: u64,
    /// How many its crew is, and so how many shares it has.
    crew: u64,
}

fn seats_of(crew: &[Candidate<'_>]) -> impl Iterator<Item = Share> {
    // Of a rank either all weights are 0, which makes them equal, or none.
    let weights = crew.iter().map(|(_, endpoint)| u64::from(endpoint.preference.weight.max(1)));
    let divisor = weights.clone().fold(0, gcd);
    let total = weights.clone().sum::<u64>() / divisor;
    crew.iter().zip(weights).map(move |(&(at, _), weight)| {
        let weight = weight / divisor;
        Share { at, weight, total, crew: crew.len() as u64 }
    })
}

fn rotation(seats: &[Share]) -> Box<[u32]> {
    let count = seats.len() as u64;
    let scale = LONGEST.checked_div(count).unwrap_or_default().max(TURNS_EACH);
    let turns = exact(seats, scale * count).unwrap_or_else(|| rounded(seats, scale));
    interleave(seats, &turns)
}

/// The fewest turns of each seat that give all of them their shares exactly, unless they are more than `limit` together.
fn exact(seats: &[Share], limit: u64) -> Option<Vec<u64>> {
    // A unit of weight is worth crew / total shares; one share must be made of so many turns that each such unit is
    // a whole number of them.
    let (mut parts, mut whole) = (0, 1);
    for seat in seats {
        let divisor = gcd(seat.crew, seat.total);
        let denominator = seat.total / divisor;
        parts = gcd(parts, seat.crew / divisor);
        whole *= denominator / gcd(whole, denominator);
        if whole > limit {
            return None;
        }
    }
    let turns = |seat: &Share| whole * seat.crew / seat.total / parts * seat.weight;
    let turns: Vec<u64> = seats.iter().map(turns).collect();
    (turns.iter().sum::<u64>() <= limit).then_some(turns)
}

/// The turns of each seat when a share is worth `scale` of them: within one of what it should have, and at least one.
fn rounded(seats: &[Share], scale: u64) -> Vec<u64> {
    let twice = |seat: &Share| 2 * scale * seat.crew * seat.weight;
    seats.iter().map(|seat| ((twice(seat) + seat.total) / (2 * seat.total)).max(1)).collect()
}

/// Lays out a round such that after each of its turns every seat has had what is due to it by then to within less than one
/// turn. Each turn of a seat has a release time and a deadline; the turn given is, among those released, the one with the
/// earliest deadline: R. Tijdeman, "The chairman assignment problem" (1980).
fn interleave(seats: &[Share], turns: &[u64]) -> Box<[u32]> {
    let length: u64 = turns.iter().sum();
    if length == seats.len() as u64 {
        return seats.iter().map(|seat| seat.at).collect();
    }
    // With n seats nobody is ever further off than 1 - 1 / (2n - 2) of a turn.
    let slack = length.div_ceil((2 * seats.len() as u64).saturating_sub(2).max(1));
    let times = seats.iter().zip(turns).flat_map(|(seat, &turns)| {
        (0..turns).map(move |nth| {
            let from = (nth * length + slack).div_ceil(turns) - 1;
            let until = ((nth + 1) * length - slack) / turns;
            (from, until, seat.at)
        })
    });
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let mut coming = times.into_iter().peekable();
    let mut ready = BinaryHeap::new();
    let next = |now| {
        while let Some((_, until, at)) = coming.next_if(|&(from, ..)| from <= now) {
            ready.push(Reverse((until, at)));
        }
        ready.pop().map(|Reverse((_, at))| at)
    };
    (0..length).filter_map(next).collect()
}

/// The greatest common divisor; that of 0 and a number is the number.
fn gcd(one: u64, other: u64) -> u64 {
    match other {
        0 => one,
        _ => gcd(other, one % other),
    }
}

#[cfg(all(test, not(loom)))] // the crate of the models has no proptest
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::balance::{EndpointId, EndpointState, Served, Snapshot, pick_other};

    /// An endpoint of a target: priority, weight, health.
    type TestEndpoint = (u16, u16, bool);

    fn endpoints(targets: &[Vec<TestEndpoint>]) -> Vec<Endpoint> {
        let given = targets
            .iter()
            .enumerate()
            .flat_map(|(target, of)| of.iter().map(move |it| (target, *it)));
        let endpoint =
            |(id, (target, (priority, weight, healthy))): (u32, (usize, TestEndpoint))| Endpoint {
                id: EndpointId(id),
                address: std::net::SocketAddr::from(([10, 0, 0, 1], 80)).into(),
                target: format!("target-{target}").into(),
                state: if healthy { EndpointState::Up } else { EndpointState::Down },
                preference: Preference { priority, weight, alternate: false },
                absent: false,
                served: Served::default(),
            };
        (0..).zip(given).map(endpoint).collect()
    }

    fn weighted(weights: &[u16]) -> Vec<TestEndpoint> {
        weights.iter().map(|&weight| (0, weight, true)).collect()
    }

    fn order(targets: &[Vec<TestEndpoint>]) -> Order {
        Order::of(&endpoints(targets))
    }

    fn round(targets: &[Vec<TestEndpoint>]) -> Vec<u32> {
        order(targets).rotation.into_vec()
    }

    fn turns_of(at: u32, rotation: &[u32]) -> u64 {
        rotation.iter().filter(|&&turn| turn == at).count() as u64
    }

    #[test]
    fn turns_of_unequal_weights_are_spread() {
        assert_eq!(round(&[weighted(&[3, 1, 1])]), [0, 1, 0, 2, 0]);
        assert_eq!(round(&[weighted(&[5, 1, 1])]), [0, 0, 1, 0, 0, 2, 0]);
        assert_eq!(round(&[weighted(&[20, 30])]), [1, 0, 1, 0, 1]);
        assert_eq!(round(&[weighted(&[65_535, 65_535])]), [0, 1]);
        assert_eq!(round(&[weighted(&[2, 1, 1])]), [0, 1, 0, 2]);
    }

    #[test]
    fn the_endpoints_of_a_target_have_together_as_many_shares_as_they_are() {
        // The heavy one of the two has 1.5 shares and the light one half of one; the plain target has one.
        let rotation = round(&[weighted(&[300, 100]), weighted(&[1])]);
        assert_eq!([0, 1, 2].map(|at| turns_of(at, &rotation)), [3, 1, 2]);
        // How large the numbers of another target are does not matter.
        let rotation = round(&[weighted(&[60_000]), weighted(&[1, 1])]);
        assert_eq!(rotation, [0, 1, 2]);
    }

    #[test]
    fn an_unhealthy_endpoint_forfeits_its_share() {
        let rotation = round(&[vec![(0, 3, false), (0, 2, true), (0, 1, true)], weighted(&[1, 1])]);
        assert_eq!([0, 1, 2, 3, 4].map(|at| turns_of(at, &rotation)), [0, 4, 2, 3, 3]);
    }

    #[test]
    fn only_the_first_priority_with_a_healthy_endpoint_has_turns() {
        let target = |health: [bool; 4]| {
            let [a, b, c, d] = health;
            vec![(20, 1, c), (10, 1, a), (30, 1, d), (10, 1, b)]
        };
        let seen = |health| {
            let order = order(&[target(health)]);
            let standbys: Vec<_> = order.standbys.iter().map(|rank| rank.to_vec()).collect();
            (order.rotation.to_vec(), standbys)
        };
        assert_eq!(seen([true; 4]), (vec![1, 3], vec![vec![0], vec![2]]));
        assert_eq!(seen([false, true, true, true]), (vec![3], vec![vec![0], vec![2]]));
        assert_eq!(seen([false, false, true, true]), (vec![0], vec![vec![2]]));
        assert_eq!(seen([false, false, false, true]), (vec![2], vec![]));
        assert_eq!(seen([false; 4]), (vec![], vec![]));
    }

    #[test]
    fn weight_zero_stands_by_unless_all_have_it() {
        let standing = order(&[weighted(&[0, 2, 0, 2])]);
        assert_eq!((&standing.rotation[..], &standing.standbys[0][..]), (&[1, 3][..], &[0, 2][..]));
        assert_eq!(round(&[weighted(&[0, 0, 0])]), [0, 1, 2]);
        let failed = order(&[vec![(0, 0, true), (0, 5, false), (1, 5, true)]]);
        assert_eq!((&failed.rotation[..], &failed.standbys[0][..]), (&[0][..], &[2][..]));
    }

    #[test]
    fn weights_far_apart_make_a_bounded_round_in_which_nobody_starves() {
        assert_eq!(round(&[weighted(&[4_095, 1])]).len(), 4_096, "as long as allowed, and exact");
        let rotation = round(&[weighted(&[65_535, 1])]);
        assert_eq!([0, 1].map(|at| turns_of(at, &rotation)), [4_096, 1]);
        let weights: Vec<u16> = (0..256u16).map(|at| 1 + at * at).collect();
        let rotation = round(&[weighted(&weights)]);
        assert!(rotation.len() <= 17 * 256, "{}", rotation.len());
        assert!((0..256).all(|at| turns_of(at, &rotation) > 0));
    }

    #[test]
    fn a_retry_reaches_everyone_once_and_those_that_stand_by_last() {
        let targets = [
            vec![(0, 3, true), (0, 1, true), (0, 0, true), (1, 1, true), (1, 1, true)],
            weighted(&[1]),
        ];
        let snapshot = Snapshot::new(1, endpoints(&targets));
        assert_eq!(snapshot.healthy_count(), 6);
        for ticket in [0, 1, 2, 3, usize::MAX] {
            let mut tried = Vec::new();
            while let Some(next) = pick_other(&snapshot, ticket, &tried) {
                tried.push(next.id);
            }
            let ranks: Vec<Vec<u32>> = [&tried[..3], &tried[3..4], &tried[4..]]
                .map(|rank| rank.iter().map(|id| id.0).collect())
                .into();
            let sorted = ranks.into_iter().map(|mut rank| {
                rank.sort_unstable();
                rank
            });
            assert_eq!(sorted.collect::<Vec<_>>(), [vec![0, 1, 5], vec![2], vec![3, 4]]);
        }
        let standbys = [0, 1].map(|ticket| {
            pick_other(&snapshot, ticket, &[0, 1, 5, 2].map(EndpointId)).unwrap().id.0
        });
        assert_eq!(standbys, [3, 4], "requests that move on are spread over those that stand by");
    }

    /// Any weight, with those that are common or at an edge more often.
    fn weight() -> impl Strategy<Value = u16> {
        prop_oneof![Just(0u16), Just(1), 1..6u16, 1..300u16, Just(u16::MAX), any::<u16>()]
    }

    fn targets() -> impl Strategy<Value = Vec<Vec<TestEndpoint>>> {
        let given = (0..3u16, weight(), prop::bool::weighted(0.8));
        prop::collection::vec(prop::collection::vec(given, 1..8), 1..5)
    }

    /// What each endpoint of the rotation should have: of how many parts of all turns how many.
    fn shares(endpoints: &[Endpoint], rotation: &[u32]) -> Vec<(u32, u128, u128)> {
        let in_rotation = |at: u32| rotation.contains(&at);
        let members: Vec<(u32, &Endpoint)> =
            (0..).zip(endpoints).filter(|&(at, _)| in_rotation(at)).collect();
        let share = |&(at, endpoint): &(u32, &Endpoint)| {
            let crew = members.iter().filter(|(_, it)| it.target == endpoint.target);
            let weight = |it: &Endpoint| u128::from(it.preference.weight.max(1));
            let total: u128 = crew.clone().map(|(_, it)| weight(it)).sum();
            (at, weight(endpoint) * crew.count() as u128, total * members.len() as u128)
        };
        members.iter().map(share).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn equal_weights_are_plain_round_robin(
            health in prop::collection::vec((any::<bool>(), 0..3usize), 0..40),
            weight in weight(),
        ) {
            let mut targets = vec![Vec::new(); 3];
            for (healthy, target) in health {
                targets[target].push((7, weight, healthy));
            }
            let endpoints = endpoints(&targets);
            let healthy: Vec<u32> =
                (0..).zip(&endpoints).filter(|(_, it)| it.healthy()).map(|(at, _)| at).collect();
            let order = Order::of(&endpoints);
            prop_assert_eq!(&order.rotation[..], &healthy[..]);
            prop_assert!(order.standbys.is_empty());
        }

        #[test]
        fn everyone_healthy_has_a_turn_or_stands_by_for_one_of_its_target_that_has(targets in targets()) {
            let endpoints = endpoints(&targets);
            let order = Order::of(&endpoints);
            let mut listed: Vec<u32> = order.rotation.to_vec();
            listed.sort_unstable();
            listed.dedup();
            let in_rotation = listed.clone();
            listed.extend(order.standbys.iter().flatten());
            listed.sort_unstable();
            let healthy: Vec<u32> =
                (0..).zip(&endpoints).filter(|(_, it)| it.healthy()).map(|(at, _)| at).collect();
            prop_assert_eq!(listed, healthy);
            for &at in order.standbys.iter().flatten() {
                let (one, its) = (&endpoints[at as usize], |it: &&u32| endpoints[**it as usize].target == endpoints[at as usize].target);
                let best = &endpoints[*in_rotation.iter().find(its).unwrap() as usize];
                prop_assert!(best.preference.priority < one.preference.priority
                    || best.preference.priority == one.preference.priority
                        && one.preference.weight == 0 && best.preference.weight > 0);
            }
        }

        #[test]
        fn a_round_is_bounded_and_gives_everyone_its_share(targets in targets()) {
            let endpoints = endpoints(&targets);
            let rotation = Order::of(&endpoints).rotation;
            let shares = shares(&endpoints, &rotation);
            let (length, count) = (rotation.len() as u128, shares.len() as u128);
            prop_assume!(count > 0);
            prop_assert!(length <= u128::from(LONGEST) + count, "{length}");
            let turns = |at| u128::from(turns_of(at, &rotation));
            if shares.iter().all(|&(at, part, of)| turns(at) * of == part * length) {
                return Ok(());
            }
            let scale = u128::from(LONGEST) / count;
            for (at, part, of) in shares {
                prop_assert!((turns(at) * of).abs_diff(part * scale * count) <= of, "{at}: {}", turns(at));
            }
        }

        #[test]
        fn nobody_is_ever_a_turn_ahead_or_behind_nor_waits_for_twice_its_time(targets in targets()) {
            let rotation = round(&targets);
            let length = rotation.len() as u64;
            let mut seats = rotation.clone();
            seats.sort_unstable();
            seats.dedup();
            for seat in seats {
                let turns = turns_of(seat, &rotation);
                let (mut had, mut waits) = (0, 0);
                for (now, &turn) in (1..).zip(rotation.iter().chain(&rotation)) {
                    (had, waits) = if turn == seat { (had + 1, 0) } else { (had, waits + 1) };
                    prop_assert!((had * length).abs_diff(now * turns) < length, "{rotation:?}");
                    prop_assert!(waits * turns < 2 * length, "{rotation:?}");
                }
            }
        }

        #[test]
        fn moving_on_visits_everyone_once_and_those_that_stand_by_last(targets in targets(), ticket: usize) {
            let snapshot = Snapshot::new(1, endpoints(&targets));
            let mut tried = Vec::new();
            while let Some(next) = pick_other(&snapshot, ticket, &tried) {
                prop_assert!(!tried.contains(&next.id));
                tried.push(next.id);
            }
            prop_assert_eq!(tried.first(), snapshot.turn_at(ticket).map(|it| &it.id));
            prop_assert_eq!(tried.len(), snapshot.healthy_count());
            let mut turns: Vec<u32> = snapshot.order.rotation.to_vec();
            turns.sort_unstable();
            turns.dedup();
            let mut first: Vec<u32> = tried[..turns.len()].iter().map(|id| id.0).collect();
            first.sort_unstable();
            prop_assert_eq!(first, turns);
        }
    }
}
