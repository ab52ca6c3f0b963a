//! Counts by reason: for each kind of event one counter for each reason it can have.
//!
//! Owns them. Invariant: what is counted is of the closed set, so that there are no more series than [`Reason::ALL`] has words for an
//! event.

use super::Counter;
use crate::reason::{Incident, Reason};

const EVENTS: usize = Incident::ALL.len();

/// What one thread counts. Only its owner changes it; anybody may read.
#[derive(Debug)]
pub struct ReasonCounters([[Counter; Reason::COUNT]; EVENTS]);

impl Default for ReasonCounters {
    fn default() -> Self {
        ReasonCounters(std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())))
    }
}

impl ReasonCounters {
    /// One more `event` with this `reason`. Only the owner may call this.
    pub fn count(&self, event: Incident, reason: Reason) {
        debug_assert!(reason.can_be_of(event), "{reason} is no reason of a {}", event.word());
        self.0[event as usize][reason as usize].bump();
    }

    /// Raises each count to what `count` has for it, if it has that. Only the owner may call this.
    pub fn raise(&self, count: impl Fn(Incident, Reason) -> Option<u64>) {
        for (event, reason) in pairs() {
            if let Some(count) = count(event, reason) {
                self.0[event as usize][reason as usize].raise(count);
            }
        }
    }
}

/// The counts of a thread, or the sums of several, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReasonCounts([[u64; Reason::COUNT]; EVENTS]);

impl Default for ReasonCounts {
    fn default() -> Self {
        ReasonCounts([[0; Reason::COUNT]; EVENTS])
    }
}

impl ReasonCounts {
    /// What `counters` say now.
    pub fn of(counters: &ReasonCounters) -> ReasonCounts {
        ReasonCounts(std::array::from_fn(|event| {
            std::array::from_fn(|reason| counters.0[event][reason].get())
        }))
    }

    /// How many events had this reason.
    pub fn get(&self, event: Incident, reason: Reason) -> u64 {
        self.0[event as usize][reason as usize]
    }

    /// Each reason that `event` can have, with its count.
    pub fn of_event(&self, event: Incident) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let of_event = pairs().filter(move |(it, _)| *it == event);
        of_event.map(move |(event, reason)| (reason, self.get(event, reason)))
    }

    /// Each event with each reason it can have, and the count.
    pub fn iter(&self) -> impl Iterator<Item = (Incident, Reason, u64)> + '_ {
        pairs().map(|(event, reason)| (event, reason, self.get(event, reason)))
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &ReasonCounts) {
        let cells = self.0.iter_mut().flatten().zip(other.0.iter().flatten());
        cells.for_each(|(sum, count)| *sum = sum.wrapping_add(*count));
    }
}

/// Each event with each reason that it can have.
fn pairs() -> impl Iterator<Item = (Incident, Reason)> {
    Incident::ALL.into_iter().flat_map(|event| {
        let can = move |reason: &Reason| reason.can_be_of(event);
        Reason::ALL.iter().copied().filter(can).map(move |reason| (event, reason))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_counted_under_its_reason_and_sums_are_by_both() {
        let [one, other] = [ReasonCounters::default(), ReasonCounters::default()];
        one.count(Incident::Retry, Reason::ConnectionRefused);
        other.count(Incident::Retry, Reason::ConnectionRefused);
        other.count(Incident::Response, Reason::ConnectionRefused);
        let mut sum = ReasonCounts::of(&one);
        sum.add(&ReasonCounts::of(&other));
        let seen: Vec<_> = sum.iter().filter(|(.., count)| *count > 0).collect();
        let refused = Reason::ConnectionRefused;
        assert_eq!(seen, [(Incident::Response, refused, 1), (Incident::Retry, refused, 2)]);
        assert!(sum.of_event(Incident::Retry).all(|(reason, _)| reason.can_be_of(Incident::Retry)));
    }

    #[test]
    fn what_another_process_counted_never_goes_back() {
        let counters = ReasonCounters::default();
        for (count, seen) in [(7, 7), (5, 7), (9, 9)] {
            counters.raise(|event, reason| {
                (event == Incident::Cut && reason == Reason::ClientClosed).then_some(count)
            });
            let counts = ReasonCounts::of(&counters);
            assert_eq!(counts.get(Incident::Cut, Reason::ClientClosed), seen);
            assert_eq!(counts.iter().filter(|(.., count)| *count > 0).count(), 1);
        }
    }
}
