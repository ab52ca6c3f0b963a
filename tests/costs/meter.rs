//! An allocator that counts what the threads under watch allocate.

#![allow(
    unsafe_code,
    reason = "`GlobalAlloc` is an unsafe trait; every call is passed on as it is"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static METER: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

/// From here on what the calling thread allocates is counted in `meter`. Freeing costs nothing here.
pub(crate) fn watch(meter: &'static AtomicU64) {
    METER.set(Some(meter));
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that is ending has no meter any more.
    if let Ok(Some(meter)) = METER.try_with(Cell::get) {
        meter.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: the system's allocator does the work and keeps its promises; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.dealloc(place, layout) }
    }
}

#[test]
fn counts_what_the_watched_thread_allocates_and_nothing_else() {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    watch(&SEEN);
    let mut bytes: Vec<u8> = std::hint::black_box(Vec::with_capacity(10));
    assert_eq!(SEEN.load(Ordering::Relaxed), 1);
    bytes.reserve_exact(1_000);
    assert_eq!(SEEN.load(Ordering::Relaxed), 2);
    let others = std::thread::spawn(|| drop(std::hint::black_box(vec![0; 100])));
    let before = SEEN.load(Ordering::Relaxed);
    others.join().expect("it ends");
    assert_eq!(SEEN.load(Ordering::Relaxed), before);
}
