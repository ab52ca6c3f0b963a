//! Requests: read from a client, and sent to a target or answered here.

use std::io;

use super::clock::clock;
use super::conn::{Filled, Hunger};
use super::connects::Search;
use super::keys::{ClientKey, UpstreamKey};
use super::patient::is_short;
use super::pump::{Pump, Scratch};
use super::tables::{Closing, Exchange, Then};
use super::waits::Moved;
use super::{Net, Token};
use crate::exchange::{Failure, Halves, Next, Output, Phase, Step};
use crate::metrics::traffic::Way;
use crate::reason::Reason;

/// The most that is read at once while a request head is expected, which bounds what pipelined requests
/// may pile up in memory.
const HEAD_READ: usize = 16 * 1024;

impl<N: Net> Pump<N> {
    pub(super) fn client_step(&mut self, key: ClientKey, scratch: &mut Scratch) -> Then {
        let flushed = self.flush_client(key);
        // It could not be written to, and has gone.
        let Some(client) = self.clients.get(key) else { return Then::Wait };
        if !flushed && !client.is_full_duplex() {
            return Then::Wait;
        }
        if client.closing == Closing::Lingering {
            return self.discard(key, &mut scratch.read);
        }
        if !client.is_open() || !client.exchange.flow.wants_client_bytes() {
            return Then::Wait;
        }
        let streams = client.exchange.flow.streams_to_upstream();
        let limit = match client.exchange.upstream.filter(|_| streams) {
            Some(upstream) => match self.upstreams.get(upstream) {
                Some(upstream) if upstream.takes_more() => {
                    let (window, behind) = (upstream.conn.window(), upstream.conn.behind);
                    if client.conn.has_more() && self.must_wait(behind, client.conn.hunger) {
                        self.wait_in_line(Token::Client(key));
                        return Then::Wait;
                    }
                    self.buffers.allow(window)
                }
                _ => return Then::Wait,
            },
            None if client.exchange.answered => usize::MAX,
            None if streams => return Then::Wait,
            None => HEAD_READ,
        };
        self.client_read(key, limit, scratch)
    }

    fn client_read(&mut self, key: ClientKey, limit: usize, scratch: &mut Scratch) -> Then {
        let Scratch { read, out } = scratch;
        if self.buffers.is_short() && self.waits_for_pages(Token::Client(key), out) {
            return Then::Wait;
        }
        let Pump { clients, net, buffers, rules, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return self.impossible("a client that runs is there");
        };
        client.conn.hunger = Hunger::No;
        let count = match client.conn.fill(net, buffers, read, limit) {
            Filled::Bytes(count) => count,
            Filled::Nothing => return Then::Wait,
            Filled::End => {
                self.client_ended(key);
                return Then::Wait;
            }
            Filled::Broken => {
                self.drop_client(key);
                return Then::Wait;
            }
        };
        let input = &mut read[..count];
        self.moved += count;
        out.clear();
        let Exchange { flow, half: target, .. } = &mut client.exchange;
        let halves = Halves { client: &mut client.half, target };
        let mut step = flow.client_bytes(rules, &client.address, halves, input, out);
        self.counters.traffic.moved(Way::FromClients, step.consumed);
        let mut starved = match step.next {
            Next::NeedMore => true,
            Next::Answered => false,
            _ => !client.exchange.flow.request_complete(),
        };
        if self.buffers.is_out() && self.refuses_to_keep(key, &mut step, count, out) {
            starved = false;
        }
        self.client_act(key, &step, input, out);
        if let Some(client) = self.clients.get_mut(key) {
            client.conn.keep(&mut self.buffers, &read[step.consumed..count], starved);
        }
        self.after_client_read(key, step.next)
    }

    fn client_act(&mut self, key: ClientKey, step: &Step, input: &[u8], out: &mut Output) {
        let body = out.join(&input[step.body.clone()]);
        match step.next {
            Next::NeedMore | Next::ToClient | Next::Finished { .. } | Next::Failed(_) => {}
            Next::NeedUpstream => {
                self.begin_entry(key, &mut out.line);
                self.note_upload(key, step.body.len());
                match self.find_upstream(key, [&out.head, body, &out.tail]) {
                    Search::Underway => {}
                    Search::NoEndpoint => self.answer_unavailable(key, out),
                    Search::NoMemory => self.answer_no_memory(key, out),
                }
            }
            Next::ToUpstream => {
                self.note_upload(key, step.body.len());
                self.send_upstream(key, [&out.head, body, &out.tail]);
                self.end_upload_if_over(key);
            }
            Next::Answered => {
                self.begin_entry(key, &mut out.line);
                self.hint_at(key, out.cause);
                self.send_answer(key, out);
            }
            Next::ClientBroke => match self.clients.get(key).is_some_and(|it| it.exchange.answered)
            {
                true => self.break_off_answered(key),
                false => {
                    let cause = out.cause.unwrap_or(Reason::HttpRequestError.into());
                    self.cut_client(key, cause);
                }
            },
        }
    }

    /// Has the limit run that now applies to the client, and says whether to go on with it.
    fn after_client_read(&mut self, key: ClientKey, next: Next) -> Then {
        // It could not be answered, and has gone.
        let Some(client) = self.clients.get_mut(key) else { return Then::Wait };
        if next == Next::NeedMore && client.exchange.flow.is_idle() {
            client.head_begun |= client.conn.inbox.is_some();
            let then = if client.conn.readable { Then::Again } else { Then::Wait };
            self.settle_client(key, Moved::None);
            return then;
        }
        if !client.is_open() {
            return Then::Again;
        }
        let (phase, upstream) = (client.exchange.flow.phase(), client.exchange.upstream);
        // What is only dropped has a limit for all of it.
        let is_dropped = client.exchange.answered && upstream.is_none();
        let moved = if is_dropped { Moved::None } else { Moved::Read };
        client.settle(key, moved, &mut clock!(self));
        if phase == Phase::Tunnel {
            upstream.into_iter().for_each(|at| self.settle_upstream(at, Moved::Read));
        }
        match phase {
            Phase::Awaited | Phase::Response | Phase::Over => Then::Wait,
            _ => Then::Again,
        }
    }

    /// Sends more of a request. The client's bytes only come when nothing waits.
    pub(super) fn send_upstream(&mut self, key: ClientKey, pieces: [&[u8]; 3]) {
        let Pump { clients, upstreams, net, buffers, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return self.impossible("a client that runs is there");
        };
        // There is more now than was held: it cannot be sent again.
        client.exchange.let_go(buffers);
        // Its target takes no more of it: what still comes is dropped.
        let Some(at) = client.exchange.upstream else { return };
        let Some(upstream) = upstreams.get_mut(at) else {
            return self.impossible("a client and its upstream connection name each other");
        };
        match upstream.conn.send(net, buffers, pieces) {
            Ok(sent) => {
                self.counters.traffic.moved(Way::ToTargets, sent);
                upstream.note_sent();
                self.settle_upstream(at, Moved::Written);
            }
            Err(_) => {
                upstream.break_writes(buffers);
                self.queue_upstream(at);
            }
        }
    }

    /// A last look at a connection on which a request waits, not a byte of it sent: it may have ended meanwhile, or have said
    /// something unasked, which would be taken for its response. `false` if that is so, or not known yet.
    pub(super) fn may_be_written(&mut self, key: UpstreamKey, out: &mut Output) -> bool {
        let Pump { upstreams, net, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        let unsent = upstream.busy().filter(|busy| !busy.sent && !busy.write_broken);
        let Some(owner) = unsent.filter(|_| upstream.conn.outbox.is_some()).map(|it| it.client)
        else {
            return true;
        };
        match net.read(&mut upstream.conn.socket, &mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(error) if is_short(&error) => upstream.conn.short = true,
            _ => self.upstream_failed(owner, Failure::Closed, out),
        }
        false
    }

    pub(super) fn flush_upstream(&mut self, key: UpstreamKey) {
        let Pump { upstreams, net, buffers, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        if upstream.conn.outbox.is_some() {
            match upstream.conn.flush(net, buffers) {
                Ok(0) => return,
                Ok(count) => {
                    self.moved += count;
                    self.counters.traffic.moved(Way::ToTargets, count);
                    upstream.note_sent();
                }
                Err(_) => upstream.break_writes(buffers),
            }
            self.upstream_made_progress(key);
        }
        self.end_writes_if_flushed(key);
    }

    /// It took bytes: its time starts again, and the client's bytes flow again if all is written.
    fn upstream_made_progress(&mut self, key: UpstreamKey) {
        self.settle_upstream(key, Moved::Written);
        let Some(upstream) = self.upstreams.get(key) else {
            return self.impossible("an upstream connection that runs is there");
        };
        // It carries nothing more.
        let Some(owner) = upstream.client() else { return };
        if upstream.conn.outbox.is_none() {
            self.queue_client(owner);
            self.end_upload_if_over(owner);
        }
    }
}
