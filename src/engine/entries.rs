//! What is noted of each exchange while it runs, and what becomes of that when it ends: counts, a record of the flight recorder,
//! and an entry of the access log if there is one. Time is the turn's.

use super::Net;
use super::keys::ClientKey;
use super::pump::Pump;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::access::recorder::FlightRecorder;
use crate::access::{Batch, End, Pending, push_refused};
use crate::metrics::Counters;
use crate::reason::{Cause, Incident};

/// Boxes that are kept to be used again.
const SPARE: usize = 1024;

/// What is known of the exchanges of one worker.
#[derive(Default)]
pub(super) struct Entries {
    /// Those that go to the writer; `None` while the access log is off.
    batch: Option<Batch>,
    /// Those that ended last.
    recorder: Arc<FlightRecorder>,
    /// The date of tick 0, in microseconds since 1970.
    pub(super) origin: u64,
    /// Exchanges that have begun and not ended.
    pub(super) in_flight: u64,
    /// The addresses that connections were accepted at.
    listeners: Vec<SocketAddr>,
    /// Boxes to be used again.
    #[expect(clippy::vec_box, reason = "the boxes are what is reused")]
    spare: Vec<Box<Pending>>,
    /// Scratch: the name of a request as text.
    id: Vec<u8>,
}

impl Entries {
    /// Has the access log get entries from now on, or not.
    pub(super) fn log(&mut self, is_on: bool) {
        self.batch = is_on.then(|| self.batch.take().unwrap_or_default());
    }

    /// Has records go there from now on.
    pub(super) fn record_in(&mut self, recorder: Arc<FlightRecorder>) {
        self.recorder = recorder;
    }

    /// The number of an address that a connection is accepted at. There are as many as a configuration ever had; what is beyond
    /// 65,535 counts as unknown.
    pub(super) fn listener(&mut self, address: Option<SocketAddr>) -> u16 {
        let Some(address) = address else { return u16::MAX };
        let at = self.listeners.iter().position(|it| *it == address);
        let at = at.unwrap_or_else(|| {
            self.listeners.push(address);
            self.listeners.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// The entries gathered so far; `None` while the access log is off.
    pub(super) fn batch(&mut self) -> Option<&mut Batch> {
        self.batch.as_mut()
    }
}

impl<N: Net> Pump<N> {
    /// A request's head is whole, or was refused, or did not come in time. One that has begun is not counted again: its body may turn out
    /// to be broken.
    pub(super) fn begin_entry(&mut self, key: ClientKey, line: &mut Vec<u8>) {
        let Pump { entries, counters, clients, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return self.impossible("a client that runs is there");
        };
        if client.exchange.entry.is_some() {
            return;
        }
        let mut pending = entries.spare.pop().unwrap_or_default();
        pending.begin(self.now, line, self.rules.describe);
        client.exchange.entry = Some(pending);
        counters.requests.bump();
        entries.in_flight += 1;
        counters.traffic.in_flight.set(entries.in_flight);
    }

    /// The head of a request was not whole when its time was over.
    pub(super) fn begin_entry_of_part(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get(key) else {
            return self.impossible("a client that runs is there");
        };
        if client.exchange.entry.is_none() {
            let mut text = Vec::new();
            let came = client.conn.inbox.as_ref().map(|inbox| self.buffers.get(inbox));
            push_refused(&mut text, came.unwrap_or_default());
            self.begin_entry(key, &mut text);
        }
    }

    /// It is answered by us, for that cause, and with so many bytes of content.
    pub(super) fn note_answer(&mut self, key: ClientKey, cause: Option<Cause>, bytes: usize) {
        let Pump { clients, counters, now, .. } = self;
        if let Some(client) = clients.get_mut(key)
            && let Some(entry) = &mut client.exchange.entry
        {
            entry.cause = cause;
            entry.bytes_out += bytes as u64;
            entry.begin_response(*now, &counters.traffic.first_bytes);
        }
    }

    /// So many more bytes of the body came from the client.
    pub(super) fn note_upload(&mut self, key: ClientKey, bytes: usize) {
        if bytes > 0
            && let Some(entry) = self.entry(key)
        {
            entry.bytes_in += bytes as u64;
        }
    }

    /// A connection is opened for the request.
    pub(super) fn note_dial(&mut self, key: ClientKey) {
        let now = self.now;
        if let Some(entry) = self.entry(key) {
            entry.dial(now);
        }
    }

    /// Why the exchange is cut.
    pub(super) fn note_cut(&mut self, key: ClientKey, cause: Cause) {
        if let Some(entry) = self.entry(key) {
            entry.cause = Some(cause);
        }
    }

    /// The exchange ended, if there is one.
    pub(super) fn end_entry(&mut self, key: ClientKey, end: End) {
        let Pump { entries, counters, clients, .. } = self;
        // Its last bytes could not be written: it has gone, and its exchange ended then.
        let Some(client) = clients.get_mut(key) else { return };
        // No head of a request was whole.
        let Some(mut pending) = client.exchange.entry.take() else { return };
        let flow = &client.exchange.flow;
        // One that was cut is no tunnel any more.
        let (status, is_tunnel) = (flow.status(), flow.is_tunnel() || flow.status() == 101);
        let forwarded = if client.address.trusted { pending.forwarded() } else { None };
        let ip = forwarded.unwrap_or(client.address.ip);
        let listener = entries.listeners.get(usize::from(client.exchange.listener)).copied();
        let facts = pending.facts(self.now, end, (ip, listener), status, is_tunnel);
        count_end(counters, end, facts.cause);
        entries.in_flight -= 1;
        let traffic = &counters.traffic;
        traffic.in_flight.set(entries.in_flight);
        traffic.ended(flow.method() as usize, facts.status);
        // A tunnel lasts as long as its two sides like, which says nothing of requests.
        if !is_tunnel {
            traffic.durations.observe(self.now.micros_since(pending.at));
        }
        entries.id.clear();
        flow.id().append(&mut entries.id);
        let first = [&entries.id[..], &pending.target];
        let date = entries.origin.saturating_add(pending.at.0);
        entries.recorder.record(date, &facts, first, &pending.text);
        if let Some(batch) = &mut entries.batch
            && pending.described
            && !batch.push(facts, first, &pending.text)
        {
            counters.entries_lost.bump();
        }
        pending.rest();
        if entries.spare.len() < SPARE {
            entries.spare.push(pending);
        }
    }

    #[inline]
    fn entry(&mut self, key: ClientKey) -> Option<&mut Pending> {
        self.clients.get_mut(key)?.exchange.entry.as_deref_mut()
    }
}

/// Counts how an exchange ended, and why: here alone, by what its entry says, so that log and metrics cannot differ.
fn count_end(counters: &Counters, end: End, cause: Option<Cause>) {
    let (counter, incident) = match end {
        End::Finished => (&counters.finished, None),
        End::Answered => (&counters.answered, Some(Incident::Response)),
        End::Cut => (&counters.cut, Some(Incident::Cut)),
        End::ClientClosed => (&counters.abandoned, Some(Incident::Cut)),
        End::TunnelClosed => (&counters.tunnels, None),
        End::TunnelIdle => (&counters.tunnels, Some(Incident::Cut)),
    };
    counter.bump();
    if let (Some(incident), Some(cause)) = (incident, cause) {
        counters.reasons.count(incident, cause.reason);
    }
}
