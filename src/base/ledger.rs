//! How much memory the buffers of all workers hold together, and how near that is to the limit.
//!
//! Owns the count alone. A worker's [`Pool`](super::buffer::Pool) takes its part in blocks, so that requests do not touch what
//! all share. Nothing is refused here: a message that was begun is finished, and whether to read more depends on the
//! [`Level`].

use std::sync::Arc;

use crossbeam::utils::CachePadded;

use super::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes per worker that may be held before reads get smaller, unless a quarter of the limit is less.
const PLENTY: usize = 32 * 1024 * 1024;
/// The most that a worker takes beyond what it needs, twice.
const BLOCK: usize = 256 * 1024;
/// Workers take so many blocks, or fewer, before all is taken: what they have and do not use is a 32nd at most.
const BLOCKS: usize = 64;

/// How near the limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Far away.
    Plenty,
    /// A quarter is held, or 32 MiB per worker: reads for a peer that may not take the bytes are smaller.
    Modest,
    /// Three quarters are held: such reads are as small as is worth a system call.
    Scarce,
    /// All is held.
    Out,
}

/// What the workers of a process share: how many bytes their buffers hold.
#[derive(Debug)]
pub struct Ledger {
    limit: AtomicUsize,
    plenty: AtomicUsize,
    block: AtomicUsize,
    held: CachePadded<AtomicUsize>,
}

impl Default for Ledger {
    /// Without a limit, for one worker.
    fn default() -> Self {
        Ledger::new(usize::MAX, 1)
    }
}

impl Ledger {
    /// For `limit` bytes in the buffers of so many workers.
    pub fn new(limit: usize, workers: usize) -> Self {
        let zero = || AtomicUsize::new(0);
        let (plenty, block) = (zero(), zero());
        let ledger = Ledger { limit: zero(), plenty, block, held: CachePadded::new(zero()) };
        ledger.set_limit(limit, workers);
        ledger
    }

    /// Sets another limit. What is held beyond it stays until it is given back.
    pub fn set_limit(&self, limit: usize, workers: usize) {
        let workers = workers.max(1);
        self.limit.store(limit, Relaxed);
        self.plenty.store(PLENTY.saturating_mul(workers).min(limit / 4), Relaxed);
        self.block.store((limit / BLOCKS / workers).min(BLOCK), Relaxed);
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Bytes that the buffers of all workers hold, and at most half a mebibyte for each worker that it has at hand.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// How near that is to the limit.
    pub fn level(&self) -> Level {
        let limit = self.limit();
        match self.held() {
            held if held < self.plenty.load(Relaxed) => Level::Plenty,
            held if held < limit / 4 * 3 => Level::Modest,
            held if held < limit => Level::Scarce,
            _ => Level::Out,
        }
    }
}

/// One worker's part of what is held. It goes back with the worker.
#[derive(Debug, Default)]
pub(super) struct Part {
    ledger: Arc<Ledger>,
    bytes: usize,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.ledger.held.fetch_sub(self.bytes, Relaxed);
    }
}

impl Part {
    pub(super) fn of(ledger: Arc<Ledger>) -> Self {
        Part { ledger, bytes: 0 }
    }

    pub(super) fn level(&self) -> Level {
        self.ledger.level()
    }

    /// The fewest and the most bytes that can be lent before it must [fit](Part::fit) again.
    #[inline]
    pub(super) fn range(&self) -> (usize, usize) {
        (self.bytes.saturating_sub(2 * self.ledger.block.load(Relaxed)), self.bytes)
    }

    /// Makes it a block more than `lent`.
    pub(super) fn fit(&mut self, lent: usize) {
        let fitting = lent.saturating_add(self.ledger.block.load(Relaxed));
        if fitting > self.bytes {
            self.ledger.held.fetch_add(fitting - self.bytes, Relaxed);
        } else {
            self.ledger.held.fetch_sub(self.bytes - fitting, Relaxed);
        }
        self.bytes = fitting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn the_level_rises_with_what_is_held_and_falls_when_it_is_given_back() {
        let ledger = Arc::new(Ledger::new(64 * MIB, 2));
        let (mut one, mut two) = (Part::of(Arc::clone(&ledger)), Part::of(Arc::clone(&ledger)));
        assert_eq!(ledger.level(), Level::Plenty);
        one.fit(15 * MIB);
        assert_eq!(ledger.level(), Level::Plenty);
        two.fit(MIB);
        assert_eq!(ledger.level(), Level::Modest);
        one.fit(47 * MIB);
        assert_eq!(ledger.level(), Level::Scarce);
        two.fit(17 * MIB);
        assert_eq!(ledger.level(), Level::Out);
        drop(one);
        assert_eq!(ledger.level(), Level::Modest);
        two.fit(0);
        assert_eq!((ledger.level(), ledger.held()), (Level::Plenty, two.bytes));
        drop(two);
        assert_eq!(ledger.held(), 0);
    }

    #[test]
    fn what_workers_have_at_hand_is_a_small_part_of_the_limit() {
        for (limit, workers) in [(MIB, 1), (MIB, 64), (64 * MIB, 64), (1 << 40, 2)] {
            let ledger = Ledger::new(limit, workers);
            assert!(2 * ledger.block.load(Relaxed) * workers <= limit / 32, "{limit} {workers}");
            assert!(ledger.block.load(Relaxed) <= BLOCK);
        }
        let endless = Ledger::default();
        assert_eq!((endless.plenty.load(Relaxed), endless.block.load(Relaxed)), (PLENTY, BLOCK));
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let ledger = Arc::new(Ledger::new(MIB, 4));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mut part = Part::of(Arc::clone(&ledger));
                scope.spawn(move || (0..1_000).for_each(|at| part.fit(at * thread)));
            }
        });
        assert_eq!(ledger.held(), 0);
    }
}
