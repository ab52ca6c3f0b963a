//! What is shown, read at one moment: the only file of this room that touches what others write.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::access::recorder::{FlightRecorder, RawRecord};
use crate::balance::Snapshot;
use crate::balance::detail::Moment;
use crate::metrics::Counts;
use crate::metrics::accepts::AcceptCounts;
use crate::metrics::endpoint::EndpointTotals;
use crate::metrics::traffic::TrafficCounts;
use crate::settings::Plan;
use crate::worker::Stage;

use super::process::ProcessView;
use super::{Sources, Totals, named};

/// One moment of the process.
#[derive(Clone)]
pub(super) struct View {
    pub(super) version: &'static str,
    /// When this is.
    pub(super) now: Moment,
    pub(super) pid: u32,
    pub(super) uptime: Duration,
    pub(super) stage: Stage,
    /// Client connections there may be.
    pub(super) cap: usize,
    pub(super) panics: u64,
    /// Every setting that is in force, as a file.
    pub(super) config: Arc<dyn Fn(&Plan) -> String + Send + Sync>,
    /// What the process may not do any more.
    pub(super) confinement: Arc<str>,
    /// The file it runs by.
    pub(super) file: Option<Arc<str>>,
    /// Bytes that buffers hold, and that they may hold.
    pub(super) memory: (usize, usize),
    pub(super) workers: Vec<WorkerView>,
    /// The exchanges of each worker that ended last, as they are when they are asked for.
    pub(super) recorders: Vec<Arc<FlightRecorder>>,
    /// What no worker of this process counts.
    pub(super) others: Counts,
    /// What was counted of exchanges.
    pub(super) traffic: TrafficCounts,
    /// Exchanges that have begun and not ended.
    pub(super) in_flight: u64,
    /// What was counted of each endpoint, in the order of the snapshot.
    pub(super) endpoints: Vec<EndpointTotals>,
    /// Connections by the address that they were accepted at.
    pub(super) accepted: AcceptCounts,
    /// Whether the last reload was refused, and when one was last applied.
    pub(super) last_reload: (u64, u64),
    /// Generations of snapshots that somebody follows.
    pub(super) generations: usize,
    /// What the kernel says.
    pub(super) process: ProcessView,
    /// The process whose place this one took.
    pub(super) predecessor: Option<u32>,
    pub(super) snapshot: Arc<Snapshot>,
}

/// One moment of a worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WorkerView {
    /// Client connections it has.
    pub(super) connections: usize,
    pub(super) counts: Counts,
}

impl View {
    pub(super) fn read(sources: &Sources) -> View {
        let workers = &sources.workers;
        let peers = workers.peers.iter().map(|peer| WorkerView {
            connections: peer.connections(),
            counts: Counts::of(&peer.counters),
        });
        let (snapshot, reload) = (sources.shared.snapshot.load_full(), &sources.shared.last_reload);
        View {
            version: env!("CARGO_PKG_VERSION"),
            now: Moment::now(),
            pid: std::process::id(),
            uptime: sources.started.elapsed(),
            stage: workers.stage(),
            cap: workers.cap(),
            panics: [&workers.panics, &sources.inherited.panics]
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .sum(),
            config: Arc::clone(&sources.fixed.config),
            confinement: Arc::clone(&sources.confinement),
            file: sources.file.clone(),
            memory: (sources.shared.memory.held(), sources.shared.memory.limit()),
            workers: peers.collect(),
            recorders: workers.peers.iter().map(|peer| Arc::clone(&peer.recorder)).collect(),
            others: [&*sources.others, &*sources.health, &sources.inherited.counters]
                .map(Counts::of)
                .into_iter()
                .sum(),
            traffic: sources.traffic(),
            endpoints: sources.endpoints(&snapshot),
            accepted: sources.accepted(),
            last_reload: (reload.refused.get(), reload.applied_at.get()),
            generations: workers.generations(snapshot.generation),
            process: ProcessView::read(),
            in_flight: workers.peers.iter().map(|it| it.counters.traffic.in_flight.get()).sum(),
            predecessor: sources.inherited.predecessor,
            snapshot,
        }
    }

    /// The counts of all workers together, and what no worker counts.
    pub(super) fn totals(&self) -> Counts {
        self.workers.iter().map(|worker| worker.counts).chain([self.others]).sum()
    }

    /// What it shows that another process goes on from.
    pub(super) fn sums(&self) -> Totals {
        Totals {
            counts: self.totals(),
            traffic: self.traffic.clone(),
            endpoints: named(&self.snapshot).zip(self.endpoints.iter().copied()).collect(),
            accepted: self.accepted.clone(),
            panics: self.panics,
        }
    }

    /// The `most` exchanges that ended last, the oldest of them first, with the number of the worker that each was with.
    pub(super) fn exchanges(&self, most: usize) -> Vec<(usize, RawRecord)> {
        self.records(most, |recorder| recorder.exchanges(most))
    }

    /// Those that went wrong last, likewise.
    pub(super) fn errors(&self, most: usize) -> Vec<(usize, RawRecord)> {
        self.records(most, |recorder| recorder.errors(most))
    }

    fn records(
        &self,
        most: usize,
        of: impl Fn(&FlightRecorder) -> Vec<RawRecord>,
    ) -> Vec<(usize, RawRecord)> {
        let of_worker = |(worker, recorder): (usize, &Arc<FlightRecorder>)| {
            of(recorder).into_iter().map(move |record| (worker, record))
        };
        let mut found: Vec<_> = self.recorders.iter().enumerate().flat_map(of_worker).collect();
        // Those of one worker stay as they are where that is the same.
        found.sort_by_key(|(_, record)| record.ended());
        found.split_off(found.len().saturating_sub(most))
    }

    /// Client connections of all workers.
    pub(super) fn connections(&self) -> usize {
        self.workers.iter().map(|worker| worker.connections).sum()
    }

    /// A moment for tests: two workers, two endpoints, one of them ejected, and a target without one.
    #[cfg(test)]
    pub(super) fn sample() -> View {
        use std::net::SocketAddr;

        use crate::balance::{Endpoint, EndpointId, EndpointState, Preference, Served, Unresolved};
        use crate::metrics::traffic::{Traffic, Way};
        let endpoint = |id: u32, state| Endpoint {
            id: EndpointId(id),
            address: SocketAddr::from(([192, 0, 2, 1], 8001 + u16::try_from(id).unwrap())).into(),
            target: format!("api-{id}:80").into(),
            state,
            preference: Preference::default(),
            absent: false,
            served: Served::default(),
        };
        let unresolved =
            Unresolved { target: "api-2:80".into(), reason: "no name server responded".into() };
        let counters = crate::metrics::Counters::default();
        counters.requests.bump();
        let traffic = Traffic::default();
        traffic.ended(0, 200);
        traffic.durations.observe(7_000);
        traffic.moved(Way::ToClients, 40);
        let worker = WorkerView { connections: 2, counts: Counts::of(&counters) };
        View {
            version: "1.2.3",
            now: Moment::now(),
            pid: 4711,
            uptime: Duration::from_millis(12_345),
            stage: Stage::Running,
            cap: 500,
            panics: 1,
            config: Arc::new(|plan| format!("# targets: {}\n", plan.targets.len())),
            confinement: "user evenly, no_new_privs".into(),
            file: Some("/etc/evenly.toml".into()),
            memory: (1 << 19, 1 << 30),
            workers: vec![worker, WorkerView { connections: 3, ..worker }],
            recorders: Vec::new(),
            others: Counts::default(),
            traffic: TrafficCounts::of(&traffic),
            in_flight: 2,
            endpoints: vec![EndpointTotals { passed: 3, ..EndpointTotals::default() }; 2],
            accepted: [(SocketAddr::from(([127, 0, 0, 1], 80)), 5)].into(),
            last_reload: (0, 1_700_000_000),
            generations: 1,
            process: super::process::SAMPLE,
            predecessor: None,
            snapshot: Arc::new(
                Snapshot::new(
                    7,
                    vec![endpoint(0, EndpointState::Up), endpoint(1, EndpointState::Ejected)],
                )
                .of_targets(3, vec![unresolved]),
            ),
        }
    }
}
