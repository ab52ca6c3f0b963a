//! How other threads wake the health thread out of its wait: an eventfd, written only when needed.
//!
//! Owns the eventfd and the stop flag. Invariant: whoever finds `pending` unset and sets it writes the
//! eventfd; the health thread clears it before it looks at what it was woken for. So what is put in
//! a channel before [`Wake::wake`] is never left lying, and a flood of wakes costs one write a turn.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::base::sync::atomic::{AtomicBool, Ordering};

/// What the health thread sleeps on: an eventfd, or what stands for it in a model.
pub(super) trait WakeSignal {
    /// Ends the sleep, now or when it begins. Never blocks.
    fn ring(&self);
    /// Undoes every ring so far.
    fn silence(&self);
}

impl WakeSignal for OwnedFd {
    fn ring(&self) {
        // Cannot fail: the counter is far from full, since it is read before it is written again.
        let _ = rustix::io::write(self, &1u64.to_ne_bytes());
    }

    fn silence(&self) {
        let _ = rustix::io::read(self, &mut [0; 8]);
    }
}

/// Shared by the health thread and by everyone who wakes it.
#[derive(Debug)]
pub(super) struct Wake<B = OwnedFd> {
    bell: B,
    pending: AtomicBool,
    stop: AtomicBool,
}

impl Wake {
    /// On an eventfd. Fails when the process is out of descriptors.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Wake::on(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }
}

impl<B: WakeSignal> Wake<B> {
    fn on(bell: B) -> Self {
        Wake { bell, pending: AtomicBool::new(false), stop: AtomicBool::new(false) }
    }

    /// Ends the health thread's wait, now or when it next begins one. Never blocks.
    pub(super) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// The health thread was woken: from here on a wake writes again.
    pub(super) fn clear(&self) {
        self.bell.silence();
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
        self.bell.as_fd()
    }
}

/// The turns of the health thread are written down again here, as `Monitor::turn` and `keep_turning` have them, and so are
/// the two lines of `Reporter::report`; what waits in the channel is a relaxed counter, so that nothing but
/// [`Wake`] orders it.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::base::sync::Sleeper as Eventfd;
    use crate::base::sync::atomic::AtomicUsize;
    use loom::sync::Arc;
    use loom::thread;

    impl WakeSignal for Eventfd {
        fn ring(&self) {
            self.ring();
        }

        fn silence(&self) {
            self.silence();
        }
    }

    struct Shared {
        wake: Wake<Eventfd>,
        reports: AtomicUsize,
    }

    impl Shared {
        fn new() -> Arc<Self> {
            let (wake, reports) = (Wake::on(Eventfd::default()), AtomicUsize::new(0));
            Arc::new(Shared { wake, reports })
        }

        fn report(&self) {
            self.reports.fetch_add(1, Ordering::Relaxed);
            self.wake.wake();
        }

        /// One turn of the health thread, without a timeout: what nobody wakes it for is lost.
        fn turn(&self) -> usize {
            self.wake.bell.wait();
            self.wake.clear();
            self.reports.swap(0, Ordering::Relaxed)
        }
    }

    /// For three threads: at most three of them are interrupted, which finds nearly everything in seconds.
    fn bounded() -> loom::model::Builder {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model
    }

    #[test]
    fn every_report_wakes_the_health_thread() {
        bounded().check(|| {
            let shared = Shared::new();
            let workers = [(); 2].map(|()| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.report())
            });
            let mut seen = 0;
            while seen < workers.len() {
                seen += shared.turn();
            }
            workers.into_iter().for_each(|worker| worker.join().unwrap());
        });
    }

    #[test]
    fn a_report_after_another_wakes_it_again() {
        loom::model(|| {
            let shared = Shared::new();
            let worker = Arc::clone(&shared);
            let worker = thread::spawn(move || (0..3).for_each(|_| worker.report()));
            let mut seen = 0;
            while seen < 3 {
                seen += shared.turn();
            }
            worker.join().unwrap();
        });
    }

    #[test]
    fn it_ends_when_told_to_whatever_is_reported_meanwhile() {
        bounded().check(|| {
            let shared = Shared::new();
            let worker = Arc::clone(&shared);
            let worker = thread::spawn(move || worker.report());
            let owner = Arc::clone(&shared);
            let owner = thread::spawn(move || owner.wake.stop());
            while !shared.wake.stopped() {
                shared.turn();
            }
            worker.join().unwrap();
            owner.join().unwrap();
        });
    }
}
