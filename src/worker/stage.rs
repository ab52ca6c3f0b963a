//! How far the workers have been asked to stop, and whether any of them may still hand a connection over.
//!
//! One thread alone asks, the main one. Invariants: what a worker handed over before [`Stages::leave`] is seen by whoever then
//! finds [`Stages::all_left`]; so a worker that finds it, and after it an empty queue, gets nothing any more. Workers stay until
//! [`Stage::Stopping`], so that up to then there is a way back: [`Stages::go_back`] while they still have listeners,
//! [`Stages::reopen`] when all have left, and nothing in between.

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

    /// Tells them to stop, as far as `stage` says.
    pub(super) fn raise(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
    }

    /// They serve as before, with the listeners they still have. `false`, and nothing is changed, if they close these or are
    /// to end.
    pub(super) fn go_back(&self) -> bool {
        let (running, leaving) = (Stage::Running as u8, Stage::Leaving as u8);
        let back =
            self.stage.compare_exchange(leaving, running, Ordering::AcqRel, Ordering::Acquire);
        back.is_ok()
    }

    /// So many workers, which all have left, serve again. Each has to get listeners after this, and to take them before it
    /// looks at the stage again.
    pub(super) fn reopen(&self, workers: usize) {
        self.accepting.store(workers, Ordering::Release);
        self.stage.store(Stage::Running as u8, Ordering::Release);
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
    use loom::sync::{Arc, Mutex};

    const WORKERS: usize = 2;

    struct All {
        stages: Stages,
        queues: [AtomicUsize; WORKERS],
        /// Connections each has, those on their way to it included.
        loads: [AtomicUsize; WORKERS],
        /// Whether each is to take listeners again: a queue of errands.
        errands: [Mutex<bool>; WORKERS],
        wakers: [Sleeper; WORKERS],
        /// What the main thread sleeps on.
        main: Sleeper,
    }

    impl All {
        fn new() -> Arc<All> {
            let all = All {
                stages: Stages::new(WORKERS),
                queues: Default::default(),
                loads: Default::default(),
                errands: Default::default(),
                wakers: Default::default(),
                main: Sleeper::default(),
            };
            // A client is there from the start, on each listener.
            all.wake();
            Arc::new(all)
        }

        fn wake(&self) {
            self.wakers.iter().for_each(Sleeper::ring);
        }

        fn set_stage(&self, stage: Stage) {
            self.stages.raise(stage);
            self.wake();
        }

        fn is_finished(&self) -> bool {
            self.stages.all_left() && self.loads.iter().all(|it| it.load(Ordering::Relaxed) == 0)
        }

        /// What the main thread does in a drain that nobody takes back.
        fn see_to_the_end(&self) {
            self.set_stage(Stage::Draining);
            while !self.is_finished() {
                self.main.wait();
                self.main.silence();
            }
            self.set_stage(Stage::Stopping);
        }
    }

    /// A worker that accepts one connection each time it has listeners, and hands it over to the other. Returns how many it got.
    fn work(all: &All, me: usize) -> usize {
        let other = 1 - me;
        let (mut got, mut left, mut handed_over, mut said) = (0, false, false, false);
        loop {
            all.wakers[me].wait();
            all.wakers[me].silence();
            let taken = all.queues[me].swap(0, Ordering::Relaxed);
            got += taken;
            all.loads[me].fetch_sub(taken, Ordering::Relaxed);
            if !left && !std::mem::replace(&mut handed_over, true) {
                all.loads[other].fetch_add(1, Ordering::Relaxed);
                all.queues[other].fetch_add(1, Ordering::Relaxed);
                all.wakers[other].ring();
            }
            if std::mem::take(&mut *all.errands[me].lock().unwrap()) {
                (left, handed_over, said) = (false, false, false);
                all.wakers[me].ring();
            }
            let stage = all.stages.now();
            if stage == Stage::Stopping {
                return got;
            }
            if stage == Stage::Draining {
                if !std::mem::replace(&mut left, true) && all.stages.leave() {
                    all.wake();
                }
                let empty = all.stages.all_left() && all.queues[me].load(Ordering::Relaxed) == 0;
                if empty && !std::mem::replace(&mut said, true) {
                    all.main.ring();
                }
            }
        }
    }

    fn bounded() -> loom::model::Builder {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model
    }

    #[test]
    fn nobody_ends_while_another_may_hand_a_connection_over() {
        bounded().check(|| {
            let all = All::new();
            let threads = [0, 1].map(|me| {
                let all = Arc::clone(&all);
                loom::thread::spawn(move || work(&all, me))
            });
            all.see_to_the_end();
            let got: usize = threads.into_iter().map(|it| it.join().unwrap()).sum();
            assert!(got <= WORKERS, "nothing is taken twice");
            assert!(all.queues.iter().all(|it| it.load(Ordering::Relaxed) == 0), "nor left");
        });
    }

    #[test]
    fn a_drain_that_is_taken_back_when_all_have_left_can_begin_again() {
        let mut model = bounded();
        model.preemption_bound = Some(1);
        model.check(|| {
            let all = All::new();
            let threads = [0, 1].map(|me| {
                let all = Arc::clone(&all);
                loom::thread::spawn(move || work(&all, me))
            });
            all.set_stage(Stage::Draining);
            while !all.stages.all_left() {
                all.main.wait();
                all.main.silence();
            }
            all.stages.reopen(WORKERS);
            all.errands.iter().for_each(|it| *it.lock().unwrap() = true);
            all.wake();
            all.see_to_the_end();
            for thread in threads {
                thread.join().unwrap();
            }
            assert!(all.queues.iter().all(|it| it.load(Ordering::Relaxed) == 0), "all were taken");
        });
    }
}
