//! Which endpoints there are and how healthy each is: what a snapshot is made of.
//!
//! Owns endpoint identities and their judges; does not know when or how they are probed or who resolves
//! names. Invariants: an [`EndpointId`] is given out once in the life of the process; the endpoints of a
//! target are sorted by address; `homes` names the target of every endpoint that exists.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::balance::{Endpoint, EndpointId, Snapshot};
use crate::settings::{Target, TargetAddress};

use super::judge::{Change, Judge};
use super::probe::Plan;

/// Addresses of one name that are used; the rest, in address order, is left out. No honest name has
/// as many, and a hostile one must not make endpoints without end.
const MAX_ADDRESSES: usize = 256;

/// One target and its endpoints.
#[derive(Debug)]
struct Member {
    label: Arc<str>,
    name: Option<(Arc<str>, u16)>,
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
    address: SocketAddr,
    judge: Judge,
    /// Its name no longer has this address; it goes as soon as its successors have been probed.
    leaving: bool,
}

/// What the probing of one endpoint needs to know.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) address: SocketAddr,
    pub(super) label: Arc<str>,
    pub(super) plan: Arc<Plan>,
}

/// What a verdict meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    /// What changed.
    pub(super) change: Option<Change>,
    /// Up, but its last probes failed.
    pub(super) wavering: bool,
}

/// Every target with its endpoints, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Roster {
    members: Vec<Member>,
    homes: HashMap<EndpointId, usize>,
    anyone_leaving: bool,
}

impl Roster {
    /// Targets with an IP address have their endpoint at once, names have none before
    /// [`Roster::set_addresses`]. None is healthy.
    pub(super) fn new(targets: Vec<Target>) -> Self {
        let mut roster =
            Roster { members: Vec::new(), homes: HashMap::new(), anyone_leaving: false };
        for (at, target) in targets.into_iter().enumerate() {
            roster.members.push(Member::new(&target));
            if let TargetAddress::Ip(address) = target.address {
                roster.set_addresses(at, &[address]);
            }
        }
        roster
    }

    /// The endpoints of the target at this position are now those of `addresses`, which are sorted and
    /// all different. Known ones keep their identity and health; returns the new ones. Those that are gone
    /// stay until [`Roster::retire`].
    pub(super) fn set_addresses(
        &mut self,
        target: usize,
        addresses: &[SocketAddr],
    ) -> Vec<EndpointId> {
        let Some(member) = self.members.get_mut(target) else { return Vec::new() };
        let addresses = addresses.get(..MAX_ADDRESSES).unwrap_or(addresses);
        for endpoint in &mut member.endpoints {
            endpoint.leaving = addresses.binary_search(&endpoint.address).is_err();
            self.anyone_leaving |= endpoint.leaving;
        }
        let mut added = Vec::new();
        for &address in addresses {
            if let Err(place) = member.endpoints.binary_search_by_key(&address, |e| e.address) {
                let Some(id) = fresh_id() else { break };
                let judge = Judge::new(member.rise, member.fall);
                member.endpoints.insert(place, Checked { id, address, judge, leaving: false });
                self.homes.insert(id, target);
                added.push(id);
            }
        }
        added
    }

    /// Removes and returns the endpoints that are leaving. A healthy one stays while its target has
    /// endpoints that were never probed, so that a name which moves is never without a healthy one between.
    pub(super) fn retire(&mut self) -> Vec<(EndpointId, SocketAddr, Arc<str>)> {
        let mut gone = Vec::new();
        if !std::mem::take(&mut self.anyone_leaving) {
            return gone;
        }
        for member in &mut self.members {
            let waiting = member.endpoints.iter().any(|e| !e.leaving && e.judge.is_unknown());
            let leaves = |e: &mut Checked| e.leaving && !(waiting && e.judge.is_healthy());
            for endpoint in member.endpoints.extract_if(.., leaves) {
                self.homes.remove(&endpoint.id);
                gone.push((endpoint.id, endpoint.address, Arc::clone(&member.label)));
            }
            self.anyone_leaving |= member.endpoints.iter().any(|e| e.leaving);
        }
        gone
    }

    /// Takes the verdict of a probe; `None` if the endpoint is gone.
    pub(super) fn observe(&mut self, id: EndpointId, success: bool) -> Option<Ruling> {
        let home = *self.homes.get(&id)?;
        let endpoint = self.members.get_mut(home)?.endpoints.iter_mut().find(|e| e.id == id)?;
        let change = endpoint.judge.observe(success);
        Some(Ruling { change, wavering: endpoint.judge.is_wavering() })
    }

    /// What is needed to probe this endpoint; `None` if it is gone.
    pub(super) fn assignment(&self, id: EndpointId) -> Option<Assignment> {
        let (member, endpoint) = self.find(id)?;
        let (label, plan) = (Arc::clone(&member.label), Arc::clone(&member.plan));
        Some(Assignment { address: endpoint.address, label, plan })
    }

    /// Whether the endpoint exists and may be picked.
    pub(super) fn is_healthy(&self, id: EndpointId) -> bool {
        self.find(id).is_some_and(|(_, endpoint)| endpoint.judge.is_healthy())
    }

    /// Every endpoint with the interval of its probes, in order.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (EndpointId, Duration)> {
        self.members.iter().flat_map(|m| m.endpoints.iter().map(|e| (e.id, m.interval)))
    }

    /// Every target that is a name: its position, host, port and interval.
    pub(super) fn names(&self) -> impl Iterator<Item = (usize, &Arc<str>, u16, Duration)> {
        self.members.iter().enumerate().filter_map(|(at, member)| {
            member.name.as_ref().map(|(host, port)| (at, host, *port, member.interval))
        })
    }

    /// The target at this position as people know it, and how many endpoints it has.
    pub(super) fn target(&self, at: usize) -> Option<(&Arc<str>, usize)> {
        self.members.get(at).map(|member| (&member.label, member.endpoints.len()))
    }

    /// How many endpoints may be picked.
    pub(super) fn healthy_count(&self) -> usize {
        self.checked().filter(|e| e.judge.is_healthy()).count()
    }

    /// How many there are to be healthy: endpoints, and targets that have none.
    pub(super) fn wanted_count(&self) -> usize {
        self.members.iter().map(|member| member.endpoints.len().max(1)).sum()
    }

    /// Whether every endpoint has been probed.
    pub(super) fn all_probed(&self) -> bool {
        self.checked().all(|e| !e.judge.is_unknown())
    }

    /// The longest that a probe may take.
    pub(super) fn longest_timeout(&self) -> Duration {
        self.members.iter().map(|member| member.plan.timeout()).max().unwrap_or_default()
    }

    /// The snapshot of this moment: endpoints by target, then by address.
    pub(super) fn snapshot(&self, generation: u64) -> Snapshot {
        let endpoints = self.members.iter().flat_map(|member| {
            member.endpoints.iter().map(|endpoint| Endpoint {
                id: endpoint.id,
                address: endpoint.address,
                target: Arc::clone(&member.label),
                healthy: endpoint.judge.is_healthy(),
            })
        });
        Snapshot::new(generation, endpoints.collect())
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
        let name = match &target.address {
            TargetAddress::Ip(_) => None,
            TargetAddress::Name { host, port } => Some((host.as_str().into(), *port)),
        };
        Member {
            label: target.address.to_string().into(),
            name,
            interval: target.health.interval,
            rise: target.health.rise,
            fall: target.health.fall,
            plan: Arc::new(Plan::new(target)),
            endpoints: Vec::new(),
        }
    }
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
    use crate::settings::HealthCheck;

    fn ip(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn target(address: TargetAddress) -> Target {
        Target { address, health: HealthCheck::default() }
    }

    fn named(host: &str) -> Target {
        target(TargetAddress::Name { host: host.into(), port: 80 })
    }

    /// The addresses of the snapshot; healthy ones with a `true`.
    fn seen(roster: &Roster) -> Vec<(SocketAddr, bool)> {
        roster.snapshot(1).endpoints().iter().map(|e| (e.address, e.healthy)).collect()
    }

    #[test]
    fn endpoints_come_by_target_then_by_address() {
        let mut roster = Roster::new(vec![
            target(TargetAddress::Ip(ip(9))),
            named("b"),
            target(TargetAddress::Ip(ip(1))),
        ]);
        assert_eq!(seen(&roster), [(ip(9), false), (ip(1), false)]);
        roster.set_addresses(1, &[ip(3), ip(5)]);
        roster.set_addresses(1, &[ip(2), ip(3), ip(5)]);
        let order: Vec<_> = seen(&roster).into_iter().map(|(address, _)| address).collect();
        assert_eq!(order, [ip(9), ip(2), ip(3), ip(5), ip(1)]);
    }

    #[test]
    fn an_address_that_stays_keeps_identity_and_health_and_one_that_returns_is_new() {
        let mut roster = Roster::new(vec![named("a")]);
        let first = roster.set_addresses(0, &[ip(1), ip(2)]);
        roster.observe(first[0], true);
        roster.observe(first[1], true);
        assert_eq!(roster.set_addresses(0, &[ip(1)]), []);
        let gone: Vec<_> = roster.retire().into_iter().map(|(id, ..)| id).collect();
        assert_eq!(gone, [first[1]]);
        assert!(roster.is_healthy(first[0]));
        assert!(roster.observe(first[1], true).is_none());
        let again = roster.set_addresses(0, &[ip(1), ip(2)]);
        assert!(again.len() == 1 && !first.contains(&again[0]), "{again:?}");
        assert_eq!(seen(&roster), [(ip(1), true), (ip(2), false)]);
    }

    #[test]
    fn a_name_that_moves_keeps_its_healthy_endpoint_until_the_new_one_was_probed() {
        for success in [true, false] {
            let mut roster = Roster::new(vec![named("a")]);
            let old = roster.set_addresses(0, &[ip(1)]);
            roster.observe(old[0], true);
            let new = roster.set_addresses(0, &[ip(2)]);
            assert!(roster.retire().is_empty());
            assert_eq!(roster.healthy_count(), 1);
            roster.observe(new[0], success);
            assert_eq!(roster.retire().len(), 1);
            assert_eq!(seen(&roster), [(ip(2), success)]);
        }
    }

    #[test]
    fn an_unhealthy_endpoint_leaves_at_once_and_a_leaving_one_may_change_its_mind() {
        let mut roster = Roster::new(vec![named("a")]);
        let old = roster.set_addresses(0, &[ip(1), ip(2)]);
        roster.observe(old[0], true);
        roster.observe(old[1], false);
        roster.set_addresses(0, &[ip(3)]);
        assert_eq!(roster.retire().len(), 1);
        roster.set_addresses(0, &[ip(1), ip(3)]);
        assert!(roster.retire().is_empty());
        assert_eq!(seen(&roster), [(ip(1), true), (ip(3), false)]);
        assert!(roster.is_healthy(old[0]));
    }

    #[test]
    fn two_names_with_one_address_are_two_endpoints() {
        let mut roster = Roster::new(vec![named("a"), named("b")]);
        let a = roster.set_addresses(0, &[ip(1)]);
        let b = roster.set_addresses(1, &[ip(1)]);
        assert_ne!(a, b);
        roster.observe(b[0], true);
        assert_eq!(seen(&roster), [(ip(1), false), (ip(1), true)]);
    }

    #[test]
    fn identities_are_never_shared_between_rosters() {
        let ids = |roster: Roster| roster.endpoints().map(|(id, _)| id).collect::<Vec<_>>();
        let one = vec![target(TargetAddress::Ip(ip(1)))];
        assert_ne!(ids(Roster::new(one.clone())), ids(Roster::new(one)));
    }

    #[test]
    fn a_name_with_addresses_without_end_gets_a_bounded_number_of_endpoints() {
        let addresses: Vec<_> =
            (0..1_000u16).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect();
        let mut roster = Roster::new(vec![named("a")]);
        assert_eq!(roster.set_addresses(0, &addresses).len(), MAX_ADDRESSES);
        assert_eq!(roster.set_addresses(0, &addresses), []);
    }

    #[test]
    fn unresolved_names_count_as_wanted() {
        let mut roster = Roster::new(vec![named("a"), target(TargetAddress::Ip(ip(1)))]);
        assert_eq!((roster.healthy_count(), roster.wanted_count()), (0, 2));
        roster.set_addresses(0, &[ip(2), ip(3)]);
        assert_eq!(roster.wanted_count(), 3);
    }
}
