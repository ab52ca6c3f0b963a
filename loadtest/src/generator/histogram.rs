//! Latencies and their percentiles within 0.8 %, in 37 KiB: an HDR histogram of nanoseconds.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram as Hdr;

/// Decimal digits of a value that are kept, at least: 128 buckets for each power of two.
const DIGITS: u8 = 2;
/// The longest latency that has a bucket, in nanoseconds; longer ones count as this one. An hour: no request waits so long.
const LONGEST: u64 = 3_600_000_000_000;

/// How often each latency was seen.
#[derive(Clone)]
pub(crate) struct Histogram {
    seen: Hdr<u64>,
    /// The longest one, which the buckets have within 0.8 % only.
    most: u64,
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} latencies, {} us at most", self.seen(), self.most())
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        let seen =
            Hdr::new_with_bounds(1, LONGEST, DIGITS).expect("bounds that are far enough apart");
        Histogram { seen, most: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.seen.saturating_record(nanos);
        self.most = self.most.max(nanos);
    }

    /// Adds what another has seen.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        self.seen.add(&other.seen).expect("both have the same bounds");
        self.most = self.most.max(other.most);
    }

    /// The latency in microseconds that `percent` of all did not exceed, the middle of its bucket; 0 when none was seen.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let bucket = self.seen.value_at_quantile(percent / 100.0);
        crate::report::count(self.seen.median_equivalent(bucket).min(self.most)) / 1000.0
    }

    /// The longest latency, in microseconds.
    pub(crate) fn most(&self) -> f64 {
        crate::report::count(self.most) / 1000.0
    }

    /// How many were counted.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spread over eight powers of ten, always the same ones.
    fn latencies() -> impl Iterator<Item = u64> {
        let next = |last: &u64| Some(last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        std::iter::successors(Some(1), next)
            .map(|random| (random >> 33) >> (random % 27))
            .take(20_000)
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_latencies_within_a_hundredth() {
        let (mut whole, mut half) = (Histogram::default(), Histogram::default());
        let mut sorted: Vec<u64> = latencies().collect();
        for (at, nanos) in sorted.iter().enumerate() {
            let one = if at % 2 == 0 { &mut whole } else { &mut half };
            one.record(Duration::from_nanos(*nanos));
        }
        whole.merge(&half);
        sorted.sort_unstable();
        assert_eq!(whole.seen(), 20_000);
        for (percent, rank) in
            [(0.0, 1), (1.0, 200), (50.0, 10_000), (99.0, 19_800), (99.9, 19_980), (100.0, 20_000)]
        {
            let wanted = crate::report::count(sorted[rank - 1]) / 1000.0;
            let found = whole.percentile(percent);
            assert!((found - wanted).abs() <= wanted / 100.0, "{percent}: {found}, not {wanted}");
        }
        assert!((whole.most() - crate::report::count(sorted[19_999]) / 1000.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_seen_is_zero_and_what_lasts_for_hours_is_still_the_longest() {
        let mut histogram = Histogram::default();
        assert!(histogram.percentile(99.0).abs() < 1e-9 && histogram.most().abs() < 1e-9);
        histogram.record(Duration::from_secs(7_200));
        assert!((histogram.most() - 7.2e9).abs() < 1e-9);
        assert!((histogram.percentile(50.0) - 3.6e9).abs() < 3.6e7);
    }
}
