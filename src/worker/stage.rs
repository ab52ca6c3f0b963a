//! How far the workers have been asked to stop, and whether any of them may still hand a connection over.
//!
//! Invariant: what a worker handed over before [`Stages::leave`] is seen by whoever then finds
//! [`Stages::all_left`]; so a worker that finds it, and after it an empty queue, gets nothing any more.

use crate::base::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// How far a worker has been asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// It serves.
    Running = 0,
    /// It serves on, and asks clients to connect elsewhere: each response ends its connection.
    Leaving = 1,
    /// It takes nothing new and finishes what was begun.
    Draining = 2,
    /// It ends at once.
    Stopping = 3,
}

/// The stage of all workers.
#[derive(Debug)]
pub(super) struct Stages {
    stage: AtomicU8,
    /// Workers that still have listeners, and so may still hand connections over.
    accepting: AtomicUsize,
}

impl Stages {
    /// So many workers run.
    pub(super) fn new(workers: usize) -> Self {
        Stages { stage: AtomicU8::new(Stage::Running as u8), accepting: AtomicUsize::new(workers) }
    }

    /// How far they have been asked to stop.
    pub(super) fn now(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Running,
            1 => Stage::Leaving,
            2 => Stage::Draining,
            _ => Stage::Stopping,
        }
    }

    /// Tells them to stop, as far as `stage` says. There is no way back.
    pub(super) fn raise(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
    }

    /// One of them has closed its listeners and hands nothing over any more. `true` if it was the last.
    pub(super) fn leave(&self) -> bool {
        self.accepting.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether all have left.
    pub(super) fn all_left(&self) -> bool {
        self.accepting.load(Ordering::Acquire) == 0
    }
}

/// The turns of a worker are written down again here, as `super::work` has them, since a model can have no
/// socket; queues are relaxed counters, so that nothing but [`Stages`] orders what they hold.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::base::sync::Sleeper;
    use loom::sync::Arc;

    const WORKERS: usize = 2;

    struct All {
        stages: Stages,
        queues: [AtomicUsize; WORKERS],
        wakers: [Sleeper; WORKERS],
    }

    impl All {
        fn set_stage(&self, stage: Stage) {
            self.stages.raise(stage);
            self.wakers.iter().for_each(Sleeper::ring);
        }
    }

    /// A worker with one connection to hand over to the other. Returns how many it got.
    fn work(all: &All, me: usize) -> usize {
        let other = 1 - me;
        let (mut got, mut open, mut handed_over) = (0, true, false);
        loop {
            all.wakers[me].wait();
            all.wakers[me].silence();
            got += all.queues[me].swap(0, Ordering::Relaxed);
            if open && !std::mem::replace(&mut handed_over, true) {
                all.queues[other].fetch_add(1, Ordering::Relaxed);
                all.wakers[other].ring();
            }
            let stage = all.stages.now();
            if stage >= Stage::Draining && std::mem::take(&mut open) && all.stages.leave() {
                all.set_stage(stage);
            }
            let empty = all.stages.all_left() && all.queues[me].load(Ordering::Relaxed) == 0;
            if stage == Stage::Draining && empty {
                return got;
            }
        }
    }

    #[test]
    fn nobody_ends_while_another_may_hand_a_connection_over() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let all = Arc::new(All {
                stages: Stages::new(WORKERS),
                queues: Default::default(),
                wakers: Default::default(),
            });
            // A client is there from the start, on each listener.
            all.wakers.iter().for_each(Sleeper::ring);
            let peer = Arc::clone(&all);
            let peer = loom::thread::spawn(move || work(&peer, 1));
            let server = Arc::clone(&all);
            let server = loom::thread::spawn(move || server.set_stage(Stage::Draining));
            let got = work(&all, 0) + peer.join().unwrap();
            server.join().unwrap();
            assert_eq!(got, WORKERS, "each connection that was handed over was taken");
        });
    }
}
