//! What all workers know together of their connections to one endpoint: how many requests are with it. Made by whichever worker
//! first needs it, found by the endpoint's id, and forgotten some time after the endpoint.
//!
//! Invariant: a place that [`Link::enter`] gave is taken until [`Link::leave`], and there are never more than the limit.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;

use super::EndpointId;
use crate::base::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What is shared about one endpoint.
#[derive(Debug, Default)]
pub struct Link {
    in_flight: CachePadded<AtomicUsize>,
}

impl Link {
    /// Takes a place for a request unless `most` are taken.
    pub fn enter(&self, most: usize) -> bool {
        let entered = self.in_flight.fetch_add(1, Relaxed) < most;
        if !entered {
            self.in_flight.fetch_sub(1, Relaxed);
        }
        entered
    }

    /// Takes a place although none may be free.
    pub fn squeeze_in(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// Gives `count` places back.
    pub fn leave(&self, count: usize) {
        self.in_flight.fetch_sub(count, Relaxed);
    }

    /// Places that are taken. Another thread may be about to find that its one is beyond the limit.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }
}

/// The links of all endpoints.
#[derive(Debug, Default)]
pub struct Links(ArcSwap<HashMap<EndpointId, Arc<Link>>>);

impl Links {
    /// The link of `endpoint`.
    pub fn of(&self, endpoint: EndpointId) -> Arc<Link> {
        if let Some(link) = self.0.load().get(&endpoint) {
            return Arc::clone(link);
        }
        let fresh = Arc::new(Link::default());
        let mut found = Arc::clone(&fresh);
        self.0.rcu(|links| {
            // Those that nobody holds any more are of endpoints that are gone.
            let held = links.iter().filter(|(_, link)| Arc::strong_count(link) > 1);
            let mut links: HashMap<_, _> = held.map(|(&id, link)| (id, Arc::clone(link))).collect();
            found = Arc::clone(links.entry(endpoint).or_insert_with(|| Arc::clone(&fresh)));
            links
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_up_to_the_limit_and_again_when_they_are_free() {
        let link = Link::default();
        assert_eq!([0; 3].map(|_| link.enter(2)), [true, true, false]);
        link.leave(1);
        assert_eq!([0; 2].map(|_| link.enter(2)), [true, false]);
        link.squeeze_in();
        assert_eq!(link.in_flight(), 3);
        link.leave(3);
        assert_eq!(link.in_flight(), 0);
    }

    #[test]
    fn an_endpoint_has_one_link_for_as_long_as_it_is_held() {
        let links = Links::default();
        let held = links.of(EndpointId(1));
        held.squeeze_in();
        for other in 2..20 {
            drop(links.of(EndpointId(other)));
        }
        assert_eq!(links.of(EndpointId(1)).in_flight(), 1);
        assert!(links.0.load().len() <= 3, "those that nobody holds are forgotten");
    }

    #[test]
    fn threads_together_have_no_more_places_than_the_limit() {
        let links = Links::default();
        let entered: usize = std::thread::scope(|scope| {
            let enter = || (0..1_000).filter(|_| links.of(EndpointId(1)).enter(100)).count();
            let _held = links.of(EndpointId(1));
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(enter)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(entered <= 100, "{entered}");
    }
}
