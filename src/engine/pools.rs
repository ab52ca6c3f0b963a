//! What one worker keeps for each endpoint: its idle upstream connections, newest first, and how often in a row
//! it failed. Both share one table, so that an exchange that ends well costs one lookup.
//!
//! Invariants: only connections to endpoints that are healthy in the current snapshot are kept; each
//! endpoint's stack holds at most the configured number; a connection in a stack belongs to no client.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::streaks::Streaks;
use crate::balance::{Endpoint, EndpointId, Snapshot, Streak};
use crate::base::address::Address;
use crate::base::slab::Key;
use crate::settings::Ejection;

/// Endpoint ids are dense and ours: mixing their bits would only cost time.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u32(&mut self, id: u32) {
        // The table takes its tag from the top bits and its place from the low ones.
        self.0 = u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// What a worker keeps for one endpoint.
struct Pool {
    address: Address,
    idle: Vec<Key>,
    streaks: Streaks,
}

/// What became of an endpoint's connection after a whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GivenBack {
    /// The connection is in its stack; else it is to be closed.
    pub(super) kept: bool,
    /// That many answers in a row were server errors, which is as many as may be.
    pub(super) errors: Option<u32>,
}

pub(super) struct Pools {
    pools: HashMap<EndpointId, Pool, BuildHasherDefault<IdHasher>>,
    cap: usize,
    ejection: Ejection,
    /// Connections in all stacks.
    len: usize,
}

impl Pools {
    pub(super) fn new(cap: usize, ejection: Ejection) -> Self {
        Pools { pools: HashMap::default(), cap, ejection, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where a healthy endpoint is.
    pub(super) fn address(&self, endpoint: EndpointId) -> Option<&Address> {
        self.pools.get(&endpoint).map(|pool| &pool.address)
    }

    /// Takes the connection to `endpoint` that was used last.
    pub(super) fn pop(&mut self, endpoint: EndpointId) -> Option<Key> {
        let key = self.pools.get_mut(&endpoint)?.idle.pop()?;
        self.len -= 1;
        Some(key)
    }

    /// The endpoint gave a whole answer with `status`, which ends what it did wrong in a row. Keeps the
    /// connection, if it can be used again, unless the stack is full or the endpoint is not healthy.
    pub(super) fn give_back(
        &mut self,
        endpoint: EndpointId,
        key: Option<Key>,
        status: u16,
    ) -> GivenBack {
        let Some(pool) = self.pools.get_mut(&endpoint) else {
            return GivenBack { kept: false, errors: None };
        };
        let errors = pool.streaks.answered(status, &self.ejection);
        let key = key.filter(|_| pool.idle.len() < self.cap);
        pool.idle.extend(key);
        self.len += usize::from(key.is_some());
        GivenBack { kept: key.is_some(), errors }
    }

    /// A connect to the endpoint came about.
    pub(super) fn connected(&mut self, endpoint: EndpointId) {
        if let Some(pool) = self.pools.get_mut(&endpoint) {
            pool.streaks.connected();
        }
    }

    /// The endpoint failed. How often it did so in a row, if that is as often as it may. One that is out already
    /// cannot fail.
    pub(super) fn failed(&mut self, endpoint: EndpointId, kind: Streak) -> Option<u32> {
        self.pools.get_mut(&endpoint)?.streaks.failed(kind, &self.ejection)
    }

    /// Forgets a connection that ended while it was idle.
    pub(super) fn forget(&mut self, endpoint: EndpointId, key: Key) {
        if let Some(Pool { idle, .. }) = self.pools.get_mut(&endpoint)
            && let Some(at) = idle.iter().rposition(|&other| other == key)
        {
            idle.remove(at);
            self.len -= 1;
        }
    }

    /// Any idle connection, to be closed when descriptors run out.
    pub(super) fn pop_any(&mut self) -> Option<Key> {
        if self.len == 0 {
            return None;
        }
        let key = self.pools.values_mut().find_map(|pool| pool.idle.pop())?;
        self.len -= 1;
        Some(key)
    }

    /// Follows a new snapshot: the connections to endpoints that are not healthy in it come out, to be
    /// closed, and what those endpoints did in a row is forgotten.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, out: &mut Vec<Key>) {
        let mut left = std::mem::take(&mut self.pools);
        for Endpoint { id, address, .. } in snapshot.endpoints().iter().filter(|e| e.healthy()) {
            let pool = left.remove(id).unwrap_or_else(|| Pool {
                address: address.clone(),
                idle: Vec::new(),
                streaks: Streaks::default(),
            });
            self.pools.insert(*id, pool);
        }
        left.into_values().for_each(|mut pool| out.append(&mut pool.idle));
        self.len -= out.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{EndpointState, Preference};

    fn snapshot(ids: &[(u32, bool)]) -> Snapshot {
        let endpoint = |&(id, healthy): &(u32, bool)| Endpoint {
            id: EndpointId(id),
            address: std::net::SocketAddr::from(([127, 0, 0, 1], 80)).into(),
            target: "t".into(),
            state: if healthy { EndpointState::Up } else { EndpointState::Ejected },
            preference: Preference::default(),
        };
        Snapshot::new(1, ids.iter().map(endpoint).collect())
    }

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    fn keeps(pools: &mut Pools, endpoint: u32, at: u32) -> bool {
        pools.give_back(EndpointId(endpoint), Some(key(at)), 200).kept
    }

    #[test]
    fn the_newest_connection_comes_first_and_the_cap_holds() {
        let mut pools = Pools::new(2, Ejection::default());
        pools.follow(&snapshot(&[(1, true)]), &mut Vec::new());
        assert!(keeps(&mut pools, 1, 1) && keeps(&mut pools, 1, 2));
        assert!(!keeps(&mut pools, 1, 3), "the stack is full");
        assert!(!keeps(&mut pools, 2, 3), "the endpoint is not known");
        assert_eq!(pools.pop(EndpointId(1)), Some(key(2)));
        pools.forget(EndpointId(1), key(1));
        assert_eq!((pools.pop(EndpointId(1)), pools.len()), (None, 0));
    }

    #[test]
    fn connections_to_an_endpoint_that_went_down_come_out() {
        let mut pools = Pools::new(8, Ejection::default());
        pools.follow(&snapshot(&[(1, true), (2, true)]), &mut Vec::new());
        assert!(keeps(&mut pools, 1, 1) && keeps(&mut pools, 2, 2));
        let mut out = Vec::new();
        pools.follow(&snapshot(&[(1, false), (2, true)]), &mut out);
        assert_eq!((out, pools.len()), (vec![key(1)], 1));
        assert_eq!(pools.pop_any(), Some(key(2)));
        assert_eq!(pools.pop_any(), None);
    }

    #[test]
    fn an_answer_ends_a_streak_whether_or_not_its_connection_is_kept() {
        for key in [None, Some(key(1))] {
            let mut pools = Pools::new(0, Ejection { resets: 2, ..Ejection::default() });
            pools.follow(&snapshot(&[(1, true)]), &mut Vec::new());
            let failed = |pools: &mut Pools| pools.failed(EndpointId(1), Streak::Resets);
            assert_eq!(failed(&mut pools), None);
            assert!(!pools.give_back(EndpointId(1), key, 200).kept);
            assert_eq!((failed(&mut pools), failed(&mut pools)), (None, Some(2)));
        }
    }

    #[test]
    fn an_endpoint_that_is_out_has_no_streaks_and_begins_anew_when_it_is_back() {
        let mut pools = Pools::new(8, Ejection { connect_failures: 2, ..Ejection::default() });
        let mut failed = |health: bool| {
            pools.follow(&snapshot(&[(1, health)]), &mut Vec::new());
            pools.failed(EndpointId(1), Streak::ConnectFailures)
        };
        assert_eq!(
            [true, false, false, true, true].map(&mut failed),
            [None, None, None, None, Some(2)]
        );
    }
}
