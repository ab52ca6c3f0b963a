//! An endpoint for each request, and a connection to it: which is picked, which idle connection is used, what is opened, and what
//! comes next when that fails.

use std::io;

use super::clock::clock;
use super::conn::Conn;
use super::keys::{ClientKey, UpstreamKey};
use super::patient::is_short;
use super::pools::Pools;
use super::pump::Pump;
use super::tables::{Busy, Client, Upstream, UpstreamState};
use super::waits::Moved;
use super::{Net, Token};
use crate::balance::{self, EndpointId, Report, Streak};
use crate::base::buffer::Pool;
use crate::base::shortage::Shortage;
use crate::exchange::Output;
use crate::metrics::traffic::Way;
use crate::reason::{Incident, Reason};

/// Result of the search for an upstream connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Search {
    /// The request is on its way, or will be when the connect ends.
    #[default]
    Underway,
    /// No endpoint takes it.
    NoEndpoint,
    /// It would have to wait for a connection, and there is no memory for that.
    NoMemory,
}

impl<N: Net> Pump<N> {
    /// Finds an upstream connection for the first bytes of a request and sends them.
    pub(super) fn find_upstream(&mut self, key: ClientKey, pieces: [&[u8]; 3]) -> Search {
        if self.send_on_its_own(key, pieces) {
            return Search::Underway;
        }
        let Some((ticket, endpoint)) = balance::pick(&self.snapshot, &self.shared.cursor) else {
            return self.try_the_absent(key, pieces);
        };
        let endpoint = endpoint.id;
        let Some(client) = self.clients.get_mut(key) else {
            return self.impossible("a client that runs is there");
        };
        client.exchange.set_ticket(ticket);
        let (endpoint, idle) = match self.pools.enter_and_pop(endpoint, self.now) {
            Some(idle) => (endpoint, idle),
            None => match self.enter_other(ticket, &[]) {
                Some(other) => (other, self.pools.pop(other, self.now)),
                None => return self.no_endpoint(key, Reason::ConnectionLimitReached),
            },
        };
        if self.send_on_idle(key, endpoint, idle, pieces) {
            return Search::Underway;
        }
        if self.lacks_memory(pieces) {
            self.pools.leave(endpoint);
            return Search::NoMemory;
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.exchange.hold = Some(self.buffers.lend(&pieces));
        }
        self.dial(key, endpoint)
    }

    /// Nothing is healthy: dials where nobody was when it was last looked at, if there is such an endpoint.
    fn try_the_absent(&mut self, key: ClientKey, pieces: [&[u8]; 3]) -> Search {
        let ticket = self.shared.cursor.ticket();
        let Some(endpoint) = self.enter_absent(ticket, &[]) else { return Search::NoEndpoint };
        if self.lacks_memory(pieces) {
            self.pools.leave(endpoint);
            return Search::NoMemory;
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.exchange.set_ticket(ticket);
            client.exchange.hold = Some(self.buffers.lend(&pieces));
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
        let Some(own) =
            self.clients.get_mut(key).and_then(|client| client.exchange.upstream.take())
        else {
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
        !client.exchange.flow.may_replay(&self.rules) || client.exchange.flow.streams_to_upstream()
    }

    /// Sends a request's first bytes on a connection that has carried others. `false` if it cannot: it is closed then, and not a
    /// byte was taken.
    fn send_on(&mut self, key: ClientKey, idle: UpstreamKey, pieces: [&[u8]; 3]) -> bool {
        let Pump { clients, upstreams, pools, net, buffers, rules, counters, .. } = self;
        let (Some(client), Some(upstream)) = (clients.get_mut(key), upstreams.get_mut(idle)) else {
            return self.impossible("a client and its upstream connection name each other");
        };
        // What may not be repeated is not sent on a connection whose end is already here, and nothing
        // on one that may hold more than the last response: that would be taken for the next.
        let doubtful = upstream.conn.readable || !client.exchange.flow.is_idempotent();
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
        counters.traffic.moved(Way::ToTargets, sent);
        upstream.state = UpstreamState::Busy(Busy::new(key, true, sent > 0));
        client.exchange.upstream = Some(idle);
        client.exchange.half.attached();
        if let Some(entry) = &mut client.exchange.entry {
            entry.attempts += 1;
            (entry.dialed, entry.connected) = (None, None);
            pools.describe(upstream.endpoint, entry);
        }
        let spared = buffers.is_out() && !Pool::is_small(len(pieces));
        if sent == 0 || client.exchange.flow.may_replay(rules) && !spared {
            client.exchange.hold = Some(buffers.lend(&pieces));
        }
        upstream.settle(idle, Some(client), Moved::None, &mut clock!(self));
        true
    }

    /// Takes a place at the first endpoint from the turn of `ticket` on that was not tried and has room, or, unless there is a
    /// limit to that, at the first that was not tried.
    fn enter_other(&mut self, ticket: usize, tried: &[EndpointId]) -> Option<EndpointId> {
        let Pump { pools, snapshot, .. } = &mut *self;
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
    pub(super) fn dial(&mut self, key: ClientKey, mut endpoint: EndpointId) -> Search {
        let (mut ways, mut ran_short) = (0, false);
        loop {
            let error = match self.connect(key, endpoint) {
                Ok(()) => return Search::Underway,
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
                Some(_) if self.send_held_on_idle(key) => return Search::Underway,
                // What every connect needs is short: no other address helps.
                Some((shortage, _)) if shortage.gives_way() => None,
                Some(_) => self.next_after(key, endpoint, Reason::ResourceShortage),
                None => {
                    let why = Reason::of_connect(&error);
                    self.move_on(key, endpoint, (Report::ConnectRefused, why))
                }
            };
            match next {
                Some(next) => endpoint = next,
                None if ran_short && self.wait_for_connection(key) => return Search::Underway,
                None if ran_short => return self.no_endpoint(key, Reason::ResourceShortage),
                None => return Search::NoEndpoint,
            }
        }
    }

    /// Opens a connection for a request that has waited for one, to whichever endpoint has its turn.
    pub(super) fn dial_anew(&mut self, key: ClientKey, out: &mut Output) {
        let picked = balance::pick(&self.snapshot, &self.shared.cursor);
        let picked = picked.map(|(ticket, endpoint)| (ticket, endpoint.id));
        let entered = picked.and_then(|(ticket, id)| {
            if let Some(client) = self.clients.get_mut(key) {
                client.exchange.set_ticket(ticket);
            }
            match self.pools.enter(id) {
                true => Some(id),
                false => self.enter_other(ticket, &[]),
            }
        });
        if picked.is_some() && entered.is_none() {
            self.note_tried(key, Reason::ConnectionLimitReached);
        }
        self.dial_next(key, entered, out);
    }

    /// Opens a connection to `next`, or answers that there is none.
    pub(super) fn dial_next(
        &mut self,
        client: ClientKey,
        next: Option<EndpointId>,
        out: &mut Output,
    ) {
        let found = match next {
            Some(next) => self.dial(client, next),
            None => Search::NoEndpoint,
        };
        if found == Search::NoEndpoint {
            self.answer_unavailable(client, out);
        }
    }

    fn connect(&mut self, key: ClientKey, endpoint: EndpointId) -> io::Result<()> {
        self.make_room();
        self.reserve()?;
        let token = Token::Upstream(self.upstreams.next_key());
        // One that has just gone counts as one that refuses.
        let address = self.pools.place(endpoint).ok_or(io::ErrorKind::NotFound)?;
        let socket = self.net.connect(address, token)?;
        self.counters.dialed.bump();
        // The limit of a connect is a short one: what the turn has taken until now is not to be a part of it.
        self.read_clock();
        self.note_dial(key);
        let upstream = self.upstreams.insert(Upstream::new(socket, endpoint, key));
        self.pools.begun(endpoint, upstream, self.now);
        if let Some(client) = self.clients.get_mut(key) {
            client.exchange.upstream = Some(upstream);
        }
        self.settle_upstream(upstream, Moved::None);
        Ok(())
    }

    /// A connect has ended. `false` if it failed or goes on.
    pub(super) fn end_connect(&mut self, key: UpstreamKey, out: &mut Output) -> bool {
        let Pump { upstreams, net, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        let UpstreamState::Connecting(owner) = upstream.state else { return true };
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
            Err(error) => {
                let why = Reason::of_connect(&error);
                self.connect_failed(key, (Report::ConnectRefused, why), out);
                return false;
            }
        }
        upstream.state = UpstreamState::Busy(Busy::new(owner, false, false));
        let endpoint = upstream.endpoint;
        self.pools.connected(endpoint);
        self.send_held(key);
        true
    }

    /// Sends the request that was held until the connection was there.
    fn send_held(&mut self, key: UpstreamKey) {
        let Pump { clients, upstreams, pools, net, buffers, rules, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        let Some(owner) = upstream.client() else {
            return self.impossible("a client and its upstream connection name each other");
        };
        let Some(client) = clients.get_mut(owner) else {
            return self.impossible("a client and its upstream connection name each other");
        };
        client.exchange.half.attached();
        if let Some(entry) = &mut client.exchange.entry {
            entry.connected = Some(self.now);
            pools.describe(upstream.endpoint, entry);
        }
        let Some(hold) = client.exchange.hold.take() else {
            return self.impossible("a request that waits for a connection is held");
        };
        match upstream.conn.send_chunk(net, buffers, &hold) {
            Ok(0) => {}
            Ok(sent) => {
                self.counters.traffic.moved(Way::ToTargets, sent);
                upstream.note_sent();
            }
            Err(_) => upstream.break_writes(buffers),
        }
        if client.exchange.flow.may_replay(rules) || !upstream.has_sent() {
            client.exchange.hold = Some(hold);
        } else {
            buffers.take_back(hold);
        }
        let streams = client.exchange.flow.streams_to_upstream();
        self.settle_upstream(key, Moved::None);
        if streams {
            self.queue_client(owner);
        }
    }

    /// Remembers why the request was not taken where it was sent last: that is the reason of its response if nobody else takes it.
    fn note_tried(&mut self, key: ClientKey, why: Reason) {
        if let Some(client) = self.clients.get_mut(key) {
            client.exchange.tried.get_or_insert_default().why = Some(why);
        }
    }

    pub(super) fn no_endpoint(&mut self, key: ClientKey, why: Reason) -> Search {
        self.note_tried(key, why);
        Search::NoEndpoint
    }

    /// Takes a place for a request at the endpoint that is tried after `failed`, which did not take it for the reason `why`.
    pub(super) fn next_after(
        &mut self,
        key: ClientKey,
        failed: EndpointId,
        why: Reason,
    ) -> Option<EndpointId> {
        let client = self.clients.get_mut(key)?;
        let mut tried = client.exchange.tried.take().unwrap_or_default();
        let ticket = client.exchange.ticket();
        tried.endpoints.push(failed);
        tried.why = Some(why);
        let more = tried.endpoints.len() < self.snapshot.plan.retry.connect_attempts;
        let next = match more {
            true => self
                .enter_other(ticket, &tried.endpoints)
                .or_else(|| self.enter_absent(ticket, &tried.endpoints)),
            false => None,
        };
        if next.is_some() {
            self.pools.retried(failed, why);
            self.counters.reasons.count(Incident::Retry, why);
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.exchange.tried = Some(tried);
        }
        next
    }

    /// After a connect to `failed` failed: the healthy endpoint that is tried next, if any. One that
    /// stands by is the last resort.
    fn move_on(
        &mut self,
        key: ClientKey,
        failed: EndpointId,
        (report, why): (Report, Reason),
    ) -> Option<EndpointId> {
        self.counters.connect_failed.bump();
        self.reports.push((failed, report));
        self.count_failure(failed, Streak::ConnectFailures);
        self.next_after(key, failed, why)
    }

    pub(super) fn connect_failed(
        &mut self,
        key: UpstreamKey,
        why: (Report, Reason),
        out: &mut Output,
    ) {
        let Some(upstream) = self.upstreams.get(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        let (Some(client), endpoint) = (upstream.client(), upstream.endpoint) else {
            return self.impossible("a client and its upstream connection name each other");
        };
        self.part(client);
        let next = self.move_on(client, endpoint, why);
        self.dial_next(client, next, out);
    }

    /// Tells the health thread if the endpoint has failed as often as it is allowed to.
    pub(super) fn count_failure(&mut self, endpoint: EndpointId, kind: Streak) {
        if let Some(count) = self.pools.failed(endpoint, kind) {
            self.reports.push((endpoint, Report::Streak(kind, count)));
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
