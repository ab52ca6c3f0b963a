//! How other threads wake the health thread out of its wait: an eventfd, written only when needed.
//!
//! Owns the eventfd and the stop flag. Invariant: whoever finds `pending` unset and sets it writes the
//! eventfd; the health thread clears it before it looks at what it was woken for. So what is put in
//! a channel before [`Wake::wake`] is never left lying, and a flood of wakes costs one write a turn.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Shared by the health thread and by everyone who wakes it.
#[derive(Debug)]
pub(super) struct Wake {
    eventfd: OwnedFd,
    pending: AtomicBool,
    stop: AtomicBool,
}

impl Wake {
    /// Fails when the process is out of descriptors.
    pub(super) fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Wake { eventfd, pending: AtomicBool::new(false), stop: AtomicBool::new(false) })
    }

    /// Ends the health thread's wait, now or when it next begins one. Never blocks.
    pub(super) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            // Cannot fail: the counter is far from full, since it is read before it is written again.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }

    /// The health thread was woken: from here on a wake writes again.
    pub(super) fn clear(&self) {
        let _ = rustix::io::read(&self.eventfd, &mut [0; 8]);
        self.pending.swap(false, Ordering::AcqRel);
    }

    /// Asks the health thread to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the health thread is to end.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
