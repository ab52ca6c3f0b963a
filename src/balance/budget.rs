//! How many requests of the whole process may be retried, so that retries do not become an attack on the endpoints
//! that are left.
//!
//! Invariants: what is granted in two neighbouring windows is at most the percentage of the requests
//! of these windows, or the floor for their time if that is more. Threads that ask at once may get one grant more for
//! each but one of them, and nothing is lost when a window begins (`models`).

use std::time::Duration;

use crossbeam::utils::CachePadded;

use crate::base::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::settings::Retry;

/// How long requests count as recent: at least one window, at most two.
pub const WINDOW: Duration = Duration::from_secs(10);

/// A count of one window, in one word with the window's number, so that a new window and its first count
/// arise at the same time: the number above, the count below.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    const BITS: u32 = 32;
    const MOST: u64 = (1 << Count::BITS) - 1;

    /// Adds to `window`, or to the later one that is counted here already.
    fn add(&self, window: u64, more: u64) {
        let add = |word: u64| {
            let (number, count) = (word >> Count::BITS, word & Count::MOST);
            let count = if number < window { 0 } else { count };
            let sum = count.saturating_add(more).min(Count::MOST);
            Some(number.max(window) << Count::BITS | sum)
        };
        // Cannot fail: it always has a next value.
        let _ = self.0.fetch_update(Relaxed, Relaxed, add);
    }

    /// What was counted, unless that was before the window that precedes `window`.
    fn recent(&self, window: u64) -> u64 {
        let word = self.0.load(Relaxed);
        if (word >> Count::BITS) + 1 < window { 0 } else { word & Count::MOST }
    }
}

/// What is counted in one window.
#[derive(Debug, Default)]
struct Tally {
    requests: Count,
    granted: Count,
}

/// The retry budget. Workers add their requests now and then, not one by one.
#[derive(Debug, Default)]
pub struct Budget {
    /// The windows with even and with odd numbers.
    tallies: [CachePadded<Tally>; 2],
}

impl Budget {
    /// So many requests came.
    pub fn note(&self, elapsed: Duration, requests: u64) {
        let window = window(elapsed);
        self.tally(window).requests.add(window, requests);
    }

    /// Whether one more request may be sent again: `rules.budget` of 100 recent requests may, and at least
    /// `rules.budget_floor` a second.
    pub fn allows(&self, rules: &Retry, elapsed: Duration) -> bool {
        let window = window(elapsed);
        let sum = |count: fn(&Tally) -> &Count| -> u64 {
            self.tallies.iter().map(|tally| count(tally).recent(window)).sum()
        };
        let share = sum(|tally| &tally.requests) * rules.budget as u64 / 100;
        sum(|tally| &tally.granted) < share.max(rules.budget_floor as u64 * 2 * WINDOW.as_secs())
    }

    /// One request was sent again.
    pub fn spend(&self, elapsed: Duration) {
        let window = window(elapsed);
        self.tally(window).granted.add(window, 1);
    }

    fn tally(&self, window: u64) -> &Tally {
        &self.tallies[usize::from(window % 2 == 1)]
    }
}

/// Number of the window at `elapsed` since the start.
fn window(elapsed: Duration) -> u64 {
    elapsed.as_secs() / WINDOW.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rules(budget: usize, budget_floor: usize) -> Retry {
        Retry { budget, budget_floor, ..Retry::default() }
    }

    /// How many are granted at once.
    fn granted(budget: &Budget, rules: &Retry, now: Duration) -> u64 {
        let mut count = 0;
        while budget.allows(rules, now) {
            budget.spend(now);
            count += 1;
        }
        count
    }

    #[test]
    fn a_share_of_recent_requests_is_granted() {
        let (budget, rules) = (Budget::default(), rules(20, 0));
        budget.note(at(1), 500);
        assert_eq!(granted(&budget, &rules, at(1)), 100);
        assert_eq!(
            granted(&budget, &rules, at(11)),
            0,
            "the last window still counts, and so does what it granted"
        );
        budget.note(at(12), 50);
        assert_eq!(granted(&budget, &rules, at(12)), 10);
        assert_eq!(granted(&budget, &rules, at(45)), 0, "nothing is recent any more");
    }

    #[test]
    fn the_floor_is_granted_however_few_requests_there_are() {
        let (budget, usual) = (Budget::default(), rules(20, 10));
        assert_eq!(granted(&budget, &usual, at(0)), 200);
        assert_eq!(granted(&budget, &usual, at(100)), 200);
        assert_eq!(granted(&Budget::default(), &rules(0, 0), at(0)), 0);
    }

    #[test]
    fn threads_together_get_no_more_than_the_budget() {
        let (budget, rules) = (Budget::default(), rules(100, 0));
        budget.note(at(1), 10_000);
        let total: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| granted(&budget, &rules, at(1)))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((10_000..=10_003).contains(&total), "{total}");
    }
}
