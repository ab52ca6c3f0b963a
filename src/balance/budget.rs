//! How many requests of the whole process may be sent once more, so that repeating does not become an attack on
//! the endpoints that are left.
//!
//! Invariants: what is granted in two neighbouring windows is at most the percentage of the requests
//! of these windows, or the floor for their time if that is more. Threads may race at a window's end; what
//! that can cost is a few grants more or less.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam::utils::CachePadded;

/// How long requests count as recent: at least one window, at most two.
pub const WINDOW: Duration = Duration::from_secs(10);

/// What was counted in one window.
#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    granted: AtomicU64,
}

impl Tally {
    fn clear(&self) {
        self.requests.store(0, Relaxed);
        self.granted.store(0, Relaxed);
    }
}

/// The retry budget. Workers add their requests now and then, not one by one.
#[derive(Debug)]
pub struct Budget {
    percent: u64,
    floor: u64,
    /// Number of the current window, counted from the process's start.
    window: CachePadded<AtomicU64>,
    /// The windows with even and with odd numbers.
    tallies: [CachePadded<Tally>; 2],
}

impl Budget {
    /// Grants `percent` of 100 recent requests, and at least `floor` a second.
    pub fn new(percent: usize, floor: usize) -> Self {
        Budget {
            percent: percent as u64,
            floor: floor as u64,
            window: CachePadded::default(),
            tallies: Default::default(),
        }
    }

    /// The tally of the window at `elapsed` since the start; clears those that are over.
    fn tally(&self, elapsed: Duration) -> &Tally {
        let number = elapsed.as_secs() / WINDOW.as_secs();
        let known = self.window.load(Relaxed);
        if number > known && self.window.compare_exchange(known, number, Relaxed, Relaxed).is_ok() {
            self.tally_of(number).clear();
            if number > known + 1 {
                self.tally_of(number + 1).clear();
            }
        }
        self.tally_of(number)
    }

    fn tally_of(&self, number: u64) -> &Tally {
        &self.tallies[usize::from(number % 2 == 1)]
    }

    /// So many requests came.
    pub fn note(&self, elapsed: Duration, requests: u64) {
        self.tally(elapsed).requests.fetch_add(requests, Relaxed);
    }

    /// Whether one more request may be sent again.
    pub fn allows(&self, elapsed: Duration) -> bool {
        self.tally(elapsed);
        let sum = |count: fn(&Tally) -> &AtomicU64| -> u64 {
            self.tallies.iter().map(|tally| count(tally).load(Relaxed)).sum()
        };
        let share = sum(|tally| &tally.requests) * self.percent / 100;
        sum(|tally| &tally.granted) < share.max(self.floor * 2 * WINDOW.as_secs())
    }

    /// One request was sent again.
    pub fn spend(&self, elapsed: Duration) {
        self.tally(elapsed).granted.fetch_add(1, Relaxed);
    }
}

impl Default for Budget {
    /// As good as no limit; the server makes its budget from the settings.
    fn default() -> Self {
        Budget::new(100, 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How many are granted at once.
    fn granted(budget: &Budget, now: Duration) -> u64 {
        let mut count = 0;
        while budget.allows(now) {
            budget.spend(now);
            count += 1;
        }
        count
    }

    #[test]
    fn a_share_of_recent_requests_is_granted() {
        let budget = Budget::new(20, 0);
        budget.note(at(1), 500);
        assert_eq!(granted(&budget, at(1)), 100);
        assert_eq!(
            granted(&budget, at(11)),
            0,
            "the last window still counts, and so does what it granted"
        );
        budget.note(at(12), 50);
        assert_eq!(granted(&budget, at(12)), 10);
        assert_eq!(granted(&budget, at(45)), 0, "nothing is recent any more");
    }

    #[test]
    fn the_floor_is_granted_however_few_requests_there_are() {
        let budget = Budget::new(20, 10);
        assert_eq!(granted(&budget, at(0)), 200);
        assert_eq!(granted(&budget, at(100)), 200);
        assert_eq!(granted(&Budget::new(0, 0), at(0)), 0);
    }

    #[test]
    fn threads_together_get_no_more_than_the_budget() {
        let budget = Budget::new(100, 0);
        budget.note(at(1), 10_000);
        let total: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| granted(&budget, at(1)))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((10_000..=10_003).contains(&total), "{total}");
    }
}
