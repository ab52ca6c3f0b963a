//! Names to addresses, off the health thread: the system's resolver blocks, for seconds if a name
//! server is silent, and no probe may wait for that.
//!
//! Owns at most [`THREADS`] threads, which end when the health thread drops its end of their
//! channels; a thread inside a lookup ends after it, and nobody waits for it. When names are asked for
//! is the health thread's business.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::wake::Wake;

/// Turns a host name and a port into socket addresses. May block. An error or no address at all
/// means that the name does not resolve now.
type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Lookups at once.
const THREADS: usize = 4;

/// A name to look up for the target at this position.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) target: usize,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

/// What became of a [`Query`]. Success has at least one address; they are sorted and all different.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) target: usize,
    pub(super) result: io::Result<Vec<SocketAddr>>,
}

/// The health thread's end of the resolver threads. The channels need no bound of their own: a
/// target has at most one lookup under way.
#[derive(Debug)]
pub(super) struct Resolvers {
    queries: Sender<Query>,
    answers: Receiver<Answer>,
}

impl Resolvers {
    /// Starts as many threads as `names` can keep busy, none for none. Fails when a thread cannot be started.
    pub(super) fn start(
        names: usize,
        resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        wake: &Arc<Wake>,
    ) -> io::Result<Self> {
        let resolve: Arc<Resolve> = Arc::new(resolve);
        let (queries, inbox) = unbounded();
        let (outbox, answers) = unbounded();
        for _ in 0..names.min(THREADS) {
            let (inbox, outbox) = (inbox.clone(), outbox.clone());
            let (resolve, wake) = (Arc::clone(&resolve), Arc::clone(wake));
            thread::Builder::new()
                .name("health-resolve".into())
                .spawn(move || answer_all(&inbox, &outbox, &*resolve, &wake))?;
        }
        Ok(Resolvers { queries, answers })
    }

    /// Hands a lookup to the threads; its answer comes with a wake. Never blocks.
    pub(super) fn ask(&self, query: Query) {
        // Fails only with no thread left, and they outlive this value.
        let _ = self.queries.send(query);
    }

    /// The next answer, if there is one.
    pub(super) fn next_answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

/// The system's resolver: hosts file, name servers, whatever the C library is told to use.
pub(super) fn system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

fn answer_all(inbox: &Receiver<Query>, outbox: &Sender<Answer>, resolve: &Resolve, wake: &Wake) {
    for query in inbox {
        let answer = Answer { target: query.target, result: look_up(&query, resolve) };
        if outbox.send(answer).is_err() {
            return;
        }
        wake.wake();
    }
}

fn look_up(query: &Query, resolve: &Resolve) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = catch_unwind(AssertUnwindSafe(|| resolve(&query.host, query.port)))
        .unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")))?;
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(resolve: &Resolve) -> io::Result<Vec<SocketAddr>> {
        look_up(&Query { target: 0, host: "name".into(), port: 80 }, resolve)
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    #[test]
    fn addresses_come_sorted_and_once_each() {
        let found = look(&|_, _| Ok(vec![address(3), address(1), address(3)])).unwrap();
        assert_eq!(found, [address(1), address(3)]);
    }

    #[test]
    fn no_address_is_an_error_and_a_panic_is_one_too() {
        assert!(look(&|_, _| Ok(Vec::new())).is_err());
        assert!(look(&|_, _| panic!("a bug in the resolver")).is_err());
    }

    #[test]
    fn the_system_resolver_knows_localhost_without_a_name_server() {
        let found = system("localhost", 81).unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 81));
        assert!(!found.is_empty());
    }
}
