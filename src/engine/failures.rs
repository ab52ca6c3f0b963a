//! What is done when an exchange with a target breaks, its target takes too long, or its endpoint goes down. What the table in
//! `exchange::retry` says is carried out here.

use super::Net;
use super::clock::is_clients_turn;
use super::connects::Search;
use super::keys::{ClientKey, UpstreamKey};
use super::pump::Pump;
use super::tables::{Client, Upstream, UpstreamState};
use super::waits::{LAST_WORDS, Moved};
use crate::balance::{self, EndpointId, EndpointState, Report, Streak};
use crate::base::tick::Tick;
use crate::base::wheel::Due;
use crate::exchange::{Break, Failure, Flow, Output, Remedy};
use crate::reason::{Incident, Reason};

impl<N: Net> Pump<N> {
    /// The exchange of `owner` with its target broke.
    pub(super) fn upstream_failed(&mut self, owner: ClientKey, failure: Failure, out: &mut Output) {
        // Its last bytes could not be written: it has gone.
        let Some(client) = self.clients.get(owner) else { return };
        let Some(key) = client.exchange.upstream else {
            return self.impossible("a client and its upstream connection name each other");
        };
        let Some(upstream) = self.upstreams.get(key) else {
            return self.impossible("a client and its upstream connection name each other");
        };
        let endpoint = upstream.endpoint;
        let reused = upstream.busy().is_some_and(|busy| busy.reused);
        let blameless = is_expected_end(&client.exchange.flow, reused, failure);
        let elapsed = self.now.since(Tick::default());
        let broken = self.describe_break(owner, client, upstream, failure);
        let Some(client) = self.clients.get_mut(owner) else {
            return self.impossible("a client that runs is there");
        };
        let remedy =
            client.exchange.flow.upstream_failed(&self.rules, &mut client.half, broken, out);
        if failure == Failure::BadResponse
            && let Some(address) = self.pools.place(endpoint)
        {
            let detail = out.cause.and_then(|cause| cause.detail).map_or("", |fault| fault.why());
            log::debug!("{address}: its response is not passed on: {detail}");
        }
        if matches!(failure, Failure::Closed | Failure::Reset | Failure::HeadTimeout) {
            self.reports.push((endpoint, Report::ExchangeFailed));
            if !blameless {
                self.count_failure(endpoint, streak_of(failure));
            }
        }
        self.pools.broke(endpoint);
        match remedy {
            Remedy::Replay => {
                self.pools.retried(endpoint, failure.reason(false));
                if broken.sent {
                    self.shared.budget.spend(elapsed);
                }
                self.counters.replayed.bump();
                self.counters.reasons.count(Incident::Retry, failure.reason(false));
                self.part(owner);
                let next = self.elsewhere(owner, endpoint);
                let broke = matches!(failure, Failure::Closed | Failure::Reset);
                if next != endpoint && !blameless && broke {
                    self.note_broken_by(owner, endpoint);
                }
                let found = match self.pools.squeeze_in(next) {
                    true => self.dial(owner, next),
                    false => self.no_endpoint(owner, failure.reason(false)),
                };
                if found == Search::NoEndpoint {
                    self.answer_unavailable(owner, out);
                }
            }
            Remedy::Answer(_) => self.send_answer(owner, out),
            Remedy::Cut => {
                let begun = failure.reason(true).into();
                self.cut_client(owner, out.cause.unwrap_or(begun));
            }
        }
    }

    fn note_broken_by(&mut self, owner: ClientKey, endpoint: EndpointId) {
        if let Some(client) = self.clients.get_mut(owner) {
            client.exchange.tried.get_or_insert_default().broken_by = Some(endpoint);
        }
    }

    /// The request that `broken_by` had not answered was served with `status` by another, so that it was not the request's fault.
    pub(super) fn served_elsewhere(
        &mut self,
        broken_by: EndpointId,
        endpoint: EndpointId,
        status: u16,
    ) {
        if broken_by != endpoint && status < 500 {
            self.count_failure(broken_by, Streak::Replayed);
        }
    }

    fn describe_break(
        &self,
        owner: ClientKey,
        client: &Client<N::Conn>,
        upstream: &Upstream<N::Conn>,
        failure: Failure,
    ) -> Break {
        Break {
            failure,
            sent: upstream.has_sent(),
            held: client.exchange.hold.is_some(),
            budget: self
                .shared
                .budget
                .allows(&self.snapshot.plan.retry, self.now.since(Tick::default())),
            elsewhere: self.elsewhere(owner, upstream.endpoint) != upstream.endpoint,
        }
    }

    /// Where a request that broke at `failed` is sent again: to another endpoint if there is one, if need be one that
    /// stands by, since what broke it is likely to be there still.
    fn elsewhere(&self, key: ClientKey, failed: EndpointId) -> EndpointId {
        let Some(client) = self.clients.get(key) else { return failed };
        let refused = client.exchange.tried.iter().flat_map(|tried| &tried.endpoints);
        let tried: Vec<EndpointId> = refused.copied().chain([failed]).collect();
        let untried = |endpoint| !tried.contains(&endpoint);
        let has_room = |endpoint| untried(endpoint) && self.pools.has_room(endpoint);
        balance::pick_such(&self.snapshot, client.exchange.ticket(), has_room)
            .or_else(|| balance::pick_such(&self.snapshot, client.exchange.ticket(), untried))
            .map_or(failed, |endpoint| endpoint.id)
    }

    /// Endpoints went down: what waits for them moves on to others if it may be sent again. The rest has [`LAST_WORDS`].
    pub(super) fn leave_the_lost(&mut self, out: &mut Output) {
        if self.lost.is_empty() {
            return;
        }
        let mut lost = std::mem::take(&mut self.lost);
        lost.sort_unstable();
        let waits = |upstream: &Upstream<_>| {
            let is_lost = lost.binary_search(&upstream.endpoint).is_ok();
            is_lost && upstream.client().is_some() && !upstream.conn.queued
        };
        let keys: Vec<UpstreamKey> = self
            .upstreams
            .keys()
            .filter(|&key| self.upstreams.get(key).is_some_and(waits))
            .collect();
        keys.into_iter().for_each(|key| self.endpoint_lost(key, out));
    }

    /// The endpoint of a connection went down.
    fn endpoint_lost(&mut self, key: UpstreamKey, out: &mut Output) {
        // What was done for another one has ended it.
        let Some(upstream) = self.upstreams.get(key) else { return };
        // Likewise: it is idle now.
        let Some(owner) = upstream.client() else { return };
        if matches!(upstream.state, UpstreamState::Connecting(_)) {
            let endpoint = upstream.endpoint;
            self.part(owner);
            let next = self.next_after(owner, endpoint, Reason::DestinationUnavailable);
            return self.dial_next(owner, next, out);
        }
        let Some(client) = self.clients.get(owner) else {
            return self.impossible("a client and its upstream connection name each other");
        };
        let broken = self.describe_break(owner, client, upstream, Failure::Down);
        if client.exchange.flow.would_replay(broken) {
            self.upstream_failed(owner, Failure::Down, out);
        } else if client.exchange.flow.awaits_response()
            && !is_clients_turn(upstream.conn.waits(), client, upstream)
            && !self.is_disabled(upstream.endpoint)
        {
            let until = self.now.after(LAST_WORDS);
            if Due::at(until) < upstream.conn.deadline()
                && let Some(busy) = self.upstreams.get_mut(key).and_then(Upstream::busy_mut)
            {
                busy.last_words = true;
                self.settle_upstream(key, Moved::None);
            }
        }
    }

    /// Whether it is well, as far as is known, and somebody has decided that it gets no requests.
    fn is_disabled(&self, endpoint: EndpointId) -> bool {
        let found = self.snapshot.endpoint(endpoint);
        found.is_some_and(|it| it.state == EndpointState::Disabled)
    }
}

/// What a failure of an exchange counts as. A request may take long without any fault of its target.
fn streak_of(failure: Failure) -> Streak {
    match failure {
        Failure::HeadTimeout => Streak::Timeouts,
        _ => Streak::Resets,
    }
}

/// Whether a connection may end like this without any fault of its target: a pooled one that nobody used when it
/// was closed (RFC 9112 section 9.3.1), or a tunnel.
fn is_expected_end(flow: &Flow, reused: bool, failure: Failure) -> bool {
    let pooled = reused && flow.awaits_response();
    flow.is_tunnel() || pooled && failure != Failure::HeadTimeout
}
