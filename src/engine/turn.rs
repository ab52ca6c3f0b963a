//! One turn of the engine: who runs, for how long, and when time limits are looked at.
//!
//! It owns the ready lists and the engine's notion of time; what a connection does when it runs is in `requests` and
//! `responses`. Invariants: a turn is short whoever is in it: a connection runs for a slice, those that move much take turns
//! within [`BULK_TIME`], and what is left over waits for the next turn, behind the events that come meanwhile. Whatever
//! is ready runs before a time limit ends, and a limit that has ended has a last look at its socket. Time during which we
//! stood still counts against nobody.

use std::sync::Arc;
use std::time::Duration;

use super::keys::{ClientKey, UpstreamKey};
use super::pump::{Pump, Scratch};
use super::tables::{Then, Upstream, UpstreamState};
use super::waits::Moved;
use super::{Net, Token};
use crate::balance::Snapshot;
use crate::base::tick::Tick;

/// A connection that moves so many bytes at once is bulk: it runs behind those that do not.
pub(super) const BULK: usize = 16 * 1024;
/// What a bulk connection may move before the next one runs.
const SLICE: usize = 64 * 1024;
/// How long the bulk connections may run in one turn: so long does a small request wait for them, a few times. Looking at
/// the poll in between costs half a percent of that.
const BULK_TIME: Duration = Duration::from_micros(300);
/// Steps of a bulk connection that take longer are made smaller: one read of tiny chunks can cost as much as ten of others.
const SLICE_TIME: Duration = Duration::from_micros(200);
/// Steps that a connection may take before the others get theirs, however little they move.
const STEPS: usize = 16;
/// Connections that run before the clock is read again. It is read about every quarter of a millisecond then.
const RUNS: usize = 16;
/// Waking up so much later than asked for, or a step that takes so long, is a pause of ours: SIGSTOP, a suspended machine,
/// a busy host. Less than that is below what the time limits promise.
const STALL: Duration = Duration::from_millis(50);
impl<N: Net> Pump<N> {
    /// Does what can be done now, for about as long as a small request may wait: works through the upstream connections
    /// that are ready, so that what they free can be used again at once, then through the clients, then, for a while,
    /// through the connections that move much, and fires timers last.
    pub(super) fn turn(&mut self, now: Tick, snapshot: &Arc<Snapshot>, scratch: &mut Scratch) {
        self.observe(now);
        if snapshot.generation != self.snapshot.generation {
            self.follow(Arc::clone(snapshot));
            self.set_ids(&mut scratch.out);
        }
        if self.shared.asks.count() > self.asks_seen {
            self.follow_asks();
        }
        if self.pools.ask_at() <= self.now {
            self.ask_others();
        }
        self.retry_short(&mut scratch.out);
        self.note_requests();
        self.buffers.look();
        self.buffers.trim(self.now);
        self.feed();
        let idle = self.ready.is_empty();
        // Who becomes ready meanwhile runs in the next turn.
        let ready = self.ready.upstreams.len();
        for at in 0..ready {
            self.run_upstream(self.ready.upstreams[at], scratch);
            self.watch_clock(at);
        }
        self.ready.upstreams.drain(..ready);
        let ready = self.ready.clients.len();
        for at in 0..ready {
            self.run_client(self.ready.clients[at], false, scratch);
            self.watch_clock(at);
        }
        self.ready.clients.drain(..ready);
        self.run_bulk(scratch);
        if !idle {
            // A pause within the turn, which the time of the next deadline would hide, counts against nobody either.
            self.read_clock();
        }
        self.leave_the_lost(&mut scratch.out);
        self.fire_timers(scratch);
        self.follow_shortage();
    }

    /// Takes note of the time. If we stood still since it was last looked at, all time limits are so much later: what
    /// others did meanwhile has not been looked at yet, and what they did not do may have waited for us.
    pub(super) fn observe(&mut self, now: Tick) {
        if now > self.wake_by.get().after(STALL) {
            self.forgive(now.since(self.now));
        }
        self.now = self.now.max(now);
        self.wake_by.set(self.now);
    }

    fn forgive(&mut self, pause: Duration) {
        log::debug!("a worker stood still for {pause:?}: its time limits are as much later");
        let Pump { clients, upstreams, .. } = self;
        clients.values_mut().for_each(|client| client.conn.forgive(pause));
        upstreams.values_mut().for_each(|upstream| upstream.conn.forgive(pause));
    }

    /// Reads the clock again in a long turn, so that limits count from when they begin.
    fn watch_clock(&mut self, runs: usize) {
        if runs % RUNS == RUNS - 1 {
            self.read_clock();
        }
    }

    pub(super) fn read_clock(&mut self) {
        let now = self.net.now();
        self.observe(now);
    }

    /// Lets a client's connection run, because it is ready or for a last look: until it has nothing more to do, or its share of
    /// the turn is used up.
    pub(super) fn run_client(&mut self, key: ClientKey, last_look: bool, scratch: &mut Scratch) {
        // It has gone meanwhile.
        let Some(client) = self.clients.get_mut(key) else { return };
        client.conn.queued = false;
        client.conn.bulk = false;
        if client.conn.broken {
            // It left: its target is free at once.
            return self.drop_client(key);
        }
        let ended = client.conn.read_closed;
        self.moved = 0;
        for _ in 0..STEPS {
            if self.client_step(key, scratch) == Then::Wait {
                self.mark_bulk(Token::Client(key));
                if ended && !last_look {
                    self.begin_grace(key, Moved::None);
                }
                return;
            }
            if self.moved >= SLICE {
                break;
            }
        }
        self.mark_bulk(Token::Client(key));
        self.queue_client(key);
    }

    /// Lets an upstream connection run.
    pub(super) fn run_upstream(&mut self, key: UpstreamKey, scratch: &mut Scratch) {
        // It has gone meanwhile.
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        upstream.conn.queued = false;
        upstream.conn.bulk = false;
        self.moved = 0;
        if matches!(upstream.state, UpstreamState::Connecting(_))
            && !self.end_connect(key, &mut scratch.out)
        {
            return;
        }
        for _ in 0..STEPS {
            if self.upstream_step(key, scratch) == Then::Wait {
                return self.mark_bulk(Token::Upstream(key));
            }
            if self.moved >= SLICE {
                break;
            }
        }
        self.mark_bulk(Token::Upstream(key));
        self.queue_upstream(key);
    }

    /// Marks the connection, and the one it moved bytes to, if it moved much. The mark lasts until it runs again.
    fn mark_bulk(&mut self, token: Token) {
        if self.moved < BULK {
            return;
        }
        let Pump { clients, upstreams, .. } = self;
        let (client, upstream) = match token {
            Token::Client(key) => {
                (Some(key), clients.get(key).and_then(|client| client.exchange.upstream))
            }
            Token::Upstream(key) => (upstreams.get(key).and_then(Upstream::client), Some(key)),
        };
        if let Some(client) = client.and_then(|key| clients.get_mut(key)) {
            client.conn.bulk = true;
        }
        if let Some(upstream) = upstream.and_then(|key| upstreams.get_mut(key)) {
            upstream.conn.bulk = upstream.client().is_some();
        }
    }

    /// Runs those that move much, one slice each, until the time for them is over; the others are first next time.
    fn run_bulk(&mut self, scratch: &mut Scratch) {
        if self.ready.bulk.is_empty() {
            return;
        }
        self.read_clock();
        let until = self.now.after(BULK_TIME);
        for _ in 0..self.ready.bulk.len() {
            // Those of this turn are done.
            let Some(token) = self.ready.bulk.pop_front() else { return };
            let before = self.now;
            match token {
                Token::Client(key) => self.run_client(key, false, scratch),
                Token::Upstream(key) => self.run_upstream(key, scratch),
            }
            self.read_clock();
            if self.now.since(before) > SLICE_TIME {
                self.shrink_steps(token);
            }
            if self.now >= until {
                return;
            }
        }
    }

    /// What a connection reads at once is what the other side takes at once.
    fn shrink_steps(&mut self, token: Token) {
        let Pump { clients, upstreams, .. } = self;
        let reader = match token {
            Token::Client(key) => {
                let upstream = clients.get(key).and_then(|client| client.exchange.upstream);
                upstream.and_then(|at| upstreams.get_mut(at)).map(|upstream| &mut upstream.conn)
            }
            Token::Upstream(key) => {
                let client = upstreams.get(key).and_then(Upstream::client);
                client.and_then(|at| clients.get_mut(at)).map(|client| &mut client.conn)
            }
        };
        reader.into_iter().for_each(super::conn::Conn::shrink_window);
    }

    pub(super) fn queue_client(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key)
            && !std::mem::replace(&mut client.conn.queued, true)
        {
            match client.conn.bulk {
                true => self.ready.bulk.push_back(Token::Client(key)),
                false => self.ready.clients.push(key),
            }
        }
    }

    pub(super) fn queue_upstream(&mut self, key: UpstreamKey) {
        if let Some(upstream) = self.upstreams.get_mut(key)
            && !std::mem::replace(&mut upstream.conn.queued, true)
        {
            match upstream.conn.bulk {
                true => self.ready.bulk.push_back(Token::Upstream(key)),
                false => self.ready.upstreams.push(key),
            }
        }
    }
}
