//! Names to places, off the health thread: a name server may be silent for seconds, and no probe may wait for that.
//!
//! Owns one thread with the only asynchronous runtime of the program, which serves all lookups at once and
//! ends when the health thread drops its end of their channel; without a name there is neither. `dns` is
//! what is asked there; where the system's configuration cannot be read it is the C library, which blocks, on at
//! most [`BLOCKING`] threads of the runtime, for whom nobody waits. When names are looked up is `names`' business.

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::base::address::Address;
use crate::base::shortage::Shortage;

use super::dns::NameServers;
use super::lookup::{LookupResult, Wanted};
use super::place::{Place, one_for_each_address};
use super::sockets::is_ours;
use super::wake::Wake;

/// Turns a host name and a port into socket addresses. May block. An error or no address at all
/// means that the name does not resolve now.
pub(super) type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Blocking lookups at once.
const BLOCKING: usize = 4;

/// What a blocking lookup gets. One that takes longer is left to itself.
const BLOCKING_DEADLINE: Duration = Duration::from_secs(4);

/// What the system's configuration is read from.
const SYSTEM_FILES: [&str; 2] = [RESOLV_CONF, HOSTS];
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// A name to look up for the target of this number.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) target: usize,
    pub(super) wanted: Wanted,
}

/// What became of a [`Query`].
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) target: usize,
    pub(super) finding: LookupResult,
}

/// Who is asked.
pub(super) enum NameSource {
    /// These name servers.
    Servers(Vec<SocketAddr>),
    /// Those of the system.
    System,
    /// A function, which may block.
    Function(Arc<Resolve>),
}

/// The health thread's end of the resolver thread. The channels need no bound of their own: a
/// target has at most one lookup under way.
pub(super) struct Resolvers {
    /// `None`: there was no name to ask for yet.
    queries: Option<UnboundedSender<Query>>,
    answers: Receiver<Resolved>,
    /// What the thread gets when it starts.
    outset: Option<(NameSource, ResolvedQueue)>,
}

impl Resolvers {
    /// Starts the thread, unless there are no `names`. Fails when it or its runtime cannot be created.
    pub(super) fn start(names: usize, source: NameSource, wake: &Arc<Wake>) -> io::Result<Self> {
        let (outbox, answers) = unbounded();
        let queue = ResolvedQueue { outbox, wake: Arc::clone(wake) };
        let mut resolvers = Resolvers { queries: None, answers, outset: Some((source, queue)) };
        resolvers.follow(names)?;
        Ok(resolvers)
    }

    /// There are so many `names` now: starts the thread if it has not been needed before. Fails as [`Resolvers::start`].
    pub(super) fn follow(&mut self, names: usize) -> io::Result<()> {
        if names == 0 || self.outset.is_none() {
            return Ok(());
        }
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING)
            .thread_name("health-lookup")
            .build()?;
        let (queries, inbox) = unbounded_channel();
        let Some((source, queue)) = self.outset.take() else { return Ok(()) };
        thread::Builder::new()
            .name("health-resolve".into())
            .spawn(move || serve(runtime, inbox, &queue, source))?;
        self.queries = Some(queries);
        Ok(())
    }

    /// Hands a lookup to the thread; its answer comes with a wake. Never blocks.
    pub(super) fn ask(&self, query: Query) {
        if let Some(queries) = &self.queries {
            // Fails only without the thread, which outlives this value.
            let _ = queries.send(query);
        }
    }

    /// The next answer, if there is one.
    pub(super) fn next_answer(&self) -> Option<Resolved> {
        self.answers.try_recv().ok()
    }
}

/// The way back to the health thread.
#[derive(Clone)]
struct ResolvedQueue {
    outbox: Sender<Resolved>,
    wake: Arc<Wake>,
}

impl ResolvedQueue {
    fn send(&self, answer: Resolved) {
        if self.outbox.send(answer).is_ok() {
            self.wake.wake();
        }
    }
}

/// Answers until the health thread has ended; then leaves what is under way to itself.
fn serve(
    runtime: Runtime,
    mut inbox: UnboundedReceiver<Query>,
    queue: &ResolvedQueue,
    source: NameSource,
) {
    runtime.block_on(async {
        let mut resolver = Resolver::new(source);
        while let Some(Query { target, wanted }) = inbox.recv().await {
            resolver.reread();
            let (backend, queue) = (resolver.backend().clone(), queue.clone());
            let first = queue.clone();
            let early = move |places| {
                let finding = LookupResult::Early(one_for_each_address(places));
                first.send(Resolved { target, finding });
            };
            tokio::spawn(async move {
                // A task of its own, so that a panic in a library is a failed lookup and no more.
                let lookup = tokio::spawn(backend.look_up(wanted, early)).await;
                let finding =
                    lookup.unwrap_or_else(|_| LookupResult::Failed("the resolver panicked".into()));
                queue.send(Resolved { target, finding });
            });
        }
    });
    runtime.shutdown_background();
}

/// Who is asked, ready to be asked.
enum Resolver {
    Fixed(Backend),
    /// The system's, read anew when one of its files has changed, as the C library does.
    System {
        files: Option<[Stamp; 2]>,
        backend: Backend,
    },
}

#[derive(Clone)]
enum Backend {
    NameServers(Arc<NameServers>),
    Function(Blocking),
}

/// A function that may block, and who may be in it.
#[derive(Clone)]
struct Blocking {
    resolve: Arc<Resolve>,
    permits: Arc<Semaphore>,
}

impl Blocking {
    fn on(resolve: Arc<Resolve>) -> Backend {
        Backend::Function(Blocking { resolve, permits: Arc::new(Semaphore::new(BLOCKING)) })
    }

    /// A lookup that hangs keeps its permit, and its end no longer matters.
    async fn look_up(self, name: Arc<str>, port: u16) -> LookupResult {
        let Blocking { resolve, permits } = self;
        let lookup = async {
            let permit = permits.acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                resolve(&name, port)
            })
            .await
        };
        match timeout(BLOCKING_DEADLINE, lookup).await {
            Ok(Ok(result)) => of_function(result),
            Ok(Err(_)) => LookupResult::Failed("the resolver panicked".into()),
            Err(_) => LookupResult::Failed("the resolver does not answer".into()),
        }
    }
}

impl Resolver {
    fn new(source: NameSource) -> Self {
        match source {
            NameSource::Servers(servers) => Resolver::Fixed(
                NameServers::new(&servers).map_or_else(|error| fall_back(&error), Backend::of),
            ),
            NameSource::Function(resolve) => Resolver::Fixed(Blocking::on(resolve)),
            NameSource::System => {
                Resolver::System { files: None, backend: Blocking::on(Arc::new(c_library)) }
            }
        }
    }

    /// Whom to ask.
    fn backend(&self) -> &Backend {
        match self {
            Resolver::Fixed(backend) | Resolver::System { backend, .. } => backend,
        }
    }

    /// Reads the system's files again, if they are what says whom to ask and one of them has changed.
    fn reread(&mut self) {
        let Resolver::System { files, backend } = self else { return };
        let now = SYSTEM_FILES.map(stamp);
        let before = files.replace(now);
        if before == Some(now) {
            return;
        }
        let fell_back = before.is_some() && matches!(backend, Backend::Function(_));
        match system() {
            Ok(servers) => *backend = Backend::of(servers),
            // For lack of something here: whoever was asked is asked on, and the files are read next time.
            Err(Unread::Short) => *files = before,
            Err(Unread::Useless(_)) if fell_back => {} // already logged
            Err(Unread::Useless(error)) => *backend = fall_back(&error),
        }
    }
}

/// Why the system's configuration is not known.
enum Unread {
    /// This process lacks what reading it takes.
    Short,
    Useless(String),
}

/// The system's name servers, with its hosts file.
fn system() -> Result<NameServers, Unread> {
    let failed = |path: &str, error: io::Error| match Shortage::of(&error) {
        Some(_) => Unread::Short,
        None => Unread::Useless(format!("{path}: {error}")),
    };
    let resolv_conf = fs::read(RESOLV_CONF).map_err(|error| failed(RESOLV_CONF, error))?;
    let hosts = match fs::read(HOSTS) {
        Ok(hosts) => hosts,
        Err(error) if Shortage::of(&error).is_some() => return Err(Unread::Short),
        // A file that is not there is an empty one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            log::warn!("{HOSTS} cannot be read, and is treated as empty: {error}");
            Vec::new()
        }
    };
    NameServers::from_resolv_conf(&resolv_conf, &hosts)
        .map_err(|error| Unread::Useless(format!("{RESOLV_CONF}: {error}")))
}

/// Says so: the C library gives no TTLs and no SRV records.
fn fall_back(error: &str) -> Backend {
    log::warn!(
        "falling back to getaddrinfo, which knows no TTLs and no SRV records: {error}; \
         set servers in [dns] to query name servers directly"
    );
    Blocking::on(Arc::new(c_library))
}

/// What changes with a file; `None`: it cannot be read.
type Stamp = Option<(i64, i64, u64, u64)>;

fn stamp(path: &str) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((file.mtime(), file.mtime_nsec(), file.ino(), file.len()))
}

impl Backend {
    fn of(servers: NameServers) -> Self {
        Backend::NameServers(Arc::new(servers))
    }

    async fn look_up(
        self,
        wanted: Wanted,
        early: impl Fn(Vec<Place>) + Send + Sync + 'static,
    ) -> LookupResult {
        match (self, wanted) {
            (Backend::NameServers(servers), wanted) => servers.look_up(&wanted, &early).await,
            (Backend::Function(blocking), Wanted::Host { name, port }) => {
                blocking.look_up(name, port).await
            }
            (Backend::Function(_), Wanted::Service(_)) => LookupResult::Failed(
                "SRV records need a name server, and none is known; write [dns] servers".into(),
            ),
        }
    }
}

/// The system's resolver: hosts file, name servers, whatever the C library is configured to use.
fn c_library(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// A function cannot tell a name that is gone from servers that are silent.
fn of_function(result: io::Result<Vec<SocketAddr>>) -> LookupResult {
    match result {
        Ok(addresses) if addresses.is_empty() => {
            LookupResult::Failed("the name has no address".into())
        }
        Ok(addresses) => {
            let place = |address| Place::plain(Address::Ip(address));
            LookupResult::of(addresses.into_iter().map(place).collect(), None, None)
        }
        Err(error) if is_ours(&error) => LookupResult::Short(error.to_string()),
        Err(error) => LookupResult::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    fn run(resolve: Arc<Resolve>, wanted: Wanted) -> LookupResult {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(Blocking::on(resolve).look_up(wanted, |_| panic!("it finds all at once")))
    }

    fn look(
        resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> LookupResult {
        run(Arc::new(resolve), Wanted::Host { name: "name".into(), port: 80 })
    }

    #[test]
    fn addresses_come_sorted_and_once_each() {
        let found = look(|_, _| Ok(vec![address(3), address(1), address(3)]));
        let places = [1, 3].map(|last| Place::plain(address(last).into())).into();
        assert_eq!(found, LookupResult::Places { places, ttl: None, missing: None });
    }

    #[test]
    fn no_address_is_a_failure_and_a_panic_is_one_too() {
        assert!(matches!(look(|_, _| Ok(Vec::new())), LookupResult::Failed(_)));
        assert!(matches!(look(|_, _| panic!("a bug in the resolver")), LookupResult::Failed(_)));
    }

    #[test]
    fn the_c_library_has_no_srv_records_and_the_failure_says_the_remedy() {
        let found = run(Arc::new(c_library), Wanted::Service("_http._tcp.a".into()));
        assert!(
            matches!(&found, LookupResult::Failed(why) if why.contains("[dns] servers")),
            "{found:?}"
        );
    }

    #[test]
    fn the_c_library_knows_localhost_without_a_name_server() {
        let found = c_library("localhost", 81).unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 81));
        assert!(!found.is_empty());
    }

    #[test]
    fn without_a_name_there_is_no_thread() {
        let wake = Arc::new(Wake::new().unwrap());
        let resolvers = Resolvers::start(0, NameSource::System, &wake).unwrap();
        assert!(resolvers.queries.is_none());
    }
}
