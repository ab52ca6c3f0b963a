//! What the engine does when something is short on this side: what gives way, what is tried again and when, and the one
//! line about it. The list of such errors is [`base::shortage`](crate::base::shortage).
//!
//! Invariants: nothing of it is reported as an endpoint's fault or counted in a streak; a failed call is made again only
//! after something gave way, at most [`WAYS`] times, or when [`RETRY`] is over.

use std::io;
use std::time::Duration;

use super::conn::Filled;
use super::keys::{ClientKey, UpstreamKey};
use super::pump::Pump;
use super::tables::{Client, Closing};
use super::{Net, Token};
use crate::base::shortage::Shortage;
use crate::base::tick::Tick;
use crate::base::wheel::Due;
use crate::exchange::Output;

/// When connections whose calls failed for lack of memory run again. No event says when there is some.
const RETRY: Duration = Duration::from_millis(30);
/// The least time between two lines.
const QUIET: Duration = Duration::from_secs(10);
/// Idle clients that are looked at in vain before it is left at that.
const LAST_LOOKS: usize = 16;
/// Connections that may give way to one.
pub(super) const WAYS: usize = 2;

/// How long a request waits, at most, for a connection that nothing here suffices for. Shortages of a moment are over by then.
const WAIT: Duration = Duration::from_millis(500);
/// Requests that may wait so; the next one is answered at once.
const MOST: usize = 1024;

/// Half heads that are given up at once.
const HALF_HEADS: usize = 64;

/// Where the engine stands with shortages.
#[derive(Debug, Default)]
pub(super) struct Shortages {
    /// When connections whose calls failed run again, and requests are tried again that have none.
    retry_at: Option<Tick>,
    /// Clients whose requests have none; some have gone since.
    waiting: Vec<ClientKey>,
    /// Until when a shortage is not worth another line.
    quiet_until: Tick,
}

impl Shortages {
    pub(super) fn retry_at(&self) -> Option<Tick> {
        self.retry_at
    }
}

impl<N: Net> Pump<N> {
    /// Counts a call that failed with a local error, and logs it from time to time.
    pub(super) fn note_shortage(&mut self, shortage: Shortage, what: &str, error: &io::Error) {
        self.counters.shortages.bump();
        if self.shortages.quiet_until <= self.now {
            self.shortages.quiet_until = self.now.after(QUIET);
            log::warn!("{what}: {error}; no fault of the other side; {}", remedy(shortage));
        }
    }

    /// Says, now and then, that the buffers hold all they may, and what becomes of it.
    pub(super) fn note_lack(&mut self, what: &str) {
        if self.shortages.quiet_until <= self.now {
            self.shortages.quiet_until = self.now.after(QUIET);
            let limit = self.shared.memory.limit() >> 20;
            log::warn!(
                "the buffers hold all of limits.memory ({limit} MiB): {what}; no fault of the other side; raise it, or lower \
                 limits.connections"
            );
        }
    }

    /// A call to `endpoint` failed with a local error: counts it, and frees something where that can help. `true` if the call
    /// may be retried; `ways` counts how often it was.
    pub(super) fn makes_way(&mut self, shortage: Shortage, ways: &mut usize) -> bool {
        *ways += 1;
        shortage.gives_way() && *ways <= WAYS && self.free_descriptor()
    }

    /// Sends the request that is held on an idle connection to any healthy endpoint: what is there needs nothing that is
    /// short. `false` if there is none.
    pub(super) fn send_held_on_idle(&mut self, key: ClientKey) -> bool {
        let Some(hold) = self.clients.get_mut(key).and_then(|client| client.exchange.hold.take())
        else {
            return false;
        };
        let request = self.buffers.get(&hold).to_vec();
        // Those of a stack may all be gone, or too old for a request that may not be repeated.
        for _ in 0..WAYS {
            let idle = self.pools.some_idle().filter(|&it| self.pools.has_room(it));
            let Some(endpoint) = idle.filter(|&it| self.pools.enter(it)) else { break };
            let idle = self.pools.pop(endpoint, self.now);
            if self.send_on_idle(key, endpoint, idle, [&request, &[], &[]]) {
                self.buffers.take_back(hold);
                self.queue_client(key);
                return true;
            }
            self.pools.leave(endpoint);
        }
        match self.clients.get_mut(key) {
            Some(client) => client.exchange.hold = Some(hold),
            None => self.buffers.take_back(hold),
        }
        false
    }

    /// Closes an idle client connection, the one that was idle longest among those looked at, to make room.
    /// One that fell idle just now, or was accepted just now, is spared: its request may be on its way. So is one whose
    /// request is here although no event has said so yet. `false` if none was found.
    pub(super) fn evict_idle(&mut self) -> bool {
        for _ in 0..LAST_LOOKS {
            let Some(key) = self.idle_for_longest() else { return false };
            if !self.has_asked(key) {
                self.drop_client(key);
                return true;
            }
        }
        false
    }

    fn idle_for_longest(&mut self) -> Option<ClientKey> {
        const LOOKED_AT: usize = 64;
        let now = self.now;
        let evictable = |client: &Client<N::Conn>| match client.closing {
            Closing::Open { evictable } if client.is_idle() && !client.conn.readable => {
                Some(evictable).filter(|from| from.has_come(now))
            }
            _ => None,
        };
        let positions = self.clients.positions();
        let mut oldest: Option<(Due, ClientKey)> = None;
        let mut looked_at = 0;
        for _ in 0..positions {
            self.hand = if self.hand + 1 < positions { self.hand + 1 } else { 0 };
            let Some(key) = self.clients.key_at(self.hand) else { continue };
            let Some(since) = self.clients.get(key).and_then(evictable) else { continue };
            looked_at += 1;
            if oldest.is_none_or(|(least, _)| since < least) {
                oldest = Some((since, key));
            }
            if looked_at == LOOKED_AT {
                break;
            }
        }
        oldest.map(|(_, key)| key)
    }

    /// A last look at an idle client: whether it has said something, which is then to be worked on.
    fn has_asked(&mut self, key: ClientKey) -> bool {
        let Pump { clients, net, buffers, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return self.impossible("a client that runs is there");
        };
        let mut first = [0; 256];
        client.conn.readable = true;
        let limit = first.len();
        match client.conn.read(net, &mut first, limit) {
            Filled::Bytes(count) => client.conn.keep(buffers, &first[..count], false),
            // A look that failed for lack of memory says nothing.
            Filled::Nothing if client.conn.short => {}
            Filled::Nothing | Filled::End | Filled::Broken => return false,
        }
        self.queue_client(key);
        true
    }

    /// Remembers that connections wait for memory, so that they run again.
    pub(super) fn follow_shortage(&mut self) {
        if self.net.take_short() {
            let error = io::ErrorKind::OutOfMemory.into();
            self.note_shortage(Shortage::Memory, "a connection waits for memory", &error);
            self.shortages.retry_at.get_or_insert(self.now.after(RETRY));
        }
    }

    /// Runs the connections again whose calls failed for lack of memory.
    pub(super) fn retry_short(&mut self, out: &mut Output) {
        if self.shortages.retry_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.shortages.retry_at = None;
        if self.buffers.is_short() {
            let error = io::ErrorKind::OutOfMemory.into();
            self.note_shortage(Shortage::Memory, "no memory for buffers", &error);
            self.free_half_heads(out);
        }
        self.retry_waiting(out);
        let short: Vec<ClientKey> = self.clients.keys().collect();
        for key in short {
            if self.clients.get_mut(key).is_some_and(|it| std::mem::take(&mut it.conn.short)) {
                self.queue_client(key);
            }
        }
        let short: Vec<UpstreamKey> = self.upstreams.keys().collect();
        for key in short {
            if self.upstreams.get_mut(key).is_some_and(|it| std::mem::take(&mut it.conn.short)) {
                self.queue_upstream(key);
            }
        }
    }

    /// Has a request for which no connection is available wait until there may be one. `false` if it has waited for long, or too
    /// many do.
    pub(super) fn wait_for_connection(&mut self, key: ClientKey) -> bool {
        let wait = WAIT.min(self.snapshot.plan.timeouts.connect);
        let Pump { clients, shortages, now, .. } = self;
        let Some(client) = clients.get_mut(key).filter(|client| client.exchange.hold.is_some())
        else {
            return false;
        };
        let tried = client.exchange.tried.get_or_insert_default();
        let until = *tried.waits_until.get_or_insert(now.after(wait));
        let waits = *now < until && shortages.waiting.len() < MOST;
        if waits {
            shortages.waiting.push(key);
            shortages.retry_at.get_or_insert(now.after(RETRY));
        }
        waits
    }

    /// Tries the requests again that wait for a connection: any endpoint will do.
    fn retry_waiting(&mut self, out: &mut Output) {
        for key in std::mem::take(&mut self.shortages.waiting) {
            let Some(client) = self.clients.get_mut(key) else { continue };
            if client.exchange.hold.is_none() || client.exchange.upstream.is_some() {
                continue;
            }
            client.exchange.tried.iter_mut().for_each(|tried| tried.endpoints.clear());
            if !self.send_held_on_idle(key) {
                self.dial_anew(key, out);
            }
        }
    }

    /// Has every table take one more connection, of either side.
    ///
    /// # Errors
    /// `ENOMEM` if this process may have no more memory for that.
    pub(super) fn reserve(&mut self) -> io::Result<()> {
        let Pump { clients, upstreams, ready, wheel, fired, buffers, .. } = self;
        let (both, timers) = (clients.len() + upstreams.len() + 1, wheel.len() + 1);
        let lists =
            ready.clients.try_reserve((clients.len() + 1).saturating_sub(ready.clients.len()));
        let fits = clients.has_room()
            && upstreams.has_room()
            && wheel.has_room()
            && lists.is_ok()
            && ready
                .upstreams
                .try_reserve((upstreams.len() + 1).saturating_sub(ready.upstreams.len()))
                .is_ok()
            && ready.bulk.try_reserve(both.saturating_sub(ready.bulk.len())).is_ok()
            && fired.try_reserve(timers.saturating_sub(fired.len())).is_ok()
            && !(buffers.is_short() && buffers.is_spent());
        match fits {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(nix::errno::Errno::ENOMEM as i32)),
        }
    }

    /// While this process may have no more memory: whether a connection must not be read, because what it sends might find no
    /// place. It runs again a little later. A client whose head is only half here is answered by 503, so that those who hold memory do
    /// not wait for more.
    #[cold]
    pub(super) fn waits_for_pages(&mut self, token: Token, out: &mut Output) -> bool {
        if !self.buffers.is_spent() {
            return false;
        }
        self.shortages.retry_at.get_or_insert(self.now.after(RETRY));
        match token {
            Token::Client(key) => {
                if !self.let_go_of_half_head(key, out)
                    && let Some(client) = self.clients.get_mut(key)
                {
                    client.conn.short = true;
                }
            }
            Token::Upstream(key) => {
                if let Some(upstream) = self.upstreams.get_mut(key) {
                    upstream.conn.short = true;
                }
            }
        }
        true
    }

    /// Answers some of those by 503 that hold memory for a head that is only half here, if there is no other.
    fn free_half_heads(&mut self, out: &mut Output) {
        let positions = self.clients.positions();
        let mut freed = 0;
        for _ in 0..positions {
            if freed == HALF_HEADS || !self.buffers.is_spent() {
                return;
            }
            self.hand = if self.hand + 1 < positions { self.hand + 1 } else { 0 };
            if let Some(key) = self.clients.key_at(self.hand)
                && self.let_go_of_half_head(key, out)
            {
                freed += 1;
            }
        }
    }

    /// Answers this client by 503 if it holds memory for a head that is only half here. Whether it did.
    fn let_go_of_half_head(&mut self, key: ClientKey, out: &mut Output) -> bool {
        // It has gone meanwhile.
        let Some(client) = self.clients.get_mut(key) else { return false };
        let asks = client.is_open()
            && client.exchange.upstream.is_none()
            && client.exchange.hold.is_none()
            && client.exchange.flow.is_idle();
        // It holds nothing, or what its exchange needs.
        let Some(inbox) = client.conn.inbox.take_if(|_| asks) else { return false };
        self.buffers.take_back(inbox);
        self.answer_no_memory(key, out);
        true
    }

    /// Registers a fresh client connection, in the place of an idle one if that is what it takes.
    /// `false` if it cannot be.
    pub(super) fn register(&mut self, conn: &mut N::Conn) -> bool {
        let mut ways = 0;
        if let Err(error) = self.reserve() {
            self.shortages.retry_at.get_or_insert(self.now.after(RETRY));
            self.note_shortage(Shortage::Memory, "a client connection is not taken", &error);
            return false;
        }
        loop {
            // Whoever gives way may leave its key to this one.
            let token = Token::Client(self.clients.next_key());
            let Err(error) = self.net.register(conn, token) else { return true };
            let shortage = Shortage::of(&error).unwrap_or(Shortage::Descriptors);
            self.note_shortage(shortage, "a client connection is not registered", &error);
            if !self.makes_way(shortage, &mut ways) {
                return false;
            }
        }
    }
}

fn remedy(shortage: Shortage) -> &'static str {
    match shortage {
        Shortage::Descriptors => {
            "raise the limit (ulimit -n, LimitNOFILE=, fs.epoll.max_user_watches) or lower limits.connections"
        }
        Shortage::Memory => {
            "give the machine or this process more memory (net.ipv4.tcp_mem, LimitDATA=, LimitAS=) or lower limits.connections"
        }
        Shortage::Ports => {
            "widen net.ipv4.ip_local_port_range, or raise limits.idle_per_target so that connections are kept"
        }
        Shortage::Barred => {
            "look for a packet filter, a route or an interface of this host that forbids it"
        }
    }
}
