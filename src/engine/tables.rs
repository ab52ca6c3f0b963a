//! What the engine keeps of each connection: state only, with the questions that one connection answers alone.

use std::net::IpAddr;

use super::conn::Conn;
use crate::access::Pending;
use crate::balance::EndpointId;
use crate::base::buffer::{Chunk, Pool};
use crate::base::slab::Key;
use crate::base::tick::Tick;
use crate::base::wheel::Due;
use crate::session::Session;

/// How far a client connection is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// It is open.
    No,
    /// It is closed when all is written.
    AfterFlush,
    /// When all is written our side ends, and what still comes is discarded for a while.
    Linger,
    /// Our side has ended.
    Lingering,
    /// It is reset when all is written and sent, or at [`Client::evictable`].
    Reset,
}

/// Endpoints that did not take a request. In a box of its own: nearly always there are none.
#[derive(Default)]
pub(super) struct Tried {
    pub(super) endpoints: Vec<EndpointId>,
    /// Until when the request may wait for a connection that nothing here suffices for.
    pub(super) waits_until: Option<Tick>,
}

pub(super) struct Client<S> {
    pub(super) conn: Conn<S>,
    pub(super) session: Session,
    /// The connection to its target while a request is under way, and between requests if it is this client's own.
    pub(super) upstream: Option<Key>,
    /// What was sent of a request, while it may have to be sent again or for the first time.
    pub(super) hold: Option<Chunk>,
    /// The round-robin ticket of the exchange.
    pub(super) ticket: usize,
    /// What the access log will say of the exchange.
    pub(super) entry: Option<Box<Pending>>,
    /// Endpoints that refused this request.
    pub(super) tried: Option<Box<Tried>>,
    pub(super) closing: Closing,
    /// Its response is whole, and the rest of its request still goes to the target or, without one, nowhere.
    pub(super) answered: bool,
    /// How much of its request the kernel had not sent to the target when it was last asked.
    pub(super) unsent: u32,
    /// Something of the next request's head has come.
    pub(super) head_begun: bool,
    /// When a tunnel's other side ended, or a response that nothing else ends: our side ends when all is written.
    pub(super) end_after_flush: bool,
    /// While it idles: from when on it may be closed to make room. While it is to be reset, all of what it is to have is
    /// written: when that is done at the latest.
    pub(super) evictable: Due,
}

impl<S> Client<S> {
    pub(super) fn new(socket: S, ip: IpAddr, trusted: bool) -> Self {
        Client {
            conn: Conn::new(socket),
            session: Session::new(ip, trusted),
            upstream: None,
            hold: None,
            ticket: 0,
            entry: None,
            tried: None,
            closing: Closing::No,
            answered: false,
            unsent: 0,
            head_begun: false,
            end_after_flush: false,
            evictable: Due::NEVER,
        }
    }

    /// Its request is read although its response waits: whoever reads only when all is sent would wait forever.
    pub(super) fn is_full_duplex(&self) -> bool {
        self.closing == Closing::No
            && self.session.streams_to_upstream()
            && !self.session.awaits_response()
    }

    /// Nothing is under way and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.session.is_idle()
            && self.closing == Closing::No
            && self.conn.inbox.is_none()
            && self.conn.outbox.is_none()
    }
}

/// A connection to a target.
pub(super) struct Upstream<S> {
    pub(super) conn: Conn<S>,
    pub(super) endpoint: EndpointId,
    /// Whose request it carries; idle in a pool without one.
    pub(super) client: Option<Key>,
    pub(super) connecting: bool,
    /// No response has begun on it.
    pub(super) fresh: bool,
    /// Some byte of the request was taken by the kernel.
    pub(super) sent: bool,
    /// A write failed: what the target still said is read, nothing more is sent.
    pub(super) deaf: bool,
    /// Its endpoint went down while it carried this request, and it has sent nothing since: it has little time left.
    pub(super) last_words: bool,
    /// When the client's direction of a tunnel ended: ours ends when all is written.
    pub(super) end_after_flush: bool,
    /// The target's direction of a tunnel ended.
    pub(super) ended: bool,
    /// It carries nothing more, but what it carried may not be read yet: its target has some time to end it. Without a client
    /// it is in no pool.
    pub(super) leaves: bool,
    /// Others may wait behind it while it idles.
    pub(super) brief: bool,
}

impl<S> Upstream<S> {
    /// Whether more of a request may be sent now.
    pub(super) fn takes_more(&self) -> bool {
        !self.connecting && !self.deaf && self.conn.outbox.is_none()
    }

    /// Whether its direction of a tunnel is over and nothing waits for it.
    pub(super) fn has_ended(&self) -> bool {
        self.ended && self.conn.outbox.is_none()
    }

    /// It belongs to nobody and is in no pool: it waits for its end.
    pub(super) fn is_parting(&self) -> bool {
        self.leaves && self.client.is_none()
    }

    /// A write failed. The target may have answered before it closed, so what it said is still read.
    pub(super) fn turn_deaf(&mut self, buffers: &mut Pool) {
        self.deaf = true;
        self.conn.readable = true;
        self.conn.outbox.take().into_iter().for_each(|chunk| buffers.take_back(chunk));
    }
}
