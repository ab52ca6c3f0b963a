//! What the engine consists of: the tables of both sides, the idle pools, the timers, the buffers and the network. All else in this
//! room is written on it: what is done, file by file.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::conn::WINDOW;
use super::entries::Entries;
use super::hint::Hints;
use super::keys::{ClientKey, UpstreamKey};
use super::memory::MemoryQueue;
use super::net::{Ends, Net, Readiness, Token};
use super::parting::Parting;
use super::patient::Patient;
use super::pools::Pools;
use super::shortage::Shortages;
use super::tables::{Client, Ready, Upstream, UpstreamState};
use super::waits::{Lengths, Moved};
use crate::balance::{Endpoint, EndpointId, EndpointState, Report, Shared, Snapshot};
use crate::base::buffer::Pool;
use crate::base::slab::Slab;
use crate::base::tick::Tick;
use crate::base::wheel::{Fired, Wheel};
use crate::exchange::{ExchangeRules, Output, Pseudonym};
use crate::http1::ClientAddress;
use crate::http1::head::HeadLimits;
use crate::metrics::WorkerCounters;
use crate::settings::{AccessSink, Plan, Via};

/// Connections of either side that the tables have room for from the start: 5 MiB of addresses, and of memory only what
/// is used.
const ROOM: usize = 16 * 1024;
/// Timers that may fire at once before their list grows.
const FIRED: usize = 512;

/// The worker's scratch memory: whatever passes through in one step. Apart from the tables, since a step needs both.
pub(super) struct Scratch {
    pub(super) read: Vec<u8>,
    pub(super) out: Output,
}

impl Scratch {
    pub(super) fn new() -> Scratch {
        Scratch { read: vec![0; WINDOW as usize], out: Output::default() }
    }
}

/// All connections of one worker, and what moves bytes between them.
pub(super) struct Pump<N: Net> {
    pub(super) net: Patient<N>,
    pub(super) shortages: Shortages,
    pub(super) hints: Hints,
    pub(super) clients: Slab<Client<N::Conn>, ClientKey>,
    pub(super) upstreams: Slab<Upstream<N::Conn>, UpstreamKey>,
    pub(super) pools: Pools,
    pub(super) parting: Parting,
    pub(super) wheel: Wheel<Token>,
    /// Idle clients are asked to leave.
    drains: bool,
    /// How long the limits are.
    pub(super) lengths: Lengths,
    pub(super) buffers: Pool,
    /// Those who wait for memory of buffers.
    pub(super) line: MemoryQueue,
    pub(super) ready: Ready,
    /// Bytes that the connection that runs has moved in this run.
    pub(super) moved: usize,
    pub(super) fired: Vec<Fired<Token>>,
    pub(super) shared: Arc<Shared>,
    pub(super) snapshot: Arc<Snapshot>,
    /// Asks for idle connections that were followed.
    pub(super) asks_seen: usize,
    /// Endpoints that went down with this snapshot: what waits for them is to be looked at.
    pub(super) lost: Vec<EndpointId>,
    /// What exchanges need of the plan.
    pub(super) rules: ExchangeRules,
    pub(super) counters: WorkerCounters,
    pub(super) reports: Vec<(EndpointId, Report)>,
    /// Connections of both sides there may be, as long as an idle one to a target can make room.
    pub(super) sockets: usize,
    /// What is known of its exchanges.
    pub(super) entries: Entries,
    /// Client connections that ended since [`Engine::take_closed`](super::Engine::take_closed).
    pub(super) closed: usize,
    /// Requests the retry budget knows of.
    pub(super) noted: u64,
    /// When it gets to know of more.
    pub(super) note_at: Tick,
    /// Where the search for an idle client to evict goes on.
    pub(super) hand: usize,
    pub(super) now: Tick,
    /// When we are to look at the time again at the latest: at once while there is work, else when a timer is due.
    pub(super) wake_by: Cell<Tick>,
}

impl<N: Net> Pump<N> {
    /// One without connections, one of so many `workers`, by the plan of the snapshot that is published.
    pub(super) fn new(
        net: N,
        workers: usize,
        shared: Arc<Shared>,
        counters: WorkerCounters,
    ) -> Self {
        let snapshot = shared.snapshot.load_full();
        let mut pools = Pools::new(workers);
        pools.follow(&snapshot, &shared.links, &mut Vec::new());
        let asks_seen = shared.asks.count();
        let mut rules = ExchangeRules::default();
        follow_plan(&mut rules, &snapshot.plan, Pseudonym::new(shared.instance));
        let mut entries = Entries::default();
        entries.log(rules.describe);
        // Those of an engine before this one were lost in its panic.
        counters.traffic.in_flight.set(0);
        Pump {
            net: Patient::new(net),
            shortages: Shortages::default(),
            hints: Hints::default(),
            clients: Slab::with_room(ROOM),
            upstreams: Slab::with_room(ROOM),
            pools,
            parting: Parting::default(),
            wheel: Wheel::with_room(2 * ROOM),
            drains: false,
            lengths: Lengths::new(&snapshot.plan.timeouts, false),
            buffers: Pool::new(Arc::clone(&shared.memory)),
            line: MemoryQueue::default(),
            ready: Ready::new(),
            moved: 0,
            fired: Vec::with_capacity(FIRED),
            shared,
            snapshot,
            asks_seen,
            lost: Vec::new(),
            entries,
            rules,
            counters,
            reports: Vec::new(),
            sockets: usize::MAX,
            closed: 0,
            noted: 0,
            note_at: Tick::default(),
            hand: 0,
            now: Tick::default(),
            wake_by: Cell::new(Tick::NEVER),
        }
    }

    /// Has requests be called as the plan says.
    pub(super) fn set_ids(&self, out: &mut Output) {
        out.ids.request_ids = self.snapshot.plan.request_id;
        out.ids.traces = self.snapshot.plan.trace;
    }

    /// A state that the program excludes was met: a fault of evenly. Tests fail; in production it is counted, and nothing is
    /// done in the place where it was met.
    #[cold]
    pub(super) fn impossible<T: Default>(&self, what: &'static str) -> T {
        debug_assert!(false, "not so: {what}");
        self.counters.impossible.bump();
        T::default()
    }

    /// Makes room for one more connection.
    pub(super) fn make_room(&mut self) {
        while self.clients.len() + self.upstreams.len() >= self.sockets
            && let Some(idle) = self.pools.pop_any()
        {
            self.close_upstream(idle);
        }
    }

    /// Takes a fresh client connection on. `false` if the event queue has no room for it: it is closed then, and it is better
    /// to take no more for a moment.
    pub(super) fn accept(&mut self, socket: N::Conn, ends: Ends, now: Tick) -> bool {
        self.observe(now);
        let ip = ends.client.ip().to_canonical();
        let address = ClientAddress { ip, trusted: self.snapshot.plan.trusts(ip) };
        let mut client = Client::new(socket, address, self.entries.listener(ends.listener));
        self.counters.accepted.bump();
        if !self.register(&mut client.conn.socket) {
            self.closed += 1;
            self.counters.closed.bump();
            self.counters.refused.bump();
            return false;
        }
        let key = self.clients.insert(client);
        self.settle_client(key, Moved::None);
        self.make_room();
        true
    }

    /// Remembers what an event says. The work is done by the next [`Engine::turn`].
    pub(super) fn ready(&mut self, token: Token, readiness: Readiness) {
        match token {
            Token::Client(key) => {
                if let Some(client) = self.clients.get_mut(key) {
                    client.conn.remember(readiness);
                    self.queue_client(key);
                }
            }
            Token::Upstream(key) => {
                if let Some(upstream) = self.upstreams.get_mut(key) {
                    upstream.conn.remember(readiness);
                    self.queue_upstream(key);
                }
            }
        }
    }

    pub(super) fn follow(&mut self, snapshot: Arc<Snapshot>) {
        let is_lost = |endpoint: &&Endpoint| {
            matches!(endpoint.state, EndpointState::Down | EndpointState::Disabled)
                && self.pools.address(endpoint.id).is_some()
        };
        self.lost.extend(snapshot.endpoints().iter().filter(is_lost).map(|endpoint| endpoint.id));
        let mut out = Vec::new();
        self.pools.follow(&snapshot, &self.shared.links, &mut out);
        out.into_iter().for_each(|key| self.close_upstream(key));
        if !Arc::ptr_eq(&self.snapshot.plan, &snapshot.plan) {
            follow_plan(&mut self.rules, &snapshot.plan, Pseudonym::new(self.shared.instance));
            self.lengths = Lengths::new(&snapshot.plan.timeouts, self.drains);
            self.entries.log(self.rules.describe);
        }
        self.snapshot = snapshot;
    }

    /// Asks the other workers, and this one, for the idle connections that requests may be waiting behind.
    pub(super) fn ask_others(&mut self) {
        let waiting = self.pools.waiting(self.now);
        if !waiting.is_empty() {
            self.shared.asks.ask(&waiting);
            self.shared.bell.ring();
            self.follow_asks();
        }
    }

    /// Closes the idle connections that somebody may be waiting behind.
    pub(super) fn follow_asks(&mut self) {
        let asked = self.shared.asks.follow(&mut self.asks_seen);
        let mut out = Vec::new();
        for endpoint in asked.unwrap_or_else(|| self.pools.endpoints()) {
            self.pools.give_up(endpoint, self.now, &mut out);
        }
        out.into_iter().for_each(|key| self.close_upstream(key));
    }

    /// Tells the retry budget, a few times per second, how many requests there were.
    pub(super) fn note_requests(&mut self) {
        if self.note_at <= self.now {
            self.note_at = self.now.after(Duration::from_millis(100));
            let requests = self.counters.requests.get();
            let fresh = requests.wrapping_sub(self.noted);
            self.noted = requests;
            if fresh > 0 {
                self.shared.budget.note(self.now.since(Tick::default()), fresh);
            }
        }
    }

    /// When the next turn is due even without events: ask it before you wait, since a turn that comes much later than that,
    /// or than the one before if this was not asked, is taken for a pause of the whole worker.
    pub(super) fn next_deadline(&self) -> Option<Tick> {
        let ask = Some(self.pools.ask_at()).filter(|&at| at < Tick::NEVER);
        let own = [self.buffers.next_trim(), self.line.next(), self.shortages.retry_at(), ask];
        let next = own.into_iter().chain([self.wheel.next()]).flatten().min();
        self.wake_by.set(next.unwrap_or(Tick::NEVER));
        next
    }

    /// Responses end their connections from now on.
    pub(super) fn leave(&mut self) {
        self.rules.draining = true;
    }

    /// Begins to stop: responses end their connections, idle connections live on for [`DRAIN_GRACE`].
    pub(super) fn drain(&mut self, now: Tick) {
        self.observe(now);
        self.leave();
        self.hurry(true);
    }

    /// Serves as before [`Pump::leave`] and [`Pump::drain`].
    pub(super) fn return_to_service(&mut self, now: Tick) {
        self.observe(now);
        self.rules.draining = false;
        if self.drains {
            self.hurry(false);
        }
    }

    /// How long idle clients may stay from now on: for [`DRAIN_GRACE`](super::DRAIN_GRACE), or as the plan says.
    fn hurry(&mut self, drains: bool) {
        self.drains = drains;
        self.lengths = Lengths::new(&self.snapshot.plan.timeouts, drains);
        let keys: Vec<ClientKey> = self.clients.keys().collect();
        for key in keys {
            if self.clients.get(key).is_some_and(Client::is_idle) {
                self.settle_client(key, Moved::Anew);
            }
        }
    }

    /// Frees a descriptor: that of an idle upstream connection or one that is of no more use, or else an idle client's. `false`
    /// if there is none.
    pub(super) fn free_descriptor(&mut self) -> bool {
        match self.pools.pop_any() {
            Some(idle) => {
                self.close_upstream(idle);
                true
            }
            None => self.end_some_parting() || self.evict_idle(),
        }
    }

    /// Checks that the connections' links agree; for simulations and tests.
    ///
    /// # Panics
    /// If they do not.
    pub(super) fn check_invariants(&self) {
        let mut attached = 0;
        for key in self.clients.keys() {
            let client = self.clients.get(key).expect("listed");
            if let Some(upstream) = client.exchange.upstream {
                let upstream = self.upstreams.get(upstream).expect("a client's upstream is there");
                assert_eq!(upstream.client(), Some(key), "they name each other");
                attached += 1;
            }
            if !client.conn.queued {
                assert_eq!(client.conn.waits(), client.waits(), "the limit that runs is its own");
            }
            if client.is_idle() {
                assert!(client.conn.outbox.is_none() || client.exchange.upstream.is_none());
                assert!(client.exchange.hold.is_none(), "an idle client holds no request");
            }
        }
        let begun = self.clients.keys().filter_map(|key| self.clients.get(key));
        let begun = begun.filter(|client| client.exchange.entry.is_some()).count();
        assert_eq!(
            begun as u64, self.entries.in_flight,
            "every exchange that is counted has its client"
        );
        let owned = self
            .upstreams
            .keys()
            .filter(|&key| self.upstreams.get(key).is_some_and(|u| u.client().is_some()))
            .count();
        for endpoint in self.snapshot.endpoints() {
            let of_it =
                self.upstreams.keys().filter_map(|key| self.upstreams.get(key)).filter(
                    |upstream| upstream.client().is_some() && upstream.endpoint == endpoint.id,
                );
            assert_eq!(of_it.count(), self.pools.busy(endpoint.id), "every request has its place");
        }
        for upstream in self.upstreams.keys().filter_map(|key| self.upstreams.get(key)) {
            let waits = upstream.waits(upstream.client().and_then(|owner| self.clients.get(owner)));
            if !upstream.conn.queued {
                assert_eq!(upstream.conn.waits(), waits, "the limit that runs is its own");
            }
        }
        let parting = self
            .upstreams
            .keys()
            .filter(|&key| {
                self.upstreams.get(key).is_some_and(|it| it.state == UpstreamState::Parting)
            })
            .count();
        assert_eq!(attached, owned, "every owned upstream has its owner");
        let others = self.upstreams.len() - owned - parting;
        assert_eq!(others, self.pools.len(), "the others are idle in a pool");
    }
}

/// Sets what exchanges need of the plan.
fn follow_plan(rules: &mut ExchangeRules, plan: &Plan, pseudonym: Pseudonym) {
    rules.fallback_host = plan.listen.first().map(ToString::to_string).unwrap_or_default();
    rules.limits = HeadLimits { bytes: plan.limits.head, fields: plan.limits.headers };
    rules.replay = plan.retry.replay;
    rules.request_via = (plan.via != Via::Off).then_some(pseudonym);
    rules.response_via = (plan.via == Via::All).then_some(pseudonym);
    rules.max_hops = plan.max_hops;
    rules.proxy_status = plan.proxy_status;
    rules.describe = plan.log.access != AccessSink::Off;
}
