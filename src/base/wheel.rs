//! A coarse, lazy timer wheel. It holds *when to look*, not what is due: whoever set a timer keeps the true
//! deadline, and an entry that fires early is simply set again. So a deadline that only ever moves
//! later, as nearly all do, costs one store and no work here.
//!
//! Invariants: every entry is in exactly one slot's list; entries fire at or after the slot they were put in, never
//! before; a wheel of stable size allocates nothing.

use std::time::Duration;

use super::tick::Tick;

/// Microseconds a slot spans: 2^15, about 33 ms. No timer is more exact than this.
const SLOT_SHIFT: u32 = 15;

/// A deadline rounded up to a slot of the wheel, in slots since tick 0. Half as wide as a [`Tick`], because every
/// connection keeps two; enough for four years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due(u32);

impl Due {
    /// Later than every timer: "not at all".
    pub const NEVER: Due = Due(u32::MAX);

    /// The first slot that begins at or after `at`: no timer fires early.
    pub fn at(at: Tick) -> Due {
        Due(u32::try_from(at.0.div_ceil(1 << SLOT_SHIFT)).unwrap_or(u32::MAX))
    }

    /// So much later, at least; [`Due::NEVER`] stays as it is.
    #[must_use]
    pub fn later(self, by: Duration) -> Due {
        if self == Due::NEVER {
            return self;
        }
        let slots = u64::try_from(by.as_micros()).unwrap_or(u64::MAX).div_ceil(1 << SLOT_SHIFT);
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        Due(self.0.saturating_add(slots).min(Due::NEVER.0 - 1))
    }

    /// Whether it has come at `now`.
    pub fn has_come(self, now: Tick) -> bool {
        u64::from(self.0) <= now.0 >> SLOT_SHIFT
    }

    fn place(self) -> usize {
        self.0 as usize % SLOTS
    }
}

/// Slots of the wheel: about 8 s. Later deadlines wait in the last slot and are set again.
const SLOTS: usize = HORIZON as usize + 1;
/// From the first slot of the wheel to its last.
const HORIZON: u32 = 255;
const NONE: u32 = u32::MAX;

struct Node<K> {
    key: K,
    next: u32,
}

/// When to look at which key again.
pub struct Wheel<K> {
    nodes: Vec<Node<K>>,
    free: u32,
    heads: Box<[u32]>,
    occupied: [u64; SLOTS / 64],
    /// The first slot (counted from tick 0) that was not fired yet.
    current: u32,
    len: usize,
}

/// What [`Wheel::set`] was asked: look at `key` when `due`. Handed back when it fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fired<K> {
    /// What to look at.
    pub key: K,
    /// What [`Wheel::set`] returned.
    pub due: Due,
}

impl<K: Copy> Default for Wheel<K> {
    fn default() -> Self {
        Wheel {
            nodes: Vec::new(),
            free: NONE,
            heads: vec![NONE; SLOTS].into_boxed_slice(),
            occupied: [0; SLOTS / 64],
            current: 0,
            len: 0,
        }
    }
}

impl<K: Copy> Wheel<K> {
    /// With room for so many entries before it has to grow; as for a [`Slab`](super::slab::Slab), room costs nothing.
    pub fn with_room(count: usize) -> Self {
        let mut nodes = Vec::new();
        let _ = nodes.try_reserve_exact(count);
        Wheel { nodes, ..Wheel::default() }
    }

    /// Whether there is memory for one more entry. [`Wheel::set`] itself aborts without.
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        self.free != NONE || self.nodes.try_reserve(1).is_ok()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Asks to look at `key` when `due`. Returns when that will be: then, at the horizon if `due` lies beyond it, or
    /// in the next slot if `due` has passed.
    pub fn set(&mut self, key: K, due: Due) -> Due {
        let due = due.clamp(Due(self.current), Due(self.current + HORIZON));
        let slot = due.place();
        let next = self.heads[slot];
        self.heads[slot] = self.store(Node { key, next });
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
        due
    }

    fn store(&mut self, node: Node<K>) -> u32 {
        if self.free == NONE {
            self.nodes.push(node);
            return u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 timers");
        }
        let at = self.free;
        let place = &mut self.nodes[at as usize];
        self.free = place.next;
        *place = node;
        at
    }

    /// Moves every entry that is due at `now` into `fired`.
    pub fn advance(&mut self, now: Tick, fired: &mut Vec<Fired<K>>) {
        let target = u32::try_from(now.0 >> SLOT_SHIFT).unwrap_or(u32::MAX - HORIZON - 1);
        if self.len > 0 {
            let last = target.min(self.current + HORIZON);
            while self.current <= last {
                self.empty_slot(Due(self.current), fired);
                self.current += 1;
            }
        }
        self.current = self.current.max(target + 1);
    }

    fn empty_slot(&mut self, due: Due, fired: &mut Vec<Fired<K>>) {
        let slot = due.place();
        let mut at = std::mem::replace(&mut self.heads[slot], NONE);
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        while at != NONE {
            let node = &mut self.nodes[at as usize];
            fired.push(Fired { key: node.key, due });
            let next = std::mem::replace(&mut node.next, self.free);
            self.free = at;
            self.len -= 1;
            at = next;
        }
    }

    /// The tick at which [`Wheel::advance`] will next find something; `None` without entries.
    pub fn next(&self) -> Option<Tick> {
        if self.len == 0 {
            return None;
        }
        let start = Due(self.current).place();
        // The word of the current slot is looked at twice: first its upper bits, at the end its lower.
        let words = SLOTS / 64;
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some(Tick((u64::from(self.current) + ahead as u64) << SLOT_SHIFT));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fire(wheel: &mut Wheel<u32>, now: u64) -> Vec<u32> {
        let mut fired = Vec::new();
        wheel.advance(Tick(now), &mut fired);
        fired.iter().map(|f| f.key).collect()
    }

    #[test]
    fn fires_at_or_after_its_tick_and_within_a_slot() {
        for at in [1, 1 << SLOT_SHIFT, 1_000_000, 8_000_000] {
            let mut wheel = Wheel::default();
            wheel.set(7, Due::at(Tick(at)));
            assert_eq!(fire(&mut wheel, at - 1), [0u32; 0], "{at} early");
            let next = wheel.next().unwrap();
            assert!(next.0 >= at && next.0 - at < 1 << SLOT_SHIFT, "{at}: {next:?}");
            assert_eq!(fire(&mut wheel, next.0), [7], "{at}");
            assert_eq!(wheel.next(), None);
        }
    }

    #[test]
    fn a_tick_beyond_the_horizon_fires_at_the_horizon() {
        let mut wheel = Wheel::default();
        let due = wheel.set(1, Due::NEVER);
        let next = wheel.next().unwrap();
        assert!(next < Tick(10_000_000) && due.has_come(next));
        assert_eq!(fire(&mut wheel, next.0), [1]);
    }

    #[test]
    fn a_long_sleep_fires_all_that_was_due() {
        let mut wheel = Wheel::default();
        for key in 0..100 {
            wheel.set(key, Due::at(Tick(u64::from(key) * 300_000)));
        }
        assert_eq!(fire(&mut wheel, 500_000_000).len(), 100);
        wheel.set(5, Due::at(Tick(3)));
        let next = wheel.next().unwrap();
        assert_eq!(fire(&mut wheel, next.0), [5], "the past fires at the next chance");
    }

    #[test]
    fn a_wheel_of_stable_size_reuses_its_nodes() {
        let mut wheel = Wheel::default();
        for round in 0..1_000u64 {
            wheel.set(1, Due::at(Tick(round * 40_000 + 40_000)));
            fire(&mut wheel, (round + 2) * 40_000);
        }
        assert!(wheel.nodes.len() <= 3, "{} nodes", wheel.nodes.len());
    }

    proptest::proptest! {
        #[test]
        fn every_entry_fires_once_and_never_early(
            ticks in proptest::collection::vec(0u64..60_000_000, 1..60),
            step in 1u64..5_000_000,
        ) {
            let mut wheel = Wheel::default();
            for (key, &at) in (0u32..).zip(&ticks) {
                wheel.set(key, Due::at(Tick(at)));
            }
            let mut seen = vec![0; ticks.len()];
            let mut now = 0;
            while !wheel.is_empty() {
                let next = wheel.next().unwrap();
                now += step;
                let mut fired = Vec::new();
                wheel.advance(Tick(now), &mut fired);
                proptest::prop_assert_eq!(fired.is_empty(), next.0 > now);
                for entry in fired {
                    seen[entry.key as usize] += 1;
                    proptest::prop_assert!(entry.due.has_come(Tick(now)));
                }
            }
            proptest::prop_assert!(seen.iter().all(|&count| count == 1));
        }
    }
}
