//! What one worker keeps for each endpoint: its idle upstream connections, newest first, its requests in flight, and its
//! streaks of failures. All share one table.
//!
//! Invariants: only connections to endpoints that are healthy in the current snapshot are kept; each
//! endpoint's stack holds at most the configured number; a connection in a stack belongs to no client; one that
//! belongs to a client has a place, until it leaves.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use std::sync::Arc;
use std::time::Duration;

use super::keys::UpstreamKey;
use super::streaks::Streaks;
use crate::access::Pending;
use crate::balance::links::{Link, Links};
use crate::balance::{Endpoint, EndpointId, Served, Snapshot, Streak};
use crate::base::address::Address;
use crate::base::tick::Tick;
use crate::metrics::endpoint::OwnBlock;
use crate::reason::Reason;
use crate::settings::{Limits, Plan};

/// Endpoint ids are dense and ours: mixing their bits would only cost time.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u32(&mut self, id: u32) {
        // The table takes its tag from the top bits and its place from the low ones.
        self.0 = u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// What a worker keeps for one endpoint.
struct EndpointPool {
    address: Address,
    /// The target that it is one of, as configured.
    target: Arc<str>,
    /// Of one that is not, only the requests are known that are still with it.
    healthy: bool,
    idle: Vec<IdleConnection>,
    patience: Patience,
    /// It has begun a response while it had another connection of ours. Until then it may be one that serves one connection at a
    /// time, and an idle one may be what others wait behind.
    serves_several: bool,
    /// Connections on which no response has begun, in the order in which they were opened, as long as it is not known
    /// that the target serves several at once.
    fresh: Vec<UpstreamKey>,
    /// Since when none of them has got further.
    waiting_since: Tick,
    /// When others are asked for the connections they may be waiting behind, if none of them gets further until then.
    ask_at: Tick,
    /// Others wait, or have waited just now, behind connections of this worker: until then none is kept, as long as it is
    /// not known that the target serves several at once.
    yields_until: Tick,
    streaks: Streaks,
    /// Requests of this worker that are with it.
    busy: u32,
    /// How many there should be at most while others have room.
    share: u32,
    /// What all workers know, where there is a limit for all of them.
    link: Option<Arc<Link>>,
    served: Served,
    meters: OwnBlock,
}

impl EndpointPool {
    fn enter(&mut self, most: Most) -> bool {
        let entered = match (most, &self.link) {
            (Most::Count(most), Some(link)) => link.enter(most),
            _ => self.busy < self.share,
        };
        self.be_busy(self.busy + u32::from(entered));
        entered
    }

    fn be_busy(&mut self, busy: u32) {
        self.busy = busy;
        self.meters.in_flight.set(busy.into());
    }

    fn leave(&mut self) {
        self.be_busy(self.busy - 1);
        self.link.iter().for_each(|link| link.leave(1));
    }

    /// Its requests count in a link of all workers exactly if there is a limit for all of them.
    fn share_with(&mut self, most: Most, endpoint: EndpointId, links: &Links) {
        match (most, &self.link) {
            (Most::Count(_), None) => {
                let link = links.of(endpoint);
                (0..self.busy).for_each(|_| link.squeeze_in());
                self.link = Some(link);
            }
            (Most::Shares(_), Some(link)) => {
                link.leave(self.busy as usize);
                self.link = None;
            }
            _ => {}
        }
    }

    fn pop(&mut self, len: &mut usize, now: Tick) -> Option<(UpstreamKey, bool)> {
        let idle = self.idle.pop()?;
        *len -= 1;
        Some((idle.key, idle.age(now) <= self.patience.safe()))
    }

    /// None of its fresh connections has got further before `now`.
    fn waits_from(&mut self, now: Tick) {
        self.waiting_since = now;
        self.ask_at = now.after(IN_THE_WAY);
    }
}

/// A connection in a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IdleConnection {
    key: UpstreamKey,
    /// Milliseconds since tick 0; wraps around after 49 days.
    since: u32,
}

impl IdleConnection {
    fn new(key: UpstreamKey, now: Tick) -> IdleConnection {
        IdleConnection { key, since: millis(now) }
    }

    fn age(self, now: Tick) -> Duration {
        Duration::from_millis(millis(now).wrapping_sub(self.since).into())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is to wrap around")]
fn millis(at: Tick) -> u32 {
    (at.0 / 1_000) as u32
}

/// How long a connection may have been idle to be safe from its target, which may be about to close it. What cannot be sent
/// again goes on no older one.
#[derive(Debug, Default)]
struct Patience {
    /// What the target says of it in its responses.
    told: Option<Duration>,
    /// The shortest time after which it closed an idle connection.
    seen: Option<Duration>,
}

/// A target that serves several connections at once begins to respond on the next one within so many milliseconds of the one
/// before; if it does not, it may serve one at a time, and the next one waits behind that. Less would close connections
/// of a burst that have all just been opened.
pub(super) const IN_THE_WAY: Duration = Duration::from_millis(100);
/// For so long is no connection kept that others have asked for. Whoever waits longer asks again; and of a target that serves one
/// connection at a time, one request in so much time waits for [`IN_THE_WAY`].
const YIELD: Duration = Duration::from_secs(5);
/// For a target of which nothing is known. Few servers close an idle connection sooner, and to open one a second costs nothing.
const SAFE: Duration = Duration::from_secs(1);
/// A connection that was idle for less than this was not closed for being idle: its target ended, or closes each one.
const NOT_IDLENESS: Duration = Duration::from_millis(250);

impl Patience {
    fn safe(&self) -> Duration {
        // It counts from when the target wrote its response, and may count in whole seconds.
        let told = self
            .told
            .map_or(SAFE, |told| told.saturating_sub(Duration::from_secs(1)).max(told / 2));
        self.seen.map_or(told, |seen| told.min(seen / 2))
    }

    fn closed_at(&mut self, age: Duration) {
        if age >= NOT_IDLENESS {
            self.seen = Some(self.seen.map_or(age, |seen| seen.min(age)));
        }
    }
}

/// How many requests may be with one endpoint.
#[derive(Debug, Clone, Copy)]
enum Most {
    /// So many of this worker's, divided by shares, so that one endpoint that hangs does not take all. More go there when
    /// nobody else has room.
    Shares(u32),
    /// So many of all workers.
    Count(usize),
}

impl Most {
    fn of(limits: &Limits, workers: usize) -> Most {
        let own = limits.connections.map(|all| all.div_ceil(workers));
        let shares = Most::Shares(own.and_then(|own| own.try_into().ok()).unwrap_or(u32::MAX));
        limits.requests_per_target.map_or(shares, Most::Count)
    }
}

/// What one endpoint may have of `all` requests if `turns` of a `round` are its own: half as much again, but leave half of what
/// the others have. One of two gets three quarters, and the only one everything.
fn share(all: u32, turns: u32, round: u32) -> u32 {
    let (all, turns, round) = (u64::from(all), u64::from(turns), u64::from(round));
    if turns == 0 {
        // It stands by: whatever it gets, others cannot take.
        return u32::try_from(all).unwrap_or(u32::MAX);
    }
    let most = (3 * turns).min(round + turns);
    u32::try_from((all * most).div_ceil(2 * round)).unwrap_or(u32::MAX)
}

/// Why a connection is no longer fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matured {
    /// A response has begun on it.
    Response,
    /// It has ended without one.
    End,
}

/// A whole response of an endpoint, as far as it says something of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WholeResponse {
    pub(super) status: u16,
    /// When its exchange began; `None`: how long it took says nothing.
    pub(super) begun: Option<Tick>,
    /// It came on a connection that had carried others.
    pub(super) reused: bool,
}

/// What became of an endpoint's connection after a whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GivenBack {
    /// The connection is in its stack; else it is to be closed.
    pub(super) kept: bool,
    /// Not for long: other workers, or checks, may wait behind it.
    pub(super) brief: bool,
    /// `Some(n)`: n consecutive 5xx responses, the ejection threshold.
    pub(super) errors: Option<u32>,
}

pub(super) struct Pools {
    pools: HashMap<EndpointId, EndpointPool, BuildHasherDefault<IdHasher>>,
    workers: usize,
    /// That of the snapshot that was followed last.
    plan: Arc<Plan>,
    most: Most,
    /// Connections in all stacks.
    len: usize,
    /// The earliest of all pools.
    ask_at: Tick,
}

impl Drop for Pools {
    /// A worker that panics loses its connections, and its places.
    fn drop(&mut self) {
        for pool in self.pools.values() {
            pool.link.iter().for_each(|link| link.leave(pool.busy as usize));
            if !pool.healthy {
                pool.served.end(pool.busy as usize);
            }
        }
    }
}

impl Pools {
    /// Of one of so many workers, before it follows a snapshot.
    pub(super) fn new(workers: usize) -> Self {
        Pools {
            pools: HashMap::default(),
            workers: workers.max(1),
            plan: Arc::default(),
            most: Most::Shares(u32::MAX),
            len: 0,
            ask_at: Tick::NEVER,
        }
    }

    fn healthy(&self, endpoint: EndpointId) -> Option<&EndpointPool> {
        self.pools.get(&endpoint).filter(|pool| pool.healthy)
    }

    fn healthy_mut(&mut self, endpoint: EndpointId) -> Option<&mut EndpointPool> {
        self.pools.get_mut(&endpoint).filter(|pool| pool.healthy)
    }

    /// Whether the endpoint is healthy and has room for one more request.
    pub(super) fn has_room(&self, endpoint: EndpointId) -> bool {
        self.healthy(endpoint).is_some_and(|pool| match (self.most, &pool.link) {
            (Most::Count(most), Some(link)) => link.in_flight() < most,
            _ => pool.busy < pool.share,
        })
    }

    /// Takes a place for a request, if the endpoint is healthy and has room.
    pub(super) fn enter(&mut self, endpoint: EndpointId) -> bool {
        let most = self.most;
        self.healthy_mut(endpoint).is_some_and(|pool| pool.enter(most))
    }

    /// Likewise, and takes the connection to it that was used last, as [`Pools::pop`] does. `None` if there is no place.
    pub(super) fn enter_and_pop(
        &mut self,
        endpoint: EndpointId,
        now: Tick,
    ) -> Option<Option<(UpstreamKey, bool)>> {
        let Pools { pools, len, most, .. } = self;
        let pool = pools.get_mut(&endpoint).filter(|pool| pool.healthy)?;
        pool.enter(*most).then(|| pool.pop(len, now))
    }

    /// Takes a place for a request that nobody has room for, or that was with this endpoint before. `false` if that is not
    /// healthy any more.
    pub(super) fn squeeze_in(&mut self, endpoint: EndpointId) -> bool {
        let Some(pool) = self.healthy_mut(endpoint) else { return false };
        pool.be_busy(pool.busy + 1);
        pool.link.iter().for_each(|link| link.squeeze_in());
        true
    }

    /// Whether requests may be squeezed in when nobody has room.
    pub(super) fn is_elastic(&self) -> bool {
        matches!(self.most, Most::Shares(_))
    }

    /// A request is not with its endpoint any more.
    pub(super) fn leave(&mut self, endpoint: EndpointId) {
        let Some(pool) = self.pools.get_mut(&endpoint) else { return };
        pool.leave();
        if !pool.healthy {
            pool.served.end(1);
            self.forget_empty(endpoint);
        }
    }

    fn forget_empty(&mut self, endpoint: EndpointId) {
        if self.pools.get(&endpoint).is_some_and(|pool| pool.busy == 0 && !pool.healthy) {
            self.pools.remove(&endpoint);
        }
    }

    /// Requests that are with an endpoint.
    pub(super) fn busy(&self, endpoint: EndpointId) -> usize {
        self.pools.get(&endpoint).map_or(0, |pool| pool.busy as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where a healthy endpoint is.
    pub(super) fn address(&self, endpoint: EndpointId) -> Option<&Address> {
        self.healthy(endpoint).map(|pool| &pool.address)
    }

    /// Where an endpoint is that is healthy or has requests.
    pub(super) fn place(&self, endpoint: EndpointId) -> Option<&Address> {
        self.pools.get(&endpoint).map(|pool| &pool.address)
    }

    /// Has an entry of the access log say that such an endpoint has its request.
    pub(super) fn describe(&self, endpoint: EndpointId, entry: &mut Pending) {
        if let Some(pool) = self.pools.get(&endpoint) {
            entry.sent_to(&pool.address, &pool.target);
        }
    }

    /// Takes a place at an endpoint that is not healthy, unless it has all that it may have.
    pub(super) fn enter_absent(&mut self, endpoint: &Endpoint, links: &Links) -> bool {
        let most = self.most;
        let fresh = EndpointPool { healthy: false, ..self.fresh(endpoint, links) };
        let pool = self.pools.entry(endpoint.id).or_insert(fresh);
        let entered = pool.enter(most);
        if entered && !pool.healthy {
            pool.served.remain(1);
        }
        if !entered {
            self.forget_empty(endpoint.id);
        }
        entered
    }

    /// Takes the connection to `endpoint` that was used last, and whether its target is safe not to close it just now.
    pub(super) fn pop(&mut self, endpoint: EndpointId, now: Tick) -> Option<(UpstreamKey, bool)> {
        self.pools.get_mut(&endpoint)?.pop(&mut self.len, now)
    }

    /// The endpoint has sent a whole response, whose status resets its streaks but that of 5xx responses. Keeps the
    /// connection, if it can be used again, unless the stack is full or the endpoint is not healthy; if it is kept, the
    /// request is no longer counted as in flight.
    pub(super) fn give_back(
        &mut self,
        endpoint: EndpointId,
        key: Option<UpstreamKey>,
        answer: WholeResponse,
        now: Tick,
    ) -> GivenBack {
        const NOT_KEPT: GivenBack = GivenBack { kept: false, brief: false, errors: None };
        let WholeResponse { status, begun, reused } = answer;
        let Some(pool) = self.pools.get_mut(&endpoint) else { return NOT_KEPT };
        pool.meters.answered(status, begun.map(|begun| now.micros_since(begun)));
        if reused {
            pool.meters.reuses.bump();
        }
        if !pool.healthy {
            return NOT_KEPT;
        }
        let errors = pool.streaks.answered(status, &self.plan.ejection);
        if status < 500 {
            pool.served.mark();
        }
        let in_the_way = now < pool.yields_until
            || !pool.fresh.is_empty() && now.since(pool.waiting_since) >= IN_THE_WAY;
        let key = key.filter(|_| pool.idle.len() < self.plan.limits.idle_per_target && !in_the_way);
        if let Some(key) = key {
            pool.idle.push(IdleConnection::new(key, now));
            self.len += 1;
            pool.leave();
        }
        GivenBack { kept: key.is_some(), brief: !pool.serves_several, errors }
    }

    /// The endpoint keeps idle connections for so long, as it says.
    pub(super) fn keeps_idle(&mut self, endpoint: EndpointId, told: Duration) {
        if let Some(pool) = self.pools.get_mut(&endpoint) {
            pool.patience.told = Some(told);
        }
    }

    /// The connection `key` to the endpoint is begun.
    pub(super) fn begun(&mut self, endpoint: EndpointId, key: UpstreamKey, now: Tick) {
        // It was left while the connection was begun.
        let Some(pool) = self.pools.get_mut(&endpoint) else { return };
        pool.meters.connects.bump();
        if !pool.serves_several {
            if pool.fresh.is_empty() {
                pool.waits_from(now);
            }
            pool.fresh.push(key);
            self.ask_at = self.ask_at.min(pool.ask_at);
        }
    }

    /// A connection is fresh no more. A response beside another connection that is served, or before one that was opened earlier,
    /// shows that the target serves several at once.
    pub(super) fn matured(
        &mut self,
        endpoint: EndpointId,
        key: UpstreamKey,
        by: Matured,
        now: Tick,
    ) {
        let Some(pool) = self.pools.get_mut(&endpoint) else { return };
        // Not among them: another response has shown meanwhile that the target serves several, and no one is fresh then.
        let Some(at) = pool.fresh.iter().position(|&other| other == key) else { return };
        pool.fresh.remove(at);
        pool.waits_from(now);
        let known = (pool.busy as usize + pool.idle.len()).saturating_sub(pool.fresh.len());
        if by == Matured::Response && (at > 0 || known > 1) {
            pool.serves_several = true;
            pool.fresh.clear();
            pool.yields_until = now;
        }
        if !pool.fresh.is_empty() {
            self.ask_at = self.ask_at.min(pool.ask_at);
        }
    }

    /// When [`Pools::waiting`] has something to say at the earliest.
    pub(super) fn ask_at(&self) -> Tick {
        self.ask_at
    }

    /// The endpoints whose fresh connections have waited for so long that others may be in the way. Each is returned again, later,
    /// if that goes on.
    pub(super) fn waiting(&mut self, now: Tick) -> Vec<EndpointId> {
        let mut waiting = Vec::new();
        self.ask_at = Tick::NEVER;
        for (&endpoint, pool) in self.pools.iter_mut().filter(|(_, pool)| !pool.fresh.is_empty()) {
            if pool.ask_at <= now {
                pool.ask_at = now.after(YIELD / 2);
                waiting.push(endpoint);
            }
            self.ask_at = self.ask_at.min(pool.ask_at);
        }
        waiting
    }

    /// Somebody waits for the endpoint: the idle connections to it that may be in the way come out, to be closed, and no more
    /// are kept for a while.
    pub(super) fn give_up(&mut self, endpoint: EndpointId, now: Tick, out: &mut Vec<UpstreamKey>) {
        let Some(pool) = self.pools.get_mut(&endpoint).filter(|pool| !pool.serves_several) else {
            return;
        };
        pool.yields_until = now.after(YIELD);
        self.len -= pool.idle.len();
        out.extend(pool.idle.drain(..).map(|idle| idle.key));
    }

    /// All endpoints that are known.
    pub(super) fn endpoints(&self) -> Vec<EndpointId> {
        self.pools.keys().copied().collect()
    }

    /// A connection to the endpoint was established.
    pub(super) fn connected(&mut self, endpoint: EndpointId) {
        if let Some(pool) = self.healthy_mut(endpoint) {
            pool.streaks.connected();
        }
    }

    /// Counts a failure of the endpoint. Returns the length of its streak once it reaches the threshold. Endpoints that are not
    /// healthy are ignored.
    pub(super) fn failed(&mut self, endpoint: EndpointId, kind: Streak) -> Option<u32> {
        let pool = self.pools.get_mut(&endpoint)?;
        if kind == Streak::ConnectFailures {
            pool.meters.connect_failures.bump();
        }
        if !pool.healthy {
            return None;
        }
        pool.streaks.failed(kind, &self.plan.ejection)
    }

    /// The endpoint broke an exchange.
    pub(super) fn broke(&self, endpoint: EndpointId) {
        if let Some(pool) = self.pools.get(&endpoint) {
            pool.meters.failures.bump();
        }
    }

    /// A request that the endpoint did not take or answer is sent again, or elsewhere.
    pub(super) fn retried(&self, endpoint: EndpointId, why: Reason) {
        if let Some(pool) = self.pools.get(&endpoint) {
            pool.meters.retried(why);
        }
    }

    /// Forgets an idle connection. How long it was idle; `None` if it is not known.
    pub(super) fn forget(
        &mut self,
        endpoint: EndpointId,
        key: UpstreamKey,
        now: Tick,
    ) -> Option<Duration> {
        let EndpointPool { idle, .. } = self.pools.get_mut(&endpoint)?;
        let at = idle.iter().rposition(|other| other.key == key)?;
        self.len -= 1;
        Some(idle.remove(at).age(now))
    }

    /// The endpoint closed a connection that was idle for so long.
    pub(super) fn closed_idle(&mut self, endpoint: EndpointId, age: Duration) {
        if let Some(pool) = self.pools.get_mut(&endpoint) {
            pool.patience.closed_at(age);
        }
    }

    /// A healthy endpoint that has an idle connection.
    pub(super) fn some_idle(&self) -> Option<EndpointId> {
        if self.len == 0 {
            return None;
        }
        let idle = |pool: &EndpointPool| pool.healthy && !pool.idle.is_empty();
        self.pools.iter().find(|(_, pool)| idle(pool)).map(|(id, _)| *id)
    }

    /// Any idle connection, to be closed when descriptors run out.
    pub(super) fn pop_any(&mut self) -> Option<UpstreamKey> {
        if self.len == 0 {
            return None;
        }
        let idle = self.pools.values_mut().find_map(|pool| pool.idle.pop())?;
        self.len -= 1;
        Some(idle.key)
    }

    /// Follows a new snapshot: the connections to endpoints that are not healthy in it come out, to be
    /// closed, and the streaks of those endpoints are forgotten.
    pub(super) fn follow(
        &mut self,
        snapshot: &Snapshot,
        links: &Links,
        out: &mut Vec<UpstreamKey>,
    ) {
        self.plan = Arc::clone(&snapshot.plan);
        self.most = Most::of(&self.plan.limits, self.workers);
        let mut left = std::mem::take(&mut self.pools);
        let (turns, round) = snapshot.turns();
        for (endpoint, &turns) in snapshot.endpoints().iter().zip(&turns) {
            if !endpoint.healthy() {
                continue;
            }
            let mut pool = left.remove(&endpoint.id).unwrap_or_else(|| self.fresh(endpoint, links));
            if !std::mem::replace(&mut pool.healthy, true) {
                pool.served.end(pool.busy as usize);
            }
            pool.share_with(self.most, endpoint.id, links);
            if let Most::Shares(all) = self.most {
                pool.share = share(all, turns, round);
            }
            self.pools.insert(endpoint.id, pool);
        }
        for (id, mut pool) in left {
            out.extend(pool.idle.drain(..).map(|idle| idle.key));
            pool.patience = Patience::default();
            pool.serves_several = false;
            if std::mem::replace(&mut pool.healthy, false) {
                pool.served.remain(pool.busy as usize);
            }
            pool.streaks = Streaks::default();
            if pool.busy > 0 {
                self.pools.insert(id, pool);
            }
        }
        self.len -= out.len();
    }

    fn fresh(&self, endpoint: &Endpoint, links: &Links) -> EndpointPool {
        EndpointPool {
            address: endpoint.address.clone(),
            target: Arc::clone(&endpoint.target),
            healthy: true,
            idle: Vec::new(),
            patience: Patience::default(),
            serves_several: false,
            fresh: Vec::new(),
            waiting_since: Tick::default(),
            ask_at: Tick::NEVER,
            yields_until: Tick::default(),
            streaks: Streaks::default(),
            busy: 0,
            share: u32::MAX,
            link: matches!(self.most, Most::Count(_)).then(|| links.of(endpoint.id)),
            served: endpoint.served.clone(),
            meters: endpoint.served.meters().claim(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{EndpointState, Preference};
    use crate::base::slab::{Key, SlabKey};
    use crate::settings::Ejection;

    fn snapshot(ids: &[(u32, bool)]) -> Snapshot {
        let endpoint = |&(id, healthy): &(u32, bool)| Endpoint {
            id: EndpointId(id),
            address: std::net::SocketAddr::from(([127, 0, 0, 1], 80)).into(),
            target: "t".into(),
            state: if healthy { EndpointState::Up } else { EndpointState::Ejected },
            preference: Preference::default(),
            absent: false,
            served: Served::default(),
        };
        Snapshot::new(1, ids.iter().map(endpoint).collect())
    }

    fn pools(idle_per_target: usize, ejection: Ejection) -> Pools {
        let limits = Limits { idle_per_target, ..Limits::default() };
        planned(Plan { limits, ejection, ..Plan::default() })
    }

    /// Those of one of two workers, by this plan.
    fn planned(plan: Plan) -> Pools {
        let mut pools = Pools::new(2);
        let empty = Snapshot::default().under(Arc::new(plan));
        pools.follow(&empty, &Links::default(), &mut Vec::new());
        pools
    }

    /// Follows these endpoints under the plan that there is.
    fn follow(pools: &mut Pools, snapshot: &Snapshot, out: &mut Vec<UpstreamKey>) {
        let snapshot = snapshot.clone().under(Arc::clone(&pools.plan));
        pools.follow(&snapshot, &Links::default(), out);
    }

    fn answer(status: u16) -> WholeResponse {
        WholeResponse { status, begun: None, reused: false }
    }

    fn key(index: u32) -> UpstreamKey {
        UpstreamKey::of(Key { index, generation: 0 })
    }

    fn keeps(pools: &mut Pools, endpoint: u32, at: u32) -> bool {
        pools.squeeze_in(EndpointId(endpoint));
        pools.give_back(EndpointId(endpoint), Some(key(at)), answer(200), Tick(0)).kept
    }

    #[test]
    fn the_newest_connection_comes_first_and_the_cap_holds() {
        let mut pools = pools(2, Ejection::default());
        follow(&mut pools, &snapshot(&[(1, true)]), &mut Vec::new());
        assert!(keeps(&mut pools, 1, 1) && keeps(&mut pools, 1, 2));
        assert!(!keeps(&mut pools, 1, 3), "the stack is full");
        assert!(!keeps(&mut pools, 2, 3), "the endpoint is not known");
        assert_eq!(pools.pop(EndpointId(1), Tick(0)), Some((key(2), true)));
        pools.forget(EndpointId(1), key(1), Tick(0));
        assert_eq!((pools.pop(EndpointId(1), Tick(0)), pools.len()), (None, 0));
    }

    #[test]
    fn connections_to_an_endpoint_that_went_down_come_out() {
        let mut pools = pools(8, Ejection::default());
        follow(&mut pools, &snapshot(&[(1, true), (2, true)]), &mut Vec::new());
        assert!(keeps(&mut pools, 1, 1) && keeps(&mut pools, 2, 2));
        let mut out = Vec::new();
        follow(&mut pools, &snapshot(&[(1, false), (2, true)]), &mut out);
        assert_eq!((out, pools.len()), (vec![key(1)], 1));
        assert_eq!(pools.pop_any(), Some(key(2)));
        assert_eq!(pools.pop_any(), None);
    }

    #[test]
    fn an_answer_ends_a_streak_whether_or_not_its_connection_is_kept() {
        for key in [None, Some(key(1))] {
            let mut pools = pools(0, Ejection { resets: 2, ..Ejection::default() });
            follow(&mut pools, &snapshot(&[(1, true)]), &mut Vec::new());
            let failed = |pools: &mut Pools| pools.failed(EndpointId(1), Streak::Resets);
            assert_eq!(failed(&mut pools), None);
            assert!(!pools.give_back(EndpointId(1), key, answer(200), Tick(0)).kept);
            assert_eq!((failed(&mut pools), failed(&mut pools)), (None, Some(2)));
        }
    }

    #[test]
    fn an_endpoint_that_is_out_has_no_streaks_and_begins_anew_when_it_is_back() {
        let mut pools = pools(8, Ejection { connect_failures: 2, ..Ejection::default() });
        let mut failed = |health: bool| {
            follow(&mut pools, &snapshot(&[(1, health)]), &mut Vec::new());
            pools.failed(EndpointId(1), Streak::ConnectFailures)
        };
        assert_eq!(
            [true, false, false, true, true].map(&mut failed),
            [None, None, None, None, Some(2)]
        );
    }

    #[test]
    fn a_connection_is_safe_while_it_is_younger_than_its_target_allows() {
        let table: [(Option<u64>, &[u64], u64); 8] = [
            // told, closed after, safe until: milliseconds
            (None, &[], 1_000),
            (None, &[5_000, 2_000, 3_000], 1_000),
            (None, &[900], 450),
            (None, &[100], 1_000),
            (Some(5_000), &[], 4_000),
            (Some(1_000), &[], 500),
            (Some(60_000), &[4_000], 2_000),
            (Some(0), &[], 0),
        ];
        for (told, closed, safe) in table {
            let mut pools = pools(8, Ejection::default());
            follow(&mut pools, &snapshot(&[(1, true)]), &mut Vec::new());
            told.into_iter()
                .for_each(|told| pools.keeps_idle(EndpointId(1), Duration::from_millis(told)));
            for &after in closed {
                assert!(keeps(&mut pools, 1, 1));
                let now = Tick(after * 1_000);
                let age = pools.forget(EndpointId(1), key(1), now).unwrap();
                pools.closed_idle(EndpointId(1), age);
            }
            for (later, is_safe) in [(0, true), (1, false)] {
                assert!(keeps(&mut pools, 1, 1));
                let popped = pools.pop(EndpointId(1), Tick((safe + later) * 1_000));
                assert_eq!(popped, Some((key(1), is_safe)), "{told:?} {closed:?} {safe}");
            }
        }
    }

    #[test]
    fn an_idle_connection_is_in_the_way_of_a_single_threaded_target() {
        let mut pools = pools(8, Ejection::default());
        let (at, start) = (EndpointId(1), Tick(0));
        let later = start.after(IN_THE_WAY);
        follow(&mut pools, &snapshot(&[(1, true)]), &mut Vec::new());
        let begin = |pools: &mut Pools, nth| {
            assert!(pools.enter(at));
            pools.begun(at, key(nth), start);
        };
        let give_back = |pools: &mut Pools, nth, now| {
            let back = pools.give_back(at, Some(key(nth)), answer(200), now);
            if !back.kept {
                pools.leave(at);
            }
            (back.kept, back.brief)
        };
        begin(&mut pools, 1);
        pools.matured(at, key(1), Matured::Response, start);
        assert_eq!(give_back(&mut pools, 1, start), (true, true), "it is alone");
        pools.pop(at, start);
        assert!(pools.enter(at));
        begin(&mut pools, 2);
        assert_eq!(give_back(&mut pools, 1, start), (true, true), "the other one has just begun");
        pools.pop(at, start);
        assert!(pools.enter(at));
        assert_eq!(give_back(&mut pools, 1, later), (false, true), "it may wait behind it");
        pools.matured(at, key(2), Matured::Response, later);
        assert_eq!(
            give_back(&mut pools, 2, later),
            (true, true),
            "it was alone when it was served"
        );
        begin(&mut pools, 3);
        pools.matured(at, key(3), Matured::End, start);
        begin(&mut pools, 4);
        pools.matured(at, key(4), Matured::Response, start);
        assert_eq!(give_back(&mut pools, 4, later), (true, false), "it was served beside another");
    }

    #[test]
    fn idle_connections_asked_for_come_out_and_none_are_kept_for_a_while() {
        let (at, mut out) = (EndpointId(1), Vec::new());
        let mut pools = pools(8, Ejection::default());
        follow(&mut pools, &snapshot(&[(1, true), (2, true)]), &mut Vec::new());
        assert!(keeps(&mut pools, 1, 1) && keeps(&mut pools, 2, 2));
        pools.give_up(at, Tick(0), &mut out);
        assert_eq!((out, pools.len()), (vec![key(1)], 1));
        let mut kept = |now| {
            pools.squeeze_in(at);
            pools.give_back(at, Some(key(3)), answer(200), now).kept
        };
        assert!(!kept(Tick(0)) && kept(Tick(0).after(YIELD)));
    }

    #[test]
    fn a_target_that_serves_several_gives_nothing_up() {
        let (at, mut out) = (EndpointId(1), Vec::new());
        let mut pools = pools(8, Ejection::default());
        follow(&mut pools, &snapshot(&[(1, true)]), &mut Vec::new());
        for nth in [1, 2] {
            assert!(pools.enter(at));
            pools.begun(at, key(nth), Tick(0));
        }
        pools.matured(at, key(2), Matured::Response, Tick(0));
        assert!(pools.give_back(at, Some(key(2)), answer(200), Tick(0)).kept);
        pools.give_up(at, Tick(0), &mut out);
        assert_eq!((out, pools.len()), (vec![], 1));
    }

    #[test]
    fn a_waiting_fresh_connection_is_reported_and_later_again() {
        let at = EndpointId(1);
        let mut pools = pools(8, Ejection::default());
        follow(&mut pools, &snapshot(&[(1, true)]), &mut Vec::new());
        assert_eq!(pools.ask_at(), Tick::NEVER);
        assert!(pools.enter(at));
        pools.begun(at, key(1), Tick(5));
        let first = Tick(5).after(IN_THE_WAY);
        assert_eq!((pools.ask_at(), pools.waiting(Tick(5))), (first, vec![]));
        assert_eq!(pools.waiting(first), [at]);
        assert!(pools.ask_at() > first && pools.ask_at() < first.after(YIELD));
        let second = pools.ask_at();
        assert_eq!(pools.waiting(second), [at]);
        pools.matured(at, key(1), Matured::Response, second);
        assert_eq!((pools.waiting(second.after(YIELD)), pools.ask_at()), (vec![], Tick::NEVER));
    }

    #[test]
    fn responses_out_of_order_show_that_a_target_serves_several() {
        let mut pools = pools(8, Ejection::default());
        let at = EndpointId(1);
        follow(&mut pools, &snapshot(&[(1, true)]), &mut Vec::new());
        for nth in [1, 2] {
            assert!(pools.enter(at));
            pools.begun(at, key(nth), Tick(0));
        }
        pools.matured(at, key(2), Matured::Response, Tick(0));
        let later = Tick(0).after(Duration::from_secs(60));
        let back = pools.give_back(at, Some(key(2)), answer(200), later);
        assert!(back.kept && !back.brief, "it is not in the way of the first");
    }

    #[test]
    fn one_endpoint_may_exceed_its_share_by_half_and_leaves_half() {
        let table = [
            // all, turns, round, most
            (100, 1, 1, 100),
            (100, 1, 2, 75),
            (100, 1, 3, 50),
            (100, 1, 10, 15),
            (100, 9, 10, 95),
            (1, 1, 100, 1),
            (100, 0, 3, 100), // it stands by
            (u32::MAX, 1, 2, u32::MAX / 4 * 3 + 3),
        ];
        for (all, turns, round, most) in table {
            assert_eq!(share(all, turns, round), most, "{all} {turns} of {round}");
        }
    }

    fn bounded(connections: Option<usize>, requests_per_target: Option<usize>) -> Pools {
        let limits = Limits { connections, requests_per_target, ..Limits::default() };
        planned(Plan { limits, ..Plan::default() })
    }

    #[test]
    fn an_endpoint_that_has_its_share_has_no_room_but_may_be_squeezed_into() {
        let mut pools = bounded(Some(16), None);
        follow(&mut pools, &snapshot(&[(1, true), (2, true)]), &mut Vec::new());
        let entered = (0..10).filter(|_| pools.enter(EndpointId(1))).count();
        assert_eq!((entered, pools.busy(EndpointId(1))), (6, 6), "three quarters of 8");
        assert!(!pools.has_room(EndpointId(1)) && pools.has_room(EndpointId(2)));
        assert!(pools.is_elastic() && pools.squeeze_in(EndpointId(1)));
        follow(&mut pools, &snapshot(&[(1, true), (2, false)]), &mut Vec::new());
        assert!(pools.has_room(EndpointId(1)), "it is alone now");
        assert!(!pools.enter(EndpointId(2)) && !pools.squeeze_in(EndpointId(2)), "it is out");
    }

    #[test]
    fn requests_with_an_endpoint_that_went_out_and_came_back_are_still_counted() {
        let mut pools = bounded(Some(16), None);
        let both = snapshot(&[(1, true), (2, true)]);
        follow(&mut pools, &both, &mut Vec::new());
        assert!((0..6).all(|_| pools.enter(EndpointId(1))));
        follow(&mut pools, &snapshot(&[(1, false), (2, true)]), &mut Vec::new());
        pools.leave(EndpointId(1));
        follow(&mut pools, &both, &mut Vec::new());
        assert!(pools.enter(EndpointId(1)) && !pools.enter(EndpointId(1)));
        follow(&mut pools, &snapshot(&[(2, true)]), &mut Vec::new());
        (0..6).for_each(|_| pools.leave(EndpointId(1)));
        assert_eq!((pools.busy(EndpointId(1)), pools.pools.len()), (0, 1));
    }

    #[test]
    fn a_number_of_requests_holds_for_all_workers_together() {
        let links = Links::default();
        let mut workers = [(); 2].map(|()| bounded(None, Some(3)));
        let snapshot = snapshot(&[(1, true)]).under(Arc::clone(&workers[0].plan));
        workers.iter_mut().for_each(|pools| pools.follow(&snapshot, &links, &mut Vec::new()));
        let [a, b] = &mut workers;
        assert!(a.enter(EndpointId(1)) && a.enter(EndpointId(1)) && b.enter(EndpointId(1)));
        assert!(!b.enter(EndpointId(1)) && !b.has_room(EndpointId(1)) && !b.is_elastic());
        let [a, mut b] = workers;
        drop(a);
        assert!(b.enter(EndpointId(1)) && b.enter(EndpointId(1)) && !b.enter(EndpointId(1)));
    }

    #[test]
    fn a_plan_that_bounds_requests_counts_those_that_are_under_way() {
        let links = Links::default();
        let mut pools = bounded(None, None);
        let endpoints = snapshot(&[(1, true)]);
        let under = |most| {
            let limits = Limits { requests_per_target: most, ..Limits::default() };
            endpoints.clone().under(Arc::new(Plan { limits, ..Plan::default() }))
        };
        pools.follow(&under(None), &links, &mut Vec::new());
        assert!(pools.enter(EndpointId(1)) && pools.enter(EndpointId(1)));
        pools.follow(&under(Some(2)), &links, &mut Vec::new());
        assert!(!pools.enter(EndpointId(1)) && !pools.has_room(EndpointId(1)));
        pools.follow(&under(None), &links, &mut Vec::new());
        assert!(pools.enter(EndpointId(1)));
        assert_eq!(links.of(EndpointId(1)).in_flight(), 0);
    }
}
