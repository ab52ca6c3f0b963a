//! The health thread: probes every endpoint, judges rise and fall, resolves names, and publishes what
//! it knows as [`balance::Snapshot`](crate::balance::Snapshot)s.
//!
//! This room owns the probes' sockets and its threads; it serves no client and picks nothing.
//! Invariants: one thread is the only publisher of snapshots; no probe and no name delays another;
//! workers that report never wait. A name with two addresses has two endpoints.
//!
//! | file | what |
//! | --- | --- |
//! | `monitor` | the thread: wait, take, begin, publish |
//! | `schedule` | when each endpoint is probed (pure) |
//! | `flight` | the probes in flight and the wait for them |
//! | `probe` | one probe over one socket |
//! | `judge` | rise and fall (pure) |
//! | `checked` | one endpoint: what checks and workers make of it (pure) |
//! | `ejection` | who is taken out for what workers saw, and how long (pure) |
//! | `place` | where a name says that endpoints are (pure) |
//! | `history` | the past of an endpoint, for people (pure) |
//! | `steering` | what somebody decides about a target meanwhile (pure) |
//! | `families` | which address family of a host has its turns (pure) |
//! | `roster` | which endpoints there are; makes snapshots (pure) |
//! | `record` | what is known of an endpoint, for another process (pure) |
//! | `names` | when each name is looked up, and what its answers come to (pure) |
//! | `lookup` | what is looked up for a target, and what a lookup found (pure) |
//! | `resolve` | names to places, on a thread of its own |
//! | `dns` | one lookup: what is asked of name servers |
//! | `servers` | which name server is asked when, with EDNS or without |
//! | `sockets` | the sockets of lookups, and what this process lacked for them |
//! | `hosts` | the hosts file (pure) |
//! | `handover` | who decides over a plan that may be withdrawn |
//! | `wake` | how other threads end the health thread's wait |

mod checked;
mod dns;
mod ejection;
mod families;
mod flight;
mod handover;
mod history;
mod hosts;
mod judge;
mod lookup;
mod monitor;
mod names;
mod place;
mod probe;
mod record;
mod resolve;
mod roster;
mod schedule;
mod servers;
mod sockets;
mod steering;
mod wake;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};

use crate::balance::{EndpointId, Report, Shared};
use crate::metrics::Counters;
use crate::settings::{Dns, Plan};

use flight::InFlight;
use handover::Handover;
use monitor::{Inputs, Monitor, NewOrder, NewPlan};
pub use record::EndpointRecord;
use resolve::{NameSource, Resolvers};
use roster::Roster;
pub use steering::{SteerError, SteerOrder, Steered};
use wake::Wake;

/// Reports that wait for the health thread at most; more are dropped, and lose nothing: whoever
/// fails again reports again.
const REPORTS: usize = 1024;

/// How long the health thread may take to begin with a plan; then it is withdrawn. A turn waits for nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// One report on its way to the health thread.
#[derive(Debug)]
struct Received {
    endpoint: EndpointId,
    report: Report,
    at: Instant,
}

/// How workers tell the health thread what they saw. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter {
    reports: Sender<Received>,
    wake: Arc<Wake>,
}

impl Reporter {
    /// Has the endpoint probed at once, or 100 ms after the last probe that a report caused. A
    /// [`Report::Streak`] has it taken out at once if it is up and not too many are out. Never blocks: when too many reports
    /// wait, or the health thread has ended, this one is dropped.
    pub fn report(&self, endpoint: EndpointId, report: Report) {
        let received = Received { endpoint, report, at: Instant::now() };
        if self.reports.try_send(received).is_ok() {
            self.wake.wake();
        }
    }
}

/// Asks the health thread for what it knows.
#[derive(Debug)]
pub struct Recorder {
    records: Sender<Sender<Vec<EndpointRecord>>>,
    wake: Arc<Wake>,
}

impl Recorder {
    /// What is known of each endpoint.
    ///
    /// # Errors
    /// The thread does not answer.
    pub fn records(&self) -> io::Result<Vec<EndpointRecord>> {
        let (sender, records) = bounded(1);
        let asked = self.records.send_timeout(sender, PATIENCE).is_ok();
        self.wake.wake();
        let records = records.recv_timeout(if asked { PATIENCE } else { Duration::ZERO });
        records.map_err(|_| silent())
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the health thread does not answer")
}

/// The running health thread. Dropping it stops the thread.
#[derive(Debug)]
pub struct Health {
    reporter: Reporter,
    plans: Sender<NewPlan>,
    orders: Sender<NewOrder>,
    records: Sender<Sender<Vec<EndpointRecord>>>,
    counters: Arc<Counters>,
    first_round: Arc<Latch>,
    thread: Option<JoinHandle<()>>,
}

impl Health {
    /// Publishes a first snapshot (every endpoint whose address needs no lookup, none healthy), starts the thread,
    /// and with it the first round: every name is resolved and every endpoint probed at once. From then
    /// on each is probed once in its interval, 90 to 100 % of it after the last time. The plan's
    /// `ejection` says for how long an endpoint is taken out for what workers report, and how many of them at once; the plan
    /// is part of every snapshot. `dns` says
    /// who is asked for names; where no target is one, nobody is, and there is no thread for it.
    ///
    /// # Errors
    /// When an eventfd, an epoll, a thread or its runtime cannot be made.
    pub fn start(plan: Arc<Plan>, dns: Dns, shared: Arc<Shared>) -> io::Result<Health> {
        Health::start_after(Vec::new(), plan, dns, shared)
    }

    /// Like [`Health::start`], going on from what another process has recorded: an endpoint that was up may be picked
    /// immediately, one that was down or ejected has to pass its checks. The first round looks at all of them all the same.
    ///
    /// # Errors
    /// As [`Health::start`].
    pub fn start_after(
        records: Vec<EndpointRecord>,
        plan: Arc<Plan>,
        dns: Dns,
        shared: Arc<Shared>,
    ) -> io::Result<Health> {
        let servers = dns.servers;
        let source =
            if servers.is_empty() { NameSource::System } else { NameSource::Servers(servers) };
        Health::start_asking(records, plan, shared, source)
    }

    /// Like [`Health::start`], with a function in place of name servers, as the C library is one: it turns a host name
    /// and a port into socket addresses; an error or no address at all means that the name does not
    /// resolve now. It may block, since it is called on at most four threads of its own; its answers
    /// have no TTL, so that it is asked once in the interval of the target's probes.
    ///
    /// # Errors
    /// As [`Health::start`].
    pub fn start_with(
        plan: Arc<Plan>,
        shared: Arc<Shared>,
        resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> io::Result<Health> {
        Health::start_asking(Vec::new(), plan, shared, NameSource::Function(Arc::new(resolve)))
    }

    fn start_asking(
        records: Vec<EndpointRecord>,
        plan: Arc<Plan>,
        shared: Arc<Shared>,
        source: NameSource,
    ) -> io::Result<Health> {
        let wake = Arc::new(Wake::new()?);
        let roster = Roster::after(records, plan, Instant::now());
        let resolvers = Resolvers::start(roster.names().count(), source, &wake)?;
        let counters = Arc::<Counters>::default();
        let (sender, reports) = bounded(REPORTS);
        let (plans, new_plans) = bounded(1);
        let (orders, new_orders) = bounded(1);
        let (records, asked) = bounded(1);
        let inputs = Inputs {
            reports,
            plans: new_plans,
            orders: new_orders,
            records: asked,
            resolvers,
            wake: Arc::clone(&wake),
            counters: Arc::clone(&counters),
        };
        let first_round = Arc::new(Latch::default());
        let latch = Arc::clone(&first_round);
        // Another seed in each process: balancers started together must not probe in step.
        let seed = RandomState::new().build_hasher().finish();
        let flight = InFlight::new(Arc::clone(&wake))?;
        let monitor = Monitor::new(roster, flight, inputs, shared, latch, seed, Instant::now());
        let thread = thread::Builder::new().name("health".into()).spawn(|| monitor.run())?;
        let reporter = Reporter { reports: sender, wake };
        Ok(Health { reporter, plans, orders, records, counters, first_round, thread: Some(thread) })
    }

    /// A way to report failures, for a worker.
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Blocks for at most `patience` until the first round is over: the first probe of every endpoint
    /// ended or timed out, at the latest 5 s and the longest probe timeout after the start. Returns
    /// whether it is over; call it in a loop to do something else meanwhile.
    pub fn wait_first_round(&self, patience: Duration) -> bool {
        self.first_round.wait(patience)
    }

    /// Checks the targets of `plan` from now on, and publishes it. Those that stay keep their endpoints, and what is known of
    /// them; new ones are checked at once, and a healthy one that goes stays until they have been. Returns the
    /// generation of the first snapshot with this plan.
    ///
    /// # Errors
    /// No thread can be started for the first name among the targets, or the health thread does not answer.
    pub fn follow(&self, plan: Arc<Plan>) -> io::Result<u64> {
        let (applied, reply) = bounded(1);
        let handover = Arc::new(Handover::default());
        let new = NewPlan { plan, handover: Arc::clone(&handover), applied };
        self.plans.send_timeout(new, PATIENCE).map_err(|_| silent())?;
        self.reporter.wake.wake();
        match reply.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            // Withdrawn before the thread has taken it.
            Err(_) if handover.take() => Err(silent()),
            // It is being applied, which waits for nothing.
            Err(_) => reply.recv().unwrap_or_else(|_| Err(silent())),
        }
    }

    /// Decides about a target, and publishes that. What was decided, and the generation of the first snapshot that shows it.
    ///
    /// # Errors
    /// The health thread does not answer.
    pub fn steer(&self, order: SteerOrder) -> io::Result<(Result<Steered, SteerError>, u64)> {
        let (decided, reply) = bounded(1);
        let order = NewOrder { order, decided };
        self.orders.send_timeout(order, PATIENCE).map_err(|_| silent())?;
        self.reporter.wake.wake();
        reply.recv_timeout(PATIENCE).map_err(|_| silent())
    }

    /// What the thread counts: failed checks and ejections by reason.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// A way to ask for what is known of all endpoints, for another thread.
    pub fn recorder(&self) -> Recorder {
        Recorder { records: self.records.clone(), wake: Arc::clone(&self.reporter.wake) }
    }

    /// Ends the thread, within a fraction of a second, and waits for that. The last snapshot stays
    /// published.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.reporter.wake.stop();
        if let Some(thread) = self.thread.take() {
            crate::base::thread::end(thread, "health");
        }
    }
}

/// Opens once.
#[derive(Debug, Default)]
struct Latch {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    fn wait(&self, patience: Duration) -> bool {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.opened.wait_timeout_while(is_open, patience, |is_open| !*is_open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
