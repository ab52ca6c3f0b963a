//! One run: the world around one engine, turn by turn, from the first client to the last buffer.
//!
//! The engine is driven as `worker` drives it in production: it gets a turn when an event was told, when
//! it has work left or when a deadline has come, and never else, so that a wake-up that is lost is a stall.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evenly::balance::{
    Endpoint, EndpointId, EndpointState, Preference, Report, Served, Shared, Snapshot, Streak,
};
use evenly::base::ledger::Ledger;
use evenly::base::tick::Tick;
use evenly::engine::Engine;
use evenly::metrics::WorkerCounters;
use evenly::settings::{AccessSink, Ejection, Plan, Timeouts};

use crate::client::Client;
use crate::hardship::{Hardship, Hardships};
use crate::model::{Model, Profile};
use crate::net::{Door, Far, Network, Short, Side, SimNet, Weather};
use crate::random::Rng;
use crate::target::Target;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// Everything is over by then, whatever happens.
const END_OF_TIME: u64 = 3_600 * SECOND;
/// How many failures in a row are told as such.
const CONNECTS: u32 = 3;
const RESETS: u32 = 2;
/// Turns the engine may take one after another in which nothing moves.
const IDLE_TURNS: u32 = 64;
/// Calls that may fail in one turn for want of something here: more are a spin.
const FAILED_CALLS: u32 = 200;
/// Bytes of buffers that a message may need which was begun when there was still memory.
const MESSAGE: usize = 48 * 1024;
/// What a connection may hold beside when all memory is held: a small chunk for each side and direction.
const BESIDES: usize = 16 * 1024;
/// How often the worker stands still in a world of pauses.
const PAUSES: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Client(usize),
    Target(usize),
    Operation,
}

/// What happens to the world from time to time.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Connect,
    /// A new snapshot with other endpoints healthy.
    Publish,
    /// A host's door opens, shuts or falls silent.
    Door,
    /// A pooled connection ends, or says something.
    Disturb,
    /// All connections of a host die with it.
    Die,
    /// A host hangs or goes on.
    Hang,
    /// Something is short on the engine's host.
    Shortage,
    /// A client's connection breaks down.
    BreakDown,
    Evict,
}

const FAIR: &[(u64, Operation)] =
    &[(85, Operation::Connect), (10, Operation::Publish), (5, Operation::Evict)];
const FLAKY: &[(u64, Operation)] = &[
    (60, Operation::Connect),
    (8, Operation::Publish),
    (12, Operation::Door),
    (17, Operation::Disturb),
    (3, Operation::Evict),
];
const STORMY: &[(u64, Operation)] = &[
    (60, Operation::Connect),
    (8, Operation::Publish),
    (8, Operation::Door),
    (8, Operation::Disturb),
    (3, Operation::Die),
    (5, Operation::Hang),
    (2, Operation::Shortage),
    (5, Operation::BreakDown),
    (1, Operation::Evict),
];

pub(crate) struct World {
    engine: Engine<SimNet>,
    network: Rc<RefCell<Network>>,
    pub(crate) model: Model,
    hardships: Hardships,
    counters: WorkerCounters,
    memory: Arc<Ledger>,
    /// Entries of the access log that were taken.
    entries: u64,
    pauses: u32,
    /// Until when the worker stands still.
    still_until: u64,
    clients: BTreeMap<usize, Client>,
    targets: BTreeMap<usize, Target>,
    due: BinaryHeap<Reverse<(u64, Due)>>,
    snapshot: Arc<Snapshot>,
    healthy: Vec<bool>,
    /// What each endpoint was suspected of since that was last a streak: failed connects, broken exchanges.
    blows: BTreeMap<EndpointId, [u32; 3]>,
    hung: Vec<bool>,
    fresh: Vec<usize>,
    operations: usize,
    static_snapshot: bool,
    drains: bool,
    draining: bool,
    idle_turns: u32,
    rng: Rng,
    now: u64,
    accepted: usize,
    /// Those that the engine did not take.
    refused: u64,
    ended: usize,
}

impl World {
    /// A world as `seed` has it, in which `steps` things happen.
    pub(crate) fn new(seed: u64, steps: usize) -> World {
        let mut rng = Rng::new(seed);
        let profile =
            rng.weighted(&[(40, Profile::Fair), (25, Profile::Flaky), (35, Profile::Stormy)]);
        let hosts = usize::try_from(rng.within(1..=5)).unwrap();
        let hardships = Hardships::invent(&mut rng.fork());
        let weather = weather(&mut rng, &hardships);
        let mut world = World::with(rng, profile, hosts, weather, hardships);
        world.static_snapshot = profile == Profile::Fair && world.rng.chance(50);
        world.drains = world.rng.chance(40);
        world.operations = steps;
        world.due.push(Reverse((0, Due::Operation)));
        world
    }

    fn with(
        mut rng: Rng,
        profile: Profile,
        hosts: usize,
        weather: Weather,
        hardships: Hardships,
    ) -> World {
        let addresses: Vec<SocketAddr> =
            (0..hosts).map(|at| ([10, 0, 0, u8::try_from(at).unwrap() + 1], 80).into()).collect();
        let network = Rc::new(RefCell::new(Network::new(rng.fork(), weather, addresses)));
        let healthy = vec![true; hosts];
        let memory = Arc::new(match hardships.has(Hardship::LittleMemory) {
            true => Ledger::new(rng.one_of(&[0, 20_000, 60_000, 300_000]), 1),
            false => Ledger::default(),
        });
        let shared = Arc::new(Shared { memory: Arc::clone(&memory), ..Shared::default() });
        let counters = WorkerCounters::default();
        let plan = plan(&mut rng, &hardships);
        let largest = weather.capacity as u64 * 60;
        let mut model = Model::new(profile, hosts, largest, hardships.clone());
        model.gives_up = plan.timeouts.client_gone.is_some();
        let snapshot = Arc::new(Snapshot::clone(&snapshot(1, &healthy)).under(Arc::new(plan)));
        shared.snapshot.store(Arc::clone(&snapshot));
        let engine =
            Engine::new(SimNet(Rc::clone(&network)), 1, shared, WorkerCounters::clone(&counters));
        World {
            engine,
            network,
            model,
            hardships,
            counters,
            memory,
            entries: 0,
            pauses: PAUSES,
            still_until: 0,
            clients: BTreeMap::new(),
            targets: BTreeMap::new(),
            due: BinaryHeap::new(),
            snapshot,
            healthy,
            blows: BTreeMap::new(),
            hung: vec![false; hosts],
            fresh: Vec::new(),
            operations: 0,
            static_snapshot: false,
            drains: false,
            draining: false,
            idle_turns: 0,
            rng,
            now: 0,
            accepted: 0,
            refused: 0,
            ended: 0,
        }
    }

    /// A world with nothing but clients that send one GET after another, and hosts that answer.
    pub(crate) fn sequential(seed: u64, hosts: usize, clients: usize, requests: usize) -> World {
        let mut rng = Rng::new(seed);
        let weather = weather(&mut rng, &Hardships::default());
        let mut world = World::with(rng, Profile::Fair, hosts, weather, Hardships::default());
        for _ in 0..clients {
            let client = Client::sequential(world.rng.fork(), &mut world.model, requests);
            world.connect(client);
            world.run_clients_to_their_end();
        }
        world
    }

    fn run_clients_to_their_end(&mut self) {
        while self.clients.values().any(|client| !client.is_over()) || self.operations > 0 {
            self.step();
            assert!(self.now < END_OF_TIME, "it takes forever");
        }
    }

    /// Runs until all is over, and judges it. Returns the hash of all that happened.
    pub(crate) fn run(mut self) -> u64 {
        self.run_clients_to_their_end();
        self.until("the engine closes every client connection", 130 * SECOND, |world| {
            world.engine.client_count() == 0
        });
        assert_eq!(self.engine.lent_buffers(), 0, "buffers that nobody holds");
        self.until("what waits for its end has it", 130 * SECOND, |world| {
            world.engine.upstream_count() == world.engine.idle_upstream_count()
        });
        self.until("the engine lets every idle upstream go", 130 * SECOND, |world| {
            world.engine.upstream_count() == 0 && world.engine.next_deadline().is_none()
        });
        assert_eq!(self.network.borrow().near_open(), 0, "connections that nobody holds");
        self.let_targets_read();
        assert_eq!(self.accepted, self.ended, "each client connection is counted in and out");
        assert!(self.engine.mapped_bytes() <= 3 * 64 * 1024, "pages that a burst left behind");
        self.model.judge_all();
        self.judge_counts();
        self.network.borrow().trace.hash()
    }

    /// What the engine has left to the network arrives, and slow targets read it.
    fn let_targets_read(&mut self) {
        let is_quiet =
            |world: &World| world.due.is_empty() && world.network.borrow().next_arrival().is_none();
        while !is_quiet(self) {
            self.step();
        }
    }

    fn judge_counts(&mut self) {
        let left = self.engine.access_batch().map(|batch| batch.len() as u64);
        if let Some(left) = left {
            let entries = self.entries + left + self.counters.entries_lost.get();
            assert_eq!(entries, self.counters.requests.get(), "each request has an entry");
            assert_eq!(self.counters.refused.get(), self.refused, "who is not taken is counted");
        }
        if self.model.profile == Profile::Fair {
            let failed = self.counters.connect_failed.get();
            assert_eq!(failed, 0, "connects failed although every target was there");
        }
    }

    fn until(&mut self, what: &str, limit: u64, done: impl Fn(&World) -> bool) {
        // A call may take long even then.
        let limit = self.now + limit + 400 * SECOND;
        while !done(self) {
            assert!(self.now < limit, "{what}: not in time");
            self.step();
        }
    }

    /// Moves on to the next time at which something happens.
    fn step(&mut self) {
        self.now = self.next_time();
        self.network.borrow_mut().advance(self.now);
        self.run_what_is_due();
        self.run_what_stirred();
        self.stand_still();
        let told = self.network.borrow_mut().poll();
        self.stand_still();
        let due = self.engine.next_deadline().is_some_and(|at| at.0 <= self.now);
        if told.is_empty() && !due && !self.engine.has_work() && self.fresh.is_empty() {
            return;
        }
        for (token, readiness) in &told {
            self.engine.ready(*token, *readiness);
        }
        self.turn(!told.is_empty() || due);
    }

    /// The worker may stand still for a while, whatever the world does meanwhile.
    fn stand_still(&mut self) {
        if self.pauses == 0 || !self.hardships.has(Hardship::Pauses) || !self.rng.chance(4) {
            return;
        }
        self.pauses -= 1;
        let most = self.rng.weighted(&[(40, SECOND), (30, 40 * SECOND), (30, 100 * SECOND)]);
        self.still_until = self.now + self.rng.within(1..=most);
        self.network
            .borrow()
            .trace
            .tell(self.now, || format!("the worker stands still until {}", self.still_until));
        loop {
            let due = self.due.peek().map(|Reverse((at, _))| *at);
            let arrival = self.network.borrow().next_arrival();
            let next = due.into_iter().chain(arrival).min();
            let Some(next) = next.filter(|&at| at <= self.still_until) else { break };
            self.now = next.max(self.now);
            self.network.borrow_mut().advance(self.now);
            self.run_what_is_due();
            self.run_what_stirred();
        }
        self.now = self.still_until;
        self.network.borrow_mut().advance(self.now);
        self.forgive();
    }

    /// Whoever waited for an engine that stood still begins to wait anew.
    fn forgive(&mut self) {
        self.clients.values_mut().for_each(|client| client.progress = self.now);
    }

    fn turn(&mut self, provoked: bool) {
        let back = self.hardships.has(Hardship::ClockSteps) && self.rng.chance(10);
        let back = if back { self.rng.within(0..=SECOND) } else { 0 };
        let now = Tick(self.now.saturating_sub(back));
        for wire in std::mem::take(&mut self.fresh) {
            let near = SimNet(Rc::clone(&self.network)).near(wire);
            let taken =
                self.engine.accept(near, SocketAddr::from(([10, 1, 2, 3], 40_000)).into(), now);
            self.accepted += 1;
            self.refused += u64::from(!taken);
        }
        let before = self.network.borrow().moves;
        self.engine.turn(now, &self.snapshot);
        self.engine.check_invariants();
        self.check_memory();
        let deadline = self.engine.next_deadline();
        assert!(deadline.is_none_or(|at| at > now), "a deadline that is over spins the worker");
        let moved = provoked || self.network.borrow().moves > before || !self.engine.has_work();
        self.idle_turns = if moved { 0 } else { self.idle_turns + 1 };
        assert!(self.idle_turns < IDLE_TURNS, "the engine spins");
        self.ended += self.engine.take_closed();
        self.look_at_calls();
        self.take_entries();
        let reports = self.follow_reports();
        self.network.borrow_mut().trace.note(self.now, "turn", 0, reports);
        self.follow_requests();
    }

    /// Buffers hold no more than they may, but for what a message needs that was begun.
    fn check_memory(&self) {
        if self.hardships.has(Hardship::LittleMemory) {
            let held = self.memory.held();
            let most = self.memory.limit() + MESSAGE + self.engine.client_count() * BESIDES;
            assert!(held <= most, "buffers hold {held} bytes where {most} are too many");
        }
    }

    /// What befell the calls of this turn.
    fn look_at_calls(&mut self) {
        let mut network = self.network.borrow_mut();
        let failed = std::mem::take(&mut network.failed_calls);
        assert!(failed <= FAILED_CALLS, "the engine spins: {failed} calls of one turn failed");
        // What was taken for an answer on a poisoned one seemed to end its exchange.
        let poisoned = &self.model.poisoned;
        let parked: Vec<_> = network.parked.iter().filter(|it| !poisoned.contains(it)).collect();
        assert!(parked.is_empty(), "exchanges were left by an end, not a reset: wires {parked:?}");
        // What a tunnel's other side does not take waits for as long as the tunnel lasts.
        let tunnel = |wire: &usize| self.clients.get(wire).is_some_and(Client::is_tunnel);
        let torn: Vec<_> = network.torn.drain(..).filter(|wire| !tunnel(wire)).collect();
        assert!(torn.is_empty(), "clients were closed unread: wires {torn:?}");
        self.now = self.now.max(network.now);
        for wire in std::mem::take(&mut network.gave_way) {
            if let Some(client) = self.clients.get_mut(&wire) {
                client.gave_way(self.now);
            }
        }
        for wire in std::mem::take(&mut network.turned_away) {
            if let Some(client) = self.clients.get_mut(&wire) {
                client.turned_away(&mut self.model);
            }
        }
        let stalled = std::mem::take(&mut network.stalled);
        drop(network);
        if stalled > 0 {
            self.forgive();
        }
    }

    fn take_entries(&mut self) {
        if !self.hardships.has(Hardship::UntakenLog)
            && let Some(batch) = self.engine.access_batch()
        {
            self.entries += batch.len() as u64;
            batch.clear();
        }
    }

    /// A streak is as long as it is to be, and every part of it was told before.
    fn follow_reports(&mut self) -> usize {
        let mut count = 0;
        for (endpoint, why) in self.engine.take_reports() {
            count += 1;
            let fair = self.model.profile == Profile::Fair;
            assert!(!fair, "{endpoint:?} is suspected without any fault of its own: {why:?}");
            let [connects, resets, replayed] = self.blows.entry(endpoint).or_default();
            let (blows, length, limit) = match why {
                Report::ConnectRefused | Report::ConnectTimeout => {
                    *connects += 1;
                    continue;
                }
                Report::ExchangeFailed => {
                    *resets += 1;
                    *replayed += 1;
                    continue;
                }
                Report::Streak(Streak::ConnectFailures, length) => (connects, length, CONNECTS),
                Report::Streak(Streak::Resets | Streak::Timeouts, length) => {
                    (resets, length, RESETS)
                }
                Report::Streak(Streak::Replayed, length) => (replayed, length, RESETS),
                Report::Streak(Streak::Errors, _) => panic!("errors are not to be counted"),
            };
            assert_eq!(length, limit, "{why:?}");
            let left = blows.checked_sub(length);
            *blows = left.unwrap_or_else(|| panic!("{why:?} was not told part by part"));
        }
        count
    }

    fn follow_requests(&mut self) {
        let mut network = self.network.borrow_mut();
        for taken in std::mem::take(&mut network.taken) {
            let host = network.host_of(taken.wire).expect("requests go to hosts");
            network.trace.tell(self.now, || format!("request {} on wire {}", taken.id, taken.wire));
            self.model.request_taken(&taken, host, self.now);
        }
    }

    fn next_time(&mut self) -> u64 {
        let network = self.network.borrow();
        let restless = self.engine.has_work() || network.has_edges() || !self.fresh.is_empty();
        let soon = restless.then(|| self.now + self.rng.within(1..=60));
        let due = self.due.peek().map(|Reverse((at, _))| *at);
        let deadline = self.engine.next_deadline().map(|at| at.0);
        let next = [soon, due, deadline, network.next_arrival()].into_iter().flatten().min();
        next.expect("a stall: nothing will ever happen again").max(self.now)
    }

    fn run_what_is_due(&mut self) {
        while let Some(&Reverse((at, due))) = self.due.peek()
            && at <= self.now
        {
            self.due.pop();
            match due {
                Due::Client(wire) => self.wake_client(wire),
                Due::Target(wire) => self.wake_target(wire),
                // What is done to the engine waits until it goes on.
                Due::Operation if at <= self.still_until => {
                    self.due.push(Reverse((self.still_until + 1, Due::Operation)));
                }
                Due::Operation => self.operate(),
            }
        }
    }

    fn run_what_stirred(&mut self) {
        let slow = self.hardships.has(Hardship::SlowPeers);
        loop {
            let arrivals = std::mem::take(&mut self.network.borrow_mut().arrivals);
            for (_, wire) in arrivals {
                let target = Target::new(self.rng.fork(), slow);
                self.targets.insert(wire, target);
            }
            let stirred = std::mem::take(&mut self.network.borrow_mut().stirred);
            if stirred.is_empty() {
                return;
            }
            for wire in stirred {
                self.wake_client(wire);
                self.wake_target(wire);
            }
        }
    }

    fn wake_client(&mut self, wire: usize) {
        let Some(client) = self.clients.get_mut(&wire) else { return };
        let network = &mut *self.network.borrow_mut();
        if let Some(at) = client.wake(&mut Far { network, wire }, &mut self.model) {
            self.due.push(Reverse((at, Due::Client(wire))));
        }
    }

    fn wake_target(&mut self, wire: usize) {
        let Some(target) = self.targets.get_mut(&wire) else { return };
        let network = &mut *self.network.borrow_mut();
        let host = network.host_of(wire).expect("targets are on hosts");
        if self.hung[host] {
            return;
        }
        if let Some(at) = target.wake(&mut Far { network, wire }, &mut self.model) {
            self.due.push(Reverse((at, Due::Target(wire))));
        }
    }

    fn connect(&mut self, client: Client) {
        let wire = self.network.borrow_mut().client_wire();
        self.clients.insert(wire, client);
        self.fresh.push(wire);
        self.due.push(Reverse((self.now, Due::Client(wire))));
    }

    /// The next thing that happens to the world.
    fn operate(&mut self) {
        self.check_progress();
        if self.operations == 0 {
            if self.clients.values().any(|client| !client.is_over()) {
                self.due.push(Reverse((self.now + SECOND, Due::Operation)));
            }
            return;
        }
        self.operations -= 1;
        let choices = match self.model.profile {
            Profile::Fair => FAIR,
            Profile::Flaky => FLAKY,
            Profile::Stormy => STORMY,
        };
        let operation = self.rng.weighted(choices);
        self.network.borrow().trace.tell(self.now, || format!("{operation:?}"));
        self.apply(operation);
        if self.hardships.has(Hardship::LocalErrors) && self.rng.chance(25) {
            self.apply(Operation::Shortage);
        }
        if self.drains {
            self.drain_in_time();
        }
        let wait = self.rng.weighted(&[(50, 2 * MS), (40, 50 * MS), (10, 2 * SECOND)]);
        let at = self.now + self.rng.within(0..=wait);
        self.due.push(Reverse((at, Due::Operation)));
    }

    /// A drain is begun and taken back, and near the end begun for good. The model goes on as if it drained: what was said in
    /// it may arrive later.
    fn drain_in_time(&mut self) {
        let is_due = match self.operations {
            0 | 1 | 8 => !std::mem::replace(&mut self.draining, true),
            6 => {
                self.draining = false;
                self.engine.return_to_service(Tick(self.now));
                false
            }
            _ => false,
        };
        if is_due {
            self.model.draining = true;
            self.engine.drain(Tick(self.now));
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Connect => {
                let client = Client::new(self.rng.fork(), &mut self.model, self.now);
                self.connect(client);
            }
            Operation::Publish => self.publish(),
            Operation::Door => {
                if let Some(host) = self.some_host() {
                    let door = self.rng.one_of(&[Door::Open, Door::Open, Door::Shut, Door::Silent]);
                    self.network.borrow_mut().hosts[host].1 = door;
                }
            }
            Operation::Disturb => self.disturb(),
            Operation::Die => {
                if let Some(host) = self.some_host() {
                    self.kill(host);
                }
            }
            Operation::Hang => {
                if let Some(host) = self.some_host() {
                    self.hang(host);
                }
            }
            Operation::Shortage => self.shortage(),
            Operation::BreakDown => self.break_down(),
            Operation::Evict => {
                self.network.borrow_mut().evicting = true;
                self.engine.evict_idle();
                self.network.borrow_mut().evicting = false;
                self.look_at_calls();
            }
        }
    }

    /// A host that may fail. Except in a storm there is one that never does.
    fn some_host(&mut self) -> Option<usize> {
        let spared = usize::from(self.model.profile != Profile::Stormy);
        let count = self.hung.len() - spared;
        (count > 0).then(|| self.rng.below(count) + spared)
    }

    /// Something is short for a while: everywhere, or towards one host that may fail.
    fn shortage(&mut self) {
        let mut network = self.network.borrow_mut();
        let open = network.near_open();
        let mut short = self.rng.one_of(&[Short::Descriptors(open), Short::Memory, Short::Watches]);
        let until = self.now + self.rng.within(0..=SECOND);
        let host = self.rng.below(self.hung.len());
        if self.rng.chance(50) && host > 0 {
            short = self.rng.one_of(&[Short::Ports(host), Short::Barred(host)]);
        } else {
            self.model.short_until = self.model.short_until.max(until);
        }
        self.model.undisturbed = false;
        network.trace.tell(self.now, || format!("{short:?} until {until}"));
        network.shortages.push((until, short));
    }

    fn publish(&mut self) {
        if self.static_snapshot {
            return;
        }
        self.model.undisturbed = false;
        if let Some(host) = self.some_host() {
            self.healthy[host] = !self.healthy[host];
            if !self.healthy[host] {
                self.model.went_down[host] = Some(self.now);
            }
        }
        let next = snapshot(self.snapshot.generation + 1, &self.healthy);
        let mut plan = Arc::clone(&self.snapshot.plan);
        if self.rng.chance(10) {
            // A change that shows in nothing but how many connections are kept.
            Arc::make_mut(&mut plan).limits.idle_per_target = self.rng.one_of(&[256, 1, 0]);
        }
        self.snapshot = Arc::new(Snapshot::clone(&next).under(plan));
    }

    fn disturb(&mut self) {
        let idle: Vec<usize> = self
            .targets
            .iter()
            .filter(|(_, target)| target.is_idle())
            .map(|(&wire, _)| wire)
            .collect();
        if idle.is_empty() {
            return;
        }
        let wire = self.rng.one_of(&idle);
        let network = &mut *self.network.borrow_mut();
        if let Some(target) = self.targets.get_mut(&wire) {
            target.disturb(&mut Far { network, wire }, &mut self.model);
        }
    }

    fn kill(&mut self, host: usize) {
        let network = &mut *self.network.borrow_mut();
        network.hosts[host].1 = Door::Shut;
        for (&wire, target) in &mut self.targets {
            if network.host_of(wire) == Some(host) && network.is_open(wire, Side::Far) {
                target.die(&mut Far { network, wire }, &mut self.model);
            }
        }
    }

    fn hang(&mut self, host: usize) {
        self.hung[host] = !self.hung[host];
        if !self.hung[host] {
            let wires: Vec<usize> = self.targets.keys().copied().collect();
            wires.into_iter().for_each(|wire| self.wake_target(wire));
        }
    }

    fn break_down(&mut self) {
        let open: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| !client.is_over())
            .map(|(&wire, _)| wire)
            .collect();
        if open.is_empty() {
            return;
        }
        let wire = self.rng.one_of(&open);
        let network = &mut *self.network.borrow_mut();
        if let Some(client) = self.clients.get_mut(&wire) {
            client.break_down(&mut Far { network, wire }, &mut self.model);
        }
    }

    /// Whoever waits for the engine sees something move in time.
    fn check_progress(&self) {
        let patience = match self.model.profile {
            Profile::Fair => 8 * SECOND,
            Profile::Flaky => 20 * SECOND,
            // A last look may find a little room before a target that hangs, a good many times.
            Profile::Stormy => 800 * SECOND,
        };
        // A nap, the longest wait for an edge, and both on each side.
        let slow = self.hardships.has(Hardship::SlowPeers) as u64
            + self.hardships.has(Hardship::LateWakeUps) as u64;
        let patience = patience + slow * 130 * SECOND;
        for (wire, client) in &self.clients {
            let waited = self.now.saturating_sub(client.progress);
            let stalled = client.is_owed() && !client.is_frozen(self.now) && waited > patience;
            assert!(!stalled, "a stall: the client on wire {wire} waits for {waited} microseconds");
        }
    }
}

pub(crate) fn snapshot(generation: u64, healthy: &[bool]) -> Arc<Snapshot> {
    let endpoints = healthy.iter().zip(0u8..).map(|(&healthy, at)| Endpoint {
        id: EndpointId(u32::from(at)),
        address: SocketAddr::from(([10, 0, 0, at + 1], 80)).into(),
        target: "sim".into(),
        state: if healthy { EndpointState::Up } else { EndpointState::Down },
        preference: Preference::default(),
        absent: !healthy,
        served: Served::default(),
    });
    Arc::new(Snapshot::new(generation, endpoints.collect()))
}

fn plan(rng: &mut Rng, hardships: &Hardships) -> Plan {
    let ejection = Ejection {
        connect_failures: CONNECTS,
        resets: RESETS,
        timeouts: RESETS,
        ..Ejection::default()
    };
    let mut plan = Plan { ejection, ..Plan::default() };
    // Retries are not bounded.
    plan.retry.budget_floor = 1_000_000;
    plan.limits.idle_per_target = rng.one_of(&[256, 256, 1, 0]);
    // Scripts go to the brink of these.
    plan.timeouts = Timeouts {
        client_header: Duration::from_secs(10),
        client_idle: Duration::from_secs(60),
        client_body: Duration::from_secs(30),
        client_gone: rng.one_of(&[None, Some(Duration::ZERO), Some(Duration::from_secs(1))]),
        connect: Duration::from_secs(1),
        response_header: Duration::from_secs(30),
        response_body: Duration::from_secs(30),
        tunnel_idle: Duration::from_secs(100),
        upstream_idle: Duration::from_secs(60),
        ..Timeouts::default()
    };
    if hardships.has(Hardship::UntakenLog) || rng.chance(20) {
        plan.log.access = AccessSink::Stdout;
    }
    plan
}

fn weather(rng: &mut Rng, hardships: &Hardships) -> Weather {
    let percent = |hardship, percent| if hardships.has(hardship) { percent } else { 0 };
    Weather {
        latency: rng.one_of(&[0, 50, 500, 3_000]),
        capacity: rng.one_of(&[700, 4_096, 20_000, 65_536, 300_000, 600_000]),
        short_writes: rng.one_of(&[0, 5, 30]),
        pieces: rng.one_of(&[0, 20, 60]),
        late_events: rng.one_of(&[0, 10, 50]),
        meanwhile: rng.one_of(&[0, 5, 40]),
        lossy_resets: rng.one_of(&[0, 50]),
        local_errors: percent(Hardship::LocalErrors, 4),
        slow_calls: percent(Hardship::LongTurns, 10),
        late_wake_ups: percent(Hardship::LateWakeUps, 3),
    }
}
