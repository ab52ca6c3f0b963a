//! Counters with one writer each: a worker owns its block and pays a plain store for a count; whoever
//! wants totals sums the blocks of all workers when it reads.
//!
//! Owns the counters and what each is called. Knows nothing of how they are shown: see
//! [`admin`](crate::admin). Invariant: every field of [`Counters`] is in [`COUNTERS`] once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

/// A count that only its owner changes and anybody may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more. Only the owner may call this: two writers would lose counts.
    #[inline]
    pub fn bump(&self) {
        self.add(1);
    }

    /// So many more. Only the owner may call this.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counts from the start of the process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Client connections accepted.
    pub accepted: Counter,
    /// Client connections ended.
    pub closed: Counter,
    /// Requests whose head was read and forwarded or answered.
    pub requests: Counter,
    /// Exchanges that ended with a whole response of a target.
    pub finished: Counter,
    /// Answers of our own: refusals, timeouts, 502, 503, 504.
    pub answered: Counter,
    /// Of those, 503s because no endpoint took the request.
    pub unavailable: Counter,
    /// Of those, the ones because every endpoint that was left had as many requests as it may have.
    pub saturated: Counter,
    /// Exchanges cut after the response had begun.
    pub cut: Counter,
    /// Exchanges that the client left.
    pub abandoned: Counter,
    /// Tunnels that ended, however.
    pub tunnels: Counter,
    /// Upstream connections opened.
    pub dialed: Counter,
    /// Connects that failed or timed out.
    pub connect_failed: Counter,
    /// Calls that failed for want of something on this host: descriptors, memory, local ports, or a rule of its own.
    pub shortages: Counter,
    /// Requests sent once more after a connection died.
    pub replayed: Counter,
    /// Access log entries that were not written: no room on their way to the writer, or a write that failed.
    pub entries_lost: Counter,
}

/// One worker's block, alone in its cache lines.
pub type WorkerCounters = Arc<CachePadded<Counters>>;

/// What one counter is called, and which it is.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// Its short name: the field of [`Counters`].
    pub key: &'static str,
    /// The name of its metric, which ends in `_total`.
    pub metric: &'static str,
    /// One sentence for operators.
    pub help: &'static str,
    read: fn(&Counters) -> &Counter,
}

macro_rules! describe {
    ($($key:ident $metric:literal $help:literal)*) => {
        [$(Description {
            key: stringify!($key),
            metric: $metric,
            help: $help,
            read: |counters| &counters.$key,
        }),*]
    };
}

/// How many counters a worker has.
const COUNT: usize = size_of::<Counters>() / size_of::<Counter>();

/// Every counter of a worker, in the order in which they are shown.
#[rustfmt::skip]
pub const COUNTERS: [Description; COUNT] = describe! {
    accepted "evenly_client_connections_accepted_total" "Client connections accepted."
    closed "evenly_client_connections_closed_total" "Client connections ended."
    requests "evenly_requests_total" "Requests whose head was read and forwarded or answered."
    finished "evenly_exchanges_finished_total" "Exchanges that ended with a whole response of a target."
    answered "evenly_own_answers_total" "Answers that evenly gave itself: refusals, timeouts, 502, 503, 504."
    unavailable "evenly_unavailable_answers_total" "Answers of 503 because no endpoint took the request."
    saturated "evenly_saturated_answers_total" "Of the 503s because no endpoint took the request, those because every endpoint had limits.requests_per_target requests."
    cut "evenly_exchanges_cut_total" "Exchanges cut after the response had begun."
    abandoned "evenly_exchanges_abandoned_total" "Exchanges that the client left."
    tunnels "evenly_tunnels_ended_total" "Tunnels (WebSocket) that ended, closed by either side or idle."
    dialed "evenly_upstream_connects_total" "Upstream connections begun."
    connect_failed "evenly_upstream_connect_failures_total" "Upstream connects that failed or timed out."
    shortages "evenly_own_shortages_total" "Calls that failed for want of descriptors, memory or local ports here, or by a rule of this host."
    replayed "evenly_requests_replayed_total" "Requests sent once more after a connection died."
    entries_lost "evenly_access_entries_lost_total" "Access log entries that were not written: no room on their way to the writer, or a write that failed."
};

/// The counts of a worker, or the sums of several, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts([u64; COUNT]);

impl Counts {
    /// What `counters` say now. Each count is exact; those of a worker at work may be a moment apart.
    pub fn of(counters: &Counters) -> Counts {
        Counts(COUNTERS.map(|description| (description.read)(counters).get()))
    }

    /// Each count with its description, in the order of [`COUNTERS`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static Description, u64)> {
        const { &COUNTERS }.iter().zip(self.0)
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(counts: I) -> Counts {
        counts.fold(Counts::default(), |mut sum, counts| {
            for (sum, count) in sum.0.iter_mut().zip(counts.0) {
                *sum = sum.wrapping_add(count);
            }
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_counts() {
        let counters = WorkerCounters::default();
        counters.requests.bump();
        counters.requests.bump();
        assert_eq!((counters.requests.get(), counters.finished.get()), (2, 0));
    }

    #[test]
    fn every_counter_is_described_once() {
        let counters = Counters::default();
        let mut places: Vec<_> =
            COUNTERS.iter().map(|it| std::ptr::from_ref((it.read)(&counters))).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), COUNT);
        assert!(COUNTERS.iter().all(|it| it.metric.ends_with("_total") && it.help.ends_with('.')));
    }

    #[test]
    fn sums_are_by_counter() {
        let blocks = [Counters::default(), Counters::default()];
        blocks[0].requests.bump();
        blocks[1].requests.bump();
        blocks[1].cut.bump();
        let sum: Counts = blocks.iter().map(Counts::of).sum();
        let seen: Vec<_> = sum.iter().filter(|(_, n)| *n > 0).map(|(it, n)| (it.key, n)).collect();
        assert_eq!(seen, [("requests", 2), ("cut", 1)]);
    }
}
