//! Bytes that must wait: an unfinished head, a request that may have to be sent again, what a slow
//! reader has not taken. They lie in [`Chunk`]s lent by a worker's [`Pool`]; a connection with nothing waiting
//! holds none.
//!
//! Invariants: a chunk goes back to the pool it came from or is dropped with its connection through
//! [`Pool::take_back`]; free chunks of a class never hold more than half a mebibyte, and those that a burst left
//! behind are freed by [`Pool::trim`].

/// Bytes that fit a chunk without a buffer of its own: a small GET, rewritten, does.
const SMALL: usize = 184;
/// Capacities of buffers that are kept for reuse. Anything larger goes back to the allocator.
const CLASSES: [usize; 7] = [256, 1024, 4096, 16 * 1024, 64 * 1024, 128 * 1024, 320 * 1024];
/// A worker that has lent more than this is short of memory: its slow readers wait with little.
const PLENTY: usize = 32 * 1024 * 1024;
/// What one reads at once then.
const LITTLE: usize = 16 * 1024;
/// Bytes of free chunks kept in each class.
const FREE_BYTES: usize = 512 * 1024;

/// Bytes that wait, taken from the front. One pointer wide, because every connection has room for several.
#[derive(Debug)]
pub struct Chunk(Box<Waiting>);

#[derive(Debug)]
struct Waiting {
    taken: u32,
    /// Its capacity when it was lent.
    lent: u32,
    bytes: Bytes,
}

/// A few bytes lie where they are named: one allocation instead of two.
#[derive(Debug)]
enum Bytes {
    Few([u8; SMALL], u8),
    Many(Vec<u8>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Few(bytes, len) => &bytes[..usize::from(*len)],
            Bytes::Many(bytes) => bytes,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        match self {
            Bytes::Few(bytes, len) => &mut bytes[..usize::from(*len)],
            Bytes::Many(bytes) => bytes,
        }
    }

    fn extend(&mut self, more: &[u8]) {
        match self {
            Bytes::Few(bytes, len) => {
                let from = usize::from(*len);
                if let Some(room) = bytes.get_mut(from..from + more.len()) {
                    room.copy_from_slice(more);
                    *len = u8::try_from(from + more.len()).unwrap_or(0);
                } else {
                    *self = Bytes::Many([&bytes[..from], more].concat());
                }
            }
            Bytes::Many(bytes) => bytes.extend_from_slice(more),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Bytes::Few(..) => SMALL,
            Bytes::Many(bytes) => bytes.capacity(),
        }
    }

    fn has_room(&self, count: usize) -> bool {
        self.capacity() - self.as_slice().len() >= count
    }

    /// Drops the first `count` bytes.
    fn drop_front(&mut self, count: usize) {
        match self {
            Bytes::Few(bytes, len) => {
                bytes.copy_within(count..usize::from(*len), 0);
                *len = u8::try_from(usize::from(*len) - count).unwrap_or(0);
            }
            Bytes::Many(bytes) => drop(bytes.drain(..count)),
        }
    }

    fn clear(&mut self) {
        match self {
            Bytes::Few(_, len) => *len = 0,
            Bytes::Many(bytes) => bytes.clear(),
        }
    }

    /// Which list of free chunks it belongs to; `None` for odd sizes.
    fn class(&self) -> Option<usize> {
        match self {
            Bytes::Few(..) => Some(0),
            Bytes::Many(bytes) => {
                CLASSES.iter().position(|&size| size == bytes.capacity()).map(|class| class + 1)
            }
        }
    }
}

/// What a class of free chunks holds.
fn capacity(class: usize) -> usize {
    class.checked_sub(1).map_or(SMALL, |class| CLASSES[class])
}

impl Chunk {
    /// What still waits.
    pub fn as_slice(&self) -> &[u8] {
        &self.0.bytes.as_slice()[self.0.taken as usize..]
    }

    /// What still waits, to be decoded in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let Waiting { taken, bytes, .. } = &mut *self.0;
        &mut bytes.as_mut_slice()[*taken as usize..]
    }

    /// How many bytes still wait.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether nothing waits any more.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes `count` bytes from the front.
    ///
    /// # Panics
    /// If fewer wait.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed {count} of {} bytes", self.len());
        self.0.taken += u32::try_from(count).expect("a chunk is shorter than 4 GiB");
    }

    /// Puts `bytes` behind what waits, first moving that to the front if room is short.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.0.taken > 0 && !self.0.bytes.has_room(bytes.len()) {
            self.0.bytes.drop_front(self.0.taken as usize);
            self.0.taken = 0;
        }
        self.0.bytes.extend(bytes);
    }
}

/// One worker's free chunks.
#[derive(Debug, Default)]
pub struct Pool {
    #[expect(clippy::vec_box, reason = "the boxes are what is reused")]
    free: [Vec<Box<Waiting>>; CLASSES.len() + 1],
    /// The fewest that were free of each class since the last [`Pool::trim`]: nobody needed them.
    unneeded: [usize; CLASSES.len() + 1],
    lent: usize,
    /// Capacities of the chunks that are lent, as they were then.
    lent_bytes: usize,
}

impl Pool {
    /// A chunk that holds `pieces` one behind the other.
    pub fn lend(&mut self, pieces: &[&[u8]]) -> Chunk {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        let mut waiting = self.empty(len);
        for piece in pieces {
            waiting.bytes.extend(piece);
        }
        self.lent += 1;
        waiting.lent = u32::try_from(waiting.bytes.capacity()).unwrap_or(u32::MAX);
        self.lent_bytes += waiting.lent as usize;
        Chunk(waiting)
    }

    fn empty(&mut self, len: usize) -> Box<Waiting> {
        let class = (0..self.free.len()).find(|&class| len <= capacity(class));
        let kept = class.and_then(|class| {
            let kept = self.free[class].pop();
            self.unneeded[class] = self.unneeded[class].min(self.free[class].len());
            kept
        });
        kept.unwrap_or_else(|| {
            let bytes = match class {
                Some(0) => Bytes::Few([0; SMALL], 0),
                _ => Bytes::Many(Vec::with_capacity(class.map_or(len, capacity))),
            };
            Box::new(Waiting { taken: 0, lent: 0, bytes })
        })
    }

    /// Ends the loan of `chunk`.
    pub fn take_back(&mut self, chunk: Chunk) {
        self.lent -= 1;
        self.lent_bytes -= chunk.0.lent as usize;
        let mut waiting = chunk.0;
        if let Some(class) = waiting.bytes.class()
            && self.free[class].len() < FREE_BYTES / capacity(class)
        {
            waiting.bytes.clear();
            waiting.taken = 0;
            self.free[class].push(waiting);
        }
    }

    /// Frees the chunks that were not needed since the last call.
    pub fn trim(&mut self) {
        for (free, unneeded) in self.free.iter_mut().zip(&mut self.unneeded) {
            if *unneeded > 0 {
                free.truncate(free.len() - *unneeded);
                free.shrink_to(2 * free.len());
            }
            *unneeded = free.len();
        }
    }

    /// Whether there are free chunks: [`Pool::trim`] may find some unneeded.
    pub fn has_free(&self) -> bool {
        self.free.iter().any(|free| !free.is_empty())
    }

    /// How much of `wanted` bytes may be read for somebody who may not take them: all, or little when much is lent.
    pub fn allow(&self, wanted: usize) -> usize {
        if self.lent_bytes < PLENTY { wanted } else { wanted.min(LITTLE) }
    }

    /// How many chunks are lent.
    pub fn lent(&self) -> usize {
        self.lent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut pool = Pool::default();
        let mut chunk = pool.lend(&[b"ab", b"cd"]);
        chunk.consume(3);
        chunk.extend(&[b'x'; 300]);
        assert_eq!(&chunk.as_slice()[..3], b"dxx");
        assert_eq!(chunk.len(), 301);
        pool.take_back(chunk);
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn a_chunk_that_came_back_is_lent_again() {
        let mut pool = Pool::default();
        let chunk = pool.lend(&[b"hello"]);
        let place = chunk.as_slice().as_ptr();
        pool.take_back(chunk);
        let again = pool.lend(&[&[1; 150]]);
        assert_eq!(again.as_slice().as_ptr(), place);
        assert_eq!(again.as_slice(), [1; 150]);
    }

    #[test]
    fn chunks_that_nobody_needed_between_two_trims_are_freed() {
        let mut pool = Pool::default();
        let burst: Vec<Chunk> = (0..100).map(|_| pool.lend(&[b"hello"])).collect();
        burst.into_iter().for_each(|chunk| pool.take_back(chunk));
        pool.trim();
        assert_eq!(pool.free[0].len(), 100, "they were all needed until now");
        let (one, two) = (pool.lend(&[b"1"]), pool.lend(&[b"2"]));
        pool.take_back(one);
        pool.take_back(two);
        pool.trim();
        assert_eq!(pool.free[0].len(), 2);
        pool.trim();
        assert!(!pool.has_free());
    }

    #[test]
    fn free_chunks_are_bounded_and_odd_sizes_are_not_kept() {
        let mut pool = Pool::default();
        let chunks: Vec<Chunk> = (0..20).map(|_| pool.lend(&[&[0; 60_000]])).collect();
        let huge = pool.lend(&[&[0; 400_000]]);
        for chunk in chunks.into_iter().chain([huge]) {
            pool.take_back(chunk);
        }
        let kept: usize =
            pool.free.iter().flatten().filter_map(|kept| kept.bytes.class()).map(capacity).sum();
        assert_eq!(kept, FREE_BYTES);
        assert!(size_of::<Waiting>() <= 200, "what malloc gives for 208 bytes");
    }

    #[test]
    fn those_who_wait_have_little_when_much_is_lent_and_again_more_when_it_is_back() {
        let mut pool = Pool::default();
        let big = [0; 200_000];
        let mut lent = Vec::new();
        while pool.allow(256 * 1024) > LITTLE {
            lent.push(pool.lend(&[&big]));
        }
        assert_eq!(lent.len(), PLENTY.div_ceil(320 * 1024));
        assert_eq!(pool.allow(100), 100);
        lent.into_iter().for_each(|chunk| pool.take_back(chunk));
        assert_eq!((pool.allow(256 * 1024), pool.lent_bytes), (256 * 1024, 0));
    }
}
