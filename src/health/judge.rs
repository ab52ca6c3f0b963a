//! When an endpoint counts as healthy: rise and fall, as a pure state machine.
//!
//! Owns the count of consecutive verdicts; knows nothing of time, sockets or reasons. Invariant: the
//! streak counts only verdicts against the current state, and is zero right after every change.

/// What a verdict changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transition {
    /// The endpoint may be picked from now on.
    Up,
    /// The endpoint may no longer be picked, or was found down at its first probe.
    Down,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// What was expected.
    Good,
    /// Something else, or nothing in time. Requests may fare better.
    Bad,
    /// Nobody is there: requests fare no better.
    Gone,
}

#[cfg(test)]
impl From<bool> for Judgement {
    fn from(success: bool) -> Self {
        if success { Judgement::Good } else { Judgement::Bad }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JudgeState {
    Unknown,
    Up,
    Down,
}

/// The health of one endpoint. It starts unknown, which is not healthy; the first verdict decides
/// at once whatever `rise` and `fall` are, so that a start takes one round of probes and not `rise`.
#[derive(Debug)]
pub(super) struct Judge {
    rise: u32,
    fall: u32,
    state: JudgeState,
    streak: u32,
}

impl Judge {
    /// `rise` consecutive successes bring a down endpoint up, `fall` consecutive failures take an up one
    /// down. Zero counts as one.
    pub(super) fn new(rise: u32, fall: u32) -> Self {
        Judge { rise: rise.max(1), fall: fall.max(1), state: JudgeState::Unknown, streak: 0 }
    }

    /// What is to be known to go on elsewhere: whether it is up, `None` if that is unknown, and the streak.
    pub(super) fn record(&self) -> (Option<bool>, u32) {
        let up = match self.state {
            JudgeState::Unknown => None,
            JudgeState::Up => Some(true),
            JudgeState::Down => Some(false),
        };
        (up, self.streak)
    }

    /// Goes on from what another one has recorded.
    pub(super) fn resume(&mut self, up: Option<bool>, streak: u32) {
        (self.state, self.streak) = match up {
            None => (JudgeState::Unknown, 0),
            Some(true) => (JudgeState::Up, streak),
            Some(false) => (JudgeState::Down, streak),
        };
    }

    /// Judges by these numbers from now on. What was seen counts.
    pub(super) fn follow(&mut self, rise: u32, fall: u32) {
        (self.rise, self.fall) = (rise.max(1), fall.max(1));
    }

    /// Takes the verdict of one probe.
    pub(super) fn observe(&mut self, success: bool) -> Option<Transition> {
        let (against, needed, change) = match self.state {
            JudgeState::Unknown => {
                (true, 1, if success { Transition::Up } else { Transition::Down })
            }
            JudgeState::Up => (!success, self.fall, Transition::Down),
            JudgeState::Down => (success, self.rise, Transition::Up),
        };
        self.streak = if against { self.streak + 1 } else { 0 };
        (self.streak >= needed).then(|| self.enter(change))
    }

    /// Whether the next failure takes the endpoint down.
    pub(super) fn is_about_to_fall(&self) -> bool {
        self.state == JudgeState::Up && self.streak + 1 >= self.fall
    }

    /// Whether the endpoint may be picked.
    pub(super) fn is_healthy(&self) -> bool {
        self.state == JudgeState::Up
    }

    /// Whether no probe has ended yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.state == JudgeState::Unknown
    }

    /// Whether the endpoint is up but its last probes failed: fewer of them than `fall`.
    pub(super) fn is_wavering(&self) -> bool {
        self.state == JudgeState::Up && self.streak > 0
    }

    fn enter(&mut self, change: Transition) -> Transition {
        self.streak = 0;
        self.state = match change {
            Transition::Up => JudgeState::Up,
            Transition::Down => JudgeState::Down,
        };
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays verdicts (`+` success, `-` failure) and writes the health after each: `U`p or `d`own.
    fn play(rise: u32, fall: u32, verdicts: &str) -> String {
        let mut judge = Judge::new(rise, fall);
        verdicts
            .chars()
            .map(|verdict| {
                let before = judge.is_healthy();
                let unknown = judge.is_unknown();
                let change = judge.observe(verdict == '+');
                let after = judge.is_healthy();
                assert_eq!(
                    change.is_some(),
                    unknown || before != after,
                    "a change is reported once"
                );
                assert!(change.is_none_or(|change| (change == Transition::Up) == after));
                if after { 'U' } else { 'd' }
            })
            .collect()
    }

    #[test]
    fn rise_and_fall_follow_the_table() {
        let table = [
            // rise, fall, verdicts, health after each
            (1, 1, "+-+-", "UdUd"),
            (1, 1, "--++", "ddUU"),
            (1, 3, "+--+---", "UUUUUUd"),
            (3, 1, "+-++-+++", "UddddddU"),
            (2, 2, "-+-++-+--", "ddddUUUUd"),
            (0, 0, "+-+", "UdU"),
        ];
        for (rise, fall, verdicts, health) in table {
            assert_eq!(play(rise, fall, verdicts), health, "rise {rise} fall {fall} {verdicts}");
        }
    }

    #[test]
    fn the_first_verdict_decides_whatever_rise_and_fall_are() {
        assert_eq!(play(5, 5, "+"), "U");
        assert_eq!(play(5, 5, "-"), "d");
        assert!(!Judge::new(5, 5).is_healthy());
    }

    #[test]
    fn the_last_failure_before_the_fall_is_seen_coming() {
        let mut judge = Judge::new(1, 2);
        assert!(!judge.is_about_to_fall(), "nothing is known");
        let seen = [true, false, true, false, false].map(|success| {
            judge.observe(success);
            judge.is_about_to_fall()
        });
        assert_eq!(seen, [false, true, false, true, false]);
    }

    #[test]
    fn an_up_endpoint_wavers_between_its_first_failure_and_the_fall() {
        let mut judge = Judge::new(1, 3);
        for (success, wavering) in
            [(true, false), (false, true), (false, true), (true, false), (false, true)]
        {
            judge.observe(success);
            assert_eq!(judge.is_wavering(), wavering);
        }
        judge.observe(false);
        judge.observe(false);
        assert!(!judge.is_wavering(), "down is decided");
    }
}
