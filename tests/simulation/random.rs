//! Chance that repeats itself: splitmix64, and the trace by which two runs are compared.

use std::ops::RangeInclusive;

/// Spreads one number over all 64 bits.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(mix(seed.wrapping_add(0x9E37_79B9_7F4A_7C15)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A stream of chance of its own, so that one part of the world does not disturb another.
    pub(crate) fn fork(&mut self) -> Rng {
        Rng::new(self.next())
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let span = range.end() - range.start() + 1;
        range.start() + self.next() % span
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).unwrap()
    }

    /// Happens in `percent` of all cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// One of the choices, each as often as its weight says.
    pub(crate) fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let total: u64 = choices.iter().map(|(weight, _)| weight).sum();
        let mut at = self.next() % total;
        for &(weight, choice) in choices {
            if at < weight {
                return choice;
            }
            at -= weight;
        }
        unreachable!("the weights add up")
    }
}

/// A hash of all that happened, and its lines on standard error if `TRACE` is set.
pub(crate) struct Trace {
    hash: u64,
    loud: bool,
}

impl Trace {
    pub(crate) fn new() -> Trace {
        Trace { hash: 0xCBF2_9CE4_8422_2325, loud: std::env::var_os("TRACE").is_some() }
    }

    pub(crate) fn note(&mut self, now: u64, what: &'static str, wire: usize, count: usize) {
        for word in
            [now, what.len() as u64, u64::from(what.as_bytes()[0]), wire as u64, count as u64]
        {
            self.hash = mix(self.hash ^ word).wrapping_add(word);
        }
        if self.loud {
            eprintln!("{now:>10} {what:<14} wire {wire:>3} {count}");
        }
    }

    /// What a person reading the trace wants to know; no part of the hash.
    pub(crate) fn tell(&self, now: u64, text: impl FnOnce() -> String) {
        if self.loud {
            eprintln!("{now:>10} {}", text());
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}
