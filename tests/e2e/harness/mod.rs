//! What the tests are made of. Nothing here sleeps for a fixed time: everything waits for a condition, and
//! fails when the condition does not come about within [`PATIENCE`].

mod client;
mod evenly;
mod origin;
mod scrape;
mod screen;
mod wire;

use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use client::{Client, End, Response};
pub(crate) use evenly::{Evenly, Start};
pub(crate) use origin::{Origin, Then, answer, body_of, no_body};
pub(crate) use scrape::{ADMIN, Scrape, promtool};
pub(crate) use screen::Screen;
pub(crate) use wire::{Head, Wire};

/// How long anything may take before the test fails: long, for machines under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until `value` has been the same for `long`: whatever moved it has come to rest.
#[track_caller]
pub(crate) fn until_still<T: PartialEq>(what: &str, long: Duration, mut value: impl FnMut() -> T) {
    let mut last = value();
    let mut since = Instant::now();
    until(what, || {
        let now = value();
        if now != last {
            last = now;
            since = Instant::now();
        }
        since.elapsed() >= long
    });
}

/// Bytes that show when any of them is lost, doubled or moved.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Compares without printing megabytes.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], wanted: &[u8]) {
    assert_eq!(got.len(), wanted.len(), "lengths");
    assert!(got == wanted, "the bytes differ");
}

/// `bytes` as chunks of many sizes, without the last one.
pub(crate) fn chunks(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 100);
    let mut rest = bytes;
    for size in [1, 17, 4096, 3, 65_535, 1000, 70_001].into_iter().cycle() {
        if rest.is_empty() {
            return out;
        }
        let (chunk, next) = rest.split_at(size.min(rest.len()));
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = next;
    }
    out
}

/// Holds all who wait until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub(crate) fn close(&self) {
        *self.is_open.lock().unwrap() = false;
    }

    #[track_caller]
    pub(crate) fn wait(&self) {
        let is_open = self.is_open.lock().unwrap();
        let waited =
            self.opened.wait_timeout_while(is_open, PATIENCE, |is_open| !*is_open).unwrap();
        assert!(!waited.1.timed_out(), "the gate is not opened");
    }
}

/// Opens a gate at the end of a scope, also at that of a failed test.
pub(crate) struct OpenOnDrop<'a>(pub(crate) &'a Gate);

impl Drop for OpenOnDrop<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Holds whoever comes until there are so many, again and again.
pub(crate) struct Meeting {
    wanted: usize,
    came: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    pub(crate) fn of(wanted: usize) -> Meeting {
        Meeting { wanted, came: Mutex::new(0), changed: Condvar::new() }
    }

    #[track_caller]
    pub(crate) fn wait(&self) {
        let mut came = self.came.lock().unwrap();
        *came += 1;
        let all = came.next_multiple_of(self.wanted);
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(came, PATIENCE, |came| *came < all).unwrap();
        assert!(!waited.1.timed_out(), "not all have come");
    }
}
