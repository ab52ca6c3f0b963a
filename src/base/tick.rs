//! Time as the pure rooms see it: a number handed in, never a clock that is read.

use std::time::Duration;

/// Microseconds since the worker started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Later than every deadline: "no deadline".
    pub const NEVER: Tick = Tick(u64::MAX);

    /// The tick `wait` after this one; saturates at [`Tick::NEVER`].
    #[must_use]
    pub fn after(self, wait: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `earlier` to this tick; zero if `earlier` is later.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A tick in half the room, for what is kept of every connection: counted in 64 µs, so that it tells times of up to 76 hours apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoarseTick(u32);

impl CoarseTick {
    /// None.
    pub const NEVER: CoarseTick = CoarseTick(u32::MAX);

    /// A tick, rounded down.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "it is to wrap around")]
    pub fn at(at: Tick) -> CoarseTick {
        CoarseTick(((at.0 >> 6) as u32).min(u32::MAX - 1))
    }

    /// Microseconds from then to `now`, in steps of 64.
    #[inline]
    pub fn micros_until(self, now: Tick) -> u64 {
        u64::from(CoarseTick::at(now).0.wrapping_sub(self.0)) << 6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_tick_tells_how_long_it_was_until_another_also_where_it_wraps() {
        for begin in [0, 64, 1 << 20, (u64::from(u32::MAX) << 6) + (5 << 6), 1 << 45] {
            for micros in [0, 128, 640, 1 << 30] {
                let begun = CoarseTick::at(Tick(begin));
                assert_eq!(begun.micros_until(Tick(begin + micros)), micros, "{begin}");
                assert_ne!(begun, CoarseTick::NEVER);
            }
        }
        assert_ne!(CoarseTick::at(Tick(u64::from(u32::MAX) << 6)), CoarseTick::NEVER);
    }
}
