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
        Duration::from_micros(self.micros_since(earlier))
    }

    /// Likewise, in microseconds.
    #[inline]
    pub fn micros_since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
