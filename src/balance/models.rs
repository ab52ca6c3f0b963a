//! What threads may do to the cursor and to the budget at once: the real ones, in every order (`make loom`).

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use super::budget::{Budget, WINDOW};
use super::links::Link;
use super::{Cursor, Mark};
use crate::settings::Retry;

/// What two threads return that run this at once, and a third that waits for both.
fn together<S, T>(shared: S, run: fn(&S) -> T) -> (Arc<S>, [T; 2])
where
    S: Send + Sync + 'static,
    T: Send + 'static,
{
    let shared = Arc::new(shared);
    let other = Arc::clone(&shared);
    let other = thread::spawn(move || run(&other));
    let mine = run(&shared);
    (shared, [mine, other.join().unwrap()])
}

/// As many retries as there are requests.
const ALL: Retry = Retry { connect_attempts: 1, replay: true, budget: 100, budget_floor: 0 };

/// Takes at most two grants.
fn grants(budget: &Budget, now: Duration) -> u64 {
    let once = || {
        let granted = budget.allows(&ALL, now);
        if granted {
            budget.spend(now);
        }
        u64::from(granted)
    };
    once() + once()
}

#[test]
fn no_two_requests_get_one_ticket_and_none_is_left_out() {
    loom::model(|| {
        let (cursor, tickets) =
            together(Cursor::default(), |cursor| [cursor.ticket(), cursor.ticket()]);
        let mut tickets = tickets.concat();
        tickets.sort_unstable();
        assert_eq!(tickets, [0, 1, 2, 3]);
        assert_eq!(cursor.ticket(), 4);
    });
}

#[test]
fn two_threads_are_granted_the_budget_and_at_most_one_more() {
    loom::model(|| {
        let budget = Budget::default();
        budget.note(Duration::ZERO, 2);
        let (_, granted) = together(budget, |budget| grants(budget, Duration::ZERO));
        let sum: u64 = granted.iter().sum();
        assert!((2..=3).contains(&sum), "{granted:?}");
    });
}

#[test]
fn the_same_holds_while_a_window_begins() {
    loom::model(|| {
        let budget = Budget::default();
        budget.note(WINDOW, 1);
        let (_, granted) = together(budget, |budget| grants(budget, WINDOW * 2));
        let sum: u64 = granted.iter().sum();
        assert!((1..=2).contains(&sum), "{granted:?}");
    });
}

#[test]
fn no_thread_takes_a_place_beyond_the_limit_and_none_is_lost() {
    loom::model(|| {
        let link = Arc::new(Link::default());
        let threads = [(); 2].map(|()| {
            let link = Arc::clone(&link);
            thread::spawn(move || {
                let entered = link.enter(1);
                if entered {
                    assert!(link.in_flight() >= 1);
                    link.leave(1);
                }
            })
        });
        let mine = link.enter(1);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        link.leave(usize::from(mine));
        assert_eq!(link.in_flight(), 0);
        assert!(link.enter(1) && !link.enter(1));
    });
}

#[test]
fn what_was_served_is_seen_by_whoever_asks_after_it() {
    loom::model(|| {
        let mark = Arc::new(Mark::default());
        let workers = [(); 2].map(|()| {
            let mark = Arc::clone(&mark);
            thread::spawn(move || mark.set())
        });
        let meanwhile = mark.take();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert!(mark.take() || meanwhile);
        assert!(!mark.take(), "it is asked for once");
    });
}
