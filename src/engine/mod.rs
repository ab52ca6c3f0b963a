//! The connections of one worker and the pump between them. Generic over its network ([`Net`]), so that the
//! whole worker runs under simulation; time and the snapshot come in as arguments of [`Engine::turn`].
//!
//! It owns both kinds of connection, the idle pools, the timer wheel and all buffers. It does not own the
//! protocol (that is `exchange`), the choice of an endpoint (`balance`), or sockets and threads (`worker`).
//!
//! Invariants: a client connection and an upstream connection that belong together name each other; an
//! upstream connection that belongs to nobody is idle in exactly one pool or waits for its end; a message is
//! written only when nothing of an earlier one waits; whoever is slow stops the reading on the other side.

mod clock;
mod conn;
mod connects;
mod early;
mod endings;
mod entries;
mod failures;
mod hint;
mod keys;
mod memory;
mod net;
mod parting;
mod patient;
mod pools;
mod progress;
mod pump;
mod requests;
mod responses;
mod shortage;
mod streaks;
mod tables;
mod tunnels;
mod turn;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use crate::access::Batch;
use crate::access::recorder::FlightRecorder;
use crate::balance::{EndpointId, Report, Shared, Snapshot};
use crate::base::tick::Tick;
use crate::metrics::WorkerCounters;

pub use keys::{ClientKey, UpstreamKey};
pub use net::{Ends, Net, Readiness, Token};
use pump::{Pump, Scratch};

/// How long an idle client connection lives on after the drain has begun: long enough for a request that
/// was already on its way.
pub const DRAIN_GRACE: Duration = Duration::from_millis(500);
/// How long a client may read its last answer while we discard what it still sends.
pub const LINGER: Duration = Duration::from_secs(5);
/// How long a client connection must have been idle before it may be closed to make room for another.
pub const EVICTION_GRACE: Duration = Duration::from_millis(50);
/// All connections of one worker.
pub struct Engine<N: Net> {
    pump: Pump<N>,
    scratch: Scratch,
}

impl<N: Net> Engine<N> {
    /// An engine without connections, one of so many `workers`, by the plan of the snapshot that is published.
    pub fn new(net: N, workers: usize, shared: Arc<Shared>, counters: WorkerCounters) -> Self {
        let pump = Pump::new(net, workers, shared, counters);
        let mut scratch = Scratch::new();
        pump.set_ids(&mut scratch.out);
        Engine { pump, scratch }
    }

    /// Sets where the random numbers in names of requests begin: elsewhere than those of any other engine.
    pub fn seed(&mut self, seed: u64) {
        self.scratch.out.ids.seed(seed);
    }

    /// Says how many microseconds `now` is since 1970: before each turn with a plan that has names of requests, which are made of
    /// it, and now and then for the flight recorder.
    pub fn set_wall_time(&mut self, now: Tick, micros: u64) {
        self.scratch.out.ids.set_time(micros);
        self.pump.entries.origin = micros.saturating_sub(now.0);
    }

    /// Has the flight recorder of its worker get its exchanges; it has one of its own until then.
    pub fn record_in(&mut self, recorder: Arc<FlightRecorder>) {
        self.pump.entries.record_in(recorder);
    }

    /// Sets how many connections of both sides there may be: one more takes the place of an idle one to a target.
    pub fn limit_sockets(&mut self, sockets: usize) {
        self.pump.sockets = sockets;
    }

    /// Takes a fresh client connection on. `false` if the event queue has no room for it: it is closed then, and it is better
    /// to take no more for a moment.
    pub fn accept(&mut self, socket: N::Conn, ends: Ends, now: Tick) -> bool {
        self.pump.accept(socket, ends, now)
    }

    /// Remembers what an event says. The work is done by the next [`Engine::turn`].
    pub fn ready(&mut self, token: Token, readiness: Readiness) {
        self.pump.ready(token, readiness);
    }

    /// Does what can be done now, for about as long as a small request may wait: works through the upstream connections
    /// that are ready, so that what they free can be used again at once, then through the clients, then, for a while,
    /// through the connections that move much, and fires timers last.
    pub fn turn(&mut self, now: Tick, snapshot: &Arc<Snapshot>) {
        self.pump.turn(now, snapshot, &mut self.scratch);
    }

    /// Whether the next turn has work even without events.
    pub fn has_work(&self) -> bool {
        !self.pump.ready.is_empty()
    }

    /// When the next turn is due even without events: ask it before you wait, since a turn that comes much later than that,
    /// or than the one before if this was not asked, is taken for a pause of the whole worker.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.pump.next_deadline()
    }

    /// Responses end their connections from now on.
    pub fn leave(&mut self) {
        self.pump.leave();
    }

    /// Begins to stop: responses end their connections, idle connections live on for [`DRAIN_GRACE`].
    pub fn drain(&mut self, now: Tick) {
        self.pump.drain(now);
    }

    /// Takes [`Engine::leave`] and [`Engine::drain`] back: responses keep their connections again, but for those that have
    /// said otherwise, and idle connections have their whole limit, from now on.
    pub fn return_to_service(&mut self, now: Tick) {
        self.pump.return_to_service(now);
    }

    /// Cuts every exchange that is under way: nobody waits for its end any more.
    pub fn cut_all(&mut self) {
        self.pump.cut_all();
    }

    /// Frees a descriptor: that of an idle upstream connection or one that is of no more use, or else an idle client's. `false`
    /// if there is none.
    pub fn free_descriptor(&mut self) -> bool {
        self.pump.free_descriptor()
    }

    /// Closes an idle client connection, the one that was idle longest among those looked at, to make room.
    /// One that fell idle just now, or was accepted just now, is spared: its request may be on its way. So is one whose
    /// request is here although no event has said so yet. `false` if none was found.
    pub fn evict_idle(&mut self) -> bool {
        self.pump.evict_idle()
    }

    /// Client connections there are.
    pub fn client_count(&self) -> usize {
        self.pump.clients.len()
    }

    /// Upstream connections there are, idle ones included.
    pub fn upstream_count(&self) -> usize {
        self.pump.upstreams.len()
    }

    /// Upstream connections that are idle.
    pub fn idle_upstream_count(&self) -> usize {
        self.pump.pools.len()
    }

    /// Buffers that connections hold.
    pub fn lent_buffers(&self) -> usize {
        self.pump.buffers.lent()
    }

    /// Bytes of pages that are there for buffers, lent or not.
    pub fn mapped_bytes(&self) -> usize {
        self.pump.buffers.mapped()
    }

    /// How many client connections ended since this was last asked.
    pub fn take_closed(&mut self) -> usize {
        std::mem::take(&mut self.pump.closed)
    }

    /// What endpoints did wrong since this was last asked, for the health thread.
    pub fn take_reports(&mut self) -> std::vec::Drain<'_, (EndpointId, Report)> {
        self.pump.reports.drain(..)
    }

    /// The entries gathered so far, for the worker to hand over; `None` while the access log is off.
    pub fn access_batch(&mut self) -> Option<&mut Batch> {
        self.pump.entries.batch()
    }

    /// The network, for a simulation to play with.
    pub fn net_mut(&mut self) -> &mut N {
        &mut self.pump.net.net
    }

    /// Checks that the connections' links agree; for simulations and tests.
    ///
    /// # Panics
    /// If they do not.
    pub fn check_invariants(&self) {
        self.pump.check_invariants();
    }
}

#[cfg(test)]
mod tests {
    use super::tables::{Client, Upstream};

    /// The production socket is a descriptor.
    type Socket = i32;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Client<Socket>>() <= 192, "{}", size_of::<Client<Socket>>());
        assert!(size_of::<Upstream<Socket>>() <= 64, "{}", size_of::<Upstream<Socket>>());
    }
}
