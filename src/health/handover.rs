//! Who decides over something that one thread hands to another and may withdraw: the first of the two that takes it.
//!
//! Owns a flag. Invariant: of all who take it, exactly one gets it; whoever did not leaves it alone, and may wait for the other.

use crate::base::sync::atomic::{AtomicBool, Ordering};

/// Something on its way, which nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Handover(AtomicBool);

impl Handover {
    /// Takes it, to do it or to withdraw it. `false` if the other has.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// The two sides are written down again here, as `Health::follow` and `Monitor::take_plans` have them. The channels are relaxed
/// counters, so that nothing but [`Handover`] orders them; a wait that is over at any time stands for the timeout.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::base::sync::atomic::AtomicUsize;
    use loom::sync::Arc;
    use loom::thread;

    #[derive(Default)]
    struct All {
        plan: Handover,
        /// Plans in the channel, plans that were applied, replies to them.
        sent: AtomicUsize,
        applied: AtomicUsize,
        replies: AtomicUsize,
    }

    impl All {
        /// The health thread's turn.
        fn take_plans(&self) {
            if self.sent.swap(0, Ordering::Relaxed) == 1 && self.plan.take() {
                self.applied.fetch_add(1, Ordering::Relaxed);
                self.replies.fetch_add(1, Ordering::Release);
            }
        }

        /// Hands a plan over, and loses patience at once. Whether it is in force.
        fn follow(&self) -> bool {
            self.sent.store(1, Ordering::Relaxed);
            if self.replies.load(Ordering::Acquire) == 1 {
                return true;
            }
            if self.plan.take() {
                return false;
            }
            // The other has it, and its reply comes: it waits for nothing.
            while self.replies.load(Ordering::Acquire) == 0 {
                thread::yield_now();
            }
            true
        }
    }

    #[test]
    fn a_plan_is_applied_or_withdrawn_and_both_threads_agree() {
        loom::model(|| {
            let all = Arc::new(All::default());
            let health = Arc::clone(&all);
            let health = thread::spawn(move || (0..2).for_each(|_| health.take_plans()));
            let is_in_force = all.follow();
            let applied = |all: &All| all.applied.load(Ordering::Relaxed) == 1;
            assert!(!is_in_force || applied(&all), "what is said to be in force is");
            health.join().unwrap();
            all.take_plans();
            assert_eq!(applied(&all), is_in_force, "what was withdrawn is not applied later");
        });
    }
}
