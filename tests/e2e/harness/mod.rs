//! What the tests are made of. Nothing here sleeps for a fixed time: everything waits for a condition, and
//! fails when the condition does not come about within [`PATIENCE`].

mod client;
mod evenly;
mod origin;
mod wire;

use std::thread;
use std::time::{Duration, Instant};

pub(crate) use client::{Client, End, Response};
pub(crate) use evenly::{Evenly, Start};
pub(crate) use origin::{Origin, Then, answer, body_of, no_body};
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
