//! Tunnels: how the end of either direction is passed on, and when both have ended.

use super::Net;
use super::keys::{ClientKey, UpstreamKey};
use super::pump::Pump;
use super::tables::Upstream;
use super::waits::Moved;
use crate::access::End;

impl<N: Net> Pump<N> {
    /// The client's direction of a tunnel ended: passes that on when all is written.
    pub(super) fn end_upstream_writes(&mut self, key: UpstreamKey) {
        if let Some(upstream) = self.upstreams.get_mut(key) {
            upstream.end_after_flush = true;
        }
        self.end_writes_if_flushed(key);
    }

    pub(super) fn end_writes_if_flushed(&mut self, key: UpstreamKey) {
        let Pump { upstreams, net, .. } = self;
        // Its upload is over, and it with that.
        let Some(upstream) = upstreams.get_mut(key) else { return };
        if upstream.conn.outbox.is_none() && std::mem::take(&mut upstream.end_after_flush) {
            net.shutdown(&mut upstream.conn.socket);
            if let Some(owner) = upstream.client() {
                self.end_tunnel_if_over(owner);
            }
        }
    }

    /// Closes a tunnel both of whose directions have ended. `false` if it was.
    pub(super) fn end_tunnel_if_over(&mut self, key: ClientKey) -> bool {
        let Some(client) = self.clients.get(key) else {
            return self.impossible("a client that runs is there");
        };
        let answered = client
            .exchange
            .upstream
            .is_none_or(|upstream| self.upstreams.get(upstream).is_none_or(Upstream::has_ended));
        let over =
            client.exchange.flow.tunnel_client_ended() && answered && client.conn.outbox.is_none();
        if over {
            self.drop_client(key);
        }
        !over
    }

    pub(super) fn end_idle_tunnel(&mut self, key: ClientKey) {
        self.end_entry(key, End::TunnelIdle);
        self.drop_client(key);
    }

    /// Bytes moved through a tunnel: the limit of both its sides begins again. Of anything else nothing changes.
    pub(super) fn settle_tunnel(
        &mut self,
        client: Option<ClientKey>,
        upstream: Option<UpstreamKey>,
    ) {
        let is_tunnel = client
            .and_then(|at| self.clients.get(at))
            .is_some_and(|it| it.exchange.flow.is_tunnel());
        if is_tunnel {
            client.into_iter().for_each(|at| self.settle_client(at, Moved::Read));
            upstream.into_iter().for_each(|at| self.settle_upstream(at, Moved::Read));
        }
    }
}
