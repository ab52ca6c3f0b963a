//! Subjects under the same work in slices that alternate, A B C C B A, so that a machine that changes
//! its speed changes it for all of them.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::results::{Finding, Ratios, Row};
use super::statistics::{DELAY, PACED_DELAY, Round, middle, ratio, together};
use crate::client::Client;
use crate::generator::histogram::Histogram;
use crate::generator::http::Shape;
use crate::generator::{Generator, Outcome, Pace, Slice, Until};
use crate::load::micros;
use crate::proc;
use crate::process::{Cores, Process, command};
use crate::report::count;
use crate::servers::{Bench, Kind, listening};
use crate::{Failure, tools};

/// How long a server may take to say where it listens.
const START: Duration = Duration::from_secs(15);
/// Requests on each connection before a slice.
pub(super) const WARM: u64 = 5;
/// Idle connections that evenly keeps to each target: as many as there are clients in any work, so that
/// every subject keeps its connections and none is measured opening new ones.
pub(super) const POOL: usize = 2048;
/// How long the load of a slice runs before it counts.
const RUN_IN: Duration = Duration::from_millis(50);

/// A server that takes part.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) is_peer: bool,
    /// What its program says it is.
    pub(super) version: String,
    pub(super) process: Process,
}

impl Subject {
    /// Its processes now.
    pub(super) fn processes(&self) -> Vec<u32> {
        proc::tree(self.process.pid()).unwrap_or_default()
    }

    /// Proportional share of memory of all its processes, in bytes.
    pub(super) fn memory(&self) -> Result<u64, Failure> {
        proc::pss(self.process.pid())
    }
}

/// Starts evenly with a configuration of its own.
pub(super) fn evenly(
    bench: &Bench,
    program: &PathBuf,
    cores: Cores,
    name: &str,
    config: &str,
    workers: usize,
) -> Result<Subject, Failure> {
    let file = bench.path(&format!("{name}.toml"));
    fs::write(&file, config)?;
    let mut command = command(program, cores.subject);
    command.arg("run").arg("--config").arg(file);
    command.args(["--listen", "127.0.0.1:0", "--workers", &workers.to_string()]);
    let subject = launch(name, &mut command)?;
    until_it_serves(subject.address)?;
    Ok(subject)
}

/// Waits until a probe has let requests through.
fn until_it_serves(address: SocketAddr) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let answer = Client::connect(address).and_then(|mut client| client.get("/128"));
        if answer.is_ok_and(|answer| answer.status == 200) {
            return Ok(());
        }
        if began.elapsed() > START {
            return Err(Failure::new(format!("{address} does not serve")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What [`POOL`] is called in evenly's configuration.
pub(super) fn limits() -> String {
    format!("[limits]\nidle_per_target = {POOL}\n")
}

/// The `[[targets]]` of a configuration.
pub(super) fn targets(addresses: &[SocketAddr]) -> String {
    let block = |address| {
        format!("[[targets]]\naddress = \"{address}\"\nhealth_check_endpoint = \"/healthz\"\n")
    };
    addresses.iter().map(block).collect()
}

fn launch(name: &str, command: &mut Command) -> Result<Subject, Failure> {
    let began = Instant::now();
    let mut process = Process::start(name, command)?;
    let Some((_, address)) = process.line(began, START, listening) else {
        return Err(process.complaint("did not say where it listens"));
    };
    // Evenly and the floor are built of this tree.
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Subject { name: name.to_owned(), address, is_peer: false, version, process })
}

/// The floor, a child of this very program.
pub(super) fn floor(bench: &Bench, addresses: &[SocketAddr]) -> Result<Subject, Failure> {
    let mut command = command(std::env::current_exe()?, bench.cores.subject);
    command.arg("floor");
    for address in addresses {
        command.args(["--target", &address.to_string()]);
    }
    launch("floor", &mut command)
}

/// A server of the bench.
pub(super) fn peer(
    bench: &Bench,
    kind: Kind,
    addresses: &[SocketAddr],
) -> Result<Subject, Failure> {
    let program = bench.program(kind)?;
    let started = bench.subject(kind, addresses)?;
    Ok(Subject {
        name: kind.name().to_owned(),
        address: started.address,
        is_peer: true,
        version: kind.version(&program),
        process: started.process,
    })
}

/// One work, ready to be put on subjects.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) shape: Shape,
    pub(super) connections: usize,
    pub(super) pace: Pace,
    /// Requests on each connection before it counts.
    pub(super) warm: u64,
    pub(super) slice: Duration,
    pub(super) rounds: usize,
}

fn slice(generator: &Generator, subject: &Subject, load: &Load) -> Result<Outcome, Failure> {
    generator.open(subject.address, load.shape, load.connections, load.warm)?;
    let until = Until::Time(load.slice);
    let watched = subject.processes();
    let measured = generator.measure(Slice { pace: load.pace, until, run_in: RUN_IN, watched });
    let refused = generator.close()?;
    let mut outcome = measured?;
    outcome.refused += refused;
    Ok(outcome)
}

/// The figures of a round.
fn round(both: &Outcome, pace: Pace) -> Round {
    let share = |nanos: u64| count(nanos) / 1e9 / both.span.max(1e-9);
    let delay = share(both.subject.waited).max(share(both.own.waited));
    let allowed = if let Pace::PerSecond(_) = pace { PACED_DELAY } else { DELAY };
    Round {
        cpu_micros: micros(both.subject.ran, both.requests),
        worker_micros: micros(both.workers.ran, both.requests),
        per_second: both.per_second(),
        p50: both.latencies.percentile(50.0),
        p99: both.latencies.percentile(99.0),
        p999: both.latencies.percentile(99.9),
        busy: share(both.subject.ran),
        generator_busy: both.busy(),
        delay,
        disturbance: delay / allowed,
    }
}

/// The rounds of one subject.
pub(super) struct Record {
    pub(super) rounds: Vec<Round>,
    /// The latencies of each round, and how late its requests were sent.
    latencies: Vec<[Histogram; 2]>,
    all: Outcome,
    /// Why it sits out.
    pub(super) trouble: Option<String>,
}

/// Runs every round on every subject. A subject that fails sits out the rest.
pub(super) fn contest(generator: &Generator, subjects: &[&Subject], load: &Load) -> Vec<Record> {
    let fresh = || Record {
        rounds: Vec::new(),
        latencies: Vec::new(),
        all: Outcome::default(),
        trouble: None,
    };
    let mut records: Vec<Record> = subjects.iter().map(|_| fresh()).collect();
    for _ in 0..load.rounds {
        let mut first: Vec<Option<Outcome>> = subjects.iter().map(|_| None).collect();
        let there = 0..subjects.len();
        for at in there.clone().chain(there.rev()) {
            if records[at].trouble.is_some() {
                continue;
            }
            match slice(generator, subjects[at], load) {
                Err(failure) => records[at].trouble = Some(failure.to_string()),
                Ok(outcome) => match first[at].take() {
                    None => first[at] = Some(outcome),
                    Some(mut both) => {
                        both.merge(&outcome);
                        records[at].add(&both, load.pace);
                    }
                },
            }
        }
    }
    records
}

impl Record {
    fn add(&mut self, both: &Outcome, pace: Pace) {
        self.rounds.push(round(both, pace));
        self.latencies.push([both.latencies.clone(), both.lateness.clone()]);
        self.all.merge(both);
    }

    pub(super) fn row(&self, subject: &Subject) -> Row {
        let of = |field| middle(&self.rounds, field);
        // Of all requests of undisturbed rounds: a slice has too few for its slowest thousandth to mean much.
        let mut all = [Histogram::default(), Histogram::default()];
        for round in together(&self.rounds) {
            all.iter_mut().zip(&self.latencies[round]).for_each(|(all, round)| all.merge(round));
        }
        let [latencies, lateness] = all;
        Row {
            subject: subject.name.clone(),
            cpu_micros: of(|round| round.cpu_micros),
            per_second: of(|round| round.per_second),
            p50: latencies.percentile(50.0),
            p99: latencies.percentile(99.0),
            p999: latencies.percentile(99.9),
            late: lateness.percentile(99.0),
            requests: self.all.requests,
            failed: self.all.failed(),
            faults: self.all.faults.describe(),
            busy: of(|round| round.busy),
            generator_busy: of(|round| round.generator_busy),
            delay: of(|round| round.delay),
            trouble: self.trouble.clone(),
        }
    }
}

/// The ratios of one record to another, which is `subject`'s.
pub(super) fn ratios(subject: &Subject, ours: &Record, theirs: &Record) -> Option<Ratios> {
    let of = |field| ratio(&ours.rounds, &theirs.rounds, field);
    Some(Ratios {
        subject: subject.name.clone(),
        is_peer: subject.is_peer,
        cpu: of(|round| round.cpu_micros)?,
        per_second: of(|round| round.per_second)?,
        p50: of(|round| round.p50)?,
        p99: of(|round| round.p99)?,
        p999: of(|round| round.p999)?,
    })
}

/// Runs a contest and says how the first subject did beside the others.
pub(super) fn finding(
    generator: &Generator,
    subjects: &[&Subject],
    load: &Load,
    (name, title): (String, String),
) -> Finding {
    let records = contest(generator, subjects, load);
    let pairs = || subjects.iter().zip(&records);
    let rows = pairs().map(|(subject, record)| record.row(subject)).collect();
    let others = pairs().skip(1);
    let ratios = others.filter_map(|(subject, record)| ratios(subject, records.first()?, record));
    let floor = pairs().find(|(subject, _)| subject.name == "floor").map(|(_, record)| record);
    let peers = pairs().filter(|(subject, _)| subject.is_peer);
    let floors = peers.filter_map(|(subject, record)| self::ratios(subject, floor?, record));
    let rate = if let Pace::PerSecond(rate) = load.pace { Some(rate) } else { None };
    Finding { name, title, rate, rows, ratios: ratios.collect(), floors: floors.collect() }
}

/// Whether a program is here.
pub(super) fn has(program: &str) -> bool {
    tools::find(program).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::Cpu;

    #[test]
    fn a_round_is_both_of_its_slices() {
        let outcome = |requests, ran| Outcome {
            requests,
            span: 1.0,
            subject: Cpu { ran, waited: 20_000_000 },
            ..Outcome::default()
        };
        let mut both = outcome(100, 1_000_000);
        both.merge(&outcome(300, 3_000_000));
        let paced = round(&both, Pace::PerSecond(1.0));
        let round = round(&both, Pace::Closed);
        assert!(round.disturbance < 1.0 && paced.disturbance > 1.0, "{round:?}");
        assert!((round.cpu_micros - 10.0).abs() < 1e-9);
        assert!((round.per_second - 200.0).abs() < 1e-9);
        assert!((round.delay - 0.02).abs() < 1e-9, "{round:?}");
    }
}
