//! The consecutive failures of an endpoint, by kind, as far as this worker saw. Pure.
//!
//! Owns the counts of one endpoint; does not know what becomes of an endpoint whose count is full.
//! Invariant: a count is below its threshold, since a full one begins again.

use crate::balance::Streak;
use crate::settings::Ejection;

/// The counts of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Streaks {
    connect_failures: u32,
    resets: u32,
    replayed: u32,
    timeouts: u32,
    errors: u32,
}

impl Streaks {
    /// Counts a failure. Returns the length of the streak once it reaches the threshold, and begins a new one then.
    pub(super) fn failed(&mut self, kind: Streak, limits: &Ejection) -> Option<u32> {
        let (count, limit) = match kind {
            Streak::ConnectFailures => (&mut self.connect_failures, limits.connect_failures),
            Streak::Resets => (&mut self.resets, limits.resets),
            Streak::Replayed => (&mut self.replayed, limits.resets),
            Streak::Timeouts => (&mut self.timeouts, limits.timeouts),
            Streak::Errors => (&mut self.errors, limits.errors),
        };
        if limit == 0 {
            return None;
        }
        *count += 1;
        (*count >= limit).then(|| std::mem::take(count))
    }

    /// A connection was established.
    pub(super) fn connected(&mut self) {
        self.connect_failures = 0;
    }

    /// The endpoint has sent a whole response: only the streak of 5xx responses may go on, if `status` is one.
    pub(super) fn answered(&mut self, status: u16, limits: &Ejection) -> Option<u32> {
        self.connect_failures = 0;
        self.resets = 0;
        self.replayed = 0;
        self.timeouts = 0;
        if status < 500 {
            self.errors = 0;
            return None;
        }
        self.failed(Streak::Errors, limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: fn(u32) -> Ejection = |errors| Ejection {
        connect_failures: 3,
        resets: 2,
        timeouts: 2,
        errors,
        ..Ejection::default()
    };

    /// Plays events and writes after each the streak that is full: `c`onnect failed, `C`onnected, `r`eset,
    /// served `e`lsewhere, `t`imed out, `2` and `5`, the answers with a status of 200 and 500.
    fn play(limits: &Ejection, events: &str) -> String {
        let mut streaks = Streaks::default();
        let full = |event| match event {
            'c' => streaks.failed(Streak::ConnectFailures, limits),
            'r' => streaks.failed(Streak::Resets, limits),
            'e' => streaks.failed(Streak::Replayed, limits),
            't' => streaks.failed(Streak::Timeouts, limits),
            'C' => {
                streaks.connected();
                None
            }
            status => streaks.answered(if status == '2' { 200 } else { 500 }, limits),
        };
        let shown = |full: Option<u32>| full.map_or("-".to_owned(), |count| count.to_string());
        events.chars().map(full).map(shown).collect()
    }

    #[test]
    fn a_streak_is_full_at_its_threshold_and_ended_by_a_success() {
        let table = [
            ("rr", "-2"),
            ("rrrr", "-2-2"),
            ("r2r2r", "-----"),
            ("reree", "--22-"),
            ("re2re", "-----"),
            ("ccc", "--3"),
            ("cc2ccc", "-----3"),
            ("ccCccc", "-----3"),
            ("rCr", "--2"),
            ("crcrc", "---23"),
            ("r5r5r", "-----"),
            ("55555", "-----"),
            ("trtr", "--22"),
            ("t2tt", "---2"),
        ];
        for (events, full) in table {
            assert_eq!(play(&LIMITS(0), events), full, "{events}");
        }
    }

    #[test]
    fn errors_count_only_if_they_are_to_and_are_ended_by_another_status() {
        for (events, full) in
            [("555", "--3"), ("55255", "-----"), ("5r5c5", "----3"), ("5C55", "---3")]
        {
            assert_eq!(play(&LIMITS(3), events), full, "{events}");
        }
    }

    #[test]
    fn a_threshold_of_zero_is_never_reached() {
        let off = Ejection { connect_failures: 0, resets: 0, timeouts: 0, ..LIMITS(0) };
        assert_eq!(play(&off, "rrreeettcccc555"), "---------------");
    }
}
