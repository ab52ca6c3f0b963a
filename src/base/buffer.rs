//! Bytes that must wait: an unfinished head, a request that may have to be sent again, what a slow
//! reader has not taken. They lie in [`Chunk`]s lent by a worker's [`Pool`]; a connection with nothing waiting
//! holds none.
//!
//! Invariants: a chunk goes back to the pool it came from or is dropped with its connection through
//! [`Pool::take_back`]; free chunks of a class never hold more than half a mebibyte, and those that a burst left
//! behind are freed by [`Pool::trim`].

/// Capacities that are kept for reuse; a small GET, rewritten, fits the first. Anything larger goes back to the allocator.
const CLASSES: [usize; 6] = [192, 256, 1024, 4096, 16 * 1024, 64 * 1024];
/// Bytes of free chunks kept in each class.
const FREE_BYTES: usize = 512 * 1024;

/// Bytes that wait, taken from the front. One pointer wide, because every connection has room for several.
#[derive(Debug)]
pub struct Chunk(Box<Waiting>);

#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    taken: usize,
}

impl Chunk {
    /// What still waits.
    pub fn as_slice(&self) -> &[u8] {
        &self.0.bytes[self.0.taken..]
    }

    /// What still waits, to be decoded in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0.bytes[self.0.taken..]
    }

    /// How many bytes still wait.
    pub fn len(&self) -> usize {
        self.0.bytes.len() - self.0.taken
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
        self.0.taken += count;
    }

    /// Puts `bytes` behind what waits, first moving that to the front if room is short.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.0.taken > 0 && self.0.bytes.capacity() - self.0.bytes.len() < bytes.len() {
            self.0.bytes.drain(..self.0.taken);
            self.0.taken = 0;
        }
        self.0.bytes.extend_from_slice(bytes);
    }
}

/// One worker's free chunks.
#[derive(Debug, Default)]
pub struct Pool {
    #[expect(clippy::vec_box, reason = "the boxes are what is reused")]
    free: [Vec<Box<Waiting>>; CLASSES.len()],
    /// The fewest that were free of each class since the last [`Pool::trim`]: nobody needed them.
    unneeded: [usize; CLASSES.len()],
    lent: usize,
}

impl Pool {
    /// A chunk that holds `pieces` one behind the other.
    pub fn lend(&mut self, pieces: &[&[u8]]) -> Chunk {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        let mut waiting = self.empty(len);
        for piece in pieces {
            waiting.bytes.extend_from_slice(piece);
        }
        self.lent += 1;
        Chunk(waiting)
    }

    fn empty(&mut self, len: usize) -> Box<Waiting> {
        let class = CLASSES.iter().position(|&size| len <= size);
        let kept = class.and_then(|class| {
            let kept = self.free[class].pop();
            self.unneeded[class] = self.unneeded[class].min(self.free[class].len());
            kept
        });
        kept.unwrap_or_else(|| {
            let capacity = class.map_or(len, |class| CLASSES[class]);
            Box::new(Waiting { bytes: Vec::with_capacity(capacity), taken: 0 })
        })
    }

    /// Ends the loan of `chunk`.
    pub fn take_back(&mut self, chunk: Chunk) {
        self.lent -= 1;
        let mut waiting = chunk.0;
        if let Some(class) = CLASSES.iter().position(|&size| size == waiting.bytes.capacity())
            && self.free[class].len() < FREE_BYTES / CLASSES[class]
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
        let place = chunk.0.bytes.as_ptr();
        pool.take_back(chunk);
        let again = pool.lend(&[&[1; 150]]);
        assert_eq!(again.0.bytes.as_ptr(), place);
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
        let huge = pool.lend(&[&[0; 200_000]]);
        for chunk in chunks.into_iter().chain([huge]) {
            pool.take_back(chunk);
        }
        let kept: usize = pool.free.iter().flatten().map(|kept| kept.bytes.capacity()).sum();
        assert_eq!(kept, FREE_BYTES);
    }
}
