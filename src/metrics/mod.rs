//! Counters with one writer each: a worker owns its block and pays a plain store for a count; whoever
//! wants totals sums the blocks of all workers when it reads.

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
    /// Exchanges cut after the response had begun.
    pub cut: Counter,
    /// Exchanges that the client left.
    pub abandoned: Counter,
    /// Upstream connections opened.
    pub dialed: Counter,
    /// Connects that failed or timed out.
    pub connect_failed: Counter,
    /// Requests sent once more after a connection died.
    pub replayed: Counter,
    /// Access log entries that found no room on their way to the writer.
    pub entries_lost: Counter,
}

/// One worker's block, alone in its cache lines.
pub type WorkerCounters = Arc<CachePadded<Counters>>;

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
}
