//! Which endpoint gets the next request: the published [`Snapshot`], the round-robin [`Cursor`], and the
//! place both are shared from.
//!
//! This room owns no socket, clock or lock; the order of turns is `rotation`'s. Invariants: a snapshot is never edited after
//! it was published; only the health thread publishes; the rotation is empty only when no endpoint is healthy.
//!
//! ```
//! use std::net::SocketAddr;
//!
//! use evenly::balance::{
//!     Cursor, Endpoint, EndpointId, EndpointState, Preference, Served, Snapshot, pick,
//! };
//!
//! let endpoint = |id: u32, state| Endpoint {
//!     id: EndpointId(id),
//!     address: SocketAddr::from(([10, 0, 0, 1], 8000)).into(),
//!     target: "api".into(),
//!     state,
//!     absent: false,
//!     preference: Preference::default(),
//!     served: Served::default(),
//! };
//! let snapshot = Snapshot::new(
//!     1,
//!     vec![
//!         endpoint(0, EndpointState::Up),
//!         endpoint(1, EndpointState::Down),
//!         endpoint(2, EndpointState::Up),
//!     ],
//! );
//!
//! // Consecutive requests alternate among the healthy endpoints, whichever worker asks.
//! let cursor = Cursor::default();
//! let picked: Vec<u32> =
//!     (0..4).filter_map(|_| pick(&snapshot, &cursor)).map(|(_, endpoint)| endpoint.id.0).collect();
//! assert_eq!(picked, [0, 2, 0, 2]);
//! ```

pub mod asks;
pub mod bell;
pub mod budget;
pub mod detail;
pub mod links;
#[cfg(all(test, loom))]
mod models;
mod rotation;

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;

use crate::base::address::Address;
use crate::base::ledger::Ledger;
use crate::base::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::metrics::LastReload;
use crate::metrics::endpoint::EndpointMeters;
use crate::settings::Plan;
use asks::Asks;
use bell::Bell;
use budget::Budget;
use detail::DetailCell;
use links::Links;
use rotation::Order;

/// Names one endpoint for the life of the process. Never reused, so that a pooled connection can
/// never be taken for one to another address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub u32);

/// One resolved address of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name for the life of the process.
    pub id: EndpointId,
    /// Where it is.
    pub address: Address,
    /// The target's address as configured, for people.
    pub target: Arc<str>,
    /// Whether it may be picked, and if not, why.
    pub state: EndpointState,
    /// It is down because nobody was there: a connect tells at once whether it is back.
    pub absent: bool,
    /// How it stands beside the other endpoints of its target.
    pub preference: Preference,
    /// Whether it serves requests.
    pub served: Served,
}

impl Endpoint {
    /// Whether it may be picked.
    pub fn healthy(&self) -> bool {
        self.state == EndpointState::Up
    }
}

/// How an endpoint stands beside the others of its target, as in an SRV record (RFC 2782). Endpoints of different targets
/// are not compared: each target has one share of the requests for each of its endpoints in the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Preference {
    /// The lowest number of which an endpoint is healthy is in the rotation; the others stand by.
    pub priority: u16,
    /// Its part of what its target gets, relative to the others of the same priority. 0 stands by while one
    /// that has more is healthy; if all have 0 they are equal.
    pub weight: u16,
    /// It leads to a host that another address, of the other family, leads to as well: it stands by while that one has
    /// the host's turns.
    pub alternate: bool,
}

impl Default for Preference {
    /// Priority 0 and weight 1: what endpoints have of which nothing is said.
    fn default() -> Self {
        Preference { priority: 0, weight: 1, alternate: false }
    }
}

/// Whether an endpoint has served a request since that was last asked, and what was counted of it. Every worker marks, and one thread
/// asks. Two are always equal: what was served since says nothing of what a snapshot is.
#[derive(Debug, Clone, Default)]
pub struct Served(Arc<Mark>);

impl Served {
    /// It has. For a request a load, since the mark is nearly always there.
    #[inline]
    pub fn mark(&self) {
        self.0.set();
    }

    /// What is counted of the endpoint.
    pub fn meters(&self) -> &EndpointMeters {
        &self.0.meters
    }

    /// Whether it has since the last call.
    pub fn take(&self) -> bool {
        self.0.take()
    }

    /// The endpoint is out, and so many requests of one worker are still with it.
    pub fn remain(&self, requests: usize) {
        self.0.remaining.fetch_add(requests, Ordering::Relaxed);
    }

    /// So many of them are not any more, or it is back.
    pub fn end(&self, requests: usize) {
        self.0.remaining.fetch_sub(requests, Ordering::Relaxed);
    }

    /// Requests that are with it although it is out.
    pub fn remaining(&self) -> usize {
        self.0.remaining.load(Ordering::Relaxed)
    }
}

impl PartialEq for Served {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Served {}

/// What [`Served`] shares. A mark that is set while another thread takes it may be taken as an earlier one; it is never lost.
#[derive(Debug, Default)]
struct Mark {
    served: AtomicBool,
    /// Requests that are with it although it is out: no request of an endpoint that is healthy pays for that count.
    remaining: AtomicUsize,
    meters: EndpointMeters,
}

impl Mark {
    #[inline]
    fn set(&self) {
        if !self.served.load(Ordering::Relaxed) {
            self.served.store(true, Ordering::Relaxed);
        }
    }

    fn take(&self) -> bool {
        self.served.load(Ordering::Relaxed) && self.served.swap(false, Ordering::Relaxed)
    }
}

/// What is known of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// No probe of it has ended yet.
    Unknown,
    /// It may be picked.
    Up,
    /// Its probes fail.
    Down,
    /// Its probes succeed, but it failed requests: it is out for a time.
    Ejected,
    /// Somebody has decided that it gets no new requests; those under way go on.
    Drained,
    /// Somebody has decided that it gets none.
    Disabled,
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndpointState::Unknown => "unknown",
            EndpointState::Up => "up",
            EndpointState::Down => "down",
            EndpointState::Ejected => "ejected",
            EndpointState::Drained => "drained",
            EndpointState::Disabled => "disabled",
        })
    }
}

/// What a worker saw an endpoint do, for the health thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It refused a connect, or could not be reached.
    ConnectRefused,
    /// It did not take a connect within `timeouts.connect`.
    ConnectTimeout,
    /// It ended a connection with a request under way, or did not begin its response in time.
    ExchangeFailed,
    /// It failed so many consecutive times that it may be ejected without a probe.
    Streak(Streak, u32),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::ConnectRefused => f.write_str("connect refused"),
            Report::ConnectTimeout => f.write_str("connect timeout"),
            Report::ExchangeFailed => f.write_str("exchange failed"),
            Report::Streak(kind, count) => write!(f, "{count} consecutive {kind}"),
        }
    }
}

/// What an endpoint did in consecutive exchanges, as far as one worker saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streak {
    /// It refused connects, or did not take them in time.
    ConnectFailures,
    /// It reset or closed exchanges.
    Resets,
    /// It reset or closed exchanges whose requests another endpoint served: they were not the cause.
    Replayed,
    /// It did not begin a response in time: it hangs, or requests take that long.
    Timeouts,
    /// It answered with a status of 500 to 599.
    Errors,
}

impl fmt::Display for Streak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Streak::ConnectFailures => "connect failures",
            Streak::Resets => "resets",
            Streak::Replayed => "resets of requests that others served",
            Streak::Timeouts => "responses that did not begin",
            Streak::Errors => "server errors",
        })
    }
}

/// A target of which no address is known, so that it has no endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The target's address as configured, for people.
    pub target: Arc<str>,
    /// Why, for people.
    pub reason: Arc<str>,
}

/// One immutable view of all endpoints and of which of them are healthy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Counts publications; grows by at least one with each.
    pub generation: u64,
    /// The plan of the threads that read this snapshot.
    pub plan: Arc<Plan>,
    endpoints: Box<[Endpoint]>,
    targets: usize,
    unresolved: Box<[Unresolved]>,
    details: Box<[Arc<DetailCell>]>,
    healthy: usize,
    order: Order,
}

impl Snapshot {
    /// A snapshot of `endpoints` in this order, with the default plan. Those of one target stand side by side.
    pub fn new(generation: u64, endpoints: Vec<Endpoint>) -> Self {
        let healthy = endpoints.iter().filter(|endpoint| endpoint.healthy()).count();
        let order = Order::of(&endpoints);
        Snapshot {
            generation,
            plan: Arc::default(),
            endpoints: endpoints.into_boxed_slice(),
            targets: 0,
            unresolved: Box::default(),
            details: Box::default(),
            healthy,
            order,
        }
    }

    /// The same, of so many targets, of which these have no endpoint.
    pub fn of_targets(self, targets: usize, unresolved: Vec<Unresolved>) -> Self {
        Snapshot { targets, unresolved: unresolved.into_boxed_slice(), ..self }
    }

    /// The same, with what else is known of each endpoint, in their order.
    pub fn detailed(self, details: Vec<Arc<DetailCell>>) -> Self {
        Snapshot { details: details.into_boxed_slice(), ..self }
    }

    /// What else is known of each endpoint, in the order of [`Snapshot::endpoints`]; none if nobody has said.
    pub fn details(&self) -> &[Arc<DetailCell>] {
        &self.details
    }

    /// The same, under this plan.
    pub fn under(self, plan: Arc<Plan>) -> Self {
        Snapshot { plan, ..self }
    }

    /// How many targets there are.
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// The targets of which no address is known.
    pub fn unresolved(&self) -> &[Unresolved] {
        &self.unresolved
    }

    /// Every endpoint, healthy or not.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// How many endpoints are healthy, those that stand by included: a request may reach each of them.
    pub fn healthy_count(&self) -> usize {
        self.healthy
    }

    /// How many endpoints are in this state. Looks at every one: for people, not for requests.
    pub fn count(&self, state: EndpointState) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.state == state).count()
    }

    /// The endpoint whose turn is at `position` modulo the length of a round; `None` if none is healthy. With equal
    /// preferences a round is the healthy endpoints in order.
    pub fn turn_at(&self, position: usize) -> Option<&Endpoint> {
        let rotation = &self.order.rotation;
        let at = match rotation.len() {
            0 => return None,
            turns => position % turns,
        };
        Some(&self.endpoints[rotation[at] as usize])
    }

    /// How many turns of a round each endpoint has, in the order of [`Snapshot::endpoints`], and how many a round has.
    pub fn turns(&self) -> (Vec<u32>, u32) {
        let mut turns = vec![0; self.endpoints.len()];
        self.order.rotation.iter().for_each(|&at| turns[at as usize] += 1);
        let round = turns.iter().sum();
        (turns, round)
    }

    /// The endpoint with this id, if the snapshot has it.
    pub fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.iter().find(|e| e.id == id)
    }
}

/// The one counter all workers share: each pick takes the next ticket, so that requests one after
/// another alternate over the healthy endpoints whatever connection or worker they arrive on.
#[derive(Debug, Default)]
pub struct Cursor(CachePadded<AtomicUsize>);

impl Cursor {
    /// The ticket after those that were given out.
    pub fn next(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on from this ticket: for a process that takes the place of another, before anybody takes one.
    pub fn go_on_from(&self, ticket: usize) {
        self.0.store(ticket, Ordering::Relaxed);
    }

    /// The next ticket. Wraps around at `usize::MAX`.
    pub fn ticket(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Exact round robin: the endpoint whose turn it is, or `None` when none is healthy. No ticket is used
/// up in that case. Returns the ticket too, so that a failed connect can move on from it.
pub fn pick<'s>(snapshot: &'s Snapshot, cursor: &Cursor) -> Option<(usize, &'s Endpoint)> {
    if snapshot.order.rotation.is_empty() {
        return None;
    }
    let ticket = cursor.ticket();
    snapshot.turn_at(ticket).map(|endpoint| (ticket, endpoint))
}

/// The endpoint of the rotation that follows `ticket`'s own turn and is not in `tried`; when the whole rotation was
/// tried, one that stands by, since the lowest priority "it can reach" is what RFC 2782 asks of a client. `None` when all
/// were tried.
pub fn pick_other<'s>(
    snapshot: &'s Snapshot,
    ticket: usize,
    tried: &[EndpointId],
) -> Option<&'s Endpoint> {
    pick_such(snapshot, ticket, |endpoint| !tried.contains(&endpoint))
}

/// In the same order, the first endpoint that fits.
pub fn pick_such(
    snapshot: &Snapshot,
    ticket: usize,
    fits: impl Fn(EndpointId) -> bool,
) -> Option<&Endpoint> {
    let standby = || {
        let mut ranks = snapshot.order.standbys.iter();
        ranks.find_map(|rank| first_such(snapshot, rank, ticket, &fits))
    };
    first_such(snapshot, &snapshot.order.rotation, ticket, &fits).or_else(standby)
}

/// Of the endpoints that are down because nobody was there the next one that fits: the last resort, since one may be back that
/// nobody has looked at.
pub fn pick_absent(
    snapshot: &Snapshot,
    ticket: usize,
    fits: impl Fn(EndpointId) -> bool,
) -> Option<&Endpoint> {
    let all = snapshot.endpoints();
    let (earlier, later) = all.split_at(ticket.checked_rem(all.len())?);
    let is_absent = |it: &&Endpoint| it.absent && it.state == EndpointState::Down && fits(it.id);
    later.iter().chain(earlier).find(is_absent)
}

/// The first endpoint of one round of `turns` from that of `ticket` on that fits.
fn first_such<'s>(
    snapshot: &'s Snapshot,
    turns: &[u32],
    ticket: usize,
    fits: &impl Fn(EndpointId) -> bool,
) -> Option<&'s Endpoint> {
    let (earlier, later) = turns.split_at(ticket.checked_rem(turns.len())?);
    let round = later.iter().chain(earlier);
    round.map(|&at| &snapshot.endpoints[at as usize]).find(|it| fits(it.id))
}

/// What the health thread publishes and the workers read.
#[derive(Debug, Default)]
pub struct Shared {
    /// The current snapshot. Workers read it through [`arc_swap::cache::Cache`], once a turn.
    pub snapshot: ArcSwap<Snapshot>,
    /// The round-robin counter.
    pub cursor: Cursor,
    /// How many requests may be retried.
    pub budget: Budget,
    /// What workers know together of their connections to each endpoint.
    pub links: Links,
    /// Whose idle connections are in somebody's way.
    pub asks: Asks,
    /// How much the buffers of all workers hold.
    pub memory: Arc<Ledger>,
    /// Ends the sleep of the workers.
    pub bell: Bell,
    /// What became of the last reload, for whoever shows it.
    pub last_reload: LastReload,
    /// Tells this process from every other one, in the `Via` field. 0 unless it was made by [`Shared::new`].
    pub instance: u64,
}

impl Shared {
    /// Counts generations on from this one: for a process that takes the place of another, before there is a reader.
    pub fn go_on_from(&self, generation: u64) {
        let snapshot = self.snapshot.load_full();
        self.snapshot.store(Arc::new(Snapshot { generation, ..Snapshot::clone(&snapshot) }));
    }

    /// A snapshot of this plan without endpoints, a cursor at 0, this ledger, and a random instance.
    pub fn new(plan: Arc<Plan>, memory: Ledger) -> Self {
        let instance = RandomState::new().build_hasher().finish();
        let snapshot = ArcSwap::from_pointee(Snapshot::default().under(plan));
        Shared { snapshot, memory: Arc::new(memory), instance, ..Shared::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::sync::atomic::AtomicUsize;

    fn snapshot(health: &[bool]) -> Snapshot {
        let endpoints = health
            .iter()
            .enumerate()
            .map(|(at, &healthy)| Endpoint {
                id: EndpointId(u32::try_from(at).unwrap()),
                address: SocketAddr::from(([127, 0, 0, 1], 8000 + u16::try_from(at).unwrap()))
                    .into(),
                target: "t".into(),
                state: if healthy { EndpointState::Up } else { EndpointState::Down },
                preference: Preference::default(),
                absent: false,
                served: Served::default(),
            })
            .collect();
        Snapshot::new(1, endpoints)
    }

    #[test]
    fn requests_alternate_over_the_healthy_endpoints_only() {
        let snapshot = snapshot(&[true, false, true]);
        let cursor = Cursor::default();
        let picked: Vec<u32> = (0..6).map(|_| pick(&snapshot, &cursor).unwrap().1.id.0).collect();
        assert_eq!(picked, [0, 2, 0, 2, 0, 2]);
    }

    #[test]
    fn only_what_is_up_is_healthy_and_every_state_is_counted() {
        use EndpointState::{Down, Ejected, Unknown, Up};
        let mut endpoints = snapshot(&[true; 5]).endpoints().to_vec();
        for (endpoint, state) in endpoints.iter_mut().zip([Unknown, Ejected, Up, Down, Ejected]) {
            endpoint.state = state;
        }
        let snapshot = Snapshot::new(1, endpoints);
        assert_eq!(snapshot.healthy_count(), 1);
        assert_eq!(snapshot.turn_at(7).unwrap().id, EndpointId(2));
        assert_eq!([Unknown, Up, Down, Ejected].map(|it| snapshot.count(it)), [1, 1, 1, 2]);
    }

    #[test]
    fn shares_are_exact_over_all_threads() {
        let snapshot = snapshot(&[true; 3]);
        let cursor = Cursor::default();
        let counts = [const { AtomicUsize::new(0) }; 3];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..3_000 {
                        let id = pick(&snapshot, &cursor).unwrap().1.id.0;
                        counts[id as usize].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counts.map(AtomicUsize::into_inner), [4_000; 3]);
    }

    #[test]
    fn nothing_healthy_picks_nothing_and_uses_no_ticket() {
        let snapshot = snapshot(&[false, false]);
        let cursor = Cursor::default();
        assert!(pick(&snapshot, &cursor).is_none());
        assert_eq!(cursor.ticket(), 0);
    }

    #[test]
    fn moving_on_visits_every_healthy_endpoint_once() {
        let snapshot = snapshot(&[true, true, false, true]);
        let mut tried = vec![snapshot.turn_at(4).unwrap().id];
        while let Some(next) = pick_other(&snapshot, 4, &tried) {
            tried.push(next.id);
        }
        assert_eq!(tried, [EndpointId(1), EndpointId(3), EndpointId(0)]);
    }

    #[test]
    fn every_turn_of_a_round_is_counted_for_its_endpoint() {
        assert_eq!(snapshot(&[true, false, true]).turns(), (vec![1, 0, 1], 2));
        let mut endpoints = snapshot(&[true; 2]).endpoints().to_vec();
        endpoints[0].preference.weight = 3;
        assert_eq!(Snapshot::new(1, endpoints).turns(), (vec![3, 1], 4));
        assert_eq!(snapshot(&[false]).turns(), (vec![0], 0));
    }

    #[test]
    fn the_counter_may_wrap() {
        let snapshot = snapshot(&[true, true]);
        assert!(pick_other(&snapshot, usize::MAX, &[]).is_some());
        assert!(snapshot.turn_at(usize::MAX).is_some());
    }
}
