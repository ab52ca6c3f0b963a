//! Whether a target still takes a request of which the kernel has everything: no call of ours says so any more, but the target
//! has not had all of it.
//!
//! Only content of megabytes waits so. The kernel is asked when the time limit of a response is over, and before that when the
//! wheel looks at the connection anyway, at most 8 seconds apart.

use super::Net;
use super::keys::UpstreamKey;
use super::pump::Pump;
use super::waits::Moved;

impl<N: Net> Pump<N> {
    /// The wheel looks at a connection whose limit is not over: if its target has taken more of an upload, that begins again.
    pub(super) fn look_at_upload(&mut self, key: UpstreamKey) {
        let Some(upstream) = self.upstreams.get(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        // It carries nothing.
        let Some(client) = upstream.client().and_then(|at| self.clients.get(at)) else { return };
        let is_upload =
            client.exchange.flow.has_content() && client.exchange.flow.awaits_response();
        if is_upload && upstream.takes_more() {
            self.follow_upload(key);
        }
    }

    /// Whether the target has taken more of a request since that was last asked, or was never asked: then its time to answer
    /// begins again.
    pub(super) fn follow_upload(&mut self, key: UpstreamKey) -> bool {
        let Pump { clients, upstreams, net, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        let Some(client) = upstream.client().and_then(|at| clients.get_mut(at)) else {
            return self.impossible("a client and its upstream connection name each other");
        };
        let unsent = net.unsent(&mut upstream.conn.socket);
        let before = std::mem::replace(&mut client.exchange.unsent, unsent);
        let goes_on = unsent != before;
        if goes_on {
            self.settle_upstream(key, Moved::Written);
        }
        goes_on
    }
}
