//! The idle upstream connections of one worker, by endpoint, newest first.
//!
//! Invariants: only connections to endpoints that are healthy in the current snapshot are kept; each
//! endpoint's stack holds at most the configured number; a connection in a stack belongs to no client.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::balance::{EndpointId, Snapshot};
use crate::base::slab::Key;

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

pub(super) struct Pools {
    idle: HashMap<EndpointId, Vec<Key>, BuildHasherDefault<IdHasher>>,
    cap: usize,
    /// Connections in all stacks.
    len: usize,
}

impl Pools {
    pub(super) fn new(cap: usize) -> Self {
        Pools { idle: HashMap::default(), cap, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes the connection to `endpoint` that was used last.
    pub(super) fn pop(&mut self, endpoint: EndpointId) -> Option<Key> {
        let key = self.idle.get_mut(&endpoint)?.pop()?;
        self.len -= 1;
        Some(key)
    }

    /// Keeps a connection. `false` when it is to be closed: the stack is full or the endpoint is not healthy.
    pub(super) fn push(&mut self, endpoint: EndpointId, key: Key) -> bool {
        match self.idle.get_mut(&endpoint) {
            Some(stack) if stack.len() < self.cap => {
                stack.push(key);
                self.len += 1;
                true
            }
            _ => false,
        }
    }

    /// Forgets a connection that ended while it was idle.
    pub(super) fn forget(&mut self, endpoint: EndpointId, key: Key) {
        if let Some(stack) = self.idle.get_mut(&endpoint)
            && let Some(at) = stack.iter().rposition(|&other| other == key)
        {
            stack.remove(at);
            self.len -= 1;
        }
    }

    /// Any idle connection, to be closed when descriptors run out.
    pub(super) fn pop_any(&mut self) -> Option<Key> {
        if self.len == 0 {
            return None;
        }
        let key = self.idle.values_mut().find_map(Vec::pop)?;
        self.len -= 1;
        Some(key)
    }

    /// Follows a new snapshot: the connections to endpoints that are not healthy in it come out, to be closed.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, out: &mut Vec<Key>) {
        for endpoint in snapshot.endpoints().iter().filter(|endpoint| endpoint.healthy) {
            self.idle.entry(endpoint.id).or_default();
        }
        let healthy: std::collections::HashSet<EndpointId, BuildHasherDefault<IdHasher>> =
            snapshot.endpoints().iter().filter(|e| e.healthy).map(|e| e.id).collect();
        self.idle.retain(|id, stack| {
            let keep = healthy.contains(id);
            if !keep {
                out.append(stack);
            }
            keep
        });
        self.len -= out.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Endpoint;

    fn snapshot(ids: &[(u32, bool)]) -> Snapshot {
        let endpoint = |&(id, healthy): &(u32, bool)| Endpoint {
            id: EndpointId(id),
            address: ([127, 0, 0, 1], 80).into(),
            target: "t".into(),
            healthy,
        };
        Snapshot::new(1, ids.iter().map(endpoint).collect())
    }

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    #[test]
    fn the_newest_connection_comes_first_and_the_cap_holds() {
        let mut pools = Pools::new(2);
        pools.follow(&snapshot(&[(1, true)]), &mut Vec::new());
        assert!(pools.push(EndpointId(1), key(1)) && pools.push(EndpointId(1), key(2)));
        assert!(!pools.push(EndpointId(1), key(3)), "the stack is full");
        assert!(!pools.push(EndpointId(2), key(3)), "the endpoint is not known");
        assert_eq!(pools.pop(EndpointId(1)), Some(key(2)));
        pools.forget(EndpointId(1), key(1));
        assert_eq!((pools.pop(EndpointId(1)), pools.len()), (None, 0));
    }

    #[test]
    fn connections_to_an_endpoint_that_went_down_come_out() {
        let mut pools = Pools::new(8);
        pools.follow(&snapshot(&[(1, true), (2, true)]), &mut Vec::new());
        pools.push(EndpointId(1), key(1));
        pools.push(EndpointId(2), key(2));
        let mut out = Vec::new();
        pools.follow(&snapshot(&[(1, false), (2, true)]), &mut out);
        assert_eq!((out, pools.len()), (vec![key(1)], 1));
        assert_eq!(pools.pop_any(), Some(key(2)));
        assert_eq!(pools.pop_any(), None);
    }
}
