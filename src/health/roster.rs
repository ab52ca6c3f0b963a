//! Which endpoints there are and how healthy each is: what a snapshot is made of.
//!
//! Owns endpoint identities, their judges and their ejections; does not know when or how they are probed or who resolves
//! names. Invariants: an [`EndpointId`] is given out once in the life of the process; the endpoints of a
//! target are sorted by address; `homes` names the target of every endpoint that exists; the probes of an
//! ejected endpoint succeed, for one whose probes fail is down.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::balance::detail::{CheckNote, Moment, Override};
use crate::balance::{
    Endpoint, EndpointId, EndpointState, Preference, Snapshot, Streak, Unresolved,
};
use crate::base::address::Address;
use crate::settings::{Plan, Target, TargetAddress, TargetState};

use super::checked::{Checked, Company, HealthEvent};
use super::ejection::{EndpointCounts, allows};
use super::families::{Families, family};
use super::history::Why;
use super::judge::Judgement;
use super::lookup::Wanted;
use super::place::{Place, one_for_each_address};
use super::probe::CheckSpec;
use super::record::EndpointRecord;
use super::schedule::Standing;
use super::steering::{SteerError, SteerOrder, Steered, nearest};

/// How long an answer waits at most to be taken together with others.
const GATHER_TIME: Duration = Duration::from_millis(5);

/// One target and its endpoints.
#[derive(Debug)]
struct Member {
    /// What it is called by whoever looks its name up. Never given out again.
    number: usize,
    label: Arc<str>,
    name: Option<Wanted>,
    interval: Duration,
    rise: u32,
    fall: u32,
    spec: Arc<CheckSpec>,
    endpoints: Vec<Checked>,
    /// What its last lookup failed of.
    trouble: Arc<str>,
    /// It is a name, and no lookup of it has ended.
    awaited: bool,
    /// The plan no longer has it; it goes with its last endpoint.
    retired: bool,
    /// What somebody has decided about it, and so about endpoints that it does not have yet.
    decided: Override,
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
    pub(super) spec: Arc<CheckSpec>,
}

/// What a verdict meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    /// What changed.
    pub(super) change: Option<HealthEvent>,
    /// How it stands now.
    pub(super) standing: Standing,
    /// It is down for another reason than before, as far as requests go.
    pub(super) looks_different: bool,
}

/// Every target with its endpoints, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Roster {
    members: Vec<Member>,
    /// Where each target is among `members`, by its number.
    positions: HashMap<usize, usize>,
    next_number: usize,
    plan: Arc<Plan>,
    /// The target of each endpoint, by its number.
    homes: HashMap<EndpointId, usize>,
    anyone_leaving: bool,
    /// What another process knew of endpoints that are not here yet, by target and address.
    inherited: HashMap<(String, String), EndpointRecord>,
}

impl Roster {
    /// As [`Roster::after`], of nothing.
    #[cfg(test)]
    pub(super) fn new(plan: Arc<Plan>, now: Instant) -> Self {
        Roster::after(Vec::new(), plan, now)
    }

    /// Targets with an IP address or a path have their endpoint at once, names have none before
    /// [`Roster::set_addresses`]. None is healthy but those of which another process recorded that.
    pub(super) fn after(records: Vec<EndpointRecord>, plan: Arc<Plan>, now: Instant) -> Self {
        let record = |it: EndpointRecord| ((it.target.clone(), it.address.clone()), it);
        let mut roster = Roster {
            members: Vec::new(),
            positions: HashMap::new(),
            next_number: 0,
            plan: Arc::default(),
            homes: HashMap::new(),
            anyone_leaving: false,
            inherited: records.into_iter().map(record).collect(),
        };
        let _all_are_new = roster.follow(plan, now);
        roster
    }

    /// Has the targets of this plan from now on. Those that stay keep their endpoints and what is known of these; new ones are
    /// as in [`Roster::new`]. Those that go stay until [`Roster::retire`]. Returns the endpoints to be checked at
    /// once: new ones, and those whose check is another one now.
    #[must_use]
    pub(super) fn follow(&mut self, plan: Arc<Plan>, now: Instant) -> Vec<EndpointId> {
        let mut before: HashMap<Arc<str>, Member> = HashMap::new();
        let mut order = Vec::new();
        for member in std::mem::take(&mut self.members) {
            order.push(Arc::clone(&member.label));
            before.insert(Arc::clone(&member.label), member);
        }
        let mut check = Vec::new();
        for target in &plan.targets {
            let member = match before.remove(&*target.address.to_string()) {
                Some(mut member) => {
                    if member.follow(target) {
                        check.extend(member.endpoints.iter().map(|endpoint| endpoint.id));
                    }
                    member
                }
                None => {
                    self.next_number += 1;
                    let mut member = Member::new(self.next_number - 1, target);
                    let of_all = (member.label.to_string(), String::new());
                    if let Some(record) = self.inherited.remove(&of_all) {
                        member.decided = record.decided().saving(target.state);
                    }
                    member
                }
            };
            self.members.push(member);
        }
        for mut member in order.iter().filter_map(|label| before.remove(label)) {
            member.retired = true;
            member.endpoints.iter_mut().for_each(|endpoint| endpoint.leaving = true);
            self.anyone_leaving = true;
            self.members.push(member);
        }
        self.number_positions();
        for (at, target) in plan.targets.iter().enumerate() {
            let address = match &target.address {
                TargetAddress::Ip(address) => (*address).into(),
                TargetAddress::Unix(path) => Address::Unix(path.as_str().into()),
                TargetAddress::Name { .. } | TargetAddress::Service(_) => continue,
            };
            let number = self.members[at].number;
            check.extend(self.set_addresses(number, &[Place::plain(address)], now).added);
        }
        self.plan = plan;
        check
    }

    fn number_positions(&mut self) {
        let numbers = self.members.iter().enumerate().map(|(at, member)| (member.number, at));
        self.positions = numbers.collect();
    }

    /// The target of this number.
    fn member(&self, number: usize) -> Option<&Member> {
        self.members.get(*self.positions.get(&number)?)
    }

    fn member_mut(&mut self, number: usize) -> Option<&mut Member> {
        self.members.get_mut(*self.positions.get(&number)?)
    }

    /// The endpoints of the target of this number are now at `places`. Known ones keep their identity and health.
    /// Those that are gone stay until [`Roster::retire`]. Of several places with one address the
    /// lowest priority counts, and of those the greatest weight.
    pub(super) fn set_addresses(
        &mut self,
        target: usize,
        places: &[Place],
        now: Instant,
    ) -> Update {
        let mut update = Update::default();
        let position = self.positions.get(&target).copied();
        let Some(member) = position.and_then(|at| self.members.get_mut(at)) else { return update };
        if member.retired {
            return update;
        }
        member.awaited = false;
        let places = one_for_each_address(places.to_vec());
        for endpoint in &mut member.endpoints {
            endpoint.leaving =
                places.binary_search_by(|place| place.address.cmp(&endpoint.address)).is_err();
            self.anyone_leaving |= endpoint.leaving;
        }
        for place in places {
            match member.endpoints.binary_search_by(|e| e.address.cmp(&place.address)) {
                Ok(known) => update.changed |= member.endpoints[known].prefer(&place),
                Err(at) => {
                    let Some(id) = fresh_id() else { break };
                    let streaks = (member.rise, member.fall);
                    let mut endpoint = Checked::new(id, &place, streaks, now);
                    endpoint.decide(Override { weight: None, ..member.decided });
                    let name = (member.label.to_string(), place.address.to_string());
                    if let Some(record) = self.inherited.remove(&name) {
                        endpoint.resume(&record, now);
                    }
                    member.endpoints.insert(at, endpoint);
                    self.homes.insert(id, target);
                    update.added.push(id);
                }
            }
        }
        update.changed |= !update.added.is_empty();
        update
    }

    /// The target's last lookup failed of that. Whether a snapshot shows it.
    pub(super) fn set_trouble(&mut self, target: usize, why: &str) -> bool {
        let Some(member) = self.member_mut(target) else { return false };
        member.awaited = false;
        let is_new = &*member.trouble != why;
        if is_new {
            member.trouble = why.into();
        }
        is_new && member.endpoints.is_empty()
    }

    /// Removes and returns the endpoints that are leaving. A healthy one stays while its target has
    /// endpoints that were never probed, so that a name which moves is never without a healthy one between; one of a target
    /// that goes stays while any other target has such, or is a name that was not looked up yet.
    pub(super) fn retire(&mut self) -> Vec<(EndpointId, Address, Arc<str>)> {
        let mut gone = Vec::new();
        if !std::mem::take(&mut self.anyone_leaving) {
            return gone;
        }
        let is_waiting =
            |member: &Member| member.endpoints.iter().any(|e| !e.leaving && e.is_new());
        let awaited = |member: &Member| member.awaited && !member.retired;
        let anyone_waiting = self.members.iter().any(|it| is_waiting(it) || awaited(it));
        for member in &mut self.members {
            let waiting = if member.retired { anyone_waiting } else { is_waiting(member) };
            let leaves = |e: &mut Checked| e.leaving && !(waiting && e.is_up());
            for endpoint in member.endpoints.extract_if(.., leaves) {
                self.homes.remove(&endpoint.id);
                gone.push((endpoint.id, endpoint.address, Arc::clone(&member.label)));
            }
            self.anyone_leaving |= member.endpoints.iter().any(|e| e.leaving);
        }
        self.members.retain(|member| !member.retired || !member.endpoints.is_empty());
        self.number_positions();
        gone
    }

    /// Takes the verdict of a probe; `None` if the endpoint is gone.
    pub(super) fn observe(
        &mut self,
        id: EndpointId,
        verdict: impl Into<Judgement>,
        now: Instant,
    ) -> Option<Ruling> {
        let company = self.company(id);
        let endpoint = self.find_mut(id)?;
        let absent = endpoint.absent;
        let change = endpoint.observe(verdict.into(), &company, now);
        let standing = match endpoint.health() {
            _ if endpoint.judge.is_wavering() || endpoint.spared => Standing::Wavering,
            EndpointState::Up => Standing::Sound,
            _ if endpoint.absent => Standing::Absent,
            _ => Standing::Out,
        };
        Some(Ruling {
            change,
            standing,
            looks_different: endpoint.absent != absent && !endpoint.is_up(),
        })
    }

    /// A check of it has ended after so long.
    pub(super) fn count_check(&self, id: EndpointId, passed: bool, took: Duration) {
        let Some((_, endpoint)) = self.find(id) else { return };
        let checks = &endpoint.served.meters().checks;
        match passed {
            true => checks.passed.bump(),
            false => checks.failed.bump(),
        }
        checks.micros.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn company(&self, id: EndpointId) -> Company {
        let alone = !self.checked().any(|other| other.id != id && other.is_up());
        Company { alone, rules: self.plan.ejection, counts: self.counts() }
    }

    /// Whether no probe of it was tried yet.
    pub(super) fn is_new(&self, id: EndpointId) -> bool {
        self.find(id).is_some_and(|(_, endpoint)| endpoint.is_new())
    }

    /// A probe of it begins: what it serves meanwhile tells of the same time.
    pub(super) fn look_at(&mut self, id: EndpointId, now: Instant) {
        if let Some(endpoint) = self.find_mut(id) {
            endpoint.note_served(now);
        }
    }

    /// A probe of it could not be made for lack of something here, which says nothing of it.
    pub(super) fn try_in_vain(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.find_mut(id) {
            endpoint.tried = true;
            endpoint.inherited = false;
        }
    }

    /// What another process is to know of each endpoint.
    pub(super) fn records(&self, now: Instant) -> Vec<EndpointRecord> {
        let of = |member: &Member| -> Vec<EndpointRecord> {
            let of_all = member.decided.is_set();
            let of_all = of_all.then(|| EndpointRecord::of_target(&member.label, member.decided));
            let each = member.endpoints.iter().map(|it| it.record(&member.label, now));
            of_all.into_iter().chain(each).collect()
        };
        self.planned().flat_map(of).collect()
    }

    /// Endpoints that come from now on are new, whatever another process knew of them.
    pub(super) fn forget_records(&mut self) {
        self.inherited = HashMap::new();
    }

    /// When the ejection of this endpoint is over, if it is ejected.
    pub(super) fn term(&self, id: EndpointId) -> Option<Instant> {
        self.find(id)?.1.ejections.until()
    }

    /// A probe of it failed in a way that a pause of this process explains. Returns whether to repeat it without a verdict:
    /// only so many times, or a process that is always paused would never notice a target that is down.
    pub(super) fn excuse(&mut self, id: EndpointId) -> bool {
        self.find_mut(id).is_some_and(Checked::excuse)
    }

    /// Takes the endpoint out for what workers saw, if it is up, not too many are out, and what they saw needs no check to
    /// confirm it. Returns for how long it is out; zero means until a probe succeeds, since its last one failed. `None`: it is not
    /// taken out.
    pub(super) fn accuse(
        &mut self,
        id: EndpointId,
        (streak, count): (Streak, u32),
        now: Instant,
    ) -> Option<Duration> {
        let (rules, allowed) = (self.plan.ejection, allows(&self.plan.ejection, self.counts()));
        let asks = self.find(id)?.0.spec.asks();
        let endpoint = self.find_mut(id)?;
        // One that somebody wants in stays in.
        if !allowed || endpoint.health() != EndpointState::Up || !endpoint.is_up() {
            return None;
        }
        if endpoint.decided.in_force() == TargetState::Up {
            return None;
        }
        endpoint.accuse((streak, count), asks, &rules, now)
    }

    /// Whether the endpoint is ejected and its time is over: the next probe that succeeds brings it back.
    pub(super) fn awaits_return(&self, id: EndpointId, now: Instant) -> bool {
        self.find(id).is_some_and(|(_, endpoint)| endpoint.ejections.is_over(now))
    }

    /// What is needed to probe this endpoint; `None` if it is gone.
    pub(super) fn assignment(&self, id: EndpointId) -> Option<Assignment> {
        let (member, endpoint) = self.find(id)?;
        let (label, spec) = (Arc::clone(&member.label), Arc::clone(&member.spec));
        Some(Assignment { address: endpoint.address.clone(), label, spec })
    }

    /// Whether the endpoint exists and may be picked.
    pub(super) fn is_healthy(&self, id: EndpointId) -> bool {
        self.find(id).is_some_and(|(_, endpoint)| endpoint.is_up())
    }

    /// Every endpoint with the interval of its probes, in order.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (EndpointId, Duration)> {
        self.members.iter().flat_map(|m| m.endpoints.iter().map(|e| (e.id, m.interval)))
    }

    /// The interval of this endpoint's probes; `None` if it is gone.
    pub(super) fn interval(&self, id: EndpointId) -> Option<Duration> {
        self.find(id).map(|(member, _)| member.interval)
    }

    /// Every target that is a name: its number, what is looked up for it, and its interval.
    pub(super) fn names(&self) -> impl Iterator<Item = (usize, &Wanted, Duration)> {
        self.planned().filter_map(|member| {
            member.name.as_ref().map(|wanted| (member.number, wanted, member.interval))
        })
    }

    /// The target of this number as people know it, and how many endpoints it has.
    pub(super) fn target(&self, number: usize) -> Option<(&Arc<str>, usize)> {
        self.member(number).map(|member| (&member.label, member.endpoints.len()))
    }

    /// The targets of the plan.
    fn planned(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.retired)
    }

    /// How many endpoints may be picked.
    pub(super) fn healthy_count(&self) -> usize {
        self.checked().filter(|e| e.is_up()).count()
    }

    /// How many endpoints a snapshot shows.
    pub(super) fn shown_count(&self) -> usize {
        let shown = |member: &Member| {
            let families = Families::of(&member.endpoints);
            member.endpoints.iter().filter(|it| !families.leave_out(it)).count()
        };
        self.members.iter().map(shown).sum()
    }

    /// Whether the endpoint's host has addresses of the other family too, of which one is up or was not looked at yet.
    pub(super) fn has_other_family(&self, id: EndpointId) -> bool {
        let Some((member, endpoint)) = self.find(id) else { return false };
        let other = |it: &&Checked| it.host == endpoint.host && family(it) != family(endpoint);
        member.endpoints.iter().filter(other).any(|it| it.is_up() || it.is_new())
    }

    /// How many targets have no endpoint: names that never resolved.
    pub(super) fn without_address(&self) -> usize {
        self.planned().filter(|member| member.endpoints.is_empty()).count()
    }

    /// Whether every endpoint has been probed by this process.
    pub(super) fn all_probed(&self) -> bool {
        self.checked().all(|e| !e.is_new() && !e.inherited)
    }

    /// The longest that a probe may take.
    pub(super) fn longest_timeout(&self) -> Duration {
        self.members.iter().map(|member| member.spec.timeout()).max().unwrap_or_default()
    }

    /// How long an answer may wait to be taken together with others: a twentieth of the shortest interval and timeout
    /// at most, so that it shows in neither.
    pub(super) fn gather_time(&self) -> Duration {
        let members = self.members.iter().map(|m| m.interval.min(m.spec.timeout()) / 20);
        members.min().unwrap_or_default().min(GATHER_TIME)
    }

    /// How many endpoints there are.
    pub(super) fn len(&self) -> usize {
        self.homes.len()
    }

    /// The snapshot of this moment: endpoints by target, then by address.
    pub(super) fn snapshot(&self, generation: u64) -> Snapshot {
        let mut details = Some(Vec::new());
        let mut endpoints = Vec::new();
        for member in &self.members {
            let families = Families::of(&member.endpoints);
            for endpoint in member.endpoints.iter().filter(|it| !families.leave_out(it)) {
                details = details.zip(endpoint.history.cell()).map(|(mut all, cell)| {
                    all.push(cell);
                    all
                });
                endpoints.push(Endpoint {
                    id: endpoint.id,
                    address: endpoint.address.clone(),
                    target: Arc::clone(&member.label),
                    state: endpoint.state(),
                    absent: endpoint.absent,
                    preference: Preference {
                        alternate: families.stands_by(endpoint),
                        ..endpoint.preference()
                    },
                    served: endpoint.served.clone(),
                });
            }
        }
        let unresolved = self.planned().filter(|member| member.endpoints.is_empty());
        let unresolved = unresolved.map(|member| Unresolved {
            target: Arc::clone(&member.label),
            reason: Arc::clone(&member.trouble),
        });
        Snapshot::new(generation, endpoints)
            .of_targets(self.planned().count(), unresolved.collect())
            .detailed(details.unwrap_or_default())
            .under(Arc::clone(&self.plan))
    }

    /// A check of it has ended, and found this.
    pub(super) fn note_check(&mut self, id: EndpointId, check: CheckNote, now: Moment) {
        if let Some(endpoint) = self.find_mut(id) {
            endpoint.history.note_check(check);
            endpoint.show(now);
        }
    }

    /// It is ejected for this.
    pub(super) fn note_ejection(&mut self, id: EndpointId, why: Why) {
        if let Some(endpoint) = self.find_mut(id) {
            endpoint.history.note_ejection(why);
        }
    }

    /// Shows how every endpoint is.
    pub(super) fn show(&mut self, now: Moment) {
        let endpoints = self.members.iter_mut().flat_map(|member| &mut member.endpoints);
        endpoints.for_each(|endpoint| endpoint.show(now));
    }

    /// What somebody has decided about this endpoint.
    pub(super) fn decided(&self, id: EndpointId) -> Override {
        self.find(id).map_or_else(Override::default, |(_, endpoint)| endpoint.decided)
    }

    /// Decides about every endpoint of a target, or of an address of which there may be several.
    ///
    /// # Errors
    /// There is none of this name, or it has no weight that could be another.
    pub(super) fn steer(&mut self, order: &SteerOrder) -> Result<Steered, SteerError> {
        let named = |member: &&mut Member| !member.retired && *member.label == *order.name;
        if let Some(member) = self.members.iter_mut().find(named) {
            if order.weight.is_some() {
                return Err(SteerError::Weight(member.name.is_some()));
            }
            let decided = order.over(member.decided);
            member.decided = Override { weight: None, ..decided };
            for endpoint in &mut member.endpoints {
                endpoint.decide(order.over(endpoint.decided));
            }
            let endpoints = member.endpoints.len();
            let label = Arc::clone(&member.label);
            return Ok(Steered { label, address: None, endpoints, healthy: self.healthy_count() });
        }
        let mut found = None;
        for member in self.members.iter_mut().filter(|member| !member.retired) {
            for endpoint in &mut member.endpoints {
                if endpoint.address.to_string() == order.name {
                    endpoint.decide(order.over(endpoint.decided));
                    let before = found.map_or(0, |(_, _, count)| count);
                    let place = endpoint.address.clone();
                    found = Some((Arc::clone(&member.label), place, before + 1));
                }
            }
        }
        match found {
            Some((label, address, endpoints)) => {
                let healthy = self.healthy_count();
                Ok(Steered { label, address: Some(address), endpoints, healthy })
            }
            None => Err(SteerError::Unknown(self.nearest(&order.name))),
        }
    }

    /// The name of a target or an address that may have been meant.
    fn nearest(&self, name: &str) -> Option<String> {
        let of = |member: &Member| -> Vec<String> {
            let addresses = member.endpoints.iter().map(|it| it.address.to_string());
            std::iter::once(member.label.to_string()).chain(addresses).collect()
        };
        let names: Vec<String> = self.planned().flat_map(of).collect();
        nearest(name, &names)
    }

    fn counts(&self) -> EndpointCounts {
        let count = |state| self.checked().filter(|e| e.state() == state).count();
        EndpointCounts {
            all: self.checked().count(),
            up: count(EndpointState::Up),
            ejected: count(EndpointState::Ejected),
        }
    }

    fn find_mut(&mut self, id: EndpointId) -> Option<&mut Checked> {
        let member = self.member_mut(*self.homes.get(&id)?)?;
        member.endpoints.iter_mut().find(|endpoint| endpoint.id == id)
    }

    fn checked(&self) -> impl Iterator<Item = &Checked> {
        self.members.iter().flat_map(|member| &member.endpoints)
    }

    fn find(&self, id: EndpointId) -> Option<(&Member, &Checked)> {
        let member = self.member(*self.homes.get(&id)?)?;
        Some((member, member.endpoints.iter().find(|endpoint| endpoint.id == id)?))
    }
}

impl Member {
    fn new(number: usize, target: &Target) -> Self {
        Member {
            number,
            label: target.address.to_string().into(),
            name: Wanted::of(&target.address),
            interval: target.health.interval,
            rise: target.health.rise,
            fall: target.health.fall,
            spec: Arc::new(CheckSpec::new(target)),
            endpoints: Vec::new(),
            trouble: "it has not been looked up yet".into(),
            awaited: Wanted::of(&target.address).is_some(),
            retired: false,
            decided: Override::default().saving(target.state),
        }
    }

    /// Is checked as `target`, which has its address, says from now on. Whether that is otherwise than before.
    fn follow(&mut self, target: &Target) -> bool {
        let (health, spec) = (&target.health, CheckSpec::new(target));
        if std::mem::take(&mut self.retired) {
            // Of a name, lookups say who stays.
            self.endpoints.iter_mut().for_each(|endpoint| endpoint.leaving = false);
        }
        if self.decided.saved != target.state {
            self.decided = self.decided.saving(target.state);
            for endpoint in &mut self.endpoints {
                endpoint.decide(endpoint.decided.saving(target.state));
            }
        }
        let before = (self.interval, self.rise, self.fall);
        let differs = before != (health.interval, health.rise, health.fall) || *self.spec != spec;
        if differs {
            (self.interval, self.rise, self.fall) = (health.interval, health.rise, health.fall);
            self.spec = Arc::new(spec);
            let judges = self.endpoints.iter_mut().map(|endpoint| &mut endpoint.judge);
            judges.for_each(|judge| judge.follow(health.rise, health.fall));
        }
        differs
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
mod tests;
