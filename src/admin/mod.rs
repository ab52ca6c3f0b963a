//! The admin thread: `/metrics` for Prometheus, `/status` for programs, `/healthz` for whoever routes to
//! this process, and a page for people that draws what they say.
//!
//! Owns its listener, its visitors and all formatting. It only reads: the workers' counters and loads and
//! the published snapshot; no worker ever waits for it or formats text for it. Invariants: one thread,
//! which yields to the workers; whoever asks costs a bounded head for a bounded time, and never makes
//! another wait; every connection ends after one answer.
//!
//! | file | what |
//! | --- | --- |
//! | `visit` | one visitor's connection: ask, answer, leave |
//! | `serve` | the thread: wait, admit, step, expire |
//! | `request` | the bytes of a head to what is asked for (pure) |
//! | `permit` | who may give commands |
//! | `answer` | what is asked for to the bytes of an answer (pure) |
//! | `page` | the page for people (pure); its parts are in `page/` |
//! | `view` | what is shown, read at one moment |
//! | `process` | what the kernel says of this process |
//! | `prometheus`, `exchanges`, `endpoints` | a view as metrics, family by family (pure) |
//! | `exposition` | the two formats of metrics, and which one is asked for (pure) |
//! | `status`, `targets` | a view as JSON, and its targets (pure) |
//! | `recent` | exchanges that ended last, as JSON (pure) |
//! | `explain` | what would become of a request (pure) |
//! | `steer` | the request to decide about a target (pure) |

mod answer;
mod endpoints;
mod exchanges;
mod explain;
mod exposition;
mod page;
mod permit;
mod process;
mod prometheus;
mod recent;
mod request;
mod serve;
mod status;
mod steer;
mod targets;
mod view;
mod visit;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::channel::{Sender, bounded, unbounded};
use rustix::event::{EventfdFlags, eventfd};
use socket2::{Domain, Protocol, Socket, Type};

use crate::balance::{Shared, Snapshot};
use crate::command::Commands;
use crate::metrics::accepts::AcceptCounts;
use crate::metrics::endpoint::EndpointTotals;
use crate::metrics::traffic::{Traffic, TrafficCounts};
use crate::metrics::{Counters, Counts};
use crate::settings::Plan;
use crate::token::AdminToken;
use crate::worker::Crew;
use serve::Serve;

/// Descriptors that it may need: two listeners, two eventfds, its visitors, and one that comes. Fewer come if there is only
/// the control socket.
pub fn most_descriptors(has_listener: bool) -> u64 {
    serve::most_visits(has_listener) as u64 + 5
}

/// How long the thread may take to begin with what it is to do. It waits for nobody.
const PATIENCE: Duration = Duration::from_secs(2);

/// Visitors that may wait in the kernel.
const BACKLOG: i32 = 128;

/// Where the admin thread reads what it shows.
#[derive(Clone)]
pub struct Sources {
    /// Loads, counters, panics, cap and stage.
    pub workers: Arc<Crew>,
    /// The published snapshot.
    pub shared: Arc<Shared>,
    /// What no worker counts: what the access log's writer lost, and whose commands were not taken.
    pub others: Arc<Counters>,
    /// What the health thread counts.
    pub health: Arc<Counters>,
    /// What was counted by the processes before this one.
    pub inherited: Arc<CountedBefore>,
    /// When the process began to serve; uptime counts from here.
    pub started: Instant,
    /// Who takes commands.
    pub commands: Commands,
    /// What whoever gives commands by the admin listener must know; `None`: nobody gives any there.
    pub token: Option<Arc<AdminToken>>,
    /// What holds as long as the process.
    pub fixed: Fixed,
    /// What the process may not do any more: `user evenly, no_new_privs, seccomp`.
    pub confinement: Arc<str>,
    /// The file it runs by, as an absolute path; `None` without one that can be read again.
    pub file: Option<Arc<str>>,
}

/// What the admin thread knows of the settings that hold as long as the process.
#[derive(Clone)]
pub struct Fixed {
    /// Names with a dot by which the admin listener is called.
    pub hosts: Arc<[String]>,
    /// Shows a plan together with them, as a file.
    pub config: Arc<dyn Fn(&Plan) -> String + Send + Sync>,
}

/// What a process has of those whose place it took.
#[derive(Debug, Default)]
pub struct CountedBefore {
    /// The one before this one.
    pub predecessor: Option<u32>,
    /// What they counted.
    pub counters: Counters,
    /// Of exchanges.
    pub traffic: Traffic,
    /// Of endpoints.
    pub endpoints: ArcSwap<CountedEndpoints>,
    /// At each listening address.
    pub accepted: ArcSwap<AcceptCounts>,
    /// Workers of theirs that were restarted after a panic.
    pub panics: AtomicU64,
}

/// What a process has counted, and those before it.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// The counters.
    pub counts: Counts,
    /// What was counted of exchanges.
    pub traffic: TrafficCounts,
    /// What was counted of each endpoint.
    pub endpoints: CountedEndpoints,
    /// Connections by the address that they were accepted at.
    pub accepted: AcceptCounts,
    /// Workers that were restarted after a panic.
    pub panics: u64,
}

/// What was counted of endpoints, by target and address.
pub type CountedEndpoints = BTreeMap<(String, String), EndpointTotals>;

/// The target and address of each endpoint, in their order.
fn named(snapshot: &Snapshot) -> impl Iterator<Item = (String, String)> + '_ {
    snapshot.endpoints().iter().map(|it| (it.target.to_string(), it.address.to_string()))
}

/// A listening socket that visitors come by; it must not block.
#[derive(Debug)]
pub struct Door {
    /// The socket.
    pub socket: Socket,
    /// Commands that come by it are taken without a token.
    pub is_trusted: bool,
}

/// The running admin thread. Dropping it stops the thread.
#[derive(Debug)]
pub struct Admin {
    doors: Arc<Vec<Door>>,
    stop: Arc<OwnedFd>,
    /// Wakes the thread.
    bell: Arc<OwnedFd>,
    orders: Sender<AdminOrder>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is to do.
#[derive(Debug)]
enum AdminOrder {
    /// To let nobody in, and to show what there is now from now on, so that who shows more comes after it; and to say what it shows.
    Freeze(Sender<Totals>),
    /// To do so for those alone who come by the doors that another process has.
    Keep(Shut),
    /// To go on as before that.
    Thaw,
}

/// By which doors nobody is let in.
#[derive(Debug, Clone, Copy)]
struct Shut {
    listener: bool,
    control: bool,
}

impl Shut {
    fn is(self, is_trusted: bool) -> bool {
        if is_trusted { self.control } else { self.listener }
    }
}

/// The admin address, taken but not listened on yet. Unlike the workers' listeners it shares it with nobody.
#[derive(Debug)]
pub struct AdminClaim {
    socket: Socket,
    /// The address, with its port.
    pub address: SocketAddr,
}

/// Takes `address` for the admin listener.
///
/// # Errors
/// When `address` cannot be bound, or somebody listens on it.
pub fn claim(address: SocketAddr) -> io::Result<AdminClaim> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(AdminClaim { socket, address })
}

impl AdminClaim {
    /// Takes over a socket that listens.
    ///
    /// # Errors
    /// It has no address, or cannot be made not to block.
    pub fn adopt(socket: Socket) -> io::Result<AdminClaim> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(AdminClaim { socket, address })
    }

    /// Listens.
    ///
    /// # Errors
    /// When somebody else has begun to.
    pub fn listen(self) -> io::Result<Door> {
        self.socket.listen(BACKLOG)?;
        Ok(Door { socket: self.socket, is_trusted: false })
    }
}

impl Sources {
    /// What has been counted so far.
    pub fn totals(&self) -> Totals {
        let snapshot = self.shared.snapshot.load();
        let workers = self.workers.peers.iter().map(|peer| Counts::of(&peer.counters));
        let others = [&*self.others, &*self.health, &self.inherited.counters].map(Counts::of);
        let panics = [&self.workers.panics, &self.inherited.panics];
        Totals {
            counts: workers.chain(others).sum(),
            traffic: self.traffic(),
            endpoints: named(&snapshot).zip(self.endpoints(&snapshot)).collect(),
            accepted: self.accepted(),
            panics: panics.iter().map(|count| count.load(Ordering::Relaxed)).sum(),
        }
    }

    /// What has been counted of each endpoint of `snapshot` so far.
    fn endpoints(&self, snapshot: &Snapshot) -> Vec<EndpointTotals> {
        let before = self.inherited.endpoints.load();
        let counted = snapshot.endpoints().iter().zip(named(snapshot)).map(|(endpoint, name)| {
            let before = before.get(&name).copied().unwrap_or_default();
            endpoint.served.meters().read().with(before)
        });
        counted.collect()
    }

    /// Connections so far by the address that they were accepted at, of those that are listened on.
    fn accepted(&self) -> AcceptCounts {
        let mut accepted = self.workers.accepted();
        let before = self.inherited.accepted.load();
        accepted.iter_mut().for_each(|(address, count)| {
            *count += before.get(address).copied().unwrap_or_default();
        });
        accepted
    }

    /// What has been counted of exchanges so far.
    fn traffic(&self) -> TrafficCounts {
        let workers = self.workers.peers.iter().map(|peer| &peer.counters.traffic);
        workers.chain([&self.inherited.traffic]).map(TrafficCounts::of).sum()
    }
}

impl Admin {
    /// Serves who comes by these doors, until it is stopped.
    ///
    /// # Errors
    /// When an eventfd or a thread cannot be made.
    pub fn start(doors: Vec<Door>, sources: Sources) -> io::Result<Admin> {
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new);
        let (stop, bell, doors) = (event()?, event()?, Arc::new(doors));
        let (orders, inbox) = unbounded();
        let serve = Serve {
            doors: Arc::clone(&doors),
            stop: Arc::clone(&stop),
            bell: Arc::clone(&bell),
            orders: inbox,
            sources,
        };
        let thread = thread::Builder::new().name("admin".into()).spawn(move || serve.run())?;
        Ok(Admin { doors, stop, bell, orders, thread: Some(thread) })
    }

    /// Asks the thread to end: it serves nobody any more but those who wait for a reply that is about to come. Dropping
    /// this waits for that.
    pub fn begin_to_stop(&self) {
        // Cannot fail: the counter is far from full.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
    }

    /// By which visitors come.
    pub fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// Lets nobody in until [`Admin::thaw`], so that another process may. Whoever is here sees the counters as they were at that
    /// moment: what is returned. `None` if the thread does not answer.
    pub fn freeze(&self) -> Option<Totals> {
        let (sender, totals) = bounded(1);
        self.order(AdminOrder::Freeze(sender));
        totals.recv_timeout(PATIENCE).ok()
    }

    /// Another process serves who comes by the listener, or by the control socket: who comes by what is left to this one is let in
    /// again.
    pub fn keep_from(&self, listener: bool, control: bool) {
        self.order(AdminOrder::Keep(Shut { listener, control }));
    }

    /// Lets visitors in again.
    pub fn thaw(&self) {
        self.order(AdminOrder::Thaw);
    }

    fn order(&self, order: AdminOrder) {
        // Without a thread there is nobody to let in.
        let _ = self.orders.send(order);
        // The counter of the eventfd is far from full.
        let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.begin_to_stop();
        if let Some(thread) = self.thread.take() {
            crate::base::thread::end(thread, "admin");
        }
    }
}
