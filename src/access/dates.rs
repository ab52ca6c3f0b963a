//! Ticks as dates. The clock of ticks stands still while a machine sleeps and is never set; the wall clock goes on, and is
//! set now and then. So what lies between them changes, and an entry has the date of the moment in which it began.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::tick::Tick;

/// Changes that are remembered: as many as an exchange should outlive at most.
const STEPS: usize = 8;
/// A change that is worth a step: two clocks are never read in one moment, and one drifts against the other.
const STEP: Duration = Duration::from_millis(20);

/// The date of tick 0, as it was from some ticks on.
#[derive(Debug, Clone, Copy)]
pub struct Dates {
    /// The newest first.
    steps: [(Tick, SystemTime); STEPS],
}

impl Dates {
    /// `wall` is the date of `now`.
    pub fn new(now: Tick, wall: SystemTime) -> Dates {
        Dates { steps: [(Tick(0), origin(now, wall)); STEPS] }
    }

    /// It is `now`, and the wall clock says `wall`.
    pub fn follow(&mut self, now: Tick, wall: SystemTime) {
        let fresh = origin(now, wall);
        let (_, newest) = &mut self.steps[0];
        let apart = fresh.duration_since(*newest).unwrap_or_else(|error| error.duration());
        if apart >= STEP {
            self.steps.rotate_right(1);
            self.steps[0] = (now, fresh);
        }
    }

    /// The date of `at`, which has been.
    pub fn of(&self, at: Tick) -> SystemTime {
        let step = self.steps.iter().find(|(from, _)| *from <= at);
        let (_, origin) = step.unwrap_or(&self.steps[STEPS - 1]);
        *origin + Duration::from_micros(at.0)
    }
}

/// The date of tick 0. A wall clock that stands before that is not right anyway.
fn origin(now: Tick, wall: SystemTime) -> SystemTime {
    wall.checked_sub(Duration::from_micros(now.0)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn tick(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000)
    }

    #[test]
    fn an_entry_has_the_date_of_when_it_began_however_the_clock_was_set() {
        let mut dates = Dates::new(tick(0), at(1_000));
        assert_eq!(dates.of(tick(5)), at(1_005));
        // The machine slept for an hour, and the clock was then put back by a day.
        dates.follow(tick(10), at(4_610));
        dates.follow(tick(20), at(90_000));
        for (seconds, date) in [(9, 1_009), (10, 4_610), (19, 4_619), (20, 90_000), (30, 90_010)] {
            assert_eq!(dates.of(tick(seconds)), at(date), "{seconds}");
        }
    }

    #[test]
    fn small_differences_are_no_steps_and_do_not_add_up() {
        let mut dates = Dates::new(tick(0), at(1_000));
        for drift in 0..10_u32 {
            dates.follow(tick(10), at(1_010) + STEP * drift / 4);
            let told = dates.of(tick(10));
            let off = (at(1_010) + STEP * drift / 4).duration_since(told).unwrap();
            assert!(off < STEP, "{off:?}");
        }
        assert_eq!(dates.of(tick(9)), at(1_009), "what was before stays");
    }

    #[test]
    fn what_began_before_all_that_is_remembered_has_the_oldest_date() {
        let mut dates = Dates::new(tick(0), at(0));
        for hour in 1..=20 {
            dates.follow(tick(hour), at(hour * 3_600));
        }
        assert_eq!(dates.of(tick(20)), at(20 * 3_600));
        assert_eq!(dates.of(tick(1)), at(13 * 3_600 - 12), "as the clock went from tick 13 on");
    }

    #[test]
    fn a_clock_that_starts_in_1970_is_right_too() {
        let dates = Dates::new(tick(50), at(10));
        assert_eq!(dates.of(tick(50)), at(10));
    }
}
