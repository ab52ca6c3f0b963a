//! How whoever waits for a target that may serve one connection at a time asks the workers to give their idle ones up: the
//! target would look at no other before.
//!
//! Invariant: each worker learns of every endpoint that was asked for since it last looked, or that it has missed some.

use arc_swap::ArcSwap;

use super::EndpointId;
use crate::base::sync::atomic::{AtomicUsize, Ordering};

/// Asks that are remembered. A worker that falls further behind takes all endpoints for asked for.
const REMEMBERED: usize = 64;

/// What was asked for, last of all.
#[derive(Debug, Default)]
pub struct Asks {
    /// As in `recent`, so that a look at whether there is anything new costs one load.
    count: AtomicUsize,
    recent: ArcSwap<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// Asks there ever were.
    count: usize,
    /// The last of them, the newest at the end.
    endpoints: Vec<EndpointId>,
}

impl Asks {
    /// Asks for the connections to `endpoints`. Those who sleep are not woken: see [`Bell`](super::bell::Bell).
    pub fn ask(&self, endpoints: &[EndpointId]) {
        let before = self.recent.rcu(|recent| {
            let all = [recent.endpoints.as_slice(), endpoints].concat();
            let kept = all.len().min(REMEMBERED);
            let count = recent.count + endpoints.len();
            Recent { count, endpoints: all[all.len() - kept..].to_vec() }
        });
        self.count.fetch_max(before.count + endpoints.len(), Ordering::Release);
    }

    /// Asks there ever were.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// What was asked for behind the first `seen` asks, which is then all of them. `None` if some of it is forgotten.
    pub fn follow(&self, seen: &mut usize) -> Option<Vec<EndpointId>> {
        let recent = self.recent.load();
        let fresh = recent.count - std::mem::replace(seen, recent.count);
        let known = recent.endpoints.len();
        (fresh <= known).then(|| recent.endpoints[known - fresh..].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: impl IntoIterator<Item = u32>) -> Vec<EndpointId> {
        ids.into_iter().map(EndpointId).collect()
    }

    #[test]
    fn each_ask_is_followed_once() {
        let (asks, mut seen) = (Asks::default(), 0);
        assert_eq!(asks.follow(&mut seen), Some(vec![]));
        asks.ask(&ids([1, 2]));
        asks.ask(&ids([3]));
        assert_eq!(asks.count(), 3);
        assert_eq!(asks.follow(&mut seen), Some(ids([1, 2, 3])));
        asks.ask(&ids([1]));
        assert_eq!(asks.follow(&mut seen), Some(ids([1])));
        assert_eq!((asks.follow(&mut seen), seen), (Some(vec![]), 4));
    }

    #[test]
    fn whoever_has_missed_some_learns_so() {
        let (asks, mut seen, mut late) = (Asks::default(), 0, 0);
        asks.ask(&ids(0..1));
        asks.follow(&mut seen);
        asks.ask(&ids(1..65));
        assert_eq!(asks.follow(&mut seen), Some(ids(1..65)));
        assert_eq!((asks.follow(&mut late), late), (None, 65));
        asks.ask(&ids(0..1000));
        assert_eq!(asks.follow(&mut seen), None);
    }

    #[test]
    fn no_ask_of_many_threads_is_lost() {
        let asks = Asks::default();
        std::thread::scope(|scope| {
            for id in 0..4 {
                let asks = &asks;
                scope.spawn(move || (0..10).for_each(|_| asks.ask(&ids([id]))));
            }
        });
        let followed = asks.follow(&mut 0).unwrap();
        assert_eq!(
            (0..4).map(|id| followed.iter().filter(|it| it.0 == id).count()).sum::<usize>(),
            40
        );
        assert_eq!(asks.count(), 40);
    }
}
