//! The clock: which limit of a connection runs, and what is done when it is over.
//!
//! Which one runs follows from state alone, in one place for each side ([`Client::waits`], [`Upstream::waits`]), and only
//! [`Client::settle`] and [`Upstream::settle`] set deadlines. How long each is and what follows is in
//! [`waits`](super::waits). Invariant: whenever a connection has nothing to do, the limit that runs is the one that its state
//! asks for (`Engine::check_invariants`). A limit that is over has a last look at its sockets first.

use std::time::Duration;

use super::conn::{Conn, Hunger};
use super::keys::{ClientKey, UpstreamKey};
use super::pump::{Pump, Scratch};
use super::tables::{Client, Closing, Upstream, UpstreamState};
use super::waits::{Lengths, Moved, Verdict, Waits, begins_again, verdict};
use super::{EVICTION_GRACE, Net, Token};
use crate::balance::Report;
use crate::base::tick::Tick;
use crate::base::wheel::{Due, Wheel};
use crate::exchange::{Failure, Next, Output, Phase};
use crate::reason::Reason;

/// What it takes to have a limit run.
pub(super) struct Clock<'p> {
    pub(super) wheel: &'p mut Wheel<Token>,
    pub(super) lengths: &'p Lengths,
    pub(super) now: Tick,
}

/// The clock of a [`Pump`], of which a table may be borrowed at the same time.
macro_rules! clock {
    ($pump:expr) => {
        $crate::engine::clock::Clock {
            wheel: &mut $pump.wheel,
            lengths: &$pump.lengths,
            now: $pump.now,
        }
    };
}
pub(super) use clock;

impl Clock<'_> {
    #[inline]
    fn run<S>(&mut self, conn: &mut Conn<S>, token: Token, waits: Waits) {
        conn.set_limit(self.wheel, token, waits, self.lengths.end(waits, self.now));
    }
}

impl<S> Client<S> {
    /// Has the limit run that this connection now has.
    #[inline]
    pub(super) fn settle(&mut self, key: ClientKey, moved: Moved, clock: &mut Clock<'_>) {
        let waits = self.waits();
        if waits == self.conn.waits() && !begins_again(waits, moved) {
            return;
        }
        if waits == Waits::Idle {
            let evictable = Due::at(clock.now.after(EVICTION_GRACE));
            self.closing = Closing::Open { evictable };
        }
        clock.run(&mut self.conn, Token::Client(key), waits);
    }

    /// What it is that this connection waits for.
    #[inline]
    pub(super) fn waits(&self) -> Waits {
        if self.conn.outbox.is_some() {
            return Waits::Reader;
        }
        match self.closing {
            Closing::Lingering => return Waits::Linger,
            Closing::Reset { .. } => return Waits::Unsent,
            // Its end begins now.
            Closing::AfterFlush | Closing::Linger => return Waits::Nobody,
            Closing::Open { .. } => {}
        }
        match self.exchange.flow.phase() {
            Phase::Idle if self.head_begun => Waits::RequestHead,
            Phase::Idle => Waits::Idle,
            Phase::Upload if self.exchange.answered && self.exchange.upstream.is_none() => {
                Waits::Leftover
            }
            Phase::Request | Phase::Both | Phase::Upload => Waits::RequestBody,
            Phase::Tunnel => Waits::Tunnel,
            Phase::Awaited | Phase::Response | Phase::Over
                if self.conn.read_closed && !self.exchange.answered =>
            {
                Waits::Grace
            }
            Phase::Awaited | Phase::Response | Phase::Over => Waits::Nobody,
        }
    }
}

impl<S> Upstream<S> {
    /// Has the limit run that this connection now has; `client` is the one whose request it carries.
    #[inline]
    pub(super) fn settle(
        &mut self,
        key: UpstreamKey,
        client: Option<&Client<S>>,
        moved: Moved,
        clock: &mut Clock<'_>,
    ) {
        if let (Moved::Written, Some(busy)) = (moved, self.busy_mut()) {
            // It is there, and has its whole time again.
            busy.last_words = false;
        }
        let waits = self.waits(client);
        if waits != self.conn.waits() || begins_again(waits, moved) {
            clock.run(&mut self.conn, Token::Upstream(key), waits);
        }
    }

    /// What it is that this connection waits for; `client` is the one whose request it carries.
    #[inline]
    pub(super) fn waits(&self, client: Option<&Client<S>>) -> Waits {
        let busy = match &self.state {
            UpstreamState::Connecting(_) => return Waits::Connect,
            UpstreamState::Pooled { brief: true } => return Waits::PooledBriefly,
            UpstreamState::Pooled { brief: false } => return Waits::Pooled,
            UpstreamState::Parting => return Waits::Parting,
            UpstreamState::Busy(busy) => busy,
        };
        // Nobody's: it is about to end.
        let Some(client) = client else { return Waits::Nobody };
        if client.exchange.answered {
            return Waits::Upload;
        }
        match client.exchange.flow.phase() {
            Phase::Idle => Waits::Pooled,
            Phase::Request | Phase::Awaited if busy.last_words => Waits::LastWords,
            Phase::Request | Phase::Awaited => Waits::ResponseHead,
            Phase::Tunnel => Waits::Tunnel,
            Phase::Both | Phase::Response | Phase::Upload | Phase::Over => Waits::ResponseBody,
        }
    }
}

impl<N: Net> Pump<N> {
    /// Has the limit run that a client's connection now has.
    pub(super) fn settle_client(&mut self, key: ClientKey, moved: Moved) {
        if let Some(client) = self.clients.get_mut(key) {
            client.settle(key, moved, &mut clock!(self));
        }
    }

    /// Likewise an upstream connection.
    pub(super) fn settle_upstream(&mut self, key: UpstreamKey, moved: Moved) {
        if let Some(upstream) = self.upstreams.get_mut(key) {
            let client = upstream.client().and_then(|owner| self.clients.get(owner));
            upstream.settle(key, client, moved, &mut clock!(self));
        }
    }

    /// Gives a client whose side has ended, if it waits for its target, some time from now on: it may have half-closed.
    pub(super) fn begin_grace(&mut self, key: ClientKey, moved: Moved) {
        let Some(client) = self.clients.get(key).filter(|it| it.waits() == Waits::Grace) else {
            return;
        };
        let upstream = client.exchange.upstream.and_then(|at| self.upstreams.get(at));
        // If more of its response is here it does not wait for its target.
        let more_is_here = upstream.is_some_and(|upstream| upstream.conn.readable);
        if self.snapshot.plan.timeouts.client_gone == Some(Duration::ZERO) && !more_is_here {
            return self.give_up(key);
        }
        self.settle_client(key, moved);
    }

    pub(super) fn fire_timers(&mut self, scratch: &mut Scratch) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(self.now, &mut fired);
        for entry in fired.drain(..) {
            let Pump { clients, upstreams, wheel, now, .. } = self;
            let conn = match entry.key {
                Token::Client(key) => clients.get_mut(key).map(|client| &mut client.conn),
                Token::Upstream(key) => upstreams.get_mut(key).map(|upstream| &mut upstream.conn),
            };
            let Some(conn) = conn else { continue };
            if !conn.is_due(wheel, entry, *now) {
                if let Token::Upstream(key) = entry.key {
                    self.look_at_upload(key);
                }
                continue;
            }
            if conn.is_held_up() {
                conn.look_again(wheel, entry.key, *now);
                continue;
            }
            let deadline = conn.deadline();
            self.take_last_look(entry.key, scratch);
            if self.is_still_late(entry.key, deadline) {
                match entry.key {
                    Token::Client(key) => self.client_timed_out(key, &mut scratch.out),
                    Token::Upstream(key) => self.upstream_timed_out(key, &mut scratch.out),
                }
            }
        }
        self.fired = fired;
    }

    /// A last look at the sockets of an exchange whose time is over: what was waited for may be there although no event
    /// has said so, because events are many, or because a slow reader has taken less than the kernel has an event for.
    fn take_last_look(&mut self, token: Token, scratch: &mut Scratch) {
        let (client, upstream) = match token {
            Token::Client(key) => {
                (Some(key), self.clients.get(key).and_then(|client| client.exchange.upstream))
            }
            Token::Upstream(key) => (self.upstreams.get(key).and_then(Upstream::client), Some(key)),
        };
        let mut moved = 0;
        for token in
            [upstream.map(Token::Upstream), client.map(Token::Client)].into_iter().flatten()
        {
            let conn = match token {
                Token::Client(key) => self.clients.get_mut(key).map(|client| &mut client.conn),
                Token::Upstream(key) => {
                    self.upstreams.get_mut(key).map(|upstream| &mut upstream.conn)
                }
            };
            let Some(conn) = conn else { continue };
            conn.readable = true;
            conn.writable = true;
            // Whether there is anything is to be seen, whatever memory there is for it.
            conn.hunger = Hunger::Fed;
            match token {
                Token::Client(key) => self.run_client(key, true, scratch),
                Token::Upstream(key) => self.run_upstream(key, scratch),
            }
            moved += self.moved;
        }
        if moved > 0 {
            self.settle_tunnel(client, upstream);
        }
    }

    /// Whether the last look has changed nothing for the connection whose time was over then. It may have found work for it,
    /// or have failed for lack of memory: then the time is over when that is done.
    fn is_still_late(&mut self, token: Token, deadline: Due) -> bool {
        let other_waits = self.other_waits_for_memory(token);
        let Pump { clients, upstreams, wheel, now, .. } = self;
        let (conn, other_is_short) = match token {
            Token::Client(key) => {
                let client = clients.get_mut(key);
                let other = client.as_ref().and_then(|client| client.exchange.upstream);
                let short = other.and_then(|at| upstreams.get(at)).is_some_and(|at| at.conn.short);
                (client.map(|client| &mut client.conn), short)
            }
            Token::Upstream(key) => {
                let upstream = upstreams.get_mut(key);
                let other = upstream.as_ref().and_then(|upstream| upstream.client());
                let short = other.and_then(|at| clients.get(at)).is_some_and(|at| at.conn.short);
                (upstream.map(|upstream| &mut upstream.conn), short)
            }
        };
        // It has ended in the last look.
        let Some(conn) = conn.filter(|conn| conn.deadline() == deadline) else { return false };
        let works = conn.is_held_up() || other_is_short || other_waits;
        if works {
            conn.look_again(wheel, token, *now);
        }
        !works
    }

    /// The limit of a client's connection is over.
    fn client_timed_out(&mut self, key: ClientKey, out: &mut Output) {
        let Some(client) = self.clients.get(key) else {
            return self.impossible("a client that runs is there");
        };
        let (waits, phase) = (client.conn.waits(), client.exchange.flow.phase());
        if waits == Waits::RequestBody && self.is_held_up_by_target(client) {
            return self.settle_client(key, Moved::Anew);
        }
        // Of a head of which nothing is left, as after an empty line, nothing is to be said.
        let is_blank = waits == Waits::RequestHead && client.conn.inbox.is_none();
        match verdict(waits, phase) {
            Verdict::Respond(_) if !is_blank => self.answer_timeout(key, out),
            Verdict::Close | Verdict::Respond(_) => {
                self.part(key);
                drop(self.forget_client(key));
            }
            Verdict::Cut => self.cut_client(key, Reason::RequestTimeout.into()),
            Verdict::Reset => match client.closing {
                Closing::Open { .. } => self.cut_at_once(key, Reason::ClientReadTimeout.into()),
                _ => self.reset_now(key),
            },
            Verdict::Abandon => self.give_up(key),
            Verdict::Finish => self.break_off_answered(key),
            Verdict::EndTunnel => self.end_idle_tunnel(key),
            Verdict::Look => self.reset_client(key),
            Verdict::Nothing
            | Verdict::NextEndpoint
            | Verdict::Fail(_)
            | Verdict::StopUpload
            | Verdict::Part => {
                self.impossible::<()>("the limit of a client's connection is one of a client");
            }
        }
    }

    /// Whether a client sends no more of its request because nobody takes it: its target has a limit of its own.
    fn is_held_up_by_target(&self, client: &Client<N::Conn>) -> bool {
        match client.exchange.upstream.and_then(|upstream| self.upstreams.get(upstream)) {
            Some(upstream) => !upstream.takes_more(),
            // It waits for a connection.
            None => client.exchange.hold.is_some(),
        }
    }

    /// The client was too slow with its request: 408, or a cut if it is too late for that.
    fn answer_timeout(&mut self, key: ClientKey, out: &mut Output) {
        out.clear();
        self.begin_entry_of_part(key);
        if let Some(client) = self.clients.get_mut(key) {
            match client.exchange.flow.client_timed_out(&self.rules, &mut client.half, out) {
                Next::Answered => self.send_answer(key, out),
                _ => self.cut_client(key, Reason::RequestTimeout.into()),
            }
        }
        self.queue_client(key);
    }

    /// The limit of an upstream connection is over.
    fn upstream_timed_out(&mut self, key: UpstreamKey, out: &mut Output) {
        let Some(upstream) = self.upstreams.get(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        let (waits, endpoint) = (upstream.conn.waits(), upstream.endpoint);
        let owner = upstream.client();
        let client = owner.and_then(|owner| self.clients.get(owner));
        if client.is_some_and(|client| is_clients_turn(waits, client, upstream)) {
            return self.settle_upstream(key, Moved::Anew);
        }
        let phase = client.map_or(Phase::Idle, |client| client.exchange.flow.phase());
        match (verdict(waits, phase), owner) {
            (Verdict::Close, None) => {
                self.pools.forget(endpoint, key, self.now);
                self.close_upstream(key);
            }
            (Verdict::Close, Some(owner)) => self.part(owner),
            (Verdict::Part, None) => self.parting_timed_out(key),
            (Verdict::NextEndpoint, Some(_)) => {
                let why = (Report::ConnectTimeout, Reason::ConnectionTimeout);
                self.connect_failed(key, why, out);
            }
            (Verdict::EndTunnel, Some(owner)) => self.end_idle_tunnel(owner),
            (Verdict::StopUpload, Some(owner)) => self.stop_upload(owner),
            (Verdict::Fail(failure), Some(owner)) => {
                if !self.is_given_more_time(key, failure) {
                    self.upstream_failed(owner, failure, out);
                }
            }
            _ => self.impossible("the limit of an upstream connection is one of a target"),
        }
    }

    /// Whether a target has its whole time again: its endpoint is back, or it has taken more of what the kernel holds. The last look
    /// has written what could be written; of what waits in the kernel nobody has said anything yet.
    fn is_given_more_time(&mut self, key: UpstreamKey, failure: Failure) -> bool {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        match failure {
            Failure::Down if self.pools.address(upstream.endpoint).is_some() => {
                upstream.busy_mut().into_iter().for_each(|busy| busy.last_words = false);
                self.settle_upstream(key, Moved::None);
                true
            }
            Failure::HeadTimeout if upstream.conn.outbox.is_none() => self.follow_upload(key),
            _ => false,
        }
    }
}

/// Whether the exchange waits for the client: it does not take the response, or has not sent its request.
pub(super) fn is_clients_turn<S>(waits: Waits, client: &Client<S>, upstream: &Upstream<S>) -> bool {
    let is_of_exchange = matches!(
        waits,
        Waits::ResponseHead | Waits::LastWords | Waits::ResponseBody | Waits::Upload
    );
    is_of_exchange
        && (client.conn.outbox.is_some() && waits != Waits::Upload
            || client.is_open()
                && client.exchange.flow.streams_to_upstream()
                && upstream.takes_more())
}
