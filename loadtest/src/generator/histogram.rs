//! Latencies in buckets whose width grows with the value: any percentile within 0.8 %, in 64 KiB.

use std::fmt;
use std::time::Duration;

/// Bits of a value that are kept: 128 buckets for each power of two.
const BITS: u32 = 7;
const PER_OCTAVE: usize = 1 << BITS;
/// Buckets for every value below 2^64 nanoseconds.
const BUCKETS: usize = (64 - BITS as usize + 1) * PER_OCTAVE;

/// How often each latency was seen.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    seen: u64,
    most: u64,
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} latencies, {} us at most", self.seen, self.most())
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: vec![0; BUCKETS], seen: 0, most: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)] += 1;
        self.seen += 1;
        self.most = self.most.max(nanos);
    }

    /// Adds what another has seen.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.seen += other.seen;
        self.most = self.most.max(other.most);
    }

    /// The latency in microseconds that `percent` of all did not exceed; 0 when none was seen.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let wanted = crate::report::count(self.seen) * percent / 100.0;
        let mut below = 0;
        for (at, seen) in self.buckets.iter().enumerate() {
            below += seen;
            if *seen > 0 && crate::report::count(below) >= wanted {
                return crate::report::count(middle(at).min(self.most)) / 1000.0;
            }
        }
        self.most()
    }

    /// The longest latency, in microseconds.
    pub(crate) fn most(&self) -> f64 {
        crate::report::count(self.most) / 1000.0
    }

    /// How many were counted.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }
}

fn bucket(nanos: u64) -> usize {
    let octave = (63 - (nanos | 1).leading_zeros()).saturating_sub(BITS);
    let within = usize::try_from(nanos >> octave).unwrap_or(0);
    octave as usize * PER_OCTAVE + within
}

/// The middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> u64 {
    if bucket < 2 * PER_OCTAVE {
        return bucket as u64;
    }
    let octave = bucket / PER_OCTAVE - 1;
    let within = (bucket - octave * PER_OCTAVE) as u64;
    (within << octave) + (1 << octave) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_within_a_hundredth_of_its_buckets_middle() {
        let mut value = 1_u64;
        while value < 1 << 62 {
            let found = middle(bucket(value));
            assert!(found.abs_diff(value) <= value / 100, "{value} became {found}");
            value += value / 7 + 1;
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn finds_percentiles_of_a_known_distribution() {
        let mut all = Histogram::default();
        let mut half = Histogram::default();
        for micros in 1..=1000 {
            let one = if micros % 2 == 0 { &mut all } else { &mut half };
            one.record(Duration::from_micros(micros));
        }
        all.merge(&half);
        assert_eq!(all.seen(), 1000);
        for (percent, wanted) in [(50.0, 500.0), (99.0, 990.0), (99.9, 999.0)] {
            let found = all.percentile(percent);
            assert!((found - wanted).abs() / wanted < 0.01, "{percent}: {found}");
        }
        assert!((all.most() - 1000.0).abs() < 1e-9);
        assert!(Histogram::default().percentile(99.0).abs() < 1e-9);
    }
}
