//! The access log's side of the pump: what is noted of an exchange while it runs, and its entry when it ends.
//! While the access log is off nothing here costs anything but what metrics want to know as well ([`measures`](super::measures)).

use super::Net;
use super::keys::ClientKey;
use super::pump::Pump;
use crate::access::{Batch, End, Facts, Pending, push_refused};
use crate::base::tick::Tick;
use crate::reason::{Cause, Reason};

/// Boxes that are kept to be used again.
const SPARE: usize = 1024;

/// The entries of one worker on their way to the writer.
#[derive(Default)]
pub(super) struct Entries {
    batch: Batch,
    /// Boxes to be used again.
    #[expect(clippy::vec_box, reason = "the boxes are what is reused")]
    spare: Vec<Box<Pending>>,
    /// Scratch: the name of a request as text.
    id: Vec<u8>,
}

impl<N: Net> Pump<N> {
    /// The entries gathered so far, for the worker to hand over; `None` while the access log is off.
    pub(super) fn access_batch(&mut self) -> Option<&mut Batch> {
        self.entries.as_mut().map(|entries| &mut entries.batch)
    }

    /// A request's head is whole, or was refused.
    pub(super) fn begin_entry(&mut self, key: ClientKey, line: &[u8]) {
        self.begin_measures(key);
        // The log is off.
        let (Some(entries), Some(client)) = (&mut self.entries, self.clients.get_mut(key)) else {
            return;
        };
        if client.exchange.entry.is_none() {
            let mut pending = entries.spare.pop().unwrap_or_default();
            pending.begin(self.now, line);
            client.exchange.entry = Some(pending);
        }
    }

    /// The head of a request was not whole when its time was over.
    pub(super) fn begin_entry_of_part(&mut self, key: ClientKey) {
        // The log is off.
        let (Some(_), Some(client)) = (&self.entries, self.clients.get(key)) else { return };
        if client.exchange.entry.is_none() {
            let mut text = Vec::new();
            let came = client.conn.inbox.as_ref().map(|inbox| self.buffers.get(inbox));
            push_refused(&mut text, came.unwrap_or_default());
            self.begin_entry(key, &text);
        }
    }

    /// So many more bytes of the body went to the client; the first of them show that the response has begun.
    pub(super) fn add_to_entry(&mut self, key: ClientKey, bytes: usize) {
        if self.entries.is_some()
            && let Some(client) = self.clients.get_mut(key)
            && let Some(entry) = &mut client.exchange.entry
        {
            entry.bytes_out += bytes as u64;
            if entry.first_byte.is_none() && !client.exchange.flow.awaits_response() {
                entry.first_byte = Some(self.now);
            }
        }
    }

    /// So many more bytes of the body came from the client.
    pub(super) fn add_upload_to_entry(&mut self, key: ClientKey, bytes: usize) {
        if self.entries.is_some()
            && let Some(entry) =
                self.clients.get_mut(key).and_then(|client| client.exchange.entry.as_mut())
        {
            entry.bytes_in += bytes as u64;
        }
    }

    /// A connection is opened for the request.
    pub(super) fn note_dial(&mut self, key: ClientKey) {
        if self.entries.is_some()
            && let Some(entry) =
                self.clients.get_mut(key).and_then(|client| client.exchange.entry.as_mut())
        {
            entry.dial(self.now);
        }
    }

    /// Why the exchange will have ended otherwise than by the target's whole response.
    pub(super) fn note_cause(&mut self, key: ClientKey, cause: Option<Cause>) {
        if self.entries.is_some()
            && let Some(entry) =
                self.clients.get_mut(key).and_then(|client| client.exchange.entry.as_mut())
        {
            entry.cause = cause;
        }
    }

    /// The exchange ended.
    pub(super) fn end_entry(&mut self, key: ClientKey, end: End) {
        self.end_measures(key, end);
        // The log is off.
        let (Some(entries), Some(client)) = (&mut self.entries, self.clients.get_mut(key)) else {
            return;
        };
        // Its head was never whole.
        let Some(mut pending) = client.exchange.entry.take() else { return };
        let flow = &client.exchange.flow;
        let since = |begun: Tick, at: Option<Tick>| at.map(|at| at.since(begun));
        let facts = Facts {
            at: pending.at,
            duration: self.now.since(pending.at),
            connect: pending.dialed.and_then(|dialed| since(dialed, pending.connected)),
            first_byte: since(pending.at, pending.first_byte),
            client: client.address.ip,
            phase: pending.phase(flow.is_tunnel(), end == End::Answered),
            endpoint: pending.endpoint.take(),
            attempts: pending.attempts,
            status: flow.status(),
            bytes_in: pending.bytes_in,
            bytes_out: pending.bytes_out,
            end,
            cause: match end {
                End::Answered | End::Cut => pending.cause,
                End::ClientClosed => Some(Reason::ClientClosed.into()),
                End::TunnelIdle => Some(Reason::TunnelIdleTimeout.into()),
                End::Finished | End::TunnelClosed => None,
            },
        };
        entries.id.clear();
        flow.id().append(&mut entries.id);
        if !entries.batch.push(facts, [&entries.id, &pending.target], &pending.text) {
            self.counters.entries_lost.bump();
        }
        pending.rest();
        if entries.spare.len() < SPARE {
            entries.spare.push(pending);
        }
    }
}
