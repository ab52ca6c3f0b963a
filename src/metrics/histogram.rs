//! Times by how long they were, in the buckets that OpenTelemetry has for `http.server.request.duration`.

use super::Counter;

/// The longest time of each bucket but the last, which has none, in microseconds.
const BOUNDS: [u32; BUCKETS - 1] = [
    5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000,
    2_500_000, 5_000_000, 7_500_000, 10_000_000,
];

/// How many buckets there are.
pub const BUCKETS: usize = 15;

/// The longest time of each bucket in seconds, as it is written: the same in both formats, so that a change of the format begins no
/// new series.
pub const LIMITS: [&str; BUCKETS] = [
    "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0",
    "7.5", "10.0", "+Inf",
];

/// Times that only their owner counts and anybody may read: how many fell into each bucket, and their sum.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    /// In microseconds.
    sum: Counter,
}

/// What a [`Histogram`] said at one moment, or several of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// How many fell into each bucket, not into those before it.
    pub buckets: [u64; BUCKETS],
    /// Their sum, in microseconds.
    pub sum: u64,
}

impl Histogram {
    /// One more, of so many microseconds. Only the owner may call this.
    #[inline]
    pub fn observe(&self, micros: u64) {
        self.buckets[bucket(micros)].bump();
        self.sum.add(micros);
    }

    /// What it says now. The parts may be a moment apart.
    pub fn read(&self) -> Times {
        Times { buckets: self.buckets.each_ref().map(Counter::get), sum: self.sum.get() }
    }

    /// At least `times` from now on. Only the owner may call this.
    pub fn raise(&self, times: &Times) {
        self.buckets.iter().zip(times.buckets).for_each(|(bucket, count)| bucket.raise(count));
        self.sum.raise(times.sum);
    }
}

/// Which bucket a time falls into. Nearly all are in the first.
#[inline]
fn bucket(micros: u64) -> usize {
    if micros <= u64::from(BOUNDS[0]) {
        return 0;
    }
    let micros = u32::try_from(micros).unwrap_or(u32::MAX);
    BOUNDS.partition_point(|&bound| bound < micros)
}

impl Times {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// With these as well.
    #[must_use]
    pub fn with(mut self, other: &Times) -> Times {
        for (bucket, count) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket = bucket.wrapping_add(count);
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_that_ends_with_it_or_after_it() {
        let histogram = Histogram::default();
        let times =
            [0, 5_000, 5_001, 10_000, 1_000_000, 1_000_001, 10_000_000, 10_000_001, 1 << 40];
        times.iter().for_each(|&micros| histogram.observe(micros));
        let read = histogram.read();
        assert_eq!(read.buckets, [2, 2, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 2]);
        assert_eq!((read.count(), read.sum), (9, times.iter().sum()));
    }

    #[test]
    fn the_limits_are_written_as_the_bounds_are() {
        for (limit, bound) in LIMITS.iter().zip(BOUNDS) {
            let seconds: f64 = limit.parse().unwrap();
            assert!((seconds * 1e6 - f64::from(bound)).abs() < 1e-6, "{limit}");
        }
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn times_of_several_are_added_and_never_go_back() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.observe(7);
        other.observe(6_000);
        let both = one.read().with(&other.read());
        assert_eq!((both.count(), both.sum), (2, 6_007));
        one.raise(&both);
        one.raise(&Times::default());
        assert_eq!(one.read(), both);
    }
}
