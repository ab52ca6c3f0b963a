//! The access log's side of the pump: what is noted of an exchange while it runs, and its entry when it ends.
//! Nothing here costs anything while the access log is off.

use super::Net;
use super::keys::ClientKey;
use super::pump::Pump;
use crate::access::{Batch, End, Facts, Pending};

/// Boxes that are kept to be used again.
const SPARE: usize = 1024;

/// The entries of one worker on their way to the writer.
#[derive(Default)]
pub(super) struct Entries {
    batch: Batch,
    /// Boxes to be used again.
    #[expect(clippy::vec_box, reason = "the boxes are what is reused")]
    spare: Vec<Box<Pending>>,
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

    /// So many more bytes of the body went to the client.
    pub(super) fn add_to_entry(&mut self, key: ClientKey, bytes: usize) {
        if self.entries.is_some()
            && let Some(entry) =
                self.clients.get_mut(key).and_then(|client| client.exchange.entry.as_mut())
        {
            entry.bytes += bytes as u64;
        }
    }

    /// Why the exchange will have ended otherwise than by the target's whole response.
    pub(super) fn note_reason(&mut self, key: ClientKey, reason: &'static str) {
        if self.entries.is_some()
            && let Some(entry) =
                self.clients.get_mut(key).and_then(|client| client.exchange.entry.as_mut())
        {
            entry.reason = reason;
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
        let facts = Facts {
            at: pending.at,
            duration: self.now.since(pending.at),
            client: client.address.ip,
            upstream: pending.upstream.take(),
            status: client.exchange.flow.status(),
            bytes: pending.bytes,
            end,
            reason: if matches!(end, End::Answered | End::Cut) { pending.reason } else { "" },
        };
        if !entries.batch.push(facts, &pending.text) {
            self.counters.entries_lost.bump();
        }
        pending.rest();
        if entries.spare.len() < SPARE {
            entries.spare.push(pending);
        }
    }
}
