//! Places of one size in pages that are mapped and unmapped directly: an allocator would keep the pages of a burst because
//! something small lies behind them.
//!
//! Invariant: a place is lent to one at a time; a span of which none is lent may be dropped, and its pages with it.

use memmap2::MmapMut;

const NONE: u32 = u32::MAX;

/// A run of pages, cut into places.
#[derive(Debug)]
pub(super) struct Span {
    memory: Memory,
    size: usize,
    most: usize,
    /// Those that were lent before. The others have not been touched, so that the kernel has not given their pages yet.
    places: Vec<SpanPlace>,
    /// The free one that came back last.
    free: u32,
    lent: usize,
}

#[derive(Debug)]
enum Memory {
    Pages(MmapMut),
    /// The kernel has no room for one more mapping.
    Heap(Vec<u8>),
}

/// What a place holds: `len` bytes, after `taken` that were consumed. For a free one `taken` is the next free one.
#[derive(Debug, Clone, Copy)]
struct SpanPlace {
    taken: u32,
    len: u32,
}

fn zeroed(len: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).ok()?;
    bytes.resize(len, 0);
    Some(bytes)
}

#[cfg(test)]
thread_local! {
    /// How many spans there may still be on this thread.
    pub(super) static SPANS_LEFT: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
}

#[cfg(test)]
fn refuses_memory() -> bool {
    let left = SPANS_LEFT.get();
    SPANS_LEFT.set(left.saturating_sub(1));
    left == 0
}

#[cfg(not(test))]
fn refuses_memory() -> bool {
    false
}

impl Span {
    /// `most` places of `size` bytes each, together less than 4 GiB. `None` if this process may have no more memory.
    pub(super) fn new(size: usize, most: usize) -> Option<Span> {
        if refuses_memory() {
            return None;
        }
        let mut places = Vec::new();
        places.try_reserve_exact(most).ok()?;
        let memory = match MmapMut::map_anon(size * most) {
            Ok(pages) => Memory::Pages(pages),
            Err(_) => Memory::Heap(zeroed(size * most)?),
        };
        Some(Span { memory, size, most, places, free: NONE, lent: 0 })
    }

    /// How many places are free.
    pub(super) fn room(&self) -> usize {
        self.most - self.lent
    }

    /// Bytes of a place.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.size * self.most
    }

    /// How many are lent.
    pub(super) fn lent(&self) -> usize {
        self.lent
    }

    pub(super) fn is_full(&self) -> bool {
        self.lent == self.most
    }

    /// Whether no place is lent.
    pub(super) fn is_idle(&self) -> bool {
        self.lent == 0
    }

    fn memory(&self) -> &[u8] {
        match &self.memory {
            Memory::Pages(pages) => pages,
            Memory::Heap(bytes) => bytes,
        }
    }

    /// Lends a place with `pieces` in it, one behind the other. There must be one that is free, and they must fit.
    #[inline]
    pub(super) fn lend(&mut self, pieces: &[&[u8]]) -> u32 {
        let at = match self.places.get(self.free as usize) {
            Some(place) => std::mem::replace(&mut self.free, place.taken),
            None => {
                self.places.push(SpanPlace { taken: 0, len: 0 });
                u32::try_from(self.places.len() - 1).unwrap_or(NONE)
            }
        };
        self.lent += 1;
        let start = at as usize * self.size;
        let memory: &mut [u8] = match &mut self.memory {
            Memory::Pages(pages) => pages,
            Memory::Heap(bytes) => bytes,
        };
        let mut room = &mut memory[start..start + self.size];
        // Most have one piece, and copying an empty one costs a call.
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            let (here, behind) = room.split_at_mut(piece.len());
            here.copy_from_slice(piece);
            room = behind;
        }
        let len = u32::try_from(self.size - room.len()).unwrap_or(0);
        self.places[at as usize] = SpanPlace { taken: 0, len };
        at
    }

    /// The bytes at a place that is lent.
    pub(super) fn get(&self, at: u32) -> &[u8] {
        let place = self.places[at as usize];
        let start = at as usize * self.size + place.taken as usize;
        &self.memory()[start..start + place.len as usize]
    }

    /// Takes `count` of them from the front. Whether none is left.
    pub(super) fn consume(&mut self, at: u32, count: usize) -> bool {
        let place = &mut self.places[at as usize];
        let left = (place.len as usize).checked_sub(count).and_then(|left| left.try_into().ok());
        let Some(left) = left else { panic!("consumed {count} of {} bytes", place.len) };
        place.taken += std::mem::replace(&mut place.len, left) - left;
        left == 0
    }

    /// Ends a loan.
    pub(super) fn take_back(&mut self, at: u32) {
        self.places[at as usize].taken = std::mem::replace(&mut self.free, at);
        self.lent -= 1;
    }
}
