//! When an endpoint is taken out because of what workers saw, and for how long: pure.
//!
//! Owns one endpoint's record of ejections, and the rule that bounds how many are out at once. Reads no clock
//! (`now` is an argument) and does not know what the probes say. Invariant: the time of an ejection is between
//! `time` and `max_time`, and twice the one before it unless the endpoint stayed in for `max_time` in between.

use std::time::{Duration, Instant};

use crate::settings::Ejection;

/// Longer times are cut to this, so that no sum of times overflows.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// How many endpoints there are, and how they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct EndpointCounts {
    pub(super) all: usize,
    pub(super) up: usize,
    pub(super) ejected: usize,
}

/// Whether one more endpoint, which is up, may be ejected. The last one that is up stays unless all may be
/// out: bad answers are better than none.
pub(super) fn allows(rules: &Ejection, counts: EndpointCounts) -> bool {
    let share = rules.share.min(100) as usize;
    let enough = if share == 100 { counts.all > 1 } else { counts.up > 1 };
    enough && (counts.ejected + 1).saturating_mul(100) <= counts.all.saturating_mul(share)
}

/// The ejections of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    /// Out until then, and from then on until a probe succeeds.
    until: Option<Instant>,
    /// Ejections one after another so far.
    consecutive: u32,
    /// When it last came in.
    came_in: Option<Instant>,
}

impl Ejections {
    /// Takes the endpoint out; when its time will be over.
    pub(super) fn eject(&mut self, rules: &Ejection, now: Instant) -> Duration {
        let longest = rules.max_time.min(MAX_TIME);
        if self.came_in.is_none_or(|at| now.saturating_duration_since(at) >= longest) {
            self.consecutive = 0;
        }
        let factor = 1u32.checked_shl(self.consecutive).unwrap_or(u32::MAX);
        let time = rules.time.saturating_mul(factor).min(longest);
        self.consecutive = self.consecutive.saturating_add(1);
        self.until = Some(now + time);
        time
    }

    /// What is to be known to go on elsewhere: when its time is over, ejections so far, and when it last came in.
    pub(super) fn record(&self) -> (Option<Instant>, u32, Option<Instant>) {
        (self.until, self.consecutive, self.came_in)
    }

    /// Goes on from what another one has recorded.
    pub(super) fn resume(
        until: Option<Instant>,
        consecutive: u32,
        came_in: Option<Instant>,
    ) -> Self {
        Ejections { until, consecutive, came_in }
    }

    /// When the endpoint's time is over, if it is out.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether the endpoint is out.
    pub(super) fn is_out(&self) -> bool {
        self.until.is_some()
    }

    /// Whether the endpoint is out and its time is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// The endpoint is in again.
    pub(super) fn come_in(&mut self, now: Instant) {
        self.until = None;
        self.came_in = Some(now);
    }

    /// Whether the endpoint came in so shortly before.
    pub(super) fn came_in_within(&self, time: Duration, now: Instant) -> bool {
        self.came_in.is_some_and(|at| now.saturating_duration_since(at) < time)
    }

    /// A probe failed, so that probes see what workers saw, and will see its end: the time is over.
    pub(super) fn cut_short(&mut self, now: Instant) {
        self.until = self.until.map(|until| until.min(now));
    }

    /// Its probes failed too: rise and fall decide from here.
    pub(super) fn give_way(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules(time: u32, max_time: u32) -> Ejection {
        Ejection { time: time * SECOND, max_time: max_time * SECOND, ..Ejection::default() }
    }

    #[test]
    fn at_most_the_share_of_all_endpoints_is_out_and_the_last_one_stays() {
        let table = [
            // share, all, up, ejected, allowed
            (50, 1, 1, 0, false),
            (50, 2, 2, 0, true),
            (50, 2, 1, 1, false),
            (50, 2, 1, 0, false), // the other one fails its probes
            (50, 3, 3, 0, true),
            (50, 3, 2, 1, false),
            (50, 4, 3, 1, true),
            (50, 4, 2, 2, false),
            (10, 9, 9, 0, false),
            (10, 10, 10, 0, true),
            (0, 100, 100, 0, false),
            (99, 2, 1, 0, false),
            (100, 2, 1, 1, true),
            (100, 2, 1, 0, true),
            (100, 1, 1, 0, false), // there is nothing to fall back on
            (1000, 2, 1, 1, true),
        ];
        for (share, all, up, ejected, allowed) in table {
            let counts = EndpointCounts { all, up, ejected };
            let rules = Ejection { share, ..Ejection::default() };
            assert_eq!(allows(&rules, counts), allowed, "{share} % {counts:?}");
        }
    }

    #[test]
    fn the_time_doubles_with_each_consecutive_ejection_up_to_the_longest() {
        let rules = rules(5, 30);
        let (mut record, mut now) = (Ejections::default(), Instant::now());
        let mut times = Vec::new();
        for _ in 0..100 {
            let time = record.eject(&rules, now);
            assert!(record.is_out() && !record.is_over(now + time - SECOND));
            assert!(record.is_over(now + time));
            now += time + SECOND;
            record.come_in(now);
            assert!(!record.is_out() && !record.is_over(now + 100 * SECOND));
            times.push(time.as_secs());
        }
        assert_eq!(times[..4], [5, 10, 20, 30]);
        assert_eq!(times[99], 30);
    }

    #[test]
    fn an_endpoint_that_stayed_in_for_the_longest_time_begins_again() {
        let rules = rules(5, 30);
        for (stayed, next) in [(29, 10), (30, 5)] {
            let (mut record, now) = (Ejections::default(), Instant::now());
            record.eject(&rules, now);
            record.come_in(now + 5 * SECOND);
            assert_eq!(record.eject(&rules, now + (5 + stayed) * SECOND), next * SECOND);
        }
    }

    #[test]
    fn one_whose_probe_failed_need_not_wait_for_the_end_of_its_time() {
        let (mut record, now) = (Ejections::default(), Instant::now());
        record.cut_short(now);
        assert!(!record.is_out());
        record.eject(&rules(5, 30), now);
        record.cut_short(now + SECOND);
        assert!(record.is_out() && record.is_over(now + SECOND));
        record.cut_short(now + 2 * SECOND);
        assert!(record.is_over(now + SECOND));
    }

    #[test]
    fn one_that_gave_way_to_its_probes_is_not_out_and_its_ejections_still_count() {
        let rules = rules(5, 30);
        let (mut record, now) = (Ejections::default(), Instant::now());
        record.eject(&rules, now);
        record.give_way();
        assert!(!record.is_out() && !record.is_over(now + 60 * SECOND));
        record.come_in(now + 60 * SECOND);
        assert_eq!(record.eject(&rules, now + 61 * SECOND), 10 * SECOND);
    }

    #[test]
    fn absurd_times_do_not_overflow() {
        let rules = Ejection { time: Duration::MAX, max_time: Duration::MAX, ..rules(0, 0) };
        assert_eq!(Ejections::default().eject(&rules, Instant::now()), MAX_TIME);
    }
}
