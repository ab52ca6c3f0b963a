//! One worker thread: poll, mark readiness, let the engine take its turn, sleep until the next deadline.
//!
//! The only room that names mio. It owns the poll, the listeners and the queue through which other workers hand fresh
//! connections over; the connections themselves belong to the engine. A panic ends the engine with its
//! connections, not the worker: poll, listeners and queue are kept, and a new engine goes on with them.

pub mod listener;
pub mod net;
mod stage;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::cache::Cache;
use crossbeam::channel::Sender;
use crossbeam::queue::{ArrayQueue, SegQueue};
use crossbeam::utils::CachePadded;
use mio::{Events, Poll, Waker};
use socket2::Socket;

use crate::access::BATCH_TIME;
use crate::access::dates::Dates;
use crate::access::recorder::FlightRecorder;
use crate::access::writer::Outlet;
use crate::balance::{EndpointId, Report, Shared};
use crate::base::shortage::Shortage;
use crate::base::tick::Tick;
use crate::engine::{Ends, Engine, Net, Token};
use crate::metrics::WorkerCounters;
use crate::metrics::accepts::{AcceptCounters, AcceptCounts};
use crate::settings::Boot;

use listener::{Accepted, ListenerId, Listeners};
use net::Sockets;
pub use stage::Stage;
use stage::Stages;

/// Events taken from the poll at once.
const EVENTS: usize = 512;
/// Connections that may wait to be taken over by another worker.
const HANDED_OVER: usize = 1024;
/// The least time between two lines about missing descriptors.
const QUIET: Duration = Duration::from_secs(10);
/// How often the wall clock is read for dates of the flight recorder.
const DATE_TIME: Duration = Duration::from_secs(1);
const WAKER: mio::Token = mio::Token(usize::MAX);
/// Listeners have the tokens from here on; no connection has, because its index would be beyond any limit.
const FIRST_LISTENER: usize = usize::MAX - 1024;

/// What the other threads see of one worker.
pub struct Peer {
    /// Client connections it has, those on their way to it included.
    load: CachePadded<AtomicUsize>,
    handed_over: ArrayQueue<(Socket, Ends)>,
    /// The worker that asks this one to close an idle connection, counted from 1; 0 is none.
    asked_by: AtomicUsize,
    waker: Waker,
    /// What it counts.
    pub counters: WorkerCounters,
    /// Its exchanges that ended last.
    pub recorder: Arc<FlightRecorder>,
    /// What it is to do.
    errands: SegQueue<Errand>,
    /// How many it was sent, and how many of them it has run.
    sent: AtomicUsize,
    run: AtomicUsize,
    /// The generation of the snapshot that it follows.
    followed: AtomicU64,
    /// How many listeners it has.
    listeners: AtomicUsize,
    /// How many connections each of them has accepted.
    accepts: Arc<AcceptCounters>,
}

/// What a worker is to do in its next turn.
pub enum Errand {
    /// To accept connections from this socket as well.
    Listen(ListenerId, std::net::TcpListener),
    /// To take listeners again, which follow: it had closed its own.
    Return,
    /// To accept what waits there, and to close it.
    Unlisten(ListenerId),
    /// To accept nothing more there: another process does, from the same sockets.
    Release(ListenerId),
    /// To send a descriptor of each of its listening sockets, for another process.
    Lend(Sender<io::Result<Vec<(ListenerId, OwnedFd)>>>),
    /// To hand the entries of the access log over to this one from now on.
    Log(Option<Outlet>),
    /// To show that it runs.
    Beat,
}

impl Peer {
    /// Client connections it has, those on their way to it included.
    pub fn connections(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }
}

/// What all workers share.
pub struct Crew {
    /// Each worker's public side.
    pub peers: Vec<Peer>,
    stages: Stages,
    /// Workers that were restarted after a panic.
    pub panics: AtomicU64,
    /// Client connections there may be.
    cap: AtomicUsize,
    /// Connections to clients and targets that each may have.
    share: AtomicUsize,
    /// How long idle connections are left alone after the drain has begun, in microseconds.
    patience: AtomicU64,
}

impl Crew {
    /// How far they have been asked to stop.
    pub fn stage(&self) -> Stage {
        self.stages.now()
    }

    /// Leaves idle connections alone for so long after the drain has begun: a request that comes by one is served, and its response
    /// ends it. Without this they are closed soon.
    pub fn set_patience(&self, patience: Duration) {
        let micros = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        self.patience.store(micros, Ordering::Relaxed);
    }

    fn patience(&self) -> Duration {
        Duration::from_micros(self.patience.load(Ordering::Relaxed))
    }

    /// Asks the workers to stop, as far as `stage` says. The main thread alone does, and may take it back:
    /// [`Crew::go_back`], [`Crew::reopen`].
    pub fn set_stage(&self, stage: Stage) {
        self.stages.raise(stage);
        self.wake();
    }

    /// Has the workers serve on with the listeners they still have. `false`, and nothing is changed, if they have closed these,
    /// close them, or are to end.
    pub fn go_back(&self) -> bool {
        let back = self.stages.go_back();
        self.wake();
        back
    }

    /// Whether every worker has closed its listeners for a drain, so that it can be taken back by [`Crew::reopen`].
    pub fn all_left(&self) -> bool {
        self.stages.all_left()
    }

    /// Has the workers, which all have left, serve again, each with these listeners.
    pub fn reopen(&self, listeners: Vec<Vec<(ListenerId, std::net::TcpListener)>>) {
        self.stages.reopen(self.peers.len());
        for (at, sockets) in listeners.into_iter().enumerate() {
            self.send(at, Errand::Return);
            sockets.into_iter().for_each(|(id, socket)| self.send(at, Errand::Listen(id, socket)));
        }
        self.wake();
    }

    /// Whether a drain has nothing left to finish: nobody accepts, and nobody is connected.
    pub fn is_finished(&self) -> bool {
        self.stages.all_left() && self.connections() == 0
    }

    /// Wakes all workers from their polls.
    pub fn wake(&self) {
        for peer in &self.peers {
            // A waker that fails leaves the worker to its next event or timer.
            let _ = peer.waker.wake();
        }
    }

    /// Client connections there may be.
    pub fn cap(&self) -> usize {
        self.cap.load(Ordering::Relaxed)
    }

    /// Lets `cap` clients be connected to all of them from now on, and each have `share` connections to clients and targets, from
    /// when it follows the next snapshot. Connections there are stay. Returns how it was before.
    pub fn set_room(&self, cap: usize, share: usize) -> (usize, usize) {
        let before = |was: &AtomicUsize, is| was.swap(is, Ordering::Relaxed);
        (before(&self.cap, cap), before(&self.share, share))
    }

    /// Has the worker `at` that position run an errand, when it wakes next.
    pub fn send(&self, at: usize, errand: Errand) {
        let peer = &self.peers[at];
        peer.sent.fetch_add(1, Ordering::Relaxed);
        peer.errands.push(errand);
    }

    /// Whether every worker follows a snapshot of this generation or a later one, and has run its errands.
    pub fn follow(&self, generation: u64) -> bool {
        self.peers.iter().all(|peer| {
            peer.followed.load(Ordering::Acquire) >= generation
                && peer.run.load(Ordering::Acquire) == peer.sent.load(Ordering::Relaxed)
        })
    }

    /// How many listeners each worker has.
    pub fn listeners(&self) -> impl Iterator<Item = usize> {
        self.peers.iter().map(|peer| peer.listeners.load(Ordering::Relaxed))
    }

    /// How many connections were accepted at each address that is listened on.
    pub fn accepted(&self) -> AcceptCounts {
        let mut sums = AcceptCounts::new();
        self.peers.iter().for_each(|peer| peer.accepts.add_to(&mut sums));
        sums
    }

    /// How many generations of snapshots there are that a worker follows, or will: the published one, `newest`, included.
    pub fn generations(&self, newest: u64) -> usize {
        let followed = self.peers.iter().map(|peer| peer.followed.load(Ordering::Relaxed));
        // One that has not had its first turn follows none.
        followed.filter(|&it| it > 0).chain([newest]).collect::<BTreeSet<_>>().len()
    }

    /// Client connections of all workers.
    pub fn connections(&self) -> usize {
        self.peers.iter().map(Peer::connections).sum()
    }

    /// The worker that gets a fresh connection: the accepting one unless another has fewer.
    fn least_loaded(&self, me: usize) -> usize {
        let load = |at: usize| self.peers[at].connections();
        let mut best = (me, load(me));
        for at in 0..self.peers.len() {
            if load(at) < best.1 {
                best = (at, load(at));
            }
        }
        best.0
    }
}

/// What a worker is made of before its thread starts.
pub struct Station {
    poll: Poll,
    listeners: Listeners,
    /// Where access log entries go, unless it is off.
    outlet: Option<Outlet>,
    /// The listeners are closed and the other workers notified. Kept across a restart after a panic, so that it happens once.
    left: bool,
}

/// Prepares `listeners.len()` workers, each with its own listeners: `cap` clients may be connected to all of them, and each may
/// have `share` connections to clients and targets. Their entries of the access log go to `outlet`.
///
/// # Errors
/// When the kernel has no room for another poll.
pub fn prepare(
    listeners: Vec<Vec<(ListenerId, std::net::TcpListener)>>,
    outlet: Option<&Outlet>,
    cap: usize,
    share: usize,
) -> io::Result<(Arc<Crew>, Vec<Station>)> {
    let (mut peers, mut stations) = (Vec::new(), Vec::new());
    for sockets in listeners {
        let poll = Poll::new()?;
        let mut listeners = Listeners::new(FIRST_LISTENER);
        for (id, socket) in sockets {
            listeners.add(id, socket, poll.registry())?;
        }
        peers.push(Peer {
            load: CachePadded::default(),
            handed_over: ArrayQueue::new(HANDED_OVER),
            asked_by: AtomicUsize::new(0),
            waker: Waker::new(poll.registry(), WAKER)?,
            counters: WorkerCounters::default(),
            recorder: Arc::default(),
            errands: SegQueue::new(),
            sent: AtomicUsize::new(0),
            run: AtomicUsize::new(0),
            followed: AtomicU64::new(0),
            listeners: AtomicUsize::new(listeners.count()),
            accepts: listeners.accepts(),
        });
        stations.push(Station { poll, listeners, outlet: outlet.cloned(), left: false });
    }
    let workers = Crew {
        stages: Stages::new(peers.len()),
        peers,
        panics: AtomicU64::new(0),
        cap: cap.into(),
        share: share.into(),
        patience: AtomicU64::new(0),
    };
    Ok((Arc::new(workers), stations))
}

/// What a worker needs besides its station.
pub struct Job {
    /// Which of the workers it is.
    pub me: usize,
    /// All of them.
    pub workers: Arc<Crew>,
    /// What holds as long as the process.
    pub boot: Arc<Boot>,
    /// The snapshot and the round-robin counter.
    pub shared: Arc<Shared>,
    /// Where failed endpoints are reported. Must not block.
    pub report: Box<dyn Fn(EndpointId, Report) + Send>,
    /// Called in a drain when this worker has nothing left to finish: it may have been the last. Must not block.
    pub emptied: Box<dyn Fn() + Send>,
}

/// Runs the worker until it is asked to stop. A panic costs its connections; it goes on with a new engine.
pub fn run(mut station: Station, job: &Job) {
    supervise(job.me, &job.workers.panics, || {
        let peer = &job.workers.peers[job.me];
        peer.load.store(peer.handed_over.len(), Ordering::Relaxed);
        work(&mut station, job);
    });
}

/// Runs `turns` again whenever it panics.
fn supervise(me: usize, panics: &AtomicU64, mut turns: impl FnMut()) {
    while catch_unwind(AssertUnwindSafe(&mut turns)).is_err() {
        let count = panics.fetch_add(1, Ordering::Relaxed) + 1;
        log::error!(
            "worker {me} panicked and is restarted; its connections are lost; panics: {count}"
        );
        // A panic at every start must not become a spinning core.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One engine's life.
struct Worker<'a> {
    job: &'a Job,
    engine: Engine<Sockets>,
    /// Of the snapshot that it follows.
    generation: Option<u64>,
    /// What the engine was last asked to do.
    stage: Stage,
    /// It has said that it has nothing left to finish.
    is_empty: bool,
    /// Accepted beyond the cap: it waits for room, and nothing is accepted meanwhile.
    parked: Option<(Socket, Ends)>,
    /// Which worker was asked for room last.
    asked: usize,
    /// The dates of ticks, for the access log.
    dates: Dates,
    /// When the wall clock is read again at the latest, as long as there are turns.
    dated_at: Tick,
    /// When the access log's entries go to the writer.
    hand_over_at: Option<Tick>,
    /// It drains, and from then on idle connections are closed.
    let_idle_go_at: Option<Tick>,
    /// Until when no other line about missing descriptors is logged.
    quiet_until: Tick,
}

fn work(station: &mut Station, job: &Job) {
    let mut worker = Worker::new(station, job);
    let mut snapshot = Cache::new(&job.shared.snapshot);
    let mut events = Events::with_capacity(EVENTS);
    let mut now = worker.now();
    loop {
        let timeout = worker.timeout(&station.listeners, now);
        if let Err(error) = wait(&mut station.poll, &mut events, job.boot.spin, timeout) {
            assert!(error.kind() == io::ErrorKind::Interrupted, "poll failed: {error}");
            continue;
        }
        now = worker.now();
        worker.mark(&events, &mut station.listeners);
        worker.take_over(now);
        worker.accept(station, now);
        if !worker.peer().errands.is_empty() {
            worker.run_errands(station, now);
        }
        let snapshot = snapshot.load();
        worker.read_wall_clock(now, station.outlet.is_some(), snapshot.plan.request_id);
        let is_new = worker.generation != Some(snapshot.generation);
        if is_new {
            // With another plan there may be no log to hand them over to.
            worker.hand_entries_over(station.outlet.as_ref(), now, true);
            worker.engine.limit_sockets(job.workers.share.load(Ordering::Relaxed));
        }
        worker.engine.turn(now, snapshot);
        if is_new {
            worker.generation = Some(snapshot.generation);
            worker.peer().followed.store(snapshot.generation, Ordering::Release);
        }
        let asker = worker.give_room();
        worker.settle(&mut station.listeners);
        if let Some(asker) = asker.and_then(|asker| job.workers.peers.get(asker)) {
            // If this fails it looks again by itself when its pause is over.
            let _ = asker.waker.wake();
        }
        let done = worker.follow_stage(station, now);
        if done {
            worker.engine.cut_all();
        }
        worker.hand_entries_over(station.outlet.as_ref(), now, done);
        if done {
            return;
        }
    }
}

/// Waits for events, at most for `timeout`. It asks `spin` times before it sleeps: whoever is woken often pays more for
/// that than for asking, and waits longer.
fn wait(
    poll: &mut Poll,
    events: &mut Events,
    spin: u32,
    timeout: Option<Duration>,
) -> io::Result<()> {
    let spin = if timeout == Some(Duration::ZERO) { 0 } else { spin };
    for _ in 0..spin {
        poll.poll(events, Some(Duration::ZERO))?;
        if !events.is_empty() {
            return Ok(());
        }
    }
    poll.poll(events, timeout)
}

impl<'a> Worker<'a> {
    fn new(station: &Station, job: &'a Job) -> Self {
        let registry = match station.poll.registry().try_clone() {
            Ok(registry) => registry,
            Err(error) => panic!("the poll cannot be shared: {error}"),
        };
        let mut engine = Engine::new(
            Sockets::new(registry, job.boot.tcp.congestion.clone()),
            job.workers.peers.len(),
            Arc::clone(&job.shared),
            Arc::clone(&job.workers.peers[job.me].counters),
        );
        engine.record_in(Arc::clone(&job.workers.peers[job.me].recorder));
        engine.seed(RandomState::new().build_hasher().finish());
        Worker {
            job,
            engine,
            generation: None,
            stage: Stage::Running,
            is_empty: false,
            parked: None,
            asked: job.me,
            dates: Dates::new(Tick(0), SystemTime::now()),
            dated_at: Tick(0),
            hand_over_at: None,
            let_idle_go_at: None,
            quiet_until: Tick(0),
        }
    }

    /// Once a turn for those who need to know it, else now and then.
    fn read_wall_clock(&mut self, now: Tick, is_logging: bool, names_requests: bool) {
        if !is_logging && !names_requests && now < self.dated_at {
            return;
        }
        self.dated_at = now.after(DATE_TIME);
        let wall = SystemTime::now();
        if is_logging {
            self.dates.follow(now, wall);
        }
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.engine.set_wall_time(now, u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
    }

    fn now(&mut self) -> Tick {
        self.engine.net_mut().now()
    }

    fn peer(&self) -> &Peer {
        &self.job.workers.peers[self.job.me]
    }

    /// How long the poll may sleep; `None` is until something happens.
    fn timeout(&self, listeners: &Listeners, now: Tick) -> Option<Duration> {
        if self.engine.has_work() {
            return Some(Duration::ZERO);
        }
        let own = [self.hand_over_at, self.let_idle_go_at];
        let wakes = [self.engine.next_deadline(), listeners.next(now)].into_iter().chain(own);
        let wake = wakes.flatten().min();
        wake.map(|at| at.since(now))
    }

    fn mark(&mut self, events: &Events, listeners: &mut Listeners) {
        listeners.begin_turn();
        for event in events {
            match event.token() {
                WAKER => {}
                token @ mio::Token(FIRST_LISTENER..) => listeners.ready(token),
                mio::Token(bits) => {
                    self.engine.ready(Token::from_bits(bits as u64), net::readiness(event));
                }
            }
        }
    }

    /// Takes over the connections that others accepted for this worker.
    fn take_over(&mut self, now: Tick) {
        while let Some((stream, ends)) = self.peer().handed_over.pop() {
            self.engine.accept(stream, ends, now);
        }
    }

    fn accept(&mut self, station: &mut Station, now: Tick) {
        if self.parked.is_some() && self.has_room() {
            station.listeners.resume();
        }
        if station.listeners.next(now).is_none_or(|at| at > now) {
            return;
        }
        let parked = self.parked.take();
        let mut has_room = parked.is_none_or(|(stream, ends)| self.admit(stream, ends, now));
        if has_room {
            station.listeners.accept(station.poll.registry(), now, |accepted| {
                has_room = match accepted {
                    Accepted::One(stream, ends) => self.admit(stream, ends, now),
                    Accepted::Failed(error) => self.make_room(&error, now),
                    Accepted::NoMore => true,
                };
                has_room
            });
        }
        if !has_room {
            station.listeners.pause(now);
        }
    }

    fn has_room(&self) -> bool {
        self.job.workers.connections() < self.job.workers.cap()
    }

    /// Gives a fresh connection a worker, in the place of an idle one if there is no other room. `false` if it
    /// has to wait.
    fn admit(&mut self, stream: Socket, ends: Ends, now: Tick) -> bool {
        if self.has_room() || self.evict_idle() {
            return self.place(stream, ends, now);
        }
        self.parked = Some((stream, ends));
        self.ask_for_room();
        false
    }

    /// Closes an idle connection of this worker. Its room is free at once.
    fn evict_idle(&mut self) -> bool {
        let evicted = self.engine.evict_idle();
        self.settle_closed();
        evicted
    }

    /// Asks another worker, each time the next, to close one of its idle connections.
    fn ask_for_room(&mut self) {
        let peers = &self.job.workers.peers;
        self.asked = (self.asked + 1) % peers.len();
        if self.asked == self.job.me {
            self.asked = (self.asked + 1) % peers.len();
        }
        if self.asked != self.job.me {
            peers[self.asked].asked_by.store(self.job.me + 1, Ordering::Release);
            // If this fails it is found at that worker's next event.
            let _ = peers[self.asked].waker.wake();
        }
    }

    /// Closes an idle connection for a worker that asked for it, and says for which.
    fn give_room(&mut self) -> Option<usize> {
        let workers = &*self.job.workers;
        if self.peer().asked_by.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let asker = self.peer().asked_by.swap(0, Ordering::Acquire).checked_sub(1)?;
        let evicted = workers.connections() >= workers.cap() && self.engine.evict_idle();
        evicted.then_some(asker)
    }

    /// Gives a fresh connection to the worker with the fewest. `false` if this one could not take it: no more is accepted
    /// for a moment then.
    fn place(&mut self, stream: Socket, ends: Ends, now: Tick) -> bool {
        let workers = &*self.job.workers;
        let to = workers.least_loaded(self.job.me);
        workers.peers[to].load.fetch_add(1, Ordering::Relaxed);
        if to == self.job.me {
            return self.engine.accept(stream, ends, now);
        }
        if let Err((stream, ends)) = workers.peers[to].handed_over.push((stream, ends)) {
            workers.peers[to].load.fetch_sub(1, Ordering::Relaxed);
            self.peer().load.fetch_add(1, Ordering::Relaxed);
            return self.engine.accept(stream, ends, now);
        }
        // If this fails the connection waits for that worker's next event.
        let _ = workers.peers[to].waker.wake();
        true
    }

    /// Accepting failed. If something is short an idle connection makes room; else, or without one, accepting pauses.
    fn make_room(&mut self, error: &io::Error, now: Tick) -> bool {
        let short = Shortage::of(error).is_some_and(Shortage::gives_way);
        if short {
            self.peer().counters.shortages.bump();
        }
        let freed = short && self.engine.free_descriptor();
        self.settle_closed();
        if self.quiet_until <= now {
            self.quiet_until = now.after(QUIET);
            let remedy = match short {
                true => "raise the limit (ulimit -n) or lower limits.connections",
                false => "look for a packet filter or a security module that forbids it",
            };
            log::warn!("no new connection is accepted: {error}; {remedy}");
        }
        freed
    }

    /// Subtracts the connections that ended from the count. Returns whether there were any.
    fn settle_closed(&mut self) -> bool {
        let closed = self.engine.take_closed();
        if closed > 0 {
            self.peer().load.fetch_sub(closed, Ordering::Relaxed);
        }
        closed > 0
    }

    /// Publishes the results of the turn: closed connections, reports.
    fn settle(&mut self, listeners: &mut Listeners) {
        if self.settle_closed() {
            listeners.resume();
        }
        for (endpoint, report) in self.engine.take_reports() {
            (self.job.report)(endpoint, report);
        }
    }

    /// Gives the access log's entries to the writer when there are many or the first has waited long enough.
    fn hand_entries_over(&mut self, outlet: Option<&Outlet>, now: Tick, done: bool) {
        let (Some(outlet), Some(batch)) = (outlet, self.engine.access_batch()) else { return };
        if batch.is_empty() {
            return;
        }
        let due = self.hand_over_at.get_or_insert(now.after(BATCH_TIME));
        if done || batch.is_full() || *due <= now {
            let entries = batch.len() as u64;
            if !outlet.hand_over(&self.dates, batch) {
                self.peer().counters.entries_lost.add(entries);
            }
            self.hand_over_at = None;
        }
    }

    /// Does what the main thread sent it to do.
    fn run_errands(&mut self, station: &mut Station, now: Tick) {
        while let Some(errand) = self.peer().errands.pop() {
            match errand {
                Errand::Listen(id, socket) if !station.left => {
                    if let Err(error) = station.listeners.add(id, socket, station.poll.registry()) {
                        log::error!(
                            "worker {} cannot listen on one more address: {error}",
                            self.job.me
                        );
                    }
                }
                // It is stopping.
                Errand::Listen(..) | Errand::Beat => {}
                Errand::Return => (station.left, self.is_empty) = (false, false),
                Errand::Unlisten(id) => {
                    station.listeners.remove(id, station.poll.registry(), |stream, ends| {
                        self.job.workers.peers[self.job.me].load.fetch_add(1, Ordering::Relaxed);
                        self.engine.accept(stream, ends, now);
                    });
                }
                Errand::Release(id) => station.listeners.release(id, station.poll.registry()),
                Errand::Lend(borrower) => {
                    // Whoever asked may have stopped waiting.
                    let _ = borrower.send(station.listeners.lend());
                }
                Errand::Log(outlet) => {
                    self.hand_entries_over(station.outlet.as_ref(), now, true);
                    station.outlet = outlet;
                }
            }
            let peer = &self.job.workers.peers[self.job.me];
            peer.listeners.store(station.listeners.count(), Ordering::Relaxed);
            peer.run.fetch_add(1, Ordering::Release);
        }
    }

    /// Does what a stop asks for, or takes it back. `true` when this worker is done.
    fn follow_stage(&mut self, station: &mut Station, now: Tick) -> bool {
        let workers = &*self.job.workers;
        let stage = workers.stage();
        if stage >= Stage::Draining && !station.left {
            let mut take = |(stream, ends)| {
                self.job.workers.peers[self.job.me].load.fetch_add(1, Ordering::Relaxed);
                self.engine.accept(stream, ends, now);
            };
            self.parked.take().into_iter().for_each(&mut take);
            let registry = station.poll.registry();
            station.listeners.close(registry, |stream, ends| take((stream, ends)));
            station.left = true;
            if workers.stages.leave() {
                // No worker hands connections over from now on: the others may have nothing left to finish.
                workers.wake();
            }
        }
        if stage < self.stage {
            // It was taken back, and may have begun again since.
            self.engine.return_to_service(now);
            self.let_idle_go_at = None;
        }
        if stage != self.stage {
            self.stage = stage;
            match stage {
                Stage::Leaving => self.engine.leave(),
                Stage::Draining => {
                    self.engine.leave();
                    self.let_idle_go_at = Some(now.after(workers.patience()));
                }
                Stage::Running | Stage::Stopping => {}
            }
        }
        if self.let_idle_go_at.is_some_and(|at| at <= now) {
            self.let_idle_go_at = None;
            self.engine.drain(now);
        }
        if stage == Stage::Draining && !self.is_empty {
            // One that was just accepted may have been closed already.
            self.settle_closed();
            self.is_empty = self.engine.client_count() == 0
                && workers.stages.all_left()
                && self.peer().handed_over.is_empty();
            if self.is_empty {
                (self.job.emptied)();
            }
        }
        stage == Stage::Stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_is_counted_and_goes_on_with_its_listener() {
        let listener =
            listener::claim(([127, 0, 0, 1], 0).into(), Default::default(), &Default::default())
                .and_then(|claim| claim.listen(1))
                .unwrap()
                .remove(0);
        let address = listener.local_addr().unwrap();
        let poll = Poll::new().unwrap();
        let mut listeners = Listeners::new(FIRST_LISTENER);
        listeners.add(ListenerId(0), listener, poll.registry()).unwrap();
        let mut station = Station { poll, listeners, outlet: None, left: false };
        let panics = AtomicU64::new(0);
        let client = std::net::TcpStream::connect(address).unwrap();
        let mut accepted = None;
        let mut lives = 0;
        supervise(0, &panics, || {
            lives += 1;
            assert!(lives > 1, "the first life ends in a panic");
            station.listeners.accept(station.poll.registry(), Tick(0), |one| {
                if let Accepted::One(_, ends) = one {
                    accepted = Some(ends.client);
                }
                true
            });
        });
        assert_eq!(accepted, Some(client.local_addr().unwrap()));
        assert_eq!((lives, panics.into_inner()), (2, 1));
    }

    #[test]
    fn spinning_does_not_change_which_events_arrive() {
        for spin in [0, 1, 1_000] {
            let mut poll = Poll::new().unwrap();
            let mut events = Events::with_capacity(8);
            let nap = Duration::from_millis(20);
            let started = std::time::Instant::now();
            wait(&mut poll, &mut events, spin, Some(nap)).unwrap();
            assert!(events.is_empty() && started.elapsed() >= nap);
            let waker = Waker::new(poll.registry(), WAKER).unwrap();
            waker.wake().unwrap();
            for timeout in [None, Some(Duration::ZERO)] {
                waker.wake().unwrap();
                wait(&mut poll, &mut events, spin, timeout).unwrap();
                assert_eq!(
                    events.iter().map(mio::event::Event::token).collect::<Vec<_>>(),
                    [WAKER]
                );
            }
        }
    }
}
