//! How many connections each listening address of a worker has accepted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Counter;

/// Connections by the address that they were accepted at.
pub type AcceptCounts = BTreeMap<SocketAddr, u64>;

/// Those of one worker, which alone changes this; anybody may read it.
#[derive(Debug, Default)]
pub struct AcceptCounters(ArcSwap<BTreeMap<SocketAddr, Arc<Counter>>>);

impl AcceptCounters {
    /// The counter of an address, which is there from now on. Only the owner may call this.
    pub fn of(&self, address: SocketAddr) -> Arc<Counter> {
        if let Some(found) = self.0.load().get(&address) {
            return Arc::clone(found);
        }
        let counter = Arc::new(Counter::default());
        let mut counters = BTreeMap::clone(&self.0.load());
        counters.insert(address, Arc::clone(&counter));
        self.0.store(Arc::new(counters));
        counter
    }

    /// Nothing is accepted at this address any more. Only the owner may call this.
    pub fn forget(&self, address: SocketAddr) {
        let mut counters = BTreeMap::clone(&self.0.load());
        counters.remove(&address);
        self.0.store(Arc::new(counters));
    }

    /// Adds what it says now to `sums`.
    pub fn add_to(&self, sums: &mut AcceptCounts) {
        for (address, counter) in self.0.load().iter() {
            *sums.entry(*address).or_default() += counter.get();
        }
    }
}

/// What the keys of these counts begin with, for another process.
const KEY: &str = "accepted.";

/// The key of an address's count.
pub fn accepted_key(address: &SocketAddr) -> String {
    format!("{KEY}{address}")
}

/// The address of which this is the key.
pub fn address_of(key: &str) -> Option<SocketAddr> {
    key.strip_prefix(KEY)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_counter_until_it_is_forgotten() {
        let (here, there) = ("127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap());
        let counters = AcceptCounters::default();
        counters.of(here).bump();
        counters.of(here).bump();
        counters.of(there).bump();
        let read = |counters: &AcceptCounters| {
            let mut sums = AcceptCounts::new();
            counters.add_to(&mut sums);
            sums
        };
        assert_eq!(read(&counters), [(here, 2), (there, 1)].into());
        assert_eq!(address_of(&accepted_key(&there)), Some(there));
        counters.forget(here);
        assert_eq!(read(&counters), [(there, 1)].into());
    }
}
