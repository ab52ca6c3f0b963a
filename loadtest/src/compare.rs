//! The same work through several proxies, in slices that alternate, so that a machine that changes
//! its speed changes it for all of them. Ratios of one round are comparable; absolute figures are not.

use std::fmt;

use crate::load::{Shape, micros, wrk};
use crate::report::{Report, count, median};
use crate::servers::{Bench, Kind, Subject};
use crate::{Failure, proc};

/// A slice whose subject waited longer than this share of the time for its CPU was disturbed.
const DELAY: f64 = 0.04;
/// Rounds that are kept even when they were disturbed: the least disturbed ones.
const KEPT: usize = 5;

/// One subject under load for a moment.
#[derive(Clone, Copy)]
struct Slice {
    cpu_micros: f64,
    per_second: f64,
    p99: f64,
    /// Share of the slice in which the subject was ready to run and was not let.
    delay: f64,
    failed: u64,
}

/// Both slices of one subject in one round (A B B A: each is once early and once late).
#[derive(Clone, Copy)]
struct Pair {
    cpu_micros: f64,
    per_second: f64,
    p99: f64,
    delay: f64,
}

/// Runs `rounds` rounds over evenly and its rivals and reports medians of the ratios within rounds.
pub(crate) fn compare(
    bench: &Bench,
    kinds: &[Kind],
    shape: Shape,
    rounds: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let origins = bench.origins()?;
    let targets = origins.each_ref().map(|origin| origin.address);
    let subjects =
        kinds.iter().map(|kind| bench.subject(*kind, &targets)).collect::<Result<Vec<_>, _>>()?;
    let mut pairs: Vec<Vec<Pair>> = vec![Vec::new(); subjects.len()];
    let mut failed = vec![0; subjects.len()];
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let early = run(bench, subjects.iter(), shape)?;
        let mut late = run(bench, subjects.iter().rev(), shape)?;
        late.reverse();
        for (at, (early, late)) in early.iter().zip(&late).enumerate() {
            pairs[at].push(Pair::of(early, late));
            failed[at] += early.failed + late.failed;
        }
    }
    for (at, subject) in subjects.iter().enumerate() {
        add_subject(report, subject, &pairs[at], failed[at]);
    }
    for (rival, theirs) in subjects.iter().zip(&pairs).skip(1) {
        add_ratio(report, subjects[0].kind, rival.kind, &pairs[0], theirs);
    }
    Ok(())
}

fn run<'a>(
    bench: &Bench,
    subjects: impl Iterator<Item = &'a Subject>,
    shape: Shape,
) -> Result<Vec<Slice>, Failure> {
    subjects.map(|subject| slice(bench, subject, shape)).collect()
}

fn slice(bench: &Bench, subject: &Subject, shape: Shape) -> Result<Slice, Failure> {
    let pid = subject.process.pid();
    let before = proc::cpu(pid)?;
    let load = wrk(bench, subject.address, shape)?;
    let cost = proc::cpu(pid)? - before;
    Ok(Slice {
        cpu_micros: micros(cost.ran, load.requests),
        per_second: load.per_second(),
        p99: load.p99,
        delay: count(cost.waited) / 1e9 / load.seconds,
        failed: load.broken + load.bad_status,
    })
}

/// One figure of a pair.
type Field = fn(&Pair) -> f64;

impl Pair {
    fn of(early: &Slice, late: &Slice) -> Pair {
        let mean = |field: fn(&Slice) -> f64| f64::midpoint(field(early), field(late));
        Pair {
            cpu_micros: mean(|slice| slice.cpu_micros),
            per_second: mean(|slice| slice.per_second),
            p99: mean(|slice| slice.p99),
            delay: early.delay.max(late.delay),
        }
    }
}

fn add_subject(report: &mut Report, subject: &Subject, pairs: &[Pair], failed: u64) {
    let of =
        |field: Field| median(&pairs.iter().map(field).collect::<Vec<_>>()).unwrap_or(f64::NAN);
    report.section(format!("{} (medians of {} rounds)", subject.kind.name(), pairs.len()));
    report.figure("CPU per request", of(|pair| pair.cpu_micros), "us");
    report.figure("requests/s", of(|pair| pair.per_second), "1/s");
    report.figure("latency p99", of(|pair| pair.p99), "us");
    report.exactly("failed requests", count(failed), "", 0.0);
}

/// The spread of a ratio over the rounds that count.
#[derive(Debug, PartialEq)]
struct Ratios {
    median: f64,
    least: f64,
    most: f64,
    rounds: usize,
}

impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} to {:.2} in {} rounds", self.least, self.most, self.rounds)
    }
}

fn add_ratio(report: &mut Report, kind: Kind, rival: Kind, ours: &[Pair], theirs: &[Pair]) {
    report.section(format!("{} / {}: ratios within a round", kind.name(), rival.name()));
    let fields: [(&str, Field); 3] = [
        ("CPU per request", |pair| pair.cpu_micros),
        ("requests/s", |pair| pair.per_second),
        ("latency p99", |pair| pair.p99),
    ];
    for (what, field) in fields {
        let Some(ratios) = ratios(ours, theirs, field) else { continue };
        let label = format!("{what} ({ratios})");
        if (kind, rival, what) == (Kind::Evenly, Kind::Haproxy, "CPU per request") {
            report.at_most(label, ratios.median, "x", 0.8);
        } else {
            report.figure(label, ratios.median, "x");
        }
    }
}

/// The ratios of the undisturbed rounds; of the [`KEPT`] least disturbed when those are fewer.
fn ratios(ours: &[Pair], theirs: &[Pair], field: Field) -> Option<Ratios> {
    let mut rounds: Vec<(f64, f64)> = ours
        .iter()
        .zip(theirs)
        .map(|(our, their)| (our.delay.max(their.delay), field(our) / field(their)))
        .collect();
    rounds.sort_by(|left, right| left.0.total_cmp(&right.0));
    let calm = rounds.iter().filter(|(delay, _)| *delay <= DELAY).count();
    rounds.truncate(calm.max(KEPT));
    let values: Vec<f64> = rounds.into_iter().map(|(_, ratio)| ratio).collect();
    Some(Ratios {
        median: median(&values)?,
        least: values.iter().copied().fold(f64::INFINITY, f64::min),
        most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        rounds: values.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(cpu_micros: f64, delay: f64) -> Pair {
        Pair { cpu_micros, per_second: 1.0, p99: 1.0, delay }
    }

    #[test]
    fn leaves_disturbed_rounds_out() {
        let theirs = [pair(10.0, 0.0); 7];
        let mut ours = [pair(5.0, 0.01); 7];
        ours[6] = pair(90.0, 0.05);
        let found = ratios(&ours, &theirs, |pair| pair.cpu_micros).unwrap();
        assert_eq!(found, Ratios { median: 0.5, least: 0.5, most: 0.5, rounds: 6 });
    }

    #[test]
    fn keeps_the_five_least_disturbed_rounds_of_a_bad_run() {
        let theirs = [pair(10.0, 0.0); 7];
        let ours = [0.09, 0.08, 0.07, 0.06, 0.05, 0.2, 0.3].map(|delay| pair(delay * 100.0, delay));
        let found = ratios(&ours, &theirs, |pair| pair.cpu_micros).unwrap();
        assert_eq!(found.rounds, 5);
        assert!((found.most - 0.9).abs() < 1e-9 && (found.median - 0.7).abs() < 1e-9);
    }
}
