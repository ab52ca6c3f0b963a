//! A vector of slots whose keys carry a generation, so that a key to a value that is gone finds nothing,
//! even when its slot was given to another value since. One batch of events may hold such stale keys.

use std::marker::PhantomData;

/// Names one value of a [`Slab`] for as long as it lives there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Position in the slab; below 2^31.
    pub index: u32,
    /// Which of the values that had this position is meant.
    pub generation: u32,
}

/// The type of a slab's keys: one of its own for each table, so that they are not confused.
pub trait SlabKey: Copy {
    /// The name that is this key.
    fn of(key: Key) -> Self;
    /// The key that this is.
    fn key(self) -> Key;
}

impl SlabKey for Key {
    #[inline]
    fn of(key: Key) -> Key {
        key
    }

    #[inline]
    fn key(self) -> Key {
        self
    }
}

struct SlabSlot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values by generation-checked key. Insertion, removal and look-up take constant time.
pub struct Slab<T, K = Key> {
    slots: Vec<SlabSlot<T>>,
    free: Vec<u32>,
    keys: PhantomData<fn(K) -> K>,
}

impl<T, K> Default for Slab<T, K> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free: Vec::new(), keys: PhantomData }
    }
}

impl<T, K: SlabKey> Slab<T, K> {
    /// Reserves capacity for `count` values. Reserved capacity is untouched memory: the kernel gives a page when it is first
    /// written, and a table of more than 128 KiB that grows within its capacity leaves no hole in the heap.
    pub fn with_room(count: usize) -> Self {
        let mut slots = Vec::new();
        // Without the memory for that it grows as it is needed.
        let _ = slots.try_reserve_exact(count);
        Slab { slots, ..Slab::default() }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many positions there are, free ones included: a bound for [`Slab::key_at`].
    pub fn positions(&self) -> usize {
        self.slots.len()
    }

    /// The key that the next insertion will return.
    ///
    /// # Panics
    /// With 2^31 values, far above any descriptor limit.
    pub fn next_key(&self) -> K {
        K::of(match self.free.last() {
            Some(&index) => Key { index, generation: self.slots[index as usize].generation },
            None => {
                let index = u32::try_from(self.slots.len()).expect("fewer than 2^31 connections");
                assert!(index < 1 << 31, "fewer than 2^31 connections");
                Key { index, generation: 0 }
            }
        })
    }

    /// Whether there is memory for one more value, now and when it is removed. Insertion itself aborts without.
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        let removed = self.slots.len() + 1 - self.free.len();
        !self.free.is_empty()
            || self.slots.try_reserve(1).is_ok() && self.free.try_reserve(removed).is_ok()
    }

    /// Stores `value` and names it.
    pub fn insert(&mut self, value: T) -> K {
        let key = self.next_key();
        match self.free.pop() {
            Some(index) => self.slots[index as usize].value = Some(value),
            None => self.slots.push(SlabSlot { generation: 0, value: Some(value) }),
        }
        key
    }

    /// The value named `key`, if it is still there.
    #[inline]
    pub fn get(&self, key: K) -> Option<&T> {
        let key = key.key();
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    /// The value named `key`, if it is still there, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        let key = key.key();
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    /// Takes the value named `key` out.
    pub fn remove(&mut self, key: K) -> Option<T> {
        let key = key.key();
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    /// The key of the value at a position, if there is one.
    pub fn key_at(&self, position: usize) -> Option<K> {
        let slot = self.slots.get(position)?;
        let index = u32::try_from(position).ok()?;
        slot.value.as_ref().map(|_| K::of(Key { index, generation: slot.generation }))
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> + '_ {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }

    /// The keys of all values.
    pub fn keys(&self) -> impl Iterator<Item = K> + '_ {
        (0..self.slots.len()).filter_map(|at| self.key_at(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_to_a_value_that_is_gone_finds_nothing() {
        let mut slab: Slab<&str> = Slab::default();
        let old = slab.insert("old");
        assert_eq!(slab.remove(old), Some("old"));
        let new = slab.insert("new");
        assert_eq!(new.index, old.index);
        assert_eq!((slab.get(old), slab.get(new)), (None, Some(&"new")));
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn the_next_key_is_the_one_that_insertion_returns() {
        let mut slab: Slab<()> = Slab::default();
        for _ in 0..3 {
            let foretold = slab.next_key();
            assert_eq!(slab.insert(()), foretold);
        }
        let second = slab.key_at(1).unwrap();
        slab.remove(second);
        let foretold = slab.next_key();
        assert_eq!(slab.insert(()), foretold);
        assert_eq!(slab.keys().count(), 3);
    }
}
