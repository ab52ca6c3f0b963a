//! Bytes that must wait: an unfinished head, a request that may have to be sent again, what a slow
//! reader has not taken. They lie in [`Chunk`]s lent by a worker's [`Pool`]; a connection with nothing waiting
//! holds none.
//!
//! The memory is of a few sizes, each in spans (`base::span`) of pages of its own, and the first span that has room is used first:
//! what a burst left behind lies together, and [`Pool::trim`] gives it back to the kernel. How much all workers hold is known
//! to their [`Ledger`].
//!
//! Invariants: a chunk goes back to the pool it came from; what is lent is never more than the worker's part of the ledger.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::ledger::{Ledger, Level, Part};
use super::span::Span;
use super::tick::Tick;

/// Sizes of places, and how many a span has. A small GET, rewritten, fits the first; a request that came with one read, and what
/// a slow reader waits with when little is read, the fourth; a whole window of a body the last.
const CLASSES: [(usize, usize); 7] = [
    (192, 340),
    (1024, 64),
    (4 * 1024, 16),
    (17 * 1024, 15),
    (72 * 1024, 3),
    (136 * 1024, 2),
    (272 * 1024, 1),
];
/// The class of what is larger, as nothing of ours is: each has a span for itself.
const ODD: usize = CLASSES.len();
/// Of so many classes, the smallest, the first span is kept for good: 64 KiB each at most.
const KEPT: usize = 3;
/// What is small is lent whatever is held: an ordinary request and what is read at once then.
const SMALL: usize = 4 * 1024;
/// The class of what is small, and how many places of it what one read brings may need: of what is kept for a retry, of what waits
/// for either side.
const SMALL_CLASS: usize = 2;
const LOANS: usize = 3;
/// Bytes of the ballast: the largest place for each of them, and some for others of this process.
const BALLAST: usize = 1024 * 1024;
/// Bytes that are left to others when this process may have no more memory.
const HEADROOM: usize = 512 * 1024;
/// What is read at once when it is to be little. With what rewriting adds it fits the fourth class.
const LITTLE: usize = 16 * 1024;
/// The least that is worth a call, which fits the third.
const LEAST: usize = 3 * 1024;
/// A span that nobody needed for so long goes back, or for twice as long.
const TRIM_TIME: Duration = Duration::from_secs(1);
/// Bytes that go back at once; unmapping 256 KiB takes 10 µs.
const TRIMMED: usize = 4 * 1024 * 1024;
/// How often it is looked whether there is memory again.
const RECOVER_TIME: Duration = Duration::from_millis(30);
/// Before the next ones go.
const TRIM_PAUSE: Duration = Duration::from_millis(10);

/// Bytes that wait, taken from the front. They are seen through the pool that lent them. Half a pointer wide, because every
/// connection has room for several.
#[derive(Debug)]
#[must_use = "a pool must get its chunks back"]
pub struct Chunk(NonZeroU32);

/// Where a chunk lies.
#[derive(Debug, Clone, Copy)]
struct At {
    class: usize,
    span: usize,
    place: u32,
}

const PLACE_BITS: u32 = 9;
const SPAN_BITS: u32 = 20;

impl At {
    fn pack(self) -> Chunk {
        let bits = self.class << SPAN_BITS | self.span;
        let bits = u32::try_from(bits << PLACE_BITS).expect("a class has fewer than 2^20 spans");
        // No class has so many places in a span that this overflows.
        Chunk(NonZeroU32::MIN.saturating_add(bits | self.place))
    }

    #[inline]
    fn of(chunk: &Chunk) -> At {
        let bits = (chunk.0.get() - 1) as usize;
        At {
            class: bits >> (SPAN_BITS + PLACE_BITS),
            span: bits >> PLACE_BITS & ((1 << SPAN_BITS) - 1),
            place: (chunk.0.get() - 1) & ((1 << PLACE_BITS) - 1),
        }
    }
}

/// The places of one size.
#[derive(Debug, Default)]
struct Class {
    /// A span that went back leaves its position to another.
    spans: Vec<Option<BufferSlot>>,
    /// The first that has room; past the end if none has.
    roomy: usize,
}

#[derive(Debug)]
struct BufferSlot {
    span: Span,
    /// How often [`Pool::trim`] has looked since a place of it was lent, or the last one came back.
    rested: u8,
}

const LENT: &str = "a span of which a place is lent stays";

impl Class {
    fn span(&self, at: usize) -> &Span {
        &self.spans[at].as_ref().expect(LENT).span
    }

    fn span_mut(&mut self, at: usize) -> &mut Span {
        &mut self.spans[at].as_mut().expect(LENT).span
    }

    /// The position of the first span with room from this one on.
    fn look_for_room(&mut self, from: usize) {
        let has_room =
            |slot: &Option<BufferSlot>| slot.as_ref().is_some_and(|it| !it.span.is_full());
        let next = self.spans.iter().skip(from).position(has_room);
        self.roomy = next.map_or(self.spans.len(), |next| from + next);
    }

    /// Makes room for `len` bytes. How many spans there are more that are free and may go back; `None` if there is no memory.
    #[cold]
    fn grow(&mut self, class: usize, len: usize) -> Option<usize> {
        let (size, count) = CLASSES.get(class).copied().unwrap_or((len, 1));
        self.spans.try_reserve(1).ok()?;
        let slot = Some(BufferSlot { span: Span::new(size, count)?, rested: 0 });
        self.roomy = self.spans.iter().position(Option::is_none).unwrap_or(self.spans.len());
        match self.spans.get_mut(self.roomy) {
            Some(gone) => *gone = slot,
            None => self.spans.push(slot),
        }
        Some(goes_back(class, self.roomy).into())
    }

    fn has_room(&self) -> bool {
        self.roomy < self.spans.len()
    }
}

/// One worker's buffers.
#[derive(Debug)]
pub struct Pool {
    classes: [Class; CLASSES.len() + 1],
    part: Part,
    level: Level,
    /// What is read at once at each level for somebody who may not take it.
    reads: [usize; 4],
    /// The fewest and the most bytes that may be lent before the part is to be fitted to them.
    range: (usize, usize),
    /// Bytes of the places that are lent.
    lent_bytes: usize,
    /// Spans that are free as a whole and may go back.
    idle: usize,
    /// What is given up when this process may have no more memory, so that what is under way can go on. Pages that nobody has
    /// touched: they are of the address space alone.
    ballast: Option<Span>,
    /// [`Level::Out`] if there was no memory for a span, and there is none yet for the ballast.
    floor: Level,
    /// When spans are older by one look.
    look_at: Tick,
    trim_at: Tick,
}

impl Default for Pool {
    /// Without a limit.
    fn default() -> Self {
        Pool::new(Arc::default())
    }
}

/// Whether there is memory for what other threads of this process allocate: without that they would end it.
fn has_headroom() -> bool {
    Span::new(HEADROOM, 1).is_some()
}

/// Whether a span goes back some time when none of its places is lent any more.
fn goes_back(class: usize, span: usize) -> bool {
    class >= KEPT || span > 0
}

impl Pool {
    /// The buffers of a worker that shares `ledger` with others.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        let most = (ledger.limit() / 4).max(LEAST);
        let part = Part::of(ledger);
        Pool {
            classes: Default::default(),
            level: part.level(),
            reads: [most, LITTLE.min(most), LEAST, LEAST],
            range: part.range(),
            part,
            lent_bytes: 0,
            idle: 0,
            ballast: Span::new(BALLAST, 1),
            floor: Level::Plenty,
            look_at: Tick::default(),
            trim_at: Tick::default(),
        }
    }

    /// A chunk that holds `pieces` one behind the other. There is always one: whether it is wise to have more wait is to be asked
    /// before.
    pub fn lend(&mut self, pieces: &[&[u8]]) -> Chunk {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        let class = CLASSES.iter().position(|&(size, _)| len <= size).unwrap_or(ODD);
        if class == ODD || !self.classes[class].has_room() {
            return self.lend_anew(class, len, pieces);
        }
        self.lend_of(class, pieces)
    }

    /// Likewise, where the class has no room yet.
    #[cold]
    fn lend_anew(&mut self, class: usize, len: usize, pieces: &[&[u8]]) -> Chunk {
        let class = self.make_room(class, len);
        self.lend_of(class, pieces)
    }

    /// Lends a place of a class that has room.
    #[inline]
    fn lend_of(&mut self, class: usize, pieces: &[&[u8]]) -> Chunk {
        let places = &mut self.classes[class];
        let span = places.roomy;
        let slot = places.spans[span].as_mut().expect("a span with room is there");
        if slot.span.is_idle() && goes_back(class, span) {
            self.idle -= 1;
        }
        slot.rested = 0;
        let place = slot.span.lend(pieces);
        self.lent_bytes += slot.span.size();
        if slot.span.is_full() {
            places.look_for_room(span + 1);
        }
        if self.lent_bytes > self.range.1 {
            self.fit();
        }
        At { class, span, place }.pack()
    }

    /// Makes room for `len` bytes: in this class or, if there is no memory for that, in a larger one.
    ///
    /// # Panics
    /// If there is none either. Whoever asks [`Pool::is_spent`] before what is to be lent is read does not meet that.
    #[cold]
    fn make_room(&mut self, class: usize, len: usize) -> usize {
        let grown = self.classes[class].grow(class, len);
        if grown.is_none() || !has_headroom() {
            self.floor = Level::Out;
            self.level = Level::Out;
            self.trim_at = Tick::default();
            self.ballast = None;
        }
        if let Some(idle) = grown {
            self.idle += idle;
            return class;
        }
        if let Some(idle) = self.classes[class].grow(class, len) {
            self.idle += idle;
            return class;
        }
        let larger = (class..ODD).find(|&larger| self.classes[larger].has_room());
        larger.expect("this process may have no more memory (RLIMIT_DATA, RLIMIT_AS or cgroup)")
    }

    /// Whether this process may have no more memory, so that [`Pool::is_spent`] is to be asked before each read.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.floor == Level::Out
    }

    /// Whether what one read of little brings could find no place.
    #[cold]
    pub fn is_spent(&mut self) -> bool {
        let short = self.is_short();
        let class = &mut self.classes[SMALL_CLASS];
        let room: usize = class.spans.iter().flatten().map(|slot| slot.span.room()).sum();
        if !short || room >= LOANS {
            return false;
        }
        let grown = has_headroom().then(|| class.grow(SMALL_CLASS, SMALL)).flatten();
        match grown {
            Some(idle) => self.idle += idle,
            None => class.look_for_room(0),
        }
        !self.classes[SMALL_CLASS].spans.iter().flatten().any(|slot| slot.span.room() >= LOANS)
    }

    /// Looks whether there is memory again.
    fn recover(&mut self) {
        self.ballast = Span::new(BALLAST, 1);
        if self.ballast.is_some() {
            self.floor = Level::Plenty;
            self.look();
        }
    }

    /// What still waits.
    pub fn get(&self, chunk: &Chunk) -> &[u8] {
        let At { class, span, place } = At::of(chunk);
        self.classes[class].span(span).get(place)
    }

    /// Takes `count` bytes from the front of `chunk`. Whether nothing waits in it any more.
    ///
    /// # Panics
    /// If fewer wait.
    pub fn consume(&mut self, chunk: &Chunk, count: usize) -> bool {
        let At { class, span, place } = At::of(chunk);
        self.classes[class].span_mut(span).consume(place, count)
    }

    /// A chunk with what waits in `chunk` behind its first `skip` bytes.
    pub fn lend_rest(&mut self, chunk: &Chunk, skip: usize) -> Chunk {
        let rest = self.get(chunk)[skip..].to_vec();
        self.lend(&[&rest])
    }

    /// Ends the loan of `chunk`.
    #[expect(clippy::needless_pass_by_value, reason = "what is given back is nobody's any more")]
    pub fn take_back(&mut self, chunk: Chunk) {
        let At { class, span: at, place } = At::of(&chunk);
        let places = &mut self.classes[class];
        let slot = places.spans[at].as_mut().expect(LENT);
        let span = &mut slot.span;
        span.take_back(place);
        self.lent_bytes -= span.size();
        if class == ODD {
            places.spans[at] = None;
        } else {
            if span.is_idle() && goes_back(class, at) {
                self.idle += 1;
                slot.rested = 0;
            }
            places.roomy = places.roomy.min(at);
        }
        if self.lent_bytes < self.range.0 {
            self.fit();
        }
    }

    /// Makes the worker's part of the ledger fit what is lent.
    #[cold]
    fn fit(&mut self) {
        self.part.fit(self.lent_bytes);
        self.range = self.part.range();
        self.look();
    }

    /// Looks how much all workers hold.
    #[inline]
    pub fn look(&mut self) {
        self.level = self.part.level().max(self.floor);
    }

    /// How much of `wanted` bytes may be read at once for somebody who may not take them.
    #[inline]
    pub fn allow(&self, wanted: usize) -> usize {
        wanted.min(self.reads[self.level as usize])
    }

    /// How near the limit is what all workers hold, as far as it was [looked](Pool::look) at.
    #[inline]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether no more than is small is to wait: all memory is held that there is for buffers.
    #[inline]
    pub fn is_out(&self) -> bool {
        self.level == Level::Out
    }

    /// Whether so many bytes may be lent although [`Pool::is_out`].
    pub fn is_small(bytes: usize) -> bool {
        bytes <= SMALL
    }

    /// Gives spans back that nobody needed for a second. To be called now and then, and at [`Pool::next_trim`].
    #[inline]
    pub fn trim(&mut self, now: Tick) {
        if self.trim_at <= now {
            self.trim_all(now);
        }
    }

    #[cold]
    fn trim_all(&mut self, now: Tick) {
        let looks = self.look_at <= now;
        if looks {
            self.look_at = now.after(TRIM_TIME);
            self.fit();
        }
        let mut bytes = 0;
        for (at, class) in self.classes.iter_mut().enumerate() {
            let before = self.idle;
            for (span, slot) in class.spans.iter_mut().enumerate().rev() {
                let Some(it) = slot else { continue };
                it.rested = it.rested.saturating_add(looks.into());
                let unneeded = it.rested > 1 && it.span.is_idle() && goes_back(at, span);
                if unneeded && bytes < TRIMMED {
                    bytes += it.span.bytes();
                    self.idle -= 1;
                    *slot = None;
                }
            }
            if self.idle < before {
                let len = class.spans.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
                class.spans.truncate(len);
                class.spans.shrink_to(2 * len);
                class.look_for_room(0);
            }
        }
        self.trim_at = if bytes < TRIMMED { self.look_at } else { now.after(TRIM_PAUSE) };
        if self.is_short() {
            self.recover();
            self.trim_at = self.trim_at.min(now.after(RECOVER_TIME));
        }
    }

    /// When [`Pool::trim`] may find something to do.
    pub fn next_trim(&self) -> Option<Tick> {
        (self.idle > 0 || self.is_short()).then_some(self.trim_at)
    }

    /// How many chunks are lent.
    pub fn lent(&self) -> usize {
        self.spans().map(Span::lent).sum()
    }

    fn spans(&self) -> impl Iterator<Item = &Span> {
        let slots = self.classes.iter().flat_map(|class| class.spans.iter().flatten());
        slots.map(|slot| &slot.span)
    }

    /// Bytes of all pages that the pool has from the kernel.
    pub fn mapped(&self) -> usize {
        self.spans().map(Span::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::span::SPANS_LEFT;
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn second(count: u64) -> Tick {
        Tick(count * 1_000_000)
    }

    fn give_all_back(pool: &mut Pool, chunks: Vec<Chunk>) {
        chunks.into_iter().for_each(|chunk| pool.take_back(chunk));
    }

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut pool = Pool::default();
        let chunk = pool.lend(&[b"ab", b"", b"cd"]);
        let other = pool.lend(&[&[b'x'; 192]]);
        assert!(!pool.consume(&chunk, 1));
        let rest = pool.lend_rest(&chunk, 1);
        assert_eq!((pool.get(&chunk), pool.get(&rest)), (&b"bcd"[..], &b"cd"[..]));
        assert_eq!(pool.get(&other), [b'x'; 192]);
        assert!(pool.consume(&chunk, 3));
        give_all_back(&mut pool, vec![rest, other, chunk]);
        assert_eq!((pool.lent(), pool.lent_bytes), (0, 0));
    }

    #[test]
    #[should_panic(expected = "consumed 3 of 2 bytes")]
    fn no_more_is_taken_than_waits() {
        let mut pool = Pool::default();
        let chunk = pool.lend(&[b"ab"]);
        pool.consume(&chunk, 3);
    }

    #[test]
    fn a_place_that_came_back_is_lent_again() {
        let mut pool = Pool::default();
        let chunk = pool.lend(&[b"hello"]);
        let place = pool.get(&chunk).as_ptr();
        pool.take_back(chunk);
        let again = pool.lend(&[&[1; 150]]);
        assert_eq!(pool.get(&again).as_ptr(), place);
        assert_eq!(pool.get(&again), [1; 150]);
        pool.take_back(again);
    }

    #[test]
    fn without_memory_reads_stop_before_the_last_places_are_lent_and_go_on_when_there_is_some() {
        let mut pool = Pool::default();
        // Each is followed by a look whether there is one more.
        SPANS_LEFT.set(4);
        let mut lent = vec![pool.lend(&[&[1; 4_000]]), pool.lend(&[&[2; 15_000]])];
        assert!(!pool.is_short());
        // The first that fails has the ballast's place.
        SPANS_LEFT.set(0);
        lent.push(pool.lend(&[&[3; 1_000]]));
        assert!(pool.is_short() && pool.is_out());
        while !pool.is_spent() {
            lent.extend([100, 1_000, 4_000].map(|len| pool.lend(&[&vec![4; len]])));
            assert!(lent.len() < 100, "the places are not counted");
        }
        pool.trim(second(1));
        assert!(pool.is_short(), "there is still none");
        SPANS_LEFT.set(usize::MAX);
        assert!(!pool.is_spent(), "one span more");
        pool.trim(second(2));
        assert!(!pool.is_short() && !pool.is_out());
        let first = pool.get(&lent[2]).to_vec();
        assert_eq!(first, [3; 1_000]);
        give_all_back(&mut pool, lent);
        assert_eq!((pool.lent(), pool.lent_bytes), (0, 0));
    }

    #[test]
    fn every_size_has_its_place() {
        let mut pool = Pool::default();
        let sizes = CLASSES.iter().flat_map(|&(size, _)| [size - 1, size, size + 1]);
        for size in sizes.chain([0, 1, 5 * MIB]) {
            let bytes: Vec<u8> = (0u8..251).cycle().take(size).collect();
            let count = 400.min(2 + 4 * MIB / (size + 1));
            let chunks: Vec<Chunk> = (0..count).map(|_| pool.lend(&[&bytes])).collect();
            assert!(chunks.iter().all(|chunk| pool.get(chunk) == bytes), "{size}");
            give_all_back(&mut pool, chunks);
            (0..9).for_each(|look| pool.trim_all(second(look)));
        }
        assert_eq!(size_of::<Option<Chunk>>(), 4);
    }

    #[test]
    fn what_a_burst_left_behind_goes_back_when_nobody_needed_it_for_a_second() {
        let mut pool = Pool::default();
        let burst: Vec<Chunk> = (0..1_000).map(|_| pool.lend(&[&[0; 16_500]])).collect();
        let most = pool.mapped();
        assert!(most >= 1_000 * 17 * 1024);
        pool.trim(second(0));
        give_all_back(&mut pool, burst);
        assert_eq!(pool.mapped(), most, "it may be needed again at once");
        let (mut now, mut trims) = (second(0), 0);
        while let Some(next) = pool.next_trim() {
            assert!(next > now);
            now = next;
            let before = pool.mapped();
            pool.trim(now);
            assert!(before - pool.mapped() < TRIMMED + 272 * 1024, "a trim is short");
            trims += 1;
        }
        assert_eq!(pool.mapped(), 0);
        assert!(now > second(1) && now < second(3) && trims >= 4, "{now:?} {trims}");
    }

    #[test]
    fn what_is_needed_now_and_then_stays() {
        let mut pool = Pool::default();
        for now in 0..10 {
            let chunk = pool.lend(&[&[0; 100_000]]);
            let place = pool.get(&chunk).as_ptr();
            pool.take_back(chunk);
            pool.trim(second(now));
            let again = pool.lend(&[&[0; 100_000]]);
            assert_eq!(pool.get(&again).as_ptr(), place);
            pool.take_back(again);
        }
        let small = pool.lend(&[b"hello"]);
        pool.take_back(small);
        (10..13).for_each(|now| pool.trim(second(now)));
        assert_eq!(
            (pool.mapped(), pool.next_trim()),
            (192 * 340, None),
            "what is small stays for good"
        );
    }

    #[test]
    fn those_who_stay_after_a_burst_are_lent_places_that_lie_together() {
        let mut pool = Pool::default();
        let mut burst: Vec<Chunk> = (0..1_000).map(|_| pool.lend(&[&[0; 3_000]])).collect();
        let last = burst.split_off(990);
        give_all_back(&mut pool, burst);
        let more: Vec<Chunk> = (0..32).map(|_| pool.lend(&[&[0; 3_000]])).collect();
        (0..4).for_each(|now| pool.trim(second(now)));
        assert!(pool.mapped() <= 4 * 64 * 1024, "{}", pool.mapped());
        give_all_back(&mut pool, last);
        give_all_back(&mut pool, more);
    }

    #[test]
    fn a_worker_holds_what_it_lends_and_reads_less_the_more_is_held() {
        let ledger = Arc::new(Ledger::new(64 * MIB, 2));
        let mut pool = Pool::new(Arc::clone(&ledger));
        let mut other = Pool::new(Arc::clone(&ledger));
        let mut lent = Vec::new();
        let mut seen = vec![(pool.allow(MIB), 0)];
        while !pool.is_out() {
            lent.push(pool.lend(&[&[0; 200_000]]));
            assert!(pool.lent_bytes <= ledger.held());
            if seen.last().is_some_and(|(read, _)| *read != pool.allow(MIB)) {
                seen.push((pool.allow(MIB), ledger.held() / MIB));
            }
        }
        assert_eq!(seen, [(MIB, 0), (LITTLE, 16), (LEAST, 48)]);
        assert_eq!(ledger.held() / MIB, 64);
        assert_eq!(other.allow(100), 100, "it has not looked");
        other.look();
        assert!(other.is_out() && other.allow(MIB) == LEAST && other.allow(100) == 100);
        give_all_back(&mut pool, lent);
        assert!(ledger.held() < MIB, "{}", ledger.held());
        other.look();
        assert_eq!((pool.allow(MIB), other.allow(MIB)), (MIB, MIB));
        drop((pool, other));
        assert_eq!(ledger.held(), 0);
    }

    proptest::proptest! {
        #[test]
        fn a_chunk_holds_its_own_bytes_whatever_else_is_lent(
            steps in proptest::collection::vec((0usize..6_000, 0usize..40, proptest::bool::ANY), 1..300),
        ) {
            let mut pool = Pool::default();
            let mut held: Vec<(Chunk, u8, usize)> = Vec::new();
            for (at, (len, which, lend)) in steps.into_iter().enumerate() {
                let mark = u8::try_from(at % 251).unwrap();
                if lend || held.is_empty() {
                    held.push((pool.lend(&[&vec![mark; len]]), mark, len));
                } else {
                    let (chunk, _, _) = held.swap_remove(which % held.len());
                    pool.take_back(chunk);
                }
                pool.trim(second(at as u64));
                for (chunk, mark, len) in &held {
                    proptest::prop_assert!(pool.get(chunk) == vec![*mark; *len]);
                }
                let idle = pool.classes.iter().enumerate().flat_map(|(class, it)| {
                    it.spans.iter().enumerate().filter(move |(span, slot)| {
                        slot.as_ref().is_some_and(|it| it.span.is_idle()) && goes_back(class, *span)
                    })
                });
                proptest::prop_assert_eq!(idle.count(), pool.idle);
            }
        }
    }
}
