//! Which endpoints there are and how healthy each is: what a snapshot is made of.
//!
//! Owns endpoint identities, their judges and their ejections; does not know when or how they are probed or who resolves
//! names. Invariants: an [`EndpointId`] is given out once in the life of the process; the endpoints of a
//! target are sorted by address; `homes` names the target of every endpoint that exists; the probes of an
//! ejected endpoint succeed, for one whose probes fail is down.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::balance::{Endpoint, EndpointId, EndpointState, Preference, Snapshot};
use crate::base::address::Address;
use crate::settings::{Ejection, Target, TargetAddress};

use super::ejection::{Census, Record, allows};
use super::judge::{Change, Judge};
use super::probe::Plan;
use super::resolve::Wanted;

/// Addresses of one name that are used; the rest, in address order, is left out. No honest name has
/// as many, and a hostile one must not make endpoints without end.
pub(super) const MAX_ADDRESSES: usize = 256;

/// How long an answer waits at most to be taken together with others.
const GATHER_TIME: Duration = Duration::from_millis(5);

/// One target and its endpoints.
#[derive(Debug)]
struct Member {
    label: Arc<str>,
    name: Option<Wanted>,
    interval: Duration,
    rise: u32,
    fall: u32,
    plan: Arc<Plan>,
    endpoints: Vec<Checked>,
}

/// One endpoint.
#[derive(Debug)]
struct Checked {
    id: EndpointId,
    address: Address,
    preference: Preference,
    judge: Judge,
    ejections: Record,
    /// Its name no longer has this address; it goes as soon as its successors have been probed.
    leaving: bool,
}

impl Checked {
    fn new(id: EndpointId, place: &Place, rise: u32, fall: u32) -> Self {
        Checked {
            id,
            address: place.address.clone(),
            preference: place.preference(),
            judge: Judge::new(rise, fall),
            ejections: Record::default(),
            leaving: false,
        }
    }

    /// Whether that is another preference than it had.
    fn prefer(&mut self, preference: Preference) -> bool {
        std::mem::replace(&mut self.preference, preference) != preference
    }

    fn state(&self) -> EndpointState {
        match (self.judge.is_unknown(), self.judge.is_healthy(), self.ejections.is_out()) {
            (true, ..) => EndpointState::Unknown,
            (_, false, _) => EndpointState::Down,
            (_, true, true) => EndpointState::Ejected,
            (_, true, false) => EndpointState::Up,
        }
    }

    fn is_up(&self) -> bool {
        self.state() == EndpointState::Up
    }

    fn eject(&mut self, rules: &Ejection, now: Instant) -> Duration {
        let time = self.ejections.eject(rules, now);
        if self.judge.is_wavering() {
            self.ejections.cut_short(now);
            return Duration::ZERO;
        }
        time
    }

    /// Follows a verdict of a probe: an ejection ends when a probe succeeds after its time or after one that
    /// failed, or when as many have failed as take an endpoint down.
    fn observe(&mut self, success: bool, now: Instant) -> Option<News> {
        match self.judge.observe(success) {
            Some(Change::Down) => {
                self.ejections.give_way();
                Some(News::Down)
            }
            Some(Change::Up) => {
                self.ejections.come_in(now);
                Some(News::Up)
            }
            None if success && self.ejections.is_over(now) => {
                self.ejections.come_in(now);
                Some(News::UpAgain)
            }
            None => {
                if !success {
                    self.ejections.cut_short(now);
                }
                None
            }
        }
    }
}

/// Where a name says that an endpoint is, and how it stands beside the others of that name (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) weight: u16,
    pub(super) priority: u16,
}

impl Place {
    /// One of which the name says only the address: as good as any other.
    pub(super) fn plain(address: Address) -> Self {
        let Preference { priority, weight } = Preference::default();
        Place { address, weight, priority }
    }

    fn preference(&self) -> Preference {
        Preference { priority: self.priority, weight: self.weight }
    }
}

/// What an answer changed.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub(super) struct Update {
    /// Endpoints that are new and want to be probed.
    pub(super) added: Vec<EndpointId>,
    /// Whether a snapshot would show something else than before, on account of new endpoints or of others' preference.
    pub(super) changed: bool,
}

/// What the probing of one endpoint needs to know.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) address: Address,
    pub(super) label: Arc<str>,
    pub(super) plan: Arc<Plan>,
}

/// What a verdict changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The endpoint may be picked from now on.
    Up,
    /// Likewise, after it was ejected.
    UpAgain,
    /// The endpoint may not be picked: its probes fail.
    Down,
}

/// What a verdict meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    /// What changed.
    pub(super) change: Option<News>,
    /// Up, but its last probes failed.
    pub(super) wavering: bool,
}

/// Every target with its endpoints, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Roster {
    members: Vec<Member>,
    ejection: Ejection,
    homes: HashMap<EndpointId, usize>,
    anyone_leaving: bool,
}

impl Roster {
    /// Targets with an IP address or a path have their endpoint at once, names have none before
    /// [`Roster::set_addresses`]. None is healthy.
    pub(super) fn new(targets: Vec<Target>, ejection: Ejection) -> Self {
        let mut roster =
            Roster { members: Vec::new(), ejection, homes: HashMap::new(), anyone_leaving: false };
        for (at, target) in targets.into_iter().enumerate() {
            roster.members.push(Member::new(&target));
            match target.address {
                TargetAddress::Ip(address) => roster.settle(at, address.into()),
                TargetAddress::Unix(path) => roster.settle(at, Address::Unix(path.into())),
                TargetAddress::Name { .. } | TargetAddress::Service(_) => {}
            }
        }
        roster
    }

    /// The one endpoint of a target that is no name.
    fn settle(&mut self, target: usize, address: Address) {
        let _all_are_new = self.set_addresses(target, &[Place::plain(address)]);
    }

    /// The endpoints of the target at this position are now at `places`. Known ones keep their identity and health.
    /// Those that are gone stay until [`Roster::retire`]. Of several places with one address the
    /// lowest priority counts, and of those the greatest weight.
    pub(super) fn set_addresses(&mut self, target: usize, places: &[Place]) -> Update {
        let mut update = Update::default();
        let Some(member) = self.members.get_mut(target) else { return update };
        let places = one_for_each_address(places.to_vec());
        for endpoint in &mut member.endpoints {
            endpoint.leaving =
                places.binary_search_by(|place| place.address.cmp(&endpoint.address)).is_err();
            self.anyone_leaving |= endpoint.leaving;
        }
        for place in places {
            match member.endpoints.binary_search_by(|e| e.address.cmp(&place.address)) {
                Ok(known) => update.changed |= member.endpoints[known].prefer(place.preference()),
                Err(at) => {
                    let Some(id) = fresh_id() else { break };
                    member.endpoints.insert(at, Checked::new(id, &place, member.rise, member.fall));
                    self.homes.insert(id, target);
                    update.added.push(id);
                }
            }
        }
        update.changed |= !update.added.is_empty();
        update
    }

    /// Removes and returns the endpoints that are leaving. A healthy one stays while its target has
    /// endpoints that were never probed, so that a name which moves is never without a healthy one between.
    pub(super) fn retire(&mut self) -> Vec<(EndpointId, Address, Arc<str>)> {
        let mut gone = Vec::new();
        if !std::mem::take(&mut self.anyone_leaving) {
            return gone;
        }
        for member in &mut self.members {
            let waiting = member.endpoints.iter().any(|e| !e.leaving && e.judge.is_unknown());
            let leaves = |e: &mut Checked| e.leaving && !(waiting && e.is_up());
            for endpoint in member.endpoints.extract_if(.., leaves) {
                self.homes.remove(&endpoint.id);
                gone.push((endpoint.id, endpoint.address, Arc::clone(&member.label)));
            }
            self.anyone_leaving |= member.endpoints.iter().any(|e| e.leaving);
        }
        gone
    }

    /// Takes the verdict of a probe; `None` if the endpoint is gone.
    pub(super) fn observe(
        &mut self,
        id: EndpointId,
        success: bool,
        now: Instant,
    ) -> Option<Ruling> {
        let endpoint = self.find_mut(id)?;
        let change = endpoint.observe(success, now);
        Some(Ruling { change, wavering: endpoint.judge.is_wavering() })
    }

    /// Takes the endpoint out for what workers saw, if it is up and not too many are out. For how long: for no
    /// time, but until a probe succeeds, if its last probe failed already.
    pub(super) fn eject(&mut self, id: EndpointId, now: Instant) -> Option<Duration> {
        let (rules, allowed) = (self.ejection, allows(&self.ejection, self.census()));
        let endpoint = self.find_mut(id)?;
        (allowed && endpoint.is_up()).then(|| endpoint.eject(&rules, now))
    }

    /// Whether the endpoint is ejected and its time is over: the next probe that succeeds brings it back.
    pub(super) fn awaits_return(&self, id: EndpointId, now: Instant) -> bool {
        self.find(id).is_some_and(|(_, endpoint)| endpoint.ejections.is_over(now))
    }

    /// What is needed to probe this endpoint; `None` if it is gone.
    pub(super) fn assignment(&self, id: EndpointId) -> Option<Assignment> {
        let (member, endpoint) = self.find(id)?;
        let (label, plan) = (Arc::clone(&member.label), Arc::clone(&member.plan));
        Some(Assignment { address: endpoint.address.clone(), label, plan })
    }

    /// Whether the endpoint exists and may be picked.
    pub(super) fn is_healthy(&self, id: EndpointId) -> bool {
        self.find(id).is_some_and(|(_, endpoint)| endpoint.is_up())
    }

    /// Every endpoint with the interval of its probes, in order.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (EndpointId, Duration)> {
        self.members.iter().flat_map(|m| m.endpoints.iter().map(|e| (e.id, m.interval)))
    }

    /// Every target that is a name: its position, what is looked up for it, and its interval.
    pub(super) fn names(&self) -> impl Iterator<Item = (usize, &Wanted, Duration)> {
        self.members.iter().enumerate().filter_map(|(at, member)| {
            member.name.as_ref().map(|wanted| (at, wanted, member.interval))
        })
    }

    /// The target at this position as people know it, and how many endpoints it has.
    pub(super) fn target(&self, at: usize) -> Option<(&Arc<str>, usize)> {
        self.members.get(at).map(|member| (&member.label, member.endpoints.len()))
    }

    /// How many endpoints may be picked.
    pub(super) fn healthy_count(&self) -> usize {
        self.checked().filter(|e| e.is_up()).count()
    }

    /// How many there are to be healthy: endpoints, and targets that have none.
    pub(super) fn wanted_count(&self) -> usize {
        self.members.iter().map(|member| member.endpoints.len().max(1)).sum()
    }

    /// How many targets have no endpoint: names that never resolved.
    pub(super) fn without_address(&self) -> usize {
        self.members.iter().filter(|member| member.endpoints.is_empty()).count()
    }

    /// Whether every endpoint has been probed.
    pub(super) fn all_probed(&self) -> bool {
        self.checked().all(|e| !e.judge.is_unknown())
    }

    /// The longest that a probe may take.
    pub(super) fn longest_timeout(&self) -> Duration {
        self.members.iter().map(|member| member.plan.timeout()).max().unwrap_or_default()
    }

    /// How long an answer may wait to be taken together with others: a twentieth of the shortest interval and timeout
    /// at most, so that it shows in neither.
    pub(super) fn gather_time(&self) -> Duration {
        let members = self.members.iter().map(|m| m.interval.min(m.plan.timeout()) / 20);
        members.min().unwrap_or_default().min(GATHER_TIME)
    }

    /// How many endpoints there are.
    pub(super) fn len(&self) -> usize {
        self.homes.len()
    }

    /// The snapshot of this moment: endpoints by target, then by address.
    pub(super) fn snapshot(&self, generation: u64) -> Snapshot {
        let endpoints = self.members.iter().flat_map(|member| {
            member.endpoints.iter().map(|endpoint| Endpoint {
                id: endpoint.id,
                address: endpoint.address.clone(),
                target: Arc::clone(&member.label),
                state: endpoint.state(),
                preference: endpoint.preference,
            })
        });
        Snapshot::new(generation, endpoints.collect())
    }

    fn census(&self) -> Census {
        let count = |state| self.checked().filter(|e| e.state() == state).count();
        Census {
            all: self.checked().count(),
            up: count(EndpointState::Up),
            ejected: count(EndpointState::Ejected),
        }
    }

    fn find_mut(&mut self, id: EndpointId) -> Option<&mut Checked> {
        let member = self.members.get_mut(*self.homes.get(&id)?)?;
        member.endpoints.iter_mut().find(|endpoint| endpoint.id == id)
    }

    fn checked(&self) -> impl Iterator<Item = &Checked> {
        self.members.iter().flat_map(|member| &member.endpoints)
    }

    fn find(&self, id: EndpointId) -> Option<(&Member, &Checked)> {
        let member = self.members.get(*self.homes.get(&id)?)?;
        Some((member, member.endpoints.iter().find(|endpoint| endpoint.id == id)?))
    }
}

impl Member {
    fn new(target: &Target) -> Self {
        Member {
            label: target.address.to_string().into(),
            name: Wanted::of(&target.address),
            interval: target.health.interval,
            rise: target.health.rise,
            fall: target.health.fall,
            plan: Arc::new(Plan::new(target)),
            endpoints: Vec::new(),
        }
    }
}

/// The places that count, by address, and no more than there may be.
pub(super) fn one_for_each_address(mut places: Vec<Place>) -> Vec<Place> {
    let preference = |place: &Place| (place.priority, Reverse(place.weight));
    places.sort_by(|one, other| {
        one.address.cmp(&other.address).then(preference(one).cmp(&preference(other)))
    });
    places.dedup_by(|later, first| later.address == first.address);
    places.truncate(MAX_ADDRESSES);
    places
}

/// An identity no endpoint of this process ever had: pooled connections outlive rosters. `None` after
/// four billion of them.
fn fresh_id() -> Option<EndpointId> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| next.checked_add(1))
        .ok()
        .map(EndpointId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    use crate::settings::HealthCheck;

    fn socket(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn ip(last: u8) -> Address {
        socket(last).into()
    }

    fn target(address: TargetAddress) -> Target {
        Target { address, health: HealthCheck::default() }
    }

    fn named(host: &str) -> Target {
        target(TargetAddress::Name { host: host.into(), port: 80 })
    }

    fn roster(targets: Vec<Target>) -> Roster {
        Roster::new(targets, Ejection::default())
    }

    /// The target's name has these addresses now. Returns the new endpoints.
    fn answer(roster: &mut Roster, target: usize, lasts: &[u8]) -> Vec<EndpointId> {
        let places: Vec<_> = lasts.iter().map(|&last| Place::plain(ip(last))).collect();
        roster.set_addresses(target, &places).added
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
    fn an_address_that_stays_keeps_identity_and_health_and_one_that_returns_is_new() {
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
        assert_eq!(roster.set_addresses(0, &places).added.len(), MAX_ADDRESSES);
        assert_eq!(roster.set_addresses(0, &places), Update::default());
    }

    #[test]
    fn unresolved_names_count_as_wanted() {
        let mut roster =
            roster(vec![named("a"), target(TargetAddress::Ip(([10, 0, 0, 1], 80).into()))]);
        assert_eq!((roster.healthy_count(), roster.wanted_count()), (0, 2));
        answer(&mut roster, 0, &[2, 3]);
        assert_eq!(roster.wanted_count(), 3);
    }

    /// Two endpoints that are up, one of which is ejected for a time from `now` on.
    fn ejected(now: Instant) -> (Roster, EndpointId, Duration) {
        let mut roster = roster(vec![named("a")]);
        let ids = answer(&mut roster, 0, &[1, 2]);
        for &id in &ids {
            roster.observe(id, true, now);
        }
        let time = roster.eject(ids[0], now).unwrap();
        assert_eq!(seen(&roster), [(ip(1), false), (ip(2), true)]);
        (roster, ids[0], time)
    }

    /// Two endpoints that are up until their third failure in a row.
    fn two_that_fall_at_the_third(now: Instant) -> Roster {
        let health = HealthCheck { fall: 3, ..HealthCheck::default() };
        let one =
            |last| Target { address: TargetAddress::Ip(socket(last)), health: health.clone() };
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
        assert_eq!(roster.observe(id, true, now + time).unwrap().change, Some(News::UpAgain));
        assert_eq!(state(&roster, id), EndpointState::Up);
        assert!(!roster.awaits_return(id, now + time));
    }

    #[test]
    fn an_ejected_endpoint_whose_probes_fail_is_down_and_comes_up_as_others_do() {
        let now = Instant::now();
        let (mut roster, id, time) = ejected(now);
        assert_eq!(roster.observe(id, false, now).unwrap().change, Some(News::Down));
        assert_eq!(state(&roster, id), EndpointState::Down);
        assert!(!roster.awaits_return(id, now + time));
        assert_eq!(roster.observe(id, true, now).unwrap().change, Some(News::Up));
        assert_eq!(state(&roster, id), EndpointState::Up);
    }

    #[test]
    fn an_ejected_endpoint_is_back_before_its_time_with_a_success_after_a_failure() {
        let now = Instant::now();
        let mut roster = two_that_fall_at_the_third(now);
        let id = roster.endpoints().next().unwrap().0;
        assert!(roster.eject(id, now).unwrap() > Duration::ZERO);
        let verdicts = [true, false, false, true, true];
        let news = verdicts.map(|success| roster.observe(id, success, now).unwrap().change);
        assert_eq!(news, [None, None, None, Some(News::UpAgain), None]);
    }

    #[test]
    fn an_endpoint_whose_last_probe_failed_is_ejected_until_one_succeeds() {
        let now = Instant::now();
        let mut roster = two_that_fall_at_the_third(now);
        let id = roster.endpoints().next().unwrap().0;
        roster.observe(id, false, now);
        assert_eq!(roster.eject(id, now), Some(Duration::ZERO));
        assert_eq!(state(&roster, id), EndpointState::Ejected);
        assert_eq!(roster.observe(id, true, now).unwrap().change, Some(News::UpAgain));
    }

    #[test]
    fn only_what_is_up_is_ejected_and_only_while_the_share_allows() {
        let now = Instant::now();
        let (mut roster, id, _) = ejected(now);
        let other = roster.endpoints().map(|(other, _)| other).find(|&other| other != id).unwrap();
        assert_eq!(roster.eject(id, now), None, "it is out already");
        assert_eq!(roster.eject(other, now), None, "half is out");
        assert_eq!(roster.eject(EndpointId(u32::MAX), now), None, "there is no such endpoint");
        roster.observe(id, false, now);
        assert_eq!(roster.eject(other, now), None, "it is the last one");
        assert_eq!(roster.eject(id, now), None, "it is down");
    }

    #[test]
    fn an_ejected_endpoint_leaves_with_its_address() {
        let (mut roster, id, _) = ejected(Instant::now());
        answer(&mut roster, 0, &[2, 3]);
        assert_eq!(roster.retire().first().unwrap().0, id);
    }

    fn place(last: u8, priority: u16, weight: u16) -> Place {
        Place { address: ip(last), weight, priority }
    }

    /// The last part of each address in one round of turns.
    fn round(roster: &Roster) -> Vec<u8> {
        let snapshot = roster.snapshot(1);
        let turns = (0..16).map_while(|turn| snapshot.healthy_at(turn));
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
        let update = roster.set_addresses(0, &places);
        assert!(update.changed && update.added.len() == 2);
        for &id in &update.added {
            roster.observe(id, true, Instant::now());
        }
        assert_eq!(round(&roster)[..4], [1, 2, 1, 2]);
        assert_eq!(roster.set_addresses(0, &places), Update::default(), "nothing is new");
        for (second, turns) in [(place(2, 0, 3), [2, 1, 2, 2]), (place(2, 1, 3), [1; 4])] {
            let update = roster.set_addresses(0, &[place(1, 0, 1), second]);
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
        let ids = roster.set_addresses(0, &[place(1, 10, 1), place(2, 20, 1)]).added;
        for &id in &ids {
            roster.observe(id, true, now);
        }
        let mut after = |success| {
            roster.observe(ids[0], success, now);
            (round(&roster)[0], roster.snapshot(1).healthy_count(), roster.healthy_count())
        };
        assert_eq!([true, false, true].map(&mut after), [(1, 2, 2), (2, 1, 1), (1, 2, 2)]);
    }

    #[test]
    fn of_several_places_with_one_address_the_first_choice_counts_in_any_order() {
        let mut places = [place(1, 2, 9), place(1, 1, 3), place(2, 0, 1), place(1, 1, 5)];
        let mut roster = roster(vec![named("a")]);
        assert_eq!(roster.set_addresses(0, &places).added.len(), 2);
        places.reverse();
        assert_eq!(roster.set_addresses(0, &places), Update::default());
        let first = roster.snapshot(1).endpoints()[0].preference;
        assert_eq!(first, Preference { priority: 1, weight: 5 });
    }
}
