//! The client side of the pump: requests in, answers of our own out, and how a client connection ends.

use super::conn::{Conn, Filled, Hunger};
use super::keys::ClientKey;
use super::tables::{Client, Closing, Upstream};
use super::turn::Flow;
use super::upstream::Found;
use super::waits::Progress;
use super::{Engine, Net, Scratch, Token};
use crate::access::End;
use crate::base::wheel::Due;
use crate::session::{ClientEnd, Ending, Next, Output, Stage, Step};

/// The most that is read at once while a request head is expected, which bounds what pipelined requests
/// may pile up in memory.
const HEAD_READ: usize = 16 * 1024;
/// Bodies up to this size are copied behind their head: one piece is cheaper to send than two.
const JOIN: usize = 4096;

impl<N: Net> Engine<N> {
    pub(super) fn client_step(&mut self, key: ClientKey) -> Flow {
        let flushed = self.flush_client(key);
        let Some(client) = self.clients.get(key) else { return Flow::Wait };
        if !flushed && !client.is_full_duplex() {
            return Flow::Wait;
        }
        if client.closing == Closing::Lingering {
            return self.discard(key);
        }
        if client.closing != Closing::No || !client.session.wants_client_bytes() {
            return Flow::Wait;
        }
        let streams = client.session.streams_to_upstream();
        let limit = match client.upstream.filter(|_| streams) {
            Some(upstream) => match self.upstreams.get(upstream) {
                Some(upstream) if upstream.takes_more() => {
                    let (window, behind) = (upstream.conn.window(), upstream.conn.behind);
                    if client.conn.has_more() && self.must_wait(behind, client.conn.hunger) {
                        self.wait_in_line(Token::Client(key));
                        return Flow::Wait;
                    }
                    self.buffers.allow(window)
                }
                _ => return Flow::Wait,
            },
            None if client.answered => usize::MAX,
            None if streams => return Flow::Wait,
            None => HEAD_READ,
        };
        let mut scratch = self.scratch.take().expect("one step at a time");
        let flow = self.client_read(key, limit, &mut scratch);
        self.scratch = Some(scratch);
        flow
    }

    fn client_read(&mut self, key: ClientKey, limit: usize, scratch: &mut Scratch) -> Flow {
        let Engine { clients, net, buffers, cx, .. } = self;
        let Scratch { read, out } = scratch;
        let Some(client) = clients.get_mut(key) else { return Flow::Wait };
        client.conn.hunger = Hunger::No;
        let count = match client.conn.fill(net, buffers, read, limit) {
            Filled::Bytes(count) => count,
            Filled::Nothing => return Flow::Wait,
            Filled::End => {
                self.client_ended(key);
                return Flow::Wait;
            }
            Filled::Broken => {
                self.drop_client(key);
                return Flow::Wait;
            }
        };
        let input = &mut read[..count];
        self.moved += count;
        out.clear();
        let mut step = client.session.client_bytes(cx, input, out);
        let mut starved = match step.next {
            Next::NeedMore => true,
            Next::Answered => false,
            _ => !client.session.request_complete(),
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
        let body = join_small(out, &input[step.body.clone()]);
        match step.next {
            Next::NeedMore | Next::ToClient | Next::Finished { .. } => {}
            Next::NeedUpstream => {
                self.counters.requests.bump();
                self.begin_entry(key, &out.line);
                match self.find_upstream(key, [&out.head, body, &out.tail]) {
                    Found::Yes => {}
                    Found::No => self.answer_unavailable(key, out),
                    Found::NoMemory => self.answer_no_memory(key, out),
                }
            }
            Next::ToUpstream => {
                self.send_upstream(key, [&out.head, body, &out.tail]);
                self.end_upload_if_over(key);
            }
            Next::Answered => {
                // One whose body turns out to be broken was counted with its head.
                if self.clients.get(key).is_some_and(|client| client.upstream.is_none()) {
                    self.counters.requests.bump();
                }
                self.begin_entry(key, &out.line);
                self.hint_at(key, out.reason);
                self.send_answer(key, out);
            }
            Next::Failed(_) => match self.clients.get(key).is_some_and(|it| it.answered) {
                true => self.break_off_answered(key),
                false => self.cut_client(key),
            },
        }
    }

    /// Has the limit run that now applies to the client, and says whether to go on with it.
    fn after_client_read(&mut self, key: ClientKey, next: Next) -> Flow {
        let Some(client) = self.clients.get_mut(key) else { return Flow::Wait };
        if next == Next::NeedMore && client.session.is_idle() {
            client.head_begun |= client.conn.inbox.is_some();
            let flow = if client.conn.readable { Flow::Again } else { Flow::Wait };
            self.settle_client(key, Progress::None);
            return flow;
        }
        if client.closing != Closing::No {
            return Flow::Again;
        }
        let (stage, upstream) = (client.session.stage(), client.upstream);
        // What is only dropped has a limit for all of it.
        let is_dropped = client.answered && upstream.is_none();
        self.settle_client(key, if is_dropped { Progress::None } else { Progress::Read });
        if stage == Stage::Tunnel {
            upstream.into_iter().for_each(|at| self.settle_upstream(at, Progress::Read));
        }
        match stage {
            Stage::Awaited | Stage::Response | Stage::Over => Flow::Wait,
            _ => Flow::Again,
        }
    }

    /// Writes what waits for the client. `false` if something still waits or the client is gone.
    pub(super) fn flush_client(&mut self, key: ClientKey) -> bool {
        let Engine { clients, net, buffers, .. } = self;
        let Some(client) = clients.get_mut(key) else { return false };
        if client.conn.outbox.is_some() {
            match client.conn.flush(net, buffers) {
                Err(_) => {
                    self.drop_client(key);
                    return false;
                }
                Ok(0) => return false,
                Ok(count) if client.conn.outbox.is_some() => {
                    self.moved += count;
                    self.settle_client(key, Progress::Written);
                    return false;
                }
                Ok(count) => {
                    self.moved += count;
                    self.client_caught_up(key);
                }
            }
        }
        self.end_client_writes(key)
    }

    /// All was written: the target's bytes flow again.
    fn client_caught_up(&mut self, key: ClientKey) {
        self.settle_client(key, Progress::Written);
        self.begin_grace(key, Progress::None);
        if let Some(upstream) = self.clients.get(key).and_then(|client| client.upstream) {
            self.queue_upstream(upstream);
        }
    }

    /// Does what was to be done once all is written. `false` if the client is gone.
    fn end_client_writes(&mut self, key: ClientKey) -> bool {
        let Engine { clients, net, .. } = self;
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
            Closing::Reset => {
                self.reset_client(key);
                return false;
            }
            Closing::AfterFlush | Closing::Linger => {
                client.closing = Closing::Lingering;
                net.shutdown(&mut client.conn.socket);
                client.conn.readable = true;
                self.settle_client(key, Progress::None);
            }
            Closing::No | Closing::Lingering => {}
        }
        true
    }

    /// Reads what nobody will use, so that closing does not reset the answer away (RFC 9112 section 9.6).
    fn discard(&mut self, key: ClientKey) -> Flow {
        let Engine { clients, net, buffers, scratch, .. } = self;
        let (Some(client), Some(scratch)) = (clients.get_mut(key), scratch) else {
            return Flow::Wait;
        };
        if let Some(inbox) = client.conn.inbox.take() {
            buffers.take_back(inbox);
        }
        match client.conn.fill(net, buffers, &mut scratch.read, usize::MAX) {
            Filled::Bytes(count) => {
                self.moved += count;
                Flow::Again
            }
            Filled::Nothing => Flow::Wait,
            Filled::End | Filled::Broken => {
                self.drop_client(key);
                Flow::Wait
            }
        }
    }

    /// The client's side of the connection ended.
    fn client_ended(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        match client.session.client_closed() {
            ClientEnd::Close | ClientEnd::Abort => self.drop_client(key),
            ClientEnd::HalfClose => {
                if let Some(upstream) = client.upstream {
                    self.end_upstream_writes(upstream);
                }
            }
        }
    }

    /// Closes a tunnel both of whose directions have ended. `false` if it was.
    pub(super) fn end_tunnel_if_over(&mut self, key: ClientKey) -> bool {
        let Some(client) = self.clients.get(key) else { return false };
        let answered = client
            .upstream
            .is_none_or(|upstream| self.upstreams.get(upstream).is_none_or(Upstream::has_ended));
        let over = client.session.tunnel_client_ended() && answered && client.conn.outbox.is_none();
        if over {
            self.drop_client(key);
        }
        !over
    }

    /// Sends an answer of our own; the upstream, if there is one, is not needed any more.
    pub(super) fn send_answer(&mut self, key: ClientKey, out: &mut Output) {
        self.counters.answered.bump();
        self.note_reason(key, out.reason);
        self.add_to_entry(key, body_len(&out.head));
        self.part(key);
        self.send_client(key, [&out.head, &[], &out.tail]);
        self.exchange_over(key, End::Answered);
    }

    /// Writes to the client. A client that is gone is dropped.
    pub(super) fn send_client(&mut self, key: ClientKey, pieces: [&[u8]; 3]) {
        let Engine { clients, net, buffers, .. } = self;
        let Some(client) = clients.get_mut(key) else { return };
        match client.conn.send(net, buffers, pieces) {
            Ok(_) if client.conn.outbox.is_some() => self.settle_client(key, Progress::Written),
            Ok(_) => {}
            Err(_) => self.drop_client(key),
        }
    }

    /// What becomes of the client now that its exchange is over.
    pub(super) fn exchange_over(&mut self, key: ClientKey, end: End) {
        self.end_entry(key, end);
        let Some(client) = self.clients.get_mut(key) else { return };
        if let Some(hold) = client.hold.take() {
            self.buffers.take_back(hold);
        }
        client.head_begun = false;
        client.answered = false;
        client.unsent = 0;
        match client.session.ending() {
            Ending::KeepAlive => {
                client.session.next_request();
                client.conn.bulk = false;
                client.tried = None;
                let has_more =
                    client.conn.inbox.is_some() || client.conn.readable || client.conn.read_closed;
                if client.conn.outbox.is_none() {
                    self.settle_client(key, Progress::Anew);
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

    /// Ends the client's connection so that it can see that its response is not whole, after what is whole of it.
    pub(super) fn cut_client(&mut self, key: ClientKey) {
        let Some(client) = self.end_cut(key) else { return };
        if client.session.ends_with_connection() {
            client.closing = Closing::Reset;
            client.evictable = Due::NEVER;
            self.flush_client(key);
        } else {
            self.linger(key);
        }
    }

    /// Likewise, but at once.
    pub(super) fn cut_at_once(&mut self, key: ClientKey) {
        self.end_cut(key);
        self.reset_now(key);
    }

    pub(super) fn reset_now(&mut self, key: ClientKey) {
        if let Some(client) = self.forget_client(key) {
            self.net.reset(client.conn.socket);
        }
    }

    /// Ends the exchange of a client that is cut off.
    fn end_cut(&mut self, key: ClientKey) -> Option<&mut Client<N::Conn>> {
        self.counters.cut.bump();
        self.end_entry(key, End::Cut);
        self.part(key);
        let client = self.clients.get_mut(key)?;
        client.hold.take().into_iter().for_each(|hold| self.buffers.take_back(hold));
        client.answered = false;
        Some(client)
    }

    /// Resets a client's connection to which all is written, when that is sent: what the kernel still holds would be lost with it.
    pub(super) fn reset_client(&mut self, key: ClientKey) {
        let Engine { clients, net, snapshot, now, .. } = self;
        let Some(client) = clients.get_mut(key) else { return };
        if client.evictable == Due::NEVER {
            client.evictable = Due::at(now.after(snapshot.plan.timeouts.client_body));
        }
        if !client.evictable.has_come(*now) && !net.has_sent_all(&mut client.conn.socket) {
            self.settle_client(key, Progress::Anew);
        } else {
            self.reset_now(key);
        }
    }

    /// Cuts every exchange that is under way: nobody waits for its end any more.
    pub fn cut_all(&mut self) {
        let keys: Vec<ClientKey> = self.clients.keys().collect();
        for key in keys {
            let Some(client) = self.clients.get(key) else { continue };
            if client.entry.is_some() || client.upstream.is_some() {
                let seems_whole = client.session.ends_with_connection() && !client.answered;
                match seems_whole {
                    true => self.cut_at_once(key),
                    false => self.cut_client(key),
                }
            }
        }
    }

    /// Closes the client's connection, and its upstream's with it.
    pub(super) fn drop_client(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get(key) else { return };
        let end = if client.session.is_tunnel() {
            self.counters.tunnels.bump();
            End::TunnelClosed
        } else if client.answered && client.conn.outbox.is_none() {
            self.counters.finished.bump();
            End::Finished
        } else {
            let is_under_way = client.upstream.is_some() && !client.session.is_idle();
            if is_under_way || client.answered {
                self.counters.abandoned.bump();
            }
            End::ClientClosed
        };
        self.end_entry(key, end);
        self.part(key);
        drop(self.forget_client(key));
    }

    /// Gives up the exchange of a client that has gone. Should it still be there, it must not take what it got of a response
    /// for all of it.
    pub(super) fn give_up(&mut self, key: ClientKey) {
        let begun = self.clients.get(key).is_some_and(|client| !client.session.awaits_response());
        self.counters.abandoned.bump();
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
        client.conn.release(&mut self.buffers);
        if let Some(hold) = client.hold.take() {
            self.buffers.take_back(hold);
        }
        self.closed += 1;
        self.counters.closed.bump();
        Some(client)
    }

    /// Closes the client's upstream connection, if it has one.
    pub(super) fn part(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key)
            && let Some(upstream) = client.upstream.take()
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

/// Bytes behind the head of a message.
fn body_len(message: &[u8]) -> usize {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n");
    end.map_or(0, |end| message.len() - end - 4)
}

/// Puts a small body and the tail behind the head. What is left of the body comes back.
pub(super) fn join_small<'b>(out: &mut Output, body: &'b [u8]) -> &'b [u8] {
    if out.head.is_empty() || body.len() > JOIN {
        return body;
    }
    out.head.extend_from_slice(body);
    out.head.append(&mut out.tail);
    &[]
}
