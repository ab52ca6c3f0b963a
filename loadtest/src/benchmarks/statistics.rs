//! Ratios within rounds, and which rounds count.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::median;

/// A round in which anyone waited longer than this share of the time for a core was disturbed.
pub(super) const DELAY: f64 = 0.04;
/// Likewise where the rate is fixed: there the slowest hundredth of all requests is compared.
pub(super) const PACED_DELAY: f64 = 0.01;
/// Rounds that are kept even when they were disturbed: the least disturbed ones.
const KEPT: usize = 5;

/// One subject in one round: both of its slices together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Round {
    pub(super) cpu_micros: f64,
    /// Of the threads that are evenly's workers.
    pub(super) worker_micros: f64,
    pub(super) per_second: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    /// Shares of a core.
    pub(super) busy: f64,
    pub(super) generator_busy: f64,
    /// Share of the time in which the subject or the generator waited for its core.
    pub(super) delay: f64,
    /// That over what is allowed; more than 1 is disturbed.
    pub(super) disturbance: f64,
}

/// The spread of a ratio over the rounds that count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ratio {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    pub(super) rounds: usize,
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}-{:.2})", self.median, self.least, self.most)
    }
}

/// What is measured in a round.
pub(super) trait Measured {
    /// How much it was disturbed; more than 1 is too much.
    fn disturbance(&self) -> f64;
}

impl Measured for Round {
    fn disturbance(&self) -> f64 {
        self.disturbance
    }
}

/// The median of one figure over the rounds that count; 0 of none.
pub(super) fn middle<T: Measured>(rounds: &[T], field: fn(&T) -> f64) -> f64 {
    let kept = kept(rounds.iter().map(|round| (round.disturbance(), field(round))).collect());
    median(&kept).unwrap_or(0.0)
}

/// Ours over theirs, round by round.
pub(super) fn ratio<T: Measured>(ours: &[T], theirs: &[T], field: fn(&T) -> f64) -> Option<Ratio> {
    let pairs = ours
        .iter()
        .zip(theirs)
        .map(|(our, their)| (our.disturbance().max(their.disturbance()), field(our) / field(their)))
        .filter(|(_, ratio)| ratio.is_finite())
        .collect();
    let kept = kept(pairs);
    Some(Ratio {
        median: median(&kept)?,
        least: kept.iter().copied().fold(f64::INFINITY, f64::min),
        most: kept.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        rounds: kept.len(),
    })
}

/// The places of the rounds whose requests can be thrown together: undisturbed ones, and only where there are
/// none those that count for medians. A single stall would be the slowest hundredth of them all.
pub(super) fn together<T: Measured>(rounds: &[T]) -> Vec<usize> {
    let places = || rounds.iter().enumerate().map(|(at, round)| (round.disturbance(), at));
    let calm: Vec<usize> =
        places().filter(|(disturbance, _)| *disturbance <= 1.0).map(|(_, at)| at).collect();
    if calm.is_empty() { kept(places().collect()) } else { calm }
}

/// What belongs to undisturbed rounds; to the [`KEPT`] least disturbed when those are fewer.
fn kept<T>(mut rounds: Vec<(f64, T)>) -> Vec<T> {
    rounds.sort_by(|left, right| left.0.total_cmp(&right.0));
    let calm = rounds.iter().filter(|(disturbance, _)| *disturbance <= 1.0).count();
    rounds.truncate(calm.max(KEPT));
    rounds.into_iter().map(|(_, value)| value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(cpu_micros: f64, delay: f64) -> Round {
        Round { cpu_micros, delay, disturbance: delay / DELAY, ..Round::default() }
    }

    #[test]
    fn leaves_disturbed_rounds_out() {
        let theirs = [round(10.0, 0.0); 7];
        let mut ours = [round(5.0, 0.01); 7];
        ours[6] = round(90.0, 0.05);
        let found = ratio(&ours, &theirs, |round| round.cpu_micros).unwrap();
        assert_eq!(found, Ratio { median: 0.5, least: 0.5, most: 0.5, rounds: 6 });
        assert!((middle(&ours, |round| round.cpu_micros) - 5.0).abs() < 1e-9);
        assert_eq!(together(&ours), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn keeps_the_five_least_disturbed_rounds_of_a_bad_run() {
        let theirs = [round(10.0, 0.0); 7];
        let ours =
            [0.09, 0.08, 0.07, 0.06, 0.05, 0.2, 0.3].map(|delay| round(delay * 100.0, delay));
        let found = ratio(&ours, &theirs, |round| round.cpu_micros).unwrap();
        assert_eq!((found.rounds, together(&ours).len()), (5, 5));
        assert_eq!(together(&[ours[0], theirs[0]]), [1]);
        assert!((found.most - 0.9).abs() < 1e-9 && (found.median - 0.7).abs() < 1e-9);
    }

    #[test]
    fn nothing_has_no_ratio() {
        assert_eq!(ratio::<Round>(&[], &[], |round| round.p99), None);
        assert_eq!(ratio(&[round(1.0, 0.0)], &[round(0.0, 0.0)], |round| round.cpu_micros), None);
    }
}
