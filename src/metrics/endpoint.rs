//! What is counted of one endpoint: by each worker in a block of its own, and by the health thread. All of it stays with the endpoint
//! for as long as that is known, whether it is up or not.
//!
//! Invariant: a block has one owner at a time, who has claimed it; one that was given back is claimed again before another is made.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use super::histogram::{Histogram, LIMITS, Times};
use super::{CLASSES, Counter, Gauge, reason_key};
use crate::reason::{Incident, Reason};

/// What one worker counts of one endpoint.
#[derive(Debug)]
pub struct EndpointCounters {
    classes: [Counter; CLASSES.len()],
    /// From the head of a request to the end of the response of this endpoint.
    durations: Histogram,
    /// Requests that are with it.
    pub in_flight: Gauge,
    /// Connections begun.
    pub connects: Counter,
    /// Of those, the ones that failed or timed out.
    pub connect_failures: Counter,
    /// Responses that came on a connection which had carried others.
    pub reuses: Counter,
    /// Exchanges that it broke, or did not answer in time.
    pub failures: Counter,
    /// Requests that were sent again or elsewhere, because it did not take or answer them, by reason.
    retries: Retries<Counter>,
}

/// Something for each reason, in the order of [`Reason::ALL`], of which those of a retry are used.
pub type Retries<T> = [T; Reason::COUNT];

impl Default for EndpointCounters {
    fn default() -> Self {
        EndpointCounters {
            classes: Default::default(),
            durations: Histogram::default(),
            in_flight: Gauge::default(),
            connects: Counter::default(),
            connect_failures: Counter::default(),
            reuses: Counter::default(),
            failures: Counter::default(),
            retries: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl EndpointCounters {
    /// A request is sent again or elsewhere, because it did not take or answer it. Only the owner may call this.
    pub fn retried(&self, why: Reason) {
        self.retries[why as usize].bump();
    }

    /// It has sent a whole response, so many microseconds after the request's head. Only the owner may call this.
    #[inline]
    pub fn answered(&self, status: u16, micros: Option<u64>) {
        self.classes[usize::from((status / 100).clamp(1, 5) - 1)].bump();
        if let Some(micros) = micros {
            self.durations.observe(micros);
        }
    }
}

/// What the health thread counts of one endpoint.
#[derive(Debug, Default)]
pub struct CheckCounters {
    /// Checks that succeeded.
    pub passed: Counter,
    /// Checks that failed.
    pub failed: Counter,
    /// How long they took together, in microseconds.
    pub micros: Counter,
    /// How often it was ejected.
    pub ejections: Counter,
}

/// A block, and whether somebody owns it.
#[derive(Debug, Default)]
struct Block {
    taken: AtomicBool,
    counters: EndpointCounters,
}

/// A block that is owned until this is dropped.
#[derive(Debug)]
pub struct OwnBlock(Arc<Block>);

impl Deref for OwnBlock {
    type Target = EndpointCounters;

    #[inline]
    fn deref(&self) -> &EndpointCounters {
        &self.0.counters
    }
}

impl Drop for OwnBlock {
    fn drop(&mut self) {
        self.0.counters.in_flight.set(0);
        self.0.taken.store(false, Ordering::Release);
    }
}

/// All that is counted of one endpoint.
#[derive(Debug, Default)]
pub struct EndpointMeters {
    blocks: ArcSwap<Vec<Arc<Block>>>,
    /// What the health thread counts.
    pub checks: CheckCounters,
}

impl EndpointMeters {
    /// Takes a block, to count in.
    pub fn claim(&self) -> OwnBlock {
        let take = |block: &&Arc<Block>| !block.taken.swap(true, Ordering::Acquire);
        if let Some(block) = self.blocks.load().iter().find(take) {
            return OwnBlock(Arc::clone(block));
        }
        let block = Arc::new(Block { taken: AtomicBool::new(true), ..Block::default() });
        self.blocks.rcu(|blocks| {
            let mut blocks = Vec::clone(blocks);
            blocks.push(Arc::clone(&block));
            blocks
        });
        OwnBlock(block)
    }

    /// What all of it says now. The parts may be a moment apart.
    pub fn read(&self) -> EndpointTotals {
        let checks = &self.checks;
        let mut sum = EndpointTotals {
            passed: checks.passed.get(),
            failed: checks.failed.get(),
            check_micros: checks.micros.get(),
            ejections: checks.ejections.get(),
            ..EndpointTotals::default()
        };
        for block in self.blocks.load().iter() {
            let it = &block.counters;
            sum.classes.iter_mut().zip(&it.classes).for_each(|(sum, class)| *sum += class.get());
            sum.durations = sum.durations.with(&it.durations.read());
            sum.in_flight += it.in_flight.get();
            sum.connects += it.connects.get();
            sum.connect_failures += it.connect_failures.get();
            sum.reuses += it.reuses.get();
            sum.failures += it.failures.get();
            sum.retries.iter_mut().zip(&it.retries).for_each(|(sum, count)| *sum += count.get());
        }
        sum
    }
}

/// What was counted of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointTotals {
    /// Whole responses, in the order of [`CLASSES`].
    pub classes: [u64; CLASSES.len()],
    /// As they are in [`EndpointCounters`].
    pub durations: Times,
    /// Requests that are with it.
    pub in_flight: u64,
    /// As [`EndpointCounters::connects`].
    pub connects: u64,
    /// As [`EndpointCounters::connect_failures`].
    pub connect_failures: u64,
    /// As [`EndpointCounters::reuses`].
    pub reuses: u64,
    /// As [`EndpointCounters::failures`].
    pub failures: u64,
    /// Requests that were sent again or elsewhere, by reason.
    pub retries: Retries<u64>,
    /// As [`CheckCounters::passed`].
    pub passed: u64,
    /// As [`CheckCounters::failed`].
    pub failed: u64,
    /// As [`CheckCounters::micros`].
    pub check_micros: u64,
    /// As [`CheckCounters::ejections`].
    pub ejections: u64,
}

impl Default for EndpointTotals {
    fn default() -> Self {
        EndpointTotals {
            classes: [0; CLASSES.len()],
            durations: Times::default(),
            in_flight: 0,
            connects: 0,
            connect_failures: 0,
            reuses: 0,
            failures: 0,
            retries: [0; Reason::COUNT],
            passed: 0,
            failed: 0,
            check_micros: 0,
            ejections: 0,
        }
    }
}

/// Each reason that a retry can have.
fn reasons() -> impl Iterator<Item = Reason> {
    Reason::ALL.iter().copied().filter(|reason| reason.can_be_of(Incident::Retry))
}

impl EndpointTotals {
    /// Retries, by each reason that they can have.
    pub fn retries(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        reasons().map(|reason| (reason, self.retries[reason as usize]))
    }

    /// Each count but that of what is in flight, by a key that another process knows it by.
    fn parts(&mut self) -> Vec<(String, &mut u64)> {
        let classes = CLASSES.iter().map(|class| (*class).to_owned()).zip(&mut self.classes);
        let limits = LIMITS.iter().map(|limit| format!("duration.{limit}"));
        let mut parts: Vec<_> = classes.chain(limits.zip(&mut self.durations.buckets)).collect();
        let others = [
            ("duration.sum", &mut self.durations.sum),
            ("connects", &mut self.connects),
            ("connect_failures", &mut self.connect_failures),
            ("reuses", &mut self.reuses),
            ("failures", &mut self.failures),
            ("checks.passed", &mut self.passed),
            ("checks.failed", &mut self.failed),
            ("checks.micros", &mut self.check_micros),
            ("ejections", &mut self.ejections),
        ];
        parts.extend(others.map(|(key, count)| (key.to_owned(), count)));
        let retries = Reason::ALL.iter().zip(&mut self.retries);
        let retries = retries.filter(|(reason, _)| reason.can_be_of(Incident::Retry));
        parts.extend(retries.map(|(why, count)| (reason_key(Incident::Retry, *why), count)));
        parts
    }

    /// The counts that are not 0, by their keys.
    pub fn by_key(mut self) -> Vec<(String, u64)> {
        let parts = self.parts().into_iter().map(|(key, count)| (key, *count));
        parts.filter(|(_, count)| *count > 0).collect()
    }

    /// Raises each to what `count` has under its key, if it has that.
    #[must_use]
    pub fn raised(mut self, count: impl Fn(&str) -> Option<u64>) -> EndpointTotals {
        for (key, is) in self.parts() {
            *is = count(&key).unwrap_or_default().max(*is);
        }
        self
    }

    /// With what another process counted of it.
    #[must_use]
    pub fn with(mut self, mut other: EndpointTotals) -> EndpointTotals {
        for ((_, is), (_, more)) in self.parts().into_iter().zip(other.parts()) {
            *is = is.wrapping_add(*more);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_stays_and_a_block_that_was_given_back_is_used_again() {
        let meters = EndpointMeters::default();
        let (one, other) = (meters.claim(), meters.claim());
        one.answered(200, Some(7_000));
        one.in_flight.set(3);
        other.answered(503, None);
        other.in_flight.set(1);
        drop(one);
        let again = meters.claim();
        again.answered(204, Some(1));
        let counts = meters.read();
        assert_eq!(counts.classes, [0, 2, 0, 0, 1]);
        assert_eq!((counts.in_flight, counts.durations.count()), (1, 2));
        assert_eq!(meters.blocks.load().len(), 2);
    }

    #[test]
    fn threads_that_claim_at_the_same_time_have_blocks_of_their_own() {
        let meters = EndpointMeters::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| meters.claim().answered(200, None)));
            }
        });
        assert_eq!(meters.read().classes[1], 4_000);
        assert!(meters.blocks.load().len() <= 4);
    }

    #[test]
    fn every_count_goes_over_by_its_key_and_never_back() {
        let mut counts = EndpointTotals::default();
        counts.parts().into_iter().zip(1..).for_each(|((_, count), number)| *count = number);
        let keys: std::collections::BTreeMap<_, _> = counts.by_key().into_iter().collect();
        assert_eq!(keys.len(), 29 + reasons().count(), "each key is one count's");
        let taken = EndpointTotals::default().raised(|key| keys.get(key).copied());
        assert_eq!(taken, counts);
        assert_eq!(taken.raised(|_| None), counts);
        assert_eq!(taken.with(counts).retries, counts.retries.map(|count| 2 * count));
    }

    #[test]
    fn a_status_that_no_class_has_is_of_the_nearest() {
        let meters = EndpointMeters::default();
        let block = meters.claim();
        [0, 101, 999].iter().for_each(|&status| block.answered(status, None));
        assert_eq!(meters.read().classes, [2, 0, 0, 0, 1]);
    }
}
