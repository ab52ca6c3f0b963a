//! Small requests beside other people's load: a contest of its own, since what is measured are two things at once,
//! how long the small ones wait and how fast the others are. Neither may be bought with the other.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::Run;
use super::contest::{self, Subject};
use super::machine::{self, Precedence};
use super::results::Target;
use super::statistics::{DELAY, Measured, Ratio, middle, ratio, together};
use crate::Failure;
use crate::generator::histogram::Histogram;
use crate::mixed::{Beside, Mixer, Outcome, Slice};
use crate::report::count;
use crate::servers::{Bench, Kind};
use crate::steady::allow_descriptors;

/// What `--only` calls all of it.
pub(super) const NAME: &str = "mixed";
/// Rounds and slices, at least: half a second of 200 requests at their times and some 800 others.
const ROUNDS: usize = 9;
const SLICE: Duration = Duration::from_millis(400);
/// Whose latency is the bound.
const BESIDE_WHOM: &str = "haproxy";
/// An earlier build of evenly, and what bulk must reach of its.
const OTHER: &str = "other";
const BULK_OVER_OTHER: f64 = 0.95;
/// Both ends of the slow readers, of everybody else, and some.
const DESCRIPTORS: usize = 4 << 10;

/// A quick look: `--seconds` are those of each proxy beside each load, over all rounds.
#[derive(Args, Debug, Clone)]
pub(crate) struct Mixed {
    /// Rounds, each with two slices of every proxy beside every load
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only loads with this in their name: idle, downloads, uploads, connections, readers [default: all but readers]
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Another build of evenly, which takes part as `other`; may be given more than once (`other-2`, ..)
    #[arg(long, value_name = "FILE", alias = "evenly-also")]
    other: Vec<PathBuf>,
    /// Who takes part beside evenly, with commas between them; `floor` and `none` are possible
    #[arg(long, value_name = "NAMES", default_value = "haproxy,nginx")]
    peers: String,
}

/// One subject in one round: both of its slices together.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    p50: f64,
    p99: f64,
    open_p50: f64,
    open_p99: f64,
    bulk: f64,
    visits_p99: f64,
    cpu_micros: f64,
    busy: f64,
    generator_busy: f64,
    delay: f64,
}

impl Measured for Sample {
    fn disturbance(&self) -> f64 {
        self.delay / DELAY
    }
}

impl Sample {
    fn of(beside: Beside, both: &Outcome) -> Sample {
        let span = both.span.max(1e-9);
        let share = |nanos: u64| count(nanos) / 1e9 / span;
        let done = done(beside, both);
        Sample {
            p50: percentile(&both.closed, 50.0),
            p99: percentile(&both.closed, 99.0),
            open_p50: percentile(&both.open, 50.0),
            open_p99: percentile(&both.open, 99.0),
            bulk: done / span,
            visits_p99: percentile(&both.visits, 99.0),
            cpu_micros: count(both.subject.ran) / 1000.0 / done.max(1e-9),
            busy: share(both.subject.ran),
            generator_busy: (1.0 - both.idle / span).max(0.0),
            delay: share(both.subject.waited).max(share(both.own.waited)).max(both.stolen / span),
        }
    }
}

/// Nobody's latency is no number: it has no ratio to another's.
fn percentile(latencies: &Histogram, percent: f64) -> f64 {
    if latencies.seen() == 0 { f64::NAN } else { latencies.percentile(percent) }
}

/// How much of the load was done: MiB, connections, or small requests where there is nothing beside them.
fn done(beside: Beside, outcome: &Outcome) -> f64 {
    match beside {
        Beside::Nothing => count(outcome.closed.seen() + outcome.open.seen()),
        Beside::Connections => count(outcome.visited),
        _ => count(outcome.bytes) / f64::from(1 << 20),
    }
}

/// One load with every subject.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) unit: String,
    pub(super) rows: Vec<Row>,
    /// Evenly's figures over another's, round by round.
    pub(super) ratios: Vec<Ratios>,
}

/// All loads, measured together, and what was promised of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Section {
    pub(super) date: String,
    pub(super) command: String,
    pub(super) seconds: f64,
    pub(super) rounds: usize,
    pub(super) slice_millis: u64,
    /// Whether the run went before other work on the machine.
    pub(super) first: String,
    pub(super) versions: Vec<(String, String)>,
    pub(super) found: Vec<Found>,
    pub(super) targets: Vec<Target>,
}

/// Latencies in microseconds, of all requests of undisturbed rounds together; all else are medians of the rounds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) subject: String,
    /// Of those who ask again after the answer: 50th and 99th percentile, and the slowest.
    pub(super) closed: [f64; 3],
    /// Of those asked at their time.
    pub(super) open: [f64; 3],
    /// Of new connections: the 99th percentile; 0 where there are none.
    pub(super) visits_p99: f64,
    pub(super) bulk: f64,
    /// CPU of the subject for a unit of the load.
    pub(super) cpu_micros: f64,
    pub(super) busy: f64,
    pub(super) generator_busy: f64,
    pub(super) delay: f64,
    /// The longest that it took until all connections of the small requests had their first answer, in microseconds.
    #[serde(default)]
    pub(super) warm: f64,
    /// Small requests that were measured.
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) faults: String,
    /// Rounds that were not disturbed, and all.
    pub(super) calm: usize,
    pub(super) rounds: usize,
    pub(super) trouble: Option<String>,
}

/// Evenly over one other subject.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ratios {
    pub(super) subject: String,
    /// Of latencies: `None` where too few were seen.
    pub(super) p50: Option<Ratio>,
    pub(super) p99: Option<Ratio>,
    pub(super) open_p50: Option<Ratio>,
    pub(super) open_p99: Option<Ratio>,
    pub(super) visits_p99: Option<Ratio>,
    pub(super) bulk: Ratio,
    pub(super) cpu: Ratio,
}

/// How long, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length {
    pub(super) rounds: usize,
    pub(super) slice: Duration,
}

/// The rounds of one subject.
#[derive(Default)]
struct Record {
    samples: Vec<Sample>,
    /// Latencies of each round: closed loop, open loop, visits.
    latencies: Vec<[Histogram; 3]>,
    all: Outcome,
    trouble: Option<String>,
}

impl Record {
    fn add(&mut self, beside: Beside, both: &Outcome) {
        self.samples.push(Sample::of(beside, both));
        self.latencies.push([both.closed.clone(), both.open.clone(), both.visits.clone()]);
        self.all.merge(both);
    }

    fn row(&self, subject: &str) -> Row {
        let of = |field| middle(&self.samples, field);
        let mut all = [Histogram::default(), Histogram::default(), Histogram::default()];
        for round in together(&self.samples) {
            all.iter_mut().zip(&self.latencies[round]).for_each(|(all, round)| all.merge(round));
        }
        let three = |latencies: &Histogram| {
            [latencies.percentile(50.0), latencies.percentile(99.0), latencies.most()]
        };
        Row {
            subject: subject.to_owned(),
            closed: three(&all[0]),
            open: three(&all[1]),
            visits_p99: all[2].percentile(99.0),
            bulk: of(|sample| sample.bulk),
            cpu_micros: of(|sample| sample.cpu_micros),
            busy: of(|sample| sample.busy),
            generator_busy: of(|sample| sample.generator_busy),
            delay: of(|sample| sample.delay),
            warm: self.all.warm * 1e6,
            requests: self.all.closed.seen() + self.all.open.seen(),
            failed: self.all.faults.total(),
            faults: self.all.faults.describe(),
            calm: self.samples.iter().filter(|sample| sample.disturbance() <= 1.0).count(),
            rounds: self.samples.len(),
            trouble: self.trouble.clone(),
        }
    }
}

fn ratios(subject: &str, ours: &Record, theirs: &Record) -> Option<Ratios> {
    let of = |field| ratio(&ours.samples, &theirs.samples, field);
    Some(Ratios {
        subject: subject.to_owned(),
        p50: of(|sample| sample.p50),
        p99: of(|sample| sample.p99),
        open_p50: of(|sample| sample.open_p50),
        open_p99: of(|sample| sample.open_p99),
        visits_p99: of(|sample| sample.visits_p99),
        bulk: of(|sample| sample.bulk)?,
        cpu: of(|sample| sample.cpu_micros)?,
    })
}

/// The part of `loadtest benchmarks`: every load with evenly, another build of it, the floor, HAProxy and nginx.
pub(super) fn part(run: &mut Run) -> Result<(), Failure> {
    if !run.wants(NAME) {
        return Ok(());
    }
    let began = Instant::now();
    let mixer = Mixer::start()?;
    let peers = [Kind::Haproxy, Kind::Nginx].into_iter().filter(|kind| run.peers.0.contains(kind));
    let names: Vec<&str> = std::iter::once("floor").chain(peers.map(Kind::name)).collect();
    let others: Vec<PathBuf> = run.other.iter().cloned().collect();
    let subjects = subjects(&run.bench, &run.program, &others, &names.join(","), &mixer)?;
    let subjects: Vec<&Subject> = subjects.iter().collect();
    let length = match run.quick {
        true => Length { rounds: run.rounds, slice: run.slice },
        false => Length { rounds: run.rounds.max(ROUNDS), slice: run.slice.max(SLICE) },
    };
    let mut found = Vec::new();
    for beside in Beside::ALL {
        run.say(&format!("{NAME}: a small GET beside {}", beside.title()));
        let mut one = contest(&mixer, &subjects, beside, length);
        one.rows.push(direct(&mixer, beside, length.slice)?);
        found.push(one);
    }
    let first = run.results.machine.last().map(|(_, word)| word.clone()).unwrap_or_default();
    let version = |subject: &&Subject| (subject.name.clone(), subject.version.clone());
    run.results.mixed = Some(Section {
        date: run.results.date.clone(),
        command: run.results.command.clone(),
        seconds: began.elapsed().as_secs_f64(),
        rounds: length.rounds,
        slice_millis: u64::try_from(length.slice.as_millis())?,
        first,
        versions: subjects.iter().map(version).collect(),
        targets: found.iter().flat_map(judge).collect(),
        found,
    });
    Ok(())
}

/// What was promised of a load: that nobody waits longer than beside HAProxy, and that this is not paid with bulk.
fn judge(found: &Found) -> Vec<Target> {
    let mut targets = Vec::new();
    let disturbed = |name: &str| {
        let row = found.rows.iter().find(|row| row.subject == name);
        row.is_some_and(|row| row.delay > DELAY)
    };
    let mut judged = |what: String, ratio: &Ratio, subject: &str, target: Target| {
        let mut target = Target { what, ..target }.spread(ratio).by(NAME);
        if disturbed("evenly") || disturbed(subject) {
            target.reached += "; disturbed";
        }
        targets.push(target);
    };
    for ratios in &found.ratios {
        let Ratios { subject, bulk, .. } = ratios;
        let title = |what: &str| format!("{}: {what} over {subject}", found.name);
        if subject == BESIDE_WHOM && is_judged(&found.name) {
            let waits = [
                ("p50 of a small GET", ratios.p50.as_ref()),
                ("p99 of a small GET", ratios.p99.as_ref()),
                ("p50 at fixed times", ratios.open_p50.as_ref()),
                ("p99 at fixed times", ratios.open_p99.as_ref()),
                ("p99 of the new connections", ratios.visits_p99.as_ref()),
            ];
            for (what, ratio) in waits {
                let Some(ratio) = ratio else { continue };
                judged(title(what), ratio, subject, Target::at_most("", ratio.median, 1.0, "x"));
            }
        }
        if subject == OTHER && is_judged(&found.name) {
            let target = Target::at_least("", bulk.median, BULK_OVER_OTHER, "x");
            judged(title(&found.unit), bulk, subject, target);
        }
    }
    targets
}

/// The others are there to compare with.
fn is_judged(name: &str) -> bool {
    let judged = [Beside::Downloads, Beside::Uploads, Beside::Connections];
    judged.iter().any(|beside| beside.name() == name)
}

/// Runs one load with every subject, in slices that alternate (A B C C B A). One that fails sits out the rest.
pub(super) fn contest(
    mixer: &Mixer,
    subjects: &[&Subject],
    beside: Beside,
    length: Length,
) -> Found {
    let mut records: Vec<Record> = subjects.iter().map(|_| Record::default()).collect();
    for _ in 0..length.rounds {
        let mut first: Vec<Option<Outcome>> = subjects.iter().map(|_| None).collect();
        let there = 0..subjects.len();
        for at in there.clone().chain(there.rev()) {
            if records[at].trouble.is_some() {
                continue;
            }
            let slice = slice(subjects[at], beside, length.slice);
            match mixer.run(slice) {
                Err(failure) => records[at].trouble = Some(failure.to_string()),
                Ok(outcome) => match first[at].take() {
                    None => first[at] = Some(outcome),
                    Some(mut both) => {
                        both.merge(&outcome);
                        records[at].add(beside, &both);
                    }
                },
            }
        }
    }
    let pairs = || subjects.iter().zip(&records);
    let rows = pairs().map(|(subject, record)| record.row(&subject.name)).collect();
    let others = pairs().skip(1);
    let ratios =
        others.filter_map(|(subject, record)| ratios(&subject.name, records.first()?, record));
    Found {
        name: beside.name().to_owned(),
        title: beside.title(),
        unit: beside.unit().to_owned(),
        ratios: ratios.collect(),
        rows,
    }
}

/// How long the load of a slice runs before it counts: until the buffers on the way are as full as they get.
fn run_in(beside: Beside) -> Duration {
    Duration::from_millis(match beside {
        Beside::Nothing | Beside::Connections => 50,
        Beside::Downloads => 100,
        Beside::Uploads => 200,
        Beside::Readers => 1000,
    })
}

fn slice(subject: &Subject, beside: Beside, time: Duration) -> Slice {
    let run_in = run_in(beside);
    Slice { target: subject.address, beside, run_in, time, watched: subject.processes() }
}

/// The generator without a proxy: what it adds by itself, at its own end.
pub(super) fn direct(mixer: &Mixer, beside: Beside, time: Duration) -> Result<Row, Failure> {
    let run_in = run_in(beside);
    let slice = Slice { target: mixer.targets[0], beside, run_in, time, watched: Vec::new() };
    let mut record = Record::default();
    record.add(beside, &mixer.run(slice)?);
    Ok(record.row("no proxy"))
}

/// Measures and prints a table.
pub(crate) fn alone(
    options: &Mixed,
    evenly: Option<&PathBuf>,
    [time, limit]: [Duration; 2],
) -> Result<(), Failure> {
    let bench = Bench::new(evenly.cloned(), None)?;
    allow_descriptors(DESCRIPTORS)?;
    machine::restore_at_the_end(limit)?;
    let precedence = Precedence::take();
    let first = if precedence.taken { "before" } else { "among" };
    eprintln!("loadtest: {}; {first} other work on this machine", bench.cores.describe());
    let mixer = Mixer::start()?;
    let program = bench.program(Kind::Evenly)?;
    let subjects = subjects(&bench, &program, &options.other, &options.peers, &mixer)?;
    let subjects: Vec<&Subject> = subjects.iter().collect();
    let rounds = options.rounds.max(1);
    let slice = time / u32::try_from(2 * rounds)?;
    let wanted = |beside: &Beside| match &options.only {
        Some(only) => beside.name().contains(only.as_str()),
        None => *beside != Beside::Readers,
    };
    let mut failed = 0;
    for beside in Beside::ALL.into_iter().filter(wanted) {
        // What is only there to compare with may be shorter.
        let slice = if beside == Beside::Nothing { slice / 2 } else { slice };
        let found = contest(&mixer, &subjects, beside, Length { rounds, slice });
        let mut rows = found.rows.clone();
        rows.push(direct(&mixer, beside, slice)?);
        print!("{}", table(&found, &rows));
        failed += rows.iter().map(|row| row.failed).sum::<u64>();
        failed += rows.iter().filter(|row| row.trouble.is_some()).count() as u64;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::new(format!("failed: {failed}"))),
    }
}

/// Evenly, its other builds, and peers by their names, each freshly started.
pub(super) fn subjects(
    bench: &Bench,
    program: &PathBuf,
    others: &[PathBuf],
    peers: &str,
    mixer: &Mixer,
) -> Result<Vec<Subject>, Failure> {
    let config = contest::targets(&mixer.targets) + &contest::limits();
    let start = |program: &PathBuf, name: &str| {
        contest::evenly(bench, program, bench.cores, name, &config, 1)
    };
    let mut found = vec![start(program, "evenly")?];
    for (at, other) in others.iter().enumerate() {
        let name = if at == 0 { "other".to_owned() } else { format!("other-{}", at + 1) };
        found.push(start(other, &name)?);
    }
    for name in peers.split(',').filter(|name| *name != "none") {
        found.push(match name {
            "floor" => contest::floor(bench, &mixer.targets)?,
            name => {
                let kind = <Kind as clap::ValueEnum>::from_str(name, true).map_err(Failure::new)?;
                contest::peer(bench, kind, &mixer.targets)?
            }
        });
    }
    Ok(found)
}

/// A table for a terminal.
fn table(found: &Found, rows: &[Row]) -> String {
    let mut text = format!("\na small GET beside {}\n", found.title);
    let _ = writeln!(
        text,
        "  {:<9} {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} | {:>13} {:>7} {:>8} | {:>6} | {:>5} {:>5} {:>6} {:>6}",
        "ms",
        "p50",
        "p99",
        "max",
        "open p50",
        "p99",
        "max",
        found.unit,
        "CPU us",
        "own p99",
        "warm",
        "core",
        "gen.",
        "waited",
        "rounds"
    );
    // Nobody was seen to wait for no time at all.
    let ms =
        |micros: f64| if micros > 0.0 { format!("{:.2}", micros / 1000.0) } else { "-".to_owned() };
    for row in rows {
        let [p50, p99, most] = row.closed.map(ms);
        let [open, open_p99, open_most] = row.open.map(ms);
        let own = ms(row.visits_p99);
        let _ = writeln!(
            text,
            "  {:<9} {p50:>8} {p99:>8} {most:>8} | {open:>8} {open_p99:>8} {open_most:>8} | {:>13.1} {:>7.1} {own:>8} | {:>6.0} | {:>4.0}% {:>4.0}% {:>5.1}% {:>3}/{}",
            row.subject,
            row.bulk,
            row.cpu_micros,
            row.warm / 1000.0,
            row.busy * 100.0,
            row.generator_busy * 100.0,
            row.delay * 100.0,
            row.calm,
            row.rounds,
        );
        if row.failed > 0 {
            let _ = writeln!(text, "            failed: {}", row.faults);
        }
        if let Some(trouble) = &row.trouble {
            let _ = writeln!(text, "            sat out rounds: {trouble}");
        }
    }
    for ratios in &found.ratios {
        let latencies = [
            ("p50", &ratios.p50),
            ("p99", &ratios.p99),
            ("open p50", &ratios.open_p50),
            ("open p99", &ratios.open_p99),
            ("their p99", &ratios.visits_p99),
        ];
        let latencies: String = latencies
            .iter()
            .filter_map(|(what, ratio)| Some(format!("{what} {}, ", ratio.as_ref()?)))
            .collect();
        let Ratios { subject, bulk, cpu, .. } = ratios;
        let _ =
            writeln!(text, "  evenly over {subject}: {latencies}{} {bulk}, CPU {cpu}", found.unit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(p99: f64, bulk: f64) -> Record {
        let sample =
            Sample { p50: 1.0, p99, open_p50: 1.0, open_p99: p99, bulk, ..Sample::default() };
        Record {
            samples: vec![Sample { cpu_micros: 1.0, ..sample }; 5],
            latencies: (0..5).map(|_| Default::default()).collect(),
            ..Record::default()
        }
    }

    fn found(theirs: &Record) -> Found {
        let ours = record(10.0, 100.0);
        Found {
            name: Beside::Downloads.name().to_owned(),
            title: String::new(),
            unit: "MiB/s".to_owned(),
            rows: vec![ours.row("evenly")],
            ratios: [BESIDE_WHOM, OTHER, "nginx"]
                .into_iter()
                .filter_map(|name| ratios(name, &ours, theirs))
                .collect(),
        }
    }

    #[test]
    fn latency_is_judged_beside_haproxy_and_bulk_beside_the_build_before() {
        let kept = |theirs| -> Vec<(String, Option<bool>)> {
            judge(&found(&theirs)).into_iter().map(|target| (target.what, target.kept)).collect()
        };
        let slower = kept(record(20.0, 104.0));
        assert_eq!(slower.len(), 5, "{slower:?}");
        assert!(slower.iter().all(|(_, kept)| *kept == Some(true)), "{slower:?}");
        let faster = kept(record(9.0, 106.0));
        let missed: Vec<_> = faster
            .iter()
            .filter(|(_, kept)| *kept == Some(false))
            .map(|(what, _)| &**what)
            .collect();
        assert_eq!(
            missed,
            [
                "downloads: p99 of a small GET over haproxy",
                "downloads: p99 at fixed times over haproxy",
                "downloads: MiB/s over other"
            ]
        );
    }

    #[test]
    fn what_is_there_to_compare_with_is_not_judged() {
        let idle = Found { name: Beside::Nothing.name().to_owned(), ..found(&record(1.0, 1.0)) };
        assert!(judge(&idle).is_empty());
    }

    #[test]
    fn a_sample_counts_what_was_done_beside_and_what_it_cost() {
        let mut outcome = Outcome { span: 2.0, bytes: 64 << 20, idle: 0.5, ..Outcome::default() };
        outcome.subject.ran = 64_000_000;
        let sample = Sample::of(Beside::Downloads, &outcome);
        assert!((sample.bulk - 32.0).abs() < 1e-9 && (sample.cpu_micros - 1000.0).abs() < 1e-9);
        assert!((sample.generator_busy - 0.75).abs() < 1e-9);
        outcome.visited = 1000;
        assert!((Sample::of(Beside::Connections, &outcome).bulk - 500.0).abs() < 1e-9);
        outcome.stolen = 0.2;
        assert!(Sample::of(Beside::Downloads, &outcome).disturbance() > 1.0);
    }
}
