//! How an upstream connection ends: by a reset, in order, or by its target, which has some time for that.
//!
//! Whoever ends a connection first in order keeps its port in TIME_WAIT for a minute, so that clients which have many ended could take
//! every port towards a target. Therefore one with a request that its target has not answered is reset, and so is one whose
//! request was answered and has no content. But a reset takes away what the target has not read. Where that matters, because
//! the content of a request may still be on its way, a target that says that it closes is waited for, and any other
//! connection is ended in order, as long as such ends are few. An idle one is closed in order too, because servers log a reset as
//! an error.

use std::collections::VecDeque;
use std::time::Duration;

use super::Net;
use super::keys::UpstreamKey;
use super::pools::Matured;
use super::pump::Pump;
use super::tables::{Upstream, UpstreamState};
use super::waits::Moved;
use crate::base::tick::Tick;
use crate::exchange::Reuse;

/// Connections that may wait for their end; the oldest makes room for one more.
const MOST: usize = 256;
/// Connections that are ended in order in a second because of content that may be unread: 1,200 ports in TIME_WAIT for each worker.
const IN_ORDER: u32 = 20;

/// The connections that wait for their end.
#[derive(Default)]
pub(super) struct Parting {
    /// In the order in which they began to; some have ended since.
    keys: VecDeque<UpstreamKey>,
    /// When the second ends in which connections are counted that were ended in order.
    until: Tick,
    ended: u32,
}

impl Parting {
    fn may_end_in_order(&mut self, now: Tick) -> bool {
        if self.until <= now {
            self.until = now.after(Duration::from_secs(1));
            self.ended = 0;
        }
        self.ended += 1;
        self.ended <= IN_ORDER
    }
}

impl<N: Net> Pump<N> {
    /// Ends an upstream connection at once: in order if it is idle or its target has ended it, else by a reset.
    pub(super) fn close_upstream(&mut self, key: UpstreamKey) {
        if let Some(upstream) = self.release_upstream(key)
            && !matches!(upstream.state, UpstreamState::Pooled { .. })
            && !upstream.conn.read_closed
        {
            self.net.reset(upstream.conn.socket);
        }
    }

    /// Ends an upstream connection whose exchange is over.
    pub(super) fn end_spent(&mut self, key: UpstreamKey, reuse: Reuse) {
        let Pump { clients, upstreams, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        let client = upstream.client().and_then(|client| clients.get(client));
        let unread = client.is_some_and(|client| {
            client.exchange.flow.has_content() && client.exchange.flow.request_complete()
        });
        upstream.closes = reuse == Reuse::Ends;
        match unread && reuse != Reuse::No {
            true => self.end_upstream(key),
            false => self.close_upstream(key),
        }
    }

    /// Ends an upstream connection of whose last request the target may not have read everything. It is nobody's from now on.
    pub(super) fn end_upstream(&mut self, key: UpstreamKey) {
        let Pump { upstreams, pools, parting, now, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        let waits = upstream.closes || !parting.may_end_in_order(*now);
        if upstream.conn.read_closed || !waits {
            drop(self.release_upstream(key));
            return;
        }
        upstream.state = UpstreamState::Parting;
        pools.leave(upstream.endpoint);
        upstream.conn.bulk = false;
        parting.keys.push_back(key);
        let readable = upstream.conn.readable;
        self.settle_upstream(key, Moved::None);
        if readable {
            self.queue_upstream(key);
        }
        if self.parting.keys.len() > MOST {
            self.end_some_parting();
        }
    }

    /// The time of a connection that waits for its end is over, or it has to make room.
    pub(super) fn parting_timed_out(&mut self, key: UpstreamKey) {
        match self.parting.may_end_in_order(self.now) {
            true => drop(self.release_upstream(key)),
            false => self.close_upstream(key),
        }
    }

    /// Ends the connection that waits for its end for longest. `false` if there is none.
    pub(super) fn end_some_parting(&mut self) -> bool {
        while let Some(key) = self.parting.keys.pop_front() {
            if self.upstreams.get(key).is_some_and(|it| it.state == UpstreamState::Parting) {
                self.parting_timed_out(key);
                return true;
            }
        }
        false
    }

    fn release_upstream(&mut self, key: UpstreamKey) -> Option<Upstream<N::Conn>> {
        let mut upstream = self.upstreams.remove(key)?;
        upstream.conn.release(&mut self.buffers);
        if upstream.fresh {
            self.pools.matured(upstream.endpoint, key, Matured::End, self.now);
        }
        if upstream.client().is_some() {
            self.pools.leave(upstream.endpoint);
        }
        Some(upstream)
    }
}
