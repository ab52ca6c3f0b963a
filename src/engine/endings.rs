//! How an exchange ends for its client, and how the client's connection does: it waits for the next request, is closed, lingers, or
//! is cut. How an upstream connection ends is in [`parting`](super::parting).

use super::Net;
use super::clock::clock;
use super::conn::{Conn, Filled};
use super::keys::ClientKey;
use super::pump::Pump;
use super::tables::{Client, Closing, Then};
use super::waits::Moved;
use crate::access::End;
use crate::base::wheel::Due;
use crate::exchange::{ClientEnd, Ending};
use crate::reason::{Cause, Reason};

impl<N: Net> Pump<N> {
    /// What becomes of the client now that its exchange is over.
    pub(super) fn exchange_over(&mut self, key: ClientKey, end: End) {
        self.end_entry(key, end);
        // Its last bytes could not be written: it has gone.
        let Some(client) = self.clients.get_mut(key) else { return };
        client.exchange.let_go(&mut self.buffers);
        client.head_begun = false;
        client.exchange.answered = false;
        client.exchange.unsent = 0;
        match client.exchange.flow.ending(&client.half) {
            Ending::KeepAlive => {
                client.next_request();
                client.conn.bulk = false;
                let has_more =
                    client.conn.inbox.is_some() || client.conn.readable || client.conn.read_closed;
                if client.conn.outbox.is_none() {
                    client.settle(key, Moved::Anew, &mut clock!(self));
                }
                if has_more {
                    self.queue_client(key);
                }
            }
            Ending::Close if client.conn.inbox.is_none() && !client.conn.readable => {
                client.closing = Closing::AfterFlush;
                self.flush_client(key);
            }
            Ending::Close | Ending::Linger => self.linger(key),
        }
    }

    /// Ends our side of the client's connection when all is written, and the rest when the client has had time to read.
    fn linger(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key) {
            client.closing = Closing::Linger;
        }
        self.flush_client(key);
        self.queue_client(key);
    }

    /// Does what was to be done once all is written. `false` if the client is gone.
    pub(super) fn end_client_writes(&mut self, key: ClientKey) -> bool {
        let Pump { clients, net, .. } = self;
        // It was given up when all was written.
        let Some(client) = clients.get_mut(key) else { return false };
        if std::mem::take(&mut client.end_after_flush) {
            net.shutdown(&mut client.conn.socket);
            return self.end_tunnel_if_over(key);
        }
        match client.closing {
            Closing::AfterFlush if !has_more(net, &mut client.conn) => {
                self.drop_client(key);
                return false;
            }
            Closing::Reset { .. } => {
                self.reset_client(key);
                return false;
            }
            Closing::AfterFlush | Closing::Linger => {
                client.closing = Closing::Lingering;
                net.shutdown(&mut client.conn.socket);
                client.conn.readable = true;
                self.settle_client(key, Moved::None);
            }
            Closing::Open { .. } | Closing::Lingering => {}
        }
        true
    }

    /// Reads what nobody will use, so that closing does not reset the answer away (RFC 9112 section 9.6).
    pub(super) fn discard(&mut self, key: ClientKey, read: &mut [u8]) -> Then {
        let Pump { clients, net, buffers, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return self.impossible("a client that runs is there");
        };
        if let Some(inbox) = client.conn.inbox.take() {
            buffers.take_back(inbox);
        }
        match client.conn.fill(net, buffers, read, usize::MAX) {
            Filled::Bytes(count) => {
                self.moved += count;
                Then::Again
            }
            Filled::Nothing => Then::Wait,
            Filled::End | Filled::Broken => {
                self.drop_client(key);
                Then::Wait
            }
        }
    }

    /// The client's side of the connection ended.
    pub(super) fn client_ended(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return self.impossible("a client that runs is there");
        };
        match client.exchange.flow.client_closed() {
            ClientEnd::Close | ClientEnd::Abort => self.drop_client(key),
            ClientEnd::HalfClose => {
                if let Some(upstream) = client.exchange.upstream {
                    self.end_upstream_writes(upstream);
                }
            }
        }
    }

    /// Ends the client's connection so that it can see that its response is not whole, after what is whole of it.
    pub(super) fn cut_client(&mut self, key: ClientKey, cause: Cause) {
        let Some(client) = self.end_cut(key, cause) else {
            return self.impossible("a client that runs is there");
        };
        if client.half.is_framed_by_its_end() {
            client.closing = Closing::Reset { by: Due::NEVER };
            self.flush_client(key);
        } else {
            self.linger(key);
        }
    }

    /// Likewise, but at once.
    pub(super) fn cut_at_once(&mut self, key: ClientKey, cause: Cause) {
        self.end_cut(key, cause);
        self.reset_now(key);
    }

    pub(super) fn reset_now(&mut self, key: ClientKey) {
        if let Some(client) = self.forget_client(key) {
            self.net.reset(client.conn.socket);
        }
    }

    /// Ends the exchange of a client that is cut off.
    fn end_cut(&mut self, key: ClientKey, cause: Cause) -> Option<&mut Client<N::Conn>> {
        self.note_cut(key, cause);
        self.end_entry(key, End::Cut);
        self.part(key);
        let client = self.clients.get_mut(key)?;
        client.exchange.let_go(&mut self.buffers);
        client.exchange.answered = false;
        Some(client)
    }

    /// Resets a client's connection to which all is written, when that is sent: what the kernel still holds would be lost with it.
    pub(super) fn reset_client(&mut self, key: ClientKey) {
        let Pump { clients, net, snapshot, now, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return self.impossible("a client that runs is there");
        };
        let Closing::Reset { by } = &mut client.closing else {
            return self.impossible("a client is reset that is to be reset");
        };
        if *by == Due::NEVER {
            *by = Due::at(now.after(snapshot.plan.timeouts.client_body));
        }
        if !by.has_come(*now) && !net.has_sent_all(&mut client.conn.socket) {
            self.settle_client(key, Moved::Anew);
        } else {
            self.reset_now(key);
        }
    }

    /// Cuts every exchange that is under way: nobody waits for its end any more.
    pub(super) fn cut_all(&mut self) {
        let keys: Vec<ClientKey> = self.clients.keys().collect();
        for key in keys {
            let Some(client) = self.clients.get(key) else { continue };
            if client.exchange.entry.is_some() || client.exchange.upstream.is_some() {
                let seems_whole = client.half.is_framed_by_its_end() && !client.exchange.answered;
                match seems_whole {
                    true => self.cut_at_once(key, Reason::ProxyStopped.into()),
                    false => self.cut_client(key, Reason::ProxyStopped.into()),
                }
            }
        }
    }

    /// Closes the client's connection, and its upstream's with it.
    pub(super) fn drop_client(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get(key) else {
            return self.impossible("a client that runs is there");
        };
        let end = if client.exchange.flow.is_tunnel() {
            End::TunnelClosed
        } else if client.exchange.answered && client.conn.outbox.is_none() {
            End::Finished
        } else {
            End::ClientClosed
        };
        self.end_entry(key, end);
        self.part(key);
        drop(self.forget_client(key));
    }

    /// Gives up the exchange of a client that has gone. Should it still be there, it must not take what it got of a response
    /// for all of it.
    pub(super) fn give_up(&mut self, key: ClientKey) {
        let begun =
            self.clients.get(key).is_some_and(|client| !client.exchange.flow.awaits_response());
        self.end_entry(key, End::ClientClosed);
        self.part(key);
        if let Some(client) = self.forget_client(key)
            && begun
        {
            self.net.reset(client.conn.socket);
        }
    }

    pub(super) fn forget_client(&mut self, key: ClientKey) -> Option<Client<N::Conn>> {
        let mut client = self.clients.remove(key)?;
        debug_assert!(client.exchange.entry.is_none(), "an exchange that began has ended");
        client.conn.release(&mut self.buffers);
        client.exchange.let_go(&mut self.buffers);
        self.closed += 1;
        self.counters.closed.bump();
        Some(client)
    }

    /// Closes the client's upstream connection, if it has one.
    pub(super) fn part(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key)
            && let Some(upstream) = client.exchange.upstream.take()
        {
            self.close_upstream(upstream);
        }
    }
}

/// Whether a client has said more, or may have: with that unread a close would be a reset, which takes back what the client
/// has not read.
fn has_more<N: Net>(net: &mut N, conn: &mut Conn<N::Conn>) -> bool {
    if conn.inbox.is_some() {
        return true;
    }
    conn.readable = true;
    match conn.read(net, &mut [0; 64], 64) {
        Filled::Bytes(_) => true,
        Filled::Nothing => conn.short,
        Filled::End | Filled::Broken => false,
    }
}
