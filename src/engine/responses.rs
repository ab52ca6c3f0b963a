//! Responses: read from a target, or made here, and written to the client.

use super::Net;
use super::clock::clock;
use super::conn::{Filled, Hunger, PEEK};
use super::keys::{ClientKey, UpstreamKey};
use super::pools::{Matured, WholeResponse};
use super::pump::{Pump, Scratch};
use super::tables::{Busy, Exchange, Then, UpstreamState};
use super::waits::Moved;
use crate::access::End;
use crate::balance::{Report, Streak};
use crate::base::ledger::Level;
use crate::base::tick::Tick;
use crate::exchange::{Ending, Failure, Halves, Next, Output, Reuse, Step};
use crate::metrics::traffic::Way;
use crate::reason::Reason;

impl<N: Net> Pump<N> {
    /// One step of an upstream connection: writes what waits for the target, then, depending on what the connection carries, reads
    /// the response of an exchange, or looks whether something came that nobody asked for. [`Then::Again`] if it read: there may
    /// be more.
    pub(super) fn upstream_step(&mut self, key: UpstreamKey, scratch: &mut Scratch) -> Then {
        if !self.may_be_written(key, &mut scratch.out) {
            return Then::Wait;
        }
        self.flush_upstream(key);
        // It was closed by that flush: its response was whole, and the end of the upload was all that it was still for.
        let Some(upstream) = self.upstreams.get(key) else { return Then::Wait };
        let Some(owner) = upstream.client() else {
            self.look_at_idle(key, &mut scratch.read);
            return Then::Wait;
        };
        let Some(client) = self.clients.get(owner) else {
            return self.impossible("a client and its upstream connection name each other");
        };
        if client.exchange.answered {
            self.look_at_answered(key, owner, &mut scratch.read);
            return Then::Wait;
        }
        if client.conn.outbox.is_some() || upstream.ended {
            return Then::Wait;
        }
        if client.exchange.flow.is_idle() {
            self.look_at_private(key, owner, &mut scratch.read);
            return Then::Wait;
        }
        if self.buffers.level() >= Level::Scarce
            && self.response_waits(key, owner, &mut scratch.out)
        {
            return Then::Wait;
        }
        self.upstream_read(key, owner, scratch)
    }

    /// An idle connection of a pool is readable: it has ended, or the target sent a response that nobody asked for. Either way it
    /// is closed.
    fn look_at_idle(&mut self, key: UpstreamKey, read: &mut [u8]) {
        let Pump { upstreams, net, buffers, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        let filled = upstream.conn.fill(net, buffers, read, PEEK);
        if matches!(filled, Filled::Nothing) {
            return;
        }
        let endpoint = upstream.endpoint;
        let age = self.pools.forget(endpoint, key, self.now);
        if let (Filled::End, Some(age)) = (filled, age) {
            self.pools.closed_idle(endpoint, age);
        }
        self.close_upstream(key);
    }

    /// Likewise an idle connection that serves one client alone ([`Reuse::Private`]).
    fn look_at_private(&mut self, key: UpstreamKey, owner: ClientKey, read: &mut [u8]) {
        let Pump { upstreams, net, buffers, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        if !matches!(upstream.conn.fill(net, buffers, read, PEEK), Filled::Nothing) {
            self.part(owner);
        }
    }

    /// Reads once from the target of an exchange, and does what the exchange makes of it.
    fn upstream_read(&mut self, key: UpstreamKey, owner: ClientKey, scratch: &mut Scratch) -> Then {
        let Pump { clients, upstreams, net, buffers, rules, .. } = self;
        let Scratch { read, out } = scratch;
        let (Some(upstream), Some(client)) = (upstreams.get_mut(key), clients.get_mut(owner))
        else {
            return self.impossible("a client and its upstream connection name each other");
        };
        upstream.conn.hunger = Hunger::No;
        let limit = buffers.allow(client.conn.window());
        let count = match upstream.conn.fill(net, buffers, read, limit) {
            Filled::Bytes(count) => count,
            Filled::Nothing => return Then::Wait,
            Filled::End => {
                self.upstream_ended(key, owner, out);
                return Then::Wait;
            }
            Filled::Broken => {
                self.upstream_failed(owner, Failure::Reset, out);
                return Then::Wait;
            }
        };
        let input = &mut read[..count];
        self.moved += count;
        out.clear();
        if upstream.conn.outbox.is_some() {
            client.exchange.flow.answered_early(&mut client.exchange.half);
        }
        let Exchange { flow, half: target, .. } = &mut client.exchange;
        let halves = Halves { client: &mut client.half, target };
        let awaited = flow.awaits_response();
        let step = flow.upstream_bytes(rules, halves, input, out);
        let begins = awaited && !flow.awaits_response();
        let traffic = &self.counters.traffic;
        traffic.moved(Way::FromTargets, step.consumed);
        if let Some(entry) = &mut client.exchange.entry {
            entry.bytes_out += step.body.len() as u64;
            if begins {
                entry.begin_response(self.now, &traffic.first_bytes);
            }
        }
        if upstream.fresh && matches!(step.next, Next::ToClient | Next::Finished { .. }) {
            upstream.fresh = false;
            self.pools.matured(upstream.endpoint, key, Matured::Response, self.now);
        }
        self.upstream_act(key, owner, &step, input, out);
        // The exchange is over.
        let Some(upstream) = self.upstreams.get_mut(key).filter(|u| u.client() == Some(owner))
        else {
            return Then::Wait;
        };
        let starved = true; // bytes of a target are left only if more is needed behind them
        upstream.conn.keep(&mut self.buffers, &read[step.consumed..count], starved);
        Then::Again
    }

    /// Does what a step on bytes of a target asks for. `input` are these bytes, of which the step passes a part on.
    fn upstream_act(
        &mut self,
        key: UpstreamKey,
        owner: ClientKey,
        step: &Step,
        input: &[u8],
        out: &mut Output,
    ) {
        match step.next {
            Next::ToClient => {
                let body = out.join(&input[step.body.clone()]);
                self.respond(key, owner, [&out.head, body, &out.tail]);
            }
            Next::Finished { reuse } => {
                let body = out.join(&input[step.body.clone()]);
                self.finish(key, owner, reuse, [&out.head, body, &out.tail]);
            }
            Next::Failed(failure) => {
                if !step.body.is_empty() {
                    self.send_client(owner, [&out.head, &input[step.body.clone()], &out.tail]);
                }
                self.upstream_failed(owner, failure, out);
            }
            Next::NeedMore => {}
            Next::NeedUpstream | Next::ToUpstream | Next::Answered | Next::ClientBroke => {
                self.impossible::<()>("bytes of a target ask for what is done with a response");
            }
        }
    }

    /// Part of a response goes to the client.
    fn respond(&mut self, key: UpstreamKey, owner: ClientKey, pieces: [&[u8]; 3]) {
        self.settle_upstream(key, Moved::Read);
        let Pump { clients, upstreams, buffers, .. } = self;
        let (Some(upstream), Some(client)) = (upstreams.get_mut(key), clients.get_mut(owner))
        else {
            return self.impossible("a client and its upstream connection name each other");
        };
        if !client.exchange.flow.awaits_response() {
            client.exchange.let_go(buffers);
        }
        let tunnel = client.exchange.flow.is_tunnel();
        if tunnel && !pieces[0].is_empty() {
            // The 101: how a tunnel ends says nothing of its target.
            let reused = upstream.busy().is_some_and(|busy| busy.reused);
            let answer =
                WholeResponse { status: client.exchange.flow.status(), begun: None, reused };
            self.pools.give_back(upstream.endpoint, None, answer, self.now);
        }
        let ended = client.conn.read_closed;
        self.send_client(owner, pieces);
        if ended {
            self.begin_grace(owner, Moved::Written);
        }
        if tunnel {
            self.settle_client(owner, Moved::Written);
            // What the client sent behind its request may flow now.
            self.queue_client(owner);
        }
    }

    /// The end of a response goes to the client, and both connections are free for what comes next.
    fn finish(&mut self, key: UpstreamKey, owner: ClientKey, reuse: Reuse, pieces: [&[u8]; 3]) {
        self.send_client(owner, pieces);
        // Its last bytes could not be written: it has gone.
        let Some(client) = self.clients.get_mut(owner) else { return };
        if client.exchange.flow.is_early() {
            return self.finish_early(key, owner, reuse);
        }
        client.exchange.upstream = None;
        let (status, idle_hint) = (client.exchange.flow.status(), client.exchange.half.idle_hint());
        let begun = client.exchange.begun();
        let ending = client.exchange.flow.ending(&client.half);
        let stays = reuse == Reuse::Private && ending == Ending::KeepAlive;
        let broken_by = client.exchange.tried.as_mut().and_then(|tried| tried.broken_by.take());
        if let (Some(broken_by), Some(upstream)) = (broken_by, self.upstreams.get(key)) {
            self.served_elsewhere(broken_by, upstream.endpoint, status);
        }
        if let (Some(idle_hint), Some(upstream)) = (idle_hint, self.upstreams.get(key)) {
            self.pools.keeps_idle(upstream.endpoint, idle_hint);
        }
        self.free_upstream(key, reuse, stays.then_some(owner), (status, begun));
        self.exchange_over(owner, End::Finished);
        if stays {
            self.settle_upstream(key, Moved::Anew);
        }
    }

    /// Puts an upstream connection into its pool after an answer with `status`, leaves it to its `owner`, or closes it.
    fn free_upstream(
        &mut self,
        key: UpstreamKey,
        reuse: Reuse,
        owner: Option<ClientKey>,
        (status, begun): (u16, Option<Tick>),
    ) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        let sound = !upstream.is_write_broken()
            && !upstream.conn.read_closed
            && upstream.conn.outbox.is_none()
            && upstream.conn.inbox.is_none();
        let endpoint = upstream.endpoint;
        let pooled = (sound && reuse == Reuse::Pool).then_some(key);
        let reused = upstream.busy().is_some_and(|busy| busy.reused);
        let answer = WholeResponse { status, begun, reused };
        let back = self.pools.give_back(endpoint, pooled, answer, self.now);
        if let Some(count) = back.errors {
            self.reports.push((endpoint, Report::Streak(Streak::Errors, count)));
        }
        let owner = owner.filter(|_| sound);
        if !back.kept && owner.is_none() {
            return self.end_spent(key, reuse);
        }
        if let Some(client) = owner.and_then(|owner| self.clients.get_mut(owner)) {
            client.exchange.upstream = Some(key);
        }
        upstream.state = match owner {
            Some(owner) => UpstreamState::Busy(Busy::new(owner, true, false)),
            None => UpstreamState::Pooled { brief: back.brief },
        };
        upstream.conn.bulk = false;
        let client = owner.and_then(|owner| self.clients.get(owner));
        upstream.settle(key, client, Moved::None, &mut clock!(self));
        if upstream.conn.readable {
            // The last read may have left something: that would end this connection.
            self.queue_upstream(key);
        }
    }

    /// The target's side of an exchange's connection has ended: that may be how its response ends, or a failure.
    fn upstream_ended(&mut self, key: UpstreamKey, owner: ClientKey, out: &mut Output) {
        let (Some(upstream), Some(client)) =
            (self.upstreams.get_mut(key), self.clients.get_mut(owner))
        else {
            return self.impossible("a client and its upstream connection name each other");
        };
        if upstream.is_write_broken() {
            // The write that failed took the error with it: this is what a reset looks like then.
            return self.upstream_failed(owner, Failure::Reset, out);
        }
        if client.exchange.flow.is_tunnel() {
            upstream.ended = true;
            client.end_after_flush = true;
            self.flush_client(owner);
            return;
        }
        out.clear();
        let Exchange { flow, half: target, .. } = &mut client.exchange;
        match flow.upstream_closed(Halves { client: &mut client.half, target }, out) {
            Next::Failed(failure) => self.upstream_failed(owner, failure, out),
            Next::Finished { reuse } => self.finish(key, owner, reuse, [&out.head, &[], &out.tail]),
            _ => self.impossible("the end of a target's side ends its response or breaks it"),
        }
    }

    /// Sends a response that evenly generates; the upstream, if there is one, is not needed any more.
    pub(super) fn send_answer(&mut self, key: ClientKey, out: &mut Output) {
        // The head of a request that was too slow was never whole.
        self.begin_entry(key, &mut out.line);
        self.note_answer(key, out.cause, body_len(&out.head));
        self.part(key);
        self.send_client(key, [&out.head, &[], &out.tail]);
        self.exchange_over(key, End::Answered);
    }

    /// 503: no endpoint takes the request.
    pub(super) fn answer_unavailable(&mut self, key: ClientKey, out: &mut Output) {
        let Some(client) = self.clients.get_mut(key) else {
            return self.impossible("a client that runs is there");
        };
        self.counters.unavailable.bump();
        let why = client.exchange.tried.as_ref().and_then(|tried| tried.why);
        let reason = why.unwrap_or(Reason::DestinationUnavailable);
        client.exchange.flow.no_upstream(&self.rules, &mut client.half, reason, out);
        self.send_answer(key, out);
    }

    /// Writes to the client. A client that is gone is dropped.
    pub(super) fn send_client(&mut self, key: ClientKey, pieces: [&[u8]; 3]) {
        let Pump { clients, net, buffers, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return self.impossible("a client that runs is there");
        };
        match client.conn.send(net, buffers, pieces) {
            Ok(sent) => {
                self.counters.traffic.moved(Way::ToClients, sent);
                if client.conn.outbox.is_some() {
                    self.settle_client(key, Moved::Written);
                }
            }
            Err(_) => self.drop_client(key),
        }
    }

    /// Writes what waits for the client. `false` if something still waits or the client is gone.
    pub(super) fn flush_client(&mut self, key: ClientKey) -> bool {
        let Pump { clients, net, buffers, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return self.impossible("a client that runs is there");
        };
        if client.conn.outbox.is_some() {
            match client.conn.flush(net, buffers) {
                Err(_) => {
                    self.drop_client(key);
                    return false;
                }
                Ok(0) => return false,
                Ok(count) => {
                    self.moved += count;
                    self.counters.traffic.moved(Way::ToClients, count);
                    if client.conn.outbox.is_some() {
                        self.settle_client(key, Moved::Written);
                        return false;
                    }
                    self.client_caught_up(key);
                }
            }
        }
        self.end_client_writes(key)
    }

    /// All was written: the target's bytes flow again.
    fn client_caught_up(&mut self, key: ClientKey) {
        self.settle_client(key, Moved::Written);
        self.begin_grace(key, Moved::None);
        if let Some(upstream) = self.clients.get(key).and_then(|client| client.exchange.upstream) {
            self.queue_upstream(upstream);
        }
    }
}

/// Bytes behind the head of a message.
fn body_len(message: &[u8]) -> usize {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n");
    end.map_or(0, |end| message.len() - end - 4)
}
