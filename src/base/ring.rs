//! What was written last, in slots of a fixed size: one thread writes and goes on, others read copies.
//!
//! Each slot is a sequence lock of words, without `unsafe`. Invariants: the writer waits for nobody, and allocates when it
//! writes for the first time and never again; what is read is what was written, whole, or is left out.

use std::sync::OnceLock;

use super::sync::atomic::{AtomicU64, Ordering, fence};

/// How often a slot is read that is written meanwhile.
const TRIES: usize = if cfg!(loom) { 1 } else { 8 };

/// The records that were written last, each of so many words. Only its owner may write.
#[derive(Debug)]
pub struct Ring<const WORDS: usize> {
    /// A power of two.
    len: usize,
    /// Made when the first is written.
    slots: OnceLock<Box<[RingSlot<WORDS>]>>,
    /// How many were written.
    written: AtomicU64,
}

impl<const WORDS: usize> Ring<WORDS> {
    /// For as many records as the least power of two that is `len` or more.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let len = len.next_power_of_two();
        Ring { len, slots: OnceLock::new(), written: AtomicU64::new(0) }
    }

    /// Writes a record in the place of the oldest. The words that `fill` does not put down are what they were. Only the owner may
    /// call this.
    #[inline]
    pub fn write(&self, fill: impl FnOnce(&mut Words<'_>)) {
        let slots = self.slots.get_or_init(|| (0..self.len).map(|_| RingSlot::new()).collect());
        let written = self.written.load(Ordering::Relaxed);
        if let Some(slot) = slots.get(self.place(written)) {
            slot.write(fill);
        }
        self.written.store(written.wrapping_add(1), Ordering::Release);
    }

    /// The `most` last records, in the order in which they were written, but for those that are written meanwhile.
    pub fn read(&self, most: usize) -> Vec<[u64; WORDS]> {
        let Some(slots) = self.slots.get() else { return Vec::new() };
        // What is written while this reads comes in the place of the oldest, which is read first, if at all.
        let (written, len) = (self.written.load(Ordering::Acquire), self.len.min(most));
        let from = written.wrapping_sub(len as u64);
        let last = (0..len as u64).map(|nth| from.wrapping_add(nth));
        let slots = last.filter_map(|nth| slots.get(self.place(nth)));
        slots.filter_map(RingSlot::read).collect()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what counts")]
    fn place(&self, nth: u64) -> usize {
        nth as usize & (self.len - 1)
    }
}

/// Where a record is put down, from its first word on.
#[derive(Debug)]
pub struct Words<'s> {
    rest: &'s [AtomicU64],
}

impl Words<'_> {
    /// Puts these down, if all of them find room.
    #[inline]
    pub fn put<const COUNT: usize>(&mut self, words: [u64; COUNT]) {
        if let Some((place, rest)) = self.rest.split_first_chunk::<COUNT>() {
            place.iter().zip(words).for_each(|(place, word)| place.store(word, Ordering::Relaxed));
            self.rest = rest;
        }
    }

    /// Bytes that find room.
    pub fn room(&self) -> usize {
        self.rest.len() * 8
    }

    /// Puts the bytes that find room down, from a word on that nothing else has part of.
    #[inline]
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        let (eights, last) = bytes.as_chunks::<8>();
        let len = eights.len().min(self.rest.len());
        let (places, rest) = self.rest.split_at(len);
        for (place, eight) in places.iter().zip(eights) {
            place.store(u64::from_le_bytes(*eight), Ordering::Relaxed);
        }
        self.rest = rest;
        if !last.is_empty() {
            self.put([last.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))]);
        }
    }
}

#[derive(Debug)]
#[repr(align(64))]
struct RingSlot<const WORDS: usize> {
    /// Odd while it is written; 0 if it never was.
    version: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> RingSlot<WORDS> {
    fn new() -> Self {
        RingSlot { version: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    #[inline]
    fn write(&self, fill: impl FnOnce(&mut Words<'_>)) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        // Whoever has seen one of the words sees, behind its own fence, that the version is another.
        fence(Ordering::Release);
        fill(&mut Words { rest: &self.words });
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// `None` if nothing is there, or it is written again and again.
    fn read(&self) -> Option<[u64; WORDS]> {
        for _ in 0..TRIES {
            let version = self.version.load(Ordering::Acquire);
            let words = self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version {
                return (version > 0).then_some(words);
            }
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_records_are_read_in_the_order_in_which_they_were_written() {
        let ring = Ring::<2>::new(8);
        assert!(ring.read(100).is_empty());
        for nth in 0..5 {
            ring.write(|words| words.put([nth, nth]));
        }
        assert_eq!(ring.read(100), [0, 1, 2, 3, 4].map(|nth| [nth, nth]));
        for nth in 5..100 {
            ring.write(|words| words.put([nth]));
        }
        let first: Vec<u64> = ring.read(100).iter().map(|record| record[0]).collect();
        assert_eq!(first, (92..100).collect::<Vec<_>>());
        assert_eq!(ring.read(2).iter().map(|record| record[0]).collect::<Vec<_>>(), [98, 99]);
    }

    #[test]
    fn bytes_are_put_down_from_words_of_their_own_on_as_far_as_they_find_room() {
        let ring = Ring::<3>::new(1);
        for (bytes, wanted) in [
            (&b""[..], [7, 7, 9]),
            (b"\x01\x02", [0x0201, 7, 9]),
            (&[1; 8], [0x0101_0101_0101_0101, 7, 9]),
            (&[1; 9], [0x0101_0101_0101_0101, 1, 7]),
            (&[1; 25], [0x0101_0101_0101_0101; 3]),
        ] {
            ring.write(|words| words.put([7, 7, 9]));
            ring.write(|words| {
                assert_eq!(words.room(), 24);
                words.put_bytes(bytes);
                words.put([7]);
            });
            assert_eq!(ring.read(100), [wanted], "{bytes:?}");
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::sync::Arc;

    use super::*;

    #[test]
    fn a_record_that_is_read_while_it_is_written_is_whole_or_left_out() {
        loom::model(|| {
            let slot = Arc::new(RingSlot::<2>::new());
            slot.write(|words| words.put([1, 1]));
            let writer = {
                let slot = Arc::clone(&slot);
                loom::thread::spawn(move || slot.write(|words| words.put([2, 2])))
            };
            let read = slot.read();
            assert!(matches!(read, None | Some([1, 1] | [2, 2])), "{read:?}");
            writer.join().unwrap();
            assert_eq!(slot.read(), Some([2, 2]));
        });
    }
}
