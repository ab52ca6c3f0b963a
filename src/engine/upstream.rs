//! The upstream side of the pump: an endpoint for each request, and its response back to the client. What is done when
//! either breaks is in `breaks`.

use std::io;

use super::client::join_small;
use super::conn::{Conn, Filled, Hunger};
use super::keys::{ClientKey, UpstreamKey};
use super::patient::is_short;
use super::pools::Pools;
use super::tables::{Busy, Client, State, Upstream};
use super::turn::Flow;
use super::waits::Progress;
use super::{Engine, Net, Scratch, Token};
use crate::access::End;
use crate::balance::{self, EndpointId, Report, Streak};
use crate::base::buffer::Pool;
use crate::base::shortage::Shortage;
use crate::session::{Ending, Failure, Next, Output, Reuse, Step};

/// What the search for an upstream came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The request is on its way, or will be when the connect ends.
    Yes,
    /// No endpoint takes it.
    No,
    /// It would have to wait for a connection, and there is no memory for that.
    NoMemory,
}

impl<N: Net> Engine<N> {
    /// Finds an upstream connection for the first bytes of a request and sends them.
    pub(super) fn find_upstream(&mut self, key: ClientKey, pieces: [&[u8]; 3]) -> Found {
        if self.send_on_its_own(key, pieces) {
            return Found::Yes;
        }
        let Some((ticket, endpoint)) = balance::pick(&self.snapshot, &self.shared.cursor) else {
            return self.try_the_absent(key, pieces);
        };
        let endpoint = endpoint.id;
        let Some(client) = self.clients.get_mut(key) else { return Found::Yes };
        client.ticket = ticket;
        let (endpoint, idle) = match self.pools.enter_and_pop(endpoint, self.now) {
            Some(idle) => (endpoint, idle),
            None => match self.enter_other(ticket, &[]) {
                Some(other) => (other, self.pools.pop(other, self.now)),
                None => return Found::No,
            },
        };
        if self.send_on_idle(key, endpoint, idle, pieces) {
            return Found::Yes;
        }
        if self.lacks_memory(pieces) {
            self.pools.leave(endpoint);
            return Found::NoMemory;
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.hold = Some(self.buffers.lend(&pieces));
        }
        self.dial(key, endpoint)
    }

    /// Nothing is healthy: dials where nobody was when it was last looked at, if there is such an endpoint.
    fn try_the_absent(&mut self, key: ClientKey, pieces: [&[u8]; 3]) -> Found {
        let ticket = self.shared.cursor.ticket();
        let Some(endpoint) = self.enter_absent(ticket, &[]) else { return Found::No };
        if self.lacks_memory(pieces) {
            self.pools.leave(endpoint);
            return Found::NoMemory;
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.ticket = ticket;
            client.hold = Some(self.buffers.lend(&pieces));
        }
        self.dial(key, endpoint)
    }

    /// Whether a request has too much to wait for a connection while all memory is held.
    fn lacks_memory(&self, pieces: [&[u8]; 3]) -> bool {
        self.buffers.is_out() && !Pool::is_small(len(pieces))
    }

    /// Takes a place at an endpoint that is down because nobody was there, the last resort of a request.
    fn enter_absent(&mut self, ticket: usize, tried: &[EndpointId]) -> Option<EndpointId> {
        let untried = |endpoint| !tried.contains(&endpoint);
        let endpoint = balance::pick_absent(&self.snapshot, ticket, untried)?;
        self.pools.enter_absent(endpoint, &self.shared.links).then_some(endpoint.id)
    }

    /// Sends a request's first bytes on the connection that is the client's own since it was authenticated, if that is there
    /// still and its endpoint healthy.
    fn send_on_its_own(&mut self, key: ClientKey, pieces: [&[u8]; 3]) -> bool {
        let Some(own) = self.clients.get_mut(key).and_then(|client| client.upstream.take()) else {
            return false;
        };
        let endpoint = self.upstreams.get(own).map(|upstream| upstream.endpoint);
        if endpoint.is_none_or(|endpoint| self.pools.address(endpoint).is_none()) {
            self.close_upstream(own);
            return false;
        }
        self.send_on(key, own, pieces)
    }

    /// Sends a request's first bytes on `idle`, the idle connection to `endpoint` that was used last, and whether it is safe, or on
    /// the one before it. `false` if there is none.
    pub(super) fn send_on_idle(
        &mut self,
        key: ClientKey,
        endpoint: EndpointId,
        mut idle: Option<(UpstreamKey, bool)>,
        pieces: [&[u8]; 3],
    ) -> bool {
        while let Some((at, safe)) = idle {
            if !safe && self.clients.get(key).is_some_and(|client| self.is_precious(client)) {
                // The others are older still. One is closed for each that is opened, or they would pile up.
                self.close_upstream(at);
                return false;
            }
            if self.send_on(key, at, pieces) {
                return true;
            }
            idle = self.pools.pop(endpoint, self.now);
        }
        false
    }

    /// Whether the request of `client` would be lost with its connection.
    fn is_precious(&self, client: &Client<N::Conn>) -> bool {
        !client.session.may_replay(&self.cx) || client.session.streams_to_upstream()
    }

    /// Sends a request's first bytes on a connection that has carried others. `false` if it cannot: it is closed then, and not a
    /// byte was taken.
    fn send_on(&mut self, key: ClientKey, idle: UpstreamKey, pieces: [&[u8]; 3]) -> bool {
        let Engine { clients, upstreams, pools, net, buffers, cx, .. } = self;
        let (Some(client), Some(upstream)) = (clients.get_mut(key), upstreams.get_mut(idle)) else {
            return false;
        };
        // What may not be repeated is not sent on a connection whose end is already here, and nothing
        // on one that may hold more than the last response: that would be taken for the next.
        let doubtful = upstream.conn.readable || !client.session.is_idempotent();
        let stale = upstream.conn.read_closed || doubtful && is_stale(net, &mut upstream.conn);
        let sent = if stale {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            upstream.conn.send(net, buffers, pieces)
        };
        let Ok(sent) = sent else {
            self.close_upstream(idle);
            return false;
        };
        upstream.state = State::Busy(Busy::new(key, sent > 0));
        client.upstream = Some(idle);
        client.session.attached(true);
        if let Some(entry) = &mut client.entry {
            entry.upstream = pools.place(upstream.endpoint).cloned();
        }
        let spared = buffers.is_out() && !Pool::is_small(len(pieces));
        if sent == 0 || client.session.may_replay(cx) && !spared {
            client.hold = Some(buffers.lend(&pieces));
        }
        self.settle_upstream(idle, Progress::None);
        true
    }

    /// Takes a place at the first endpoint from the turn of `ticket` on that was not tried and has room, or, unless there is a
    /// limit to that, at the first that was not tried.
    fn enter_other(&mut self, ticket: usize, tried: &[EndpointId]) -> Option<EndpointId> {
        let Engine { pools, snapshot, .. } = &mut *self;
        let untried = |endpoint| !tried.contains(&endpoint);
        let has_room = |pools: &Pools| {
            let fits = |endpoint| untried(endpoint) && pools.has_room(endpoint);
            balance::pick_such(snapshot, ticket, fits).map(|endpoint| endpoint.id)
        };
        // Another worker may have been quicker: then that one has no room any more.
        while let Some(endpoint) = has_room(pools) {
            if pools.enter(endpoint) {
                return Some(endpoint);
            }
        }
        let endpoint = balance::pick_such(snapshot, ticket, untried)?.id;
        if !pools.is_elastic() {
            self.counters.saturated.bump();
            return None;
        }
        pools.squeeze_in(endpoint).then_some(endpoint)
    }

    /// Opens a connection to `endpoint`, where the request has a place, for the request that is held, or to another one if
    /// that fails at once.
    pub(super) fn dial(&mut self, key: ClientKey, mut endpoint: EndpointId) -> Found {
        let (mut ways, mut ran_short) = (0, false);
        loop {
            let error = match self.connect(key, endpoint) {
                Ok(()) => return Found::Yes,
                Err(error) => error,
            };
            let address = self.pools.place(endpoint).cloned();
            let short = address.and_then(|address| {
                Some((Shortage::of_connect(&error, &address)?, format!("no connect to {address}")))
            });
            ran_short |= short.is_some();
            if let Some((shortage, what)) = &short {
                self.note_shortage(*shortage, what, &error);
                // Of memory an idle connection needs less if it is used than if it makes way.
                let use_it = *shortage == Shortage::Memory && self.pools.some_idle().is_some();
                if !use_it && self.makes_way(*shortage, &mut ways) {
                    continue;
                }
            }
            self.pools.leave(endpoint);
            let next = match short {
                Some(_) if self.send_held_on_idle(key) => return Found::Yes,
                // What every connect needs is short: no other address helps.
                Some((shortage, _)) if shortage.gives_way() => None,
                Some(_) => self.next_after(key, endpoint),
                None => self.move_on(key, endpoint, Report::ConnectRefused),
            };
            match next {
                Some(next) => endpoint = next,
                None if ran_short && self.wait_for_connection(key) => return Found::Yes,
                None => return Found::No,
            }
        }
    }

    /// Opens a connection for a request that has waited for one, to whichever endpoint has its turn.
    pub(super) fn dial_anew(&mut self, key: ClientKey) {
        let picked = balance::pick(&self.snapshot, &self.shared.cursor);
        let entered =
            picked.map(|(ticket, endpoint)| (ticket, endpoint.id)).and_then(|(ticket, id)| {
                if let Some(client) = self.clients.get_mut(key) {
                    client.ticket = ticket;
                }
                match self.pools.enter(id) {
                    true => Some(id),
                    false => self.enter_other(ticket, &[]),
                }
            });
        self.dial_next(key, entered);
    }

    fn connect(&mut self, key: ClientKey, endpoint: EndpointId) -> io::Result<()> {
        self.make_room();
        let token = Token::Upstream(self.upstreams.next_key());
        // One that has just gone is as good as one that refuses.
        let address = self.pools.place(endpoint).ok_or(io::ErrorKind::NotFound)?;
        let socket = self.net.connect(address, token)?;
        self.counters.dialed.bump();
        // The limit of a connect is a short one: what the turn has taken until now is not to be a part of it.
        self.read_clock();
        let upstream = self.upstreams.insert(Upstream::new(socket, endpoint, key));
        self.pools.begun(endpoint, upstream, self.now);
        if let Some(client) = self.clients.get_mut(key) {
            client.upstream = Some(upstream);
        }
        self.settle_upstream(upstream, Progress::None);
        Ok(())
    }

    /// After a connect to `failed` did not come about: the healthy endpoint that is tried next, if any. One that
    /// stands by is the last resort.
    fn move_on(&mut self, key: ClientKey, failed: EndpointId, why: Report) -> Option<EndpointId> {
        self.counters.connect_failed.bump();
        self.reports.push((failed, why));
        self.count_failure(failed, Streak::ConnectFailures);
        self.next_after(key, failed)
    }

    /// Takes a place for a request at the endpoint that is tried after `failed`.
    pub(super) fn next_after(&mut self, key: ClientKey, failed: EndpointId) -> Option<EndpointId> {
        let client = self.clients.get_mut(key)?;
        let mut tried = client.tried.take().unwrap_or_default();
        let ticket = client.ticket;
        tried.endpoints.push(failed);
        let more = tried.endpoints.len() < self.snapshot.plan.retry.connect_attempts;
        let next = match more {
            true => self
                .enter_other(ticket, &tried.endpoints)
                .or_else(|| self.enter_absent(ticket, &tried.endpoints)),
            false => None,
        };
        if let Some(client) = self.clients.get_mut(key) {
            client.tried = Some(tried);
        }
        next
    }

    /// Tells the health thread if the endpoint has failed as often in a row as it may.
    pub(super) fn count_failure(&mut self, endpoint: EndpointId, kind: Streak) {
        if let Some(count) = self.pools.failed(endpoint, kind) {
            self.reports.push((endpoint, Report::Streak(kind, count)));
        }
    }

    pub(super) fn connect_failed(&mut self, key: UpstreamKey, why: Report) {
        let Some(upstream) = self.upstreams.get(key) else { return };
        let (Some(client), endpoint) = (upstream.client(), upstream.endpoint) else { return };
        self.part(client);
        let next = self.move_on(client, endpoint, why);
        self.dial_next(client, next);
    }

    /// Opens a connection to `next`, or answers that there is none.
    pub(super) fn dial_next(&mut self, client: ClientKey, next: Option<EndpointId>) {
        let found = match next {
            Some(next) => self.dial(client, next),
            None => Found::No,
        };
        if found == Found::No {
            let mut scratch = self.scratch.take().expect("one step at a time");
            self.answer_unavailable(client, &mut scratch.out);
            self.scratch = Some(scratch);
        }
    }

    /// 503: no endpoint takes the request.
    pub(super) fn answer_unavailable(&mut self, key: ClientKey, out: &mut Output) {
        let Some(client) = self.clients.get_mut(key) else { return };
        self.counters.unavailable.bump();
        client.session.no_upstream(&self.cx, out);
        self.send_answer(key, out);
    }

    /// A connect has ended. `false` if it failed or goes on.
    pub(super) fn end_connect(&mut self, key: UpstreamKey) -> bool {
        let Engine { upstreams, net, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else { return false };
        let State::Connecting(owner) = upstream.state else { return true };
        if !upstream.conn.writable && !upstream.conn.broken {
            return false;
        }
        match net.connected(&mut upstream.conn.socket) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                upstream.conn.writable = false;
                return false;
            }
            Err(error) if is_short(&error) => {
                upstream.conn.short = true;
                return false;
            }
            Err(_) => {
                self.connect_failed(key, Report::ConnectRefused);
                return false;
            }
        }
        upstream.state = State::Busy(Busy::new(owner, false));
        let endpoint = upstream.endpoint;
        self.pools.connected(endpoint);
        self.send_held(key);
        true
    }

    /// Sends the request that was held while the connection came about.
    fn send_held(&mut self, key: UpstreamKey) {
        let Engine { clients, upstreams, pools, net, buffers, cx, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else { return };
        let Some(owner) = upstream.client() else { return };
        let Some(client) = clients.get_mut(owner) else { return };
        client.session.attached(false);
        if let Some(entry) = &mut client.entry {
            entry.upstream = pools.place(upstream.endpoint).cloned();
        }
        let Some(hold) = client.hold.take() else { return };
        match upstream.conn.send_chunk(net, buffers, &hold) {
            Ok(0) => {}
            Ok(_) => upstream.note_sent(),
            Err(_) => upstream.break_writes(buffers),
        }
        if client.session.may_replay(cx) || !upstream.has_sent() {
            client.hold = Some(hold);
        } else {
            buffers.take_back(hold);
        }
        let streams = client.session.streams_to_upstream();
        self.settle_upstream(key, Progress::None);
        if streams {
            self.queue_client(owner);
        }
    }

    /// Sends more of a request. The client's bytes only come when nothing waits.
    pub(super) fn send_upstream(&mut self, key: ClientKey, pieces: [&[u8]; 3]) {
        let Engine { clients, upstreams, net, buffers, .. } = self;
        let Some(client) = clients.get_mut(key) else { return };
        if let Some(hold) = client.hold.take() {
            // There is more now than was held: it cannot be sent again.
            buffers.take_back(hold);
        }
        let Some(at) = client.upstream else { return };
        let Some(upstream) = upstreams.get_mut(at) else { return };
        match upstream.conn.send(net, buffers, pieces) {
            Ok(_) => {
                upstream.note_sent();
                self.settle_upstream(at, Progress::Written);
            }
            Err(_) => {
                upstream.break_writes(buffers);
                self.queue_upstream(at);
            }
        }
    }

    pub(super) fn upstream_step(&mut self, key: UpstreamKey) -> Flow {
        if !self.may_be_written(key) {
            return Flow::Wait;
        }
        self.flush_upstream(key);
        let Some(upstream) = self.upstreams.get(key) else { return Flow::Wait };
        let Some(owner) = upstream.client() else {
            self.look_at_idle(key);
            return Flow::Wait;
        };
        let Some(client) = self.clients.get(owner) else { return Flow::Wait };
        if client.answered {
            self.look_at_answered(key, owner);
            return Flow::Wait;
        }
        if client.conn.outbox.is_some() || upstream.ended {
            return Flow::Wait;
        }
        if client.session.is_idle() {
            self.look_at_private(key, owner);
            return Flow::Wait;
        }
        if self.must_wait(client.conn.behind, upstream.conn.hunger)
            && upstream.conn.has_more()
            && !client.session.awaits_response()
        {
            self.wait_in_line(Token::Upstream(key));
            return Flow::Wait;
        }
        let mut scratch = self.scratch.take().expect("one step at a time");
        let flow = self.upstream_read(key, owner, &mut scratch);
        self.scratch = Some(scratch);
        flow
    }

    /// A last look at a connection on which a request waits, not a byte of it sent: it may have ended meanwhile, or have said
    /// something unasked, which would be taken for its response. `false` if that is so, or not known yet.
    fn may_be_written(&mut self, key: UpstreamKey) -> bool {
        let Engine { upstreams, net, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else { return false };
        let unsent = upstream.busy().filter(|busy| !busy.sent && !busy.write_broken);
        let Some(owner) = unsent.filter(|_| upstream.conn.outbox.is_some()).map(|it| it.client)
        else {
            return true;
        };
        match net.read(&mut upstream.conn.socket, &mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(error) if is_short(&error) => upstream.conn.short = true,
            _ => {
                let mut scratch = self.scratch.take().expect("one step at a time");
                self.upstream_failed(owner, Failure::Closed, &mut scratch.out);
                self.scratch = Some(scratch);
            }
        }
        false
    }

    fn flush_upstream(&mut self, key: UpstreamKey) {
        let Engine { upstreams, net, buffers, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else { return };
        if upstream.conn.outbox.is_some() {
            match upstream.conn.flush(net, buffers) {
                Ok(0) => return,
                Ok(count) => {
                    self.moved += count;
                    upstream.note_sent();
                }
                Err(_) => upstream.break_writes(buffers),
            }
            self.upstream_made_progress(key);
        }
        self.end_writes_if_flushed(key);
    }

    /// It took bytes: its time starts again, and the client's bytes flow again if all is written.
    fn upstream_made_progress(&mut self, key: UpstreamKey) {
        self.settle_upstream(key, Progress::Written);
        let Some(upstream) = self.upstreams.get(key) else { return };
        let Some(owner) = upstream.client() else { return };
        if upstream.conn.outbox.is_none() {
            self.queue_client(owner);
            self.end_upload_if_over(owner);
        }
    }

    /// The client's direction of a tunnel ended: passes that on when all is written.
    pub(super) fn end_upstream_writes(&mut self, key: UpstreamKey) {
        if let Some(upstream) = self.upstreams.get_mut(key) {
            upstream.end_after_flush = true;
        }
        self.end_writes_if_flushed(key);
    }

    fn end_writes_if_flushed(&mut self, key: UpstreamKey) {
        let Engine { upstreams, net, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else { return };
        if upstream.conn.outbox.is_none() && std::mem::take(&mut upstream.end_after_flush) {
            net.shutdown(&mut upstream.conn.socket);
            if let Some(owner) = upstream.client() {
                self.end_tunnel_if_over(owner);
            }
        }
    }

    /// An idle connection stirred: its end, or a response nobody asked for. Either way it is of no more use.
    fn look_at_idle(&mut self, key: UpstreamKey) {
        let Engine { upstreams, net, buffers, scratch, .. } = self;
        let (Some(upstream), Some(scratch)) = (upstreams.get_mut(key), scratch) else { return };
        let filled = upstream.conn.fill(net, buffers, &mut scratch.read, 1);
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

    /// Likewise one that is its client's own.
    fn look_at_private(&mut self, key: UpstreamKey, owner: ClientKey) {
        let Engine { upstreams, net, buffers, scratch, .. } = self;
        let (Some(upstream), Some(scratch)) = (upstreams.get_mut(key), scratch) else { return };
        if !matches!(upstream.conn.fill(net, buffers, &mut scratch.read, 1), Filled::Nothing) {
            self.part(owner);
        }
    }

    fn upstream_read(&mut self, key: UpstreamKey, owner: ClientKey, scratch: &mut Scratch) -> Flow {
        let Engine { clients, upstreams, net, buffers, cx, .. } = self;
        let Scratch { read, out } = scratch;
        let (Some(upstream), Some(client)) = (upstreams.get_mut(key), clients.get_mut(owner))
        else {
            return Flow::Wait;
        };
        upstream.conn.hunger = Hunger::No;
        let limit = buffers.allow(client.conn.window());
        let count = match upstream.conn.fill(net, buffers, read, limit) {
            Filled::Bytes(count) => count,
            Filled::Nothing => return Flow::Wait,
            Filled::End => {
                self.upstream_ended(key, owner, out);
                return Flow::Wait;
            }
            Filled::Broken => {
                self.upstream_failed(owner, Failure::Reset, out);
                return Flow::Wait;
            }
        };
        let input = &mut read[..count];
        self.moved += count;
        out.clear();
        if upstream.conn.outbox.is_some() {
            client.session.answered_early();
        }
        let step = client.session.upstream_bytes(cx, input, out);
        if upstream.fresh && matches!(step.next, Next::ToClient | Next::Finished { .. }) {
            upstream.fresh = false;
            self.pools.matured(upstream.endpoint, key, true, self.now);
        }
        self.upstream_act(key, owner, &step, input, out);
        let Some(upstream) = self.upstreams.get_mut(key).filter(|u| u.client() == Some(owner))
        else {
            return Flow::Wait;
        };
        upstream.conn.keep(&mut self.buffers, &read[step.consumed..count], true);
        Flow::Again
    }

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
                self.add_to_entry(owner, step.body.len());
                let body = join_small(out, &input[step.body.clone()]);
                self.respond(key, owner, [&out.head, body, &out.tail]);
            }
            Next::Finished { reuse } => {
                self.add_to_entry(owner, step.body.len());
                let body = join_small(out, &input[step.body.clone()]);
                self.finish(key, owner, reuse, [&out.head, body, &out.tail]);
            }
            Next::Failed(failure) => {
                if !step.body.is_empty() {
                    self.add_to_entry(owner, step.body.len());
                    self.send_client(owner, [&out.head, &input[step.body.clone()], &out.tail]);
                }
                self.upstream_failed(owner, failure, out);
            }
            Next::NeedMore | Next::NeedUpstream | Next::ToUpstream | Next::Answered => {}
        }
    }

    /// Part of a response goes to the client.
    fn respond(&mut self, key: UpstreamKey, owner: ClientKey, pieces: [&[u8]; 3]) {
        self.settle_upstream(key, Progress::Read);
        let Engine { clients, upstreams, buffers, .. } = self;
        let (Some(upstream), Some(client)) = (upstreams.get_mut(key), clients.get_mut(owner))
        else {
            return;
        };
        if !client.session.awaits_response()
            && let Some(hold) = client.hold.take()
        {
            buffers.take_back(hold);
        }
        let tunnel = client.session.is_tunnel();
        if tunnel && !pieces[0].is_empty() {
            // The 101: how a tunnel ends says nothing of its target.
            self.pools.give_back(upstream.endpoint, None, client.session.status(), self.now);
        }
        let ended = client.conn.read_closed;
        self.send_client(owner, pieces);
        if ended {
            self.begin_grace(owner, Progress::Written);
        }
        if tunnel {
            self.settle_client(owner, Progress::Written);
            // What the client sent behind its request may flow now.
            self.queue_client(owner);
        }
    }

    /// The end of a response goes to the client, and both connections are free for what comes next.
    fn finish(&mut self, key: UpstreamKey, owner: ClientKey, reuse: Reuse, pieces: [&[u8]; 3]) {
        self.send_client(owner, pieces);
        let Some(client) = self.clients.get_mut(owner) else { return };
        if client.session.is_early() {
            return self.finish_early(key, owner, reuse);
        }
        client.upstream = None;
        self.counters.finished.bump();
        let (status, told) = (client.session.status(), client.session.idle_hint());
        let stays = reuse == Reuse::Private && client.session.ending() == Ending::KeepAlive;
        if let (Some(told), Some(upstream)) = (told, self.upstreams.get(key)) {
            self.pools.keeps_idle(upstream.endpoint, told);
        }
        self.free_upstream(key, reuse, stays.then_some(owner), status);
        self.exchange_over(owner, End::Finished);
        if stays {
            self.settle_upstream(key, Progress::Anew);
        }
    }

    /// Puts an upstream connection into its pool after an answer with `status`, leaves it to its `owner`, or closes it.
    fn free_upstream(
        &mut self,
        key: UpstreamKey,
        reuse: Reuse,
        owner: Option<ClientKey>,
        status: u16,
    ) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let sound = !upstream.is_write_broken()
            && !upstream.conn.read_closed
            && upstream.conn.outbox.is_none()
            && upstream.conn.inbox.is_none();
        let endpoint = upstream.endpoint;
        let pooled = (sound && reuse == Reuse::Pool).then_some(key);
        let back = self.pools.give_back(endpoint, pooled, status, self.now);
        if let Some(count) = back.errors {
            self.reports.push((endpoint, Report::Streak(Streak::Errors, count)));
        }
        let owner = owner.filter(|_| sound);
        if !back.kept && owner.is_none() {
            return self.end_spent(key, reuse);
        }
        if let Some(client) = owner.and_then(|owner| self.clients.get_mut(owner)) {
            client.upstream = Some(key);
        }
        upstream.state = match owner {
            Some(owner) => State::Busy(Busy::new(owner, false)),
            None => State::Pooled { brief: back.brief },
        };
        upstream.conn.bulk = false;
        let readable = upstream.conn.readable;
        self.settle_upstream(key, Progress::None);
        if readable {
            // The last read may have left something: that would end this connection.
            self.queue_upstream(key);
        }
    }

    fn upstream_ended(&mut self, key: UpstreamKey, owner: ClientKey, out: &mut Output) {
        let (Some(upstream), Some(client)) =
            (self.upstreams.get_mut(key), self.clients.get_mut(owner))
        else {
            return;
        };
        if upstream.is_write_broken() {
            // The write that failed took the error with it: this is what a reset looks like then.
            return self.upstream_failed(owner, Failure::Reset, out);
        }
        if client.session.is_tunnel() {
            upstream.ended = true;
            client.end_after_flush = true;
            self.flush_client(owner);
            return;
        }
        out.clear();
        match client.session.upstream_closed(out) {
            Next::Failed(failure) => self.upstream_failed(owner, failure, out),
            _ => self.finish(key, owner, Reuse::Ends, [&out.head, &[], &out.tail]),
        }
    }
}

fn len(pieces: [&[u8]; 3]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

/// Whether an idle connection has ended, or has said something unasked.
fn is_stale<N: Net>(net: &mut N, conn: &mut Conn<N::Conn>) -> bool {
    let mut byte = [0];
    !matches!(net.read(&mut conn.socket, &mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
