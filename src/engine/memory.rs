//! What waits when the buffers of all workers hold what they may (`limits.memory`), and in which order it goes on.
//!
//! The nearer the limit, the less is read at once ([`Pool::allow`]). At the limit a connection is read only if what is read is
//! likely to be taken at once and is little, or if its response is awaited, since that ends the wait of a request. Others
//! wait in line as for a slow peer: their bytes stay in the kernel. A request that has more than 4 KiB to wait somewhere is answered
//! by 503.
//!
//! Invariants: whoever waits is in line, and no time limit of its own ends meanwhile. Nobody needs memory to give memory back, but
//! for those who wait for one another at targets; so that these, too, go on, the first in line has its turn each [`PACE`],
//! whatever is held. Beyond the limit a connection so holds a few small chunks at most.

use std::collections::VecDeque;
use std::time::Duration;

use super::conn::Hunger;
use super::keys::{ClientKey, UpstreamKey};
use super::pump::Pump;
use super::tables::Upstream;
use super::turn::BULK;
use super::{Net, Token};
use crate::base::buffer::Pool;
use crate::base::ledger::Level;
use crate::base::tick::Tick;
use crate::exchange::{Next, Output, Step};

/// How often those in line are looked at while all memory is held; and the first has its turn then. No event tells what other
/// workers give back.
const PACE: Duration = Duration::from_millis(30);
/// Those who have their turn at once, so that not all find that the first of them have taken what there was.
const FED: usize = 64;

/// Those who wait for memory.
#[derive(Debug, Default)]
pub(super) struct MemoryQueue {
    waiting: VecDeque<Token>,
    /// When they are looked at at the latest.
    next: Tick,
}

impl MemoryQueue {
    /// When those in line are to be looked at.
    pub(super) fn next(&self) -> Option<Tick> {
        (!self.waiting.is_empty()).then_some(self.next)
    }
}

impl<N: Net> Pump<N> {
    /// Whether the bytes of a connection must stay in the kernel, because the one they are for may not take them. `false` nearly
    /// always.
    #[inline]
    pub(super) fn must_wait(&self, behind: bool, hunger: Hunger) -> bool {
        self.buffers.level() >= Level::Scarce && self.has_no_turn(behind, hunger)
    }

    #[cold]
    fn has_no_turn(&self, behind: bool, hunger: Hunger) -> bool {
        if hunger == Hunger::Fed {
            return false;
        }
        match self.buffers.level() {
            Level::Out => behind || self.moved >= BULK,
            // Nobody overtakes those in line.
            _ => behind && !self.line.waiting.is_empty(),
        }
    }

    /// Whether a response must stay in the kernel for now, since memory is scarce.
    #[cold]
    pub(super) fn response_waits(
        &mut self,
        key: UpstreamKey,
        owner: ClientKey,
        out: &mut Output,
    ) -> bool {
        if self.buffers.is_short() && self.waits_for_pages(Token::Upstream(key), out) {
            return true;
        }
        let (Some(upstream), Some(client)) = (self.upstreams.get(key), self.clients.get(owner))
        else {
            return self.impossible("a client and its upstream connection name each other");
        };
        let waits = self.must_wait(client.conn.behind, upstream.conn.hunger)
            && upstream.conn.has_more()
            && !client.exchange.flow.awaits_response();
        if waits {
            self.wait_in_line(Token::Upstream(key));
        }
        waits
    }

    /// Puts a connection in line. What it holds for a request that could be sent again is given up: others may wait for that.
    #[cold]
    pub(super) fn wait_in_line(&mut self, token: Token) {
        let Pump { clients, upstreams, buffers, line, counters, now, .. } = self;
        let conn_hunger = match token {
            Token::Client(key) => clients.get_mut(key).map(|client| {
                client.exchange.let_go(buffers);
                &mut client.conn.hunger
            }),
            Token::Upstream(key) => upstreams.get_mut(key).map(|it| &mut it.conn.hunger),
        };
        let Some(hunger) = conn_hunger else {
            return self.impossible("who waits for memory is there");
        };
        if std::mem::replace(hunger, Hunger::Waits) != Hunger::Waits {
            counters.memory_waits.bump();
            if line.waiting.is_empty() {
                line.next = now.after(PACE);
            }
            line.waiting.push_back(token);
            self.note_lack("bulk transfers wait");
        }
    }

    /// Gives those in line their turn, as far as there is memory.
    #[inline]
    pub(super) fn feed(&mut self) {
        if !self.line.waiting.is_empty() {
            self.feed_line();
        }
    }

    #[cold]
    fn feed_line(&mut self) {
        let out = self.buffers.is_out();
        if out && self.line.next > self.now {
            return;
        }
        self.line.next = self.now.after(PACE);
        let mut first = true;
        let mut left = FED;
        for _ in 0..self.line.waiting.len() {
            // All had their turn.
            let Some(token) = self.line.waiting.pop_front() else { return };
            let Some(behind) = self.waits_for_one_behind(token) else { continue };
            if out && behind && !std::mem::take(&mut first) {
                self.line.waiting.push_back(token);
                continue;
            }
            self.have_turn(token);
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }

    /// Whether a connection in line is read for somebody who takes less than there is. `None` if it does not wait any more.
    fn waits_for_one_behind(&self, token: Token) -> Option<bool> {
        let Pump { clients, upstreams, .. } = self;
        match token {
            Token::Client(key) => {
                let client = clients.get(key).filter(|it| it.conn.hunger == Hunger::Waits)?;
                let upstream = client.exchange.upstream.and_then(|at| upstreams.get(at));
                Some(upstream.is_some_and(|it| it.conn.behind))
            }
            Token::Upstream(key) => {
                let upstream = upstreams.get(key).filter(|it| it.conn.hunger == Hunger::Waits)?;
                let client = upstream.client().and_then(|at| clients.get(at));
                Some(client.is_some_and(|it| it.conn.behind))
            }
        }
    }

    /// Whether the other side of a connection's exchange is not read for lack of memory, so that nothing can come from it.
    pub(super) fn other_waits_for_memory(&self, token: Token) -> bool {
        let Pump { clients, upstreams, .. } = self;
        let hunger = match token {
            Token::Client(key) => {
                let upstream = clients.get(key).and_then(|client| client.exchange.upstream);
                upstream.and_then(|at| upstreams.get(at)).map(|it| it.conn.hunger)
            }
            Token::Upstream(key) => {
                let client = upstreams.get(key).and_then(Upstream::client);
                client.and_then(|at| clients.get(at)).map(|it| it.conn.hunger)
            }
        };
        hunger == Some(Hunger::Waits)
    }

    fn have_turn(&mut self, token: Token) {
        match token {
            Token::Client(key) => {
                if let Some(client) = self.clients.get_mut(key) {
                    client.conn.hunger = Hunger::Fed;
                    client.conn.bulk = true;
                    self.queue_client(key);
                }
            }
            Token::Upstream(key) => {
                if let Some(upstream) = self.upstreams.get_mut(key) {
                    upstream.conn.hunger = Hunger::Fed;
                    upstream.conn.bulk = true;
                    self.queue_upstream(key);
                }
            }
        }
    }

    /// While all memory is held: makes an answer of `step` if too much of the `count` bytes that it was given would have to wait
    /// for the rest of a head, or behind a whole request. Whether it did.
    #[cold]
    pub(super) fn refuses_to_keep(
        &mut self,
        key: ClientKey,
        step: &mut Step,
        count: usize,
        out: &mut Output,
    ) -> bool {
        let waits = matches!(step.next, Next::NeedMore | Next::NeedUpstream);
        let refuses = waits && !Pool::is_small(count - step.consumed);
        if refuses {
            self.refuse(key, out);
            *step = Step { consumed: count, body: 0..0, next: Next::Answered };
        }
        refuses
    }

    /// 503: there is no memory for the request.
    #[cold]
    pub(super) fn answer_no_memory(&mut self, key: ClientKey, out: &mut Output) {
        self.refuse(key, out);
        self.send_answer(key, out);
    }

    fn refuse(&mut self, key: ClientKey, out: &mut Output) {
        if let Some(client) = self.clients.get_mut(key) {
            self.counters.memory_answers.bump();
            client.exchange.flow.no_memory(&self.rules, &mut client.half, out);
            self.note_lack("requests with more than 4 KiB are answered by 503");
        }
    }
}
