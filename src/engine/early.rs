//! A response that is whole before its request: the upload goes on to its end, with which the exchange ends.
//!
//! Owns that stretch of an exchange. While it lasts the request keeps its place with its endpoint, `timeouts.client_body` holds for
//! the client and `timeouts.response_body` for what the target takes; the entry of the access log and the counters follow when it is
//! over, as those of an exchange that finished. If the target takes no more, what still comes is dropped for [`LINGER`](super::LINGER).

use super::Net;
use super::conn::{Filled, PEEK};
use super::keys::{ClientKey, UpstreamKey};
use super::pools::WholeResponse;
use super::pump::Pump;
use super::waits::Moved;
use crate::access::End;
use crate::balance::{Report, Streak};
use crate::exchange::Reuse;

impl<N: Net> Pump<N> {
    /// The response is whole and began before its request was sent whole: the upload goes on, for as long as the target takes
    /// it. What a target that has answered will take for the beginning of the next request is not known, so that its
    /// connection carries no other.
    pub(super) fn finish_early(&mut self, key: UpstreamKey, owner: ClientKey, reuse: Reuse) {
        let Pump { clients, upstreams, buffers, .. } = self;
        let (Some(upstream), Some(client)) = (upstreams.get_mut(key), clients.get_mut(owner))
        else {
            return self.impossible("a client and its upstream connection name each other");
        };
        client.exchange.answered = true;
        client.exchange.let_go(buffers);
        client.end_after_flush = client.half.is_framed_by_its_end();
        upstream.closes = reuse == Reuse::Ends;
        let (endpoint, status) = (upstream.endpoint, client.exchange.flow.status());
        let reused = upstream.busy().is_some_and(|busy| busy.reused);
        let answer = WholeResponse { status, begun: client.exchange.begun(), reused };
        let ended = upstream.conn.read_closed || upstream.is_write_broken();
        let broken_by = client.exchange.tried.as_mut().and_then(|tried| tried.broken_by.take());
        if let Some(broken_by) = broken_by {
            self.served_elsewhere(broken_by, endpoint, status);
        }
        self.settle_upstream(key, Moved::None);
        self.settle_client(owner, Moved::None);
        if let Some(count) = self.pools.give_back(endpoint, None, answer, self.now).errors {
            self.reports.push((endpoint, Report::Streak(Streak::Errors, count)));
        }
        match ended {
            true => self.stop_upload(owner),
            false => self.end_upload_if_over(owner),
        }
        if self.clients.get(owner).is_some_and(|client| client.exchange.answered) {
            self.flush_client(owner);
            self.queue_client(owner);
        }
    }

    /// Something stirs on the connection of a target that has answered while it is still sent the request: it takes no more of
    /// that if it has ended, or says what nobody asked for.
    pub(super) fn look_at_answered(&mut self, key: UpstreamKey, owner: ClientKey, read: &mut [u8]) {
        let Pump { upstreams, net, buffers, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        let goes_on = !upstream.is_write_broken()
            && upstream.conn.inbox.is_none()
            && matches!(upstream.conn.fill(net, buffers, read, PEEK), Filled::Nothing);
        if !goes_on {
            self.stop_upload(owner);
        }
    }

    /// The client broke a request that was answered.
    pub(super) fn break_off_answered(&mut self, owner: ClientKey) {
        self.part(owner);
        self.end_answered(owner);
    }

    /// The target takes no more of a request that it has answered. What still comes is dropped: if it ends soon the client's
    /// connection goes on, and until then the client can read its response.
    pub(super) fn stop_upload(&mut self, owner: ClientKey) {
        self.part(owner);
        self.settle_client(owner, Moved::None);
        self.queue_client(owner);
        self.end_upload_if_over(owner);
    }

    /// Ends an exchange whose response was whole before its request, if that is now too, and its target has all of it.
    pub(super) fn end_upload_if_over(&mut self, owner: ClientKey) {
        let Some(client) = self.clients.get(owner) else {
            return self.impossible("a client that runs is there");
        };
        if !client.exchange.answered || !client.exchange.flow.request_complete() {
            return;
        }
        let upstream = client.exchange.upstream.and_then(|key| self.upstreams.get(key));
        if upstream.is_none_or(|upstream| upstream.conn.outbox.is_none()) {
            self.end_answered(owner);
        }
    }

    /// Ends an exchange whose response is whole.
    fn end_answered(&mut self, owner: ClientKey) {
        if let Some(upstream) =
            self.clients.get_mut(owner).and_then(|it| it.exchange.upstream.take())
        {
            self.end_upstream(upstream);
        }
        self.exchange_over(owner, End::Finished);
    }
}
