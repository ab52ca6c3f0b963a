//! What the engine keeps of each connection: state only, with the questions that one connection answers alone.

use std::collections::VecDeque;

use super::conn::Conn;
use super::keys::{ClientKey, UpstreamKey};
use super::net::Token;
use crate::access::Pending;
use crate::balance::EndpointId;
use crate::base::buffer::{Chunk, Pool};
use crate::base::tick::Tick;
use crate::base::wheel::Due;
use crate::exchange::Flow;
use crate::http1::{ClientAddress, ClientHalf, ServerHalf};
use crate::reason::Reason;

/// How far a client connection is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// It stays open.
    Open {
        /// While it idles: from when on it may be closed to make room.
        evictable: Due,
    },
    /// It is closed when all is written.
    AfterFlush,
    /// When all is written our side ends, and what still comes is discarded for a while.
    Linger,
    /// Our side has ended.
    Lingering,
    /// It is reset when all is written and sent.
    Reset {
        /// At the latest; known when all is written.
        by: Due,
    },
}

/// Endpoints that did not take a request. In a box of its own: nearly always there are none.
#[derive(Default)]
pub(super) struct Tried {
    pub(super) endpoints: Vec<EndpointId>,
    /// Why the last of them did not.
    pub(super) why: Option<Reason>,
    /// Until when the request may wait for a connection that nothing here suffices for.
    pub(super) waits_until: Option<Tick>,
    /// Who reset or closed the exchange, so that the request was sent again to another.
    pub(super) broken_by: Option<EndpointId>,
}

/// What belongs to one exchange: a request, its response, and where they stand. Between two of them there is none, but for
/// the connection to its target if that is the client's own.
pub(super) struct Exchange {
    /// How far it is.
    pub(super) flow: Flow,
    /// HTTP/1 towards its target. Not the connection's, for the request is written before there is one, and once for all that it is
    /// sent on.
    pub(super) half: ClientHalf,
    /// The connection to its target.
    pub(super) upstream: Option<UpstreamKey>,
    /// What was sent of the request, while it may have to be sent again or for the first time.
    pub(super) hold: Option<Chunk>,
    /// The low bits of its round-robin ticket: by it requests that are tried elsewhere are spread over the others.
    ticket: u32,
    /// What is noted of it, from when it began to when it ends.
    pub(super) entry: Option<Box<Pending>>,
    /// Endpoints that refused it, and one that broke it.
    pub(super) tried: Option<Box<Tried>>,
    /// Its response is whole and was handed to the kernel or waits for it, and the rest of its request still goes to the target or,
    /// without one, nowhere. The flow knows the first already when it was read.
    pub(super) answered: bool,
    /// Where its client's connection was accepted, as [`Entries`](super::entries::Entries) has numbered it.
    pub(super) listener: u16,
    /// How much of its request the kernel had not sent to the target when it was last asked.
    pub(super) unsent: u32,
}

impl Exchange {
    /// Before a request.
    const READY: Exchange = Exchange {
        flow: Flow::READY,
        half: ClientHalf::READY,
        upstream: None,
        hold: None,
        ticket: 0,
        entry: None,
        tried: None,
        answered: false,
        listener: u16::MAX,
        unsent: 0,
    };

    /// When it began, if it goes on.
    pub(super) fn begun(&self) -> Option<Tick> {
        self.entry.as_ref().map(|entry| entry.at)
    }

    /// Its round-robin ticket, or one that spreads as well.
    pub(super) fn ticket(&self) -> usize {
        self.ticket as usize
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are enough")]
    pub(super) fn set_ticket(&mut self, ticket: usize) {
        self.ticket = ticket as u32;
    }

    /// Gives back what was held of the request.
    pub(super) fn let_go(&mut self, buffers: &mut Pool) {
        self.hold.take().into_iter().for_each(|hold| buffers.take_back(hold));
    }
}

/// A client's connection.
pub(super) struct Client<S> {
    pub(super) conn: Conn<S>,
    pub(super) address: ClientAddress,
    /// HTTP/1 on this connection.
    pub(super) half: ServerHalf,
    /// The exchange under way.
    pub(super) exchange: Exchange,
    pub(super) closing: Closing,
    /// Something of the next request's head has come.
    pub(super) head_begun: bool,
    /// When a tunnel's other side ended, or a response that nothing else ends: our side ends when all is written.
    pub(super) end_after_flush: bool,
}

impl<S> Client<S> {
    pub(super) fn new(socket: S, address: ClientAddress, listener: u16) -> Self {
        Client {
            conn: Conn::new(socket),
            address,
            half: ServerHalf::of_client(address.trusted),
            exchange: Exchange { listener, ..Exchange::READY },
            closing: Closing::Open { evictable: Due::NEVER },
            head_begun: false,
            end_after_flush: false,
        }
    }

    /// Makes ready for the next request, after an exchange of which nothing is held any more.
    pub(super) fn next_request(&mut self) {
        self.half.next_request();
        let flow = self.exchange.flow.for_next_request();
        let Exchange { upstream, listener, .. } = self.exchange;
        self.exchange = Exchange { flow, upstream, listener, ..Exchange::READY };
    }

    /// It is not being closed.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self.closing, Closing::Open { .. })
    }

    /// Its request is read although its response waits: whoever reads only when all is sent would wait forever.
    pub(super) fn is_full_duplex(&self) -> bool {
        self.is_open()
            && self.exchange.flow.streams_to_upstream()
            && !self.exchange.flow.awaits_response()
    }

    /// Nothing is under way and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.exchange.flow.is_idle()
            && self.is_open()
            && self.conn.inbox.is_none()
            && self.conn.outbox.is_none()
    }
}

/// A connection to a target.
pub(super) struct Upstream<S> {
    pub(super) conn: Conn<S>,
    pub(super) endpoint: EndpointId,
    pub(super) state: UpstreamState,
    /// No response has begun on it.
    pub(super) fresh: bool,
    /// When the client's direction of a tunnel ended: ours ends when all is written.
    pub(super) end_after_flush: bool,
    /// The target's direction of a tunnel ended.
    pub(super) ended: bool,
    /// Its target says that it ends it after the response.
    pub(super) closes: bool,
}

/// What an upstream connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpstreamState {
    /// It is opened for this client's request.
    Connecting(ClientKey),
    /// It carries a client's request, or is this client's own between two of them.
    Busy(Busy),
    /// It is idle, in its endpoint's pool.
    Pooled {
        /// Others may wait behind it.
        brief: bool,
    },
    /// It carries nothing more and is in no pool, but what it carried may not be read yet: its target has some time to end it.
    Parting,
}

/// How it stands with the request that an upstream connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) client: ClientKey,
    /// The connection had carried another before.
    pub(super) reused: bool,
    /// Some byte of the request was taken by the kernel.
    pub(super) sent: bool,
    /// A write failed: what the target still said is read, nothing more is sent.
    pub(super) write_broken: bool,
    /// Its endpoint went down, and it has taken nothing since: it has little time left.
    pub(super) last_words: bool,
}

impl Busy {
    pub(super) fn new(client: ClientKey, reused: bool, sent: bool) -> Busy {
        Busy { client, reused, sent, write_broken: false, last_words: false }
    }
}

impl<S> Upstream<S> {
    /// A connection that is opened for the request of `client`.
    pub(super) fn new(socket: S, endpoint: EndpointId, client: ClientKey) -> Self {
        Upstream {
            conn: Conn::new(socket),
            endpoint,
            state: UpstreamState::Connecting(client),
            fresh: true,
            end_after_flush: false,
            ended: false,
            closes: false,
        }
    }

    /// The client whose request it carries or is opened for, or whose own it is.
    #[inline]
    pub(super) fn client(&self) -> Option<ClientKey> {
        match self.state {
            UpstreamState::Connecting(client) | UpstreamState::Busy(Busy { client, .. }) => {
                Some(client)
            }
            UpstreamState::Pooled { .. } | UpstreamState::Parting => None,
        }
    }

    #[inline]
    pub(super) fn busy(&self) -> Option<&Busy> {
        match &self.state {
            UpstreamState::Busy(busy) => Some(busy),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn busy_mut(&mut self) -> Option<&mut Busy> {
        match &mut self.state {
            UpstreamState::Busy(busy) => Some(busy),
            _ => None,
        }
    }

    /// Whether some byte of the request it carries was taken.
    pub(super) fn has_sent(&self) -> bool {
        self.busy().is_some_and(|busy| busy.sent)
    }

    pub(super) fn is_write_broken(&self) -> bool {
        self.busy().is_some_and(|busy| busy.write_broken)
    }

    /// Whether more of a request may be sent now.
    pub(super) fn takes_more(&self) -> bool {
        self.busy().is_some_and(|busy| !busy.write_broken) && self.conn.outbox.is_none()
    }

    /// Whether its direction of a tunnel is over and nothing waits for it.
    pub(super) fn has_ended(&self) -> bool {
        self.ended && self.conn.outbox.is_none()
    }

    /// Bytes of its request were taken.
    pub(super) fn note_sent(&mut self) {
        if let Some(busy) = self.busy_mut() {
            busy.sent = true;
        }
    }

    /// A write failed. The target may have answered before it closed, so what it said is still read.
    pub(super) fn break_writes(&mut self, buffers: &mut Pool) {
        if let Some(busy) = self.busy_mut() {
            busy.write_broken = true;
        }
        self.conn.readable = true;
        self.conn.outbox.take().into_iter().for_each(|chunk| buffers.take_back(chunk));
    }
}

/// Whether a connection has more to do in this turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Then {
    Again,
    #[default]
    Wait,
}

/// Connections that may be ready at once before their list grows.
const READY: usize = 512;

/// Which connections have something to do, each at most once.
pub(super) struct Ready {
    pub(super) clients: Vec<ClientKey>,
    pub(super) upstreams: Vec<UpstreamKey>,
    /// Those that moved much when they last ran.
    pub(super) bulk: VecDeque<Token>,
}

impl Ready {
    pub(super) fn new() -> Self {
        Ready {
            clients: Vec::with_capacity(READY),
            upstreams: Vec::with_capacity(READY),
            bulk: VecDeque::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.upstreams.is_empty() && self.bulk.is_empty()
    }
}
